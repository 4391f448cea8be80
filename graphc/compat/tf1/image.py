"""`tf.image`: resizing, flipping and colours of images."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.frontend.image")

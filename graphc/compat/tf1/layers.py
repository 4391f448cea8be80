"""`tf.layers`: layers and the functions that make and apply them."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.frontend.layers")

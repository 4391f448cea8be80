"""`tf.initializers`: initial values."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.frontend.initializers")

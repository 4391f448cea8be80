"""`tf.math`: what `tf` has of mathematics."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.frontend.math", "graphc.frontend.nn", "graphc")

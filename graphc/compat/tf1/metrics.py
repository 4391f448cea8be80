"""`tf.metrics`: numbers over many batches."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.frontend.metrics")

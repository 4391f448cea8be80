"""`tf.data`: input pipelines."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.data")

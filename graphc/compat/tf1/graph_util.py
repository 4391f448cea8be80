"""`tf.graph_util`: graphs cut down, and frozen."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.frontend.graphdef.freezing")

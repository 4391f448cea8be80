"""`tensorflow.python.framework.graph_util`."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.compat.tf1.graph_util")

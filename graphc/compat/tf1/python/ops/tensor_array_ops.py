"""`tensorflow.python.ops.tensor_array_ops`."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.frontend.tensor_array")

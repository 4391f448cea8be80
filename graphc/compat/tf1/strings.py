"""`tf.strings`: ops on tensors of strings."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.frontend.strings")

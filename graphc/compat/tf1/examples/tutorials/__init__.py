"""`tf.examples.tutorials`."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, submodules=("mnist",))

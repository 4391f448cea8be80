"""`tf.python.layers`: TensorFlow's insides, which some programs import."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, submodules=("utils",))

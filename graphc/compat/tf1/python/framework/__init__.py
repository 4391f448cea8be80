"""`tf.python.framework`: TensorFlow's insides, which some programs import."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(
    __name__, submodules=("dtypes", "graph_util", "importer", "ops", "tensor_shape", "tensor_util")
)

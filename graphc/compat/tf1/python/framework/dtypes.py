"""`tf.python.framework.dtypes`: TensorFlow's home of what is also `tf.*`."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.compat.tf1")

"""`tf.python.platform.flags`: TensorFlow's home of what is also `tf.flags`."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.compat.tf1.flags")

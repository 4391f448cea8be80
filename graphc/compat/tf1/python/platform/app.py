"""`tf.python.platform.app`: TensorFlow's home of what is also `tf.app`."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.compat.tf1.app")

"""`tf.python.platform.gfile`: TensorFlow's home of what is also `tf.gfile`."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.compat.tf1.gfile")

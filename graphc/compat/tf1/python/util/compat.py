"""`tf.python.util.compat`: TensorFlow's home of what is also `tf.compat`."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.compat.tf1.compat")

"""`tf.python.platform.tf_logging`: TensorFlow's home of what is also `tf.logging`."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.compat.tf1.logging")

"""`tf.python.ops.nn`: TensorFlow's home of what is also `tf.nn`."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.compat.tf1.nn")

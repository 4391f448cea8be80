"""`tf.python.util.nest`: TensorFlow's home of what is also `tf.contrib.framework.nest`."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.compat.tf1.contrib.framework.nest")

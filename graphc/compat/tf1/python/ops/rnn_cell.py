"""`tf.python.ops.rnn_cell`: TensorFlow's home of what is also `tf.nn.rnn_cell`."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.compat.tf1.nn.rnn_cell")

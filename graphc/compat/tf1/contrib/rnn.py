"""`tf.contrib.rnn`: the cells of recurrent networks, and how they are unrolled."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.compat.tf1.nn.rnn_cell", "graphc.compat.tf1.nn")

"""`tf.nn.rnn_cell`: the cells of recurrent networks."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.frontend.rnn_cells")

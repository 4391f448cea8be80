"""What users call to build graphs, in TensorFlow 1's names, argument orders and defaults.

Every function builds ops of the op table in the current graph and raises the user's mistakes
there and then. It knows `graphc.ir` only: neither passes nor sessions.
"""

from graphc.ir.ops import passing as _passing  # fills the op table

assert _passing

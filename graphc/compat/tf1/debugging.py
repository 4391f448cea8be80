"""`tf.debugging`: checks."""

from graphc.compat.symbols import delegate
from graphc.compat.tf1.legacy import assert_rank

__all__ = ["assert_rank"]
__getattr__ = delegate(__name__, "graphc.frontend.debugging", "graphc")

"""`tf.lookup`: tables of vocabularies."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.frontend.lookup")

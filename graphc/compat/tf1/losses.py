"""`tf.losses`: weighted mean losses."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.frontend.losses")

"""`tf.linalg`: linear algebra."""

from graphc.compat.symbols import delegate

__getattr__ = delegate(__name__, "graphc.frontend.linalg")

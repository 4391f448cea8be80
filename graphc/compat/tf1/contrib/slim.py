"""`tf.contrib.slim`: contrib's layers, scopes and losses under one name."""

from graphc.compat.symbols import delegate
from graphc.frontend import losses

__all__ = ["losses"]
_ROOT = "graphc.compat.tf1.contrib"
__getattr__ = delegate(
    __name__, f"{_ROOT}.layers", f"{_ROOT}.framework", f"{_ROOT}.training",
    "graphc.frontend.losses",
)  # fmt: skip

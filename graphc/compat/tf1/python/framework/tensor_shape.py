"""`tf.python.framework.tensor_shape`: shapes."""

from __future__ import annotations

from graphc.compat.symbols import delegate
from graphc.ir.types import Dimension, TensorShape


def scalar() -> TensorShape:
    """The shape of a scalar."""
    return TensorShape()


def vector(length: int | None) -> TensorShape:
    """The shape of a vector."""
    return TensorShape([length])


def matrix(rows: int | None, cols: int | None) -> TensorShape:
    """The shape of a matrix."""
    return TensorShape([rows, cols])


__all__ = ["Dimension", "TensorShape", "matrix", "scalar", "vector"]
__getattr__ = delegate(__name__)

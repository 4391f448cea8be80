"""Integers bit by bit, by TensorFlow's names (`tf.bitwise`)."""

from __future__ import annotations

from typing import Any

from graphc.frontend.arguments import same_dtype
from graphc.ir.graph import Value
from graphc.ir.ops import bits
from graphc.ir.table import Op


def _binary(op: Op, doc: str) -> Any:
    def call(x: Any, y: Any, name: str | None = None) -> Value:
        return op(*same_dtype([x, y]), name=name)

    call.__name__ = call.__qualname__ = op.name
    call.__doc__ = doc
    return call


bitwise_and = _binary(bits.bitwise_and, "x & y, bit by bit.")
bitwise_or = _binary(bits.bitwise_or, "x | y, bit by bit.")
bitwise_xor = _binary(bits.bitwise_xor, "x ^ y, bit by bit.")
left_shift = _binary(bits.left_shift, "x << y; 0 where y is no number of bits below x's width.")
right_shift = _binary(
    bits.right_shift, "x >> y, with the sign of x; 0 or -1 where y is no number below x's width."
)


def invert(x: Any, name: str | None = None) -> Value:
    """All bits turned: -x - 1."""
    return bits.invert(x, name=name)


__all__ = ["bitwise_and", "bitwise_or", "bitwise_xor", "invert", "left_shift", "right_shift"]

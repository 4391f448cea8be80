"""Operators whose op depends on the dtype: `/`, `**`, and the logical ones, bitwise on integers."""

from __future__ import annotations

from typing import Any, Final

from graphc.ir.dtypes import float32, float64
from graphc.ir.errors import AttributeValueError
from graphc.ir.graph import CONSTANT, Value, convert
from graphc.ir.ops import bits
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.table import OPS, Op


def _pair(x: Any, y: Any) -> tuple[Value, Value]:
    """Both as tensors; a number takes the other's dtype."""
    like = next((convert(v).dtype for v in (x, y) if _is_tensor(v)), None)
    return convert(x, like=like), convert(y, like=like)


def _is_tensor(x: Any) -> bool:
    return isinstance(x, Value) or hasattr(x, "__graphc_value__")


def true_divide(x: Any, y: Any, name: str | None = None) -> Value:
    """x / y; integers become float64 (8 and 16 bits: float32) first, as in TensorFlow."""
    a, b = _pair(x, y)
    if a.dtype.is_integer and b.dtype is a.dtype:
        wide = float32 if a.dtype.bits <= 16 else float64
        a, b = pw.cast(a, dtype=wide), pw.cast(b, dtype=wide)
    return pw.truediv(a, b, name=name)


def power(x: Any, y: Any, name: str | None = None) -> Value:
    """x to the power y. An integer x needs a constant exponent, not negative."""
    a, b = _pair(x, y)
    if not a.dtype.is_integer:
        return pw.pow_(a, b, name=name)
    if b.node.op is not CONSTANT or b.type.size != 1 or not b.dtype.is_integer:
        raise AttributeValueError(
            f"the exponent of the integers {a!r} must be one known integer, got {b!r}; "
            "cast() both to floats"
        )
    result = _integer_power(a, int(b.node.attrs["value"].array.item()))
    return result if name is None else OPS["identity"](result, name=name)


def _integer_power(x: Value, exponent: int) -> Value:
    """By repeated squaring (Knuth, "The Art of Computer Programming" 2, 4.6.3)."""
    if exponent < 0:
        raise AttributeValueError(f"an integer to the power {exponent} is no integer; cast() it")
    result: Value | None = None
    while exponent:
        if exponent & 1:
            result = x if result is None else result * x
        exponent >>= 1
        x = x * x if exponent else x
    return mv.ones_like(x) if result is None else result


# the op on bools, on integers
_LOGIC: Final[dict[str, tuple[Op, Op]]] = {
    "and": (pw.logical_and, bits.bitwise_and),
    "or": (pw.logical_or, bits.bitwise_or),
    "xor": (pw.logical_xor, bits.bitwise_xor),
    "not": (pw.logical_not, bits.invert),
}


def by_dtype(which: str, *inputs: Any) -> Value:
    """Python's operator of that name: `truediv`, `pow`, or `and`, `or`, `xor`, `not`.

    The last four are logical on bools and bitwise on integers.
    """
    if which == "truediv":
        return true_divide(*inputs)
    if which == "pow":
        return power(*inputs)
    values = _pair(*inputs) if len(inputs) == 2 else (convert(inputs[0]),)
    on_bools, on_integers = _LOGIC[which]
    return (on_integers if values[0].dtype.is_integer else on_bools)(*values)

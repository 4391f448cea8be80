"""Rules of logic, comparisons, selection and casts."""

from __future__ import annotations

from typing import Final

from graphc.ir.dtypes import DType, bool_
from graphc.ir.graph import Node, Value
from graphc.ir.ops import pointwise as pw
from graphc.ir.table import OPS
from graphc.passes.rules import (
    Outcome,
    Refused,
    Rule,
    is_constant,
    is_scalar,
    named,
    producer,
    scalar_of,
    shaped,
    splat,
)

# op -> (what it is with its operands exchanged, what its negation is)
_COMPARISONS: Final = {
    "equal": ("equal", "not_equal"),
    "not_equal": ("not_equal", "equal"),
    "less": ("greater", "greater_equal"),
    "less_equal": ("greater_equal", "greater"),
    "greater": ("less", "less_equal"),
    "greater_equal": ("less_equal", "less"),
}


def comparison_constant_right(node: Node) -> Outcome:
    """c < x -> x > c."""
    a, b = node.inputs
    if is_constant(a) and not is_constant(b):
        return OPS[_COMPARISONS[node.op.name][0]](b, a)
    return None


def comparison_of_same(node: Node) -> Outcome:
    """n == n -> True, n < n -> False of integers. Refused for floats: NaN is not NaN."""
    a, b = node.inputs
    if a is not b:
        return None
    if a.dtype.is_floating:
        return Refused("NaN equals nothing")
    holds = node.op.name in ("equal", "less_equal", "greater_equal")
    return splat(holds, node.types[0])


def not_of_comparison(node: Node) -> Outcome:
    """not (x == y) -> x != y; not (n < m) -> n >= m of integers.

    Refused for the order of floats: with NaN neither x < y nor x >= y.
    """
    inner = producer(node.inputs[0], *_COMPARISONS)
    if inner is None:
        return None
    exact = inner.op.name in ("equal", "not_equal")
    if inner.inputs[0].dtype.is_floating and not exact:
        return Refused("NaN has no order")
    return OPS[_COMPARISONS[inner.op.name][1]](*inner.inputs)


def comparison_of_cast_bool(node: Node) -> Outcome:
    """cast(b) != 0, cast(b) > 0, cast(b) == 1 -> b; cast(b) == 0 -> not b; b: truth values."""
    x, c = node.inputs
    inner = producer(x, "cast")
    if inner is None or not inner.inputs[0].dtype.is_bool:
        return None
    truth = inner.inputs[0]
    positive = {("not_equal", 0), ("greater", 0), ("equal", 1), ("greater_equal", 1)}
    negative = {("equal", 0), ("less_equal", 0), ("not_equal", 1), ("less", 1)}
    for number in (0, 1):
        if is_scalar(c, number):
            if (node.op.name, number) in positive:
                return shaped(truth, node)
            if (node.op.name, number) in negative:
                return shaped(pw.logical_not(truth), node)
    return None


def complement(node: Node) -> Outcome:
    """b and not b -> False; b or not b -> True; b xor not b -> True."""
    a, b = node.inputs
    opposite = (producer(b, "logical_not"), a), (producer(a, "logical_not"), b)
    if any(inner and inner.inputs[0] is other for inner, other in opposite):
        return splat(node.op.name != "logical_and", node.types[0])
    return None


def xor_true(node: Node) -> Outcome:
    """b xor True -> not b."""
    b, c = node.inputs
    scalar = scalar_of(c)
    return shaped(pw.logical_not(b), node) if scalar is not None and bool(scalar) else None


def where_constant(node: Node) -> Outcome:
    """where(True, x, y) -> x; where(False, x, y) -> y; where(c, x, x) -> x."""
    condition, x, y = node.inputs
    scalar = scalar_of(condition)
    if x is y:
        return shaped(x, node)
    return None if scalar is None else shaped(x if bool(scalar) else y, node)


def where_not(node: Node) -> Outcome:
    """where(not c, x, y) -> where(c, y, x)."""
    condition, x, y = node.inputs
    inner = producer(condition, "logical_not")
    return pw.where(inner.inputs[0], y, x) if inner else None


def where_of_where(node: Node) -> Outcome:
    """where(c, where(c, x, _), y), where(c, x, where(c, _, y)) -> where(c, x, y)."""
    condition, x, y = node.inputs
    first, second = producer(x, "where"), producer(y, "where")
    new_x = first.inputs[1] if first and first.inputs[0] is condition else x
    new_y = second.inputs[2] if second and second.inputs[0] is condition else y
    if new_x is x and new_y is y:
        return None
    return shaped(pw.where(condition, new_x, new_y), node)


def where_of_truths(node: Node) -> Outcome:
    """where(c, True, False) -> c; where(c, False, True) -> not c."""
    condition, x, y = node.inputs
    if not x.dtype.is_bool:
        return None
    if is_scalar(x, True) and is_scalar(y, False):
        return shaped(condition, node)
    if is_scalar(x, False) and is_scalar(y, True):
        return shaped(pw.logical_not(condition), node)
    return None


def cast_to_same(node: Node) -> Outcome:
    """cast(x) -> x, where x has the dtype already."""
    x = node.inputs[0]
    return x if x.dtype is node.types[0].dtype else None


_MANTISSA: Final = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}


def holds_all(wide: DType, narrow: DType) -> bool:
    """True when every value of `narrow` is a value of `wide`."""
    if narrow is wide or narrow is bool_:
        return True
    if wide is bool_:
        return False
    if narrow.is_floating:
        pair = (narrow.name, wide.name)
        return wide.is_floating and wide.bits > narrow.bits and pair != ("bfloat16", "float16")
    if wide.is_floating:
        digits = narrow.bits - (0 if narrow.is_unsigned else 1)
        return bool(digits <= _MANTISSA[wide.name])
    if wide.is_unsigned:
        return narrow.is_unsigned and wide.bits >= narrow.bits
    return wide.bits > narrow.bits or (not narrow.is_unsigned and wide.bits >= narrow.bits)


def cast_of_cast(node: Node) -> Outcome:
    """cast(cast(x, wide), t) -> cast(x, t), where `wide` holds every value of x exactly.

    Refused where the first cast rounds or cuts; and from floats to integers, where a value out
    of range gives what the machine gives, another one for each width.
    """
    inner = producer(node.inputs[0], "cast")
    if inner is None:
        return None
    x, target = inner.inputs[0], node.types[0].dtype
    if not holds_all(inner.types[0].dtype, x.dtype):
        return Refused("the first cast loses values")
    if x.dtype.is_floating and target.is_integer:
        return Refused("out of range")
    return x if x.dtype is target else pw.cast(x, dtype=target)


def cast_of_where(node: Node) -> Value | None:
    """cast(where(c, a, b), t) -> where(c, a', b') of constants a and b."""
    inner = producer(node.inputs[0], "where")
    if inner is None or not (is_constant(inner.inputs[1]) and is_constant(inner.inputs[2])):
        return None
    dtype = node.types[0].dtype
    condition, a, b = inner.inputs
    return pw.where(condition, pw.cast(a, dtype=dtype), pw.cast(b, dtype=dtype))


RULES: Final = (
    Rule(comparison_constant_right, named(*_COMPARISONS)),
    Rule(comparison_of_same, named(*_COMPARISONS)),
    Rule(comparison_of_cast_bool, named(*_COMPARISONS)),
    Rule(not_of_comparison, named("logical_not")),
    Rule(complement, named("logical_and", "logical_or", "logical_xor")),
    Rule(xor_true, named("logical_xor")),
    Rule(where_constant, named("where")),
    Rule(where_not, named("where")),
    Rule(where_of_where, named("where")),
    Rule(where_of_truths, named("where")),
    Rule(cast_to_same, named("cast")),
    Rule(cast_of_cast, named("cast")),
    Rule(cast_of_where, named("cast"), alone=True),
)

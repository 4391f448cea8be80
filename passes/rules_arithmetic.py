"""Rules of arithmetic."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from graphc.ir.dtypes import DType
from graphc.ir.graph import Node
from graphc.ir.ops import pointwise as pw
from graphc.passes.rules import (
    Outcome,
    Refused,
    Rule,
    fact,
    is_constant,
    is_nonnegative,
    is_scalar,
    named,
    producer,
    scalar_constant,
    scalar_of,
    shaped,
    splat,
)


def constants_right(node: Node) -> Outcome:
    """c + x -> x + c, for every commutative op: so that the rules need look on one side."""
    a, b = node.inputs
    if is_constant(a) and not is_constant(b):
        return node.op(b, a)
    return None


def _neutral(name: str, dtype: DType) -> Any:
    match name:
        case "add" | "subtract":
            return 0
        case "multiply" | "truediv" | "pow":
            return 1
        case "floordiv":
            return 1 if dtype.is_integer else None
        case "maximum":
            return -math.inf if dtype.is_floating else dtype.min
        case "minimum":
            return math.inf if dtype.is_floating else dtype.max
        case "logical_or" | "logical_xor":
            return False
        case "logical_and":
            return True
    return None


def neutral_element(node: Node) -> Outcome:
    """x + 0, x - 0, x * 1, x / 1, x ** 1, max(x, -inf), x and True, ... -> x."""
    x, c = node.inputs
    scalar = scalar_of(c)
    if scalar is None:
        return None
    neutral = _neutral(node.op.name, x.dtype)
    return shaped(x, node) if neutral is not None and scalar == neutral else None


def _absorbing(name: str, dtype: DType) -> Any:
    match name:
        case "multiply":
            return 0
        case "maximum":
            return math.inf if dtype.is_floating else dtype.max
        case "minimum":
            return -math.inf if dtype.is_floating else dtype.min
        case "logical_and":
            return False
        case "logical_or":
            return True
    return None


def absorbing_element(node: Node) -> Outcome:
    """n * 0 -> 0, max(n, greatest) -> greatest of integers; b and False -> False.

    Refused for floats: NaN * 0, inf * 0 and max(NaN, inf) are NaN.
    """
    x, c = node.inputs
    scalar = scalar_of(c)
    if scalar is None:
        return None
    absorbing = _absorbing(node.op.name, x.dtype)
    if absorbing is None or scalar != absorbing:
        return None
    return Refused("NaN and inf") if x.dtype.is_floating else shaped(c, node)


def remainder_of_one(node: Node) -> Outcome:
    """n mod 1 -> 0 of integers. Refused for floats, where it is the fraction."""
    x, c = node.inputs
    if not is_scalar(c, 1):
        return None
    return Refused("the fraction of a float") if x.dtype.is_floating else splat(0, node.types[0])


def reassociate(node: Node) -> Outcome:
    """(x + c) + d -> x + (c + d), for associative ops that do not round.

    Integers wrap around alike in both orders; max, min and logic never round. Refused for sums
    and products of floats.
    """
    inner, d = node.inputs
    if inner.node.op is not node.op or not is_constant(d):
        return None
    x, c = inner.node.inputs
    if not is_constant(c):
        return None
    if x.dtype.is_floating and "idempotent" not in node.op.facts:
        return Refused("floats round")
    return shaped(node.op(x, node.op(c, d)), node)


def same_operand(node: Node) -> Outcome:
    """max(x, x), x and x -> x; n - n -> 0 of integers; b xor b -> False.

    Refused for x - x and x / x of floats: inf - inf and 0 / 0 are NaN.
    """
    a, b = node.inputs
    if a is not b:
        return None
    if "idempotent" in node.op.facts:
        return a
    if node.op.name not in ("subtract", "truediv", "logical_xor"):
        return None
    return Refused("NaN and inf") if a.dtype.is_floating else splat(0, node.types[0])


def involution(node: Node) -> Outcome:
    """-(-x), not not b, ~~n -> x."""
    inner = node.inputs[0].node
    return inner.inputs[0] if inner.op is node.op else None


def idempotent(node: Node) -> Outcome:
    """abs(abs(x)) -> abs(x), for ops of one input whose second application changes nothing."""
    if len(node.inputs) != 1:
        return None
    return node.inputs[0] if node.inputs[0].node.op is node.op else None


def add_negative(node: Node) -> Outcome:
    """x + -y -> x - y; -x + y -> y - x."""
    a, b = node.inputs
    if producer(b, "negative"):
        return pw.subtract(a, b.node.inputs[0])
    return pw.subtract(b, a.node.inputs[0]) if producer(a, "negative") else None


def subtract_negative(node: Node) -> Outcome:
    """x - -y -> x + y; 0 - x -> -x."""
    a, b = node.inputs
    if producer(b, "negative"):
        return pw.add(a, b.node.inputs[0])
    if is_scalar(a, 0) and not b.dtype.is_unsigned and b.type == node.types[0]:
        return pw.negative(b)
    return None


def negative_of_difference(node: Node) -> Outcome:
    """-(x - y) -> y - x."""
    inner = producer(node.inputs[0], "subtract")
    return pw.subtract(*reversed(inner.inputs)) if inner else None


def multiply_negatives(node: Node) -> Outcome:
    """-x * -y -> x * y; -x * c -> x * -c; x * -1 -> -x; and so for /."""
    a, b = node.inputs
    if node.op.name == "multiply" and is_scalar(b, -1) and not a.dtype.is_unsigned:
        return shaped(pw.negative(a), node)
    if not producer(a, "negative"):
        return None
    x = a.node.inputs[0]
    if producer(b, "negative"):
        return node.op(x, b.node.inputs[0])
    scalar = scalar_of(b)
    if scalar is None:
        return None
    return shaped(node.op(x, scalar_constant(_opposite(scalar), b)), node)


def _opposite(scalar: np.generic) -> Any:
    with np.errstate(over="ignore"):
        return np.negative(np.asarray(scalar))


def even_function(node: Node) -> Outcome:
    """|-x| -> |x|; square(-x), square(|x|) -> square(x)."""
    inner = producer(node.inputs[0], "negative", "abs")
    if inner is None or inner.op is node.op:
        return None
    return node.op(inner.inputs[0])


def square_of_itself(node: Node) -> Outcome:
    """x * x -> square(x)."""
    a, b = node.inputs
    return pw.square(a) if a is b else None


def subtract_constant(node: Node) -> Outcome:
    """n - c -> n + -c of integers, where `reassociate` finds it. They wrap around alike."""
    x, c = node.inputs
    scalar = scalar_of(c)
    if scalar is None or not x.dtype.is_integer or scalar == 0:
        return None
    return shaped(pw.add(x, scalar_constant(_opposite(scalar), x)), node)


def power(node: Node) -> Outcome:
    """x ** 0 -> 1 (of NaN too); x ** 2 -> square(x); x ** -1 -> 1 / x; x ** 0.5 -> sqrt(x).

    The last is refused unless x cannot be negative: (-inf) ** 0.5 is inf, sqrt(-inf) is NaN.
    The others round at most as often as a library's power does.
    """
    x, c = node.inputs
    scalar = scalar_of(c)
    exponent = None if scalar is None else float(scalar)
    if exponent == 0:
        return splat(1, node.types[0])
    if exponent == 2:
        return shaped(pw.square(x), node)
    if exponent == -1:
        return shaped(pw.reciprocal(x), node)
    if exponent == 0.5:
        known = is_nonnegative(x)
        return shaped(pw.sqrt(x), node) if known else Refused("the base may be -inf")
    return None


def divide_by_power_of_two(node: Node) -> Outcome:
    """x / c -> x * (1 / c), where c is a power of two: then both are exact.

    Refused for other constants, whose reciprocal rounds, and where it would be subnormal.
    """
    x, c = node.inputs
    scalar = scalar_of(c)
    if scalar is None or not math.isfinite(float(scalar)) or float(scalar) == 0:
        return None
    mantissa, _ = math.frexp(float(scalar))
    if abs(mantissa) != 0.5:
        return Refused("the reciprocal rounds")
    least = float(np.finfo(np.float32).tiny if x.dtype.bits > 16 else 2.0**-14)
    inverse = 1.0 / float(scalar)
    if not least <= abs(inverse) <= 1 / least:
        return Refused("the reciprocal is subnormal")
    return shaped(pw.multiply(x, scalar_constant(inverse, x)), node)


def reciprocal_root(node: Node) -> Outcome:
    """1 / sqrt(x) -> rsqrt(x)."""
    if node.op.name == "reciprocal":
        root = producer(node.inputs[0], "sqrt")
    else:
        one, x = node.inputs
        root = producer(x, "sqrt") if is_scalar(one, 1) and x.type == node.types[0] else None
    return pw.rsqrt(root.inputs[0]) if root else None


def known_sign(node: Node) -> Outcome:
    """|x|, max(x, 0) -> x, where x cannot be negative: exp, square, a root, another maximum."""
    x, *rest = node.inputs
    if rest and not is_scalar(rest[0], 0):
        return None
    return shaped(x, node) if is_nonnegative(x) else None


_WITH_NEUTRAL: Final = (
    "add", "subtract", "multiply", "truediv", "pow", "floordiv", "maximum", "minimum",
    "logical_or", "logical_xor", "logical_and",
)  # fmt: skip
_WITH_ABSORBING: Final = ("multiply", "maximum", "minimum", "logical_and", "logical_or")


RULES: Final = (
    Rule(constants_right, fact("commutative")),
    Rule(neutral_element, named(*_WITH_NEUTRAL)),
    Rule(absorbing_element, named(*_WITH_ABSORBING)),
    Rule(remainder_of_one, named("floormod")),
    Rule(same_operand, named(*_WITH_NEUTRAL)),
    Rule(subtract_negative, named("subtract")),
    Rule(subtract_constant, named("subtract")),
    Rule(reassociate, fact("associative")),
    Rule(involution, fact("involution")),
    Rule(idempotent, fact("idempotent")),
    Rule(add_negative, named("add")),
    Rule(negative_of_difference, named("negative")),
    Rule(multiply_negatives, named("multiply", "truediv")),
    Rule(even_function, named("abs", "square")),
    Rule(square_of_itself, named("multiply")),
    Rule(power, named("pow")),
    Rule(divide_by_power_of_two, named("truediv")),
    Rule(reciprocal_root, named("reciprocal", "truediv")),
    Rule(known_sign, named("abs", "maximum")),
)

"""Scalar functions: most have their like in ONNX, the others are composed.

What only watches a value (print, assert, check_numerics) hands it on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from graphc.frontend.onnx.exporting import CODES, Exporting, exporter
from graphc.ir.dtypes import as_dtype
from graphc.ir.graph import Node

_SAME: Final[Mapping[str, str]] = {
    "add": "Add", "subtract": "Sub", "multiply": "Mul", "maximum": "Max", "minimum": "Min",
    "pow": "Pow", "negative": "Neg", "abs": "Abs", "exp": "Exp", "log": "Log", "sqrt": "Sqrt",
    "sin": "Sin", "cos": "Cos", "tan": "Tan", "tanh": "Tanh", "sigmoid": "Sigmoid", "erf": "Erf",
    "floor": "Floor", "ceil": "Ceil", "round": "Round", "sign": "Sign", "reciprocal": "Reciprocal",
    "relu": "Relu", "softplus": "Softplus", "softsign": "Softsign", "logical_and": "And",
    "logical_or": "Or", "logical_xor": "Xor", "logical_not": "Not", "equal": "Equal",
    "less": "Less", "less_equal": "LessOrEqual", "greater": "Greater", "where": "Where",
    "greater_equal": "GreaterOrEqual", "is_nan": "IsNaN", "is_inf": "IsInf", "identity": "Identity",
    "stop_gradient": "Identity", "truediv": "Div", "asin": "Asin", "acos": "Acos", "atan": "Atan",
    "bitwise_and": "BitwiseAnd", "bitwise_or": "BitwiseOr", "bitwise_xor": "BitwiseXor",
    "invert": "BitwiseNot", "check_numerics": "Identity",
    "sinh": "Sinh", "cosh": "Cosh", "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh",
}  # fmt: skip


@exporter(*_SAME)
def _same(e: Exporting, node: Node) -> None:
    e.define(node, _SAME[node.op.name], e.given(node))


@exporter("print", "assert")
def _print(e: Exporting, node: Node) -> None:
    e.define(node, "Identity", e.given(node)[:1])


@exporter("square")
def _square(e: Exporting, node: Node) -> None:
    x = e.name(node.inputs[0])
    e.define(node, "Mul", [x, x])


@exporter("rsqrt")
def _rsqrt(e: Exporting, node: Node) -> None:
    e.define(node, "Reciprocal", [e.emit("Sqrt", [e.name(node.inputs[0])])])


@exporter("not_equal")
def _not_equal(e: Exporting, node: Node) -> None:
    e.define(node, "Not", [e.emit("Equal", [e.name(v) for v in node.inputs])])


@exporter("cast")
def _cast(e: Exporting, node: Node) -> None:
    e.define(node, "Cast", [e.name(node.inputs[0])], to=CODES[as_dtype(node.attrs["dtype"]).name])


@exporter("expm1")
def _expm1(e: Exporting, node: Node) -> None:
    """tanh(x / 2) (exp(x) + 1): exact also near 0."""
    (x,) = e.given(node)
    like = node.inputs[0]
    half = e.emit("Tanh", [e.emit("Mul", [x, e.scalar(0.5, like)])])
    more = e.emit("Add", [e.emit("Exp", [x]), e.scalar(1, like)])
    e.define(node, "Mul", [half, more])


@exporter("log1p")
def _log1p(e: Exporting, node: Node) -> None:
    """log(u) - ((u - 1) - x) / u with u = 1 + x: the second term mends the rounding of u."""
    (x,) = e.given(node)
    one = e.scalar(1, node.inputs[0])
    u = e.emit("Add", [x, one])
    lost = e.emit("Sub", [e.emit("Sub", [u, one]), x])
    log = e.emit("Log", [u])
    mended = e.emit("Sub", [log, e.emit("Div", [lost, u])])
    plain = e.emit("Not", [_finite(e, e.emit("Div", [lost, u]), node)])
    e.define(node, "Where", [plain, log, mended])


def _finite(e: Exporting, x: str, node: Node) -> str:
    """x - x is 0; of inf and NaN it is NaN."""
    return e.emit("Equal", [e.emit("Sub", [x, x]), e.scalar(0, node.inputs[0])])


@exporter("is_finite")
def _is_finite(e: Exporting, node: Node) -> None:
    e.names[node.outputs[0]] = _finite(e, e.name(node.inputs[0]), node)


@exporter("erfc")
def _erfc(e: Exporting, node: Node) -> None:
    e.define(node, "Sub", [e.scalar(1, node.inputs[0]), e.emit("Erf", e.given(node))])


@exporter("floordiv")
def _floordiv(e: Exporting, node: Node) -> None:
    if node.types[0].dtype.is_floating:
        e.define(node, "Floor", [e.emit("Div", e.given(node))])
        return
    x, y, zero = _wide(e, node)
    quotient = _integer_quotient(e, node, x, y, zero)
    result = e.emit("Where", [e.emit("Equal", [y, zero]), zero, quotient])
    e.define(node, "Cast", [result], to=CODES[node.types[0].dtype.name])


def _wide(e: Exporting, node: Node) -> tuple[str, str, str]:
    """Both integers with 64 bits, and 0."""
    word = "uint64" if node.inputs[0].dtype.name == "uint64" else "int64"
    x, y = (e.cast(name, word) for name in e.given(node))
    return x, y, e.constant(np.zeros((), word))


def _integer_quotient(e: Exporting, node: Node, x: str, y: str, zero: str) -> str:
    """The floor of x / y, of which ONNX cuts off the fraction; anything where y is 0."""
    unsigned = node.inputs[0].dtype.name == "uint64"
    one = e.constant(np.ones((), "uint64" if unsigned else "int64"))
    safe = e.emit("Where", [e.emit("Equal", [y, zero]), one, y])
    quotient = e.emit("Div", [x, safe])
    if unsigned:
        return quotient
    rest = e.emit("Sub", [x, e.emit("Mul", [quotient, safe])])
    differ = e.emit("Xor", [e.emit("Less", [rest, zero]), e.emit("Less", [safe, zero])])
    lower = e.emit("And", [differ, e.emit("Not", [e.emit("Equal", [rest, zero])])])
    return e.emit("Where", [lower, e.emit("Sub", [quotient, one]), quotient])


@exporter("floormod")
def _floormod(e: Exporting, node: Node) -> None:
    """The rest has the sign of the divisor."""
    if node.types[0].dtype.is_integer:
        x, y, zero = _wide(e, node)
        quotient = _integer_quotient(e, node, x, y, zero)
        rest = e.emit("Sub", [x, e.emit("Mul", [quotient, y])])
        result = e.emit("Where", [e.emit("Equal", [y, zero]), zero, rest])
        e.define(node, "Cast", [result], to=CODES[node.types[0].dtype.name])
        return
    x, y = e.given(node)
    zero = e.scalar(0, node.inputs[0])
    rest = e.emit("Mod", [x, y], fmod=1)
    differ = e.emit("Xor", [e.emit("Less", [rest, zero]), e.emit("Less", [y, zero])])
    wrong = e.emit("And", [differ, e.emit("Not", [e.emit("Equal", [rest, zero])])])
    e.define(node, "Where", [wrong, e.emit("Add", [rest, y]), rest])


@exporter("left_shift", "right_shift")
def _shift(e: Exporting, node: Node) -> None:
    """By ONNX's shifts of unsigned numbers: negative ones are inverted before and after."""
    dtype = node.inputs[0].dtype
    x, y = e.given(node)
    zero = e.constant(np.int64(0))
    count = e.cast(y, "int64")
    below = e.emit("Less", [count, e.constant(np.int64(8 * dtype.itemsize))])
    inside = e.emit("And", [below, e.emit("GreaterOrEqual", [count, zero])])
    count = e.cast(e.emit("Where", [inside, count, zero]), "uint64")
    left = node.op.name == "left_shift"
    start, minus = e.cast(x, "int64"), ""
    if not left and dtype.name.startswith("int"):
        minus = e.emit("Less", [start, zero])
        start = e.emit("Where", [minus, e.emit("BitwiseNot", [start]), start])
    direction = "LEFT" if left else "RIGHT"
    moved = e.emit("BitShift", [e.cast(start, "uint64"), count], direction=direction)
    result = e.emit("Where", [inside, e.cast(moved, "int64"), zero])
    if minus:
        result = e.emit("Where", [minus, e.emit("BitwiseNot", [result]), result])
    e.define(node, "Cast", [result], to=CODES[dtype.name])


@exporter("atan2")
def _atan2(e: Exporting, node: Node) -> None:
    """The angle of (|x|, |y|), turned into its quadrant; -0 counts as negative."""
    y, x = e.given(node)
    like = node.inputs[0]
    zero, one = e.scalar(0, like), e.scalar(1, like)
    rise, run = e.emit("Abs", [y]), e.emit("Abs", [x])
    # 0 / 0 is 0 and inf / inf is 1 here
    equal = e.emit("Equal", [rise, run])
    same = e.emit("Where", [e.emit("Equal", [rise, zero]), zero, one])
    angle = e.emit("Atan", [e.emit("Where", [equal, same, e.emit("Div", [rise, run])])])
    left = e.emit("Sub", [e.scalar(np.pi, like), angle])
    turned = e.emit("Where", [_is_minus(e, x, zero, one), left, angle])
    e.define(node, "Where", [_is_minus(e, y, zero, one), e.emit("Neg", [turned]), turned])


def _is_minus(e: Exporting, x: str, zero: str, one: str) -> str:
    minus_zero = e.emit("Less", [e.emit("Div", [one, x]), zero])
    return e.emit("Or", [e.emit("Less", [x, zero]), minus_zero])

"""Functions of single elements: arithmetic, comparisons, logic, bits, activations."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from graphc.frontend import bitwise
from graphc.frontend import math as m
from graphc.frontend.onnx.reading import dtype_of
from graphc.frontend.onnx.registry import CONVERTERS, Call, converter
from graphc.ir.dtypes import as_dtype
from graphc.ir.graph import Value, convert
from graphc.ir.ops import movement as mv
from graphc.ir.ops import nn
from graphc.ir.ops import pointwise as pw
from graphc.ir.table import OPS

_UNARY: dict[str, Callable[[Any], Value]] = {
    "Abs": m.abs, "Neg": m.negative, "Exp": m.exp, "Log": m.log, "Sqrt": m.sqrt, "Sin": m.sin,
    "Cos": m.cos, "Tan": m.tan, "Asin": m.asin, "Acos": m.acos, "Atan": m.atan, "Sinh": m.sinh,
    "Cosh": m.cosh, "Tanh": m.tanh, "Asinh": m.asinh, "Acosh": m.acosh, "Atanh": m.atanh,
    "Sigmoid": m.sigmoid, "Erf": m.erf, "Floor": m.floor, "Ceil": m.ceil, "Round": m.round,
    "Sign": m.sign, "Reciprocal": m.reciprocal, "Not": m.logical_not, "IsNaN": m.is_nan,
    "Identity": OPS["identity"], "BitwiseNot": bitwise.invert, "Relu": nn.relu,
}  # fmt: skip
_BINARY: dict[str, Callable[[Any, Any], Value]] = {
    "Add": pw.add, "Sub": pw.subtract, "Mul": pw.multiply, "Equal": m.equal, "Greater": m.greater,
    "GreaterOrEqual": m.greater_equal, "Less": m.less, "LessOrEqual": m.less_equal,
    "And": m.logical_and, "Or": m.logical_or, "Xor": m.logical_xor,
    "BitwiseAnd": bitwise.bitwise_and, "BitwiseOr": bitwise.bitwise_or,
    "BitwiseXor": bitwise.bitwise_xor,
}  # fmt: skip
_FOLDED: dict[str, Callable[[Any, Any], Value]] = {
    "Max": pw.maximum, "Min": pw.minimum, "Sum": pw.add,
}  # fmt: skip


def _operands(call: Call) -> tuple[Value, Value]:
    """Both inputs; before opset 7, the second may lie along some dims of the first."""
    a, b = call.x(0), call.x(1)
    axis = call.attr("axis") if call.version < 7 and call.attr("broadcast", 0) else None
    if axis is not None:
        missing = call.rank(a) - axis % call.rank(a) - call.rank(b)
        b = OPS["expand_dims"](b, axis=tuple(range(call.rank(b), call.rank(b) + missing)))
    return a, b


def _enter_all() -> None:
    for name, one in _UNARY.items():
        CONVERTERS[name] = lambda call, one=one: one(call.x())  # type: ignore[misc]
    for name, two in _BINARY.items():
        CONVERTERS[name] = lambda call, two=two: two(*_operands(call))  # type: ignore[misc]
    for name, fold in _FOLDED.items():
        CONVERTERS[name] = lambda call, fold=fold: reduce(fold, call.given())  # type: ignore[misc]


_enter_all()


@converter("Mean")
def mean(call: Call) -> Value:
    """The mean of the inputs."""
    return reduce(pw.add, call.given()) / len(call.inputs)


@converter("Div")
def div(call: Call) -> Value:
    """Division; of integers towards 0."""
    a, b = _operands(call)
    return m.truncatediv(a, b) if a.dtype.is_integer else pw.truediv(a, b)


@converter("Mod")
def mod(call: Call) -> Value:
    """The rest with the divisor's sign, or with `fmod` the dividend's."""
    a, b = call.x(0), call.x(1)
    return m.truncatemod(a, b) if call.attr("fmod", 0) else m.floormod(a, b)


@converter("Pow")
def power(call: Call) -> Value:
    """x to the power y, in x's dtype; integers through floats."""
    x, y = _operands(call)
    if x.dtype.is_integer:
        wide = as_dtype("float64")
        return m.cast(m.pow(m.cast(x, wide), m.cast(y, wide)), x.dtype)
    return m.pow(x, m.cast(y, x.dtype))


@converter("IsInf")
def is_inf(call: Call) -> Value:
    """True for the infinities that are asked for."""
    x = call.x()
    result = m.is_inf(x)
    if not call.attr("detect_negative", 1):
        result = m.logical_and(result, x > 0)
    if not call.attr("detect_positive", 1):
        result = m.logical_and(result, x < 0)
    return result


@converter("BitShift")
def bit_shift(call: Call) -> Value:
    """Bits moved to the left or right."""
    x, y = call.x(0), call.x(1)
    return x << y if call.attr("direction") == "LEFT" else x >> y


@converter("Where")
def where(call: Call) -> Value:
    """The first where the condition holds, else the second."""
    return pw.where(call.x(0), call.x(1), call.x(2))


@converter("Cast", "CastLike")
def cast(call: Call) -> Value:
    """To another dtype; floats to integers towards 0."""
    x = call.x()
    dtype = call.x(1).dtype if call.op == "CastLike" else dtype_of(call.attr("to"), "Cast")
    if dtype.is_bool and not x.dtype.is_bool:
        return m.not_equal(x, mv.zeros_like(x))
    return m.cast(x, dtype)


@converter("Clip")
def clip(call: Call) -> Value:
    """Between the bounds that are given."""
    x = call.x()
    low, high = call.get(1), call.get(2)
    if call.version < 11:
        low, high = (convert(v, like=x.dtype) if v is not None else None
                     for v in (call.attr("min"), call.attr("max")))  # fmt: skip
    x = x if low is None else pw.maximum(x, low)
    return x if high is None else pw.minimum(x, high)


def _in(x: Value, number: float) -> Value:
    """A number in x's dtype, rounded to float32 as ONNX's attributes are."""
    return convert(np.asarray(np.float32(number)).astype(x.dtype.numpy))


@converter("Elu", "Selu", "Celu", "ThresholdedRelu", "LeakyRelu", "HardSigmoid", "Softplus",
           "Softsign", "Shrink", "Mish", "HardSwish")  # fmt: skip
def activation(call: Call) -> Value:
    """Activations by their formulas."""
    x = call.x()
    alpha = call.attr("alpha")
    zero = mv.zeros_like(x)
    match call.op:
        case "Elu":
            return pw.where(x < 0, _in(x, 1.0 if alpha is None else alpha) * m.expm1(x), x)
        case "Selu":
            a = 1.67326319217681884765625 if alpha is None else alpha
            gamma = call.attr("gamma", 1.05070102214813232421875)
            return _in(x, gamma) * pw.where(x < 0, _in(x, a) * m.expm1(x), x)
        case "Celu":
            a = _in(x, 1.0 if alpha is None else alpha)
            return pw.maximum(x, zero) + pw.minimum(zero, a * m.expm1(x / a))
        case "ThresholdedRelu":
            return pw.where(x > _in(x, 1.0 if alpha is None else alpha), x, zero)
        case "LeakyRelu":
            return pw.where(x < 0, x * _in(x, 0.01 if alpha is None else alpha), x)
        case "HardSigmoid":
            line = x * _in(x, 0.2 if alpha is None else alpha) + _in(x, call.attr("beta", 0.5))
            return pw.maximum(pw.minimum(line, mv.ones_like(x)), zero)
        case "HardSwish":
            return x * pw.maximum(pw.minimum(x / 6 + _in(x, 0.5), mv.ones_like(x)), zero)
        case "Softsign":
            return x / (m.abs(x) + 1)
        case "Shrink":
            bias, bound = (_in(x, call.attr(n, d)) for n, d in (("bias", 0.0), ("lambd", 0.5)))
            return pw.where(x < -bound, x + bias, pw.where(x > bound, x - bias, zero))
        case "Mish":
            return x * m.tanh(nn.softplus(x))
    return nn.softplus(x)


@converter("PRelu")
def prelu(call: Call) -> Value:
    """x, and slope * x below 0; before opset 7 with one slope per channel."""
    x, slope = call.x(0), call.x(1)
    if call.version < 7 and call.rank(slope) == 1:
        slope = OPS["expand_dims"](slope, axis=tuple(range(1, call.rank(x) - 1)))
    return pw.where(x < 0, x * slope, x)


@converter("Gelu")
def gelu(call: Call) -> Value:
    """x times the normal distribution function of x (Hendrycks and Gimpel 2016)."""
    x = call.x()
    if call.attr("approximate", "none") == "tanh":
        inner = _in(x, np.sqrt(2 / np.pi)) * (x + _in(x, 0.044715) * x * x * x)
        return x * (m.tanh(inner) + 1) / 2
    return x * (m.erf(x * _in(x, np.sqrt(0.5))) + 1) / 2


@converter("Swish")
def swish(call: Call) -> Value:
    """x * sigmoid(alpha * x)"""
    x = call.x()
    return x * m.sigmoid(x * _in(x, call.attr("alpha", 1.0)))


@converter("Dropout")
def dropout(call: Call) -> list[Value]:
    """In inference the input itself, and a mask of ones."""
    x = call.x()
    training = bool(call.static(2)) if call.get(2) is not None else False
    ratio = call.static(1) if call.get(1) is not None else np.float32(0.5)
    if training and ratio is not None and float(ratio) > 0:
        raise call.refused("dropout in training mode draws numbers that differ by implementation")
    return [OPS["identity"](x), mv.ones_like(m.cast(x, "bool"))][: call.output_count]


@converter("BitCast")
def bit_cast(call: Call) -> Value:
    """The same bits as another dtype."""
    return OPS["bitcast"](call.x(), dtype=dtype_of(call.attr("to"), "BitCast"))

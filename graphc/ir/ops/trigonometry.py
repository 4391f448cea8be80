"""Trigonometric and hyperbolic functions and their inverses, and the complement of erf."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from graphc.ir import elementwise as k
from graphc.ir.graph import Value
from graphc.ir.ops.pointwise import (
    cos,
    default_samples,
    exp,
    pointwise,
    reciprocal,
    rsqrt,
    sin,
    square,
)
from graphc.ir.table import Op, Sample


def _between(low: float, high: float, arity: int = 1) -> Callable[[], Iterable[Sample]]:
    """The usual samples, within the function's domain."""
    return lambda: default_samples(arity, "float", low, high)


def _far() -> Iterable[Sample]:
    """The usual samples, and values at which a careless formula overflows or loses all digits."""
    yield from default_samples(1, "float")
    far = np.array([-80, -30, -9, -1e-4, 1e-20, 1e-4, 9.5, 30, 85, 1e3, 1e30], np.float32)
    yield Sample((far,), differentiable=(), name="far")


tan: Op = pointwise(
    "tan", np.tan, "np.tan", "tan({0})", "gc_tan_{t}({0})",
    arity=1, grad=lambda g, y, x: g * (y * y + 1.0),
    samples=_between(-1.3, 1.3), flops=32, doc="sin(x) / cos(x)",
)  # fmt: skip
asin: Op = pointwise(
    "asin", np.arcsin, "np.arcsin", "asin({0})", "gc_asin_{t}({0})", arity=1,
    grad=lambda g, y, x: g * rsqrt(1.0 - square(x)), samples=_between(-0.95, 0.95), flops=36,
    doc="The angle in [-pi/2, pi/2] whose sine is x; NaN outside [-1, 1].",
)  # fmt: skip
acos: Op = pointwise(
    "acos", np.arccos, "np.arccos", "acos({0})", "gc_acos_{t}({0})", arity=1,
    grad=lambda g, y, x: -(g * rsqrt(1.0 - square(x))), samples=_between(-0.95, 0.95), flops=36,
    doc="The angle in [0, pi] whose cosine is x; NaN outside [-1, 1].",
)  # fmt: skip
atan: Op = pointwise(
    "atan", np.arctan, "np.arctan", "atan({0})", "gc_atan_{t}({0})", arity=1,
    grad=lambda g, y, x: g * reciprocal(square(x) + 1.0), samples=_far, flops=28,
    doc="The angle in (-pi/2, pi/2) whose tangent is x.",
)  # fmt: skip


def _atan2_grad(g: Value, _: Value, y: Value, x: Value) -> tuple[Value, Value]:
    share = g * reciprocal(square(x) + square(y))
    return x * share, -(y * share)


def _atan2_samples() -> Iterable[Sample]:
    yield from default_samples(2, "float")
    ends = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf], np.float32)
    yield Sample((ends[:, None], ends), differentiable=(), name="quadrants")


atan2: Op = pointwise(
    "atan2", np.arctan2, "np.arctan2", "atan2({0}, {1})", "gc_atan2_{t}({0}, {1})",
    arity=2, grad=_atan2_grad,
    samples=_atan2_samples, flops=36,
    doc="atan2(y, x): the angle in [-pi, pi] of the point (x, y).",
)  # fmt: skip
sinh: Op = pointwise(
    "sinh", np.sinh, "np.sinh", "sinh({0})", "gc_sinh_{t}({0})",
    arity=1, grad=lambda g, y, x: g * cosh(x),
    samples=_far, flops=24, doc="(exp(x) - exp(-x)) / 2",
)  # fmt: skip
cosh: Op = pointwise(
    "cosh", np.cosh, "np.cosh", "cosh({0})", "gc_cosh_{t}({0})",
    arity=1, grad=lambda g, y, x: g * sinh(x),
    samples=_far, flops=24, doc="(exp(x) + exp(-x)) / 2",
)  # fmt: skip
asinh: Op = pointwise(
    "asinh", np.arcsinh, "np.arcsinh", "asinh({0})", "gc_asinh_{t}({0})", arity=1,
    grad=lambda g, y, x: g * rsqrt(square(x) + 1.0), samples=_far, flops=28,
    doc="The number whose sinh is x.",
)  # fmt: skip
acosh: Op = pointwise(
    "acosh", np.arccosh, "np.arccosh", "acosh({0})", "gc_acosh_{t}({0})", arity=1,
    grad=lambda g, y, x: g * rsqrt(x - 1.0) * rsqrt(x + 1.0), samples=_between(1.05, 4.0),
    flops=28, doc="The number from 0 on whose cosh is x; NaN below 1.",
)  # fmt: skip
atanh: Op = pointwise(
    "atanh", np.arctanh, "np.arctanh", "atanh({0})", "gc_atanh_{t}({0})", arity=1,
    grad=lambda g, y, x: g * reciprocal(1.0 - square(x)), samples=_between(-0.9, 0.9), flops=24,
    doc="The number whose tanh is x; NaN outside [-1, 1].",
)  # fmt: skip


def _erfc_samples() -> Iterable[Sample]:
    yield from default_samples(1, "float")
    far = np.array([-6, -3, 0.99, 1.01, 2.5, 3.7, 5.5, 7.9, 8.1, 9.0, 11.0, 30.0], np.float32)
    yield Sample((far,), differentiable=(), name="far")


erfc: Op = pointwise(
    "erfc", k.erfc, "k.erfc", "erfc({0})", "gc_erfc_{t}({0})", arity=1,
    grad=lambda g, y, x: g * (-2 / math.sqrt(math.pi)) * exp(-square(x)), samples=_erfc_samples,
    flops=48, doc="1 - erf(x), exact also where erf(x) is nearly 1.",
)  # fmt: skip

__all__ = [
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cos", "cosh", "erfc", "sin",
    "sinh", "tan",
]  # fmt: skip

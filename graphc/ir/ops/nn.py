"""Activations, softmax and dropout: all of them composites, which the general machinery fuses.

Normalization is in `norm`, losses are in `losses`, images in `conv` and `pool`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from graphc.ir.errors import ShapeError
from graphc.ir.graph import Node, Value, convert
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import reduce as red
from graphc.ir.ops.random import random_unit
from graphc.ir.table import REQUIRED, Attrs, Kind, NoGradient, Op, Sample, Types, register
from graphc.ir.types import TensorType, broadcast_shapes, normalize_axis


def composite(
    name: str,
    decompose: Callable[..., Any],
    *,
    arity: int = 1,
    attrs: Attrs | None = None,
    grad: Callable[..., Any] | NoGradient,
    type_rule: Any = None,
    samples: Callable[[], Iterable[Sample]] | None = None,
    doc: str = "",
) -> Op:
    """Enter a composite: `decompose(*inputs, **attrs)`; `grad(g, y, *inputs, **attrs)`.

    Without a type rule of its own it takes floats of one dtype and gives what the first is.
    """

    def default_type(types: Types, _: Attrs) -> TensorType:
        pw.check_category(types, "float")
        pw.check_same_dtype(types)
        return types[0]

    def grad_rule(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
        assert not isinstance(grad, NoGradient)
        result = grad(grads[0], node.outputs[0], *node.inputs, **node.attrs)
        return result if isinstance(result, tuple) else (result,)

    return register(
        Op(
            name,
            Kind.COMPOSITE,
            type_rule or default_type,
            attrs=attrs or {},
            grad=grad if isinstance(grad, NoGradient) else grad_rule,
            decompose=lambda node: decompose(*node.inputs, **node.attrs),
            samples=samples or (lambda: pw.default_samples(arity, "float")),
            doc=doc,
        )
    )


def zero_like(x: Value) -> Value:
    """The scalar 0 in x's dtype."""
    return convert(0, like=x.dtype)


# -- activations


def _activation_samples() -> Iterable[Sample]:
    """The usual ones, and values far out, where a careless formula overflows."""
    yield from pw.default_samples(1, "float")
    far = np.array([-1e4, -200.0, -30.0, -6.5, 7.25, 40.0, 200.0, 1e4], np.float32)
    yield Sample((far,), differentiable=(), name="far")


relu = composite(
    "relu",
    lambda x: pw.maximum(x, zero_like(x)),
    grad=lambda g, y, x: pw.where(y > 0, g, zero_like(g)),
    doc="max(x, 0)",
)
relu6 = composite(
    "relu6",
    lambda x: pw.minimum(pw.maximum(x, zero_like(x)), convert(6, like=x.dtype)),
    grad=lambda g, y, x: pw.where(pw.logical_and(y > 0, y < 6), g, zero_like(g)),
    samples=_activation_samples,
    doc="min(max(x, 0), 6)",
)
leaky_relu = composite(
    "leaky_relu",
    lambda x, alpha: pw.where(x > 0, x, x * alpha),
    attrs={"alpha": 0.2},
    grad=lambda g, y, x, alpha: pw.where(x > 0, g, g * alpha),
    samples=_activation_samples,
    doc="x where it is positive, else alpha * x",
)
elu = composite(
    "elu",
    lambda x: pw.where(x > 0, x, pw.expm1(x)),
    grad=lambda g, y, x: pw.where(x > 0, g, g * (y + 1.0)),
    samples=_activation_samples,
    doc="x where it is positive, else exp(x) - 1 (Clevert, Unterthiner, Hochreiter, 2016)",
)

# Klambauer et al., "Self-Normalizing Neural Networks", 2017: the fixed point for mean 0, variance 1
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

selu = composite(
    "selu",
    lambda x: pw.where(x > 0, x, pw.expm1(x) * _SELU_ALPHA) * _SELU_SCALE,
    grad=lambda g, y, x: pw.where(x > 0, g * _SELU_SCALE, g * (y + _SELU_SCALE * _SELU_ALPHA)),
    samples=_activation_samples,
    doc="scale * elu(x, alpha) with the scale and alpha that keep mean 0 and variance 1",
)


def _softplus(x: Value) -> Value:
    return pw.maximum(x, zero_like(x)) + pw.log1p(pw.exp(-pw.abs_(x)))


softplus = composite(
    "softplus",
    _softplus,
    grad=lambda g, y, x: g * pw.sigmoid(x),
    samples=_activation_samples,
    doc="log(1 + exp(x)), without overflow",
)
log_sigmoid = composite(
    "log_sigmoid",
    lambda x: pw.minimum(x, zero_like(x)) - pw.log1p(pw.exp(-pw.abs_(x))),
    grad=lambda g, y, x: g * pw.sigmoid(-x),
    samples=_activation_samples,
    doc="log(sigmoid(x)), without overflow",
)
softsign = composite(
    "softsign",
    lambda x: x / (pw.abs_(x) + 1.0),
    grad=lambda g, y, x: g / pw.square(pw.abs_(x) + 1.0),
    samples=_activation_samples,
    doc="x / (1 + |x|)",
)


def _silu_grad(g: Value, y: Value, x: Value) -> Value:
    s = pw.sigmoid(x)
    return g * s * (x * (1.0 - s) + 1.0)


silu = composite(
    "silu",
    lambda x: x * pw.sigmoid(x),
    grad=_silu_grad,
    samples=_activation_samples,
    doc="x * sigmoid(x), also called swish (Ramachandran, Zoph, Le, 2017)",
)

# Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016, section 2
_GELU_TANH = math.sqrt(2 / math.pi)
_GELU_CUBIC = 0.044715


def _gelu(x: Value, approximate: bool) -> Value:
    return x * (_gaussian_tanh(x) if approximate else _gaussian(x))


def _gaussian(x: Value) -> Value:
    """The normal distribution's integral up to x."""
    return (pw.erf(x * math.sqrt(0.5)) + 1.0) * 0.5


def _gaussian_tanh(x: Value) -> Value:
    return (pw.tanh((x + x * x * x * _GELU_CUBIC) * _GELU_TANH) + 1.0) * 0.5


def _gelu_grad(g: Value, y: Value, x: Value, approximate: bool) -> Value:
    if not approximate:
        density = pw.exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
        return g * (_gaussian(x) + x * density)
    half = _gaussian_tanh(x)  # (1 + t) / 2; so 1 - t^2 = 4 half (1 - half)
    slope = (x * x * (3 * _GELU_CUBIC) + 1.0) * (2 * _GELU_TANH)
    return g * half * (x * slope * (1.0 - half) + 1.0)


def _gelu_samples() -> Iterable[Sample]:
    for sample in pw.default_samples(1, "float"):
        yield sample
        yield Sample(sample.inputs, {"approximate": True}, sample.differentiable, sample.name)


gelu = composite(
    "gelu",
    _gelu,
    attrs={"approximate": False},
    grad=_gelu_grad,
    samples=_gelu_samples,
    doc="x times the normal distribution's integral up to x, exact or by tanh",
)

# -- softmax


def _axis_type(types: Types, attrs: Attrs) -> TensorType:
    pw.check_category(types, "float")
    shape = types[0].shape
    if shape == ():
        raise ShapeError("softmax needs a dim of classes, got a scalar")
    if shape is not None:
        normalize_axis(attrs["axis"], len(shape))
    return types[0]


def _softmax(x: Value, axis: int) -> Value:
    shifted = pw.exp(x - red.reduce_max(x, axis=(axis,), keepdims=True))
    return shifted / red.reduce_sum(shifted, axis=(axis,), keepdims=True)


def _softmax_grad(g: Value, y: Value, x: Value, axis: int) -> Value:
    return y * (g - red.reduce_sum(g * y, axis=(axis,), keepdims=True))


def _row_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(17)
    for shape in ((3, 5), (1,), (2, 3, 7), (4, 0), (0, 3)):
        yield Sample((rng.standard_normal(shape).astype(np.float32) * 3,), {"axis": -1})
    yield Sample((rng.standard_normal((3, 4, 2)).astype(np.float32),), {"axis": 1})
    special = np.array([[1, np.nan], [1e4, -1e4], [-np.inf, 2], [np.inf, 0]], np.float32)
    yield Sample((special,), {}, (), "special")


softmax = composite(
    "softmax", _softmax, attrs={"axis": -1}, grad=_softmax_grad, type_rule=_axis_type,
    samples=_row_samples, doc="exp(x - max) / sum(exp(x - max)) along an axis",
)  # fmt: skip


def _log_softmax(x: Value, axis: int) -> Value:
    shifted = x - red.reduce_max(x, axis=(axis,), keepdims=True)
    return shifted - pw.log(red.reduce_sum(pw.exp(shifted), axis=(axis,), keepdims=True))


def _log_softmax_grad(g: Value, y: Value, x: Value, axis: int) -> Value:
    return g - pw.exp(y) * red.reduce_sum(g, axis=(axis,), keepdims=True)


log_softmax = composite(
    "log_softmax", _log_softmax, attrs={"axis": -1}, grad=_log_softmax_grad, type_rule=_axis_type,
    samples=_row_samples, doc="log(softmax(x)) along an axis, without overflow",
)  # fmt: skip

# -- dropout


def _dropout_type(types: Types, attrs: Attrs) -> TensorType:
    pw.check_category(types, "float")
    pw.check_same_dtype(types)
    x, rate = types
    if rate.shape not in ((), None):
        raise ShapeError(f"dropout's rate is a scalar, got {rate}")
    noise = attrs["noise_shape"]
    if noise is not None and x.shape is not None:
        if len(noise) != len(x.shape):
            raise ShapeError(f"noise_shape {noise} needs one size per dim of {x}")
        broadcast_shapes([x.shape, tuple("?" if d is None else d for d in noise)])
    return x


def _dropout(x: Value, rate: Value, key: int, noise_shape: tuple[int | None, ...] | None) -> Value:
    sizes = x.type.static_shape
    given = noise_shape or (None,) * len(sizes)
    noise = tuple(n if d is None else d for n, d in zip(sizes, given, strict=True))
    wide = x.dtype.compute  # 16 bits would round the greatest numbers up to 1
    unit = random_unit(shape=noise, dtype=wide, key=key)
    kept = pw.greater_equal(unit, pw.cast(rate, dtype=wide))
    return pw.where(kept, x * (1.0 / (1.0 - rate)), zero_like(x))


def _dropout_samples() -> Iterable[Sample]:
    x = np.random.default_rng(31).standard_normal((5, 7)).astype(np.float32)
    for rate in (0.0, 0.4, 1.0):
        yield Sample((x, np.asarray(rate, np.float32)), {"key": 5}, (0,))
    half = np.asarray(0.5, np.float32)
    yield Sample((x, half), {"key": 5, "noise_shape": (None, 1)}, (0,))
    yield Sample((x[:0], half), {"key": 7}, (0,))


dropout: Op = composite(
    "dropout",
    _dropout,
    arity=2,
    attrs={"key": REQUIRED, "noise_shape": None},
    grad=lambda g, y, x, rate, **attrs: (dropout(g, rate, **attrs), None),
    type_rule=_dropout_type,
    samples=_dropout_samples,
    doc="""0 with probability `rate` (a scalar), else x / (1 - rate), so that the mean stays.

    `key` names the random bits (graphc.ir.ops.random.random_key); the gradient draws the same
    ones again. `noise_shape`: sizes of the mask, 1 where a dim shares it, None where x's.""",
)

"""Functions of neural networks, by TensorFlow's names: activations, losses, normalization."""

from __future__ import annotations

import math
from typing import Any, Final

from graphc.frontend.arguments import (
    as_value,
    axes_argument,
    constant_value,
    either,
    same_dtype,
    static_int,
)
from graphc.frontend.array import gather, one_hot, shape
from graphc.frontend.convolution import (
    atrous_conv2d,
    avg_pool,
    conv1d,
    conv2d,
    conv2d_transpose,
    depthwise_conv2d,
    max_pool,
    separable_conv2d,
)
from graphc.frontend.framework import name_scope
from graphc.frontend.linalg import matmul
from graphc.frontend.math import cast, log_sigmoid, sigmoid, tanh
from graphc.frontend.random import random_uniform
from graphc.ir.dtypes import bool_, float32
from graphc.ir.errors import AttributeValueError, DTypeError, ShapeError
from graphc.ir.graph import Value, convert
from graphc.ir.ops import movement as mv
from graphc.ir.ops import nn as ops
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import reduce as red
from graphc.ir.table import OPS, get_op
from graphc.ir.types import merge_shapes, normalize_axis

# -- activations


def relu(features: Any, name: str | None = None) -> Value:
    """max(x, 0)"""
    return ops.relu(features, name=name or "Relu")


def relu6(features: Any, name: str | None = None) -> Value:
    """min(max(x, 0), 6)"""
    with name_scope(name, "Relu6") as scope:
        return pw.minimum(ops.relu(features), 6.0, name=scope)


def leaky_relu(features: Any, alpha: Any = 0.2, name: str | None = None) -> Value:
    """x where it is positive, else alpha * x."""
    with name_scope(name, "LeakyRelu") as scope:
        x = as_value(features)
        return pw.where(x > 0, x, x * convert(alpha, like=x.dtype), name=scope)


def _expm1_below(x: Value) -> Value:
    # the exponential only of what is below 0: where() alone would give inf * 0 in the gradient
    return pw.expm1(pw.minimum(x, convert(0, like=x.dtype)))


def elu(features: Any, name: str | None = None) -> Value:
    """x where it is positive, else exp(x) - 1 (Clevert et al., 2016)."""
    with name_scope(name, "Elu") as scope:
        x = as_value(features)
        return pw.where(x > 0, x, _expm1_below(x), name=scope)


_SELU_ALPHA: Final = 1.6732632423543772
_SELU_SCALE: Final = 1.0507009873554805


def selu(features: Any, name: str | None = None) -> Value:
    """The scaled ELU that keeps mean 0 and variance 1 (Klambauer et al., 2017)."""
    with name_scope(name, "Selu") as scope:
        x = as_value(features)
        low = _expm1_below(x) * (_SELU_SCALE * _SELU_ALPHA)
        return pw.where(x > 0, x * _SELU_SCALE, low, name=scope)


def softplus(features: Any, name: str | None = None) -> Value:
    """log(1 + exp(x)), without overflow."""
    with name_scope(name, "Softplus") as scope:
        x = as_value(features)
        tail = pw.log1p(pw.exp(-pw.abs_(x)))
        return pw.add(pw.maximum(x, convert(0, like=x.dtype)), tail, name=scope)


def softsign(features: Any, name: str | None = None) -> Value:
    """x / (1 + |x|)"""
    with name_scope(name, "Softsign") as scope:
        x = as_value(features)
        return pw.truediv(x, pw.abs_(x) + 1.0, name=scope)


def swish(features: Any, name: str | None = None) -> Value:
    """x * sigmoid(x) (Ramachandran et al., 2017)"""
    with name_scope(name, "swish") as scope:
        x = as_value(features)
        return pw.multiply(x, pw.sigmoid(x), name=scope)


silu = swish


def gelu(features: Any, approximate: bool = False, name: str | None = None) -> Value:
    """x times the normal distribution's cumulative function at x (Hendrycks & Gimpel, 2016)."""
    with name_scope(name, "Gelu") as scope:
        x = as_value(features)
        if approximate:
            inner = (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)
            return pw.multiply(x * 0.5, pw.tanh(inner) + 1.0, name=scope)
        return pw.multiply(x * 0.5, pw.erf(x * math.sqrt(0.5)) + 1.0, name=scope)


def crelu(features: Any, name: str | None = None, axis: int = -1) -> Value:
    """relu(x) and relu(-x), one after the other along an axis (Shang et al., 2016)."""
    with name_scope(name, "CRelu") as scope:
        x = as_value(features)
        return ops.relu(mv.concat(x, -x, axis=axis), name=scope)


def softmax(logits: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Value:
    """exp(x) / sum(exp(x)) along an axis, the last by default."""
    return ops.softmax(logits, axis=_axis(axis, dim), name=name or "Softmax")


def log_softmax(logits: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Value:
    """log(softmax(x)) along an axis, the last by default."""
    return ops.log_softmax(logits, axis=_axis(axis, dim), name=name or "LogSoftmax")


def _axis(axis: Any, dim: Any) -> int:
    return static_int(either("axis", axis, "dim", dim, -1), "axis")


# -- losses


def softmax_cross_entropy_with_logits(
    labels: Any = None,
    logits: Any = None,
    dim: int = -1,
    name: str | None = None,
    axis: int | None = None,
) -> Value:
    """-sum(labels * log_softmax(logits)) along an axis; no gradient flows into the labels."""
    constant = OPS["stop_gradient"](_given("labels", labels))
    return softmax_cross_entropy_with_logits_v2(constant, logits, axis, name, dim)


def softmax_cross_entropy_with_logits_v2(
    labels: Any = None,
    logits: Any = None,
    axis: int | None = None,
    name: str | None = None,
    dim: int | None = None,
) -> Value:
    """-sum(labels * log_softmax(logits)) along an axis. labels, logits: [..., classes]."""
    y, x = same_dtype([_given("labels", labels), _given("logits", logits)])
    at = -1 if axis is None and dim is None else axis if axis is not None else dim
    rank = x.type.rank
    if at not in (-1, None if rank is None else rank - 1):
        y, x = _axis_last(y, at), _axis_last(x, at)
    return OPS["softmax_cross_entropy"](y, x, name=name or "softmax_cross_entropy_with_logits")


def _given(what: str, x: Any) -> Any:
    if x is None:
        raise AttributeValueError(f"a cross entropy needs labels and logits; {what} is missing")
    return x


def _axis_last(x: Value, axis: Any) -> Value:
    if x.type.rank is None:
        raise ShapeError(f"an axis other than the last needs a known rank, got {x!r}")
    at = normalize_axis(axis, x.type.rank)
    order = [i for i in range(x.type.rank) if i != at]
    return mv.transpose(x, perm=(*order, at))


def sparse_softmax_cross_entropy_with_logits(
    labels: Any = None, logits: Any = None, name: str | None = None
) -> Value:
    """-log(softmax(logits))[label]. labels: [...] integers, logits: [..., classes] -> [...]."""
    y, x = as_value(_given("labels", labels)), as_value(_given("logits", logits))
    if not y.dtype.is_integer:
        raise DTypeError(
            f"sparse labels are integers, got {y!r}; for probabilities use "
            "softmax_cross_entropy_with_logits"
        )
    dims = x.type.shape
    if not dims or not isinstance(dims[-1], int):
        raise ShapeError(f"the number of classes of {x!r} must be known")
    merge_shapes(y.type.shape, dims[:-1], "labels need the shape of logits without classes")
    with name_scope(name, "SparseSoftmaxCrossEntropyWithLogits") as scope:
        return OPS["softmax_cross_entropy"](one_hot(y, dims[-1], dtype=x.dtype), x, name=scope)


def sigmoid_cross_entropy_with_logits(
    labels: Any = None, logits: Any = None, name: str | None = None
) -> Value:
    """-y log(sigmoid(x)) - (1 - y) log(1 - sigmoid(x)) = max(x, 0) - x y + log(1 + exp(-|x|))."""
    y, x = same_dtype([_given("labels", labels), _given("logits", logits)])
    merge_shapes(y.type.shape, x.type.shape, "labels and logits need one shape")
    with name_scope(name, "logistic_loss") as scope:
        positive = pw.maximum(x, convert(0, like=x.dtype))
        tail = pw.log1p(pw.exp(-pw.abs_(x)))
        return pw.add(positive - x * y, tail, name=scope)


def weighted_cross_entropy_with_logits(
    labels: Any = None,
    logits: Any = None,
    pos_weight: Any = 1.0,
    name: str | None = None,
    targets: Any = None,
) -> Value:
    """sigmoid_cross_entropy_with_logits with positive labels weighted by `pos_weight`."""
    given = either("labels", labels, "targets", targets)
    y, x = same_dtype([_given("labels", given), _given("logits", logits)])
    with name_scope(name, "logistic_loss") as scope:
        weight = (convert(pos_weight, like=x.dtype) - 1.0) * y + 1.0
        tail = pw.log1p(pw.exp(-pw.abs_(x))) + pw.maximum(-x, convert(0, like=x.dtype))
        return pw.add((1.0 - y) * x, weight * tail, name=scope)


def l2_loss(t: Any, name: str | None = None) -> Value:
    """Half the sum of the squares."""
    with name_scope(name, "L2Loss") as scope:
        return pw.multiply(red.reduce_sum(pw.square(t)), 0.5, name=scope)


def l2_normalize(
    x: Any, axis: Any = None, epsilon: float = 1e-12, name: str | None = None, dim: Any = None
) -> Value:
    """x / sqrt(max(sum(x^2), epsilon)) along the axes."""
    axes = axes_argument(either("axis", axis, "dim", dim))
    with name_scope(name, "l2_normalize") as scope:
        value = as_value(x)
        squares = red.reduce_sum(pw.square(value), axis=axes, keepdims=True)
        floor = convert(epsilon, like=value.dtype)
        return pw.multiply(value, pw.rsqrt(pw.maximum(squares, floor)), name=scope)


def zero_fraction(value: Any, name: str | None = None) -> Value:
    """The share of elements that are 0, as float32."""
    with name_scope(name, "zero_fraction") as scope:
        x = as_value(value)
        zero = cast(pw.equal(x, convert(0, like=x.dtype)), float32)
        return red.reduce_mean(zero, name=scope)


# -- layers' arithmetic


def bias_add(
    value: Any, bias: Any, data_format: str | None = None, name: str | None = None
) -> Value:
    """value + bias along the channels: the last dim, or the second of "NCHW" ("NC...")."""
    x, b = same_dtype([value, bias])
    if b.type.rank not in (1, None):
        raise ShapeError(f"a bias is a vector, got {b!r}")
    if not (data_format or "NHWC").startswith("NC"):
        if x.type.shape and b.type.shape:
            merge_shapes(x.type.shape[-1:], b.type.shape, "bias_add: channels")
        return pw.add(x, b, name=name or "BiasAdd")
    if x.type.shape is None or len(x.type.shape) < 2:
        raise ShapeError(f"bias_add of {data_format} needs a tensor of known rank, got {x!r}")
    merge_shapes(x.type.shape[1:2], b.type.shape, "bias_add: channels")
    with name_scope(name, "BiasAdd") as scope:
        wide = mv.expand_dims(b, axis=tuple(range(1, len(x.type.shape) - 1)))
        return pw.add(x, wide, name=scope)


def xw_plus_b(x: Any, weights: Any, biases: Any, name: str | None = None) -> Value:
    """x @ weights + biases"""
    with name_scope(name, "xw_plus_b") as scope:
        return pw.add(matmul(x, weights), biases, name=scope)


def relu_layer(x: Any, weights: Any, biases: Any, name: str | None = None) -> Value:
    """relu(x @ weights + biases)"""
    with name_scope(name, "relu_layer") as scope:
        return ops.relu(xw_plus_b(x, weights, biases), name=scope)


def dropout(
    x: Any,
    keep_prob: Any = None,
    noise_shape: Any = None,
    seed: int | None = None,
    name: str | None = None,
    rate: Any = None,
) -> Value:
    """x / keep_prob with probability keep_prob, else 0; rate = 1 - keep_prob.

    keep_prob may be a tensor. `noise_shape` (broadcast to x) says what is dropped together.
    (Srivastava et al., 2014.)
    """
    if (keep_prob is None) == (rate is None):
        raise AttributeValueError("dropout needs keep_prob or rate, and not both")
    value = as_value(x)
    if not value.dtype.is_floating:
        raise DTypeError(f"dropout scales floats, got {value!r}")
    with name_scope(name, "dropout") as scope:
        keep = _keep(keep_prob, rate, value)
        known = constant_value(keep)
        if known is not None and not 0 < float(known) <= 1:
            raise AttributeValueError(f"dropout keeps a share in (0, 1], got {float(known):g}")
        if known is not None and float(known) == 1:
            return OPS["identity"](value, name=scope)
        noise = _static(value) if noise_shape is None else noise_shape
        unit = random_uniform(noise, dtype=value.dtype.compute, seed=seed)
        kept = unit < cast(keep, unit.dtype)
        return pw.where(kept, value / keep, convert(0, like=value.dtype), name=scope)


def _keep(keep_prob: Any, rate: Any, like: Value) -> Value:
    if keep_prob is None:
        known = constant_value(rate)
        keep_prob = 1.0 - (rate if known is None else float(known))
    return convert(keep_prob, like=like.dtype)


def _static(x: Value) -> Any:
    return x.type.static_shape if x.type.is_static else shape(x)


# -- normalization


def moments(
    x: Any,
    axes: Any,
    shift: Any = None,
    name: str | None = None,
    keep_dims: Any = None,
    keepdims: Any = None,
) -> tuple[Value, Value]:
    """Mean and variance along the axes, computed in float32 for the 16-bit floats."""
    del shift
    keep = bool(either("keepdims", keepdims, "keep_dims", keep_dims, False))
    where = axes_argument(axes)
    with name_scope(name, "moments"):
        value = as_value(x)
        wide = cast(value, value.dtype.compute)
        mean = red.reduce_mean(wide, axis=where, keepdims=True)
        distance = pw.square(wide - mean)
        variance = red.reduce_mean(distance, axis=where, keepdims=keep)
        if not keep:
            mean = red.reduce_mean(wide, axis=where)
        return cast(mean, value.dtype), cast(variance, value.dtype)


def batch_normalization(
    x: Any,
    mean: Any,
    variance: Any,
    offset: Any,
    scale: Any,
    variance_epsilon: Any,
    name: str | None = None,
) -> Value:
    """(x - mean) / sqrt(variance + epsilon) * scale + offset; scale and offset may be None."""
    with name_scope(name, "batchnorm") as scope:
        value = as_value(x)
        factor = pw.rsqrt(as_value(variance) + convert(variance_epsilon, like=value.dtype))
        if scale is not None:
            factor = factor * scale
        bias = -(as_value(mean) * factor)
        if offset is not None:
            bias = bias + offset
        return pw.add(value * factor, bias, name=scope)


# -- indexing


def embedding_lookup(
    params: Any,
    ids: Any,
    partition_strategy: str = "mod",
    name: str | None = None,
    validate_indices: bool = True,
    max_norm: Any = None,
) -> Value:
    """The rows of `params` at `ids`. params: [rows, ...] -> [*ids.shape, ...]."""
    del partition_strategy, validate_indices
    if isinstance(params, (list, tuple)):
        if len(params) != 1:
            raise AttributeValueError("embedding_lookup takes one table here, not a partition")
        (params,) = params
    rows = gather(params, ids, name=name or "embedding_lookup")
    if max_norm is None:
        return rows
    from graphc.frontend.linalg import clip_by_norm

    first = as_value(ids).type.rank or 0
    return clip_by_norm(rows, max_norm, axes=tuple(range(first, rows.type.rank or first)))


def top_k(
    input: Any, k: Any = 1, sorted: bool = True, name: str | None = None
) -> tuple[Value, ...]:
    """The k greatest elements along the last dim, greatest first, and their positions."""
    del sorted
    return get_op("top_k").outputs(input, k=static_int(k, "k"), name=name)


def in_top_k(predictions: Any, targets: Any, k: Any, name: str | None = None) -> Value:
    """Whether fewer than k classes are predicted above the target. -> [batch] of bool.

    predictions: [batch, classes], targets: [batch]. False where the prediction is not finite.
    """
    x, y = as_value(predictions), as_value(targets)
    dims = x.type.shape
    if dims is None or len(dims) != 2 or not isinstance(dims[1], int):
        raise ShapeError(f"in_top_k needs [batch, classes] with known classes, got {x!r}")
    with name_scope(name, "in_top_k") as scope:
        hit = one_hot(y, dims[1], on_value=True, off_value=False, dtype=bool_)
        none = convert(0, like=x.dtype)
        own = red.reduce_sum(pw.where(hit, x, none), axis=(1,), keepdims=True)
        above = red.reduce_sum(cast(x > own, y.dtype), axis=(1,))
        inside = pw.logical_and(above < convert(k, like=y.dtype), red.reduce_any(hit, axis=(1,)))
        finite = red.reduce_all(pw.is_finite(own), axis=(1,))
        return pw.logical_and(inside, finite, name=scope)


__all__ = [
    "atrous_conv2d", "avg_pool", "batch_normalization", "bias_add", "conv1d", "conv2d",
    "conv2d_transpose", "crelu", "depthwise_conv2d", "dropout", "elu", "embedding_lookup", "gelu",
    "in_top_k", "l2_loss", "l2_normalize", "leaky_relu", "log_sigmoid", "log_softmax", "max_pool",
    "moments", "relu", "relu6", "relu_layer", "selu", "separable_conv2d", "sigmoid",
    "sigmoid_cross_entropy_with_logits", "silu", "softmax", "softmax_cross_entropy_with_logits",
    "softmax_cross_entropy_with_logits_v2", "softplus", "softsign",
    "sparse_softmax_cross_entropy_with_logits", "swish", "tanh", "top_k",
    "weighted_cross_entropy_with_logits", "xw_plus_b", "zero_fraction",
]  # fmt: skip

"""Products, softmax, normalization, losses, attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.frontend import linalg
from graphc.frontend import math as m
from graphc.frontend.onnx.ops.elementwise import _in
from graphc.frontend.onnx.reading import dtype_of
from graphc.frontend.onnx.registry import AsFunction, Call, converter
from graphc.ir.dtypes import float32, int64
from graphc.ir.graph import Value, convert
from graphc.ir.ops import movement as mv
from graphc.ir.ops import nn
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops.attention import scaled_dot_product_attention
from graphc.ir.table import OPS
from graphc.ir.types import normalize_axis


def product(a: Value, b: Value) -> Value:
    """NumPy's matmul: vectors count as a row on the left and a column on the right."""
    left, right = a.type.rank == 1, b.type.rank == 1
    x = OPS["expand_dims"](a, axis=(0,)) if left else a
    y = OPS["expand_dims"](b, axis=(1,)) if right else b
    result = OPS["matmul"](x, y)
    gone = tuple(axis for axis, was in ((-2, left), (-1, right)) if was)
    if not gone:
        return result
    rank = result.type.rank or 0
    return OPS["squeeze"](result, axis=tuple(rank + axis for axis in gone))


@converter("MatMul")
def matmul(call: Call) -> Value:
    """The matrix product."""
    call.rank(call.x(0)), call.rank(call.x(1))
    return product(call.x(0), call.x(1))


@converter("Gemm")
def gemm(call: Call) -> Value:
    """alpha * a @ b + beta * c"""
    a, b, c = call.x(0), call.x(1), call.get(2)
    result = OPS["matmul"](a, b, transpose_a=bool(call.attr("transA", 0)),
                           transpose_b=bool(call.attr("transB", 0)))  # fmt: skip
    alpha, beta = call.attr("alpha", 1.0), call.attr("beta", 1.0)
    result = result if alpha == 1 else result * _in(result, alpha)
    if c is None:
        return result
    return result + (c if beta == 1 else c * _in(c, beta))


@converter("Einsum")
def einsum(call: Call) -> Value:
    """The sum of products that the letters say."""
    return linalg.einsum(call.attr("equation"), *call.given())


@converter("Det")
def det(call: Call) -> Value:
    """The determinants of the last two dims."""
    return OPS["determinant"](call.x())


@converter("Softmax", "LogSoftmax", "Hardmax")
def softmax(call: Call) -> Value:
    """Along an axis; before opset 13, along all dims from it on."""
    x = call.x()
    rank = call.rank(x)
    old = call.version < 13
    axis = normalize_axis(call.attr("axis", 1 if old else -1), rank)
    if old and axis != rank - 1:
        dims = call.dims(x)
        flat = mv.reshape(x, shape=(math.prod(dims[:axis]), math.prod(dims[axis:])))
        return mv.reshape(_along(call, flat, 1), shape=dims)
    return _along(call, x, axis)


def _along(call: Call, x: Value, axis: int) -> Value:
    if call.op == "Hardmax":
        size = call.dims(x)[axis]
        first = OPS["expand_dims"](m.argmax(x, axis), axis=(axis,))
        shape = [-1 if i == axis else 1 for i in range(call.rank(x))]
        return m.cast(m.equal(first, convert(np.arange(size).reshape(shape))), x.dtype)
    function = nn.softmax if call.op == "Softmax" else nn.log_softmax
    return function(x, axis=axis)


# -- normalization


def _channels(x: Value, v: Value) -> Value:
    """A vector of the channels, to be broadcast with [batch, channels, ...]."""
    rank = x.type.rank or 2
    return OPS["expand_dims"](v, axis=tuple(range(1, rank - 1))) if rank > 2 else v


@converter("BatchNormalization")
def batch_normalization(call: Call) -> Any:
    """By running statistics or, in training, by the batch's own."""
    x, scale, bias, mean, var = (call.x(i) for i in range(5))
    epsilon = call.attr("epsilon", 1e-5)
    rank = call.rank(x)
    if not call.attr("training_mode", 0):
        factor = scale / m.sqrt(var + _in(var, epsilon))
        return (x - m.cast(_channels(x, mean), x.dtype)) * m.cast(
            _channels(x, factor), x.dtype
        ) + _channels(x, bias)
    axes = [i for i in range(rank) if i != 1]
    own_mean, own_var = m.reduce_mean(x, axes), m.reduce_variance(x, axes)
    factor = scale / m.sqrt(own_var + _in(own_var, epsilon))
    y = (x - _channels(x, own_mean)) * _channels(x, factor) + _channels(x, bias)
    keep = _in(mean, call.attr("momentum", 0.9))
    running = [keep * a + (1 - keep) * b for a, b in ((mean, own_mean), (var, own_var))]
    return [y, *running][: call.output_count]


@converter("InstanceNormalization")
def instance_normalization(call: Call) -> Value:
    """By the statistics of each channel of each example."""
    x, scale, bias = call.x(0), call.x(1), call.x(2)
    y = _standardized(x, list(range(2, call.rank(x))), call.attr("epsilon", 1e-5))
    return y * _channels(x, scale) + _channels(x, bias)


def _standardized(x: Value, axes: list[int], epsilon: float) -> Value:
    mean = m.reduce_mean(x, axes, keepdims=True)
    centered = x - mean
    var = m.reduce_mean(m.square(centered), axes, keepdims=True)
    return centered * m.rsqrt(var + _in(var, epsilon))


@converter("LayerNormalization")
def layer_normalization(call: Call) -> list[Value]:
    """By the statistics of the dims from an axis on (Ba, Kiros and Hinton 2016)."""
    x, scale, bias = call.x(0), call.x(1), call.get(2)
    rank = call.rank(x)
    axes = list(range(normalize_axis(call.attr("axis", -1), rank), rank))
    wide = m.cast(x, float32) if x.dtype.bits == 16 else x
    mean = m.reduce_mean(wide, axes, keepdims=True)
    centered = wide - mean
    var = m.reduce_mean(m.square(centered), axes, keepdims=True)
    inverse = m.rsqrt(var + _in(var, call.attr("epsilon", 1e-5)))
    y = m.cast(centered * inverse, x.dtype) * scale
    y = y if bias is None else y + bias
    return [y, mean, inverse][: call.output_count]


@converter("RMSNormalization")
def rms_normalization(call: Call) -> Value:
    """By the root of the mean square (Zhang and Sennrich 2019)."""
    x, scale = call.x(0), call.x(1)
    rank = call.rank(x)
    axes = list(range(normalize_axis(call.attr("axis", -1), rank), rank))
    wide = m.cast(x, float32) if x.dtype.bits == 16 else x
    square = m.reduce_mean(m.square(wide), axes, keepdims=True)
    y = wide * m.rsqrt(square + _in(square, call.attr("epsilon", 1e-5)))
    return m.cast(y, scale.dtype) * scale


@converter("GroupNormalization")
def group_normalization(call: Call) -> Value:
    """By the statistics of groups of channels (Wu and He 2018)."""
    x, scale, bias = call.x(0), call.x(1), call.x(2)
    dims, groups = call.dims(x), call.attr("num_groups")
    parts = mv.reshape(x, shape=(dims[0], groups, math.prod(dims[1:]) // groups))
    y = mv.reshape(_standardized(parts, [2], call.attr("epsilon", 1e-5)), shape=dims)
    if call.version < 21:  # scale and bias are per group
        repeat = dims[1] // groups
        index = convert(np.repeat(np.arange(groups), repeat))
        scale, bias = (OPS["gather"](v, index, axis=0) for v in (scale, bias))
    return y * _channels(x, scale) + _channels(x, bias)


@converter("LpNormalization")
def lp_normalization(call: Call) -> Value:
    """Divided by its norm along an axis; 0 where the norm is 0."""
    x, axis = call.x(), call.attr("axis", -1)
    if call.attr("p", 2) == 1:
        norm = m.reduce_sum(m.abs(x), axis, keepdims=True)
    else:
        norm = m.sqrt(m.reduce_sum(m.square(x), axis, keepdims=True))
    return m.div_no_nan(x, norm)


@converter("MeanVarianceNormalization")
def mean_variance_normalization(call: Call) -> Value:
    """Centered, and divided by the standard deviation."""
    x = call.x()
    axes = call.ints("axes", None, [0, 2, 3])
    centered = x - m.reduce_mean(x, axes, keepdims=True)
    return centered / (m.sqrt(m.reduce_mean(m.square(centered), axes, keepdims=True)) + 1e-9)


@converter("LRN")
def lrn(call: Call) -> Value:
    """Divided by a power of the squares of near channels (Krizhevsky et al. 2012)."""
    x = call.x()
    size = call.attr("size")
    dims = call.dims(x)
    before = (size - 1) // 2
    low, high = [0] * len(dims), [0] * len(dims)
    low[1], high[1] = before, size - 1 - before
    padded = OPS["pad"](m.square(x), low=tuple(low), high=tuple(high),
                        interior=(0,) * len(dims), fill=0)  # fmt: skip
    total = m.add_n([padded[:, i : i + dims[1]] for i in range(size)])
    alpha, beta = call.attr("alpha", 1e-4), call.attr("beta", 0.75)
    base = _in(x, call.attr("bias", 1.0)) + _in(x, alpha / size) * total
    return x / m.pow(base, _in(x, beta))


# -- losses


@converter("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def negative_log_likelihood(call: Call) -> list[Value]:
    """-log p of the true classes, weighted; reduced as asked."""
    x, target, weight = call.x(0), m.cast(call.x(1), int64), call.get(2)
    scores = nn.log_softmax(x, axis=1) if call.op.startswith("Softmax") else x
    rank, classes = call.rank(x), call.dims(x)[1]
    shape = [-1 if i == 1 else 1 for i in range(rank)]
    spread = OPS["expand_dims"](target, axis=(1,))
    hot = m.equal(spread, convert(np.arange(classes).reshape(shape)))
    zero = mv.zeros_like(scores)
    factor = zero + (1 if weight is None else _channels(x, weight))
    ignored = call.attr("ignore_index")
    if ignored is not None:
        hot = m.logical_and(hot, m.not_equal(spread, convert(ignored, like=int64)))
    loss = m.reduce_sum(pw.where(hot, -scores * factor, zero), 1)
    match call.attr("reduction", "mean"):
        case "sum":
            loss = m.reduce_sum(loss)
        case "mean":
            total = m.reduce_sum(pw.where(hot, factor, zero))
            loss = m.reduce_sum(loss) / total
    return [loss, scores][: call.output_count]


# -- attention


_OF_ATTENTION = {"is_causal", "kv_num_heads", "q_num_heads", "scale", "softmax_precision"}


@converter("Attention")
def attention(call: Call) -> Value:
    """softmax(scale q k^T + mask) v by heads; caches and what is rare are left to the function."""
    q, k, v = (call.x(i) for i in range(3))
    mask, precision = call.get(3), call.attr("softmax_precision")
    cached = any(x is not None for x in call.inputs[4:]) or call.output_count > 1
    other = precision and dtype_of(precision, call.where) is not q.dtype.compute
    if cached or other or any(call.attr(n) for n in call.attrs.keys() - _OF_ATTENTION):
        raise AsFunction
    if mask is not None:
        of_scores = mask.dtype.is_bool or mask.dtype is q.dtype
        if not of_scores or call.dims(mask)[-1] != call.dims(k)[-2]:
            raise AsFunction
    count = call.attr("q_num_heads")
    heads = [_by_heads(call, q, count), *(_by_heads(call, x, call.attr("kv_num_heads"))
                                          for x in (k, v))]  # fmt: skip
    groups = call.dims(heads[0])[1]
    result = scaled_dot_product_attention(
        heads[0], *(_for_groups(call, x, groups) for x in heads[1:]),
        *([] if mask is None else [mask]),
        scale=call.attr("scale"), causal=bool(call.attr("is_causal", 0)),
    )  # fmt: skip
    if len(call.dims(q)) == 4:
        return result
    batch, _, time, size = call.dims(result)
    turned = mv.transpose(result, perm=(0, 2, 1, 3))
    return mv.reshape(turned, shape=(batch, time, groups * size))


def _by_heads(call: Call, x: Value, count: int | None) -> Value:
    """[batch, time, heads * size] as [batch, heads, time, size]"""
    dims = call.dims(x)
    if len(dims) == 4:
        return x
    if not count:
        raise call.refused("inputs of rank 3 need q_num_heads and kv_num_heads")
    y = mv.reshape(x, shape=(*dims[:2], count, dims[2] // count))
    return mv.transpose(y, perm=(0, 2, 1, 3))


def _for_groups(call: Call, x: Value, heads: int) -> Value:
    """Each head of keys or values as often as there are heads of queries for it."""
    batch, own, time, size = call.dims(x)
    if own == heads:
        return x
    shape = (batch, own, heads // own, time, size)
    spread = mv.broadcast_to(OPS["expand_dims"](x, axis=(2,)), shape=shape)
    return mv.reshape(spread, shape=(batch, heads, time, size))


@converter("RotaryEmbedding")
def rotary_embedding(call: Call) -> Value:
    """Pairs of elements turned by an angle that grows with the position (Su et al. 2021)."""
    x, cosines, sines, positions = call.x(0), call.x(1), call.x(2), call.get(3)
    dims = call.dims(x)
    heads = call.attr("num_heads", 0)
    if len(dims) == 3:
        y = mv.reshape(x, shape=(dims[0], dims[1], heads, dims[2] // heads))
    else:
        y = mv.transpose(x, perm=(0, 2, 1, 3))  # [batch, time, heads, size]
    size = y.type.static_shape[-1]
    turned = call.attr("rotary_embedding_dim", 0) or size
    if positions is not None:
        cosines, sines = (OPS["gather"](v, positions, axis=0) for v in (cosines, sines))
    cosines, sines = (OPS["expand_dims"](v, axis=(2,)) for v in (cosines, sines))
    cosines, sines = (v[..., : turned // 2] for v in (cosines, sines))
    part, rest = y[..., :turned], y[..., turned:]
    if call.attr("interleaved", 0):
        a, b = part[..., 0::2], part[..., 1::2]
    else:
        a, b = part[..., : turned // 2], part[..., turned // 2 :]
    real, imaginary = cosines * a - sines * b, sines * a + cosines * b
    if call.attr("interleaved", 0):
        joined = mv.reshape(OPS["stack"](real, imaginary, axis=-1), shape=part.type.static_shape)
    else:
        joined = OPS["concat"](real, imaginary, axis=3)
    y = OPS["concat"](joined, rest, axis=3) if turned < size else joined
    if len(dims) == 3:
        return mv.reshape(y, shape=dims)
    return mv.transpose(y, perm=(0, 2, 1, 3))

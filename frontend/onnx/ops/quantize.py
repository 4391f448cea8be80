"""Quantized tensors: scales, zero points, and products of integers."""

from __future__ import annotations

import numpy as np

from graphc.frontend import math as m
from graphc.frontend.onnx.ops.neural import product
from graphc.frontend.onnx.ops.windows import conv_of
from graphc.frontend.onnx.reading import dtype_of
from graphc.frontend.onnx.registry import Call, converter
from graphc.ir.dtypes import DType, as_dtype, float32, float64, int32
from graphc.ir.graph import Value, convert
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.table import OPS
from graphc.ir.types import normalize_axis


def _spread(call: Call, v: Value, x: Value, axis: int) -> Value:
    """A scale or zero point as broadcast with x: one for all, one per slice, or one per block."""
    rank, own = call.rank(x), call.rank(v)
    block = call.attr("block_size", 0)
    if own == rank and block:
        axis = normalize_axis(axis, rank)
        index = np.arange(call.dims(x)[axis]) // block
        return OPS["gather"](v, convert(index), axis=axis)
    if own == 0 or (own == 1 and call.dims(v) == (1,)):
        return mv.reshape(v, shape=())
    if own == 1:
        axis = normalize_axis(axis, rank)
        shape = [1] * rank
        shape[axis] = -1
        return mv.reshape(v, shape=tuple(shape))
    return v


def _rounded(x: Value, zero: Value | None, dtype: DType) -> Value:
    """round(x) + zero, saturated to the dtype."""
    y = m.round(x)
    y = y if zero is None else y + m.cast(zero, y.dtype)
    low, high = (convert(v, y.dtype) for v in (float(dtype.min), float(dtype.max)))
    return m.cast(pw.minimum(pw.maximum(y, low), high), dtype)


@converter("QuantizeLinear")
def quantize_linear(call: Call) -> Value:
    """round(x / scale) + zero point."""
    x, scale, zero = call.x(0), call.x(1), call.get(2)
    axis = call.attr("axis", 1)
    code = call.attr("output_dtype", 0)
    if zero is not None:
        dtype = zero.dtype
    elif code:
        dtype = dtype_of(code, "QuantizeLinear")
    else:
        dtype = as_dtype("uint8")
    wide = m.cast(x, float32)
    scaled = wide / m.cast(_spread(call, scale, x, axis), float32)
    return _rounded(scaled, None if zero is None else _spread(call, zero, x, axis), dtype)


@converter("DequantizeLinear")
def dequantize_linear(call: Call) -> Value:
    """(x - zero point) * scale"""
    x, scale, zero = call.x(0), call.x(1), call.get(2)
    axis = call.attr("axis", 1)
    wide = m.cast(x, float32)
    if zero is not None:
        wide = wide - m.cast(_spread(call, zero, x, axis), float32)
    return m.cast(wide * m.cast(_spread(call, scale, x, axis), float32), scale.dtype)


@converter("DynamicQuantizeLinear")
def dynamic_quantize_linear(call: Call) -> list[Value]:
    """To uint8 by the range of x, which is made to contain 0."""
    x = call.x()
    zero = convert(0.0, like=x.dtype)
    low, high = pw.minimum(m.reduce_min(x), zero), pw.maximum(m.reduce_max(x), zero)
    scale = (high - low) / 255.0
    dtype = as_dtype("uint8")
    point = _rounded(pw.minimum(pw.maximum(m.round(-low / scale), zero), zero + 255.0), None, dtype)
    return [_rounded(x / scale, point, dtype), scale, point]


def _centered(call: Call, x: Value, zero: Value | None, axis: int) -> Value:
    """x - zero point, in int32."""
    wide = m.cast(x, int32)
    if zero is None:
        return wide
    return wide - m.cast(_spread(call, zero, x, axis), int32)


@converter("MatMulInteger")
def matmul_integer(call: Call) -> Value:
    """The product of integers without their zero points, in int32."""
    a, b = call.x(0), call.x(1)
    rows = -2 if call.rank(a) > 1 else 0
    return product(_centered(call, a, call.get(2), rows), _centered(call, b, call.get(3), -1))


@converter("ConvInteger")
def conv_integer(call: Call) -> Value:
    """The convolution of integers without their zero points, in int32."""
    x, w = _centered(call, call.x(0), call.get(2), 1), _centered(call, call.x(1), call.get(3), 0)
    return _exact_conv(call, x, w)


def _exact_conv(call: Call, x: Value, w: Value) -> Value:
    """Of integers through float64, which holds their sums of products exactly."""
    return m.cast(conv_of(call, m.cast(x, float64), m.cast(w, float64)), int32)


@converter("QLinearMatMul")
def qlinear_matmul(call: Call) -> Value:
    """A product of quantized matrices, quantized again."""
    a, a_scale, a_zero, b, b_scale, b_zero, scale, zero = (call.x(i) for i in range(8))
    total = product(_centered(call, a, a_zero, -2), _centered(call, b, b_zero, -1))
    both = m.cast(a_scale, float32) * m.cast(b_scale, float32)
    return _rounded(m.cast(total, float32) * (both / m.cast(scale, float32)), zero, zero.dtype)


@converter("QLinearConv")
def qlinear_conv(call: Call) -> Value:
    """A convolution of quantized images, quantized again."""
    x, x_scale, x_zero, w, w_scale, w_zero, scale, zero = (call.x(i) for i in range(8))
    total = _exact_conv(call, _centered(call, x, x_zero, 1), _centered(call, w, w_zero, 0))
    bias = call.get(8)
    if bias is not None:
        total = total + _spread(call, bias, total, 1)
    factor = x_scale * _spread(call, w_scale, total, 1) / scale
    return _rounded(m.cast(total, float32) * factor, zero, zero.dtype)

"""Convolution, pooling, resizing: what goes over windows of images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.frontend import convolution as cv
from graphc.frontend import math as m
from graphc.frontend.onnx.registry import Call, converter
from graphc.ir.dtypes import float32, int64
from graphc.ir.graph import Value, convert
from graphc.ir.ops import movement as mv
from graphc.ir.table import OPS

_FORMATS = {1: "NCW", 2: "NCHW", 3: "NCDHW"}


def _padding(call: Call, spatial: int) -> Any:
    """TensorFlow's word for the padding, or pairs."""
    rule = call.attr("auto_pad", "NOTSET")
    if rule in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        return rule
    pads = call.ints("pads", None, [0] * 2 * spatial)
    return [(pads[i], pads[spatial + i]) for i in range(spatial)]


def _filter(w: Value) -> Value:
    """[out, in, ...] as [..., in, out]."""
    rank = w.type.rank or 0
    return mv.transpose(w, perm=(*range(2, rank), 1, 0))


def _with_bias(call: Call, y: Value, bias: Value | None) -> Value:
    if bias is None:
        return y
    return y + OPS["expand_dims"](bias, axis=tuple(range(1, call.rank(y) - 1)))


def conv_of(call: Call, x: Value, w: Value) -> Value:
    """The convolution that the attributes say, without a bias."""
    spatial = call.rank(x) - 2
    if spatial not in _FORMATS:
        raise call.refused(f"a convolution over {spatial} dims")
    return cv.convolution(
        x, _filter(w), strides=call.ints("strides", None, [1] * spatial),
        padding=_padding(call, spatial), dilations=call.ints("dilations", None, [1] * spatial),
        groups=call.attr("group", 1), data_format=_FORMATS[spatial],
    )  # fmt: skip


@converter("Conv")
def conv(call: Call) -> Value:
    """Cross-correlation, with a bias."""
    return _with_bias(call, conv_of(call, call.x(0), call.x(1)), call.get(2))


@converter("ConvTranspose")
def conv_transpose(call: Call) -> Value:
    """The gradient of a convolution by its image, with a bias."""
    x, w = call.x(0), call.x(1)
    spatial = call.rank(x) - 2
    if spatial not in _FORMATS:
        raise call.refused(f"a convolution over {spatial} dims")
    groups = call.attr("group", 1)
    dims, kernel = call.dims(x), call.dims(w)
    strides = call.ints("strides", None, [1] * spatial)
    dilations = call.ints("dilations", None, [1] * spatial)
    extra = call.ints("output_padding", None, [0] * spatial)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel[2:], dilations, strict=True)]
    whole = [s * (n - 1) + e + k for s, n, e, k in
             zip(strides, dims[2:], extra, spans, strict=True)]  # fmt: skip
    pads = _transposed_pads(call, dims[2:], strides, whole)
    full = cv.conv_transpose(
        x, _transposed_filter(w, groups), strides=strides, padding="VALID", dilations=dilations,
        groups=groups, output_padding=extra, data_format=_FORMATS[spatial],
    )  # fmt: skip
    y = _cropped(full, [(0, 0), (0, 0), *pads])
    return _with_bias(call, y, call.get(2))


def _transposed_pads(
    call: Call, sizes: Any, strides: list[int], whole: list[int]
) -> list[tuple[int, int]]:
    spatial = len(strides)
    asked = call.attrs.get("output_shape")
    rule = call.attr("auto_pad", "NOTSET")
    if asked is None and rule in ("SAME_UPPER", "SAME_LOWER"):
        asked = [n * s for n, s in zip(sizes, strides, strict=True)]
    if asked is None:
        pads = call.ints("pads", None, [0] * 2 * spatial)
        return [(pads[i], pads[spatial + i]) for i in range(spatial)]
    totals = [w - a for w, a in zip(whole, asked[-spatial:], strict=True)]
    if rule == "SAME_UPPER":
        return [(t // 2, t - t // 2) for t in totals]
    return [(t - t // 2, t // 2) for t in totals]


def _cropped(x: Value, pads: list[tuple[int, int]]) -> Value:
    """Without the padding; a negative one adds zeros."""
    low, high = (tuple(-p[i] for p in pads) for i in (0, 1))
    if not any(low) and not any(high):
        return x
    return OPS["pad"](x, low=low, high=high, interior=(0,) * len(pads), fill=0)


def _transposed_filter(w: Value, groups: int) -> Value:
    """ONNX's [in, out / groups, ...] as the filter of the forward convolution: [..., out, in]."""
    rank = w.type.rank or 0
    return mv.transpose(w, perm=(*range(2, rank), 1, 0))


# -- pooling


@converter("MaxPool")
def max_pool(call: Call) -> Any:
    """The greatest of every window, and where it is."""
    x = call.x()
    spatial = call.rank(x) - 2
    window = call.ints("kernel_shape")
    options = {
        "strides": call.ints("strides", None, [1] * spatial),
        "padding": _padding(call, spatial),
        "dilations": call.ints("dilations", None, [1] * spatial),
        "ceil_mode": bool(call.attr("ceil_mode", 0)),
        "data_format": _FORMATS[spatial],
    }
    wide = m.cast(x, float32) if x.dtype.is_integer else x
    if call.output_count == 1:
        return m.cast(cv.pool(wide, window, kind="max", **options), x.dtype)
    y, positions = cv.max_pool_positions(wide, window, **options)
    return [m.cast(y, x.dtype), _flat_positions(call, x, positions)]


def _flat_positions(call: Call, x: Value, positions: Value) -> Value:
    """Positions in each image, row-major or column-major, as positions in the whole tensor."""
    n, c, *sizes = call.dims(x)
    positions = m.cast(positions, int64)
    if call.attr("storage_order", 0):
        h, w = sizes
        positions = positions % w * h + m.floordiv(positions, w)
    images = np.arange(n * c).reshape(n, c, *[1] * len(sizes)) * math.prod(sizes)
    return positions + convert(images)


@converter("AveragePool")
def average_pool(call: Call) -> Value:
    """The mean of every window."""
    x = call.x()
    spatial = call.rank(x) - 2
    return cv.pool(
        x, call.ints("kernel_shape"), kind="avg",
        strides=call.ints("strides", None, [1] * spatial), padding=_padding(call, spatial),
        dilations=call.ints("dilations", None, [1] * spatial),
        ceil_mode=bool(call.attr("ceil_mode", 0)),
        count_include_pad=bool(call.attr("count_include_pad", 0)), data_format=_FORMATS[spatial],
    )  # fmt: skip


@converter("LpPool")
def lp_pool(call: Call) -> Value:
    """The p-norm of every window."""
    x = call.x()
    spatial = call.rank(x) - 2
    return cv.pool(
        x, call.ints("kernel_shape"), kind="lp", p=call.attr("p", 2),
        strides=call.ints("strides", None, [1] * spatial), padding=_padding(call, spatial),
        dilations=call.ints("dilations", None, [1] * spatial),
        ceil_mode=bool(call.attr("ceil_mode", 0)), data_format=_FORMATS[spatial],
    )  # fmt: skip


@converter("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(call: Call) -> Value:
    """Over whole images."""
    x = call.x()
    axes = list(range(2, call.rank(x)))
    if call.op == "GlobalLpPool":
        p = call.attr("p", 2)
        return m.pow(m.reduce_sum(m.pow(m.abs(x), float(p)), axes, keepdims=True), 1.0 / p)
    function = m.reduce_mean if call.op == "GlobalAveragePool" else m.reduce_max
    return function(x, axes, keepdims=True)


@converter("MaxUnpool")
def max_unpool(call: Call) -> Value:
    """Elements put back where a pooling found them; zeros elsewhere."""
    x, positions = call.x(0), call.x(1)
    dims = call.dims(x)
    spatial = len(dims) - 2
    window, strides = call.ints("kernel_shape"), call.ints("strides", None, [1] * spatial)
    pads = call.ints("pads", None, [0] * 2 * spatial)
    natural = [
        (n - 1) * s + k - pads[i] - pads[spatial + i]
        for i, (n, s, k) in enumerate(zip(dims[2:], strides, window, strict=True))
    ]
    asked = call.ints("output_shape", 2, [*dims[:2], *natural])
    inner = [*dims[:2], *natural]
    count = math.prod(dims)
    flat = OPS["scatter_nd"](
        mv.reshape(positions, shape=(count, 1)), mv.reshape(x, shape=(count,)),
        shape=(math.prod(inner),),
    )  # fmt: skip
    y = mv.reshape(flat, shape=tuple(inner))
    extra = tuple(a - b for a, b in zip(asked, inner, strict=True))
    if not any(extra):
        return y
    zero = (0,) * len(dims)
    return OPS["pad"](y, low=zero, high=extra, interior=zero, fill=0)


@converter("Col2Im")
def col2im(call: Call) -> Value:
    """Columns of windows added up into an image: the gradient of taking them."""
    x = call.x()
    image, block = call.ints("image_shape", 1), call.ints("block_shape", 2)
    spatial = len(image)
    n, columns, count = call.dims(x)
    channels = columns // math.prod(block)
    strides = call.ints("strides", None, [1] * spatial)
    dilations = call.ints("dilations", None, [1] * spatial)
    pads = call.ints("pads", None, [0] * 2 * spatial)
    padded = [d + pads[i] + pads[spatial + i] for i, d in enumerate(image)]
    steps = [(p - (b - 1) * d - 1) // s + 1
             for p, b, d, s in zip(padded, block, dilations, strides, strict=True)]  # fmt: skip
    grid = np.indices([*block, *steps])
    at = [grid[i] * dilations[i] + grid[spatial + i] * strides[i] for i in range(spatial)]
    index = np.ravel_multi_index([a.ravel() for a in at], padded)
    values = mv.reshape(x, shape=(n * channels, math.prod(block) * count))
    moved = mv.transpose(values, perm=(1, 0))
    total = OPS["scatter_nd"](
        convert(index.reshape(-1, 1).astype(np.int64)), moved,
        shape=(math.prod(padded), n * channels),
    )  # fmt: skip
    y = mv.reshape(mv.transpose(total, perm=(1, 0)), shape=(n, channels, *padded))
    return _cropped(y, [(0, 0), (0, 0), *((pads[i], pads[spatial + i]) for i in range(spatial))])

"""Pixels moved between space, depth and batch, and grayscale morphology; re-exported by `nn`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.frontend.arguments import as_value, constant_value, either, static_int, static_ints
from graphc.frontend.array import reshape, reverse, transpose
from graphc.frontend.convolution import padding_argument, spatial
from graphc.frontend.framework import name_scope
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Value
from graphc.ir.ops import patches, slicing
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import reduce as red
from graphc.ir.ops.geometry import window_of
from graphc.ir.table import OPS


def _known_dims(x: Value, what: str) -> list[int]:
    """The dims, -1 for an unknown batch; ShapeError where another is unknown."""
    dims = x.type.shape
    if not dims or any(isinstance(d, str) for d in dims[1:]):
        raise ShapeError(f"{what} needs to know all dims but the first, got {x!r}")
    return [-1 if isinstance(d, str) else d for d in dims]


# -- space and depth


def space_to_depth(
    input: Any, block_size: int, name: str | None = None, data_format: str = "NHWC"
) -> Value:
    """Blocks of pixels as channels. [n, h, w, c] -> [n, h / b, w / b, b * b * c]"""
    x, b = _image(input, block_size, data_format, "space_to_depth")
    n, h, w, c = _known_dims(x, "space_to_depth")
    if h % b or w % b:
        raise ShapeError(f"space_to_depth by blocks of {b} of an image of {h} x {w}")
    with name_scope(name, "SpaceToDepth"):
        parts = transpose(reshape(x, [n, h // b, b, w // b, b, c]), [0, 1, 3, 2, 4, 5])
        return _in_format(reshape(parts, [n, h // b, w // b, b * b * c]), data_format)


def depth_to_space(
    input: Any, block_size: int, name: str | None = None, data_format: str = "NHWC"
) -> Value:
    """Channels as blocks of pixels. [n, h, w, b * b * c] -> [n, h * b, w * b, c]"""
    x, b = _image(input, block_size, data_format, "depth_to_space")
    n, h, w, depth = _known_dims(x, "depth_to_space")
    if depth % (b * b):
        raise ShapeError(f"depth_to_space by blocks of {b} of {depth} channels")
    with name_scope(name, "DepthToSpace"):
        parts = transpose(reshape(x, [n, h, w, b, b, depth // (b * b)]), [0, 1, 3, 2, 4, 5])
        return _in_format(reshape(parts, [n, h * b, w * b, depth // (b * b)]), data_format)


def _image(input: Any, block_size: Any, data_format: str, what: str) -> tuple[Value, int]:
    x, block = as_value(input), static_int(block_size, "block_size")
    if x.type.rank != 4 or data_format not in ("NHWC", "NCHW"):
        raise ShapeError(f"{what} takes images in NHWC or NCHW, got {x!r} as {data_format!r}")
    if block < 1:
        raise AttributeValueError(f"{what}: block_size is 1 or more, got {block}")
    return (transpose(x, [0, 2, 3, 1]) if data_format == "NCHW" else x), block


def _in_format(x: Value, data_format: str) -> Value:
    return transpose(x, [0, 3, 1, 2]) if data_format == "NCHW" else x


# -- space and batch


def space_to_batch_nd(
    input: Any, block_shape: Any, paddings: Any, name: str | None = None
) -> Value:
    """Every block_shape-th element of the dims behind the batch, as images of their own.

    [n, d1, ..., rest] with (before, after) zeros around each dim -> [n * prod(block), ...].
    """
    x, blocks = as_value(input), static_ints(block_shape, "block_shape")
    pads = _pairs(paddings, len(blocks), "paddings")
    m = len(blocks)
    with name_scope(name, "SpaceToBatchND"):
        rest = (0,) * ((x.type.rank or m + 1) - m - 1)
        low, high = ((0, *(p[i] for p in pads), *rest) for i in (0, 1))
        x = slicing.pad(x, low=low, high=high, interior=(0,) * len(low))
        n, *dims = _known_dims(x, "space_to_batch_nd")
        if any(d % b for d, b in zip(dims, blocks, strict=False)):
            raise ShapeError(f"blocks of {blocks} do not divide the padded {dims[:m]}")
        pairs = [v for d, b in zip(dims, blocks, strict=False) for v in (d // b, b)]
        split = reshape(x, [n, *pairs, *dims[m:]])
        inside, outside = range(2, 2 * m + 1, 2), range(1, 2 * m, 2)
        order = [*inside, 0, *outside, *range(2 * m + 1, 2 * m + 1 + len(dims) - m)]
        kept = [d // b for d, b in zip(dims, blocks, strict=False)]
        count = -1 if n == -1 else n * math.prod(blocks)
        return reshape(transpose(split, order), [count, *kept, *dims[m:]])


def batch_to_space_nd(input: Any, block_shape: Any, crops: Any, name: str | None = None) -> Value:
    """The inverse of space_to_batch_nd; `crops` cuts (before, after) off each dim."""
    x, blocks = as_value(input), static_ints(block_shape, "block_shape")
    cuts = _pairs(crops, len(blocks), "crops")
    m = len(blocks)
    with name_scope(name, "BatchToSpaceND"):
        n, *dims = _known_dims(x, "batch_to_space_nd")
        if n % math.prod(blocks) and n != -1:
            raise ShapeError(f"blocks of {blocks} do not divide the batch of {n}")
        count = -1 if n == -1 else n // math.prod(blocks)
        split = reshape(x, [*blocks, count, *dims])
        pairs = [v for i in range(m) for v in (m + 1 + i, i)]
        order = [m, *pairs, *range(2 * m + 1, m + 1 + len(dims))]
        grown = [d * b for d, b in zip(dims, blocks, strict=False)]
        if any(sum(c) > d for c, d in zip(cuts, grown, strict=True)):
            raise ShapeError(f"crops {cuts} leave nothing of {grown}")
        joined = reshape(transpose(split, order), [count, *grown, *dims[m:]])
        key = tuple(slice(lo, d - hi) for (lo, hi), d in zip(cuts, grown, strict=True))
        return joined[(slice(None), *key)]


def _pairs(given: Any, count: int, what: str) -> list[tuple[int, int]]:
    known = constant_value(given)
    if known is None or known.shape != (count, 2) or (known < 0).any():
        raise AttributeValueError(f"{what} are {count} known pairs (before, after), got {given!r}")
    return [(int(a), int(b)) for a, b in known]


def space_to_batch(
    input: Any,
    paddings: Any,
    block_size: int | None = None,
    name: str | None = None,
    block_shape: Any = None,
) -> Value:
    """space_to_batch_nd of height and width, with square blocks."""
    blocks = either("block_size", block_size, "block_shape", block_shape)
    square = [blocks, blocks] if isinstance(blocks, int) else blocks
    return space_to_batch_nd(input, square, paddings, name)


def batch_to_space(
    input: Any,
    crops: Any,
    block_size: int | None = None,
    name: str | None = None,
    block_shape: Any = None,
) -> Value:
    """batch_to_space_nd of height and width, with square blocks."""
    blocks = either("block_size", block_size, "block_shape", block_shape)
    square = [blocks, blocks] if isinstance(blocks, int) else blocks
    return batch_to_space_nd(input, square, crops, name)


# -- morphology


def dilation2d(
    input: Any,
    filter: Any = None,
    strides: Any = None,
    rates: Any = None,
    padding: Any = None,
    name: str | None = None,
    filters: Any = None,
    dilations: Any = None,
) -> Value:
    """max over (i, j) of input[n, y + i, x + j, c] + filter[i, j, c]; padding never wins.

    input: [n, h, w, c], filter: [i, j, c], c known. Sizes must be known for "SAME".
    """
    x = as_value(input)
    w = as_value(either("filter", filter, "filters", filters))
    if x.type.rank != 4 or not w.type.is_static or w.type.rank != 3:
        raise ShapeError(
            f"dilation2d takes an image and a known filter [i, j, c], got {x!r}, {w!r}"
        )
    *window, channels = w.type.static_shape
    attrs = {
        "strides": spatial(strides, "NHWC", "strides"),
        "dilations": spatial(either("rates", rates, "dilations", dilations), "NHWC", "rates"),
        "padding": padding_argument(padding, "NHWC"), "data_format": "NHWC",
    }  # fmt: skip
    with name_scope(name, "Dilation2D"):
        if attrs["padding"] != "VALID":
            x = _padded(x, (window[0], window[1]), attrs)
        views = patches.image_patches(x, window=tuple(window), **{**attrs, "padding": "VALID"})
        dims = [-1 if isinstance(d, str) else d for d in (views.type.shape or ())[:3]]
        split = reshape(views, [*dims, math.prod(window), channels])
        sums = pw.add(split, OPS["reshape"](w, shape=(math.prod(window), channels)))
        return red.reduce_max(sums, axis=(3,))


def _padded(x: Value, window: tuple[int, int], attrs: dict[str, Any]) -> Value:
    dims = _known_dims(x, "dilation2d")
    place = window_of(dims, window, attrs)
    lowest = float("-inf") if x.dtype.is_floating else int(np.iinfo(x.dtype.numpy).min)
    return slicing.pad(
        x, low=(0, *place.low, 0), high=(0, *place.high, 0), interior=(0,) * 4, fill=lowest
    )


def erosion2d(
    value: Any, kernel: Any, strides: Any, rates: Any, padding: Any, name: str | None = None
) -> Value:
    """min over (i, j) of value[n, y + i, x + j, c] - kernel[i, j, c] mirrored: dilation's dual."""
    with name_scope(name, "erosion2d"):
        mirrored = reverse(kernel, [0, 1])
        return -dilation2d(-as_value(value), mirrored, strides, rates, padding)


__all__ = [
    "batch_to_space", "batch_to_space_nd", "depth_to_space", "dilation2d", "erosion2d",
    "space_to_batch", "space_to_batch_nd", "space_to_depth",
]  # fmt: skip

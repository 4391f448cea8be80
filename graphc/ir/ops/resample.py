"""Resizing images: every output pixel a weighted sum of a few input pixels, rows and columns apart.

The weights are TensorFlow 1.15's, computed in float32 as its kernels do (image_resizer_state.h,
resize_bilinear_op.cc, resize_bicubic_op.cc, resize_area_op.cc). Resizing is linear, so its gradient
is a contraction with the weights and the gradient's gradient resizes again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from graphc.ir.dtypes import float32
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Node, Value, constant
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops.contract import contract
from graphc.ir.ops.index import take
from graphc.ir.table import Attrs, Kind, Op, Sample, Types, register
from graphc.ir.types import UNKNOWN, TensorType, check_sizes

METHODS: Final = ("bilinear", "nearest", "bicubic", "area")
_ATTRS: Final[Attrs] = {
    "size": None, "method": "bilinear", "align_corners": False, "half_pixel_centers": False,
}  # fmt: skip
_MOST_TAPS: Final = 8  # an output pixel of more inputs is summed by a matrix product
_TABLE: Final = 1024  # resize_bicubic_op.cc rounds positions to so many parts of a pixel

Taps = tuple[np.ndarray, np.ndarray]  # per output position: input positions, and their weights


def _scale(size: int, new: int, align_corners: bool) -> np.float32:
    if align_corners and new > 1:
        return np.float32(size - 1) / np.float32(new - 1)
    return np.float32(size) / np.float32(new)


def _positions(size: int, new: int, align_corners: bool, half: bool) -> np.ndarray:
    """Where each output pixel lies in the input."""
    at = np.arange(new, dtype=np.float32)
    scale = _scale(size, new, align_corners)
    moved: np.ndarray = (at + np.float32(0.5)) * scale - np.float32(0.5) if half else at * scale
    return moved


def taps(method: str, size: int, new: int, align_corners: bool = False, half: bool = False) -> Taps:
    """Input positions and weights, each [new, taps], for resizing `size` pixels to `new`."""
    if method == "area":
        return _area_taps(size, new, align_corners)
    if method == "nearest":
        return _nearest_taps(size, new, align_corners, half)
    at = _positions(size, new, align_corners, half)
    low = np.floor(at)
    part = at - low
    if method == "bilinear":
        index = np.stack([low, np.ceil(at)], 1)
        weight = np.stack([1 - part, part], 1)
    else:
        index = low[:, None] + np.arange(-1, 3, dtype=np.float32)
        weight = _bicubic_weights(part, half)
        if half:
            weight = np.where((index >= 0) & (index < size), weight, np.float32(0))
            weight = weight / weight.sum(1, keepdims=True)
    return np.clip(index, 0, size - 1).astype(np.int32), weight.astype(np.float32)


def _nearest_taps(size: int, new: int, align_corners: bool, half: bool) -> Taps:
    at = np.arange(new, dtype=np.float32)
    at = (at + np.float32(0.5 if half else 0)) * _scale(size, new, align_corners)
    # C's roundf goes away from zero at a half
    index = np.floor(at + np.float32(0.5)) if align_corners else np.floor(at)
    index = np.clip(index, 0, size - 1).astype(np.int32)
    return index[:, None], np.ones((new, 1), np.float32)


def _bicubic_weights(part: np.ndarray, half: bool) -> np.ndarray:
    """Keys' cubic convolution (1981) with a = -0.75, or -0.5 with half-pixel centers."""
    a = -0.5 if half else -0.75
    offset = np.rint(part * _TABLE)
    near = [offset / _TABLE, (_TABLE - offset) / _TABLE]
    inner = [((a + 2) * x - (a + 3)) * x * x + 1 for x in near]
    outer = [((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a for x in near]
    return np.stack([outer[0], inner[0], inner[1], outer[1]], 1).astype(np.float32)


def _area_taps(size: int, new: int, align_corners: bool) -> Taps:
    """The share of every input pixel in the part of the input that an output pixel covers."""
    scale = _scale(size, new, align_corners)
    first = np.arange(new, dtype=np.float32) * scale
    last = (np.arange(new, dtype=np.float32) + 1) * scale
    count = int((np.ceil(last) - np.floor(first)).max())
    index = np.floor(first)[:, None] + np.arange(count, dtype=np.float32)
    overlap = np.minimum(index + 1, last[:, None]) - np.maximum(index, first[:, None])
    weight = np.maximum(overlap, 0) / scale
    return np.clip(index, 0, size - 1).astype(np.int32), weight.astype(np.float32)


def _check(types: Types, attrs: Attrs) -> None:
    x, size = types[0], attrs["size"]
    if attrs["method"] not in METHODS:
        raise AttributeValueError(f"method is one of {', '.join(METHODS)}: {attrs['method']!r}")
    if attrs["align_corners"] and attrs["half_pixel_centers"]:
        raise AttributeValueError("align_corners and half_pixel_centers exclude each other")
    if x.shape is not None and len(x.shape) != 4:
        raise ShapeError(f"resizing needs images [n, h, w, c], got {x}")
    if x.shape is not None and 0 in x.shape[1:3]:
        raise ShapeError(f"an image without pixels cannot be resized: {x}")
    if size is not None and (len(size) != 2 or any(isinstance(s, int) and s < 1 for s in size)):
        raise AttributeValueError(f"the new size is (height, width), both positive, got {size}")


def _type(types: Types, attrs: Attrs) -> TensorType:
    _check(types, attrs)
    x = types[0]
    pw.check_category(types[:1], pw.NUMERIC)
    dtype = x.dtype if attrs["method"] == "nearest" or x.dtype.is_floating else float32
    size = attrs["size"] or (UNKNOWN, UNKNOWN)
    if x.shape is None:
        return TensorType(dtype, (UNKNOWN, *size, UNKNOWN))
    return TensorType(dtype, check_sizes((x.shape[0], *size, x.shape[3])))


def _axes_taps(old: Sequence[int], new: Sequence[int], attrs: Attrs) -> list[Taps]:
    flags = attrs["align_corners"], attrs["half_pixel_centers"]
    return [taps(attrs["method"], n, m, *flags) for n, m in zip(old[1:3], new[1:3], strict=True)]


def _resize(node: Node) -> Value:
    x, out = node.inputs[0], node.types[0]
    wide = out.dtype if keeps_dtype(node.attrs) else out.dtype.compute
    y = pw.cast(x, dtype=wide)
    both = _axes_taps(x.type.static_shape, out.static_shape, node.attrs)
    for axis, (index, weight) in enumerate(both, 1):
        y = _along(y, axis, index, weight)
    return pw.cast(y, dtype=out.dtype)


def keeps_dtype(attrs: Attrs) -> bool:
    """True for the method that computes nothing, and so keeps every dtype."""
    return bool(attrs["method"] == "nearest")


def _along(x: Value, axis: int, index: np.ndarray, weight: np.ndarray) -> Value:
    count = index.shape[1]
    if count == 1:
        return take(x, constant(index[:, 0]), axis=axis)
    if count > _MOST_TAPS:
        matrix = constant(_matrix(index, weight, x.type.static_shape[axis]), dtype=x.dtype)
        spec = "nhwc,yh->nywc" if axis == 1 else "nhwc,xw->nhxc"
        return contract(x, matrix, spec=spec)
    column = (-1,) + (1,) * (3 - axis)
    total: Value | None = None
    for t in range(count):
        w = weight[:, t].reshape(column)
        part = take(x, constant(index[:, t]), axis=axis)
        # a weight of 0 takes no part: an infinite neighbour must not make it NaN
        term = pw.where(constant(w != 0), part * constant(w, dtype=x.dtype), constant(0, x.dtype))
        total = term if total is None else total + term
    assert total is not None
    return total


def _matrix(index: np.ndarray, weight: np.ndarray, size: int) -> np.ndarray:
    """The weights as a matrix [new, size]."""
    result = np.zeros((index.shape[0], size), np.float32)
    np.add.at(result, (np.arange(index.shape[0])[:, None], index), weight)
    return result


def _resize_grad(node: Node) -> Value:
    g, like = node.inputs
    old, new = like.type.static_shape, g.type.static_shape
    (iy, wy), (ix, wx) = _axes_taps(old, new, node.attrs)
    rows = constant(_matrix(iy, wy, old[1]), dtype=g.dtype)
    columns = constant(_matrix(ix, wx, old[2]), dtype=g.dtype)
    half = contract(g, rows, spec="nyxc,yh->nhxc")
    return contract(half, columns, spec="nhxc,xw->nhwc")


def _grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    more = [None] * (len(node.inputs) - 1)
    return [resize_grad(grads[0], node.inputs[0], **{**node.attrs, "size": None}), *more]


def _grad_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    g, _ = node.inputs
    return [resize_like(grads[0], g, **node.attrs), None]


def _like_type(types: Types, attrs: Attrs) -> TensorType:
    shape = types[1].shape
    size = None if shape is None else shape[1:3]
    return _type(types[:1], {**attrs, "size": size})


def _resize_like(node: Node) -> Value:
    x, like = node.inputs
    return resize(x, **{**node.attrs, "size": like.type.static_shape[1:3]})


def _samples() -> Iterable[Sample]:
    rng = np.random.default_rng(41)
    for method in METHODS:
        for shape, size in (((2, 4, 5, 3), (7, 3)), ((1, 9, 3, 1), (2, 6)), ((1, 1, 2, 2), (1, 5))):
            x = rng.standard_normal(shape).astype(np.float32)
            yield Sample((x,), {"method": method, "size": size})
            yield Sample((x,), {"method": method, "size": size, "align_corners": True})
        if method != "area":
            yield Sample((x,), {"method": method, "size": (3, 3), "half_pixel_centers": True})
    yield Sample((rng.standard_normal((1, 30, 2, 1)).astype(np.float32),),
                 {"method": "area", "size": (2, 2)})  # fmt: skip
    yield Sample((rng.integers(0, 255, (1, 3, 3, 1)).astype(np.uint8),), {"size": (5, 2)})


def _grad_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(43)
    for s in _samples():
        (x,), attrs = s.inputs, dict(s.attrs)
        if x.dtype == np.float32:
            g = rng.standard_normal((x.shape[0], *attrs.pop("size"), x.shape[3]))
            yield Sample((g.astype(np.float32), x), attrs, (0,))


def _like_samples() -> Iterable[Sample]:
    for s in _grad_samples():
        yield Sample(s.inputs[::-1], s.attrs, (0,))


resize: Op = register(
    Op(
        "resize", Kind.COMPOSITE, _type, attrs=_ATTRS, grad=_grad, decompose=_resize,
        host_inputs={1: "size"}, samples=_samples,
        doc="""Images [n, h, w, c] in another size (height, width), by TensorFlow 1.15's rules.

        `method`: "bilinear", "nearest", "bicubic", "area". Integers become float32 but for
        "nearest".""",
    )
)  # fmt: skip
resize_grad: Op = register(
    Op(
        "resize_grad", Kind.COMPOSITE, lambda types, _: types[1], attrs=_ATTRS, grad=_grad_grad,
        decompose=_resize_grad, samples=_grad_samples,
        doc="The gradient of resize: (gradient, images for their shape).",
    )
)  # fmt: skip
resize_like: Op = register(
    Op(
        "resize_like", Kind.COMPOSITE, _like_type, attrs=_ATTRS, decompose=_resize_like,
        grad=lambda node, grads: [resize_grad(grads[0], node.inputs[0], **node.attrs), None],
        samples=_like_samples, doc="The first images in the size of the second.",
    )
)  # fmt: skip

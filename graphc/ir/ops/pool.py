"""Pooling over windows of an image, and its gradients.

The maximum's gradient goes to the first maximum of the window, row by row; that position is
found again in the backward pass from the windows themselves, and no index is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.ir.dtypes import int32
from graphc.ir.errors import ShapeError
from graphc.ir.graph import Node, Value, constant, convert
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import reduce as red
from graphc.ir.ops import source
from graphc.ir.ops.conv import (
    Window,
    check_window,
    output_size,
    spatial_axes,
    spread_windows,
    window_of,
    windows,
)
from graphc.ir.ops.windows import window_count
from graphc.ir.table import REQUIRED, Attrs, Kind, Op, Sample, Types, register
from graphc.ir.types import UNKNOWN, TensorType

_ATTRS: Attrs = {
    "window": REQUIRED, "strides": REQUIRED, "padding": "VALID", "data_format": "NHWC",
}  # fmt: skip


def _pool_type(types: Types, attrs: Attrs) -> TensorType:
    pw.check_category(types, "float")
    h, w = spatial_axes(attrs["data_format"])
    check_window(attrs, attrs["window"])
    shape = types[0].shape
    if shape is None:
        return types[0].with_shape((UNKNOWN,) * 4)
    if len(shape) != 4:
        raise ShapeError(f"pooling needs images of rank 4, got {types[0]}")
    dims = list(shape)
    for i, axis in enumerate((h, w)):
        dims[axis] = output_size(shape[axis], attrs["window"][i], attrs, i)
    return types[0].with_shape(tuple(dims))


def _window(x: Value, attrs: Attrs) -> Window:
    return window_of(x.type.static_shape, attrs["window"], attrs)


@dataclass(frozen=True, slots=True)
class _View:
    """An image as its windows: the value, and the axes that lie inside a window."""

    value: Value
    inside: tuple[int, int]


def _view(x: Value, attrs: Attrs, fill: float) -> _View:
    """The windows; where they tile the image, only a reshape of it: [n, p, i, q, j, c]."""
    if _tiles(x, attrs):
        return _View(mv.reshape(x, shape=_tiled_shape(x, attrs)), _tiled_axes(attrs))
    return _View(windows(x, _window(x, attrs), attrs["data_format"], fill), (4, 5))


def _tiles(x: Value, attrs: Attrs) -> bool:
    """True when every pixel lies in exactly one window."""
    window = _window(x, attrs)
    sizes = [x.type.static_shape[axis] for axis in spatial_axes(attrs["data_format"])]
    whole = all(n % k == 0 for n, k in zip(sizes, window.size, strict=True))
    return whole and window.size == window.stride and window.low == window.high == (0, 0)


def _tiled_axes(attrs: Attrs) -> tuple[int, int]:
    h, w = spatial_axes(attrs["data_format"])
    return h + 1, w + 2


def _tiled_shape(x: Value, attrs: Attrs) -> tuple[int, ...]:
    h, w = spatial_axes(attrs["data_format"])
    (i, j), shape = attrs["window"], x.type.static_shape
    parts = {h: (shape[h] // i, i), w: (shape[w] // j, j)}
    return tuple(d for axis, n in enumerate(shape) for d in parts.get(axis, (n,)))


def _max_pool(node: Node) -> Value:
    view = _view(node.inputs[0], node.attrs, float("-inf"))
    return red.reduce_max(view.value, axis=view.inside)


def _offsets(view: _View, shape: Sequence[int]) -> Value:
    """The row-major position inside its window, so that it broadcasts to `shape`."""
    size = shape[view.inside[0]], shape[view.inside[1]]
    if view.inside == (4, 5):  # the last dims: one range over both, which needs no arithmetic
        return mv.reshape(source.iota(shape=(size[0] * size[1],), dtype=int32), shape=size)
    i, j = (source.iota(shape=tuple(shape), axis=axis, dtype=int32) for axis in view.inside)
    return i * size[1] + j


def _first(view: _View, y: Value, window: Sequence[int]) -> Value:
    """The position of the window's first maximum, or NaN, with the inner axes kept as 1."""
    shape = view.value.type.static_shape
    top = mv.expand_dims(y, axis=view.inside)
    hit = pw.logical_or(pw.equal(view.value, top), pw.is_nan(view.value))
    none = convert(window[0] * window[1], dtype=int32)
    ranked = pw.where(hit, _offsets(view, shape), none)
    return red.reduce_min(ranked, axis=view.inside, keepdims=True)


def _max_pool_grad(node: Node) -> Value:
    x, y, g = node.inputs
    attrs = node.attrs
    view = _view(x, attrs, float("-inf"))
    first = _first(view, y, attrs["window"])
    zero = convert(0, like=g.dtype)
    if _tiles(x, attrs):
        own = pw.equal(first, _offsets(view, view.value.type.static_shape))
        chosen = pw.where(own, mv.expand_dims(g, axis=view.inside), zero)
        return mv.reshape(chosen, shape=x.type.static_shape)
    window, image = _window(x, attrs), x.type.static_shape
    flat = mv.reshape(first, shape=y.type.static_shape)
    position = spread_windows(flat, window, image, attrs["data_format"])
    spread = spread_windows(g, window, image, attrs["data_format"])
    own = pw.equal(position, _offsets(view, position.type.static_shape))
    return red.reduce_sum(pw.where(own, spread, zero), axis=(4, 5))


def _max_pool_pick(node: Node) -> Value:
    x, y, h = node.inputs
    view = _view(x, node.attrs, float("-inf"))
    first = _first(view, y, node.attrs["window"])
    own = pw.equal(first, _offsets(view, view.value.type.static_shape))
    given = _view(h, node.attrs, 0).value
    return red.reduce_sum(pw.where(own, given, convert(0, like=h.dtype)), axis=view.inside)


def _weights(x: Value, attrs: Attrs) -> np.ndarray:
    """One over the number of pixels in each window, padding not counted: [p, q]."""
    window = _window(x, attrs)
    sizes = [x.type.static_shape[axis] for axis in spatial_axes(attrs["data_format"])]
    along = []
    for i, size in enumerate(sizes):
        total = size + window.low[i] + window.high[i]
        starts = np.arange(window_count(total, window.size[i], window.stride[i], 1))
        first = starts * window.stride[i] - window.low[i]
        last = np.minimum(first + window.size[i], size)
        along.append(np.maximum(last - np.maximum(first, 0), 1))
    weights: np.ndarray = 1.0 / np.outer(*along)
    return weights


def _weights_value(x: Value, attrs: Attrs) -> Value:
    """The weights as a constant that broadcasts over the pooled image; a scalar when all agree."""
    weights = _weights(x, attrs)
    if weights.size and (weights == weights[0, 0]).all():
        weights = weights[0, 0]
    elif attrs["data_format"] == "NHWC":
        weights = weights[..., None]
    return constant(np.asarray(weights, x.dtype.numpy), dtype=x.dtype)


def _avg_pool(node: Node) -> Value:
    x = node.inputs[0]
    view = _view(x, node.attrs, 0)
    return red.reduce_sum(view.value, axis=view.inside) * _weights_value(x, node.attrs)


def _avg_pool_grad(node: Node) -> Value:
    x, g = node.inputs
    attrs = node.attrs
    weights = _weights_value(x, attrs)
    if _tiles(x, attrs):
        wide = mv.expand_dims(g * weights, axis=_tiled_axes(attrs))
        spread = mv.broadcast_to_shape(wide, _tiled_shape(x, attrs))
        return mv.reshape(spread, shape=x.type.static_shape)
    window, image = _window(x, attrs), x.type.static_shape
    spread = spread_windows(g, window, image, attrs["data_format"])
    if weights.type.shape == ():
        return red.reduce_sum(spread, axis=(4, 5)) * weights
    # weighted behind the movement: before it, the product would have to be stored
    all_weights = mv.broadcast_to_shape(weights, g.type.static_shape)
    spread_weights = spread_windows(all_weights, window, image, attrs["data_format"])
    return red.reduce_sum(spread * spread_weights, axis=(4, 5))


_CASES: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
    ((2, 4, 6, 3), {"window": (2, 2), "strides": (2, 2)}),
    ((1, 5, 7, 2), {"window": (3, 2), "strides": (2, 2), "padding": "SAME"}),
    ((2, 3, 5, 5), {"window": (3, 3), "strides": (1, 2), "padding": "SAME", "data_format": "NCHW"}),
    ((1, 6, 5, 1), {"window": (2, 3), "strides": (1, 1)}),
)


def _samples(with_output: bool = False, with_gradient: bool = False, image: bool = False) -> Any:
    def samples() -> Iterable[Sample]:
        rng = np.random.default_rng(29)
        for shape, attrs in _CASES:
            # distinct values: at a tie the maximum has no derivative
            x = rng.permutation(int(np.prod(shape))).reshape(shape).astype(np.float32) / 8
            inputs = [x]
            y = _pooled(x, attrs)
            if with_output:
                inputs.append(y)
            if with_gradient:
                inputs.append(rng.standard_normal(y.shape).astype(np.float32))
            if image:
                inputs.append(rng.standard_normal(shape).astype(np.float32))
            last = len(inputs) - 1
            yield Sample(tuple(inputs), attrs, (last,) if last else None)

    return samples


def _pooled(x: np.ndarray, attrs: dict[str, Any]) -> np.ndarray:
    from graphc.ir.interpret import evaluate

    return evaluate([max_pool(x, **attrs)])[0]


max_pool: Op = register(
    Op(
        "max_pool", Kind.COMPOSITE, _pool_type, attrs=_ATTRS,
        grad=lambda node, grads: [
            max_pool_grad(node.inputs[0], node.outputs[0], grads[0], **node.attrs)
        ],
        decompose=_max_pool, samples=_samples(),
        doc="The maximum of each window; NaN when it holds one.",
    )
)  # fmt: skip
max_pool_grad: Op = register(
    Op(
        "max_pool_grad", Kind.COMPOSITE, lambda types, _: types[0], attrs=_ATTRS,
        grad=lambda node, grads: [
            None, None, max_pool_pick(*node.inputs[:2], grads[0], **node.attrs)
        ],
        decompose=_max_pool_grad, samples=_samples(True, True),
        doc="The gradient of max_pool: (image, pooled, gradient) to the first maximum.",
    )
)  # fmt: skip
max_pool_pick: Op = register(
    Op(
        "max_pool_pick", Kind.COMPOSITE, lambda types, _: types[1], attrs=_ATTRS,
        grad=lambda node, grads: [
            None, None, max_pool_grad(*node.inputs[:2], grads[0], **node.attrs)
        ],
        decompose=_max_pool_pick, samples=_samples(True, image=True),
        doc="What the third input, an image, has at each window's first maximum of the first.",
    )
)  # fmt: skip
avg_pool: Op = register(
    Op(
        "avg_pool", Kind.COMPOSITE, _pool_type, attrs=_ATTRS,
        grad=lambda node, grads: [avg_pool_grad(node.inputs[0], grads[0], **node.attrs)],
        decompose=_avg_pool, samples=_samples(),
        doc="The mean of each window; padding does not count.",
    )
)  # fmt: skip
avg_pool_grad: Op = register(
    Op(
        "avg_pool_grad", Kind.COMPOSITE, lambda types, _: types[0], attrs=_ATTRS,
        grad=lambda node, grads: [None, avg_pool(grads[0], **node.attrs)],
        decompose=_avg_pool_grad, samples=_samples(False, True),
        doc="The gradient of avg_pool: (image for its shape, gradient).",
    )
)  # fmt: skip

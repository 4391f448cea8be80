"""Pooling over windows of an image, and its gradients.

The maximum's gradient goes to the first maximum of the window, row by row; that position is
found again in the backward pass from the windows themselves, and no index is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
from graphc.ir.table import REQUIRED, Attrs, Kind, NoGradient, Op, Sample, Types, register
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


def _max_pool(node: Node) -> Value:
    x = node.inputs[0]
    view = windows(x, _window(x, node.attrs), node.attrs["data_format"], float("-inf"))
    return red.reduce_max(view, axis=(4, 5))


def _offsets(shape: Sequence[int]) -> Value:
    """The row-major position inside its window, for [..., i, j]."""
    i = source.iota(shape=tuple(shape), axis=4, dtype=int32)
    j = source.iota(shape=tuple(shape), axis=5, dtype=int32)
    return i * shape[5] + j


def _max_pool_grad(node: Node) -> Value:
    x, y, g = node.inputs
    attrs = node.attrs
    window = _window(x, attrs)
    view = windows(x, window, attrs["data_format"], float("-inf"))
    shape = view.type.static_shape
    top = mv.reshape(y, shape=(*y.type.static_shape, 1, 1))
    hit = pw.logical_or(pw.equal(view, top), pw.is_nan(view))
    none = convert(window.size[0] * window.size[1], dtype=int32)
    first = red.reduce_min(pw.where(hit, _offsets(shape), none), axis=(4, 5))
    image = x.type.static_shape
    chosen = spread_windows(first, window, image, attrs["data_format"])
    spread = spread_windows(g, window, image, attrs["data_format"])
    own = pw.equal(chosen, _offsets(chosen.type.static_shape))
    return red.reduce_sum(pw.where(own, spread, convert(0, like=g.dtype)), axis=(4, 5))


def _counts(x: Value, attrs: Attrs) -> Value:
    """One over the number of pixels in each window, padding not counted."""
    window = _window(x, attrs)
    sizes = [x.type.static_shape[axis] for axis in spatial_axes(attrs["data_format"])]
    along = []
    for i, size in enumerate(sizes):
        total = size + window.low[i] + window.high[i]
        starts = np.arange(mv.window_count(total, window.size[i], window.stride[i], 1))
        first = starts * window.stride[i] - window.low[i]
        last = np.minimum(first + window.size[i], size)
        along.append(last - np.maximum(first, 0))
    weights = 1.0 / np.outer(*along)
    if attrs["data_format"] == "NHWC":
        weights = weights[..., None]
    return constant(weights.astype(x.dtype.numpy), dtype=x.dtype)


def _avg_pool(node: Node) -> Value:
    x = node.inputs[0]
    view = windows(x, _window(x, node.attrs), node.attrs["data_format"])
    return red.reduce_sum(view, axis=(4, 5)) * _counts(x, node.attrs)


def _avg_pool_grad(node: Node) -> Value:
    x, g = node.inputs
    attrs = node.attrs
    weighted = g * _counts(x, attrs)
    spread = spread_windows(weighted, _window(x, attrs), x.type.static_shape, attrs["data_format"])
    return red.reduce_sum(spread, axis=(4, 5))


_CASES: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
    ((2, 4, 6, 3), {"window": (2, 2), "strides": (2, 2)}),
    ((1, 5, 7, 2), {"window": (3, 2), "strides": (2, 2), "padding": "SAME"}),
    ((2, 3, 5, 5), {"window": (3, 3), "strides": (1, 2), "padding": "SAME", "data_format": "NCHW"}),
    ((1, 6, 5, 1), {"window": (2, 3), "strides": (1, 1)}),
)


def _samples(with_output: bool = False, with_gradient: bool = False) -> Any:
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
            last = len(inputs) - 1
            yield Sample(tuple(inputs), attrs, (last,) if with_gradient else None)

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
        grad=NoGradient("the second derivative of a maximum is not offered"),
        decompose=_max_pool_grad, samples=_samples(True, True),
        doc="The gradient of max_pool: (image, pooled, gradient) to the first maximum.",
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

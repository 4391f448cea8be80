"""Windows: `unfold` makes them of the spatial dims, its adjoint adds them up again.

A convolution is a contraction of `unfold(pad(x))` with the filter, a pooling a reduction of it;
both, and their gradients, need nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.ir import views
from graphc.ir.dtypes import int32
from graphc.ir.errors import AttributeValueError
from graphc.ir.graph import Node, Value, convert
from graphc.ir.loop import Guard, Linear
from graphc.ir.ops.movement import movement, reshape_to, sample_array
from graphc.ir.table import OPS, REQUIRED, Attrs, Op, Sample, Types
from graphc.ir.types import UNKNOWN, TensorType
from graphc.ir.views import Map, View


def window_count(size: int, window: int, stride: int, dilation: int) -> int:
    """Number of windows that lie wholly inside `size`."""
    return max((size - (window - 1) * dilation - 1) // stride + 1, 0)


def _unfold_type(types: Types, attrs: Attrs) -> TensorType:
    shape = types[0].shape
    if shape is None:
        return types[0]
    dims = list(shape)
    for axis, window, stride, dilation in _windows(attrs):
        if axis >= len(shape):
            raise AttributeValueError(f"unfold has no axis {axis} in {types[0]}")
        dim = shape[axis]
        dims[axis] = (
            UNKNOWN if isinstance(dim, str) else window_count(dim, window, stride, dilation)
        )
        dims.append(window)
    return types[0].with_shape(tuple(dims))


def _windows(attrs: Attrs) -> list[tuple[int, int, int, int]]:
    columns = (attrs["axes"], attrs["window"], attrs["stride"], attrs["dilation"])
    return list(zip(*columns, strict=True))


def _unfold_numpy(attrs: Attrs, x: np.ndarray) -> np.ndarray:
    shape, strides = list(x.shape), list(x.strides)
    for axis, window, stride, dilation in _windows(attrs):
        shape[axis] = window_count(x.shape[axis], window, stride, dilation)
        strides[axis] = x.strides[axis] * stride
        shape.append(window)
        strides.append(x.strides[axis] * dilation)
    return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False).copy()


def _unfold_view(node: Node, inputs: Sequence[View]) -> View | None:
    shape = node.types[0].static_shape
    rank, outer = len(shape), len(inputs[0].shape)
    dims = [views.unit(rank, d) for d in range(outer)]
    for i, (axis, _, stride, dilation) in enumerate(_windows(node.attrs)):
        strides = [0] * rank
        strides[axis], strides[outer + i] = stride, dilation
        dims[axis] = Linear(tuple(strides))
    return views.compose(inputs[0], shape, Map(tuple(dims)))


def _unfold_adjoint(g: Value, x: tuple[Value, ...], attrs: Attrs) -> list[Value | None]:
    """Each element sums the windows that hold it: dx[h] = sum_i g[(h - i*dilation)/stride, i].

    Along every windowed axis: dilate by the stride, pad by the window's reach, then take the
    windows of the result and keep, in each, the element whose window offset is its own.
    """
    return [fold(g, shape=x[0].type.static_shape, **attrs)]


def _fold_type(types: Types, attrs: Attrs) -> TensorType:
    return types[0].with_shape(attrs["shape"])


def _fold_diagonal(node: Node, inputs: Sequence[View]) -> View | None:
    shape = node.types[0].static_shape
    outer = len(node.attrs["shape"])
    rank = len(shape)
    dims = [views.unit(rank, d) for d in range(rank)]
    steps = [1] * rank
    guards = []
    for i, (axis, _, stride, dilation) in enumerate(_windows(node.attrs)):
        strides = [0] * rank
        strides[axis], strides[outer + i] = 1, -dilation
        dims[axis], steps[axis] = Linear(tuple(strides)), stride
        guards.append(Guard(dims[axis], inputs[0].shape[axis], stride))
    return views.compose(inputs[0], shape, Map(tuple(dims), tuple(guards), 0, tuple(steps)))


def _spread_numpy(attrs: Attrs, g: np.ndarray) -> np.ndarray:
    columns = _windows(attrs)
    outer = len(attrs["shape"])
    out = np.zeros((*attrs["shape"], *(w for _, w, _, _ in columns)), g.dtype)
    for offsets in np.ndindex(*(w for _, w, _, _ in columns)):
        target: list[Any] = [slice(None)] * outer
        for (axis, _, stride, dilation), offset in zip(columns, offsets, strict=True):
            first = offset * dilation
            target[axis] = slice(first, first + (g.shape[axis] - 1) * stride + 1, stride)
        if g.size:
            out[(*target, *offsets)] = g[(*[slice(None)] * outer, *offsets)]
    return out


def _spread_type(types: Types, attrs: Attrs) -> TensorType:
    return types[0].with_shape((*attrs["shape"], *attrs["window"]))


_WINDOW_ATTRS: Attrs = {
    "axes": REQUIRED,
    "window": REQUIRED,
    "stride": REQUIRED,
    "dilation": REQUIRED,
}


def _gather_windows(g: Value, x: tuple[Value, ...], attrs: Attrs) -> list[Value | None]:
    # the adjoint of the spreading takes back, from each position, what was put there
    shape = x[0].type.static_shape
    outer = len(attrs["shape"])
    rank = outer + len(attrs["window"])
    total = unfold(g, **{k: attrs[k] for k in _WINDOW_ATTRS})  # [..., window again]
    eye = _diagonal(total, outer, attrs["window"])
    axes = tuple(range(outer, rank))
    return [reshape_to(OPS["reduce_sum"](eye, axis=axes), shape)]


def _diagonal(total: Value, outer: int, window: Sequence[int]) -> Value:
    where, equal = OPS["where"], OPS["equal"]
    shape = total.type.static_shape
    count = len(window)
    result = total
    for i in range(count):
        left = OPS["iota"](shape=shape, axis=outer + i, dtype=int32)
        right = OPS["iota"](shape=shape, axis=outer + count + i, dtype=int32)
        result = where(equal(left, right), result, convert(0, like=total.dtype))
    return result


window_spread: Op = movement(
    "window_spread",
    _spread_type,
    _spread_numpy,
    _fold_diagonal,
    _gather_windows,
    attrs={**_WINDOW_ATTRS, "shape": REQUIRED},
    samples=lambda: [
        Sample(
            (sample_array(2, 3, 3),),
            {"axes": (1,), "window": (3,), "stride": (2,), "dilation": (1,), "shape": (2, 7)},
        ),
    ],
    doc="Where unfold took element i of window p from, element i of window p is put; else 0.",
)


def fold(g: Value, shape: Sequence[int], **attrs: Any) -> Value:
    """The sum over overlapping windows: the adjoint of unfold. Static shapes only."""
    spread = window_spread(g, shape=tuple(shape), **attrs)
    rank = len(shape)
    return OPS["reduce_sum"](spread, axis=tuple(range(rank, rank + len(attrs["window"]))))


unfold: Op = movement(
    "unfold",
    _unfold_type,
    _unfold_numpy,
    _unfold_view,
    _unfold_adjoint,
    attrs=_WINDOW_ATTRS,
    samples=lambda: [
        Sample(
            (sample_array(2, 7),), {"axes": (1,), "window": (3,), "stride": (2,), "dilation": (1,)}
        ),
        Sample(
            (sample_array(1, 5, 6, 2),),
            {"axes": (1, 2), "window": (2, 3), "stride": (1, 2), "dilation": (2, 1)},
        ),
    ],
    doc="All windows along the axes: their positions in place, their insides as last dims.",
)

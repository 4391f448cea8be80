"""Indexing by data: gather, and the scatter-add that is its gradient.

An index outside the axis gives 0, and its gradient goes nowhere, on every back end: a kernel on
a GPU cannot raise, and reading what lies beyond would differ by device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from graphc.ir.errors import DTypeError, ShapeError
from graphc.ir.graph import Node, Value
from graphc.ir.table import REQUIRED, Attrs, Kind, Op, Sample, Types, register
from graphc.ir.types import TensorType, normalize_axis


def _take_type(types: Types, attrs: Attrs) -> TensorType:
    x, indices = types
    if not indices.dtype.is_integer:
        raise DTypeError(f"gather needs integer indices, got {indices.dtype}")
    if x.shape is None or indices.shape is None:
        return x.with_shape(None)
    if not x.shape:
        raise ShapeError("gather needs a tensor with an axis, got a scalar")
    axis = normalize_axis(attrs["axis"], len(x.shape))
    return x.with_shape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def _take_numpy(attrs: Attrs, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    axis = attrs["axis"] % x.ndim
    size = x.shape[axis]
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    if size == 0:
        return np.zeros(shape, x.dtype)
    inside = (indices >= 0) & (indices < size)
    found = np.take(x, np.where(inside, indices, 0), axis=axis)
    mask = inside.reshape((1,) * axis + indices.shape + (1,) * (x.ndim - axis - 1))
    return np.where(mask, found, np.zeros((), x.dtype))


def _grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    (x, indices), g = node.inputs, grads[0]
    return [gather_grad(g, indices, x, axis=node.attrs["axis"]), None]


def _samples() -> Iterable[Sample]:
    rng = np.random.default_rng(31)
    for shape, indices, axis in (
        ((5, 3), np.array([4, 0, 0, 2]), 0), ((2, 7, 3), np.array([[1, 6], [6, 6]]), 1),
        ((6,), np.array(3), 0), ((4, 2), np.array([], np.int64), 0),
        ((4, 3), np.array([-1, 9, 2]), -1),
    ):  # fmt: skip
        x = rng.standard_normal(shape).astype(np.float32)
        yield Sample((x, indices.astype(np.int32)), {"axis": axis})


take: Op = register(
    Op(
        "take",
        Kind.INDEX,
        _take_type,
        numpy=_take_numpy,
        attrs={"axis": REQUIRED},
        grad=_grad,
        samples=lambda: [s for s in _samples() if s.attrs["axis"] >= 0],
        doc="gather along an axis counted from the front.",
    )
)

gather: Op = register(
    Op(
        "gather",
        Kind.COMPOSITE,
        _take_type,
        numpy=_take_numpy,
        attrs={"axis": 0},
        grad=_grad,
        decompose=lambda node: take(
            *node.inputs, axis=normalize_axis(node.attrs["axis"], node.inputs[0].type.rank or 1)
        ),
        samples=_samples,
        doc="The slices of x at the indices along an axis; zeros where an index is out of range.",
    )
)


def _scatter_type(types: Types, attrs: Attrs) -> TensorType:
    g, indices = types
    shape, axis = g.shape, attrs["axis"]
    if shape is None or indices.shape is None:
        return g.with_shape(None)
    return g.with_shape((*shape[:axis], attrs["size"], *shape[axis + len(indices.shape) :]))


def _scatter_numpy(attrs: Attrs, g: np.ndarray, indices: np.ndarray) -> np.ndarray:
    axis, size = attrs["axis"], attrs["size"]
    lead, tail = g.shape[:axis], g.shape[axis + indices.ndim :]
    rows = g.reshape(math.prod(lead), indices.size, math.prod(tail))
    out = np.zeros((rows.shape[0], size, rows.shape[2]), np.result_type(g.dtype, np.float32))
    flat = indices.reshape(-1)
    inside = (flat >= 0) & (flat < size)
    # one after the other, in the order of the indices: the same sum at every run
    where: Any = (slice(None), flat[inside])
    np.add.at(out, where, rows[:, inside])
    return out.reshape(*lead, size, *tail).astype(g.dtype, copy=False)


def _scatter_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(37)
    g = rng.standard_normal((2, 4, 3)).astype(np.float32)
    yield Sample((g, np.array([1, 1, 9, 0], np.int32)), {"axis": 1, "size": 3})
    yield Sample((g, np.array([[0, 1, 1, -1], [2, 2, 2, 2]], np.int64)), {"axis": 0, "size": 4})


scatter_add: Op = register(
    Op(
        "scatter_add",
        Kind.OPAQUE,
        _scatter_type,
        numpy=_scatter_numpy,
        attrs={"axis": REQUIRED, "size": REQUIRED},
        grad=lambda node, grads: [
            take(grads[0], node.inputs[1], axis=node.attrs["axis"]), None,
        ],
        samples=_scatter_samples,
        doc="Zeros of `size` along the axis, to which the slices of g are added at the indices.",
    )
)  # fmt: skip


def _gather_grad(node: Node) -> Value:
    g, indices, x = node.inputs
    axis = normalize_axis(node.attrs["axis"], len(x.type.static_shape))
    return scatter_add(g, indices, axis=axis, size=x.type.static_shape[axis])


gather_grad: Op = register(
    Op(
        "gather_grad",
        Kind.COMPOSITE,
        lambda types, _: types[2],
        attrs={"axis": REQUIRED},
        grad=lambda node, grads: [
            gather(grads[0], node.inputs[1], axis=node.attrs["axis"]), None, None,
        ],
        decompose=_gather_grad,
        doc="The gradient of gather: (gradient, indices, x for its shape).",
    )
)  # fmt: skip

"""Indexing by data: gather, and the scatter-add that is its gradient.

An index outside the axis gives 0, and its gradient goes nowhere, on every back end: a kernel on
a GPU cannot raise, and reading what lies beyond would differ by device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from graphc.ir.dtypes import blank, int64
from graphc.ir.errors import DTypeError, ShapeError
from graphc.ir.graph import Node, Value, constant
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.table import (
    OPS,
    REQUIRED,
    STRINGS,
    Attrs,
    Kind,
    Op,
    Sample,
    Types,
    register,
)
from graphc.ir.types import (
    TensorType,
    check_sizes,
    merge_shapes,
    normalize_axis,
    row_major_strides,
)


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
        return np.full(shape, blank(x.dtype), x.dtype)
    inside = (indices >= 0) & (indices < size)
    found = np.take(x, np.where(inside, indices, 0), axis=axis)
    mask = inside.reshape((1,) * axis + indices.shape + (1,) * (x.ndim - axis - 1))
    return np.where(mask, found, np.full((), blank(x.dtype), x.dtype))


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
        facts=frozenset({STRINGS}),
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
        facts=frozenset({STRINGS}),
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

# -- indices of several dims at once


def _check_indices(what: str, x: TensorType, indices: TensorType) -> int | None:
    """How many of x's dims an index names; None while that is not known."""
    if not indices.dtype.is_integer:
        raise DTypeError(f"{what} needs integer indices, got {indices.dtype}")
    if indices.shape == ():
        raise ShapeError(f"{what} needs indices of rank 1 or more, got a scalar")
    depth = indices.shape[-1] if indices.shape else None
    if not isinstance(depth, int):
        return None
    if x.shape is not None and depth > len(x.shape):
        raise ShapeError(f"{what}: an index of {depth} numbers for {x}")
    return depth


def _gather_nd_type(types: Types, _: Attrs) -> TensorType:
    x, indices = types
    depth = _check_indices("gather_nd", x, indices)
    if depth is None or x.shape is None or indices.shape is None:
        return x.with_shape(None)
    return x.with_shape((*indices.shape[:-1], *x.shape[depth:]))


def _row_numbers(indices: Value, sizes: Sequence[int]) -> Value:
    """The number of the row that each index names, in row-major order; -1 outside."""
    wide = indices if indices.dtype is int64 else pw.cast(indices, dtype=int64)
    if not sizes:
        return OPS["reduce_sum"](wide, axis=(-1,))  # of nothing: row 0
    limits = constant(np.array(sizes, np.int64))
    strides = constant(np.array(row_major_strides(sizes), np.int64))
    inside = OPS["reduce_all"](pw.logical_and(wide >= 0, wide < limits), axis=(-1,))
    return pw.where(inside, OPS["reduce_sum"](wide * strides, axis=(-1,)), -1)


def _gather_nd(node: Node) -> Value:
    x, indices = node.inputs
    shape, depth = x.type.static_shape, indices.type.static_shape[-1]
    rows = mv.reshape(x, shape=(math.prod(shape[:depth]), *shape[depth:]))
    return gather(rows, _row_numbers(indices, shape[:depth]), axis=0)


def _gather_nd_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(101)
    x = rng.standard_normal((3, 4, 2)).astype(np.float32)
    for indices in ([[0, 1], [2, 3], [2, 3]], [[1], [2]], [[[0, 3, 1]], [[2, 0, 0]]],
                    [[0, 4], [-1, 0], [1, 1]]):  # fmt: skip
        yield Sample((x, np.array(indices, np.int32)))
    yield Sample((x, np.zeros((2, 0), np.int32)))
    yield Sample((x, np.zeros((0, 2), np.int64)))


gather_nd: Op = register(
    Op(
        "gather_nd", Kind.COMPOSITE, _gather_nd_type, decompose=_gather_nd,
        grad=lambda node, grads: [gather_nd_grad(grads[0], node.inputs[1], node.inputs[0]), None],
        samples=_gather_nd_samples, facts=frozenset({STRINGS}),
        doc="""x[i0, i1, ...] for each index (i0, i1, ...) along the last dim of the indices.

        Zeros where an index is out of range.""",
    )
)  # fmt: skip


def _gather_nd_grad(node: Node) -> Value:
    g, indices, x = node.inputs
    return scatter_nd(indices, g, shape=x.type.static_shape)


gather_nd_grad: Op = register(
    Op(
        "gather_nd_grad", Kind.COMPOSITE, lambda types, _: types[2], decompose=_gather_nd_grad,
        grad=lambda node, grads: [gather_nd(grads[0], node.inputs[1]), None, None],
        doc="The gradient of gather_nd: (gradient, indices, x for its shape).",
    )
)  # fmt: skip


def _scatter_nd_type(types: Types, attrs: Attrs) -> TensorType:
    indices, updates = types[:2]
    shape = attrs["shape"]
    if shape is None:
        return updates.with_shape(None)
    result = updates.with_shape(check_sizes(shape))
    depth = _check_indices("scatter_nd", result, indices)
    if depth is not None and indices.shape is not None:
        wanted = (*indices.shape[:-1], *shape[depth:])
        merge_shapes(updates.shape, wanted, "scatter_nd needs updates of the indices' slices")
    return result


def _scatter_nd(node: Node) -> Value:
    indices, updates = node.inputs[:2]
    shape, depth = node.types[0].static_shape, indices.type.static_shape[-1]
    rows = _row_numbers(indices, shape[:depth])
    sums = scatter_add(updates, rows, axis=0, size=math.prod(shape[:depth]))
    return mv.reshape(sums, shape=shape)


def _scatter_nd_samples() -> Iterable[Sample]:
    for s in _gather_nd_samples():
        x, indices = s.inputs
        depth = indices.shape[-1]
        updates = np.linspace(-1, 1, math.prod(s_ := (*indices.shape[:-1], *x.shape[depth:])))
        yield Sample((indices, updates.reshape(s_).astype(np.float32)), {"shape": x.shape})


scatter_nd: Op = register(
    Op(
        "scatter_nd", Kind.COMPOSITE, _scatter_nd_type, attrs={"shape": None},
        decompose=_scatter_nd, host_inputs={2: "shape"},
        grad=lambda node, grads: [None, gather_nd(grads[0], node.inputs[0])]
        + [None] * (len(node.inputs) - 2),
        samples=_scatter_nd_samples,
        doc="""Zeros of a shape, to which the updates are added at the indices (see gather_nd).

        What an index out of range names is dropped.""",
    )
)  # fmt: skip

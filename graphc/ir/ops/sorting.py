"""Running sums and products, and sorting: routines on whole arrays.

    cumsum, cumprod     along one axis, from either end, with or without the element itself
    sort_pairs          the sorted elements and where they stood, all or the first k
    take_pairs          elements by positions along an axis; put_pairs is its adjoint

Sorting is stable; NaN counts as the greatest number, as in NumPy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from graphc.ir.dtypes import as_dtype, int32
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Node, Value
from graphc.ir.ops import pointwise as pw
from graphc.ir.table import REQUIRED, Attrs, Kind, Op, Sample, Types, register
from graphc.ir.types import Shape, TensorType, merge_dims, normalize_axis

# -- running sums and products


def _running_type(types: Types, attrs: Attrs) -> TensorType:
    pw.check_category(types, pw.NUMERIC)
    if types[0].shape is not None:
        normalize_axis(attrs["axis"], len(types[0].shape))
    return types[0]


def _running(function: Any, start: int) -> Any:
    def numpy(attrs: Attrs, x: np.ndarray) -> np.ndarray:
        axis = attrs["axis"] % x.ndim
        wide = x.astype(as_dtype(x.dtype).compute.numpy, copy=False)
        wide = np.flip(wide, axis) if attrs["reverse"] else wide
        result = function(wide, axis=axis, dtype=wide.dtype)
        if attrs["exclusive"]:
            first = np.full_like(result.take([], axis), start, shape=_with(result.shape, axis, 1))
            kept = result[(slice(None),) * axis + (slice(0, -1),)]
            result = np.concatenate([first, kept], axis) if x.shape[axis] else result
        result = np.flip(result, axis) if attrs["reverse"] else result
        return np.asarray(result).astype(x.dtype)

    return numpy


def _with(shape: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _running_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(83)
    for shape, axis in (((3, 5), 1), ((3, 5), 0), ((2, 3, 4), -2), ((6,), 0), ((0, 3), 0)):
        x = (rng.standard_normal(shape) + 0.5).astype(np.float32)
        yield Sample((x,), {"axis": axis})
        yield Sample((x,), {"axis": axis, "exclusive": True, "reverse": axis > 0})
    yield Sample((rng.integers(-3, 4, (4, 3)).astype(np.int32),), {"axis": 0, "reverse": True})
    special = np.array([1, np.nan, 2, np.inf], np.float32)
    yield Sample((special,), {"axis": 0}, (), "special")


_RUNNING_ATTRS: Attrs = {"axis": 0, "exclusive": False, "reverse": False}


def _backwards(attrs: Attrs) -> dict[str, Any]:
    return {**attrs, "reverse": not attrs["reverse"]}


def _cumsum_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    return [cumsum(grads[0], **_backwards(node.attrs))]


cumsum: Op = register(
    Op(
        "cumsum", Kind.OPAQUE, _running_type, numpy=_running(np.cumsum, 0), attrs=_RUNNING_ATTRS,
        grad=_cumsum_grad, samples=_running_samples,
        doc="""Running sums along an axis, `reverse` from its end.

        `exclusive`: of the elements before, without the element itself.""",
    )
)  # fmt: skip


def _cumprod_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    # d y_j / d x_i = y_j / x_i for j behind i; not defined by this where x_i is 0, as TensorFlow's
    g, y, x = grads[0], node.outputs[0], node.inputs[0]
    assert g is not None
    return [cumsum(g * y, **_backwards(node.attrs)) / x]


cumprod: Op = register(
    Op(
        "cumprod", Kind.OPAQUE, _running_type, numpy=_running(np.cumprod, 1), attrs=_RUNNING_ATTRS,
        grad=_cumprod_grad, samples=_running_samples, doc="Running products; see cumsum.",
    )
)  # fmt: skip

# -- sorting


def _sort_type(types: Types, attrs: Attrs) -> Types:
    pw.check_category(types, pw.NUMERIC)
    shape, k = types[0].shape, attrs["k"]
    if k is not None and (isinstance(k, bool) or not isinstance(k, int) or k < 0):
        raise AttributeValueError(f"k is a number of elements, got {k!r}")
    if shape is None:
        return types[0], TensorType(int32, None)
    if not shape:
        raise ShapeError("sorting needs an axis, got a scalar")
    axis = normalize_axis(attrs["axis"], len(shape))
    size = shape[axis]
    if k is not None and isinstance(size, int) and k > size:
        raise ShapeError(f"k={k} of {size} elements along axis {axis} of {types[0]}")
    new: Shape = shape if k is None else (*shape[:axis], k, *shape[axis + 1 :])
    return types[0].with_shape(new), TensorType(int32, new)


def _sort_numpy(attrs: Attrs, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    axis = attrs["axis"] % x.ndim
    wide = x.astype(as_dtype(x.dtype).compute.numpy, copy=False)
    if attrs["descending"]:  # of equal ones the first stays first: sorted from behind
        order = np.argsort(np.flip(wide, axis), axis, kind="stable")
        order = np.flip(x.shape[axis] - 1 - order, axis)
    else:
        order = np.argsort(wide, axis, kind="stable")
    if attrs["k"] is not None:
        order = order[(slice(None),) * axis + (slice(0, attrs["k"]),)]
    return np.take_along_axis(x, order, axis), order.astype(np.int32)


def _sort_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    if grads[0] is None:
        return [None]
    return [put_pairs(grads[0], node.outputs[1], node.inputs[0], axis=node.attrs["axis"])]


def _sort_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(89)
    for shape, axis in (((3, 5), -1), ((5, 3), 0), ((2, 3, 4), 1), ((7,), 0), ((0, 3), 1)):
        x = rng.standard_normal(shape).astype(np.float32)
        yield Sample((x,), {"axis": axis})
        yield Sample((x,), {"axis": axis, "descending": True, "k": 2})
    ties = rng.integers(0, 3, (4, 9)).astype(np.int32)
    for descending in (False, True):
        yield Sample((ties,), {"descending": descending})
        special = np.array([1, np.nan, -np.inf, np.inf, np.nan, 0], np.float32)
        yield Sample((special,), {"descending": descending}, (), "special")


sort_pairs: Op = register(
    Op(
        "sort_pairs", Kind.OPAQUE, _sort_type, numpy=_sort_numpy,
        attrs={"axis": -1, "descending": False, "k": None}, grad=_sort_grad,
        samples=_sort_samples,
        doc="The sorted elements along an axis and where they stood (int32); the first k of them.",
    )
)  # fmt: skip


def _pairs_type(types: Types, attrs: Attrs) -> TensorType:
    x, positions = types[:2]
    pw.check_category((positions,), "int")
    return x.with_shape(positions.shape)


def _take_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(97)
    x = rng.standard_normal((3, 5)).astype(np.float32)
    yield Sample((x, rng.integers(0, 5, (3, 2)).astype(np.int32)), {"axis": -1})
    yield Sample((x, rng.permuted(np.tile(np.arange(3), (5, 1)), axis=1).T.astype(np.int32)),
                 {"axis": 0})  # fmt: skip


take_pairs: Op = register(
    Op(
        "take_pairs", Kind.OPAQUE, _pairs_type,
        numpy=lambda attrs, x, at: np.take_along_axis(x, at.astype(np.int64), attrs["axis"]),
        attrs={"axis": REQUIRED},
        grad=lambda node, grads: [
            put_pairs(grads[0], node.inputs[1], node.inputs[0], axis=node.attrs["axis"]), None,
        ],
        samples=_take_samples,
        doc="The elements at positions along an axis; positions come from sort_pairs.",
    )
)  # fmt: skip


def _put_type(types: Types, attrs: Attrs) -> TensorType:
    g, positions, x = types
    for a, b in zip(g.shape or (), positions.shape or (), strict=False):
        merge_dims(a, b, "put_pairs needs one position per element")
    return g.with_shape(x.shape)


def _put_numpy(attrs: Attrs, g: np.ndarray, at: np.ndarray, x: np.ndarray) -> np.ndarray:
    result = np.zeros(x.shape, as_dtype(g.dtype).compute.numpy)
    axis = attrs["axis"] % x.ndim
    index: list[np.ndarray] = list(np.indices(at.shape, sparse=True))
    index[axis] = at.astype(np.int64)
    np.add.at(result, tuple(index), g)
    return result.astype(g.dtype, copy=False)


def _put_samples() -> Iterable[Sample]:
    for s in _take_samples():
        x, at = s.inputs
        yield Sample((np.linspace(-1, 2, at.size, dtype=np.float32).reshape(at.shape), at, x),
                     s.attrs, (0,))  # fmt: skip


put_pairs: Op = register(
    Op(
        "put_pairs", Kind.OPAQUE, _put_type, numpy=_put_numpy, attrs={"axis": REQUIRED},
        grad=lambda node, grads: [
            take_pairs(grads[0], node.inputs[1], axis=node.attrs["axis"]), None, None,
        ],
        samples=_put_samples,
        doc="Zeros in the shape of the third input, with the first's elements added at positions.",
    )
)  # fmt: skip

__all__ = ["cumprod", "cumsum", "put_pairs", "sort_pairs", "take_pairs"]

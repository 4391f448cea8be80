"""Reductions by segment: slices of the data that carry the same number are combined.

A number out of range is dropped, and its gradient is 0. What no slice has is the neutral element:
0, 1, the least or the greatest finite number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from graphc.ir.dtypes import DType, as_dtype
from graphc.ir.errors import DTypeError, ShapeError
from graphc.ir.graph import Node, Value, convert
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops.index import gather, scatter_add
from graphc.ir.table import Attrs, Kind, Op, Sample, Types, register
from graphc.ir.types import UNKNOWN, TensorType, check_sizes, merge_shapes


def _type(types: Types, attrs: Attrs) -> TensorType:
    x, ids = types[:2]
    pw.check_category((x,), pw.NUMERIC)
    if not ids.dtype.is_integer:
        raise DTypeError(f"segments are numbered by integers, got {ids.dtype}")
    count = attrs["count"]
    if x.shape is None or ids.shape is None:
        return x.with_shape(None)
    if len(ids.shape) > len(x.shape):
        raise ShapeError(f"segment numbers {ids} have more dims than the data {x}")
    merge_shapes(x.shape[: len(ids.shape)], ids.shape, "segment numbers go along the first dims")
    size = UNKNOWN if count is None else count
    return x.with_shape(check_sizes((size, *x.shape[len(ids.shape) :])))


def _samples() -> Iterable[Sample]:
    rng = np.random.default_rng(103)
    x = rng.standard_normal((5, 3)).astype(np.float32)
    yield Sample((x, np.array([0, 2, 2, 1, 0], np.int32)), {"count": 3})
    yield Sample((x, np.array([0, -1, 7, 1, 0], np.int64)), {"count": 2})
    yield Sample((x, np.array([0, 2, 2, 4, 0], np.int32)), {"count": 6}, ())  # some are empty
    yield Sample((x, np.arange(15, dtype=np.int32).reshape(5, 3) % 4), {"count": 4})
    yield Sample((x[:0], np.zeros(0, np.int32)), {"count": 2})
    yield Sample((rng.integers(-4, 5, (6, 2)), np.array([0, 1, 0, 1, 3, 3])), {"count": 4})


def _some_zeros() -> Iterable[Sample]:
    """The usual samples, and segments with one zero and with several."""
    yield from _samples()
    x = np.array([2, 0, 3, 0, 0, 4, 5], np.float32)
    yield Sample((x, np.array([0, 0, 0, 1, 1, 1, 2], np.int32)), {"count": 3})


def _with_specials() -> Iterable[Sample]:
    """The usual samples, and NaN, inf and ties."""
    yield from _samples()
    x = np.array([1, np.nan, 2, np.inf, 3, -np.inf], np.float32)
    yield Sample((x, np.array([0, 0, 1, 1, 2, 2], np.int32)), {"count": 3}, (), "special")


unsorted_segment_sum: Op = register(
    Op(
        "unsorted_segment_sum", Kind.COMPOSITE, _type, attrs={"count": None},
        decompose=lambda node: scatter_add(*node.inputs[:2], axis=0, size=node.attrs["count"]),
        grad=lambda node, grads: [gather(grads[0], node.inputs[1], axis=0)]
        + [None] * (len(node.inputs) - 1),
        host_inputs={2: "count"}, samples=_samples,
        doc="Per number below `count`, the sum of the slices whose segment number it is.",
    )
)  # fmt: skip


def _sum_again(node: Node, x: Value) -> Value:
    """The sums of x by the segments of `node`."""
    return unsorted_segment_sum(x, *node.inputs[1:], count=node.attrs["count"])


def _spread(node: Node, per_segment: Value) -> Value:
    """To every slice, what its segment has; 0 out of range."""
    return gather(per_segment, node.inputs[1], axis=0)


def _extremum_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    # shared equally among ties, as by TensorFlow
    x, y, g = node.inputs[0], node.outputs[0], grads[0]
    assert g is not None
    hit = pw.equal(x, _spread(node, y))
    count = _sum_again(node, pw.cast(hit, dtype=x.dtype))
    share = pw.where(hit, _spread(node, g / count), convert(0, like=x.dtype))
    return [share] + [None] * (len(node.inputs) - 1)


def _prod_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    # the product of the others: by division, and where there is one zero, of the rest for it;
    # with two, all others' products are 0
    x, g = node.inputs[0], grads[0]
    assert g is not None
    zero, one = convert(0, like=x.dtype), convert(1, like=x.dtype)
    is_zero = pw.equal(x, zero)
    safe = pw.where(is_zero, one, x)
    rest = g * unsorted_segment_prod(safe, *node.inputs[1:], count=node.attrs["count"])
    zeros = _spread(node, _sum_again(node, pw.cast(is_zero, dtype=x.dtype)))
    alone = pw.logical_and(is_zero, pw.equal(zeros, one))
    counts = pw.logical_or(pw.equal(zeros, zero), alone)
    return [pw.where(counts, _spread(node, rest) / safe, zero)] + [None] * (len(node.inputs) - 1)


def _opaque(name: str, function: Any, start: Any, grad: Any, samples: Any, what: str) -> Op:
    def numpy(attrs: Attrs, x: np.ndarray, ids: np.ndarray) -> np.ndarray:
        own = as_dtype(x.dtype)
        tail = x.shape[ids.ndim :]
        rows = x.astype(own.compute.numpy, copy=False).reshape(ids.size, math.prod(tail))
        out = np.full((attrs["count"], rows.shape[1]), start(own), rows.dtype)
        flat = ids.reshape(-1)
        inside = (flat >= 0) & (flat < attrs["count"])
        function.at(out, flat[inside], rows[inside])
        return out.reshape(attrs["count"], *tail).astype(x.dtype, copy=False)

    return register(
        Op(
            name, Kind.OPAQUE, _type, numpy=numpy, attrs={"count": None}, grad=grad,
            host_inputs={2: "count"}, samples=samples,
            doc=f"Per number below `count`, the {what} of the slices whose segment number it is.",
        )
    )  # fmt: skip


def _least(dtype: DType) -> Any:
    return dtype.min


def _greatest(dtype: DType) -> Any:
    return dtype.max


unsorted_segment_max = _opaque(
    "unsorted_segment_max", np.maximum, _least, _extremum_grad, _with_specials, "greatest"
)
unsorted_segment_min = _opaque(
    "unsorted_segment_min", np.minimum, _greatest, _extremum_grad, _with_specials, "smallest"
)
unsorted_segment_prod = _opaque(
    "unsorted_segment_prod", np.multiply, lambda _: 1, _prod_grad, _some_zeros, "product"
)


def count_argument(count: int | Value) -> tuple[tuple[Value, ...], dict[str, int]]:
    """The inputs and attributes with which the ops take a number of segments."""
    return ((count,), {}) if isinstance(count, Value) else ((), {"count": count})

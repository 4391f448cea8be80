"""Reductions by segment, by TensorFlow's names.

Those called unsorted take how many segments there are, and drop slices with other numbers; the
rest have as many segments as the greatest number says. The numbers stand in any order for both.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.frontend.arguments import constant_value
from graphc.frontend.framework import name_scope
from graphc.ir.dtypes import int32
from graphc.ir.errors import ShapeError
from graphc.ir.graph import Value, convert
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import reduce as red
from graphc.ir.ops import segments
from graphc.ir.table import Op


def _unsorted(op: Op, doc: str) -> Any:
    def call(data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Value:
        return _reduced(op, convert(data), convert(segment_ids), _number(num_segments), name)

    call.__name__ = call.__qualname__ = op.name
    call.__doc__ = doc
    return call


def _number(num_segments: Any) -> int | Value:
    known = constant_value(num_segments)
    return convert(num_segments) if known is None else int(known)


def _reduced(op: Op, data: Value, ids: Value, count: int | Value, name: str | None = None) -> Value:
    inputs, attrs = segments.count_argument(count)
    return op(data, ids, *inputs, **attrs, name=name)


unsorted_segment_sum = _unsorted(
    segments.unsorted_segment_sum, "Per segment number, the sum of its slices; 0 without any."
)
unsorted_segment_prod = _unsorted(
    segments.unsorted_segment_prod, "Per segment number, the product of its slices; 1 without any."
)
unsorted_segment_max = _unsorted(
    segments.unsorted_segment_max, "The greatest of each segment; the least number without any."
)
unsorted_segment_min = _unsorted(
    segments.unsorted_segment_min, "The smallest of each segment; the greatest number without any."
)


def unsorted_segment_mean(
    data: Any, segment_ids: Any, num_segments: Any, name: str | None = None
) -> Value:
    """Per segment number, the mean of its slices; 0 without any."""
    with name_scope(name, "unsorted_segment_mean") as scope:
        x, ids, count = convert(data), convert(segment_ids), _number(num_segments)
        total = _reduced(segments.unsorted_segment_sum, x, ids, count)
        return pw.truediv(total, _members(x, ids, count), name=scope)


def unsorted_segment_sqrt_n(
    data: Any, segment_ids: Any, num_segments: Any, name: str | None = None
) -> Value:
    """Per segment number, the sum of its slices by the root of their number; 0 without any."""
    with name_scope(name, "unsorted_segment_sqrt_n") as scope:
        x, ids, count = convert(data), convert(segment_ids), _number(num_segments)
        total = _reduced(segments.unsorted_segment_sum, x, ids, count)
        return pw.truediv(total, pw.sqrt(_members(x, ids, count)), name=scope)


def _members(x: Value, ids: Value, count: int | Value) -> Value:
    """How many elements each sum has, at least 1."""
    number = _reduced(segments.unsorted_segment_sum, mv.ones_like(x), ids, count)
    return pw.maximum(number, convert(1, like=x.dtype))


# -- as many segments as there are


def _segments_of(segment_ids: Any) -> tuple[Value, int | Value]:
    """The numbers as a tensor, and how many segments they name."""
    ids = convert(segment_ids)
    if ids.type.rank not in (1, None):
        raise ShapeError(f"segment numbers are a vector, got {ids!r}")
    known = constant_value(ids)
    if known is not None:
        return ids, int(np.max(known, initial=-1)) + 1
    greatest = pw.cast(red.reduce_max(ids), dtype=int32)
    return ids, pw.maximum(greatest, convert(-1, like=int32)) + 1


def segment_sum(data: Any, segment_ids: Any, name: str | None = None) -> Value:
    """Per segment number, the sum of its slices; 0 without any.

    Inside a loop or branch the numbers must not depend on what it computes.
    """
    ids, count = _segments_of(segment_ids)
    return _reduced(segments.unsorted_segment_sum, convert(data), ids, count, name)


def segment_prod(data: Any, segment_ids: Any, name: str | None = None) -> Value:
    """Per segment number, the product of its slices; 1 without any. See segment_sum."""
    ids, count = _segments_of(segment_ids)
    return _reduced(segments.unsorted_segment_prod, convert(data), ids, count, name)


def segment_mean(data: Any, segment_ids: Any, name: str | None = None) -> Value:
    """Per segment number, the mean of its slices; 0 without any. See segment_sum."""
    ids, count = _segments_of(segment_ids)
    return unsorted_segment_mean(data, ids, count, name)


def segment_max(data: Any, segment_ids: Any, name: str | None = None) -> Value:
    """Per segment number, the greatest of its slices; 0 without any. See segment_sum."""
    return _extremum(segments.unsorted_segment_max, data, segment_ids, name or "segment_max")


def segment_min(data: Any, segment_ids: Any, name: str | None = None) -> Value:
    """Per segment number, the smallest of its slices; 0 without any. See segment_sum."""
    return _extremum(segments.unsorted_segment_min, data, segment_ids, name or "segment_min")


def _extremum(op: Op, data: Any, segment_ids: Any, name: str) -> Value:
    with name_scope(name) as scope:
        ids, count = _segments_of(segment_ids)
        y = _reduced(op, convert(data), ids, count)
        if y.type.rank is None:
            raise ShapeError(f"{op.name} needs data and numbers of known rank, got {data!r}")
        members = _reduced(segments.unsorted_segment_sum, mv.ones_like(ids), ids, count)
        some = pw.greater(members, convert(0, like=ids.dtype))
        some = mv.expand_dims(some, axis=tuple(range(1, y.type.rank)))
        return pw.where(some, y, convert(0, like=y.dtype), name=scope)

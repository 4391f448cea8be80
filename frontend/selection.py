"""Elements chosen by their values: masks, distinct elements, partitions, by TensorFlow's names.

The size of such a result depends on values. Where these are fed or computed, a session finds the
size by a run of its own before the run (see `graphc.passes.stages`), and compiles for it: a new
size is a new program. Inside loops and branches sizes cannot depend on what is computed there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from graphc.frontend import array as ar
from graphc.frontend.arguments import constant_value, same_dtype, static_int
from graphc.frontend.framework import name_scope
from graphc.ir.dtypes import as_dtype, bool_, int32, int64
from graphc.ir.errors import DTypeError, ShapeError
from graphc.ir.graph import Value, convert
from graphc.ir.ops import choosing
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import reduce as red
from graphc.ir.table import OPS
from graphc.ir.types import merge_shapes, normalize_axis


class Unique(NamedTuple):
    """Distinct elements in the order of their first places, and each element's number."""

    y: Value
    idx: Value


class UniqueWithCounts(NamedTuple):
    """As `Unique`, and how often each distinct element stands there."""

    y: Value
    idx: Value
    count: Value  # type: ignore[assignment]  # TensorFlow's name hides the tuple's method


class ListDiff(NamedTuple):
    """What one vector has and another has not, and where it stood."""

    out: Value
    idx: Value


def positions(condition: Any, name: str | None = None) -> Value:
    """Where the condition holds, in row-major order: int64[count, rank]."""
    test = convert(condition)
    if test.dtype is not bool_:
        test = pw.not_equal(test, convert(0, like=test.dtype))
    known = constant_value(test)
    if known is not None:
        return convert(np.argwhere(known).astype(np.int64), name=name)
    with name_scope(name, "Where") as scope:
        count = red.reduce_sum(pw.cast(test, dtype=int64))
        return choosing.positions(test, count, name=scope)


def boolean_mask(tensor: Any, mask: Any, name: str | None = None, axis: Any = None) -> Value:
    """The elements (slices) of the tensor where the mask holds, in order along one axis.

    mask: bool, of known rank 1 or more, over the tensor's dims from `axis` (0) on. The gradient
    puts what arrives where the mask holds, and zeros elsewhere.
    """
    x, test = convert(tensor), convert(mask)
    first = 0 if axis is None else normalize_axis(static_int(axis, "axis"), x.type.rank or 1)
    width = _check_mask(x, test, first)
    with name_scope(name, "boolean_mask") as scope:
        if width > 1:
            sizes = ar.shape(x)
            joined = [sizes[:first], [-1], sizes[first + width :]]
            x = ar.reshape(x, ar.concat([convert(s) for s in joined], 0))
            test = mv.reshape(test, shape=(-1,))
        return OPS["gather"](x, positions(test)[:, 0], axis=first, name=scope)


def _check_mask(x: Value, test: Value, first: int) -> int:
    """The mask's rank."""
    rank = test.type.rank
    if test.dtype is not bool_:
        raise DTypeError(f"boolean_mask needs a bool mask, got {test!r}; compare or cast() it")
    if not rank or x.type.shape is None:
        raise ShapeError(f"boolean_mask needs a mask of known rank >= 1, got {test!r} for {x!r}")
    merge_shapes(x.type.shape[first : first + rank], test.type.shape, "a mask and its tensor")
    return rank


# -- distinct elements


def unique(x: Any, out_idx: Any = int32, name: str | None = None) -> Unique:
    """The distinct elements of a vector, and for each element which of them it is."""
    value = convert(x)
    with name_scope(name, "Unique"):
        count = choosing.distinct_count(value)
        first, number = choosing.first_of_each.outputs(value, count)
        dtype = as_dtype(out_idx)
        number = number if dtype is int32 else pw.cast(number, dtype=dtype)
        return Unique(OPS["gather"](value, first, axis=0), number)


def unique_with_counts(x: Any, out_idx: Any = int32, name: str | None = None) -> UniqueWithCounts:
    """As `unique`, and how often each distinct element stands in the vector."""
    with name_scope(name, "UniqueWithCounts"):
        value = convert(x)
        y, idx = unique(value, out_idx)
        ones = mv.ones_like(value, dtype=as_dtype(out_idx))
        count = ar.shape(y)[0]
        return UniqueWithCounts(y, idx, OPS["unsorted_segment_sum"](ones, idx, count))


def setdiff1d(x: Any, y: Any, index_dtype: Any = int32, name: str | None = None) -> ListDiff:
    """The elements of the vector x that y has not, and where they stand in x."""
    a, b = same_dtype([x, y])
    with name_scope(name, "ListDiff"):
        same = pw.equal(mv.expand_dims(a, axis=(1,)), mv.expand_dims(b, axis=(0,)))
        where = positions(pw.logical_not(red.reduce_any(same, axis=(1,))))[:, 0]
        return ListDiff(
            OPS["gather"](a, where, axis=0), pw.cast(where, dtype=as_dtype(index_dtype))
        )


# -- partitions


def dynamic_partition(
    data: Any, partitions: Any, num_partitions: int, name: str | None = None
) -> list[Value]:
    """Per partition, the slices of the data that carry its number, in their order."""
    x, numbers = convert(data), convert(partitions)
    count = static_int(num_partitions, "num_partitions")
    with name_scope(name, "DynamicPartition"):
        if not numbers.type.rank:  # one slice: all the data go to one partition
            x, numbers = mv.expand_dims(x, axis=(0,)), mv.reshape(numbers, shape=(1,))
        tests = [pw.equal(numbers, convert(i, like=numbers.dtype)) for i in range(count)]
        return [boolean_mask(x, test) for test in tests]


def dynamic_stitch(indices: Sequence[Any], data: Sequence[Any], name: str | None = None) -> Value:
    """Slices put at their indices; of several for one index the last stays, of none it is zeros.

    The result has as many slices as the greatest index says.
    """
    numbers = [convert(i) for i in indices]
    parts = same_dtype(list(data))
    if not numbers or len(numbers) != len(parts):
        raise ShapeError(f"{len(numbers)} tensors of indices do not fit {len(parts)} of data")
    with name_scope(name, "DynamicStitch") as scope:
        rows = [_rows(x, i) for x, i in zip(parts, numbers, strict=True)]
        flat = ar.concat([mv.reshape(i, shape=(-1,)) for i in numbers], 0)
        joined = ar.concat(rows, 0)
        sizes = ar.concat([mv.expand_dims(_rows_needed(flat), axis=(0,)), ar.shape(joined)[1:]], 0)
        base = mv.broadcast_to(convert(0, like=parts[0].dtype), sizes, shape=_known(rows[0]))
        at = mv.expand_dims(flat, axis=(1,))
        return OPS["scatter_update_nd"](base, at, joined, name=scope)


def _rows(x: Value, indices: Value) -> Value:
    """The data's slices, one per index, along one axis."""
    rank = indices.type.rank
    if rank is None or x.type.shape is None:
        raise ShapeError(f"dynamic_stitch needs known ranks, got {indices!r} and {x!r}")
    merge_shapes(x.type.shape[:rank], indices.type.shape, "indices and their data")
    if rank == 1:
        return x
    return ar.reshape(x, ar.concat([convert([-1]), ar.shape(x)[rank:]], 0))


def _rows_needed(flat: Value) -> Value:
    greatest = pw.cast(red.reduce_max(flat), dtype=int32)
    return pw.maximum(greatest, convert(-1, like=int32)) + 1


def _known(rows: Value) -> Any:
    assert rows.type.shape is not None
    return ("?", *rows.type.shape[1:])


__all__ = [
    "ListDiff", "Unique", "UniqueWithCounts", "boolean_mask", "dynamic_partition",
    "dynamic_stitch", "positions", "setdiff1d", "unique", "unique_with_counts",
]  # fmt: skip

"""How a kernel is walked in C. Pure functions of the kernel.

flat    loops over the parallel axes, the last one vectorized; in square tiles where it transposes
row     per point of the parallel axes, loops over the reduce axes, the last one vectorized
column  a block of one parallel axis is vectorized, inside loops over the reduce axes
fold    per point of the parallel axes, row after row, with the folds' totals of each column
split   few results from many elements: parts of a reduce axis, whose totals are then combined
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from graphc.codegen.axes import has_position_reduce
from graphc.ir import loop
from graphc.ir.loop import Kernel
from graphc.ir.table import OPS

WIDTH: Final = 64  # elements of a column block: they stay in vector registers or the first cache
TILE: Final = 32  # edge of a transposing tile: a line of each cache line is used at once
_ENOUGH_PARTS: Final = 64  # that the threads can share evenly
_PART_NS: Final = 8000.0  # of work, below which handing out parts costs more than it gains
_MOST_PARTS: Final = 64
_SPLIT_ELEMENTS: Final = 1 << 17
_MOST_TOTALS: Final = 1 << 10
_PART_LENGTH: Final = 1 << 10  # of a split axis: longer sums lose digits
_LANES: Final = 8.0  # values that an instruction computes, as estimated
_BYTES_PER_NS: Final = 12.0  # of one thread, as estimated


class Flat(NamedTuple):
    """`prefix` axes are shared by the threads as one; or, where it is empty, the last axis is.

    `tile` are the axes (outer, inner) walked in squares.
    """

    prefix: tuple[int, ...]
    tile: tuple[int, int] | None = None


class Row(NamedTuple):
    """`prefix` axes are shared by the threads as one."""

    prefix: tuple[int, ...]


class Column(NamedTuple):
    """The parallel axis that is vectorized, in blocks of `width`."""

    axis: int
    width: int


class Folded:
    """Rows walked one after the other, by one thread per point of the parallel axes."""


class Split(NamedTuple):
    """The reduce axis that is cut into `parts` of `step`; `column`: parallel axes inside."""

    axis: int
    parts: int
    step: int
    column: bool


Schedule = Flat | Row | Column | Folded | Split


def schedule(kernel: Kernel) -> Schedule:
    """How to walk the kernel, whose axes are ordered: parallel ones first."""
    if kernel.form == "fold":
        return Folded()
    if not kernel.reduced:
        return _flat(kernel)
    column = _column_axis(kernel)
    split = _split(kernel, column is not None)
    if split is not None:
        return split
    if column is not None:
        return Column(column, min(kernel.sizes[column], WIDTH))
    return Row(_prefix(kernel, kernel.parallel))


def _flat(kernel: Kernel) -> Flat:
    axes = kernel.parallel
    tile = _transposed(kernel)
    if tile is not None:
        return Flat(tuple(i for i in axes if i not in tile), tile)
    outer = math.prod(kernel.sizes[i] for i in axes[:-1])
    if len(axes) < 2 or (outer < 8 and kernel.sizes[axes[-1]] >= 1 << 12):
        return Flat(())
    return Flat(_prefix(kernel, axes[:-1]))


def _prefix(kernel: Kernel, axes: Sequence[int]) -> tuple[int, ...]:
    """As many outer axes as make enough parts."""
    count = 1
    for n, i in enumerate(axes):
        count *= kernel.sizes[i]
        if count >= _ENOUGH_PARTS:
            return tuple(axes[: n + 1])
    return tuple(axes)


def _transposed(kernel: Kernel) -> tuple[int, int] | None:
    """(outer, inner) of a kernel that stores along one axis what it loads along another."""
    inner = kernel.parallel[-1] if kernel.parallel else None
    if inner is None or kernel.sizes[inner] < 8:
        return None
    for access in kernel.loads:
        if abs(access.strides[inner]) >= 8:
            for i in kernel.parallel[:-1]:
                if abs(access.strides[i]) == 1 and kernel.sizes[i] >= 8:
                    return i, inner
    return None


def _column_axis(kernel: Kernel) -> int | None:
    """The parallel axis along which the largest loads are dense, if it is long enough."""
    if has_position_reduce(kernel):
        return None
    spans = [sum(map(bool, a.strides)) for a in kernel.loads]
    widest = max(spans, default=0)
    votes: dict[int, int] = {}
    for access, span in zip(kernel.loads, spans, strict=True):
        dense = [i for i, s in enumerate(access.strides) if abs(s) == 1 and kernel.sizes[i] > 1]
        if dense and (span == widest or kernel.form == "dot"):
            votes[dense[-1]] = votes.get(dense[-1], 0) + 1
    columns = {i: n for i, n in votes.items() if i in kernel.parallel and kernel.sizes[i] >= 4}
    rows = sum(n for i, n in votes.items() if i in kernel.reduced)
    if not columns or (rows and kernel.form != "dot"):
        return None
    return max(columns, key=lambda i: (columns[i], kernel.sizes[i]))


def _split(kernel: Kernel, column: bool) -> Split | None:
    results = math.prod(kernel.sizes[i] for i in kernel.parallel)
    if has_position_reduce(kernel) or results > _MOST_TOTALS or kernel.space < _SPLIT_ELEMENTS:
        return None
    axis = max(kernel.reduced, key=lambda i: kernel.sizes[i])
    size = kernel.sizes[axis]
    if size < 64 or (not column and results >= _ENOUGH_PARTS):
        return None
    step = -(-size // max(min(size // _PART_LENGTH, _MOST_TOTALS), min(16, size // 16)))
    return Split(axis, -(-size // step), step, column)


# -- what it costs


def point_ns(kernel: Kernel) -> float:
    """About how long one point of the space takes one thread."""
    loads = {a.buffer for a in kernel.loads if any(a.strides)}
    stores = [s for s in kernel.body if isinstance(s, loop.Store)]
    nbytes = 4.0 * (len(loads) + len(stores))
    return nbytes / _BYTES_PER_NS + flops(kernel) / (2 * _LANES)


def flops(kernel: Kernel) -> float:
    """Scalar operations per point."""
    parts = [e for s in kernel.body for x in s.exprs for e in loop.walk(x)]
    return sum(map(op_flops, parts)) + len(kernel.body)


def op_flops(expr: loop.Expr) -> float:
    """Operations of the expression's own op."""
    if not isinstance(expr, loop.Apply):
        return 0.0
    own = OPS[expr.op].flops
    return 1.0 if callable(own) else own


def grain(kernel: Kernel, extent: int) -> int:
    """The part of an extent that is worth handing out."""
    total = point_ns(kernel) * kernel.space
    if total < 2 * _PART_NS or extent < 2:
        return max(extent, 1)
    parts = min(_MOST_PARTS, int(total / _PART_NS), extent)
    return -(-extent // parts)

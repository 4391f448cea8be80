"""How a kernel is walked: whole, in tiles, or in phases. Pure functions of the kernel.

whole   all statements once, over the whole space
tiles   loops over the outer parallel axes, all statements once per tile
phases  a loop over the reduce axes per level of reductions, and what comes between
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from graphc.codegen.axes import has_position_reduce
from graphc.codegen.phases import Phase, plan_phases
from graphc.ir import loop
from graphc.ir.loop import Kernel

TILE = 1 << 16  # elements: a few float32 arrays of them fit the second-level cache
LONG_ROW = 1 << 18  # elements beyond which a row is walked in phases
MOST_CHUNKS = 16  # of a row in phases
LONG_COLUMN = 1 << 10  # rows that NumPy may add up one by one; more are added up in parts


class Shared(NamedTuple):
    """A range that threads share in multiples of `step`: its extent, and the most threads for which
    there is enough to do."""

    extent: int
    step: int
    threads: int


class Tiles(NamedTuple):
    """Loops: over each of the `outer` axes one by one, over `axis` in steps of `size`."""

    outer: tuple[int, ...]
    axis: int
    size: int

    def shared(self, sizes: Sequence[int]) -> Shared:
        """The range of the outermost loop."""
        extent, step = (sizes[self.outer[0]], 1) if self.outer else (sizes[self.axis], self.size)
        return Shared(extent, step, -(-extent // step))


class Chunks(NamedTuple):
    """Parts of a row, of `size` positions, that threads walk side by side; each adds up apart.

    There are as many for one thread as for many, and so the same results. `threads` is the most
    for which there is enough to do.
    """

    number: int
    size: int
    threads: int


class Phases(NamedTuple):
    """The phases in order, and the tiles of the row that each walks."""

    tiles: Tiles
    phases: tuple[Phase, ...]

    def chunks(self, kernel: Kernel) -> Chunks:
        """Whole tiles each."""
        extent, step = kernel.sizes[self.tiles.axis], self.tiles.size
        tiles = -(-extent // step)
        size = -(-tiles // MOST_CHUNKS) * step
        return Chunks(-(-extent // size), size, max(1, kernel.space // (2 * TILE)))


def schedule(kernel: Kernel) -> Tiles | Phases | None:
    """How to walk the kernel; None for whole."""
    if kernel.form == "dot" or (kernel.space <= TILE and not adds_long_columns(kernel)):
        return None
    if kernel.form != "fold" and _wants_phases(kernel):
        return Phases(_row_tiles(kernel), plan_phases(kernel))
    return plan_tiles(kernel)


# -- the choice


def _wants_phases(kernel: Kernel) -> bool:
    if not kernel.reduced or has_position_reduce(kernel):
        return False
    return _extent(kernel, kernel.reduced) > LONG_ROW or _walks_columns(kernel)


def adds_long_columns(kernel: Kernel) -> bool:
    """True for sums down long columns: NumPy adds pairwise along rows, but not down columns.

    The rounding error of a plain sum grows with its length, of one in parts with the length
    of a part (Higham, "The accuracy of floating point summation", 1993).
    """
    sums = any(isinstance(s, loop.Reduce) and s.op == "sum" for s in kernel.body)
    return sums and _extent(kernel, kernel.reduced) > LONG_COLUMN and _walks_columns(kernel)


def _walks_columns(kernel: Kernel) -> bool:
    """True when the largest load is dense along a parallel axis, not along the reduced ones."""
    loads = [x for s in kernel.body for e in s.exprs for x in loop.accesses(e)]
    best = max(loads, key=lambda a: sum(map(bool, a.strides)), default=None)
    if best is None:
        return False
    nonzero = [(abs(s), i) for i, s in enumerate(best.strides) if s]
    return bool(nonzero) and min(nonzero)[1] not in kernel.reduced


def _extent(kernel: Kernel, axes: Iterable[int]) -> int:
    return math.prod(kernel.sizes[i] for i in axes)


# -- tiles


def plan_tiles(kernel: Kernel) -> Tiles | None:
    """Tiles of as many inner parallel axes as fit; None when the whole fits in one."""
    inner = _extent(kernel, (*kernel.folded, *kernel.reduced))
    axes = list(kernel.parallel)
    while axes and inner * kernel.sizes[axes[-1]] <= TILE:
        inner *= kernel.sizes[axes.pop()]
    if not axes:
        return None
    return Tiles(tuple(axes[:-1]), axes[-1], max(1, TILE // max(inner, 1)))


def _row_tiles(kernel: Kernel) -> Tiles:
    """Tiles of the first reduce axis."""
    axis = kernel.reduced[0]
    rest = _extent(kernel, (i for i in range(len(kernel.sizes)) if i != axis))
    most = min(TILE // max(rest, 1), LONG_COLUMN if adds_long_columns(kernel) else TILE)
    return Tiles((), axis, max(1, min(kernel.sizes[axis], most)))

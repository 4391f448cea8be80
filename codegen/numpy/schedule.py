"""How a kernel is walked: whole, in tiles, or in phases. Pure functions of the kernel.

whole   all statements once, over the whole space
tiles   loops over the outer parallel axes, all statements once per tile
phases  a loop over the reduce axes per level of reductions, and what comes between
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from graphc.codegen.axes import has_position_reduce
from graphc.codegen.numpy.frame import span_of
from graphc.ir import loop
from graphc.ir.loop import Kernel

TILE = 1 << 16  # elements: a few float32 arrays of them fit the second-level cache
LONG_ROW = 1 << 18  # elements beyond which a row is walked in phases
LONG_COLUMN = 1 << 10  # rows that NumPy may add up one by one; more are added up in parts


@dataclass(frozen=True, slots=True)
class Tiles:
    """Loops: over each of the `outer` axes one by one, over `axis` in steps of `size`."""

    outer: tuple[int, ...]
    axis: int
    size: int

    def shared(self, sizes: Sequence[int]) -> tuple[int, int]:
        """Extent and step of the outermost loop, which threads may share."""
        return (sizes[self.outer[0]], 1) if self.outer else (sizes[self.axis], self.size)


@dataclass(frozen=True, slots=True)
class Phase:
    """Statements in a loop over the row, then those without it.

    A let inside names a part of the row: later phases that read it have it inside again.
    """

    inside: tuple[loop.Stmt, ...]
    after: tuple[loop.Stmt, ...]


@dataclass(frozen=True, slots=True)
class Phases:
    """The phases in order, and the tiles of the row that each walks."""

    tiles: Tiles
    phases: tuple[Phase, ...]


def schedule(kernel: Kernel) -> Tiles | Phases | None:
    """How to walk the kernel; None for whole."""
    if kernel.form == "dot" or (kernel.space <= TILE and not adds_long_columns(kernel)):
        return None
    if _wants_phases(kernel):
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
    loads = [x for s in kernel.body for e in loop.expressions(s) for x in loop.accesses(e)]
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
    inner = _extent(kernel, kernel.reduced)
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


# -- phases


def plan_phases(kernel: Kernel) -> tuple[Phase, ...]:
    """A phase per level of reductions: each needs the results of the phases before it."""
    levels = levels_of(kernel)
    scope = loop.scopes(kernel)
    known: set[str] = set()  # names whose values are kept
    phases = []
    for level in range(max(levels, default=0) + 1):
        phase = _phase(kernel, level, levels, known, scope)
        kept = [s.name for s in phase.inside if isinstance(s, loop.Reduce)]
        known.update(kept, (s.name for s in phase.after if isinstance(s, loop.Let)))
        phases.append(phase)
    return tuple(phases)


def _phase(
    kernel: Kernel,
    level: int,
    levels: Sequence[int],
    known: set[str],
    scope: Mapping[str, frozenset[int]],
) -> Phase:
    body, reduced = kernel.body, set(kernel.reduced)
    own = [i for i, s in enumerate(body) if levels[i] == level and not isinstance(s, loop.Let)]
    over = {i for i in own if _crosses(body[i], reduced, scope)}
    needed = _needed(body, over, known)
    after = [i for i in own if i not in over] + _lets_after(kernel, level, levels, scope)
    return Phase(
        tuple(body[i] for i in sorted(over | needed)),
        tuple(body[i] for i in sorted(after)),
    )


def _crosses(stmt: loop.Stmt, reduced: set[int], scope: Mapping[str, frozenset[int]]) -> bool:
    """True when the statement belongs into a loop over the row."""
    if isinstance(stmt, loop.Reduce):
        return True
    axes = set[int]().union(*(loop.axes_used(e, scope) for e in loop.expressions(stmt)))
    if isinstance(stmt, loop.Store):
        axes |= span_of(stmt.access.strides)
    return bool(axes & reduced)


def _lets_after(
    kernel: Kernel, level: int, levels: Sequence[int], scope: Mapping[str, frozenset[int]]
) -> list[int]:
    """The lets without the row that what is known after the phase's loop is enough for."""
    ready = (level + 1,) if level else (0, 1)
    reduced = set(kernel.reduced)
    return [
        i
        for i, s in enumerate(kernel.body)
        if isinstance(s, loop.Let) and levels[i] in ready and not scope[s.name] & reduced
    ]


def levels_of(kernel: Kernel) -> list[int]:
    """Per statement, how many reductions come one after the other before it."""
    by_name: dict[str, int] = {}
    result: list[int] = []
    for stmt in kernel.body:
        used = (n for e in loop.expressions(stmt) for n in loop.refs(e))
        level = max((by_name[n] for n in used), default=0)
        result.append(level)
        if isinstance(stmt, (loop.Let, loop.Reduce)):
            by_name[stmt.name] = level + isinstance(stmt, loop.Reduce)
    return result


def _needed(body: Sequence[loop.Stmt], indices: Iterable[int], known: set[str]) -> set[int]:
    """The lets that these statements use, also through one another, and that are not known."""
    where = {s.name: i for i, s in enumerate(body) if isinstance(s, loop.Let)}
    found: set[int] = set()
    stack = list(indices)
    while stack:
        names = {n for e in loop.expressions(body[stack.pop()]) for n in loop.refs(e)}
        new = {where[n] for n in names - known if n in where} - found
        found |= new
        stack.extend(new)
    return found

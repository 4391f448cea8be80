"""How many bytes a kernel moves to and from a GPU's memory, and how few it could.

The least is every element that the kernel touches, once. More is moved where a row is walked
several times and where partial results go through memory. What the second-level cache holds
anyway (tiles of a product that neighbours read, a row that is walked again at once) counts once.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from graphc.codegen.triton.contraction import divided, divided_sums, dot_axes, prepared
from graphc.codegen.triton.dot import GROUP
from graphc.codegen.triton.function import Function, blocks
from graphc.codegen.triton.launch import Options
from graphc.codegen.triton.levels import Passes, passes_of
from graphc.codegen.triton.row import split_workspaces
from graphc.codegen.triton.schedule import Schedule, schedule
from graphc.ir import loop
from graphc.ir.loop import Access, Buffer, Kernel, Let, Stmt

CACHE_BYTES: Final = 32 << 20  # of the 40 to 50 MB of an A100's or H100's second-level cache
_PROGRAMS_AT_ONCE: Final = 2  # per processor


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes to and from memory: as the kernel is written, and at least."""

    moved: int
    least: int

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.moved + other.moved, self.least + other.least)

    def times(self, count: int) -> Traffic:
        """Of as many runs."""
        return Traffic(self.moved * count, self.least * count)


def traffic(kernel: Kernel, buffers: Mapping[str, Buffer], options: Options) -> Traffic:
    """Of one launch of the kernel; a loop's is that of all steps as far as known, a branch's
    that of its costlier side."""
    if kernel.parts:
        return sum((traffic(p, buffers, options) for p in kernel.parts), Traffic(0, 0))
    if kernel.programs:
        return _inner(kernel, options)
    if kernel.is_whole:
        total = sum(buffers[n].nbytes for n in (*kernel.inputs, *kernel.outputs))
        return Traffic(total, total)
    ready = prepared(kernel)
    plan = schedule(ready, buffers, options)
    least = _bytes(_accesses(ready, ready.body), ready, buffers)
    more = {
        "row_looped": _walked_again, "split": _walked_again, "dot": _tiles_again,
        "library": _sums_between,
    }  # fmt: skip
    again = more.get(plan.recipe)
    moved = least + (again(ready, plan, buffers, options, least) if again else 0)
    return Traffic(moved, least)


def _inner(kernel: Kernel, options: Options) -> Traffic:
    totals = [
        sum((traffic(k, p.buffers, options) for k in p.kernels), Traffic(0, 0))
        for p in kernel.programs
    ]
    (stmt,) = kernel.body
    if isinstance(stmt, loop.Repeat):
        return totals[0].times(max(stmt.trips, 1))
    return max(totals, key=lambda t: t.moved)


def _accesses(kernel: Kernel, statements: Iterable[Stmt]) -> list[Access]:
    found: list[Access] = []
    for stmt in statements:
        for expr in stmt.exprs:
            found.extend(loop.accesses(expr))
        if isinstance(stmt, loop.Store):
            found.append(stmt.access)
    return found


def _bytes(accesses: Iterable[Access], kernel: Kernel, buffers: Mapping[str, Buffer]) -> int:
    """Of all elements touched, each once: reads and writes of one buffer are two."""
    stored = {s.access for s in kernel.body if isinstance(s, loop.Store)}
    counts: dict[tuple[str, bool], int] = defaultdict(int)
    for access in dict.fromkeys(accesses):
        place = access.buffer, access in stored
        counts[place] += _touched(access, kernel, buffers)
    return sum(
        min(count, buffers[name].size) * buffers[name].dtype.itemsize
        for (name, _), count in counts.items()
    )


def _touched(access: Access, kernel: Kernel, buffers: Mapping[str, Buffer]) -> int:
    """How many elements the access names at most; of a gather, one per point."""
    axes = [a.size for a, s in zip(kernel.axes, access.strides, strict=True) if s]
    if access.buffer in kernel.gathered:
        return min(kernel.space, buffers[access.buffer].size)
    return min(math.prod(axes), buffers[access.buffer].size)


# -- more than once


def _walked_again(
    kernel: Kernel, plan: Schedule, buffers: Mapping[str, Buffer], options: Options, least: int
) -> int:
    """Bytes of the walks over a row beyond one, and of a split row's partial results."""
    passes = passes_of(kernel)
    function = Function(kernel, buffers, options)
    between = 0
    if plan.recipe == "split":
        between = 2 * sum(w.nbytes for w in split_workspaces(function, plan))
    rows = max(1, math.prod(kernel.axes[i].size for i in kernel.parallel))
    at_once = min(rows, options.processors * _PROGRAMS_AT_ONCE * plan.x) * least // rows
    if at_once <= CACHE_BYTES:
        return between
    walks = (_walked(kernel, passes, level) for level in range(passes.last + 1))
    return between + max(0, sum(_bytes(a, kernel, buffers) for a in walks) - least)


def _walked(kernel: Kernel, passes: Passes, level: int) -> list[Access]:
    work = passes.work(level)
    lets = [s for s in passes.needed(work) if isinstance(s, Let) and passes.is_inner(s)]
    return _accesses(kernel, [*lets, *work])


def _tiles_again(
    kernel: Kernel, plan: Schedule, buffers: Mapping[str, Buffer], options: Options, least: int
) -> int:
    """Bytes of operands that tiles read again: those that run at once share what they read.

    They are GROUP rows of tiles by as many columns as the processors hold.
    """
    between = _sums_between(kernel, plan, buffers, options, least)
    rows, columns, _, _ = dot_axes(kernel)
    m, n = (math.prod(kernel.axes[i].size for i in g) for g in (rows, columns))
    down, across = blocks(m, plan.x), blocks(n, plan.y)
    rows_at_once = min(down, max(GROUP, options.processors // across))
    columns_at_once = min(across, max(1, options.processors // rows_at_once))
    times = blocks(across, columns_at_once), blocks(down, rows_at_once)
    dot = next(s for s in kernel.body if isinstance(s, loop.Dot))
    sizes = [_bytes(loop.accesses(e), kernel, buffers) for e in (dot.a, dot.b)]
    again = sum(x * (t - 1) for x, t in zip(sizes, times, strict=True) if x > CACHE_BYTES)
    return between + again


def _sums_between(
    kernel: Kernel, plan: Schedule, buffers: Mapping[str, Buffer], options: Options, least: int
) -> int:
    """Bytes of sums, or of chunks of them, that go to the kernel of the rest past the cache."""
    del options, least
    if plan.recipe == "library":
        parts = divided(kernel, buffers)
    else:
        parts = divided_sums(kernel, buffers, plan.chunks) if plan.chunks > 1 else None
    size = parts.space.nbytes if parts and parts.space else 0
    return 2 * size if size > CACHE_BYTES else 0


__all__ = ["CACHE_BYTES", "Traffic", "traffic"]

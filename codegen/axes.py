"""Axes put in order and collapsed, so that emitted index arithmetic is as small as can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from graphc.ir import loop
from graphc.ir.loop import Access, Axis, Kernel

_RANKS: Final[Mapping[str, int]] = {loop.PARALLEL: 0, loop.FOLD: 1, loop.REDUCE: 2}


def span_of(strides: Sequence[int]) -> frozenset[int]:
    """The axes along which an access moves."""
    return frozenset([i for i, s in enumerate(strides) if s])


def strides_of(kernel: Kernel) -> list[tuple[int, ...]]:
    """The stride tuples of every access, guard and index in the kernel."""
    result = []
    for stmt in kernel.body:
        accesses = [x for e in stmt.exprs for x in loop.accesses(e)]
        if isinstance(stmt, loop.Store):
            accesses.append(stmt.access)
        for access in accesses:
            result.append(access.strides)
            result.extend(g.value.strides for g in access.guards)
        for e in (e for x in stmt.exprs for e in loop.walk(x)):
            if isinstance(e, loop.Index):
                result.append(e.value.strides)
    return result


def has_position_reduce(kernel: Kernel) -> bool:
    """True when the order of the reduce axes carries meaning (argmax, argmin)."""
    return any(isinstance(s, loop.Reduce) and s.op.startswith("arg") for s in kernel.body)


def ordered(kernel: Kernel) -> Kernel:
    """Parallel axes first, the slowest of the main store outermost; then fold, then reduce axes."""
    store = _main_access(kernel)
    if store is None:
        return kernel

    def key(i: int) -> tuple[int, int, int]:
        kind = kernel.axes[i].kind
        fixed = kind == loop.REDUCE and has_position_reduce(kernel)
        return (_RANKS[kind], 0 if fixed else -abs(store.strides[i]), i)

    order = sorted(range(len(kernel.axes)), key=key)
    if order == list(range(len(order))):
        return kernel
    terms: list[list[tuple[int, int]]] = [[(order.index(i), 1)] for i in range(len(order))]
    body = loop.remap_axes(kernel.body, terms, len(order))
    axes = tuple(replace(kernel.axes[i], name=f"i{n}") for n, i in enumerate(order))
    return replace(kernel, axes=axes, body=body)


def _main_access(kernel: Kernel) -> Access | None:
    """The access that decides the order: the store over most axes, for others a load."""
    stores = [s.access for s in kernel.body if isinstance(s, loop.Store)]
    loads = [x for s in kernel.body for e in s.exprs for x in loop.accesses(e)]
    if not stores:
        return None
    best = max(stores, key=lambda a: sum(map(bool, a.strides)))
    strides = list(best.strides)
    for i in (*kernel.folded, *kernel.reduced):
        if not strides[i]:
            strides[i] = max((abs(x.strides[i]) for x in loads), default=0)
    return replace(best, strides=tuple(strides))


def collapsed(kernel: Kernel) -> Kernel:
    """Neighbouring axes of one kind that every access walks as one become one axis."""
    groups: list[list[int]] = []
    rows = strides_of(kernel)
    for i, axis in enumerate(kernel.axes):
        if groups and _mergeable(kernel.axes[groups[-1][-1]], axis, groups[-1][-1], i, rows):
            groups[-1].append(i)
        else:
            groups.append([i])
    if len(groups) == len(kernel.axes):
        return kernel
    terms: list[list[tuple[int, int]]] = [[] for _ in kernel.axes]
    axes = []
    for n, group in enumerate(groups):
        terms[group[-1]] = [(n, 1)]  # the innermost keeps its strides; the others follow from it
        size = 1
        for i in group:
            size *= kernel.axes[i].size
        axes.append(Axis(f"i{n}", size, kernel.axes[group[0]].kind))
    body = loop.remap_axes(kernel.body, terms, len(axes))
    return replace(kernel, axes=tuple(axes), body=body)


def _mergeable(outer: Axis, inner: Axis, i: int, j: int, rows: list[tuple[int, ...]]) -> bool:
    return outer.kind == inner.kind and all(r[i] == r[j] * inner.size for r in rows)


def simplified(kernel: Kernel) -> Kernel:
    """Ordered and collapsed."""
    return collapsed(ordered(kernel))

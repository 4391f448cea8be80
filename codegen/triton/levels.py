"""Row kernels as passes over the row: which statement runs in which pass.

    m = reduce max x;  e = exp(x - m);  s = reduce sum e;  y[..] = e / s
    ->  pass 0: m    pass 1: e, s    pass 2: e, y[..] = ...

A statement's level is the number of reductions that must be complete before it. Values that
depend on the reduce axes are computed again in every pass that needs them, never kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graphc.ir import loop
from graphc.ir.loop import Kernel, Let, Reduce, Stmt, Store


@dataclass(frozen=True)
class Passes:
    """Per statement name or store: its level, and whether it walks the reduce axes."""

    kernel: Kernel
    levels: dict[str, int]  # of the names; a Reduce's is that of its result
    inner: frozenset[str]  # lets that depend on the reduce axes
    last: int  # the highest level of any store or reduction

    def reduces(self, level: int) -> list[Reduce]:
        """The reductions that pass `level` computes."""
        return [
            s for s in self.kernel.body
            if isinstance(s, Reduce) and self.levels[s.name] == level + 1
        ]  # fmt: skip

    def stores(self, level: int, inner: bool) -> list[Store]:
        """The stores of pass `level`: those inside the row, or those once per row."""
        return [
            s for s in self.kernel.body
            if isinstance(s, Store) and self.store_level(s) == level and self.is_inner(s) == inner
        ]  # fmt: skip

    def row_lets(self) -> list[Let]:
        """The lets that have one value per row."""
        return [s for s in self.kernel.body if isinstance(s, Let) and s.name not in self.inner]

    def work(self, level: int) -> list[Stmt]:
        """All that pass `level` computes for others: its reductions and its stores."""
        stores = (*self.stores(level, inner=True), *self.stores(level, inner=False))
        return [*self.reduces(level), *stores]

    def store_level(self, stmt: Store) -> int:
        """The pass of a store; what the kernel also reads is stored in the last."""
        if stmt.access.buffer in self.kernel.inputs:
            return self.last
        return max((self.levels[n] for n in loop.refs(stmt.value)), default=0)

    def is_inner(self, stmt: Stmt) -> bool:
        """True when a let or store walks the reduce axes."""
        if isinstance(stmt, Let):
            return stmt.name in self.inner
        return isinstance(stmt, Reduce) or _store_is_inner(self.kernel, stmt, self.inner)

    def needed(self, statements: Iterable[Stmt]) -> list[Stmt]:
        """The lets and reductions on whose values the statements depend, in the body's order."""
        by_name = {s.name: s for s in self.kernel.body if isinstance(s, (Let, Reduce))}
        found: set[str] = set()
        pending = [n for s in statements for e in s.exprs for n in loop.refs(e)]
        while pending:
            name = pending.pop()
            if name in found:
                continue
            found.add(name)
            if isinstance(by_name[name], Let):  # a reduction's own inputs belong to its pass
                pending.extend(n for e in by_name[name].exprs for n in loop.refs(e))
        return [s for s in self.kernel.body if getattr(s, "name", None) in found]


def passes_of(kernel: Kernel) -> Passes:
    """The passes of a row kernel."""
    levels: dict[str, int] = {}
    scopes = kernel.scopes
    reduced = set(kernel.reduced)
    last = 0
    for stmt in kernel.body:
        level = max((levels[n] for e in stmt.exprs for n in loop.refs(e)), default=0)
        if isinstance(stmt, Let):
            levels[stmt.name] = level
        elif isinstance(stmt, Reduce):
            levels[stmt.name] = level + 1
        last = max(last, level)
    inner = frozenset(
        s.name for s in kernel.body if isinstance(s, Let) and scopes[s.name] & reduced
    )
    return Passes(kernel, levels, inner, last)


def _store_is_inner(kernel: Kernel, stmt: Stmt, inner: frozenset[str]) -> bool:
    assert isinstance(stmt, Store), stmt
    rows = [stmt.access.strides, *(g.value.strides for g in stmt.access.guards)]
    if any(row[i] for row in rows for i in kernel.reduced):
        return True
    assert not loop.refs(stmt.value) & inner, "a row's value cannot depend on the place in it"
    return False

"""When a kernel's result may lie where an operand lies that it reads for the last time.

Element i of the result must depend on no element of the operand but i, and nothing may read the
operand any more when the first byte of the result can be written. When that is follows from how
back ends walk a kernel, of which there are two ways, and a kernel must allow both:

    statement by statement over many points: a let may be computed right into the buffer that its
        value is stored to, so the operand is read up to that let, and there only as an operand
        of one scalar function;
    phase by phase along a row, element by element: a phase per level of reductions computes anew
        what it needs of the row, so no phase after that of the store may need the operand.
"""

from __future__ import annotations

import math
from dataclasses import replace

from graphc.ir import loop
from graphc.ir.loop import Kernel


def may_overwrite(kernel: Kernel, old: str, new: str) -> bool:
    """True when the kernel may store its result `new` where its operand `old` lies.

    Both are buffers of elements of one size, each stored and read whole; one loop nest.
    """
    stores = [s for s in kernel.body if isinstance(s, loop.Store) and s.access.buffer == new]
    if len(stores) != 1 or not stores[0].access.is_plain or kernel.is_whole:
        return False
    (store,) = stores
    place = replace(store.access, buffer=old)
    if any(a != place for a in kernel.loads if a.buffer == old):
        return False
    if not _reads_allow(kernel, old, store):
        return False
    if kernel.form in ("flat", "dot"):
        return True
    # what is stored once a row may be read along it by others that share the row
    named = (a.size for a, s in zip(kernel.axes, store.access.strides, strict=True) if s)
    return math.prod(named) == kernel.space and _is_last_walk(kernel, old, store)


def _reads_allow(kernel: Kernel, old: str, store: loop.Store) -> bool:
    """Every read is complete before the first write."""
    written = _first_write(kernel, store)
    for n, (stmt, reads) in enumerate(zip(kernel.body, kernel.reads, strict=True)):
        if old not in reads:
            continue
        if n > written or isinstance(stmt, loop.Dot):
            return False
        parts = [p for e in stmt.exprs for p in loop.walk(e)]
        applies = sum(isinstance(p, loop.Apply) for p in parts)
        totals = isinstance(stmt, (loop.Reduce, loop.Fold))
        if applies > 1 or applies + totals < 1 or any(isinstance(p, loop.Gather) for p in parts):
            return False
    return True


def _first_write(kernel: Kernel, store: loop.Store) -> int:
    """Position of the first statement that may write to the stored buffer."""
    source = store.value.name if isinstance(store.value, loop.Ref) else ""
    for n, stmt in enumerate(kernel.body):
        if stmt is store or getattr(stmt, "name", None) == source:
            return n
    raise AssertionError("the store is not of this kernel")


def _is_last_walk(kernel: Kernel, old: str, store: loop.Store) -> bool:
    """No phase after the store's needs the operand."""
    last = kernel.levels[kernel.body.index(store)]
    return not any(
        level > last and not isinstance(stmt, loop.Let) and needs(kernel, n, old)
        for n, (stmt, level) in enumerate(zip(kernel.body, kernel.levels, strict=True))
    )


def needs(kernel: Kernel, position: int, buffer: str) -> bool:
    """True when the statement there reads the buffer, itself or through lets."""
    lets = {s.name: n for n, s in enumerate(kernel.body) if isinstance(s, loop.Let)}
    pending, seen = [position], {position}
    while pending:
        n = pending.pop()
        if buffer in kernel.reads[n]:
            return True
        names = {r for e in kernel.body[n].exprs for r in loop.refs(e)}
        new = {lets[r] for r in names & lets.keys()} - seen
        seen |= new
        pending += new
    return False


__all__ = ["may_overwrite", "needs"]

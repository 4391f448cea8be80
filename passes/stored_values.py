"""Values that kernels store for others: who reads them, and how their readers compute them instead.

What the passes `sink` and `condense` share: the program's kernels while they change, and functions
of kernels that give the value of a store as a kernel, or put it into a reader. Operands are read
as they were stored, so the bits stay the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from graphc.ir import loop
from graphc.ir.in_place import needs
from graphc.ir.loop import (
    TEMPORARY,
    VARIABLE,
    Axis,
    Buffer,
    Dot,
    Fold,
    Kernel,
    Let,
    Load,
    Program,
    Reduce,
    Ref,
    Stmt,
    Store,
)
from graphc.passes.context import Context, Decision
from graphc.passes.costs import moved_bytes
from graphc.passes.fuse import flops
from graphc.passes.inline import Limits, Refusal, inline_producer, needed, renamed
from graphc.passes.merge import merge
from graphc.passes.order import renumbered


class StoredValues:
    """A program's kernels by position, and by buffer who reads and who writes it."""

    def __init__(self, program: Program, ctx: Context) -> None:
        self.start = program
        self.buffers = dict(program.buffers)
        self.ctx = ctx
        self.limits = Limits(ctx.target.max_kernel_buffers, ctx.target.max_kernel_statements)
        self.kernels = list(program.kernels)
        self.readers: dict[str, set[int]] = {}
        self.writers: dict[str, set[int]] = {}
        for i, kernel in enumerate(self.kernels):
            for name in kernel.inputs:
                self.readers.setdefault(name, set()).add(i)
            for name in kernel.outputs:
                self.writers.setdefault(name, set()).add(i)

    def result(self) -> Program:
        """The program of the present kernels."""
        if tuple(self.kernels) == self.start.kernels:
            return self.start
        used = {n for k in self.kernels for n in (*k.inputs, *k.outputs)}
        used |= {*self.start.inputs, *self.start.outputs, *self.start.variables}
        buffers = {n: b for n, b in self.buffers.items() if n in used}
        program = self.start.replace(buffers=buffers, kernels=tuple(self.kernels))
        return renumbered(program, program.kernels, self.ctx)

    def may_go(self, i: int, store: Store) -> bool:
        """Whether kernel `i` alone stores this, and only kernels before the commits read it."""
        name = store.access.buffer
        readers = self.readers.get(name, set())
        if self.buffers[name].role != TEMPORARY or name in self.start.outputs or not readers:
            return False
        return self.writers[name] == {i} and max(readers) < self.start.commit

    def put_into_readers(
        self, value: Kernel, changed: dict[int, Kernel], limit: float
    ) -> Refusal | None:
        """Enter into `changed` the readers of the value's buffer as kernels that compute it; a
        refusal where one cannot, or where it costs more than `limit` operations per element."""
        if flops(value) > limit:
            return Refusal("RECOMPUTE", {"flops": flops(value)})
        (name,) = value.outputs
        for r in sorted(self.readers[name]):
            if points(self.kernels[r]) > value.space:
                return Refusal("RECOMPUTE", {"points": points(self.kernels[r])})
            inlined = into(changed.get(r, self.kernels[r]), value, self.buffers, self.limits)
            if isinstance(inlined, Refusal):
                return inlined
            changed[r] = inlined
        return None

    def moved(self, changed: Mapping[int, Kernel], buffers: Mapping[str, Buffer]) -> int:
        """Bytes that are moved more with these kernels in the place of the present ones."""
        return sum(
            moved_bytes(k, buffers) - moved_bytes(self.kernels[i], buffers)
            for i, k in changed.items()
        )

    def kept_bytes(self, changed: Mapping[int, Kernel]) -> int:
        """Bytes of temporaries that must be kept longer for these kernels."""
        kept: set[str] = set()
        for i, kernel in changed.items():
            new = set(kernel.inputs) - set(self.kernels[i].inputs)
            kept |= {n for n in new if n in self.readers and i > max(self.readers[n] | {0})}
        return sum(self.buffers[n].nbytes for n in kept if self.buffers[n].role == TEMPORARY)

    def put(self, changed: Mapping[int, Kernel], gone: Iterable[str]) -> None:
        """These kernels in the place of the present ones; buffers that are stored no more."""
        without_edges = set(gone)
        self.ctx.decisions[:] = [d for d in self.ctx.decisions if d.buffer not in without_edges]
        for i, kernel in changed.items():
            for edges, old, new in (
                (self.readers, self.kernels[i].inputs, kernel.inputs),
                (self.writers, self.kernels[i].outputs, kernel.outputs),
            ):
                for name in old:
                    edges[name].discard(i)
                for name in new:
                    edges.setdefault(name, set()).add(i)
            self.kernels[i] = kernel
        for i in changed:
            self.explain(i)

    def explain(self, i: int) -> None:
        """Every edge has a decision: those to what the kernel reads now, too."""
        kernel = self.kernels[i]
        known = {(d.producer, d.buffer) for d in self.ctx.decisions if d.consumer == kernel.name}
        for name in kernel.inputs:
            for w in self.writers.get(name, set()) - {i}:
                writer, buffer = self.kernels[w], self.buffers[name]
                if buffer.role != VARIABLE and (writer.name, name) not in known:
                    outcome = merge(writer, kernel, self.buffers, writer.outputs, self.limits)
                    apart = Refusal("CYCLE", {"why": "it reads this in the place of another"})
                    refusal = outcome if isinstance(outcome, Refusal) else apart
                    numbers = {"bytes": buffer.nbytes, **refusal.numbers}
                    self.ctx.decisions.append(
                        Decision(writer.name, kernel.name, name, refusal.reason, numbers)
                    )


# -- kernels


def points(kernel: Kernel) -> int:
    """At how many points a kernel computes what it does besides its product."""
    axes = kernel.parallel if kernel.form == "dot" else range(len(kernel.axes))
    return math.prod(kernel.axes[i].size for i in axes)


def value_of(kernel: Kernel, store: Store, buffers: Mapping[str, Buffer]) -> Kernel | None:
    """A flat kernel that stores the same from what the kernel reads and stores besides; None
    where it wants more than that."""
    if not store.access.is_plain or store.value.dtype is not buffers[store.access.buffer].dtype:
        return None
    known = _stored_values(kernel, store, buffers)
    body: list[Stmt] = [loop.map_stmt(store, lambda e: _known(e, known))]
    wanted = {n for e in body[0].exprs for n in loop.refs(e)}
    for stmt in reversed(kernel.body):
        if getattr(stmt, "name", None) not in wanted:
            continue
        if not isinstance(stmt, Let):
            return None
        body.insert(0, loop.map_stmt(stmt, lambda e: _known(e, known)))
        wanted |= {n for e in body[0].exprs for n in loop.refs(e)}
    loads = [e for s in body for x in s.exprs for e in loop.walk(x)
             if isinstance(e, (Load, loop.Gather))]  # fmt: skip
    if not all(isinstance(e, Load) and e.is_plain for e in loads):
        return None
    return _over_stored_axes(replace(kernel, body=tuple(body), covers=(), where=()), store)


def _known(expr: loop.Expr, known: Mapping[str, Load]) -> loop.Expr:
    return known.get(expr.name, expr) if isinstance(expr, Ref) else expr


def _stored_values(kernel: Kernel, store: Store, buffers: Mapping[str, Buffer]) -> dict[str, Load]:
    """By name, the loads of what other stores keep as it is."""
    found: dict[str, Load] = {}
    for s in kernel.body:
        if isinstance(s, Store) and s is not store and isinstance(s.value, Ref):
            buffer = buffers[s.access.buffer]
            if s.access.is_plain and s.value.dtype is buffer.dtype and buffer.role != VARIABLE:
                found[s.value.name] = Load((s.access,), buffer.dtype)
    return found


def _over_stored_axes(kernel: Kernel, store: Store) -> Kernel | None:
    """The kernel over the axes that its store names; None where a value moves along others."""
    kept = [i for i, s in enumerate(store.access.strides) if s]
    scopes = kernel.scopes
    used = {i for s in kernel.body for e in s.exprs for i in loop.axes_used(e, scopes)}
    if not used <= {*kept}:
        return None
    terms = [[(kept.index(i), 1)] if i in kept else [] for i in range(len(kernel.axes))]
    axes = tuple(Axis(kernel.axes[i].name, kernel.axes[i].size) for i in kept)
    return replace(kernel, axes=axes, body=loop.remap_axes(kernel.body, terms, len(kept)))


def without(kernel: Kernel, stores: Sequence[Store]) -> Kernel | None:
    """The kernel without these stores; None where it would have nothing to do, or a sum or product
    that nothing uses."""
    body = needed([s for s in kernel.body if not any(s is x for x in stores)])
    used = {n for s in body for e in s.exprs for n in loop.refs(e)}
    totals = {s.name for s in body if isinstance(s, (Reduce, Dot, Fold))}
    is_left = any(isinstance(s, Store) for s in body) and totals <= used
    return replace(kernel, body=body) if is_left else None


def into(
    reader: Kernel, value: Kernel, buffers: Mapping[str, Buffer], limits: Limits
) -> Kernel | Refusal:
    """The reader that computes the value where it read it, behind a product that it has."""
    (target,) = value.outputs
    if reader.is_whole or reader.parts:
        return Refusal("OPAQUE", {"form": reader.form})
    if any(needs(reader, n, target) for n, s in enumerate(reader.body) if isinstance(s, Dot)):
        return Refusal("PROLOGUE", {"buffer": target})
    taken, suffix = _names(reader.body), ""
    while any(n + suffix in taken for n in _names(value.body)):
        suffix += "_"
    value = replace(value, body=tuple(renamed(value.body, suffix)))
    inlined = inline_producer(value, reader, buffers, set(), limits)
    if isinstance(inlined, Refusal) or len(set(_names(inlined.body))) < len(_names(inlined.body)):
        return inlined if isinstance(inlined, Refusal) else Refusal("RECOMPUTE", {"why": "twice"})
    return replace(inlined, body=_product_first(inlined.body))


def _names(body: Sequence[Stmt]) -> list[str]:
    return [s.name for s in body if isinstance(s, (Let, Reduce, Dot, Fold))]


def _product_first(body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """A product before all that it does not need: what stands before it is taken for operands."""
    at = next((n for n, s in enumerate(body) if isinstance(s, Dot)), None)
    if at is None:
        return body
    operands = needed((*body[:at], body[at]))
    return (*operands, *(s for s in body if s not in operands))


__all__ = ["StoredValues", "into", "points", "value_of", "without"]

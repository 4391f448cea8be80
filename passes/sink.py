"""sink: what a kernel stores and can be had from what is stored anyway is computed by its readers.

    k1: d = dot ..; y[..] = d; t[..] = d * x[..]        k1: d = dot ..; y[..] = d
    k2: s = reduce sum t[..]                        ->  k2: s = reduce sum y[..] * x[..]

Fusion pulls cheap values into the kernel that makes their operands, and stores them: the products
of a layer norm's backward come to lie behind a matrix product. Here they go to where they are
read, if fewer bytes are moved so and no more are alive at once. Operands are read as they were
stored, so the bits stay the same. Skips values that need a sum or product that is not stored, that
cost more than a few operations, that are read at more points than they have, or that a matrix
product takes as an operand; what commits read.
Cost: per stored value one copy of each of its readers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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

_MOST_FLOPS = 8.0  # per element, of what each reader computes again


def sink(program: Program, ctx: Context) -> Program:
    """The program with stored values computed by their readers where that moves fewer bytes."""
    if not ctx.settings.fuse:
        return program
    sinking = _Sinking(program, ctx)
    sinking.run()
    return sinking.result()


@dataclass(frozen=True)
class _Trial:
    """Kernels by position in the place of others, so that `buffer` is not stored any more."""

    buffer: str
    changed: Mapping[int, Kernel]


class _Sinking:
    def __init__(self, program: Program, ctx: Context) -> None:
        self.start = program
        self.buffers = program.buffers
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

    def run(self) -> None:
        """Each kernel's stores, the last first: what a later one is made of may sink as well."""
        for i in range(self.start.commit):
            stores = [s for s in self.kernels[i].body if isinstance(s, Store)]
            for store in reversed(stores if len(stores) > 1 else []):
                trial = self.trial(i, store)
                if trial is not None and self.saves(trial):
                    self.accept(trial)

    def result(self) -> Program:
        program = self.program(self.kernels)
        if program.kernels == self.start.kernels:
            return self.start
        return renumbered(program, program.kernels, self.ctx)

    def program(self, kernels: Sequence[Kernel]) -> Program:
        used = {n for k in kernels for n in (*k.inputs, *k.outputs)}
        used |= {*self.start.inputs, *self.start.outputs, *self.start.variables}
        buffers = {n: b for n, b in self.buffers.items() if n in used}
        return self.start.replace(buffers=buffers, kernels=tuple(kernels))

    # -- one stored value

    def trial(self, i: int, store: Store) -> _Trial | None:
        """The kernels in which the readers of what kernel `i` stores here compute it."""
        name = store.access.buffer
        readers = self.readers.get(name, set())
        if self.buffers[name].role != TEMPORARY or name in self.start.outputs or not readers:
            return None
        if self.writers[name] != {i} or max(readers) >= self.start.commit:
            return None
        value = value_of(self.kernels[i], store, self.buffers)
        rest = without(self.kernels[i], store)
        if value is None or rest is None or flops(value) > _MOST_FLOPS:
            return None
        changed = {i: rest}
        for r in sorted(readers):
            if points(self.kernels[r]) > value.space:
                return None
            inlined = into(self.kernels[r], value, self.buffers, self.limits)
            if isinstance(inlined, Refusal):
                return None
            changed[r] = inlined
        return _Trial(name, changed)

    def saves(self, trial: _Trial) -> bool:
        """Fewer bytes are moved, and no more are alive at any kernel: what the readers read now
        and must be kept for them is no more than what need not be kept."""
        moved = sum(
            moved_bytes(k, self.buffers) - moved_bytes(self.kernels[i], self.buffers)
            for i, k in trial.changed.items()
        )
        kept: set[str] = set()
        for i, kernel in trial.changed.items():
            new = set(kernel.inputs) - set(self.kernels[i].inputs)
            kept |= {n for n in new if i > max(self.readers.get(n, {0}))}
        temporaries = (self.buffers[n] for n in kept if self.buffers[n].role == TEMPORARY)
        return moved < 0 and sum(b.nbytes for b in temporaries) <= self.buffers[trial.buffer].nbytes

    def accept(self, trial: _Trial) -> None:
        self.ctx.decisions[:] = [d for d in self.ctx.decisions if d.buffer != trial.buffer]
        for i, kernel in trial.changed.items():
            for name in self.kernels[i].inputs:
                self.readers[name].discard(i)
            for name in kernel.inputs:
                self.readers.setdefault(name, set()).add(i)
            self.kernels[i] = kernel
        for i in trial.changed:
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


def without(kernel: Kernel, store: Store) -> Kernel | None:
    """The kernel that does not store this; None where it would have nothing to do, or a sum or
    product that nothing uses."""
    body = needed([s for s in kernel.body if s is not store])
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


__all__ = ["sink"]

"""Inlining: a producer computed again at the place where its consumer reads it.

    k1(i): v = exp(x[i]); t[i] = v
    k2(i): y[i] = t[i + 1]            ->   k2(i): v = exp(x[i + 1]); y[i] = v

Serves consumers that read another part of a buffer than is stored at that point of the loop
nest (slices, steps, shifts, other orders of axes), and operands of dots. The consumer's access
is taken apart into one position per axis of the producer; the producer's loads follow. Also
here: what all merging shares, the refusal and the limits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphc.ir import loop
from graphc.ir.loop import Access, Axis, Buffer, Kernel, Linear, Load, Ref, Stmt
from graphc.ir.views import apply_linear


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why two kernels stay apart; `numbers` are the values that decided."""

    reason: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a kernel may grow."""

    buffers: int = 24
    statements: int = 96
    prologue_ops: int = 4  # computed in a dot's operand
    broadcast_ops: int = 8  # computed more than once per element


def joined(a: Kernel, b: Kernel, axes: tuple[Axis, ...], body: tuple[Stmt, ...]) -> Kernel:
    """A kernel that covers what both cover."""
    covers = tuple(dict.fromkeys((*a.covers, *b.covers)))
    where = tuple(dict.fromkeys((*a.where, *b.where)))
    return Kernel(b.name, axes, body, covers, where)


def check_size(kernel: Kernel, limits: Limits) -> Refusal | None:
    """TOO_BIG beyond the limits."""
    count = len(set(kernel.inputs) | set(kernel.outputs))
    if count > limits.buffers or len(kernel.body) > limits.statements:
        return Refusal("TOO_BIG", {"buffers": count, "statements": len(kernel.body)})
    return None


def op_count(kernel: Kernel) -> int:
    """Number of scalar functions in the body, casts not counted."""
    parts = (e for s in kernel.body for x in s.exprs for e in loop.walk(x))
    return sum(isinstance(e, loop.Apply) and e.op != "cast" for e in parts)


def needed(body: Sequence[Stmt]) -> tuple[Stmt, ...]:
    """The body without lets that nothing uses."""
    kept: list[Stmt] = []
    used: set[str] = set()
    for stmt in reversed(body):
        if not isinstance(stmt, loop.Let) or stmt.name in used:
            kept.append(stmt)
            used.update(n for e in stmt.exprs for n in loop.refs(e))
    return tuple(reversed(kept))


# -- where the consumer reads


def positions(access: Access, a: Kernel, b: Kernel, store: Access) -> tuple[Linear, ...] | None:
    """For each axis of `a`, the position whose element `b` reads; None when it is not affine.

    `store` is how `a` fills the buffer: mixed radix digits of the element's number are the
    positions. The digits are taken out of every stride of the access, and must stay within
    their axes all over b's space.
    """
    order = sorted(range(len(a.axes)), key=lambda i: -store.strides[i])
    terms = [_digits(s, order, store.strides) for s in access.strides]
    start = _digits(access.offset - store.offset, order, store.strides)
    if start is None:
        return None
    result: list[Linear] = []
    for d, axis in enumerate(a.axes):
        strides = tuple([0 if t is None else t[d] for t in terms])
        low = high = start[d]
        for stride, size in zip(strides, b.sizes, strict=True):
            low += min(stride * (size - 1), 0)
            high += max(stride * (size - 1), 0)
        if low < 0 or high >= axis.size or None in terms:
            return None
        result.append(Linear(strides, start[d]))
    return tuple(result)


def _digits(number: int, order: Sequence[int], strides: Sequence[int]) -> list[int] | None:
    """`number` as a sum of multiples of the strides, the largest first; None with a rest."""
    result = [0] * len(strides)
    sign, rest = (-1, -number) if number < 0 else (1, number)
    for i in order:
        result[i], rest = sign * (rest // strides[i]), rest % strides[i]
    return None if rest else result


def _moved(body: Sequence[Stmt], places: Sequence[Linear], rank: int) -> list[Stmt]:
    """The body with its axes replaced by positions over `rank` other axes."""

    def linear(value: Linear) -> Linear:
        return apply_linear(value, places) if places else Linear((0,) * rank, value.offset)

    def access(x: Access) -> Access:
        main = linear(Linear(x.strides, x.offset))
        guards = tuple([loop.Guard(linear(g.value), g.size, g.step) for g in x.guards])
        return Access(x.buffer, main.strides, main.offset, guards, x.divisor)

    return [loop.map_accesses(s, access, linear) for s in body]


def renamed(body: Sequence[Stmt], suffix: str) -> list[Stmt]:
    """The lets under other names, for a body that is computed at several places."""

    def change(expr: loop.Expr) -> loop.Expr:
        return Ref(expr.name + suffix, expr.dtype) if isinstance(expr, Ref) else expr

    result: list[Stmt] = []
    for stmt in body:
        stmt = loop.map_stmt(stmt, change)
        if isinstance(stmt, loop.Let):
            stmt = loop.Let(stmt.name + suffix, stmt.value)
        result.append(stmt)
    return result


# -- a producer inside a consumer


def inline_producer(
    a: Kernel, b: Kernel, buffers: Mapping[str, Buffer], keep: set[str], limits: Limits
) -> Kernel | Refusal:
    """`b` with the flat kernel `a` computed wherever `b` reads its only result."""
    store = _only_result(a, buffers, keep)
    if isinstance(store, Refusal):
        return store
    target = store.access.buffer
    reads = list(dict.fromkeys(x for x in b.loads if x.buffer == target))
    if not all(x.is_plain for x in reads) or _gathers(b, target):
        return Refusal("NON_AFFINE", {"buffer": target})
    points = sum(_points(x, b) for x in reads)
    again = op_count(a) * max(points / max(a.space, 1) - 1, 0)
    if again > limits.broadcast_ops or len(reads) > limits.prologue_ops:
        return Refusal("RECOMPUTE", {"ops": op_count(a), "reads": len(reads), "points": points})
    first: list[Stmt] = []
    values: dict[Access, loop.Expr] = {}
    for n, read in enumerate(reads):
        places = positions(read, a, b, store.access)
        if places is None:
            return Refusal("SPACE", {"buffer": target, "why": "read at no fixed place of it"})
        body = _moved([s for s in a.body if s is not store], places, len(b.axes))
        (value,) = _moved([loop.Let("", store.value)], places, len(b.axes))
        suffix = f"_{n}" if n else ""
        first += renamed(body, suffix)
        (value,) = renamed([value], suffix)
        assert isinstance(value, loop.Let)
        values[read] = value.value
    return _with_values(a, b, first, values, buffers, limits)


def _only_result(a: Kernel, buffers: Mapping[str, Buffer], keep: set[str]) -> loop.Store | Refusal:
    stores = [s for s in a.body if isinstance(s, loop.Store)]
    if a.form != "flat" or len(stores) != 1 or stores[0].access.buffer in keep:
        return Refusal("SPACE", {"form": a.form, "outputs": len(stores)})
    access = stores[0].access
    if buffers[access.buffer].role != loop.TEMPORARY or not access.is_plain:
        return Refusal("SPACE", {"buffer": access.buffer})
    if a.space != buffers[access.buffer].size or not all(s > 0 for s in access.strides):
        return Refusal("SPACE", {"buffer": access.buffer, "why": "it is stored in parts"})
    return stores[0]


def _gathers(kernel: Kernel, buffer: str) -> bool:
    parts = (e for s in kernel.body for x in s.exprs for e in loop.walk(x))
    return any(isinstance(e, loop.Gather) and e.access.buffer == buffer for e in parts)


def _points(access: Access, kernel: Kernel) -> int:
    """How many different points of the kernel's space the access tells apart."""
    return math.prod(n for s, n in zip(access.strides, kernel.sizes, strict=True) if s)


def _with_values(
    a: Kernel,
    b: Kernel,
    first: list[Stmt],
    values: Mapping[Access, loop.Expr],
    buffers: Mapping[str, Buffer],
    limits: Limits,
) -> Kernel | Refusal:
    def change(expr: loop.Expr) -> loop.Expr:
        is_read = isinstance(expr, Load) and expr.pieces[0] in values
        return values[expr.pieces[0]] if is_read else expr  # type: ignore[union-attr]

    body = (*first, *(loop.map_stmt(s, change) for s in b.body))
    merged = joined(a, b, b.axes, body)
    own = {s.access.buffer: s.access for s in body if isinstance(s, loop.Store)}
    for access in merged.loads:
        if access.buffer in own and access != own[access.buffer]:
            return Refusal("HAZARD", {"variable": access.buffer})
    return check_size(merged, limits) or merged


# -- a producer inside a dot


def inline_into_dot(
    a: Kernel, b: Kernel, buffers: Mapping[str, Buffer], keep: set[str], limits: Limits
) -> Kernel | Refusal:
    """The dot `b` with a cheap flat producer computed as an operand is loaded, or by what follows
    the sums: there only once per element, or where a cast is all (of a bias, say)."""
    dot = next(s for s in b.body if isinstance(s, loop.Dot))
    outputs = a.outputs
    cost = op_count(a)
    if a.form != "flat" or len(outputs) != 1 or outputs[0] in keep:
        return Refusal("PROLOGUE", {"form": a.form, "outputs": len(outputs)})
    reads = sum(buffers[n].size > 1 for n in a.inputs)
    if cost > limits.prologue_ops or reads > 1 or buffers[outputs[0]].role != loop.TEMPORARY:
        return Refusal("PROLOGUE", {"ops": cost, "reads": reads})
    if sum(x.buffer == outputs[0] for x in b.loads) != 1:
        return Refusal("PROLOGUE", {"why": "it is read twice"})
    (access,) = (x for x in b.loads if x.buffer == outputs[0])
    points = _points(access, b)
    if access not in [x for e in (dot.a, dot.b) for x in loop.accesses(e)] and cost:
        points = math.prod(b.sizes[i] for i in b.parallel)
    if points > a.space:
        return Refusal("PROLOGUE", {"points": points, "producer_points": a.space})
    return _into_dot(a, b, access, buffers, limits)


def _into_dot(
    a: Kernel, b: Kernel, access: Access, buffers: Mapping[str, Buffer], limits: Limits
) -> Kernel | Refusal:
    store = _only_result(a, buffers, set())
    places = None if isinstance(store, Refusal) else positions(access, a, b, store.access)
    if places is None or isinstance(store, Refusal):
        return Refusal(
            "SPACE",
            {"buffer": access.buffer, "producer_axes": a.sizes, "consumer_axes": b.sizes},
        )
    values: dict[str, loop.Expr] = {}

    def expand(expr: loop.Expr) -> loop.Expr:
        return values[expr.name] if isinstance(expr, Ref) and expr.name in values else expr

    for stmt in _moved(a.body, places, len(b.axes)):
        if isinstance(stmt, loop.Let):
            values[stmt.name] = loop.map_expr(stmt.value, expand)
    (final,) = _moved([loop.Let("", store.value)], places, len(b.axes))
    assert isinstance(final, loop.Let)
    return _with_values(a, b, [], {access: loop.map_expr(final.value, expand)}, buffers, limits)

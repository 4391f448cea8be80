"""Parts of kernels: what is needed to compute some of a kernel's results, and no more.

    v1 = dot x, w; v2 = add(v1, b); pre = v2; v3 = tanh(v2); h = v3
    ->  of h, from x and w:  v1 = dot x, w; v2 = add(v1, b); v3 = tanh(v2); h = v3
        of h, given pre:     v3 = tanh(pre[...]); h = v3

A part computes the same operations on the same operands over the same axes, so that its results
have the same bits. What would not keep that promise is refused: sums over outer axes, which a
back end divides by what else the kernel does; and products that a compiler would now contract
with the sums that they go into, as nothing else needs them any more (or the other way round).
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace

from graphc.ir import loop
from graphc.ir.loop import Access, Axis, Buffer, Kernel, Load, Ref, Stmt, Store
from graphc.passes.fuse import reduces_outer

_NO_PRODUCTS = frozenset({"add", "subtract", "maximum", "minimum", "where", "truediv", "sqrt"})
_SUMS = frozenset({"add", "subtract", "negative"})  # a negated product goes on into sums


def can_divide(kernel: Kernel) -> bool:
    """True for one loop nest, of values at points or rows, that stores to temporaries or outputs
    at most once each."""
    if kernel.is_whole or kernel.form in ("group", "fold"):
        return False
    stores = [s.access.buffer for s in kernel.body if isinstance(s, Store)]
    return len(set(stores)) == len(stores) and not set(stores) & set(kernel.inputs)


def part_of(
    kernel: Kernel, wanted: Set[str], given: Set[str], buffers: Mapping[str, Buffer]
) -> Kernel | None:
    """The part of the kernel that stores `wanted`, reading what it needs of `given`.

    `given` are other results of the same kernel, which are known by then. None where the last
    bits might be others than the whole kernel's.
    """
    known = _given_values(kernel, given - wanted, buffers)
    body: list[Stmt] = []
    needed: set[str] = set()
    for stmt in reversed(kernel.body):
        if isinstance(stmt, Store):
            keep = stmt.access.buffer in wanted
        else:
            assert isinstance(stmt, (loop.Let, loop.Reduce, loop.Dot)), "one loop nest"
            keep = stmt.name in needed
        if keep:
            changed = loop.map_stmt(stmt, lambda e: _value(e, known))
            needed.update(r for e in changed.exprs for r in loop.refs(e))
            body.insert(0, changed)
    if len(body) == len(kernel.body):
        return kernel
    part = replace(kernel, body=tuple(body))
    if not _contracts_alike(kernel, part):
        return None
    if any(isinstance(s, (loop.Reduce, loop.Dot)) for s in body):
        return None if reduces_outer(kernel) else part
    return _without_sums(part)


def _given_values(
    kernel: Kernel, given: Set[str], buffers: Mapping[str, Buffer]
) -> dict[str, Load]:
    """For names whose values are stored as they are, the load that gives them back."""
    known: dict[str, Load] = {}
    for stmt in kernel.body:
        if not isinstance(stmt, Store) or stmt.access.buffer not in given:
            continue
        value, buffer = stmt.value, buffers[stmt.access.buffer]
        # one that is stored in fewer bits has not the bits that it is computed on with
        if isinstance(value, Ref) and value.dtype is buffer.dtype and stmt.access.is_plain:
            known[value.name] = Load((stmt.access,), value.dtype)
    return known


def _value(expr: loop.Expr, known: Mapping[str, Load]) -> loop.Expr:
    return known.get(expr.name, expr) if isinstance(expr, Ref) else expr


def _contracts_alike(kernel: Kernel, part: Kernel) -> bool:
    """True when no product of the part may be contracted that was not, or the reverse.

    Compilers make one operation of a * b + c where all uses of the product are sums.
    """
    before, after = _uses(kernel), _uses(part)
    for stmt in part.body:
        if isinstance(stmt, loop.Let) and _may_be_product(stmt.value):
            old, new = before.get(stmt.name, {}), after.get(stmt.name, {})
            possible = any(uses and all(uses.values()) for uses in (old, new))
            if possible and old.keys() != new.keys():
                return False
    return True


def _may_be_product(expr: loop.Expr) -> bool:
    return isinstance(expr, loop.Apply) and expr.dtype.is_floating and expr.op not in _NO_PRODUCTS


def _uses(kernel: Kernel) -> dict[str, dict[str, bool]]:
    """Per name who uses it (names and buffers), and whether a sum does, not a store."""
    uses: dict[str, dict[str, bool]] = {}
    for stmt in kernel.body:
        assert isinstance(stmt, (loop.Let, loop.Reduce, loop.Dot, Store)), "one loop nest"
        user = f"={stmt.access.buffer}" if isinstance(stmt, Store) else stmt.name
        for expr in stmt.exprs:
            ops = {e.op for e in loop.walk(expr) if isinstance(e, loop.Apply)}
            is_sum = isinstance(stmt, loop.Reduce) or not ops.isdisjoint(_SUMS)
            for name in loop.refs(expr):
                uses.setdefault(name, {})[user] = is_sum
    return uses


def _without_sums(kernel: Kernel) -> Kernel:
    """The axes of a body without reductions: those that nothing uses go, the rest is parallel."""
    used: set[int] = set()
    for stmt in kernel.body:
        if isinstance(stmt, Store):
            used |= {i for i, s in enumerate(stmt.access.strides) if s}
    kept = [i for i in range(len(kernel.axes)) if i in used]
    terms: list[list[tuple[int, int]]] = [[] for _ in kernel.axes]
    for new, old in enumerate(kept):
        terms[old] = [(new, 1)]
    axes = tuple(Axis(kernel.axes[i].name, kernel.axes[i].size) for i in kept)
    return replace(kernel, axes=axes, body=loop.remap_axes(kernel.body, terms, len(kept)))


def renamed(kernel: Kernel, names: Mapping[str, str]) -> Kernel:
    """The kernel with other buffers in the place of some, its parts' too."""
    if not names or not (set(kernel.inputs) | set(kernel.outputs)) & set(names):
        return kernel

    def access(a: Access) -> Access:
        return replace(a, buffer=names[a.buffer]) if a.buffer in names else a

    def statement(stmt: Stmt) -> Stmt:
        if isinstance(stmt, loop.Call):
            both = [tuple(names.get(n, n) for n in own) for own in (stmt.inputs, stmt.outputs)]
            return replace(stmt, inputs=both[0], outputs=both[1])
        assert not isinstance(stmt, (loop.Repeat, loop.Branch)), "its readers are left alone"
        return loop.map_accesses(stmt, access, lambda value: value)

    parts = tuple([renamed(p, names) for p in kernel.parts])
    return replace(kernel, body=tuple([statement(s) for s in kernel.body]), parts=parts)

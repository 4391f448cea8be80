"""Merging two kernels into one: legality and profit, as functions that give a reason or a kernel.

    k1(i, j): v = exp(x[..]); t[..] = v        k12(i, j): v = exp(x[..]); w = v + 1; y[..] = w
    k2(i, j): w = t[..] + 1; y[..] = w     ->

The second kernel's axes are mapped onto the first's by a buffer that both touch: equal strides
are equal axes, an axis is split where the other kernel has two. A producer's value that nobody
else reads is never stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from graphc.ir import loop
from graphc.ir.loop import (
    PARALLEL,
    REDUCE,
    Access,
    Axis,
    Buffer,
    Kernel,
    Load,
    Stmt,
    numbered_axis,
)
from graphc.passes.inline import (
    Limits,
    Refusal,
    check_size,
    inline_into_dot,
    inline_producer,
    joined,
    op_count,
)


def merge(
    a: Kernel,
    b: Kernel,
    buffers: Mapping[str, Buffer],
    keep: Iterable[str],
    limits: Limits,
) -> Kernel | Refusal:
    """One kernel that does what `a` and then `b` do, or the reason why there is none.

    `keep` are the buffers stored by `a` that someone besides `b` reads.
    """
    if a.is_whole or b.is_whole or "group" in (a.form, b.form):
        return Refusal("OPAQUE", {"forms": (a.form, b.form)})
    if b.gathered & set(a.outputs):
        return Refusal("NON_AFFINE", {"buffers": tuple(sorted(b.gathered & set(a.outputs)))})
    link = find_link(a, b, buffers)
    if isinstance(link, Refusal):
        return link
    if a.form == "dot" and b.form == "dot":
        return Refusal("TWO_DOTS")
    if a.form == "dot" and b.form == "row":
        return Refusal("REDUCE_AFTER_DOT")
    if b.form == "dot":
        return inline_into_dot(a, b, buffers, set(keep), limits)
    sides = _sides(a, b, link)
    merged = sides if isinstance(sides, Refusal) else _join(*sides, buffers, set(keep), limits)
    if isinstance(merged, Refusal) and merged.reason == "SPACE":
        inlined = inline_producer(a, b, buffers, set(keep), limits)
        return merged if isinstance(inlined, Refusal) else inlined
    return merged


def merge_beside(
    a: Kernel,
    b: Kernel,
    buffers: Mapping[str, Buffer],
    keep: Iterable[str],
    limits: Limits,
) -> Kernel | Refusal:
    """One kernel for two that need not share a buffer: over equal axes, one launch for both."""
    if "dot" in (a.form, b.form) or [(x.size, x.kind) for x in a.axes] != [
        (x.size, x.kind) for x in b.axes
    ]:
        return Refusal("SPACE", {"producer_axes": a.sizes, "consumer_axes": b.sizes})
    return _join(Side(a), Side(b), 0, buffers, set(keep), limits)


@dataclass(frozen=True, slots=True)
class Link:
    """A buffer that two kernels touch, and where."""

    buffer: str
    first: Access
    second: Access


def find_link(a: Kernel, b: Kernel, buffers: Mapping[str, Buffer]) -> Link | Refusal:
    """The largest buffer through which the two kernels meet."""
    stored = {s.access.buffer: s.access for s in a.stores}
    loads = b.loads
    for access in loads:
        if access.buffer in stored and not access.is_plain:
            return Refusal("NON_AFFINE", {"buffer": access.buffer})
    met = [x for x in loads if x.buffer in stored]
    if not met:
        stored = {x.buffer: x for x in a.loads if x.is_plain}
        met = [x for x in loads if x.buffer in stored and x.is_plain]
    if not met:
        return Refusal("NO_SAVING")
    best = met[0] if len(met) == 1 else max(met, key=lambda x: _weight(x, buffers))
    return Link(best.buffer, stored[best.buffer], best)


def _weight(access: Access, buffers: Mapping[str, Buffer]) -> tuple[int, int, str]:
    moving = len(access.strides) - access.strides.count(0)
    return buffers[access.buffer].nbytes, moving, access.buffer


# -- one set of axes for both


class Side:
    """A kernel over axes that it has in common with another one.

    Most pairs are refused for their axes or for a single access, so the body is changed only when
    it is asked for.
    """

    def __init__(
        self,
        kernel: Kernel,
        axes: Sequence[Axis] | None = None,
        terms: Sequence[Sequence[tuple[int, int]]] = (),
    ) -> None:
        self.kernel = kernel
        self.axes = kernel.axes
        self.map: loop.AxesMap | None = None
        if axes is not None and not _is_identity(kernel, axes, terms):
            kinds = {i: kernel.axes[old].kind for old, parts in enumerate(terms) for i, _ in parts}
            self.axes = tuple([_of_kind(x, kinds.get(i, PARALLEL)) for i, x in enumerate(axes)])
            self.map = loop.AxesMap(terms, len(axes))

    @property
    def reduced(self) -> tuple[int, ...]:
        """Positions of the reduce axes."""
        return tuple([i for i, a in enumerate(self.axes) if a.kind == REDUCE])

    def access(self, access: Access) -> Access:
        """One of the kernel's accesses, over the common axes."""
        return access if self.map is None else self.map.access(access)

    def over(self) -> Kernel:
        """The kernel over the common axes."""
        if self.map is None:
            return self.kernel
        k = self.kernel
        return Kernel(k.name, self.axes, self.map.body(k.body), k.covers, k.where)


def _of_kind(axis: Axis, kind: str) -> Axis:
    return axis if axis.kind == kind else Axis(axis.name, axis.size, kind)


def _is_identity(
    kernel: Kernel, axes: Sequence[Axis], terms: Sequence[Sequence[tuple[int, int]]]
) -> bool:
    return len(axes) == len(kernel.axes) and all(t == [(i, 1)] for i, t in enumerate(terms))


def align(a: Kernel, b: Kernel, link: Link) -> tuple[Kernel, Kernel, int] | Refusal:
    """Both kernels over common axes, and how many axes only `b` has (they are the last)."""
    sides = _sides(a, b, link)
    if isinstance(sides, Refusal):
        return sides
    first, second, new_count = sides
    return first.over(), second.over(), new_count


def _sides(a: Kernel, b: Kernel, link: Link) -> tuple[Side, Side, int] | Refusal:
    if a.sizes == b.sizes and link.first.strides == link.second.strides:
        return Side(a), Side(b), 0
    factors = _common_axes(a, b, link)
    if isinstance(factors, Refusal):
        return factors
    matched, a_rest, b_rest = factors
    pairs = _match_rest(a, b, a_rest, b_rest)
    b_new = [i for i in b_rest if i not in pairs]
    axes: list[Axis] = []
    a_terms: list[list[tuple[int, int]]] = [[] for _ in a.axes]
    b_terms: list[list[tuple[int, int]]] = [[] for _ in b.axes]
    for i, (ai, a_factor, bi, b_factor, size) in enumerate(matched):
        a_terms[ai].append((i, a_factor))
        b_terms[bi].append((i, b_factor))
        axes.append(numbered_axis(i, size, a.axes[ai].kind))
    for i in a_rest:
        a_terms[i].append((len(axes), 1))
        for j, partner in pairs.items():
            if partner == i:
                b_terms[j].append((len(axes), 1))
        axes.append(numbered_axis(len(axes), a.axes[i].size, a.axes[i].kind))
    for j in b_new:
        b_terms[j].append((len(axes), 1))
        axes.append(numbered_axis(len(axes), b.axes[j].size))
    return Side(a, axes, a_terms), Side(b, axes, b_terms), len(b_new)


_Factor = tuple[int, int, int, int, int]  # a's axis, its factor, b's axis, its factor, size


def _common_axes(
    a: Kernel, b: Kernel, link: Link
) -> tuple[list[_Factor], list[int], list[int]] | Refusal:
    """Split the axes that index the shared buffer into common ones, outermost first."""
    if link.first.offset != link.second.offset:
        return Refusal("SPACE", {"buffer": link.buffer, "why": "another part of it is read"})
    left, right = _by_stride(a, link.first), _by_stride(b, link.second)
    result: list[_Factor] = []
    x = y = (0, 0, 0, 1)  # axis, stride, factor so far, size left
    while left or right or x[3] > 1 or y[3] > 1:
        if x[3] == 1:
            x = (*left.pop(),) if left else (0, 0, 0, 1)
        if y[3] == 1:
            y = (*right.pop(),) if right else (0, 0, 0, 1)
        if x[1] != y[1] or x[3] == 1 or y[3] == 1:
            return _space(a, b, link)
        step = min(x[3], y[3])
        if x[3] % step or y[3] % step:
            return _space(a, b, link)
        result.append((x[0], x[2], y[0], y[2], step))
        x = (x[0], x[1] * step, x[2] * step, x[3] // step)
        y = (y[0], y[1] * step, y[2] * step, y[3] // step)
    rest = [
        [i for i, s in enumerate(access.strides) if s == 0] for access in (link.first, link.second)
    ]
    return result[::-1], rest[0], rest[1]


def _by_stride(kernel: Kernel, access: Access) -> list[tuple[int, int, int, int]]:
    """(axis, stride, 1, size) of the axes that move the access, the innermost last."""
    items = [
        (i, s, 1, axis.size)
        for i, (s, axis) in enumerate(zip(access.strides, kernel.axes, strict=True))
        if s
    ]
    return sorted(items, key=lambda item: -item[1])


def _space(a: Kernel, b: Kernel, link: Link) -> Refusal:
    return Refusal(
        "SPACE",
        {
            "buffer": link.buffer,
            "producer_axes": a.sizes,
            "consumer_axes": b.sizes,
        },
    )


def _match_rest(a: Kernel, b: Kernel, a_rest: list[int], b_rest: list[int]) -> dict[int, int]:
    """b's axes that the link does not move, paired with such axes of a: same size, and, where
    both kernels load a buffer, the same stride."""
    first = {x.buffer: x for x in a.loads if x.is_plain}
    shared = [(first[x.buffer], x) for x in b.loads if x.is_plain and x.buffer in first]
    free = list(a_rest)
    pairs: dict[int, int] = {}
    for j in b_rest:
        fits = [i for i in free if a.axes[i].size == b.axes[j].size]
        fits.sort(key=lambda i: -sum(x.strides[i] == y.strides[j] != 0 for x, y in shared))
        if fits:
            pairs[j] = fits[0]
            free.remove(fits[0])
    return pairs


# -- one body


def _join(
    a: Side, b: Side, new_count: int, buffers: Mapping[str, Buffer], keep: set[str], limits: Limits
) -> Kernel | Refusal:
    kinds = _kinds(a, b)
    if isinstance(kinds, Refusal):
        return kinds
    refusal = (
        _check_new_axes(a.kernel, b, keep, new_count, limits)
        or _check_order(a, b)
        or _check_hazards(a, b, buffers)
    )
    if refusal:
        return refusal
    first, second = a.over(), b.over()
    body = _substituted(first, second, keep, buffers)
    axes = tuple(map(_of_kind, first.axes, kinds))
    merged = joined(first, second, axes, body)
    return check_size(merged, limits) or _check_stores(merged) or merged


def _kinds(a: Side, b: Side) -> list[str] | Refusal:
    """Each axis's kind; the reductions of both must run over the same axes."""
    a_red, b_red = a.reduced, b.reduced
    if a_red and b_red and a_red != b_red:
        return Refusal("SPACE", {"why": "they reduce other axes", "axes": (a_red, b_red)})
    if a.kernel.form == "dot" and _moves_along(b, a_red):
        return Refusal("SPACE", {"why": "the summed axes are gone after a dot"})
    return [REDUCE if i in a_red or i in b_red else PARALLEL for i in range(len(a.axes))]


def _moves_along(side: Side, axes: Sequence[int]) -> bool:
    """True where an access names one of the axes."""
    strides = {x.strides for x in side.kernel.loads}
    strides.update([s.access.strides for s in side.kernel.stores])
    over = strides if side.map is None else map(side.map.strides, strides)
    return any([x[i] for x in over for i in axes])


def _check_new_axes(
    a: Kernel, b: Side, keep: set[str], count: int, limits: Limits
) -> Refusal | None:
    """Along axes that only the consumer has, the producer would be computed again and again.

    Not so along axes that the consumer reduces: in a row kernel, a value that does not depend
    on them is computed once a row.
    """
    new = range(len(b.axes) - count, len(b.axes))
    again = [i for i in new if b.axes[i].kind == PARALLEL]
    if not count or (not again and a.form == "flat"):
        return None
    cost = op_count(a)
    if a.form != "flat" or keep & set(a.outputs) or cost > limits.broadcast_ops:
        return Refusal("RECOMPUTE", {"ops": cost, "form": a.form, "axes": count})
    return None


def _check_order(a: Side, b: Side) -> Refusal | None:
    """What `a` stores is read by `b` at the point at which it is stored."""
    stored = {s.access.buffer: s.access for s in a.kernel.stores}
    for access in b.kernel.loads:
        if access.buffer in stored and b.access(access) != a.access(stored[access.buffer]):
            return Refusal("SPACE", {"buffer": access.buffer, "why": "read in another order"})
    return None


def _check_hazards(a: Side, b: Side, buffers: Mapping[str, Buffer]) -> Refusal | None:
    """A buffer that `b` overwrites must be read by `a` at the same place, in a flat kernel."""
    stores = [(side, s.access) for side in (b, a) for s in side.kernel.stores]
    writes = {x.buffer: side.access(x) for side, x in stores if _is_variable(x, buffers)}
    if not writes:
        return None
    if a.kernel.form != "flat" or b.kernel.form != "flat":
        return Refusal("UPDATE", {"variables": tuple(sorted(writes))})
    for side in (a, b):
        for access in side.kernel.loads:
            if access.buffer in writes and side.access(access) != writes[access.buffer]:
                return Refusal("HAZARD", {"variable": access.buffer})
    return None


def _is_variable(access: Access, buffers: Mapping[str, Buffer]) -> bool:
    return buffers[access.buffer].role == loop.VARIABLE


def _substituted(
    a: Kernel, b: Kernel, keep: set[str], buffers: Mapping[str, Buffer]
) -> tuple[Stmt, ...]:
    stored = {s.access.buffer: s for s in a.stores}
    names: dict[str, loop.Expr] = {}

    def change(expr: loop.Expr) -> loop.Expr:
        if isinstance(expr, Load) and expr.is_plain and expr.pieces[0].buffer in stored:
            return stored[expr.pieces[0].buffer].value
        return names.get(expr.name, expr) if isinstance(expr, loop.Ref) else expr

    def stays(stmt: Stmt) -> bool:
        if not isinstance(stmt, loop.Store) or stmt.access.buffer in keep:
            return True
        return buffers[stmt.access.buffer].role != loop.TEMPORARY

    body = [s for s in a.body if stays(s)]
    apart = stored.keys().isdisjoint
    for stmt in b.body:
        if names or not apart(stmt.reads):
            stmt = loop.map_stmt(stmt, change)
        if isinstance(stmt, loop.Let) and isinstance(stmt.value, loop.Ref):
            names[stmt.name] = stmt.value  # a second name for a value
        else:
            body.append(stmt)
    return tuple(body)


def _check_stores(kernel: Kernel) -> Refusal | None:
    """Every store must name every parallel axis, or the same element is stored many times."""
    for store in kernel.stores:
        if not all([store.access.strides[i] for i in kernel.parallel]):
            return Refusal("SPACE", {"buffer": store.access.buffer, "why": "it has fewer axes"})
    return None

"""Column sums taken by the kernel that walks the rows: legality, and the two kernels it becomes.

    a(i, j+): ...; y[i, j] = v               a(p, r~, j+): ...; y[p, r, j] = v
    b(i+, j): s = reduce sum v * x[i, j]  ->               f = fold sum v * x; parts[p, j] = f
              t[j] = s                       b(p+, j): s = reduce sum parts[p, j]; t[j] = s

Like a merge it gives what it makes or the reason why not. `graphc.passes.sweep` says where in a
program it pays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from graphc.ir import loop
from graphc.ir.loop import (
    FOLD,
    PARALLEL,
    REDUCE,
    TEMPORARY,
    VARIABLE,
    Access,
    Axis,
    Buffer,
    Fold,
    Kernel,
    Let,
    Load,
    Reduce,
    Ref,
    Stmt,
    Store,
)
from graphc.passes.inline import Limits, Refusal, check_size, joined, needed
from graphc.passes.merge import align, find_link
from graphc.passes.target import Folding

_MOST_ROWS = 512  # of a part, if that can be: longer sums lose digits
_FEWEST = 16  # times as few parts as wanted are too few to run side by side


@dataclass(frozen=True, slots=True)
class Folded:
    """The kernel that walks the rows, the one that adds up its parts, and what lies between."""

    rows: Kernel
    sums: Kernel
    parts: tuple[Buffer, ...]


def fold_sums(
    a: Kernel,
    b: Kernel,
    buffers: Mapping[str, Buffer],
    keep: set[str],
    limits: Limits,
    folding: Folding,
) -> Folded | Refusal:
    """The row kernel `a` with the sums of `b`, or the reason why it cannot take them.

    `keep` are buffers stored by `a` that someone besides `b` reads.
    """
    pair = _aligned(a, b, buffers)
    if isinstance(pair, Refusal):
        return pair
    a, b = pair
    columns = math.prod(a.sizes[i] for i in a.reduced)
    if columns > folding.columns:
        return Refusal("TOO_BIG", {"columns": columns, "most": folding.columns})
    inner = _inner_part(b)
    if isinstance(inner, Refusal):
        return inner
    split = _split_rows(a, folding)
    if isinstance(split, Refusal):
        return split
    order = (*split.parallel, *split.reduced)
    parts = _part_buffers(b, inner, tuple(split.sizes[i] for i in order), buffers)
    rest = _rest(b, inner, split, order, parts)
    unread = {n for n in a.outputs if buffers[n].role == TEMPORARY} - keep - {*rest.inputs}
    body = _joined_body(a, b, inner, split, order, parts, unread)
    rows = replace(joined(a, b, split.axes, body), name=a.name)
    return check_size(rows, limits) or Folded(rows, rest, tuple(parts.values()))


def _aligned(
    a: Kernel, b: Kernel, buffers: Mapping[str, Buffer]
) -> tuple[Kernel, Kernel] | Refusal:
    """Both over common axes: what `a` walks along, `b` sums across, and the other way round."""
    if b.gathered & set(a.outputs):
        return Refusal("NON_AFFINE", {"buffers": tuple(sorted(b.gathered & set(a.outputs)))})
    if any(buffers[n].role == VARIABLE for n in a.outputs):
        return Refusal("UPDATE", {"variables": a.outputs})
    if set(b.outputs) & set(a.inputs):
        return Refusal("CYCLE", {"why": "the rows need the sums"})
    link = find_link(a, b, buffers)
    pair = link if isinstance(link, Refusal) else align(a, b, link)
    if isinstance(pair, Refusal):
        return pair
    a, b, new_count = pair
    rows, columns = {*a.parallel, *a.folded}, set(a.reduced)
    across = set(b.reduced), set(b.parallel)
    wide = {i for i, axis in enumerate(a.axes) if axis.size > 1}
    if new_count or (across[0] & wide, across[1] & wide) != (rows & wide, columns & wide):
        return Refusal("SPACE", {"why": "they reduce other axes", "axes": (a.reduced, b.reduced)})
    stored = {s.access.buffer: s.access for s in a.body if isinstance(s, Store)}
    for access in b.loads:
        if access.buffer in stored and access != stored[access.buffer]:
            return Refusal("SPACE", {"buffer": access.buffer, "why": "read in another order"})
    return a, b


# -- what of the sums belongs to the rows


def _inner_part(b: Kernel) -> tuple[Stmt, ...] | Refusal:
    """The statements that walk the rows: reductions, stores of whole rows, what both need."""
    scopes, across = b.scopes, set(b.reduced)
    named = {s.name: s for s in b.body if isinstance(s, (Let, Reduce))}
    wanted = [s for s in b.body if isinstance(s, Reduce) or _walks(s, scopes, across)]
    found: set[str] = set()
    pending = [n for s in wanted for e in s.exprs for n in loop.refs(e)]
    while pending:
        name = pending.pop()
        if isinstance(named[name], Reduce):
            return Refusal("SPACE", {"why": "its rows are walked again with their sums"})
        if name not in found:
            found.add(name)
            pending += [n for e in named[name].exprs for n in loop.refs(e)]
    return tuple(s for s in b.body if s in wanted or (isinstance(s, Let) and s.name in found))


def _walks(stmt: Stmt, scopes: Mapping[str, frozenset[int]], across: set[int]) -> bool:
    """True for a store of each row."""
    if not isinstance(stmt, Store):
        return False
    moved = loop.axes_used(Load((stmt.access,), stmt.value.dtype), scopes)
    return bool((moved | loop.axes_used(stmt.value, scopes)) & across)


# -- parts


@dataclass(frozen=True)
class _Split:
    """The axes of a kernel whose rows fall into parts; each old axis as a sum of new ones."""

    axes: tuple[Axis, ...]
    terms: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(a.size for a in self.axes)

    @property
    def parallel(self) -> tuple[int, ...]:
        return tuple(i for i, a in enumerate(self.axes) if a.kind == PARALLEL)

    @property
    def reduced(self) -> tuple[int, ...]:
        return tuple(i for i, a in enumerate(self.axes) if a.kind == REDUCE)


def _split_rows(a: Kernel, folding: Folding) -> _Split | Refusal:
    """The rows as parts: of the numbers of parts into which they divide, that nearest below the
    one wanted. A fold kernel's stay as they are."""
    if a.folded:
        return _Split(a.axes, tuple(((i, 1),) for i in range(len(a.axes))))
    rows = [i for i in a.parallel if a.sizes[i] > 1]
    count = math.prod(a.sizes[i] for i in rows)
    most = min(max(folding.parts, count // _MOST_ROWS), count // folding.rows)
    parts, at, outer = max(_divisions(a, rows, most), default=(0, 0, 0))
    if parts * _FEWEST < folding.parts:
        return Refusal("SPACE", {"why": "the rows divide into too few parts",
                                 "rows": count, "parts": parts})  # fmt: skip
    axes: list[Axis] = []
    terms: list[tuple[tuple[int, int], ...]] = []
    for i, axis in enumerate(a.axes):
        size = axis.size
        position = rows.index(i) if i in rows else -1
        if axis.kind == REDUCE or size == 1:
            pieces = [(axis.kind, size)]
        elif position == at:
            pieces = [(PARALLEL, outer), (FOLD, size // outer)]
        else:
            pieces = [(PARALLEL if position < at else FOLD, size)]
        own, factor = [], size
        for kind, n in pieces:
            factor //= n
            own.append((len(axes), factor))
            axes.append(Axis(f"i{len(axes)}", n, kind))
        terms.append(tuple(own))
    return _Split(tuple(axes), tuple(terms))


def _divisions(a: Kernel, rows: Sequence[int], most: int) -> Iterator[tuple[int, int, int]]:
    """(parts, n, outer): all rows before the n-th axis one by one, that axis in `outer` pieces."""
    before = 1
    for n, i in enumerate(rows):
        size = a.sizes[i]
        few = range(1, min(size, most // before) + 1)
        yield from ((before * d, n, d) for d in few if size % d == 0)
        before *= size


def _part_buffers(
    b: Kernel, inner: Sequence[Stmt], shape: tuple[int, ...], buffers: Mapping[str, Buffer]
) -> dict[str, Buffer]:
    """By the sums' names, where their parts go."""
    stored = {r: s.access.buffer for s in b.body if isinstance(s, Store)
              for r in sorted(loop.refs(s.value))}  # fmt: skip
    found: dict[str, Buffer] = {}
    for stmt in inner:
        if isinstance(stmt, Reduce):
            base = stored.get(stmt.name, b.outputs[0])
            name = f"{base}_parts"
            while name in buffers or name in {x.name for x in found.values()}:
                name += "_"
            found[stmt.name] = Buffer(name, stmt.dtype, shape, TEMPORARY, buffers[base].source)
    return found


def _part_access(buffer: Buffer, order: Sequence[int], rank: int) -> Access:
    strides, step = [0] * rank, 1
    for i, size in zip(reversed(order), reversed(buffer.shape), strict=True):
        strides[i], step = step, step * size
    return Access(buffer.name, tuple(strides))


def _rest(
    b: Kernel, inner: Sequence[Stmt], split: _Split, order: Sequence[int],
    parts: Mapping[str, Buffer],
) -> Kernel:  # fmt: skip
    """`b` with its sums taken over the parts: what it does with them it goes on doing."""
    axes = tuple(
        Axis(f"i{n}", split.sizes[i], REDUCE if i in split.parallel else PARALLEL)
        for n, i in enumerate(order)
    )
    sums = [
        Reduce(s.name, s.op, Load((_part_access(parts[s.name], range(len(axes)), len(axes)),),
                                  s.dtype), s.dtype)
        for s in inner if isinstance(s, Reduce)
    ]  # fmt: skip
    stores = [s for s in inner if isinstance(s, Store)]
    terms = [[(order.index(i), f) for i, f in own if i in split.reduced] for own in split.terms]
    rest = [s for s in b.body if not isinstance(s, Reduce) and s not in stores]
    return replace(b, axes=axes, body=(*sums, *needed(loop.remap_axes(rest, terms, len(axes)))))


def _joined_body(
    a: Kernel, b: Kernel, inner: Sequence[Stmt], split: _Split, order: Sequence[int],
    parts: Mapping[str, Buffer], unread: set[str],
) -> tuple[Stmt, ...]:  # fmt: skip
    """What `a` does, then what belongs to its rows of `b`, each value computed once."""
    rank = len(split.axes)
    whole = loop.remap_axes(a.body, split.terms, rank)
    results = {s.access.buffer: s.value for s in whole if isinstance(s, Store)}
    body = [s for s in whole if not (isinstance(s, Store) and s.access.buffer in unread)]
    known: dict[loop.Expr, loop.Expr] = {
        s.value: Ref(s.name, s.value.dtype) for s in body if isinstance(s, Let)
    }
    taken = {s.name for s in body if isinstance(s, (Let, Reduce, Fold))}
    renamed: dict[str, loop.Expr] = {}

    def change(expr: loop.Expr) -> loop.Expr:
        if isinstance(expr, Load) and expr.is_plain and expr.pieces[0].buffer in results:
            return results[expr.pieces[0].buffer]
        return renamed.get(expr.name, expr) if isinstance(expr, Ref) else expr

    stores: list[Stmt] = []
    for stmt in loop.remap_axes(inner, split.terms, rank):
        own = loop.map_stmt(stmt, change)
        if isinstance(own, Let):
            name = _fresh(own.name, taken)
            renamed[own.name] = known.setdefault(own.value, Ref(name, own.value.dtype))
            if renamed[own.name] == Ref(name, own.value.dtype):
                taken.add(name)
                _insert(body, Let(name, own.value))
        elif isinstance(own, Reduce):
            name = _fresh(own.name, taken)
            taken.add(name)
            access = _part_access(parts[own.name], order, rank)
            _insert(body, Fold(name, own.op, own.value, own.dtype))
            stores.append(Store(access, Ref(name, own.dtype)))
        else:
            stores.append(own)
    return (*body, *stores)


def _insert(body: list[Stmt], stmt: Stmt) -> None:
    """Put the statement where all that it uses is known first: nothing is kept for it longer, and
    a result may sooner take the place of what it reads."""
    used = {n for e in stmt.exprs for n in loop.refs(e)}
    at = max((n for n, s in enumerate(body, 1) if getattr(s, "name", None) in used), default=0)
    body.insert(at, stmt)


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name

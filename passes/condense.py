"""condense: what several stored values are made of is stored in their place, or a narrower one.

    k1: z = dot ..; t[..] = exp(z); u[..] = z * c[..]      k1: z = dot ..; w[..] = z
    k2: .. t[..] + u[..] ..                            ->  k2: .. exp(w[..]) + w[..] * c[..] ..

    k1: t[..] = v; u[..] = v                               k1: t[..] = v
    k2: .. u[..] ..                                    ->  k2: .. t[..] ..

    k1: h = cast<bfloat16>(..); t[..] = cast<float32>(h)   k1: h = cast<bfloat16>(..); w[..] = h
    k2: .. t[..] ..                                    ->  k2: .. cast<float32>(w[..]) ..

Fusion computes what only the backward pass wants where its operand is at hand, and stores it: the
factors of an activation's gradient beside the activation. Here as few bytes are stored as their
readers can do with, if what is computed again costs less time than the bytes, and no more bytes
are alive at once. Skips values that a matrix product takes as operands, that are read at more
points than they have, that outputs or commits want; and, per element, more operations than the
target computes again.
Cost: per kernel that stores for others and per choice, a copy of each reader.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from graphc.ir import loop
from graphc.ir.loop import (
    OUTPUT,
    TEMPORARY,
    Access,
    Apply,
    Buffer,
    Dot,
    Kernel,
    Let,
    Program,
    Ref,
    Stmt,
    Store,
)
from graphc.passes.context import Context
from graphc.passes.fuse import flops
from graphc.passes.remat_slices import renamed
from graphc.passes.stored_values import StoredValues, value_of, without


def condense(program: Program, ctx: Context) -> Program:
    """The program in which as few bytes are stored for others as they can do with."""
    if not ctx.settings.fuse:
        return program
    condensing = _Condensing(program, ctx)
    for i in range(program.commit):
        condensing.kernel(i)
    return condensing.result()


@dataclass(frozen=True)
class _Trial:
    """Kernels by position in the place of others, so that `buffer` is stored and `gone` are not,
    and the seconds that this saves."""

    buffer: Buffer
    gone: tuple[str, ...]
    changed: Mapping[int, Kernel]
    saved_s: float


class _Condensing(StoredValues):
    def kernel(self, i: int) -> None:
        """Kernel `i` as long as something is gained."""
        kernel = self.kernels[i]
        if len(kernel.stores) > 1 and self.going(i, kernel):
            self.merge_twins(i)
        while trials := [t for t in self.trials(i) if t.saved_s > 0]:
            best = max(trials, key=lambda t: t.saved_s)
            self.buffers[best.buffer.name] = best.buffer
            self.put(best.changed, best.gone)

    def going(self, i: int, kernel: Kernel) -> list[Store]:
        """The stores that may go, of kernel `i` as it is here."""
        return [s for s in kernel.stores if s.access.is_plain and self.may_go(i, s)]

    # -- one value in two buffers

    def merge_twins(self, i: int) -> None:
        """What is stored twice, once: copies for the backward pass that fusion has brought back."""
        kernel = replace(self.kernels[i], body=_without_repeats(self.kernels[i].body))
        first: dict[tuple[loop.Expr, Access], str] = {}
        for store in kernel.stores:
            name, place = store.access.buffer, replace(store.access, buffer="")
            readers = sorted(self.readers.get(name, ()))
            other = first.setdefault((store.value, place), name)
            if other == name or not self.may_go(i, store) or not self.may_be_read(other, name):
                continue
            if any(self.kernels[r].programs for r in readers):  # loops know their buffers by name
                continue
            rest = without(kernel, [store])
            assert rest is not None, "the other one is stored"
            kernel = rest
            changed = {r: renamed(self.kernels[r], {name: other}) for r in readers}
            self.put({i: kernel, **changed}, [name])

    def may_be_read(self, name: str, instead_of: str) -> bool:
        """Whether a buffer may serve the readers of another one: nothing changes it, and it is of
        that size, so that what fills the one fills the other."""
        mine, other = self.buffers[name], self.buffers[instead_of]
        is_like = (mine.dtype, mine.size) == (other.dtype, other.size)
        return is_like and mine.role in (TEMPORARY, OUTPUT)

    # -- one value in the place of others

    def trials(self, i: int) -> Iterator[_Trial]:
        """Per value that kernel `i` might store instead, what becomes of it and its readers."""
        if not self.going(i, self.kernels[i]):
            return
        kernel = replace(self.kernels[i], body=_opened(self.kernels[i].body))
        stores = self.going(i, kernel)
        for let, group in _choices(kernel, stores):
            widths = [self.buffers[s.access.buffer].dtype.itemsize for s in group]
            if let.value.dtype.itemsize < sum(widths):
                trial = self.trial(i, kernel, let, group)
                if trial is not None:
                    yield trial

    def trial(self, i: int, kernel: Kernel, let: Let, group: Sequence[Store]) -> _Trial | None:
        """The kernel that stores `let`, and readers that make of it what they can of the group."""
        first = group[0].access
        buffer = self.buffer_for(let, self.buffers[first.buffer])
        buffers = {**self.buffers, buffer.name: buffer}
        kept = Store(Access(buffer.name, first.strides, first.offset), Ref(let.name, buffer.dtype))
        at = kernel.body.index(let) + 1
        kernel = replace(kernel, body=(*kernel.body[:at], kept, *kernel.body[at:]))
        changed: dict[int, Kernel] = {}
        gone: list[Store] = []
        again = 0.0
        for store in group:
            alone = without(kernel, [s for s in group if s is not store])
            value = value_of(alone, store, buffers) if alone else None
            if value is None or buffer.name not in value.inputs:
                continue
            tried = dict(changed)
            if self.put_into_readers(value, tried, self.ctx.target.recomputed_flops):
                continue
            changed = tried
            gone.append(store)
            again += flops(value) * value.space * len(self.readers[store.access.buffer])
        rest = without(kernel, gone)
        names = [s.access.buffer for s in gone]
        changed = {r: replace(k, body=_without_repeats(k.body)) for r, k in changed.items()}
        if not gone or rest is None:
            return None
        changed[i] = rest
        if buffer.nbytes + self.kept_bytes(changed) > sum(buffers[n].nbytes for n in names):
            return None  # more would be alive
        target = self.ctx.target
        again_s = again * target.recomputed_cost / target.rates.flops_per_s
        saved_s = -self.moved(changed, buffers) / target.rates.bytes_per_s - again_s
        return _Trial(buffer, tuple(names), changed, saved_s)

    def buffer_for(self, let: Let, like: Buffer) -> Buffer:
        """A buffer of the value, laid out like that one."""
        name = f"{like.name}_from"
        while name in self.buffers:
            name += "_"
        return Buffer(name, let.value.dtype, like.shape, TEMPORARY, like.source)


def _opened(body: Sequence[Stmt]) -> tuple[Stmt, ...]:
    """The body in which a rounded product, and what a let widens, have names of their own."""
    result: list[Stmt] = []
    names: dict[loop.Expr, Ref] = {}

    def named(e: loop.Expr) -> loop.Expr:
        return names.get(e, e)

    for stmt in body:
        stmt = loop.map_stmt(stmt, named) if names else stmt
        inner = _widened(stmt)
        if isinstance(stmt, Let) and inner is not None:
            names[inner] = Ref(f"{stmt.name}_narrow", inner.dtype)
            result.append(Let(names[inner].name, inner))
            stmt = loop.map_stmt(stmt, named)
        result.append(stmt)
        if isinstance(stmt, Dot):
            for cast in _roundings(Ref(stmt.name, stmt.dtype), body):
                names[cast] = Ref(f"{stmt.name}_{cast.dtype}", cast.dtype)
                result.append(Let(names[cast].name, cast))
    return tuple(result)


def _widened(stmt: Stmt) -> Apply | None:
    """What a let widens, where it is computed right there."""
    value = stmt.value if isinstance(stmt, Let) else None
    if not isinstance(value, Apply) or value.op != "cast":
        return None
    (inner,) = value.args
    is_wider = inner.dtype.itemsize < value.dtype.itemsize
    return inner if isinstance(inner, Apply) and is_wider else None


def _roundings(product: Ref, body: Sequence[Stmt]) -> list[Apply]:
    """The casts of a product to fewer bits."""
    parts = (e for s in body for x in s.exprs for e in loop.walk(x))
    casts = [e for e in parts if isinstance(e, Apply) and e.op == "cast" and e.args == (product,)]
    return [c for c in dict.fromkeys(casts) if c.dtype.itemsize < product.dtype.itemsize]


def _choices(kernel: Kernel, stores: Sequence[Store]) -> list[tuple[Let, tuple[Store, ...]]]:
    """Values that might be stored, each with the stores of what is made of it, over equal axes.

    Of values from which the same stores follow, the last: it leaves least to compute again.
    """
    users: dict[str, set[int]] = {}
    lets = {s.name: s for s in kernel.body if isinstance(s, Let)}
    for n, store in enumerate(stores):
        stack = [name for e in store.exprs for name in loop.refs(e)]
        while stack:
            name = stack.pop()
            if name in lets and n not in users.setdefault(name, set()):
                users[name].add(n)
                stack += [x for e in lets[name].exprs for x in loop.refs(e)]
    kept = {s.value.name for s in kernel.stores if isinstance(s.value, Ref)}
    scopes = kernel.scopes
    found: dict[frozenset[int], tuple[Let, tuple[Store, ...]]] = {}
    for name, let in lets.items():
        group = tuple(stores[n] for n in sorted(users.get(name, ())))
        axes = [frozenset(i for i, s in enumerate(g.access.strides) if s) for g in group]
        if group and name not in kept and all(a == scopes[name] for a in axes):
            found[frozenset(users[name])] = let, group
    return list(found.values())


def _without_repeats(body: Sequence[Stmt]) -> tuple[Stmt, ...]:
    """The body without a second let of one value."""
    names: dict[str, loop.Expr] = {}
    known: dict[loop.Expr, Ref] = {}
    result: list[Stmt] = []

    def named(e: loop.Expr) -> loop.Expr:
        return names.get(e.name, e) if isinstance(e, Ref) else e

    for stmt in body:
        stmt = loop.map_stmt(stmt, named) if names else stmt
        if isinstance(stmt, Let):
            same = known.setdefault(stmt.value, Ref(stmt.name, stmt.value.dtype))
            if same.name != stmt.name:
                names[stmt.name] = same
                continue
        result.append(stmt)
    return tuple(result)


__all__ = ["condense"]

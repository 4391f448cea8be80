"""Loop IR: the language of kernels, which every back end spells out and none extends.

    Program = buffers, kernels in the order in which they run, and where each buffer lies
    Kernel  = name, axes, body            one loop nest over all axes; the body runs in it
    Axis    = name, size, parallel|reduce|fold
    Stmt    = Let name = Expr
            | Reduce name = op over the reduce axes of Expr
            | Fold name = op over the fold axes of Expr
            | Dot name = sum over the reduce axes of Expr * Expr
            | Store Access = Expr
            | Call routine(buffers)       a library routine on whole arrays; alone in its kernel
            | Repeat Program              a loop over steps; alone in its kernel
            | Branch Program, Program     one of two, by a condition; alone in its kernel
    Expr    = Load(pieces, fill) | Gather(access, index) | Const | Index | Ref | Apply(op, Exprs)
    Access  = buffer, one stride per axis, offset, guards

An access is affine in the axes: broadcast, transpose, slice, flip and window are strides. A
guard says for which axes it holds; a load with several guarded pieces is a concatenation, one
with a fill value a padding. `divisor` serves strides that stretch (the data gradient of a
strided convolution): the guards then promise that it divides the index.

Statements stand in the order of their use; a name is assigned once. A value depends on the axes
that its loads and indices use; a Reduce or Dot removes the reduce axes. Stores and lets after a
Reduce may use the reduce axes again (a row kernel: softmax). Fold axes are rows that are walked
one after the other: all else treats them as parallel, a Fold adds up along them, column by column,
and its result is stored and used for nothing else (the gradients of a layer norm in one walk). The
meaning of the language is the interpreter in `graphc.ir.interpret`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from operator import is_not
from typing import Any, Final, NamedTuple, TypeAlias

from graphc.ir.derived import Deriving, derived
from graphc.ir.dtypes import DType, int64
from graphc.ir.location import Location

PARALLEL: Final = "parallel"
REDUCE: Final = "reduce"
FOLD: Final = "fold"
REDUCE_OPS: Final = ("sum", "prod", "max", "min", "any", "all", "argmax", "argmin")


@dataclass(frozen=True, slots=True)
class Axis:
    """A loop over range(size)."""

    name: str
    size: int
    kind: str = PARALLEL


@lru_cache(maxsize=4096)
def numbered_axis(number: int, size: int, kind: str = PARALLEL, prefix: str = "i") -> Axis:
    """The axis of that number; a program has thousands, of which few differ."""
    return Axis(f"{prefix}{number}", size, kind)


@dataclass(frozen=True, slots=True)
class Linear:
    """offset + sum of stride * axis, in the order of the kernel's axes."""

    strides: tuple[int, ...]
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Guard:
    """Holds where 0 <= value < size * step, and step divides value."""

    value: Linear
    size: int
    step: int = 1


@dataclass(frozen=True, slots=True)
class Access:
    """Where in a buffer (counted in elements) the kernel's axes point."""

    buffer: str
    strides: tuple[int, ...]
    offset: int = 0
    guards: tuple[Guard, ...] = ()
    divisor: int = 1

    @property
    def is_plain(self) -> bool:
        """True when the access is affine without any condition."""
        return not self.guards and self.divisor == 1


@dataclass(frozen=True, slots=True)
class Load:
    """The element at the first piece whose guards hold, else `fill`."""

    pieces: tuple[Access, ...]
    dtype: DType
    fill: float | int | bool = 0

    @property
    def is_plain(self) -> bool:
        """True for one piece without guards."""
        return len(self.pieces) == 1 and self.pieces[0].is_plain


@dataclass(frozen=True, slots=True)
class Gather:
    """The element at `access` + stride * index, or `fill` where index is outside range(size)."""

    access: Access
    index: Expr
    stride: int
    size: int
    dtype: DType
    fill: float | int | bool = 0


@dataclass(frozen=True, slots=True)
class Const:
    """A scalar known at compile time."""

    value: float | int | bool
    dtype: DType


@dataclass(frozen=True, slots=True)
class Index:
    """An affine function of the axes, as an integer."""

    value: Linear
    dtype: DType = int64


@dataclass(frozen=True, slots=True)
class Ref:
    """What a Let, Reduce or Dot before has named."""

    name: str
    dtype: DType


@dataclass(frozen=True, slots=True)
class Apply:
    """A pointwise op of the op table on scalars; `dtype` is that of the result.

    `attrs` are the op's attributes as sorted pairs.
    """

    op: str
    args: tuple[Expr, ...]
    dtype: DType
    attrs: tuple[tuple[str, Any], ...] = ()


Expr: TypeAlias = Load | Gather | Const | Index | Ref | Apply


class Contents:
    """What one walk over a statement's expressions finds, outer parts first, left to right."""

    __slots__ = ("accesses", "gathered", "leaves", "names")

    def __init__(self, exprs: Sequence[Expr]) -> None:
        self.leaves: list[Load | Gather | Index] = []
        self.accesses: list[Access] = []
        self.gathered: list[str] = []  # buffers of which data say what is read
        self.names: set[str] = set()
        for expr in exprs:
            self._add(expr)

    def _add(self, expr: Expr) -> None:
        if isinstance(expr, Apply):
            for arg in expr.args:
                self._add(arg)
        elif isinstance(expr, Ref):
            self.names.add(expr.name)
        elif isinstance(expr, Load):
            self.leaves.append(expr)
            self.accesses += expr.pieces
        elif isinstance(expr, Gather):
            self.leaves.append(expr)
            self.accesses.append(expr.access)
            self.gathered.append(expr.access.buffer)
            self._add(expr.index)
        elif isinstance(expr, Index):
            self.leaves.append(expr)


class Statement(Deriving):
    """What statements know of themselves. Passes keep those that they need not change, so that
    kernels made of other kernels' statements find it there."""

    @property
    def exprs(self) -> tuple[Expr, ...]:
        """The expressions directly in the statement."""
        return ()

    @derived
    def contents(self) -> Contents:
        """What the expressions hold."""
        return Contents(self.exprs)

    @derived
    def reads(self) -> frozenset[str]:
        """The buffers that it reads."""
        return frozenset([a.buffer for a in self.contents.accesses])

    @derived
    def own_axes(self) -> frozenset[int]:
        """Positions of the axes that its loads and indices name."""
        used: set[int] = set()
        for access in self.contents.accesses:
            used |= _axes_of(access)
        for leaf in self.contents.leaves:
            if isinstance(leaf, Index):
                used |= _nonzero(leaf.value.strides)
        return frozenset(used)

    def axes(self, known: Mapping[str, frozenset[int]]) -> frozenset[int]:
        """Positions of the axes on which its expressions depend; `known` has the names'."""
        names = self.contents.names
        return self.own_axes.union(*[known[n] for n in names]) if names else self.own_axes


@dataclass(frozen=True, slots=True)
class Let(Statement):
    """name = value."""

    name: str
    value: Expr

    @property
    def exprs(self) -> tuple[Expr, ...]:
        """The expressions directly in the statement."""
        return (self.value,)


@dataclass(frozen=True, slots=True)
class Reduce(Statement):
    """name = op over all reduce axes of value; argmax and argmin give the row-major position."""

    name: str
    op: str
    value: Expr
    dtype: DType

    @property
    def exprs(self) -> tuple[Expr, ...]:
        """The expressions directly in the statement."""
        return (self.value,)


@dataclass(frozen=True, slots=True)
class Fold(Statement):
    """name = op over all fold axes of value; `op` is that of a Reduce without position."""

    name: str
    op: str
    value: Expr
    dtype: DType

    @property
    def exprs(self) -> tuple[Expr, ...]:
        """The expressions directly in the statement."""
        return (self.value,)


@dataclass(frozen=True, slots=True)
class Dot(Statement):
    """name = sum over all reduce axes of a * b, accumulated in `dtype`."""

    name: str
    a: Expr
    b: Expr
    dtype: DType

    @property
    def exprs(self) -> tuple[Expr, ...]:
        """The expressions directly in the statement."""
        return (self.a, self.b)


@dataclass(frozen=True, slots=True)
class Store(Statement):
    """buffer[access] = value; over all elements of the kernel's space that it names."""

    access: Access
    value: Expr

    @property
    def exprs(self) -> tuple[Expr, ...]:
        """The expressions directly in the statement."""
        return (self.value,)


@dataclass(frozen=True, slots=True)
class Call(Statement):
    """A library routine (an op of kind opaque) on whole dense buffers; `flops` as far as known."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: tuple[tuple[str, Any], ...] = ()
    flops: float = 0.0


class Carried(NamedTuple):
    """Buffers of a carried value: before the first step, after the last, and a spare.

    Steps write `result` and `spare` in turn, so that none overwrites what it reads.
    """

    initial: str
    result: str
    spare: str


@dataclass(frozen=True, eq=False)
class Repeat(Statement):
    """The body, `trips` times (UNBOUNDED: as long as it says), for step = 0, 1, ...

    The body's inputs are the step, then its parameters for what is carried, scanned (slices
    along the first axis) and captured; its outputs the next carried values, and the slices of
    what is stacked. With `conditional`, the first carried value says before each step whether it
    runs; slices of steps that do not are 0. `reverse` goes from the last step to the first. The
    body's temporaries lie in `arena`; its counter is that of the run, made different by step.
    """

    body: Program
    trips: int
    carried: tuple[Carried, ...]
    scanned: tuple[str, ...]
    captured: tuple[str, ...]
    stacked: tuple[str, ...]
    conditional: bool
    reverse: bool
    arena: str
    counter: str = ""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Buffers read."""
        names = (*(c.initial for c in self.carried), *self.scanned, *self.captured)
        return tuple(dict.fromkeys((*names, self.counter) if self.counter else names))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Buffers written."""
        pairs = [n for c in self.carried for n in (c.result, c.spare)]
        return tuple(n for n in (*pairs, *self.stacked, self.arena) if n)

    @property
    def programs(self) -> tuple[Program, ...]:
        """The programs inside."""
        return (self.body,)


@dataclass(frozen=True, eq=False)
class Branch(Statement):
    """The first program where the predicate holds, else the second; both take and give the same."""

    predicate: str
    programs: tuple[Program, Program]
    captured: tuple[str, ...]
    results: tuple[str, ...]
    arena: str
    counter: str = ""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Buffers read."""
        names = (self.predicate, *self.captured)
        return tuple(dict.fromkeys((*names, self.counter) if self.counter else names))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Buffers written."""
        return (*self.results, self.arena) if self.arena else self.results


Whole: TypeAlias = Call | Repeat | Branch
WHOLE: Final = (Call, Repeat, Branch)
Stmt: TypeAlias = Let | Reduce | Fold | Dot | Store | Call | Repeat | Branch

UNBOUNDED: Final = -1  # trips of a conditional loop


def step_counter(run: int, step: int) -> int:
    """The counter of random numbers in a step of a loop: no two steps of two runs share one."""
    return run + ((step + 1) << 40)


@dataclass(frozen=True)
class Kernel:
    """One loop nest. `covers` names the user's ops it computes, `where` their lines.

    `parts`, in a kernel without axes and body, are independent kernels that run as one launch:
    the updates of many variables.
    """

    name: str
    axes: tuple[Axis, ...]
    body: tuple[Stmt, ...]
    covers: tuple[str, ...] = ()
    where: tuple[Location, ...] = ()
    parts: tuple[Kernel, ...] = ()

    def renamed(self, name: str, parts: tuple[Kernel, ...]) -> Kernel:
        """The same under another name, its parts too; what has been derived of it stays known."""
        result = object.__new__(Kernel)
        result.__dict__.update(self.__dict__, name=name, parts=parts)
        return result

    @derived
    def parallel(self) -> tuple[int, ...]:
        """Positions of the parallel axes."""
        return tuple(i for i, a in enumerate(self.axes) if a.kind == PARALLEL)

    @derived
    def reduced(self) -> tuple[int, ...]:
        """Positions of the reduce axes."""
        return tuple(i for i, a in enumerate(self.axes) if a.kind == REDUCE)

    @derived
    def folded(self) -> tuple[int, ...]:
        """Positions of the fold axes."""
        return tuple(i for i, a in enumerate(self.axes) if a.kind == FOLD)

    @derived
    def stores(self) -> tuple[Store, ...]:
        """The stores, in order."""
        return tuple([s for s in self.body if isinstance(s, Store)])

    @derived
    def fold_stores(self) -> tuple[Store, ...]:
        """The stores of what Folds give: they come when all rows have been walked."""
        folds = {s.name for s in self.body if isinstance(s, Fold)}
        if not folds:
            return ()
        return tuple([s for s in self.stores if isinstance(s.value, Ref) and s.value.name in folds])

    @derived
    def space(self) -> int:
        """Number of points of the loop nest."""
        return math.prod(a.size for a in self.axes)

    @derived
    def sizes(self) -> tuple[int, ...]:
        """The axes' sizes."""
        return tuple([a.size for a in self.axes])

    @derived
    def loads(self) -> tuple[Access, ...]:
        """The accesses of all loads and gathers of the body, in order."""
        return tuple([a for s in self.body for a in s.contents.accesses])

    @derived
    def reads(self) -> tuple[frozenset[str], ...]:
        """Per statement, the buffers that it reads."""
        return tuple([s.reads for s in self.body])

    @derived
    def levels(self) -> tuple[int, ...]:
        """Per statement, how many reductions come one after the other before it."""
        by_name: dict[str, int] = {}
        result: list[int] = []
        for stmt in self.body:
            level = max([by_name[n] for n in stmt.contents.names], default=0)
            result.append(level)
            if isinstance(stmt, (Let, Reduce, Fold, Dot)):
                by_name[stmt.name] = level + (not isinstance(stmt, Let))
        return tuple(result)

    @derived
    def gathered(self) -> frozenset[str]:
        """Buffers of which data say what is read."""
        return frozenset([n for s in self.body for n in s.contents.gathered])

    @derived
    def scopes(self) -> Mapping[str, frozenset[int]]:
        """For each name of the body, the axes on which it depends."""
        known: dict[str, frozenset[int]] = {}
        for stmt in self.body:
            if isinstance(stmt, Let):
                known[stmt.name] = stmt.axes(known)
            elif isinstance(stmt, (Reduce, Dot)):
                known[stmt.name] = stmt.axes(known).difference(self.reduced)
            elif isinstance(stmt, Fold):
                known[stmt.name] = stmt.axes(known).difference(self.folded)
        return known

    @derived
    def inputs(self) -> tuple[str, ...]:
        """Buffers read from outside the kernel, in order of first use."""
        names: dict[str, None] = dict.fromkeys([n for p in self.parts for n in p.inputs])
        for stmt in self.body:
            if isinstance(stmt, WHOLE):
                names.update(dict.fromkeys(stmt.inputs))
        names.update(dict.fromkeys([a.buffer for a in self.loads]))
        return tuple(names)

    @derived
    def outputs(self) -> tuple[str, ...]:
        """Buffers stored to, in order."""
        names: dict[str, None] = dict.fromkeys(n for p in self.parts for n in p.outputs)
        for stmt in self.body:
            if isinstance(stmt, Store):
                names[stmt.access.buffer] = None
            elif isinstance(stmt, WHOLE):
                names.update(dict.fromkeys(stmt.outputs))
        return tuple(names)

    @derived
    def is_whole(self) -> bool:
        """True for a kernel that is no loop nest: it works on whole arrays, and fuses with none."""
        return bool(self.body) and isinstance(self.body[0], WHOLE)

    @property
    def programs(self) -> tuple[Program, ...]:
        """The programs of a loop or branch."""
        return tuple(p for s in self.body if isinstance(s, (Repeat, Branch)) for p in s.programs)

    @derived
    def form(self) -> str:
        """What the kernel is: "dot", "fold", "row" (has a Reduce), "flat", "group", or what works
        on whole arrays: "call", "loop", "branch"."""
        if self.parts:
            return "group"
        kinds = {type(s) for s in self.body}
        return (
            "call" if Call in kinds else "loop" if Repeat in kinds else "branch" if Branch in kinds
            else "dot" if Dot in kinds else "fold" if Fold in kinds else "row" if Reduce in kinds
            else "flat"
        )  # fmt: skip


INPUT, VARIABLE, CONSTANT, TEMPORARY, OUTPUT, COUNTER = (
    "input", "variable", "constant", "temporary", "output", "counter",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Buffer(Deriving):
    """A dense array of `size` elements. `role` says who provides its memory.

    input: the caller; variable: the session (read, or updated in place); constant: the
    executable; temporary: the arena; output: fresh memory that becomes the caller's; counter:
    one int64, the number of the run in its session.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    role: str
    source: str = ""  # the user's op whose value it holds
    value: Any = None  # constant: a Literal

    @derived
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @derived
    def nbytes(self) -> int:
        """Bytes."""
        return self.size * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Where the temporaries lie in the arena, in bytes from its start.

    `lower_bound` is the most that is alive at one kernel, `peak_kernel`, where the temporaries
    `peak` are; `naive_bytes` what they would take without sharing.
    """

    offsets: Mapping[str, int] = field(default_factory=dict)
    arena_bytes: int = 0
    lower_bound: int = 0
    naive_bytes: int = 0
    peak_kernel: str = ""
    peak: tuple[str, ...] = ()


@dataclass(frozen=True)
class Program:
    """What a back end is given.

    `inputs`, `outputs` and `variables` name buffers; an output may be any buffer (the same
    one twice, an input, a constant, a variable that is not updated): the executable copies
    where it must. `updates` are the variables that the run changes; the kernels from `commit`
    on write to variables and to no output, the kernels before to no variable. So an output
    always has the value from the start of the run, and is complete before the first change.
    """

    buffers: Mapping[str, Buffer]
    kernels: tuple[Kernel, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    variables: tuple[str, ...]
    updates: tuple[str, ...] = ()
    commit: int = 0
    plan: MemoryPlan | None = None

    def replace(self, **changes: Any) -> Program:
        """A copy with some fields changed."""
        return replace(self, **changes)


# -- walking and changing expressions


def children(expr: Expr) -> tuple[Expr, ...]:
    """The expressions directly inside."""
    if isinstance(expr, Apply):
        return expr.args
    return (expr.index,) if isinstance(expr, Gather) else ()


def walk(expr: Expr) -> Iterator[Expr]:
    """The expression and all inside it, outer parts first, from left to right."""
    stack = [expr]
    while stack:
        e = stack.pop()
        yield e
        if isinstance(e, Apply):
            stack.extend(reversed(e.args))
        elif isinstance(e, Gather):
            stack.append(e.index)


def accesses(expr: Expr) -> Iterator[Access]:
    """All accesses of the expression."""
    return iter(Contents((expr,)).accesses)


def refs(expr: Expr) -> set[str]:
    """Names that the expression refers to."""
    return Contents((expr,)).names


def map_expr(expr: Expr, change: Callable[[Expr], Expr]) -> Expr:
    """The expression with `change` applied to every part, inner parts first."""
    if isinstance(expr, Apply):
        args = tuple([map_expr(a, change) for a in expr.args])
        if any(map(is_not, args, expr.args)):
            expr = Apply(expr.op, args, expr.dtype, expr.attrs)
    elif isinstance(expr, Gather):
        index = map_expr(expr.index, change)
        if index is not expr.index:
            expr = replace(expr, index=index)
    return change(expr)


def map_stmt(stmt: Stmt, change: Callable[[Expr], Expr]) -> Stmt:
    """The statement with `change` applied to every part of its expressions; a let or a store of
    which that changes nothing is the same object."""
    match stmt:
        case Let(name, value):
            new = map_expr(value, change)
            return stmt if new is value else Let(name, new)
        case Reduce(name, op, value, dtype):
            return Reduce(name, op, map_expr(value, change), dtype)
        case Fold(name, op, value, dtype):
            return Fold(name, op, map_expr(value, change), dtype)
        case Dot(name, a, b, dtype):
            return Dot(name, map_expr(a, change), map_expr(b, change), dtype)
        case Store(access, value):
            new = map_expr(value, change)
            return stmt if new is value else Store(access, new)
    return stmt


def map_accesses(
    stmt: Stmt, change: Callable[[Access], Access], index: Callable[[Linear], Linear]
) -> Stmt:
    """The statement with every access and every bare index changed, its store's too; what has
    none is the same object."""

    def change_expr(expr: Expr) -> Expr:
        if isinstance(expr, Load):
            return Load(tuple([change(p) for p in expr.pieces]), expr.dtype, expr.fill)
        if isinstance(expr, Gather):
            return replace(expr, access=change(expr.access))
        return Index(index(expr.value), expr.dtype) if isinstance(expr, Index) else expr

    if isinstance(stmt, Store):
        has_leaves = bool(stmt.contents.leaves)
        value = map_expr(stmt.value, change_expr) if has_leaves else stmt.value
        return Store(change(stmt.access), value)
    return map_stmt(stmt, change_expr) if stmt.contents.leaves else stmt


class AxesMap:
    """Accesses and bodies over new axes: old axis i is the sum of factor * new axis over terms[i].

    Strides are kept, for those of one kernel are mostly the same few.
    """

    def __init__(self, terms: Sequence[Sequence[tuple[int, int]]], rank: int) -> None:
        self._terms = [(i, axis, factor) for i, part in enumerate(terms) for axis, factor in part]
        self._rank = rank
        self._known: dict[tuple[int, ...], tuple[int, ...]] = {}

    def strides(self, old: tuple[int, ...]) -> tuple[int, ...]:
        """Along the new axes."""
        known = self._known.get(old)
        if known is None:
            new = [0] * self._rank
            for i, axis, factor in self._terms:
                new[axis] += old[i] * factor
            known = self._known[old] = tuple(new)
        return known

    def linear(self, value: Linear) -> Linear:
        """The function of the new axes."""
        return Linear(self.strides(value.strides), value.offset)

    def access(self, a: Access) -> Access:
        """The access over the new axes."""
        guards = tuple([Guard(self.linear(g.value), g.size, g.step) for g in a.guards])
        return Access(a.buffer, self.strides(a.strides), a.offset, guards, a.divisor)

    def body(self, body: Sequence[Stmt]) -> tuple[Stmt, ...]:
        """The statements over the new axes."""
        return tuple([map_accesses(s, self.access, self.linear) for s in body])


def remap_axes(
    body: Sequence[Stmt], matrix: Sequence[Sequence[tuple[int, int]]], rank: int
) -> tuple[Stmt, ...]:
    """The body over new axes: old axis i is the sum of factor * new axis over matrix[i]."""
    return AxesMap(matrix, rank).body(body)


def axes_used(expr: Expr, known: Mapping[str, frozenset[int]]) -> frozenset[int]:
    """Positions of the axes on which the expression depends; `known` has the names'."""
    return Let("", expr).axes(known)


def _axes_of(access: Access) -> frozenset[int]:
    used = _nonzero(access.strides)
    for guard in access.guards:
        used |= _nonzero(guard.value.strides)
    return used


@lru_cache(maxsize=4096)
def _nonzero(strides: tuple[int, ...]) -> frozenset[int]:
    return frozenset([i for i, s in enumerate(strides) if s])

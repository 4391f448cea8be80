"""The verifier: what must hold of every computation and every program, whoever made it.

Run after each pass. A violation is a defect of graphc, never a user's mistake: it raises
VerificationError with the pass, the node or kernel, and what is wrong there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NoReturn

import numpy as np

from graphc.ir import loop
from graphc.ir.computation import Computation
from graphc.ir.errors import GraphcError, VerificationError
from graphc.ir.graph import Node
from graphc.ir.in_place import may_overwrite
from graphc.ir.loop import Access, Kernel, Linear, Program
from graphc.ir.loop_text import format_access
from graphc.ir.table import Attrs, Kind, Op, Types
from graphc.ir.types import TensorType, may_equal

STAGES: Final = ("user", "static", "primitive")  # each forbids more than the one before
_KINDS: Final = (loop.PARALLEL, loop.REDUCE, loop.FOLD)
_MOST_POINTS = 1 << 16  # accesses that intervals cannot prove are tried at so many points


def _fail(after: str, what: str) -> NoReturn:
    raise VerificationError(f"after {after}: {what}" if after else what)


# -- computations


class Seen:
    """What has been found good before and does not change: a later pass's computation has most of
    its nodes, or copies of them on other inputs of the same types.

    `nodes` have passed their type rule, those of `fit[level]` what the level's stage demands.
    """

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self.nodes = set(nodes)
        self.fit: tuple[set[Node], ...] = tuple([set() for _ in STAGES])
        # by the attributes' id (they are held): op, attributes, types of the inputs, what follows
        self._inferred: dict[int, tuple[Op, Attrs, Types, Types]] = {}

    def infer(self, node: Node) -> Types:
        """The types that the op's rule gives; it is asked once for the same attributes on inputs
        of the same types."""
        given = tuple([v.type for v in node.inputs])
        known = self._inferred.get(id(node.attrs))
        if known is not None and known[0] is node.op and known[2] == given:
            return known[3]
        types = node.op.type_rule(given, node.attrs)
        types = (types,) if isinstance(types, TensorType) else tuple(types)
        self._inferred[id(node.attrs)] = (node.op, node.attrs, given, types)
        return types


def verify_computation(computation: Computation, after: str = "", seen: Seen | None = None) -> None:
    """Raise VerificationError unless the computation is well formed for its stage.

    `seen` holds nodes whose types have been checked before; they are not inferred again, and
    the nodes checked now are added. Cost: one walk, and the type rule of each new node.
    """
    seen = Seen() if seen is None else seen
    if computation.stage not in STAGES:
        _fail(after, f"the stage {computation.stage!r} is none of {', '.join(STAGES)}")
    level = STAGES.index(computation.stage)
    fit = seen.fit[level]
    done: set[Node] = set()
    for node in computation.nodes:
        for value in node.inputs:
            if value.node not in done:
                _fail(after, f"{_text(node)} reads {value.name!r} before it is computed: a cycle")
        done.add(node)
        if node not in seen.nodes:
            _check_node(node, after, seen)
            _check_bodies(node, after, seen)
            seen.nodes.add(node)
        if level and node not in fit:
            _check_stage(node, level, after)
            fit.add(node)
    _check_inputs(computation, after)
    _check_updates(computation, level, after)


def _text(node: Node) -> str:
    where = f" ({node.where})" if node.where else ""
    return f"op {node.op.name} {node.name!r}{where}"


def _check_node(node: Node, after: str, seen: Seen) -> None:
    if node.kind is Kind.STATE:
        _fail(after, f"{_text(node)} changes a variable inside a computation")
    for position, value in enumerate(node.inputs):
        index, outputs = value.index, value.node.outputs
        if index >= len(outputs) or outputs[index] is not value:
            _fail(after, f"input {position} of {_text(node)} is no output of {value.node.name!r}")
    try:
        types = seen.infer(node)
    except (GraphcError, KeyError) as error:
        told = error.message if isinstance(error, GraphcError) else f"no attribute {error}"
        _fail(after, f"{_text(node)} does not pass its own type rule: {told}")
    if types != node.types:
        inferred, declared = (", ".join(map(str, t)) for t in (types, node.types))
        _fail(after, f"{_text(node)} has type {declared}, but its type rule gives {inferred}")


def _check_bodies(node: Node, after: str, seen: Seen) -> None:
    """The computations that are attributes of a loop or branch read nothing but their inputs."""
    for name, body in node.attrs.items():
        if not isinstance(body, Computation):
            continue
        inside = f"{after}, in the {name} of {node.name!r}"
        verify_computation(body, inside, seen)
        for inner in body.nodes:
            if inner.op.name == "placeholder" and inner not in body.inputs:
                _fail(inside, f"{_text(inner)} is read but is no input")


def _check_stage(node: Node, level: int, after: str) -> None:
    if level >= STAGES.index("primitive") and node.kind is Kind.COMPOSITE:
        _fail(after, f"{_text(node)} is a composite, which decompose had to replace")
    for value in node.outputs:
        if not value.type.is_static:
            _fail(after, f"{_text(node)} has type {value.type}, which specialize had to fix")


def _check_inputs(computation: Computation, after: str) -> None:
    inputs = set(computation.inputs)
    if len(inputs) != len(computation.inputs):
        _fail(after, "one placeholder is an input twice")
    for node in computation.inputs:
        if node.op.name != "placeholder":
            _fail(after, f"the input {_text(node)} is no placeholder")
    if computation.stage != "user":
        for node in computation.nodes:
            if node.op.name == "placeholder" and node not in inputs:
                _fail(after, f"{_text(node)} is read but is no input")


def _check_updates(computation: Computation, level: int, after: str) -> None:
    updated: set[Node] = set()
    for variable, value in computation.updates:
        if variable.op.name != "variable":
            _fail(after, f"the update of {_text(variable)} changes no variable")
        if variable in updated:
            _fail(after, f"variable {variable.name!r} has two updates")
        updated.add(variable)
        if not _may_hold(variable.types[0], value.type, exact=level > 0):
            _fail(
                after,
                f"variable {variable.name!r} of type {variable.types[0]} is updated "
                f"with {value.name!r} of type {value.type}",
            )


def _may_hold(variable: TensorType, value: TensorType, exact: bool) -> bool:
    if exact or variable.dtype is not value.dtype:
        return variable == value
    if variable.shape is None or value.shape is None:
        return True
    same_rank = len(variable.shape) == len(value.shape)
    return same_rank and all(map(may_equal, variable.shape, value.shape))


# -- programs


def verify_program(
    program: Program, after: str = "", seen: dict[int, Kernel] | None = None
) -> None:
    """Raise VerificationError unless the program is well formed.

    Checked: buffers exist; names are assigned once, before their use; accesses stay inside
    their buffers; each element of what kernels write is stored exactly once and only then
    read; variables change in the commit region alone, and nothing fetched is written there;
    live temporaries do not overlap in the arena. Accesses whose guards are too involved for
    intervals are tried on up to 65,536 points. `seen` holds, by the body's id, kernels that have
    been checked before against buffers of the same sizes; those checked now are added.
    """
    _ProgramCheck(program, after, {} if seen is None else seen).run()


class _ProgramCheck:
    def __init__(self, program: Program, after: str, seen: dict[int, Kernel]) -> None:
        self.program = program
        self.after = after
        self.seen = seen
        self.stored: Counter[str] = Counter()  # elements stored so far
        self.written: set[str] = set()  # variables already overwritten

    def fail(self, kernel: Kernel, what: str) -> NoReturn:
        _fail(self.after, f"kernel {kernel.name}: {what}")

    def run(self) -> None:
        program = self.program
        named = (*program.inputs, *program.outputs, *program.variables, *program.updates)
        for name in named:
            if name not in program.buffers:
                _fail(self.after, f"the program names the buffer {name!r}, which there is not")
        for position, kernel in enumerate(program.kernels):
            self.kernel(kernel, position >= program.commit)
        self.check_complete()
        if program.plan is not None:
            verify_plan(program, self.after)

    def kernel(self, kernel: Kernel, committing: bool) -> None:
        for part in kernel.parts:
            self.kernel(part, committing)
        self.check_buffers(kernel, committing)
        if kernel.parts:
            return
        for program in kernel.programs:
            verify_program(program, f"{self.after}, inside {kernel.name}")
        self.check_reads(kernel)
        known = self.seen.get(id(kernel.body))
        if known is None or known.axes is not kernel.axes:  # else under another name at most
            self.check_body(kernel)
            self.seen[id(kernel.body)] = kernel  # held, so that the id stays the body's own
        self.count_stores(kernel)

    def check_body(self, kernel: Kernel) -> None:
        self.check_names(kernel)
        self.check_own_places(kernel)
        for stmt in kernel.body:
            self.check_loads(kernel, stmt)
            if isinstance(stmt, loop.Store):
                self.check_store(kernel, stmt)

    # -- what a kernel may touch

    def check_buffers(self, kernel: Kernel, committing: bool) -> None:
        buffers = self.program.buffers
        for name in (*kernel.inputs, *kernel.outputs):
            if name not in buffers:
                self.fail(kernel, f"there is no buffer {name!r}")
        for name in kernel.outputs:
            role = buffers[name].role
            if role in (loop.INPUT, loop.CONSTANT, loop.COUNTER):
                self.fail(kernel, f"stores to {name!r}, whose role is {role}")
            if role == loop.VARIABLE and not committing:
                self.fail(kernel, f"changes the variable {name!r} before the commit region")
            if role == loop.OUTPUT and committing:
                self.fail(kernel, f"writes the output {name!r} in the commit region")

    def check_reads(self, kernel: Kernel) -> None:
        for name in kernel.inputs:
            buffer = self.program.buffers[name]
            if buffer.role in (loop.TEMPORARY, loop.OUTPUT):
                if self.stored[name] < buffer.size:
                    self.fail(kernel, f"reads {name!r} before all of it is written")
            elif name in self.written:
                self.fail(kernel, f"reads the variable {name!r} after it has changed")

    def check_own_places(self, kernel: Kernel) -> None:
        """A variable that a kernel overwrites it reads at the same place only, and before."""
        own = {s.access.buffer: s.access for s in kernel.stores}
        if own.keys().isdisjoint(kernel.inputs):
            return
        stored: set[str] = set()
        for stmt in kernel.body:
            for access in stmt.contents.accesses:
                target = own.get(access.buffer, access)
                if target.strides != access.strides or target.offset != access.offset:
                    self.fail(kernel, f"reads {access.buffer!r} elsewhere than it stores to it")
                if access.buffer in stored:
                    self.fail(kernel, f"reads {access.buffer!r} after storing to it")
            if isinstance(stmt, loop.Store):
                stored.add(stmt.access.buffer)

    def check_names(self, kernel: Kernel) -> None:
        if len({a.name for a in kernel.axes}) != len(kernel.axes):
            self.fail(kernel, "two axes have one name")
        if any(a.size < 0 or a.kind not in _KINDS for a in kernel.axes):
            self.fail(kernel, f"has a malformed axis: {kernel.axes}")
        known: set[str] = set()
        for stmt in kernel.body:
            for name in stmt.contents.names - known:
                self.fail(kernel, f"uses {name!r} before it is assigned")
            if isinstance(stmt, (loop.Let, loop.Reduce, loop.Fold, loop.Dot)):
                if stmt.name in known:
                    self.fail(kernel, f"assigns {stmt.name!r} twice")
                known.add(stmt.name)
        self.check_folds(kernel)

    def check_folds(self, kernel: Kernel) -> None:
        """Fold axes are there for Folds, and what a Fold gives is stored as it is."""
        folds = {s.name for s in kernel.body if isinstance(s, loop.Fold)}
        if bool(folds) != bool(kernel.folded):
            self.fail(kernel, "has folds without fold axes, or fold axes without a fold")
        if not folds:
            return
        if kernel.form != "fold":
            self.fail(kernel, f"a {kernel.form} kernel has no folds")
        for stmt in kernel.body:
            is_position = isinstance(stmt, loop.Fold) and stmt.op.startswith("arg")
            used = stmt.contents.names & folds
            if is_position or (used and stmt not in kernel.fold_stores):
                self.fail(kernel, f"a fold gives values to store, by no position: {stmt}")

    # -- accesses

    def check_loads(self, kernel: Kernel, stmt: loop.Stmt) -> None:
        for leaf in stmt.contents.leaves:
            if isinstance(leaf, loop.Load):
                for piece in leaf.pieces:
                    self.check_access(kernel, piece)
                if any([not p.guards for p in leaf.pieces[:-1]]):
                    self.fail(kernel, f"pieces after one without guards are never read: {leaf}")
            elif isinstance(leaf, loop.Gather):
                last = leaf.access.offset + leaf.stride * (leaf.size - 1)
                both = [replace_offset(leaf.access, o) for o in (leaf.access.offset, last)]
                for access in both if leaf.size else ():
                    self.check_access(kernel, access)
            else:
                self.check_rank(kernel, leaf.value.strides)

    def check_rank(self, kernel: Kernel, strides: Sequence[int]) -> None:
        if len(strides) != len(kernel.axes):
            self.fail(kernel, f"{len(strides)} strides for {len(kernel.axes)} axes")

    def check_access(self, kernel: Kernel, access: Access) -> None:
        self.check_rank(kernel, access.strides)
        for guard in access.guards:
            self.check_rank(kernel, guard.value.strides)
        size = self.program.buffers[access.buffer].size
        if not stays_inside(access, kernel.sizes, size):
            text = format_access(access, kernel.axes)
            self.fail(kernel, f"{text} reaches outside the {size} elements of {access.buffer!r}")

    def check_store(self, kernel: Kernel, store: loop.Store) -> None:
        self.check_access(kernel, store.access)
        strides = store.access.strides
        rows = () if store in kernel.fold_stores else kernel.folded
        for i in store.axes(kernel.scopes).union(kernel.parallel, rows):
            if not strides[i] and kernel.axes[i].size > 1:
                self.fail(
                    kernel,
                    f"stores each element of {store.access.buffer!r} once per "
                    f"{kernel.axes[i].name}",
                )
        if store.access.is_plain and not is_injective(store.access, kernel):
            self.fail(kernel, f"stores elements of {store.access.buffer!r} more than once")

    # -- what is stored altogether

    def count_stores(self, kernel: Kernel) -> None:
        for stmt in kernel.body:
            if isinstance(stmt, loop.WHOLE):
                for name in stmt.outputs:
                    self.add(kernel, name, self.program.buffers[name].size)
            elif isinstance(stmt, loop.Store):
                self.add(kernel, stmt.access.buffer, stored_count(stmt.access, kernel))

    def add(self, kernel: Kernel, name: str, count: int) -> None:
        buffer = self.program.buffers[name]
        self.stored[name] += count
        if buffer.role == loop.VARIABLE:
            self.written.add(name)
        if self.stored[name] > buffer.size:
            self.fail(kernel, f"stores elements of {name!r} that are stored already")

    def check_complete(self) -> None:
        outputs = {n for n in self.program.outputs if self.program.buffers[n].role == loop.OUTPUT}
        for name in (*sorted(outputs), *self.program.updates, *sorted(self.stored)):
            size = self.program.buffers[name].size
            if self.stored[name] != size:
                _fail(
                    self.after,
                    f"{self.stored[name]} of the {size} elements of {name!r} are written",
                )
        for name in sorted(self.written - set(self.program.updates)):
            _fail(self.after, f"the variable {name!r} changes, but is not among the updates")


def replace_offset(access: Access, offset: int) -> Access:
    """The access from another offset."""
    return Access(access.buffer, access.strides, offset, access.guards, access.divisor)


def stays_inside(access: Access, sizes: Sequence[int], size: int) -> bool:
    """True unless the access leaves range(size) somewhere where all its guards hold."""
    if 0 in sizes:
        return True  # no point at all
    low, high = _interval(access, sizes)
    if low >= 0 and high < size * access.divisor:
        return True
    if not access.guards:
        return False
    low, high = _guarded_interval(access, sizes)
    if low >= 0 and high < size * access.divisor:
        return True
    return _inside_at_points(access, sizes, size)


def _interval(value: Linear | Access, sizes: Sequence[int]) -> tuple[int, int]:
    low, high = _span(value.strides, tuple(sizes))
    return value.offset + low, value.offset + high


@lru_cache(maxsize=4096)  # layers of one shape read and store alike
def _span(strides: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[int, int]:
    """The least and the most that the strides add."""
    low = high = 0
    for stride, n in zip(strides, sizes, strict=True):
        if stride > 0:
            high += stride * (n - 1)
        elif stride:
            low += stride * (n - 1)
    return low, high


def _guarded_interval(access: Access, sizes: Sequence[int]) -> tuple[int, int]:
    """Bounds of the access: what the guards bound is taken out of it, guard by guard."""
    rest = Linear(access.strides, access.offset)
    low = high = 0
    for guard in access.guards:
        factor = _multiple(rest, guard.value)
        if factor:
            inner = _interval(guard.value, sizes)
            least = max(inner[0], 0)
            most = min(inner[1], guard.size * guard.step - 1)
            if least > most:
                return 0, -1  # the guard never holds
            low += min(factor * least, factor * most)
            high += max(factor * least, factor * most)
            strides = zip(rest.strides, guard.value.strides, strict=True)
            rest = Linear(
                tuple([r - factor * g for r, g in strides]),
                rest.offset - factor * guard.value.offset,
            )
    first, last = _interval(rest, sizes)
    return low + first, high + last


def _multiple(value: Linear, part: Linear) -> int:
    """How often `part` is contained in `value`, going by its first axis; 0: not at all."""
    for v, p in zip(value.strides, part.strides, strict=True):
        if p:
            return v // p if v % p == 0 else 0
    return 0


def _inside_at_points(access: Access, sizes: Sequence[int], size: int) -> bool:
    points = _some_points(tuple(sizes))
    holds = np.ones(points.shape[1], np.bool_)
    for guard in access.guards:
        value = np.asarray(guard.value.strides) @ points + guard.value.offset
        holds &= (value >= 0) & (value < guard.size * guard.step) & (value % guard.step == 0)
    at = (np.asarray(access.strides) @ points + access.offset)[holds] // access.divisor
    return bool(((at >= 0) & (at < size)).all())


@lru_cache(maxsize=4)  # the accesses of one kernel are tried in turn
def _some_points(sizes: tuple[int, ...]) -> np.ndarray:
    """All points of the space, or as many as are tried, drawn from a fixed seed."""
    total = math.prod(sizes)
    if not sizes:
        return np.zeros((0, 1), np.int64)
    if total <= _MOST_POINTS:
        flat = np.arange(total)
    else:
        flat = np.random.default_rng(0).integers(0, total, _MOST_POINTS)
    return np.stack(np.unravel_index(flat, sizes)).astype(np.int64)


def is_injective(access: Access, kernel: Kernel) -> bool:
    """True when no two points of the axes it names give one element."""
    return _is_injective(access.strides, kernel.sizes)


@lru_cache(maxsize=4096)
def _is_injective(strides: tuple[int, ...], sizes: tuple[int, ...]) -> bool:
    """By mixed radix: each stride is beyond all that the smaller ones reach."""
    reach = 0
    for stride, size in sorted((abs(s), n) for s, n in zip(strides, sizes, strict=True) if s):
        if size > 1 and stride <= reach:
            return False
        reach += stride * (size - 1)
    return True


def stored_count(access: Access, kernel: Kernel) -> int:
    """Number of elements that a store writes; guarded ones are counted point by point."""
    if access.is_plain:
        return _plain_count(access.strides, kernel.sizes)
    named = [i for i, s in enumerate(access.strides) if s]
    sizes = [kernel.axes[i].size for i in named]
    points = np.indices(sizes).reshape(len(sizes), -1)
    holds = np.ones(points.shape[1], np.bool_)
    for guard in access.guards:
        strides = [guard.value.strides[i] for i in named]
        value = np.asarray(strides, np.int64) @ points + guard.value.offset
        holds &= (value >= 0) & (value < guard.size * guard.step) & (value % guard.step == 0)
    return int(holds.sum())


@lru_cache(maxsize=4096)
def _plain_count(strides: tuple[int, ...], sizes: tuple[int, ...]) -> int:
    return math.prod([n for s, n in zip(strides, sizes, strict=True) if s])


# -- memory


def verify_plan(program: Program, after: str = "") -> None:
    """Raise VerificationError when two temporaries that live at one time share bytes.

    A kernel's result may take the place of an operand that dies in it when the kernel reads
    and stores the two at the same positions, and in a row has done all reading by then. Cost:
    n log n over temporaries, plus the overlaps.
    """
    plan = program.plan
    assert plan is not None, "a program without a plan has nothing to verify"
    lives: dict[str, tuple[int, int]] = {}
    for i, kernel in enumerate(program.kernels):
        for name in (*kernel.inputs, *kernel.outputs):
            buffer = program.buffers[name]
            if buffer.role == loop.TEMPORARY and buffer.nbytes:
                lives[name] = (lives.get(name, (i, i))[0], i)
    for name in lives:
        offset = plan.offsets.get(name)
        if offset is None:
            _fail(after, f"the memory plan has no place for {name!r}")
        if offset < 0 or offset + program.buffers[name].nbytes > plan.arena_bytes:
            _fail(after, f"{name!r} lies outside the arena of {plan.arena_bytes} bytes")
    _check_overlaps(program, lives, after)


def _check_overlaps(program: Program, lives: dict[str, tuple[int, int]], after: str) -> None:
    plan = program.plan
    assert plan is not None
    alive: dict[str, tuple[int, int]] = {}
    births = sorted(lives, key=lambda n: (lives[n], n))
    for name in births:
        first = lives[name][0]
        alive = {n: place for n, place in alive.items() if lives[n][1] >= first}
        start = plan.offsets[name]
        end = start + program.buffers[name].nbytes
        for other, (low, high) in alive.items():
            if start < high and low < end and not _in_place(program, lives, other, name):
                _fail(after, f"{name!r} and {other!r} are alive together and share memory")
        alive[name] = (start, end)


def _in_place(program: Program, lives: dict[str, tuple[int, int]], old: str, new: str) -> bool:
    plan = program.plan
    assert plan is not None
    a, b = program.buffers[old], program.buffers[new]
    if lives[old][1] != lives[new][0] or plan.offsets[old] != plan.offsets[new]:
        return False
    if a.dtype.itemsize != b.dtype.itemsize:
        return False
    kernel = program.kernels[lives[new][0]]
    parts = kernel.parts or (kernel,)
    return all(_same_places(part, old, new) for part in parts)


def _same_places(kernel: Kernel, old: str, new: str) -> bool:
    if kernel.is_whole:
        return old not in kernel.inputs or new not in kernel.outputs
    if kernel.form in ("row", "fold") and old in kernel.inputs and new in kernel.outputs:
        return may_overwrite(kernel, old, new)
    reads = {a for a in kernel.loads if a.buffer == old}
    stores = {s.access for s in kernel.stores if s.access.buffer == new}
    places = {(a.strides, a.offset) for a in reads | stores}
    return not reads or not stores or (len(places) == 1 and all(a.is_plain for a in reads))

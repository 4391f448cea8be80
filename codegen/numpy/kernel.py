"""One kernel as NumPy calls: values in registers of scratch memory, tiles, phases, dots."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from graphc.codegen.numpy.boxes import Box, boxes_of
from graphc.ir import loop
from graphc.ir.dtypes import DType, bool_, int64
from graphc.ir.loop import Access, Apply, Kernel, Program
from graphc.ir.ops.reduce import neutral
from graphc.ir.table import OPS

TILE = 1 << 16  # elements: a few float32 arrays of them fit the second-level cache
LONG_ROW = 1 << 18  # elements beyond which a row is walked in phases
LONG_COLUMN = 1 << 10  # rows that NumPy may add up one by one; more are added up in parts
_ALIGN = 64

_REDUCE = {
    "sum": "np.add", "prod": "np.multiply", "max": "np.maximum", "min": "np.minimum",
    "any": "np.logical_or", "all": "np.logical_and",
}  # fmt: skip


# NumPy warns of a positional third argument of these: it looks like a third operand
_KEYWORD_OUT = frozenset({"np.maximum", "np.minimum"})


@dataclass(frozen=True, slots=True)
class Operand:
    """A value at hand: its text, dtype, the axes it spans, and the register that it holds."""

    text: str
    dtype: DType
    span: frozenset[int]
    slot: int | None = None
    scalar: bool = False


@dataclass(slots=True)
class _Slot:
    name: str
    offset: int
    nbytes: int
    dtype: DType
    shape: tuple[int, ...]
    span: frozenset[int]


class KernelEmitter:
    """Fills `bound` (lines run once) and `lines` (lines of the launch)."""

    def __init__(self, kernel: Kernel, program: Program, dynamic: frozenset[str]) -> None:
        self.kernel = kernel
        self.program = program
        self.dynamic = dynamic
        self.sizes = [a.size for a in kernel.axes]
        self.bound: list[str] = []
        self.lines: list[str] = []
        self.indent = ""
        self.scratch_bytes = 0
        self.slots: list[_Slot] = []
        self.free: list[int] = []
        self.pinned: set[int] = set()
        self.names: dict[str, Operand] = {}
        self.views: dict[Access, str] = {}
        self.loaded: dict[loop.Load, Operand] = {}
        self.outer: list[int] = []  # axes walked one by one
        self.tile: tuple[int, int] | None = None  # axis, size
        self.uses: dict[str, int] = {}
        self.sliced: dict[str, str] = {}
        self.counter = 0
        self.split: tuple[int, int] | None = None  # extent and step of the loop threads share
        self.scope = loop.scopes(kernel)

    # -- the three schedules

    def run(self) -> None:
        kernel = self.kernel
        if kernel.form == "call":
            self.call()
        elif kernel.form == "dot" or (kernel.space <= TILE and not self.adds_long_columns()):
            self.statements(kernel.body)
        elif self.wants_phases():
            self.phases()
        else:
            self.tiled()

    def wants_phases(self) -> bool:
        reduced = self.kernel.reduced
        if not reduced or any(
            isinstance(s, loop.Reduce) and s.op.startswith("arg") for s in self.kernel.body
        ):
            return False
        row = math.prod(self.sizes[i] for i in reduced)
        return row > LONG_ROW or self.walks_columns()

    def adds_long_columns(self) -> bool:
        """True for sums down long columns: NumPy adds pairwise along rows, but not down columns.

        The rounding error of a plain sum grows with its length, of one in parts with the length
        of a part (Higham, "The accuracy of floating point summation", 1993).
        """
        sums = any(isinstance(s, loop.Reduce) and s.op == "sum" for s in self.kernel.body)
        rows = math.prod(self.sizes[i] for i in self.kernel.reduced)
        return sums and rows > LONG_COLUMN and self.walks_columns()

    def walks_columns(self) -> bool:
        """True when the largest load is dense along a parallel axis, not along the reduced ones."""
        loads = [x for s in self.kernel.body for e in loop.expressions(s) for x in loop.accesses(e)]
        best = max(loads, key=lambda a: sum(map(bool, a.strides)), default=None)
        if best is None:
            return False
        nonzero = [(abs(s), i) for i, s in enumerate(best.strides) if s]
        return bool(nonzero) and min(nonzero)[1] not in self.kernel.reduced

    def tiled(self) -> None:
        self.preload(self.kernel.body)
        inner = math.prod(self.sizes[i] for i in self.kernel.reduced)
        axes = [i for i in self.kernel.parallel]
        while axes and inner * self.sizes[axes[-1]] <= TILE:
            inner *= self.sizes[axes.pop()]
        if not axes:
            self.statements(self.kernel.body)
            return
        self.outer = axes[:-1]
        self.tile = (axes[-1], max(1, TILE // max(inner, 1)))
        if not self.loaded:  # what is made before the loops is not made for every thread
            first = self.outer[0] if self.outer else self.tile[0]
            self.split = (self.sizes[first], 1 if self.outer else self.tile[1])
        self.open_loops()
        self.statements(self.kernel.body)
        self.close_loops()

    def phases(self) -> None:
        self.preload(self.kernel.body)
        levels = self.levels()
        axis = self.kernel.reduced[0]
        rest = math.prod(n for i, n in enumerate(self.sizes) if i != axis)
        most = min(TILE // max(rest, 1), LONG_COLUMN if self.adds_long_columns() else TILE)
        tile = (axis, max(1, min(self.sizes[axis], most)))
        for level in range(max(levels.values(), default=0) + 1):
            self.phase(level, levels, tile)

    def phase(self, level: int, levels: dict[int, int], tile: tuple[int, int]) -> None:
        """Statements over the row at this level in one loop, then those without the row."""
        body = self.kernel.body
        reduced = set(self.kernel.reduced)
        own = [i for i, s in enumerate(body) if levels[i] == level and not isinstance(s, loop.Let)]
        over = [i for i in own if self.spans(body[i]) & reduced or isinstance(body[i], loop.Reduce)]
        if over:
            self.prepare_accumulators([body[i] for i in over])
            self.tile = tile
            needed = self.needed(over)
            self.open_loops()
            self.statements([body[i] for i in sorted({*needed, *over})], accumulate=True)
            self.close_loops()
            for i in needed:  # recomputed by the next phase: never kept
                stmt = body[i]
                assert isinstance(stmt, loop.Let)
                operand = self.names.pop(stmt.name, None)
                if operand is not None and operand.slot is not None:
                    self.release(operand.slot)
            self.tile = None
            self.sliced.clear()
        self.statements(self.between(level, levels, set(own) - set(over)), pin=True)

    def between(self, level: int, levels: dict[int, int], own: set[int]) -> list[loop.Stmt]:
        """What follows a phase's loop: statements without the row, before the next level's."""
        reduced = set(self.kernel.reduced)
        ready = (level + 1,) if level else (0, 1)
        return [
            s
            for i, s in enumerate(self.kernel.body)
            if i in own
            or (
                isinstance(s, loop.Let)
                and levels[i] in ready
                and not self.scope[s.name] & reduced
                and s.name not in self.names
            )
        ]

    def spans(self, stmt: loop.Stmt) -> set[int]:
        result: set[int] = set()
        for e in loop.expressions(stmt):
            result |= loop.axes_used(e, self.scope)
        if isinstance(stmt, loop.Store):
            result |= {i for i, s in enumerate(stmt.access.strides) if s}
        return result

    def levels(self) -> dict[int, int]:
        """Per statement, how many reductions come before it."""
        by_name: dict[str, int] = {}
        result: dict[int, int] = {}
        for i, stmt in enumerate(self.kernel.body):
            used = (n for e in loop.expressions(stmt) for n in loop.refs(e))
            level = max((by_name[n] for n in used), default=0)
            result[i] = level
            if isinstance(stmt, loop.Let):
                by_name[stmt.name] = level
            elif isinstance(stmt, loop.Reduce):
                by_name[stmt.name] = level + 1
        return result

    def needed(self, indices: Iterable[int]) -> list[int]:
        """The lets over the row that these statements use, also through one another."""
        body = self.kernel.body
        where = {s.name: i for i, s in enumerate(body) if isinstance(s, loop.Let)}
        found: set[int] = set()
        stack = [n for i in indices for e in loop.expressions(body[i]) for n in loop.refs(e)]
        while stack:
            name = stack.pop()
            i = where.get(name)
            if i is None or i in found or name in self.names:
                continue
            found.add(i)
            stack.extend(n for e in loop.expressions(body[i]) for n in loop.refs(e))
        return sorted(found)

    def prepare_accumulators(self, stmts: Sequence[loop.Stmt]) -> None:
        for stmt in stmts:
            if isinstance(stmt, loop.Reduce):
                operand = self.register(stmt.dtype, self.result_span(stmt))
                self.pin(operand)
                self.names[stmt.name] = operand
                self.line(
                    f"{operand.text}.fill({literal(neutral(stmt.op, stmt.dtype), stmt.dtype)})"
                )

    def result_span(self, stmt: loop.Reduce | loop.Dot) -> frozenset[int]:
        return self.scope[stmt.name]

    def open_loops(self) -> None:
        assert self.tile is not None
        axis, size = self.tile
        shared = "first, last" if self.split else ""
        for i in self.outer:
            self.line(f"for p{i} in range({shared or self.sizes[i]}):")
            self.indent += "    "
            shared = ""
        self.line(f"for lo in range({shared or f'0, {self.sizes[axis]}'}, {size}):")
        self.indent += "    "
        self.line(f"hi = min(lo + {size}, {'last' if shared else self.sizes[axis]})")

    def close_loops(self) -> None:
        self.indent = ""
        self.outer = []

    # -- statements

    def statements(
        self, stmts: Sequence[loop.Stmt], accumulate: bool = False, pin: bool = False
    ) -> None:
        self.uses = {}
        for stmt in stmts:
            for e in loop.expressions(stmt):
                for part in loop.walk(e):
                    if isinstance(part, loop.Ref):
                        self.uses[part.name] = self.uses.get(part.name, 0) + 1
        for position, stmt in enumerate(stmts):
            rest = stmts[position + 1 :]
            match stmt:
                case loop.Let(name, value):
                    target = self.direct_target(name, value, rest)
                    operand = self.expr(value, target)
                    if target is None and isinstance(value, (loop.Ref,)):
                        operand = replace(operand, slot=None)
                    self.names[name] = operand
                    if pin:
                        self.pin(operand)
                case loop.Reduce():
                    self.reduce(stmt, accumulate)
                case loop.Dot():
                    self.dot(stmt, rest)
                case loop.Store(access, value):
                    self.store(access, value)
                case loop.Call():
                    raise AssertionError("a call is alone in its kernel")
        self.sliced.clear()

    def direct_target(
        self, name: str, value: loop.Expr, rest: Sequence[loop.Stmt]
    ) -> Operand | None:
        """The buffer into which the let may compute right away, when it is stored as it is."""
        if isinstance(value, (loop.Ref, loop.Const)):
            return None
        for stmt in rest:
            if isinstance(stmt, loop.Store) and stmt.value == loop.Ref(name, value.dtype):
                return self.store_view(stmt.access, value.dtype, self.scope[name], rest)
        return None

    def store_view(
        self, access: Access, dtype: DType, span: frozenset[int], rest: Sequence[loop.Stmt]
    ) -> Operand | None:
        moved = frozenset(i for i, s in enumerate(access.strides) if s)
        if not access.is_plain or moved != span:
            return None
        if self.program.buffers[access.buffer].dtype is not dtype:
            return None
        later = {x.buffer for s in rest for e in loop.expressions(s) for x in loop.accesses(e)}
        if any(self.overlap(access.buffer, n) for n in later):
            return None
        return Operand(self.view(access), dtype, span)

    def overlap(self, a: str, b: str) -> bool:
        """True when the two buffers may share memory."""
        if a == b:
            return True
        plan = self.program.plan
        if plan is None or a not in plan.offsets or b not in plan.offsets:
            return False
        first, second = plan.offsets[a], plan.offsets[b]
        sizes = self.program.buffers[a].nbytes, self.program.buffers[b].nbytes
        return first < second + sizes[1] and second < first + sizes[0]

    def store(self, access: Access, value: loop.Expr) -> None:
        target = self.view(access)
        if isinstance(value, loop.Ref):
            operand = self.expr(value, None)
            if operand.text != target:
                self.line(f"{target}[...] = {operand.text}")
            self.drop(operand)
            return
        moved = frozenset(i for i, s in enumerate(access.strides) if s)
        dtype = self.program.buffers[access.buffer].dtype
        out = Operand(target, dtype, moved) if dtype is value.dtype else None
        if out is not None and isinstance(value, Apply) and self.spans_of(value) == moved:
            self.expr(value, out)
            return
        operand = self.expr(value, None)
        self.line(f"{target}[...] = {operand.text}")
        self.drop(operand)

    def spans_of(self, value: loop.Expr) -> frozenset[int]:
        return loop.axes_used(value, self.scope)

    def reduce(self, stmt: loop.Reduce, accumulate: bool) -> None:
        value = self.expr(stmt.value, None)
        axes = tuple(self.kernel.reduced)
        text = self.spread(value, axes)
        if accumulate:
            total = self.names[stmt.name]
            part = self.register(stmt.dtype, total.span)
            ufunc = _REDUCE[stmt.op]
            self.line(f"{ufunc}.reduce({text}, {axes}, out={part.text}, keepdims=True)")
            self.line(f"{ufunc}({total.text}, {part.text}, out={total.text})")
            self.drop(value)
            self.drop(part)
            return
        result = self.register(stmt.dtype, self.result_span(stmt))
        if stmt.op.startswith("arg"):
            self.line(f"s.arg_reduce(np.{stmt.op}, {text}, {axes}, {result.text})")
        else:
            self.line(
                f"{_REDUCE[stmt.op]}.reduce({text}, {axes}, out={result.text}, keepdims=True)"
            )
        self.drop(value)
        self.names[stmt.name] = result

    def spread(self, value: Operand, axes: Sequence[int]) -> str:
        """The operand's text, broadcast along the reduce axes that it does not span."""
        if value.scalar or not set(axes) <= value.span:
            shape = self.shape_text(value.span | set(axes))
            return f"np.broadcast_to({value.text}, {shape})"
        return value.text

    def shape_text(self, span: Iterable[int]) -> str:
        span = set(span)
        parts = []
        for i, n in enumerate(self.sizes):
            if i not in span or i in self.outer:
                parts.append("1")
            elif self.tile and self.tile[0] == i:
                parts.append("hi - lo")
            else:
                parts.append(str(n))
        return "(" + "".join(p + ", " for p in parts) + ")"

    # -- expressions

    def expr(self, e: loop.Expr, out: Operand | None) -> Operand:
        """The operand that holds the expression; in `out` if that is given."""
        match e:
            case loop.Const(value, dtype):
                operand = Operand(literal(value, dtype), dtype, frozenset(), scalar=True)
                return self.copied(operand, out)
            case loop.Ref(name):
                operand = self.names[name]
                self.uses[name] = self.uses.get(name, 1) - 1
                if self.uses[name] > 0:
                    operand = replace(operand, slot=None)  # read again later: not to be freed
                return self.copied(operand, out)
            case loop.Load():
                return self.copied(self.load(e), out)
            case loop.Index():
                return self.copied(self.index(e), out)
            case loop.Gather():
                return self.gather(e, out)
        return self.apply(e, out)

    def copied(self, operand: Operand, out: Operand | None) -> Operand:
        if out is None:
            return operand
        self.line(f"{out.text}[...] = {operand.text}")
        self.drop(operand)
        return out

    def apply(self, e: Apply, out: Operand | None) -> Operand:
        args = [self.expr(a, None) for a in e.args]
        span = frozenset().union(*(a.span for a in args)) if args else frozenset()
        texts = [a.text for a in args]
        if e.op == "cast" and args[0].scalar:
            texts[0] = f"np.asarray({texts[0]})"
        elif all(a.scalar for a in args):
            texts[0] = f"np.asarray({texts[0]}, np.{numpy_name(args[0].dtype)})"
        for a in args:
            self.drop(a)
        result = out or self.register(e.dtype, span)
        function = OPS[e.op].spell["numpy"]
        attrs = "" if e.op == "cast" else "".join(f", {k}={v!r}" for k, v in e.attrs)
        keyword = "out=" if attrs or function in _KEYWORD_OUT else ""
        self.line(f"{function}({', '.join(texts)}{attrs}, {keyword}{result.text})")
        return result

    def load(self, e: loop.Load) -> Operand:
        if e.is_plain:
            access = e.pieces[0]
            span = frozenset(i for i, s in enumerate(access.strides) if s)
            return Operand(self.view(access), e.dtype, span)
        if e in self.loaded:
            operand = self.loaded[e]
            return replace(operand, text=self.sliced_text(operand))
        return self.guarded(e)

    def preload(self, stmts: Sequence[loop.Stmt]) -> None:
        """Guarded loads are made whole before the loops: a tile of them would be no box."""
        for stmt in stmts:
            for e in loop.expressions(stmt):
                for part in loop.walk(e):
                    if (
                        isinstance(part, loop.Load)
                        and not part.is_plain
                        and part not in self.loaded
                    ):
                        operand = self.guarded(part)
                        self.pin(operand)
                        self.loaded[part] = operand

    def guarded(self, e: loop.Load) -> Operand:
        span = loop.axes_used(e, {})
        operand = self.register(e.dtype, span)
        sizes = [n if i in span else 1 for i, n in enumerate(self.sizes)]
        parts = [(p, boxes_of(p, sizes)) for p in e.pieces]
        covered = sum(math.prod(b.counts) for _, boxes in parts for b in boxes or ())
        if covered < math.prod(sizes):
            self.line(f"{operand.text}.fill({literal(e.fill, e.dtype)})")
        for access, boxes in reversed(parts):
            if boxes is None:
                self.indexed(operand, access, sizes)
            for box in boxes or ():
                self.copy_box(operand, access.buffer, box)
        return operand

    def copy_box(self, operand: Operand, buffer: str, box: Box) -> None:
        index = ", ".join(
            f"{a}:{a + (n - 1) * step + 1}" + (f":{step}" if step != 1 else "")
            for a, n, step in zip(box.starts, box.counts, box.steps, strict=True)
        )
        source = self.bind_view(buffer, box.counts, box.strides, box.offset)
        target = f"{operand.text}[{index}]" if index else f"{operand.text}[...]"
        if operand.slot is not None and not self.indent:
            name = self.new("t")
            self.bound.append(f"{name} = {target}")
            target = f"{name}[...]"
        self.line(f"{target} = {source}")

    def indexed(self, operand: Operand, access: Access, sizes: Sequence[int]) -> None:
        guards = [(g.value.strides, g.value.offset, g.size, g.step) for g in access.guards]
        index, holds = self.new("at"), self.new("holds")
        self.bound.append(
            f"{index}, {holds} = s.positions({tuple(sizes)}, {access.strides}, {access.offset}, "
            f"{access.divisor}, {guards})"
        )
        self.line(f"s.guarded({self.flat(access.buffer)}, {index}, {holds}, {operand.text})")

    def index(self, e: loop.Index) -> Operand:
        """The sum of one prepared vector per axis."""
        used = [i for i, s in enumerate(e.value.strides) if s]
        if not used:
            return Operand(str(e.value.offset), e.dtype, frozenset(), scalar=True)
        texts = []
        for n, i in enumerate(used):
            name = self.new("ix")
            start = e.value.offset if n == 0 else 0
            shape = tuple(-1 if j == i else 1 for j in range(len(self.sizes)))
            vector = f"np.arange({self.sizes[i]}) * {e.value.strides[i]} + {start}"
            self.bound.append(
                f"{name} = ({vector}).astype(np.{numpy_name(e.dtype)}).reshape({shape})"
            )
            texts.append(self.slice(name, frozenset({i})))
        if len(used) == 1:
            return Operand(texts[0], e.dtype, frozenset(used))
        result = self.register(e.dtype, frozenset(used))
        self.line(f"np.add({texts[0]}, {texts[1]}, {result.text})")
        for text in texts[2:]:
            self.line(f"np.add({result.text}, {text}, {result.text})")
        return result

    def gather(self, e: loop.Gather, out: Operand | None) -> Operand:
        index = self.expr(e.index, None)
        access = e.access
        base = self.index(loop.Index(loop.Linear(access.strides, access.offset), int64))
        span = index.span | base.span
        result = out or self.register(e.dtype, span)
        flat = self.flat(access.buffer)
        at = f"np.asarray({index.text})" if index.scalar else index.text
        self.line(
            f"s.gather({flat}, {base.text}, {at}, {e.stride}, {e.size}, "
            f"{literal(e.fill, e.dtype)}, {result.text})"
        )
        self.drop(index)
        self.drop(base)
        return result

    # -- views and slices

    def flat(self, buffer: str) -> str:
        return buffer if buffer in self.dynamic else f'mem["{buffer}"]'

    def view(self, access: Access) -> str:
        """The whole view, then the part of it that the loops are at."""
        if access not in self.views:
            shape = tuple(n if s else 1 for n, s in zip(self.sizes, access.strides, strict=True))
            self.views[access] = self.bind_view(access.buffer, shape, access.strides, access.offset)
        span = frozenset(i for i, s in enumerate(access.strides) if s)
        return self.slice(self.views[access], span)

    def bind_view(
        self, buffer: str, shape: Sequence[int], strides: Sequence[int], offset: int
    ) -> str:
        name = self.new("a")
        inner = tuple(0 if n == 1 else s for n, s in zip(shape, strides, strict=True))
        text = f"{name} = s.view({self.flat(buffer)}, {tuple(shape)}, {inner}, {offset})"
        if buffer in self.dynamic:
            self.lines.insert(0, text)
        else:
            self.bound.append(text)
        return name

    def slice(self, name: str, span: frozenset[int]) -> str:
        """The text of the part of an array over `span` at which the loops are."""
        if self.tile is None or not self.indent:
            return name
        parts, moved = [], False
        for i in range(len(self.sizes)):
            if i in span and i in self.outer:
                parts.append(f"p{i}:p{i} + 1")
                moved = True
            elif i in span and i == self.tile[0]:
                parts.append("lo:hi")
                moved = True
            else:
                parts.append(":")
        if not moved:
            return name
        key = f"{name}[{', '.join(parts)}]"
        if key not in self.sliced:
            self.sliced[key] = self.new("u")
            self.line(f"{self.sliced[key]} = {key}")
        return self.sliced[key]

    def sliced_text(self, operand: Operand) -> str:
        return self.slice(operand.text, operand.span)

    # -- registers

    def register(self, dtype: DType, span: frozenset[int]) -> Operand:
        """A free register of the dtype over the axes; a tile's size along the tiled axis."""
        shape = []
        for i, n in enumerate(self.sizes):
            inside = bool(self.indent) and self.tile is not None
            if i not in span or (inside and i in self.outer):
                shape.append(1)
            elif inside and self.tile and i == self.tile[0]:
                shape.append(min(self.tile[1], n))
            else:
                shape.append(n)
        return self.register_of(dtype, tuple(shape), span)

    def register_of(self, dtype: DType, shape: tuple[int, ...], span: frozenset[int]) -> Operand:
        for slot in self.free:
            found = self.slots[slot]
            if found.dtype is dtype and found.shape == shape and found.span == span:
                self.free.remove(slot)
                break
        else:
            slot = self.new_slot(dtype, shape, span)
        name = self.slots[slot].name
        return Operand(self.trimmed(name, span), dtype, span, slot)

    def new_slot(self, dtype: DType, shape: tuple[int, ...], span: frozenset[int]) -> int:
        nbytes = -(-math.prod(shape) * dtype.itemsize // _ALIGN) * _ALIGN
        name = f"r{len(self.slots)}"
        offset = self.scratch_bytes
        self.slots.append(_Slot(name, offset, nbytes, dtype, shape, span))
        self.scratch_bytes += nbytes
        self.bound.append(f'{name} = mem.scratch({offset}, "{dtype}", {shape})')
        return len(self.slots) - 1

    def trimmed(self, name: str, span: frozenset[int]) -> str:
        """The register's part for the last, smaller tile."""
        if not self.indent or self.tile is None or self.tile[0] not in span:
            return name
        axis, size = self.tile
        if self.sizes[axis] % size == 0:
            return name
        parts = ", ".join([":"] * axis + [":hi - lo"])
        key = f"{name}[{parts}]"
        if key not in self.sliced:
            self.sliced[key] = self.new("u")
            self.line(f"{self.sliced[key]} = {key}")
        return self.sliced[key]

    def drop(self, operand: Operand) -> None:
        if operand.slot is not None:
            self.release(operand.slot)

    def release(self, slot: int) -> None:
        if slot not in self.pinned and slot not in self.free:
            self.free.append(slot)

    def pin(self, operand: Operand) -> None:
        if operand.slot is not None:
            self.pinned.add(operand.slot)

    def new(self, prefix: str) -> str:
        self.counter += 1
        return f"{prefix}{self.counter}_"

    def line(self, text: str) -> None:
        self.lines.append(self.indent + text)

    # -- dots

    def dot(self, stmt: loop.Dot, rest: Sequence[loop.Stmt]) -> None:
        spans = self.spans_of(stmt.a), self.spans_of(stmt.b)
        reduced = set(self.kernel.reduced)
        batch = [i for i in range(len(self.sizes)) if i in spans[0] & spans[1] and i not in reduced]
        m = [i for i in sorted(spans[0]) if i not in reduced and i not in batch]
        n = [i for i in sorted(spans[1]) if i not in reduced and i not in batch]
        inner = [i for i in self.kernel.reduced]
        a = self.matrix(stmt.a, batch, m, inner, stmt.dtype)
        b = self.matrix(stmt.b, batch, inner, n, stmt.dtype)
        target = self.dot_target(stmt, rest, batch, m, n)
        if target is None:
            target = self.product(stmt, batch, m, n)
        self.line(f"np.matmul({a}, {b}, {target})")

    def group(self, axes: Sequence[int]) -> int:
        return math.prod(self.sizes[i] for i in axes)

    def matrix(
        self, e: loop.Expr, batch: list[int], rows: list[int], columns: list[int], dtype: DType
    ) -> str:
        """The operand as [batch..., rows, columns]: a view where the strides allow it."""
        shape = (*(self.sizes[i] for i in batch), self.group(rows), self.group(columns))
        if isinstance(e, loop.Load) and e.is_plain and e.dtype is dtype:
            access = e.pieces[0]
            merged = [self.merged_stride(access, axes) for axes in (rows, columns)]
            if None not in merged:
                strides = (*(access.strides[i] for i in batch), *merged)
                return self.bind_view(
                    access.buffer, shape, [s or 0 for s in strides], access.offset
                )
        order = [*batch, *rows, *columns]
        value = self.expr(e, None)
        flat = self.register_of(dtype, (math.prod(self.sizes[i] for i in order),), frozenset({-1}))
        assert flat.slot is not None
        name, wide = self.new("m"), self.new("w")
        self.bound.append(f"{name} = {flat.text}.reshape({shape})")
        back = self.spread_back(order)
        self.bound.append(f"{wide} = {flat.text}.reshape({back[0]}).transpose({back[1]})")
        self.line(f"{wide}[...] = {value.text}")
        self.drop(value)
        return name

    def spread_back(self, order: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shape and the transposition that bring dense dims `order` to the kernel's axes."""
        rest = [i for i in range(len(self.sizes)) if i not in order]
        shape = tuple(self.sizes[i] for i in order) + (1,) * len(rest)
        place = [*order, *rest]
        return shape, tuple(place.index(i) for i in range(len(self.sizes)))

    def merged_stride(self, access: Access, axes: Sequence[int]) -> int | None:
        """The one stride with which the access walks the axes, None when there is none."""
        stride: int | None = None
        size = 1
        for i in reversed(axes):
            if stride is None:
                stride = access.strides[i]
            elif access.strides[i] != stride * size:
                return None
            size *= self.sizes[i]
        return stride or 0

    def dot_target(
        self,
        stmt: loop.Dot,
        rest: Sequence[loop.Stmt],
        batch: list[int],
        m: list[int],
        n: list[int],
    ) -> str | None:
        """The buffer itself, when the product is only stored."""
        if len(rest) != 1 or not isinstance(rest[0], loop.Store):
            return None
        access = rest[0].access
        stored = rest[0].value == loop.Ref(stmt.name, stmt.dtype)
        if not stored or self.program.buffers[access.buffer].dtype is not stmt.dtype:
            return None
        product = {*batch, *m, *n, *self.kernel.reduced}
        if any(d > 1 and i not in product for i, d in enumerate(self.sizes)):
            return None  # neither operand knows this axis: the product is spread along it
        strides = [self.merged_stride(access, axes) for axes in (m, n)]
        if None in strides or any(self.overlap(access.buffer, x) for x in self.kernel.inputs):
            return None
        shape = (*(self.sizes[i] for i in batch), self.group(m), self.group(n))
        inner = [*(access.strides[i] for i in batch), *(s or 0 for s in strides)]
        name = self.bind_view(access.buffer, shape, inner, access.offset)
        self.names[stmt.name] = Operand(self.view(access), stmt.dtype, self.result_span(stmt))
        return name

    def product(self, stmt: loop.Dot, batch: list[int], m: list[int], n: list[int]) -> str:
        order = [*batch, *m, *n]
        count = math.prod(self.sizes[i] for i in order)
        flat = self.register_of(stmt.dtype, (count,), frozenset({-2}))
        self.pin(flat)
        shape = (*(self.sizes[i] for i in batch), self.group(m), self.group(n))
        name, wide = self.new("m"), self.new("w")
        back = self.spread_back(order)
        self.bound.append(f"{name} = {flat.text}.reshape({shape})")
        self.bound.append(f"{wide} = {flat.text}.reshape({back[0]}).transpose({back[1]})")
        self.names[stmt.name] = Operand(wide, stmt.dtype, self.result_span(stmt))
        return name

    # -- library calls

    def call(self) -> None:
        (stmt,) = self.kernel.body
        assert isinstance(stmt, loop.Call)
        attrs = dict(stmt.attrs)
        shapes = attrs.pop("shapes")
        self.bound.append(f'function = OPS["{stmt.op}"].numpy')
        self.bound.append(f"attrs = {attributes_text(attrs)}")
        inputs = ", ".join(
            f"{self.flat(n)}.reshape({shape})" for n, shape in zip(stmt.inputs, shapes, strict=True)
        )
        self.line(f"results = function(attrs, {inputs})")
        if len(stmt.outputs) == 1:
            self.line("results = (results,)")
        for i, name in enumerate(stmt.outputs):
            self.line(f"{self.flat(name)}[...] = np.asarray(results[{i}]).ravel()")


def attributes_text(attrs: dict[str, object]) -> str:
    """The attributes as a Python literal; dtypes by name."""
    parts = (
        f'"{k}": as_dtype("{v.name}")' if isinstance(v, DType) else f'"{k}": {v!r}'
        for k, v in attrs.items()
    )
    return "{" + ", ".join(parts) + "}"


def numpy_name(dtype: DType) -> str:
    """NumPy's attribute for a dtype that it has itself."""
    return "bool_" if dtype is bool_ else dtype.name


def literal(value: float | int | bool, dtype: DType) -> str:
    """A Python scalar; NumPy gives it the dtype of the array that it meets."""
    if dtype.is_bool:
        return str(bool(value))
    if dtype.is_floating:
        number = float(value)
        if math.isnan(number):
            return "np.nan"
        return repr(number) if math.isfinite(number) else ("np.inf" if number > 0 else "-np.inf")
    return str(int(value))

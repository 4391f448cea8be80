"""Statements: names for values, reductions, stores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from graphc.codegen.axes import span_of
from graphc.codegen.numpy.dots import Dots
from graphc.codegen.numpy.frame import Frame
from graphc.codegen.numpy.loads import Loads
from graphc.codegen.numpy.registers import Operand, Registers
from graphc.codegen.numpy.spelling import REDUCE, literal, reduce_text
from graphc.codegen.numpy.values import Values
from graphc.ir import loop
from graphc.ir.dtypes import DType
from graphc.ir.loop import Access, Apply
from graphc.ir.ops.reduce import neutral

_PARTS = frozenset({-3})  # what tells the chunks' parts of a total from other registers


class Total(NamedTuple):
    """A reduction by chunks: a register with a part per chunk, and one for all of them."""

    stmt: loop.Reduce
    parts: Operand
    whole: Operand


class Statements:
    """Emits statements at the point of the loops at which the frame is."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self.registers = Registers(frame)
        self.loads = Loads(frame, self.registers)
        self._values = Values(frame, self.registers, self.loads)
        self._dots = Dots(frame, self.registers, self.loads, self._values)

    def emit(
        self, stmts: Sequence[loop.Stmt], *, accumulate: bool = False, keep: bool = False
    ) -> None:
        """The statements in order.

        With `accumulate` reductions add to what `start` has begun; with `keep` what is named
        stays until the kernel ends.
        """
        self._values.count_uses(stmts)
        for position, stmt in enumerate(stmts):
            rest = stmts[position + 1 :]
            match stmt:
                case loop.Let():
                    self._let(stmt, rest, keep)
                case loop.Reduce() if accumulate:
                    self._accumulate(stmt)
                case loop.Reduce():
                    self._reduce(stmt, self._frame.kernel.reduced, rest)
                case loop.Fold():
                    self._reduce(stmt, self._frame.kernel.folded, rest)
                case loop.Dot():
                    self._values.names[stmt.name] = self._dots.emit(stmt, rest)
                case loop.Store(access, value):
                    self._store(access, value)
                case _:
                    raise AssertionError(f"alone in its kernel: {stmt}")

    def totals(self, stmts: Sequence[loop.Stmt], chunks: int) -> list[Total]:
        """Registers for the reductions that a walk over so many chunks adds up."""
        result = []
        for stmt in stmts:
            if isinstance(stmt, loop.Reduce):
                span = self._frame.scope[stmt.name]
                shape = (chunks, *self._frame.shape(span))
                parts = self.registers.take_shape(stmt.dtype, shape, _PARTS)
                whole = self.registers.pin(self.registers.take(stmt.dtype, span))
                result.append(Total(stmt, parts, whole))
        return result

    def start(self, totals: Sequence[Total]) -> None:
        """At the beginning of a chunk: its part of each total, to which the loop adds."""
        for stmt, parts, whole in totals:
            name = self._frame.new("p")
            self._frame.line(f"{name} = {parts.text}[chunk]")
            self._frame.line(f"{name}.fill({literal(neutral(stmt.op, stmt.dtype), stmt.dtype)})")
            self._values.names[stmt.name] = Operand(name, whole.dtype, whole.span)

    def finish(self, totals: Sequence[Total]) -> None:
        """After the chunks: their parts as one, in an order that no number of threads changes."""
        for stmt, parts, whole in totals:
            self._frame.line(f"{REDUCE[stmt.op]}.reduce({parts.text}, 0, out={whole.text})")
            self._values.names[stmt.name] = whole
            self.registers.drop(parts)

    # -- lets

    def _let(self, stmt: loop.Let, rest: Sequence[loop.Stmt], keep: bool) -> None:
        names, value = self._values.names, stmt.value
        if isinstance(value, loop.Ref):
            self.registers.pin(names[value.name])  # two names for one register: neither frees it
        is_new = not isinstance(value, (loop.Ref, loop.Const))
        target = self._direct_target(stmt.name, value.dtype, rest) if is_new else None
        if target is None and self._is_overwritten(stmt, rest):
            target = self.registers.take(value.dtype, self._frame.scope[stmt.name])
        names[stmt.name] = self._values.emit(value, target)
        if keep:
            self.registers.pin(names[stmt.name])

    def _is_overwritten(self, stmt: loop.Let, rest: Sequence[loop.Stmt]) -> bool:
        """True for a view that is read after a write to its memory: only a copy keeps its value."""
        value = stmt.value
        if not isinstance(value, loop.Load) or not value.is_plain:
            return False
        buffer, written, names = value.pieces[0].buffer, self._written_by(rest), {stmt.name}
        overwritten = False
        for later, target in zip(rest, written, strict=True):
            read = {n for e in later.exprs for n in loop.refs(e)}
            if overwritten and read & names:
                return True
            if isinstance(later, loop.Let) and isinstance(later.value, loop.Ref) and read & names:
                names.add(later.name)
            overwritten |= target is not None and self._frame.overlap(buffer, target)
        return False

    @staticmethod
    def _written_by(stmts: Sequence[loop.Stmt]) -> list[str | None]:
        """Per statement the buffer that it may write to: that in which its value is stored, too."""
        stores = [s for s in stmts if isinstance(s, loop.Store)]
        targets = {s.value.name: s.access.buffer for s in stores if isinstance(s.value, loop.Ref)}
        return [
            s.access.buffer if isinstance(s, loop.Store)
            else targets.get(getattr(s, "name", ""))
            for s in stmts
        ]  # fmt: skip

    def _direct_target(self, name: str, dtype: DType, rest: Sequence[loop.Stmt]) -> Operand | None:
        """The buffer into which a value may be computed right away, when it is stored as it is."""
        value = loop.Ref(name, dtype)
        stores = (s.access for s in rest if isinstance(s, loop.Store) and s.value == value)
        access = next(stores, None)
        if access is None:
            return None
        return self._store_target(access, dtype, self._frame.scope[name], rest)

    def _store_target(
        self, access: Access, dtype: DType, span: frozenset[int], rest: Sequence[loop.Stmt]
    ) -> Operand | None:
        """The view, if it is of the value's shape and dtype, and nothing reads it hereafter."""
        frame = self._frame
        if not access.is_plain or span_of(access.strides) != span:
            return None
        if frame.program.buffers[access.buffer].dtype is not dtype:
            return None
        read = {x.buffer for s in rest for e in s.exprs for x in loop.accesses(e)}
        if any(frame.overlap(access.buffer, name) for name in read):
            return None
        return Operand(self.loads.view(access), dtype, span)

    # -- stores

    def _store(self, access: Access, value: loop.Expr) -> None:
        dtype = self._frame.program.buffers[access.buffer].dtype
        target = Operand(self.loads.view(access), dtype, span_of(access.strides))
        if isinstance(value, Apply) and self._same_form(value, target):
            self._values.emit(value, target)
            return
        operand = self._values.emit(value)
        if operand.text != target.text:
            self._frame.line(f"{target.text}[...] = {operand.text}")
        self.registers.drop(operand)

    def _same_form(self, value: Apply, target: Operand) -> bool:
        """True when no broadcast and no cast lies between the value and the target."""
        same = value.dtype is target.dtype
        return same and loop.axes_used(value, self._frame.scope) == target.span

    # -- reductions

    def _reduce(
        self, stmt: loop.Reduce | loop.Fold, axes: tuple[int, ...], rest: Sequence[loop.Stmt]
    ) -> None:
        value = self._values.emit(stmt.value)
        text = self._spread(value, axes)
        result = self._direct_target(stmt.name, stmt.dtype, rest)
        result = result or self.registers.take(stmt.dtype, self._frame.scope[stmt.name])
        self._frame.line(reduce_text(stmt.op, text, axes, result.text))
        self.registers.drop(value)
        self._values.names[stmt.name] = result

    def _accumulate(self, stmt: loop.Reduce) -> None:
        """The reduction of a tile, then its total with those before it."""
        value, axes = self._values.emit(stmt.value), self._frame.kernel.reduced
        text = self._spread(value, axes)
        total = self._values.names[stmt.name]
        part = self.registers.take(stmt.dtype, total.span)
        self._frame.line(reduce_text(stmt.op, text, axes, part.text))
        self._frame.line(f"{REDUCE[stmt.op]}({total.text}, {part.text}, out={total.text})")
        self.registers.drop(value, part)

    def _spread(self, value: Operand, axes: Sequence[int]) -> str:
        """The operand's text, broadcast along those of the axes that it does not span."""
        if set(axes) <= value.span and not value.scalar:
            return value.text
        shape = self._frame.shape_text(value.span | set(axes))
        return f"np.broadcast_to({value.text}, {shape})"

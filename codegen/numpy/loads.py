"""Loads: views where an access is affine, copies of boxes where it has guards, index vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from graphc.codegen.axes import span_of
from graphc.codegen.numpy.boxes import Box, boxes_of
from graphc.codegen.numpy.frame import Frame
from graphc.codegen.numpy.registers import Operand, Registers
from graphc.codegen.numpy.spelling import literal, numpy_name
from graphc.ir import loop
from graphc.ir.loop import Access


class Loads:
    """What a kernel reads, as operands; views are made once and kept."""

    def __init__(self, frame: Frame, registers: Registers) -> None:
        self._frame = frame
        self._registers = registers
        self._views: dict[tuple[Access, int], str] = {}
        self._copies: dict[loop.Load, Operand] = {}

    # -- views

    def view(self, access: Access) -> str:
        """The view of a plain access, or the part of it at which the loops are."""
        span, frame = span_of(access.strides), self._frame
        key = access, frame.section if access.buffer in frame.arguments else 0
        if key not in self._views:
            shape = [n if i in span else 1 for i, n in enumerate(frame.sizes)]
            name = self.bind_view(access.buffer, shape, access.strides, access.offset)
            self._views[key] = name
        return frame.part(self._views[key], span)

    def bind_view(
        self, buffer: str, shape: Sequence[int], strides: Sequence[int], offset: int
    ) -> str:
        """A name for a strided view of the buffer, made outside of all loops."""
        frame = self._frame
        name = frame.new("a")
        inner = tuple(0 if n == 1 else s for n, s in zip(shape, strides, strict=True))
        if not offset and self._is_whole(buffer, shape, inner):
            text = f"{name} = {frame.flat(buffer)}.reshape({tuple(shape)})"
        else:
            text = f"{name} = s.view({frame.flat(buffer)}, {tuple(shape)}, {inner}, {offset})"
        if buffer in frame.arguments:
            frame.lines.insert(0, text)
        else:
            frame.bound.append(text)
        return name

    def _is_whole(self, buffer: str, shape: Sequence[int], strides: Sequence[int]) -> bool:
        """True for all of the buffer in its order."""
        step = 1
        for n, s in zip(reversed(shape), reversed(strides), strict=True):
            if n > 1 and s != step:
                return False
            step *= n
        return step == self._frame.program.buffers[buffer].size

    # -- loads

    def load(self, e: loop.Load) -> Operand:
        """A view of the buffer, or a register with a copy."""
        if e.is_plain:
            access = e.pieces[0]
            return Operand(self.view(access), e.dtype, span_of(access.strides))
        copy = self._copies.get(e)
        if copy is None:
            return self._copy(e)
        return replace(copy, text=self._frame.part(copy.text, copy.span))

    def preload(self, stmts: Sequence[loop.Stmt]) -> None:
        """Guarded loads are made whole before the loops: a tile of them would be no box."""
        for e in (e for s in stmts for x in s.exprs for e in loop.walk(x)):
            if isinstance(e, loop.Load) and not e.is_plain and e not in self._copies:
                self._copies[e] = self._registers.pin(self._copy(e))

    def _copy(self, e: loop.Load) -> Operand:
        """A register with the fill, then the pieces over it: of two that hold, the first."""
        span = loop.axes_used(e, {})
        operand = self._registers.take(e.dtype, span)
        sizes = [n if i in span else 1 for i, n in enumerate(self._frame.sizes)]
        parts = [(p, boxes_of(p, sizes)) for p in e.pieces]
        covered = sum(math.prod(b.counts) for _, boxes in parts for b in boxes or ())
        if covered < math.prod(sizes):
            self._frame.line(f"{operand.text}.fill({literal(e.fill, e.dtype)})")
        for access, boxes in reversed(parts):
            if boxes is None:
                self._copy_indexed(operand, access, sizes)
            for box in boxes or ():
                self._copy_box(operand, access.buffer, box)
        return operand

    def _copy_box(self, operand: Operand, buffer: str, box: Box) -> None:
        frame = self._frame
        source = self.bind_view(buffer, box.counts, box.strides, box.offset)
        target = f"{operand.text}[{_subscripts(box) or '...'}]"
        if not frame.in_loop:
            name = frame.new("t")
            frame.bound.append(f"{name} = {target}")
            target = f"{name}[...]"
        frame.line(f"{target} = {source}")

    def _copy_indexed(self, operand: Operand, access: Access, sizes: Sequence[int]) -> None:
        """Element by element, at positions that are computed once."""
        frame = self._frame
        guards = [(g.value.strides, g.value.offset, g.size, g.step) for g in access.guards]
        index, holds = frame.new("at"), frame.new("holds")
        frame.bound.append(
            f"{index}, {holds} = s.positions({tuple(sizes)}, {access.strides}, {access.offset}, "
            f"{access.divisor}, {guards})"
        )
        frame.line(f"s.guarded({frame.flat(access.buffer)}, {index}, {holds}, {operand.text})")

    # -- indices

    def index(self, e: loop.Index) -> Operand:
        """The sum of one prepared vector per axis."""
        used = [i for i, s in enumerate(e.value.strides) if s]
        if not used:
            return Operand(str(e.value.offset), e.dtype, frozenset(), scalar=True)
        starts = [e.value.offset] + [0] * (len(used) - 1)
        texts = [self._vector(e, i, start) for i, start in zip(used, starts, strict=True)]
        if len(used) == 1:
            return Operand(texts[0], e.dtype, frozenset(used))
        result = self._registers.take(e.dtype, frozenset(used))
        self._frame.line(f"np.add({texts[0]}, {texts[1]}, {result.text})")
        for text in texts[2:]:
            self._frame.line(f"np.add({result.text}, {text}, {result.text})")
        return result

    def _vector(self, e: loop.Index, axis: int, start: int) -> str:
        """start + stride * position along one axis, made once; its part at the loops."""
        frame = self._frame
        name = frame.new("ix")
        shape = tuple(-1 if j == axis else 1 for j in range(len(frame.sizes)))
        vector = f"np.arange({frame.sizes[axis]}) * {e.value.strides[axis]} + {start}"
        frame.bound.append(f"{name} = ({vector}).astype(np.{numpy_name(e.dtype)}).reshape({shape})")
        return frame.part(name, frozenset({axis}))


def _subscripts(box: Box) -> str:
    return ", ".join(
        f"{a}:{a + (n - 1) * step + 1}" + (f":{step}" if step != 1 else "")
        for a, n, step in zip(box.starts, box.counts, box.steps, strict=True)
    )

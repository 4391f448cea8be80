"""Registers: where in the scratch memory the intermediate values of a kernel lie.

A register is an array of one dtype and shape at a fixed place of the scratch memory, which all
kernels share. It is taken again as soon as the value in it is not read any more. Inside a walk it
is each thread's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from graphc.codegen.numpy.frame import Frame
from graphc.ir.dtypes import DType

_ALIGN = 64  # bytes: a cache line


@dataclass(frozen=True, slots=True)
class Operand:
    """A value at hand: its text, dtype, the axes it spans, and the register that it holds."""

    text: str
    dtype: DType
    span: frozenset[int]
    slot: int | None = None
    scalar: bool = False


class _Slot(NamedTuple):
    name: str
    dtype: DType
    shape: tuple[int, ...]
    span: frozenset[int]
    in_walk: bool


class Registers:
    """Gives out registers and takes them back; `nbytes` is what they need together."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._slots: list[_Slot] = []
        self._free: list[int] = []
        self._pinned: set[int] = set()
        self.nbytes = 0

    def take(self, dtype: DType, span: frozenset[int]) -> Operand:
        """A free register over the axes; of a tile's size along the tiled axis."""
        return self.take_shape(dtype, self._frame.shape(span), span)

    def take_shape(self, dtype: DType, shape: Sequence[int], span: frozenset[int]) -> Operand:
        """A free register of the shape, to be told from others by `span`."""
        wanted = dtype, tuple(shape), span, self._frame.in_walk
        slot = next((i for i in self._free if self._slots[i][1:] == wanted), -1)
        if slot < 0:
            slot = self._new(*wanted)
        else:
            self._free.remove(slot)
        return Operand(self._frame.trimmed(self._slots[slot].name, span), dtype, span, slot)

    def _new(
        self, dtype: DType, shape: tuple[int, ...], span: frozenset[int], in_walk: bool
    ) -> int:
        name = f"r{len(self._slots)}"
        lines = self._frame.own if in_walk else self._frame.bound
        lines.append(f'{name} = mem.scratch({self.nbytes}, "{dtype}", {shape})')
        self._slots.append(_Slot(name, dtype, shape, span, in_walk))
        self.nbytes += -(-math.prod(shape) * dtype.itemsize // _ALIGN) * _ALIGN
        return len(self._slots) - 1

    def drop(self, *operands: Operand) -> None:
        """Their values are not read any more."""
        for operand in operands:
            slot = operand.slot
            if slot is not None and slot not in self._pinned and slot not in self._free:
                self._free.append(slot)

    def pin(self, operand: Operand) -> Operand:
        """The operand, kept until the kernel ends."""
        if operand.slot is not None:
            self._pinned.add(operand.slot)
        return operand

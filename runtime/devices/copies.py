"""Programs that only set variables to constants, as most initializers do: run without any code.

What is more than a copy, random numbers for one, is not for here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from graphc.ir import loop
from graphc.ir.loop import Const, Kernel, Load, Program
from graphc.runtime.interrupts import uninterrupted

Source: TypeAlias = "str | Const"  # a constant's buffer, or what all elements are


class Copy(NamedTuple):
    """A variable, and what it is set to."""

    target: str
    source: Source


def copies_of(program: Program) -> list[Copy] | None:
    """What the program copies; None where it does anything else."""
    found = [_copy(nest, program) for nest in _nests(program.kernels)]
    copies = [c for c in found if c is not None]
    return copies if len(copies) == len(found) else None


def _nests(kernels: Sequence[Kernel]) -> Iterator[Kernel]:
    for kernel in kernels:
        yield from kernel.parts or (kernel,)


def _copy(kernel: Kernel, program: Program) -> Copy | None:
    """The copy that a loop nest is: let v = x; store v."""
    match kernel.body:
        case (loop.Let(_, (Load() | Const()) as value), loop.Store(access, loop.Ref())):
            target = program.buffers[access.buffer]
            whole = access.is_plain and kernel.space == target.size
            if not whole or target.role != loop.VARIABLE or value.dtype is not target.dtype:
                return None
            if isinstance(value, Const):
                return Copy(target.name, value)
            source = program.buffers[value.pieces[0].buffer]
            same = value.is_plain and value.pieces[0] == _at(source.name, access)
            constant = source.role == loop.CONSTANT and source.size == target.size
            return Copy(target.name, source.name) if same and constant else None
    return None


def _at(buffer: str, access: loop.Access) -> loop.Access:
    """The same places of another buffer."""
    return loop.Access(buffer, access.strides, access.offset)


class Copies:
    """An executable that copies."""

    def __init__(
        self, copies: Sequence[Copy], program: Program, variables: Mapping[str, np.ndarray]
    ) -> None:
        self._pairs = [
            (variables[target].reshape(-1), _array(source, program)) for target, source in copies
        ]

    def run(self, feeds: Sequence[np.ndarray], run: int) -> list[np.ndarray]:
        """Run once; see graphc.runtime.devices.base.Executable."""
        del feeds, run
        uninterrupted(self._copy, ())
        return []

    def _copy(self) -> None:
        for target, source in self._pairs:
            target[...] = source


def _array(source: Source, program: Program) -> np.ndarray:
    if isinstance(source, Const):
        return np.asarray(source.value, source.dtype.numpy)
    array: np.ndarray = program.buffers[source].value.array
    return array.reshape(-1)


__all__ = ["Copies", "Copy", "copies_of"]

"""The host's side of a run: what is fed and what is given back, each in one block of memory.

Buffers lie side by side on the device and, in the same order, in pinned memory of the host. So a
run needs one copy each way, whatever their number, and a CUDA graph can hold both copies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from graphc.ir import loop
from graphc.ir.dtypes import DType, uint8
from graphc.ir.loop import Buffer, Program

if TYPE_CHECKING:
    from graphc.runtime.devices.triton import TritonDevice

Tensor = Any  # torch is imported late
ALIGNMENT: Final = 256  # bytes


def aligned(nbytes: int) -> int:
    """The bytes up to the next place where a buffer may begin."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def torch_type(dtype: DType) -> Any:
    """The dtype as kernels see it: bool as int8."""
    import torch

    return torch.int8 if dtype.is_bool else getattr(torch, dtype.name)


class Block:
    """The places of buffers that lie side by side: each one's first byte, and all their bytes."""

    def __init__(self, buffers: Iterable[Buffer]) -> None:
        self.nbytes = 0
        self.places: list[tuple[Buffer, int]] = []
        for buffer in buffers:
            self.places.append((buffer, self.nbytes))
            self.nbytes += aligned(buffer.nbytes)

    def pieces(self, memory: Any) -> dict[str, Any]:
        """By name, each buffer's bytes in memory for the whole block."""
        return {b.name: memory[start : start + b.nbytes] for b, start in self.places}

    def tensors(self, memory: Tensor) -> dict[str, Tensor]:
        """By name, each buffer as a flat tensor in memory for the whole block."""
        pieces = self.pieces(memory)
        return {b.name: pieces[b.name].view(torch_type(b.dtype)) for b, _ in self.places}

    def arrays(self, memory: Tensor) -> dict[str, np.ndarray]:
        """By name, each buffer as an array in memory of the host for the whole block."""
        pieces = self.pieces(memory.numpy())
        return {b.name: pieces[b.name].view(b.dtype.numpy).reshape(b.shape) for b, _ in self.places}


class Staging:
    """Where a program's feeds arrive on the device, and where its outputs leave it.

    An output that is also a feed, a variable or a constant is copied from where it lies.
    """

    def __init__(self, device: TritonDevice, program: Program) -> None:
        self.device = device
        self.inputs, self.outputs = program.inputs, program.outputs
        buffers = program.buffers
        self.counter = next((b for b in buffers.values() if b.role == loop.COUNTER), None)
        fed = [buffers[n] for n in program.inputs]
        self.fed = Block([*fed, *([self.counter] if self.counter else [])])
        given = [buffers[n] for n in dict.fromkeys(program.outputs)]
        own = [b for b in given if b.role == loop.OUTPUT]
        self.own = Block(own)
        self.given = Block([*own, *(b for b in given if b.role != loop.OUTPUT)])
        self.arrival = device.empty(uint8, self.fed.nbytes)
        self.departure = device.empty(uint8, self.own.nbytes)

    def tensors(self) -> dict[str, Tensor]:
        """The flat tensors of the feeds, of the counter of runs, and of the outputs."""
        return {**self.fed.tensors(self.arrival), **self.own.tensors(self.departure)}


class Side:
    """Memory of the host for one run at a time, and the copies between it and the device."""

    def __init__(self, staging: Staging, tensors: Mapping[str, Tensor]) -> None:
        device, fed, given = staging.device, staging.fed, staging.given
        to, back = device.pinned(fed.nbytes), device.pinned(given.nbytes)
        fed_arrays, given_arrays = fed.arrays(to), given.arrays(back)
        self._feeds = [fed_arrays[n] for n in staging.inputs]
        self._counter = fed_arrays[staging.counter.name] if staging.counter else None
        self._given = [given_arrays[n] for n in staging.outputs]
        own = staging.own.nbytes
        self._in = [(staging.arrival, to)] if fed.nbytes else []
        self._out = [(back[:own], staging.departure)] if own else []
        pieces = given.pieces(back)
        for name in pieces.keys() - {b.name for b, _ in staging.own.places}:
            self._out.append((pieces[name], tensors[name].view(back.dtype)))

    @property
    def is_empty(self) -> bool:
        """True where nothing is copied."""
        return not (self._in or self._out)

    def feed(self, feeds: Sequence[np.ndarray], run: int) -> None:
        """Take the feeds over, and the number of the run."""
        for array, feed in zip(self._feeds, feeds, strict=True):
            np.copyto(array, feed)
        if self._counter is not None:
            self._counter[...] = run

    def copy_in(self) -> None:
        """Launch the copy of what was fed to the device."""
        _copy(self._in)

    def copy_out(self) -> None:
        """Launch the copies of the outputs to the host."""
        _copy(self._out)

    def results(self) -> list[np.ndarray]:
        """The outputs in arrays of the caller's own, once they have been copied."""
        return [array.copy() for array in self._given]


def _copy(pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
    for target, source in pairs:
        target.copy_(source, non_blocking=True)


__all__ = ["ALIGNMENT", "Block", "Side", "Staging", "aligned", "torch_type"]

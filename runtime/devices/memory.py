"""Memory of the devices that compute in this process: variables, and fetched arrays."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from graphc.ir.dtypes import DType
from graphc.ir.loop import Buffer
from graphc.ir.memory import aligned_bytes


def _holders(block: np.ndarray) -> int:
    """How many refer to a block's memory: each view does, and no view refers to another view."""
    return sys.getrefcount(block.base)


_ALONE: Final = _holders(aligned_bytes(1))


class HostMemory:
    """Where the variables of a device live that computes in this process: in NumPy's arrays."""

    def allocate(self, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
        """Zeroed dense memory."""
        raw = aligned_bytes(math.prod(shape) * dtype.itemsize)
        return raw.view(dtype.numpy).reshape(shape)

    def read(self, storage: np.ndarray) -> np.ndarray:
        """A copy of the variable's value."""
        return storage.copy()

    def write(self, storage: np.ndarray, array: np.ndarray) -> None:
        """Set the variable's value."""
        storage[...] = array


class OutputPool:
    """Memory for large fetched arrays, taken back when the caller has dropped them.

    The first touch of fresh pages costs more than filling them. A block is free again when
    nothing but the pool refers to it: every array and view that a caller holds keeps it alive.
    """

    _LARGE = 1 << 20  # bytes; below, the allocator is quick enough

    def __init__(self) -> None:
        self._blocks: dict[str, list[np.ndarray]] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """An array that no one else holds, its content undefined."""
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes < self._LARGE:
            return np.empty(shape, dtype)
        blocks = self._blocks.setdefault(name, [])
        for block in blocks:
            if _holders(block) == _ALONE:
                return block.view(dtype).reshape(shape)
        blocks.append(aligned_bytes(nbytes))
        return blocks[-1].view(dtype).reshape(shape)


def collect(
    outputs: Sequence[Buffer],
    fresh: Mapping[str, np.ndarray],
    inputs: Mapping[str, np.ndarray],
    fixed: Mapping[str, np.ndarray],
) -> list[np.ndarray]:
    """Each fetched value in an array of its own, also one that is fetched twice or fed.

    `fresh` arrays were written by the run, by buffer; `inputs` are what was fed, `fixed` the rest.
    """
    result: list[np.ndarray] = []
    given: set[str] = set()
    for b in outputs:
        array = fresh.get(b.name)
        if array is None:
            source = inputs[b.name] if b.name in inputs else fixed[b.name]
            array = source.reshape(b.shape).copy()
        elif b.name in given:
            array = array.copy()
        given.add(b.name)
        result.append(array)
    return result

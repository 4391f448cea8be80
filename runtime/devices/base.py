"""What a device is to a session: where variables live, and what runs a program.

A session knows devices only through this interface; the list of them is in
`graphc.runtime.devices`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from graphc.ir.dtypes import DType
from graphc.ir.loop import Program
from graphc.ir.settings import Settings
from graphc.passes.target import Target

Storage = Any  # a variable's memory: a NumPy array, a torch tensor


class Executable(Protocol):
    """A program loaded on a device, bound to the storage of its variables."""

    def run(self, feeds: Sequence[np.ndarray], run: int) -> list[np.ndarray]:
        """Run once.

        `feeds` are native-endian arrays of the inputs' shapes and dtypes, in the order of
        `program.inputs` (any strides, perhaps read-only); `run` is the number of the run in
        its session. Gives the outputs, each with its value's shape, in arrays that are the
        caller's. Updates the variables in place; when it raises, they are as they were.
        """
        ...


class Device(Protocol):
    """A place where programs run."""

    name: str
    target: Target

    def allocate(self, dtype: DType, shape: tuple[int, ...]) -> Storage:
        """Uninitialized dense memory of a variable."""
        ...

    def read(self, storage: Storage) -> np.ndarray:
        """A copy of a variable's value."""
        ...

    def write(self, storage: Storage, array: np.ndarray) -> None:
        """Set a variable's value; `array` has its dtype and shape."""
        ...

    def load(
        self, program: Program, variables: Mapping[str, Storage], settings: Settings
    ) -> Executable:
        """Emit, build and bind the program; `variables` maps buffer names to storage."""
        ...

    def sources(self, program: Program, settings: Settings) -> Mapping[str, str]:
        """Per kernel name, the source text that this device would run."""
        ...

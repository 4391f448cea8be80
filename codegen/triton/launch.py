"""What the loader must know of an emitted kernel, and the options of emission."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from graphc.ir.dtypes import DType

if TYPE_CHECKING:
    from graphc.codegen.triton.library import LibraryCall


@dataclass(frozen=True, slots=True)
class Options:
    """What changes the emitted text besides the program.

    `schedules` are by measurement instead of rule, by the kernel's key (see candidates.py).
    `tf32` lets tensor cores round float32 operands to 10 bits of mantissa; `interpret` avoids
    what Triton's interpreter cannot do; `processors` is the number of streaming multiprocessors
    that a launch should keep busy; with `libraries`, cuBLAS and cuDNN compute where they win.
    """

    tf32: bool = False
    libraries: bool = False
    interpret: bool = False
    processors: int = 132
    schedules: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Workspace:
    """Memory of one kernel, between its stages: `size` elements of `dtype`."""

    name: str
    dtype: DType
    size: int

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return self.size * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Matrix:
    """A strided view of a flat buffer or workspace."""

    buffer: str
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    def __str__(self) -> str:
        return f"{self.buffer}[{', '.join(map(str, self.sizes))}]"


@dataclass(frozen=True, slots=True)
class Stage:
    """One launch: the function, its one-dimensional grid, its arguments and its resources.

    `arguments` name buffers and workspaces of the kernel, in the order of the parameters.
    """

    function: str
    grid: int
    arguments: tuple[str, ...]
    num_warps: int = 4
    num_stages: int = 2


Emitted: TypeAlias = tuple[str, tuple[Stage, ...]]  # functions, and their launches in order


# How every function is compiled. A product and a sum are rounded one after the other, as they are
# written and as the interpreter does: rounded at once, x * c - max(x * c) would be above 0.
COMPILE_OPTIONS: Final[Mapping[str, bool]] = {"enable_fp_fusion": False}


def most_registers(num_warps: int) -> int:
    """Registers per thread of a block that has a processor to itself.

    The assembler at times spills a few bytes so that more blocks fit on a processor. It does not
    when it is told this limit, which is no limit; but then it often takes more than it needs. So
    only kernels that spill are compiled with it.
    """
    return min(255, 65536 // (32 * num_warps) // 8 * 8)


@dataclass(frozen=True, slots=True)
class Launch:
    """How one kernel of a program runs: a library's call, if any, then stages in order, over
    common workspaces."""

    kernel: str
    recipe: str
    stages: tuple[Stage, ...] = ()
    workspaces: tuple[Workspace, ...] = ()
    programs: tuple[Mapping[str, Launch], ...] = ()  # of a loop or branch: the kernels inside
    library: LibraryCall | None = None

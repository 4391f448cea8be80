"""GPUs that kernels are compiled for on a machine that has none: `--target sm_90`.

Such a target stands where a device does when programs are compiled and explained; it runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from graphc.ir.errors import TargetError
from graphc.ir.loop import Program
from graphc.ir.settings import Settings
from graphc.passes.target import GPU, Target

if TYPE_CHECKING:
    from graphc.codegen.triton import Options

# Streaming multiprocessors of the data center's GPU of each architecture: A100, H100/H200, B200.
PROCESSORS: Final = {80: 108, 90: 132, 100: 148}
TARGETS: Final = (*(f"sm_{arch}" for arch in PROCESSORS), "native", "numpy")


@dataclass(frozen=True, slots=True)
class GpuTarget:
    """A GPU's architecture: 90 for sm_90."""

    arch: int

    @property
    def name(self) -> str:
        """As the toolchain spells it."""
        return f"sm_{self.arch}"

    @property
    def target(self) -> Target:
        """What passes may know of it."""
        return GPU

    def options(self, settings: Settings) -> Options:
        """What is emitted for it."""
        from graphc.codegen.triton import Options

        processors = PROCESSORS[self.arch]
        return Options(settings.tf32, libraries=settings.libraries, processors=processors)

    def sources(self, program: Program, settings: Settings) -> Mapping[str, str]:
        """Per kernel name, its Triton source."""
        from graphc.codegen.triton import emit

        return emit(program, self.options(settings)).kernels


def find_target(name: str) -> GpuTarget | None:
    """The GPU called `name`; None for the devices of this machine that can be a target.

    TargetError lists those there are.
    """
    found = re.fullmatch(r"sm_(\d+)a?", name)
    if found and int(found.group(1)) in PROCESSORS:
        return GpuTarget(int(found.group(1)))
    if name in TARGETS:
        return None
    raise TargetError(f"no target {name!r}; there are: {', '.join(TARGETS)}")


__all__ = ["PROCESSORS", "TARGETS", "GpuTarget", "find_target"]

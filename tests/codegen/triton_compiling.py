"""Compiling emitted kernels to cubins for a named target, on a machine without a GPU."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from graphc.codegen.triton import Options, emit
from graphc.ir.loop import Program
from graphc.runtime.devices.triton import build
from graphc.runtime.devices.triton_compile import Cubin, compile_site, resources, sites


@dataclass(frozen=True)
class Compiled:
    """One function as PTX and cubin."""

    made: Cubin

    @property
    def recipe(self) -> str:
        """The recipe by which its kernel runs."""
        return self.made.recipe

    @property
    def function(self) -> str:
        """Its name."""
        return self.made.function

    @property
    def usage(self) -> dict[str, int]:
        """REG per thread, STACK and LOCAL bytes per thread, SHARED bytes per block."""
        found = resources(self.made.cubin)
        assert found, self.function
        return found

    @property
    def stack_bytes(self) -> int:
        """Bytes of stack per thread: what spills or is indexed dynamically."""
        return self.usage["STACK"]

    def count(self, pattern: str) -> int:
        """How often the pattern stands in the PTX."""
        return len(re.findall(pattern, self.made.ptx))


def compiled(program: Program, arch: int, options: Options | None = None) -> Iterator[Compiled]:
    """Every function of the program for sm_<arch>, with 16-byte aligned buffers."""
    module = emit(program, options or Options())
    functions = build(module.text)
    for site in sites(program, module.launches):
        yield Compiled(compile_site(site, functions[site.stage.function], arch))

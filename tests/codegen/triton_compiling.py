"""Compiling emitted kernels to cubins for a named target, on a machine without a GPU."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from graphc.codegen.triton import Launch, Options, Stage, emit
from graphc.codegen.triton.names import storage_type
from graphc.ir.loop import Program
from graphc.runtime.devices.triton import build


@dataclass(frozen=True)
class Compiled:
    """One function as PTX and cubin."""

    recipe: str
    function: str
    ptx: str
    cubin: bytes

    @property
    def usage(self) -> dict[str, int]:
        """What cuobjdump says: REG per thread, STACK and LOCAL bytes per thread, and so on."""
        tools = Path(triton.__file__).parent / "backends/nvidia/bin"
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(self.cubin)
            file.flush()
            command: list[Any] = [tools / "cuobjdump", "-res-usage", file.name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = re.findall(r"(REG|STACK|LOCAL|SHARED):(\d+)", done.stdout + done.stderr)
        assert found, done.stdout + done.stderr
        return {name: int(number) for name, number in found}

    @property
    def stack_bytes(self) -> int:
        """Bytes of stack per thread: what spills or is indexed dynamically."""
        return self.usage["STACK"]

    def count(self, pattern: str) -> int:
        """How often the pattern stands in the PTX."""
        return len(re.findall(pattern, self.ptx))


def compiled(program: Program, arch: int, options: Options | None = None) -> Iterator[Compiled]:
    """Every function of the program for sm_<arch>, with 16-byte aligned buffers."""
    module = emit(program, options or Options())
    functions = build(module.text)
    for launch in module.launches.values():
        assert isinstance(launch, Launch)
        for stage in launch.stages:
            yield compile_stage(program, launch, stage, functions[stage.function], arch)


def compile_stage(
    program: Program, launch: Launch, stage: Stage, function: Any, arch: int
) -> Compiled:
    """One function, compiled."""
    spaces = {w.name: w.dtype for w in launch.workspaces}
    signature, attrs = {}, {}
    for position, name in enumerate(stage.arguments):
        dtype = spaces[name] if name in spaces else program.buffers[name].dtype
        signature[f"p_{name}"] = f"*{storage_type(dtype)}"
        attrs[(position,)] = [["tt.divisibility", 16]]
    source = ASTSource(function, signature, constexprs={}, attrs=attrs)
    options = {"num_warps": stage.num_warps, "num_stages": stage.num_stages}
    result = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    return Compiled(launch.recipe, stage.function, result.asm["ptx"], result.asm["cubin"])

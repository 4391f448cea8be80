"""Emitted Triton kernels to cubins for a named target; no GPU is needed.

Triton brings its own assembler, ptxas. A cubin runs on drivers of the assembler's CUDA version and
later ones. For sm_80 and sm_90, Triton 3.6 and 3.7 have CUDA 12.8; for sm_100, 3.6 has CUDA 12.9
and 3.7 has 13.1: for a driver of CUDA 13.0, take 3.6.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from graphc.codegen.module import Module
from graphc.codegen.triton import COMPILE_OPTIONS, Launch, Stage, most_registers
from graphc.codegen.triton.names import storage_type
from graphc.ir.dtypes import DType
from graphc.ir.errors import DeviceError, UnsupportedOp
from graphc.ir.loop import Program

_MOST_COMPILERS: Final = 16  # threads


@dataclass(frozen=True, slots=True)
class Entry:
    """How the driver starts a function of a cubin: its symbol, the bytes of dynamic shared
    memory, the threads of a block, and how many null pointers follow the kernel's arguments."""

    symbol: str
    shared_bytes: int
    threads: int
    more_pointers: int


@dataclass(frozen=True)
class Cubin:
    """One compiled function."""

    recipe: str
    function: str
    ptx: str
    cubin: bytes
    entry: Entry


@dataclass(frozen=True, slots=True)
class Site:
    """One launch of an emitted function, with the program in which its arguments are buffers."""

    program: Program
    launch: Launch
    stage: Stage


def sites(program: Program, launches: Mapping[str, Launch]) -> Iterator[Site]:
    """Every launch of the program, those inside loops and branches too."""
    for kernel in program.kernels:
        launch = launches[kernel.name]
        yield from (Site(program, launch, stage) for stage in launch.stages)
        for inner, inside in zip(kernel.programs, launch.programs, strict=True):
            yield from sites(inner, inside)


def compile_program(
    program: Program, module: Module, functions: Mapping[str, Any], arch: int
) -> list[Cubin]:
    """All functions of a program for sm_<arch>. DeviceError where Triton refuses one."""
    every = list(sites(program, module.launches))
    with ThreadPoolExecutor(min(_MOST_COMPILERS, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda s: compile_site(s, functions[s.stage.function], arch), every))


def compile_site(site: Site, function: Any, arch: int) -> Cubin:
    """One function, for buffers that are aligned to 16 bytes; spilling nothing, if that goes."""
    made = _compiled(site, function, arch, {})
    if resources(made.cubin).get("STACK"):
        limit = {"maxnreg": most_registers(site.stage.num_warps)}
        again = _compiled(site, function, arch, limit)
        if not resources(again.cubin).get("STACK"):
            return again
    return made


def _compiled(site: Site, function: Any, arch: int, more: dict[str, int]) -> Cubin:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    stage = site.stage
    signature = {f"p_{n}": f"*{storage_type(_dtype_of(n, site))}" for n in stage.arguments}
    attrs = {(i,): [["tt.divisibility", 16]] for i in range(len(stage.arguments))}
    source = ASTSource(function, signature, constexprs={}, attrs=attrs)
    sizes = {"num_warps": stage.num_warps, "num_stages": stage.num_stages}
    options = {**sizes, **COMPILE_OPTIONS, **more}
    try:
        result = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    except Exception as error:
        raise DeviceError(
            f"Triton cannot compile {stage.function} for sm_{arch}: {error}"
        ) from error
    ptx = result.asm["ptx"]
    entry = _entry(result.metadata, ptx, len(stage.arguments), stage.function)
    return Cubin(site.launch.recipe, stage.function, ptx, result.asm["cubin"], entry)


def _dtype_of(name: str, site: Site) -> DType:
    for space in site.launch.workspaces:
        if space.name == name:
            return space.dtype
    return site.program.buffers[name].dtype


def _entry(metadata: Any, ptx: str, count: int, function: str) -> Entry:
    """What a launch needs; UnsupportedOp for a kernel that Triton's own launcher must start."""
    needs = [n for n in ("global_scratch_size", "profile_scratch_size") if getattr(metadata, n, 0)]
    if metadata.num_ctas != 1 or needs:
        raise UnsupportedOp(
            f"{function} needs Triton's launcher ({', '.join(needs) or 'clusters'})"
        )
    header = ptx[ptx.index(".entry") :]
    parameters = header[: header.index("{")].count(".param")
    return Entry(metadata.name, metadata.shared, 32 * metadata.num_warps, parameters - count)


# -- what the toolchain is, and what it says of a cubin


def toolchain(arch: int) -> dict[str, str]:
    """The versions of Triton and of the assembler that it uses for sm_<arch>."""
    import triton

    name = "ptxas-blackwell" if arch >= 100 else "ptxas"
    told = _run_tool(name, "--version")
    found = re.search(r"release (\d+\.\d+)", told)
    return {"triton": triton.__version__, "ptxas": found.group(1) if found else "unknown"}


def resources(cubin: bytes) -> dict[str, int]:
    """What cuobjdump says of it: REG per thread, STACK and LOCAL bytes per thread, SHARED."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        told = _run_tool("cuobjdump", "-res-usage", file.name)
    return {n: int(x) for n, x in re.findall(r"(REG|STACK|LOCAL|SHARED):(\d+)", told)}


def _run_tool(name: str, *arguments: str) -> str:
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    try:
        done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise DeviceError(f"Triton's {name} does not work: {error}") from error
    return done.stdout + done.stderr


__all__ = [
    "Cubin", "Entry", "Site", "compile_program", "compile_site", "resources", "sites", "toolchain",
]  # fmt: skip

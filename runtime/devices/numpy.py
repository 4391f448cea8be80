"""The NumPy device: what needs nothing but NumPy, and what the other devices are tested against."""

from __future__ import annotations

import functools
import itertools
import linecache
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from graphc.codegen.module import Module
from graphc.codegen.numpy.control import inner_dynamic
from graphc.codegen.numpy.emit import dynamic_buffers, emit
from graphc.codegen.numpy.support import COUNTER, Memory
from graphc.ir import loop
from graphc.ir.loop import Kernel, Program
from graphc.ir.memory import aligned_bytes
from graphc.ir.settings import Settings
from graphc.passes.target import NUMPY
from graphc.runtime.devices.memory import HostMemory, OutputPool, collect
from graphc.runtime.interrupts import uninterrupted

_module_numbers = itertools.count()


def build(text: str, name: str) -> dict[str, Any]:
    """Execute generated source; tracebacks show its lines."""
    file = f"<graphc {name} {next(_module_numbers)}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    namespace: dict[str, Any] = {"__name__": name}
    exec(compile(text, file, "exec"), namespace)
    return namespace


@functools.cache
def thread_pool(threads: int) -> ThreadPoolExecutor | None:
    """The threads besides the calling one, shared by all executables; started when first used."""
    return ThreadPoolExecutor(threads - 1, "graphc") if threads > 1 else None


class Shared:
    """What the memories of a program, and of those inside its loops, have in common."""

    def __init__(self, scratches: Sequence[np.ndarray], pool: ThreadPoolExecutor | None) -> None:
        self.scratches = scratches
        self.pool = pool

    def memory(
        self,
        program: Program,
        buffers: dict[str, np.ndarray],
        dynamic: Sequence[str],
        arena: np.ndarray | None = None,
        prefix: str = "",
    ) -> Memory:
        """The arrays of a program's fixed buffers; `buffers` has those that exist already."""
        assert program.plan is not None, "a program is planned before it is loaded"
        arena = aligned_bytes(program.plan.arena_bytes) if arena is None else arena
        for b in program.buffers.values():
            if b.role == loop.CONSTANT:
                buffers[b.name] = b.value.array.reshape(-1)
            elif b.role == loop.TEMPORARY:
                start = program.plan.offsets[b.name]
                buffers[b.name] = arena[start : start + b.nbytes].view(b.dtype.numpy)
            elif b.role == loop.COUNTER:
                buffers[b.name] = buffers[COUNTER] = np.zeros(1, np.int64)
        programs = {
            prefix + k.name: self.inside(k, buffers, dynamic, prefix)
            for k in program.kernels if k.programs
        }  # fmt: skip
        return Memory(buffers, self.scratches, self.pool, programs)

    def inside(
        self, kernel: Kernel, outer: Mapping[str, np.ndarray], dynamic: Sequence[str], prefix: str
    ) -> list[Memory]:
        """The memories of the programs of a loop or branch."""
        (stmt,) = kernel.body
        assert isinstance(stmt, (loop.Repeat, loop.Branch))
        arena = outer[stmt.arena].view(np.uint8) if stmt.arena else aligned_bytes(0)
        result = []
        for number, program in enumerate(stmt.programs):
            names = list(inner_dynamic(stmt, program, dynamic))
            given = program.inputs[len(program.inputs) - len(stmt.captured) :]
            pairs = zip(given, stmt.captured, strict=True)
            fixed = {n: outer[x] for n, x in pairs if n not in names}
            own = f"{prefix}{kernel.name}_{number}_"
            result.append(self.memory(program, fixed, names, arena, own))
        return result


class NumPyExecutable:
    """A bound program: feeds in, outputs out."""

    def __init__(self, program: Program, module: Module, memory: Memory) -> None:
        self._outputs = tuple(program.buffers[n] for n in program.outputs)
        self._inputs = tuple(program.buffers[n] for n in program.inputs)
        fresh = [b for b in program.buffers.values() if b.role == loop.OUTPUT]
        self._fresh = tuple((b.name, b.shape, b.dtype.numpy) for b in fresh)
        self._buffers = memory.buffers
        self._pool = OutputPool()
        self._counter = memory.buffers.get(COUNTER)
        bind: Callable[[Memory], tuple[Callable[..., None], Callable[..., None]]]
        bind = build(module.text, "program")["bind"]
        self._compute, self._commit = bind(memory)
        self._commits = program.commit < len(program.kernels)

    def run(self, feeds: Sequence[np.ndarray], run: int) -> list[np.ndarray]:
        """Run once; see graphc.runtime.devices.base.Executable."""
        flat = [np.ascontiguousarray(x).reshape(-1) for x in feeds]
        outputs = {name: self._pool.take(name, shape, dtype) for name, shape, dtype in self._fresh}
        if self._counter is not None:
            self._counter[0] = run
        arrays = *flat, *(x.reshape(-1) for x in outputs.values())
        with np.errstate(all="ignore"):
            self._compute(*arrays)
            if self._commits:
                uninterrupted(self._commit, arrays)
        if not self._outputs:
            return []
        inputs = {b.name: x for b, x in zip(self._inputs, flat, strict=True)}
        return collect(self._outputs, outputs, inputs, self._buffers)


class NumPyDevice(HostMemory):
    """Programs as NumPy calls in this process."""

    name = "numpy"

    def __init__(self) -> None:
        self.target = NUMPY

    def load(
        self, program: Program, variables: Mapping[str, np.ndarray], settings: Settings
    ) -> NumPyExecutable:
        """Emit and bind; one arena for the temporaries, one scratch for all kernels."""
        module = emit(program)
        scratches = [aligned_bytes(module.scratch_bytes) for _ in range(settings.threads)]
        shared = Shared(scratches, thread_pool(settings.threads))
        buffers = {name: storage.reshape(-1) for name, storage in variables.items()}
        memory = shared.memory(program, buffers, dynamic_buffers(program))
        return NumPyExecutable(program, module, memory)

    def sources(self, program: Program, settings: Settings) -> Mapping[str, str]:
        """Per kernel name, its Python source."""
        return emit(program).kernels

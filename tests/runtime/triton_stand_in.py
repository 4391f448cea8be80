"""A stand-in for a GPU: torch's CUDA and Triton's compiler, as far as the device uses them.

Kernels are run by the program evaluator, streams do nothing, and a CUDA graph remembers the steps
launched while it is captured and launches them when it is replayed: as on a GPU, capturing runs
nothing. It shows whether the device prepares, captures and replays the right things in the right
order; what kernels compute is shown elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from graphc.codegen.triton import Options
from graphc.codegen.triton.contraction import divided, prepared
from graphc.ir import loop
from graphc.ir.interpret import run_program
from graphc.ir.loop import Buffer, Kernel, Program
from graphc.passes.target import GPU
from graphc.runtime.devices import triton as module
from graphc.runtime.devices.triton import Step, TritonDevice


class Stream:
    """A stream; equal to itself only."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    def wait_stream(self, other: Stream) -> None:
        self.log.append(f"{self.name} waits for {other.name}")

    def synchronize(self) -> None:
        self.log.append(f"wait for {self.name}")


class Event:
    """An event: `reached` is what the GPU, which has no time here, has come to."""

    reached = True

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def record(self) -> None:
        self.log.append("record")

    def query(self) -> bool:
        return self.reached

    def synchronize(self) -> None:
        self.log.append("wait for a run")


class Recording:
    """A CUDA graph: steps."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        for step in self.steps:
            step.launch()


class Gpu:
    """The state of the stand-in: the current stream, the graph being captured, what happened."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.main = Stream(self.log, "main")
        self.current = self.main
        self.capturing: Recording | None = None
        self.program: Program | None = None

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, graph: Recording, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        self.log.append(f"capture on {stream.name}")
        with self.stream(stream):
            self.capturing = graph
            try:
                yield
            finally:
                self.capturing = None

    def launch(self, steps: Sequence[Step]) -> None:
        """In place of the device's own: a capture keeps the steps and runs none."""
        if self.capturing is not None:
            self.capturing.steps.extend(steps)
            return
        for step in steps:
            step.launch()

    def synchronize(self, place: Any = None) -> None:
        assert self.capturing is None, "nobody may wait for a GPU that is being captured"
        self.log.append("wait for all")


class Compiled:
    """A compiled kernel: of its whole kernel of the loop language, run by the evaluator."""

    def __init__(self, gpu: Gpu, name: str) -> None:
        self.gpu, self.name = gpu, name

    def __getitem__(self, grid: tuple[int, int, int]) -> Callable[..., None]:
        program = self.gpu.program
        assert program is not None and grid[1:] == (1, 1)
        kernel, program = _kernel_of(self.name, program)
        names = list(dict.fromkeys((*kernel.inputs, *kernel.outputs)))

        def run(*tensors: torch.Tensor) -> None:
            self.gpu.log.append(f"{self.name} on {self.gpu.current.name}")
            buffers = {
                n: t.view(torch.uint8).numpy().view(program.buffers[n].dtype.numpy)
                for n, t in zip(names, tensors, strict=True)
            }
            run_program(program.replace(kernels=(kernel,)), buffers)

        return run


def _kernel_of(function: str, program: Program) -> tuple[Kernel, Program]:
    """The kernel that the function computes; of what follows a library's call, that part."""
    kernel = next(k for k in program.kernels if k.name == function.removesuffix("_rest"))
    if kernel.name == function:
        return kernel, program
    parts = divided(prepared(kernel), program.buffers)
    assert parts is not None and parts.rest is not None and parts.space is not None
    space = Buffer(parts.space.name, parts.space.dtype, (parts.space.size,), loop.TEMPORARY)
    return parts.rest, program.replace(buffers={**program.buffers, space.name: space})


class Function:
    """An emitted function."""

    def __init__(self, gpu: Gpu, name: str) -> None:
        self.gpu, self.name = gpu, name

    def warmup(
        self, *_: torch.Tensor, grid: Any, num_warps: int, num_stages: int, enable_fp_fusion: bool
    ) -> Any:
        assert num_warps in (1, 2, 4, 8, 16) and num_stages >= 1 and not enable_fp_fusion
        return Compiled(self.gpu, self.name)


class Functions(Mapping[str, Function]):
    """Whatever is asked for."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu

    def __getitem__(self, name: str) -> Function:
        return Function(self.gpu, name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def stand_in(monkeypatch: pytest.MonkeyPatch) -> tuple[TritonDevice, Gpu]:
    """A device on the stand-in, and its state."""
    gpu = Gpu()
    empty, emit = torch.empty, module.emit

    def emitted(program: Program, options: Options) -> Any:
        gpu.program = program
        return emit(program, options)

    replaced = {
        "current_stream": lambda *_: gpu.current, "stream": gpu.stream, "graph": gpu.graph,
        "synchronize": gpu.synchronize, "CUDAGraph": Recording, "Event": lambda: Event(gpu.log),
    }  # fmt: skip
    for name, value in replaced.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch, "empty", lambda *a, pin_memory=False, **k: empty(*a, **k))
    monkeypatch.setattr(module, "build", lambda _: Functions(gpu))
    monkeypatch.setattr(module, "emit", emitted)
    monkeypatch.setattr(module, "launch_all", gpu.launch)
    device = object.__new__(TritonDevice)
    device.interpret, device.place = False, torch.device("cpu")
    device.options, device.target = Options(), GPU
    device.stream, device.capture_stream = gpu.main, Stream(gpu.log, "side")
    return device, gpu

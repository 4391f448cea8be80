"""The Triton device: programs as Triton kernels on an NVIDIA GPU, a whole run as one CUDA graph.

Everything is prepared when a program is loaded: kernels are compiled, buffers lie at fixed
addresses, and a run copies its feeds, replays the graph and copies the outputs back. All work of
a device goes to one stream, so that what several threads run is in order. With `interpret=True`
the same executable runs on the CPU, in Triton's interpreter: slow, for tests.

torch and triton are imported when a device is made, not before.
"""

from __future__ import annotations

import ctypes
import itertools
import linecache
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np

from graphc.codegen.module import Module
from graphc.codegen.triton import Launch, Options, Stage, emit
from graphc.ir import loop
from graphc.ir.dtypes import DType, uint8
from graphc.ir.errors import DeviceError
from graphc.ir.loop import Buffer, Kernel, Program
from graphc.ir.settings import Settings
from graphc.ir.table import OPS
from graphc.passes.context import Target
from graphc.runtime.devices.triton_library import matmul_of
from graphc.runtime.interrupts import uninterrupted

_log = logging.getLogger("graphc")
_ALIGNMENT = 256
_MOST_COMPILERS = 16  # threads
_module_numbers = itertools.count()
# While a stream is captured, nobody may wait for the whole GPU, as every capture does first.
_one_capture: Final = threading.Lock()
_one_interpreter: Final = threading.Lock()  # it changes Triton's language while it runs
Tensor = Any  # torch is imported late


@dataclass(frozen=True, slots=True)
class Step:
    """One launch of a run. `on_host`: it waits for the GPU, so no CUDA graph can hold it.

    `warm_up` is what runs before the capture; it may not change a variable.
    """

    name: str
    launch: Callable[[], None]
    warm_up: Callable[[], object] | None = None
    on_host: bool = False


class TritonDevice:
    """The first NVIDIA GPU, or with `interpret` the CPU as Triton's interpreter sees it."""

    name = "triton"

    def __init__(self, interpret: bool = False) -> None:
        self.interpret = interpret
        _check_available(interpret)
        import torch

        self.place = torch.device("cpu" if interpret else "cuda", None if interpret else 0)
        processors = 132
        if not interpret:
            processors = torch.cuda.get_device_properties(self.place).multi_processor_count
            self.stream = torch.cuda.current_stream(self.place)
            self.capture_stream = torch.cuda.Stream(self.place)
        self.options = Options(interpret=interpret, processors=processors)
        self.target = Target("triton", fast_bytes=64 << 10)

    def queue(self) -> AbstractContextManager[object]:
        """Inside, work goes to the device's stream, whichever is the current one outside."""
        import torch

        if self.interpret or torch.cuda.current_stream() == self.stream:
            return nullcontext()
        stream: AbstractContextManager[object] = torch.cuda.stream(self.stream)
        return stream

    def options_for(self, settings: Settings) -> Options:
        """What is emitted for this GPU with these settings."""
        return replace(self.options, tf32=settings.tf32)

    def empty(self, dtype: DType, count: int) -> Tensor:
        """Flat memory of `count` elements, as kernels see it (bool as int8), zeroed."""
        import torch

        with self.queue():
            return torch.zeros(count, dtype=_torch_type(dtype), device=self.place)

    def allocate(self, dtype: DType, shape: tuple[int, ...]) -> Tensor:
        """Zeroed dense memory of a variable; its value has the shape of the tensor."""
        count = int(np.prod(shape, dtype=np.int64))
        return Variable(self.empty(dtype, count), dtype, shape)

    def read(self, storage: Variable) -> np.ndarray:
        """A copy of a variable's value."""
        with self.queue():
            return to_numpy(storage.tensor, storage.dtype).reshape(storage.shape)

    def write(self, storage: Variable, array: np.ndarray) -> None:
        """Set a variable's value."""
        with self.queue():
            storage.tensor.copy_(self.to_tensor(array, storage.dtype))

    def to_tensor(self, array: np.ndarray, dtype: DType) -> Tensor:
        """The array's elements on the device, flat."""
        import torch

        raw = np.array(array, dtype.numpy, order="C").reshape(-1).view(np.uint8)
        return torch.from_numpy(raw).to(self.place).view(_torch_type(dtype))

    def load(
        self, program: Program, variables: Mapping[str, Variable], settings: Settings
    ) -> TritonExecutable:
        """Emit, compile and bind the program, and capture it as a CUDA graph where that goes."""
        with self.queue():
            return TritonExecutable(self, program, variables, settings)

    def sources(self, program: Program, settings: Settings) -> Mapping[str, str]:
        """Per kernel name, its Triton source."""
        return emit(program, self.options_for(settings)).kernels


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable's memory: a flat tensor on the device, and what its elements mean."""

    tensor: Tensor
    dtype: DType
    shape: tuple[int, ...]


def _check_available(interpret: bool) -> None:
    """DeviceError, with the remedy, where this device cannot work."""
    asked = os.environ.get("TRITON_INTERPRET") == "1"
    if interpret and not asked:
        raise DeviceError(
            "the interpreted triton device needs TRITON_INTERPRET=1 when python starts"
        )
    if not interpret:
        try:  # quick: torch is read only where there is a driver
            ctypes.CDLL("libcuda.so.1")
        except OSError:
            raise DeviceError(
                "the triton device needs an NVIDIA GPU, and no NVIDIA driver (libcuda.so.1) is "
                "installed here; use device='numpy'"
            ) from None
    try:
        import torch
        import triton  # noqa: F401
    except ImportError as error:
        raise DeviceError(
            f"the triton device needs torch and triton ({error}): pip install graphc[gpu]"
        ) from error
    if not interpret and not torch.cuda.is_available():
        raise DeviceError(
            f"torch {torch.__version__} finds no CUDA device: check nvidia-smi and that torch is "
            "built for CUDA, or use device='numpy'"
        )


def _torch_type(dtype: DType) -> Any:
    import torch

    return torch.int8 if dtype.is_bool else getattr(torch, dtype.name)


def to_numpy(tensor: Tensor, dtype: DType) -> np.ndarray:
    """A copy of a flat tensor as a flat array."""
    import torch

    raw = tensor.view(torch.uint8).to("cpu", copy=True).numpy()
    array: np.ndarray = raw.view(dtype.numpy)
    return array


def build(text: str) -> dict[str, Any]:
    """Execute generated source; Triton and tracebacks find its lines."""
    file = f"<graphc triton {next(_module_numbers)}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    namespace: dict[str, Any] = {"__name__": "graphc_triton_program", "__file__": file}
    exec(compile(text, file, "exec"), namespace)
    return namespace


class Memory:
    """The tensors of a program's buffers and of its kernels' workspaces."""

    def __init__(
        self,
        device: TritonDevice,
        program: Program,
        module: Module,
        variables: Mapping[str, Variable],
    ) -> None:
        assert program.plan is not None, "a program is planned before it is loaded"
        arena = device.empty(uint8, program.plan.arena_bytes)
        self.scratch = device.empty(uint8, _scratch_bytes(module))
        self.tensors: dict[str, Tensor] = {n: v.tensor for n, v in variables.items()}
        for b in program.buffers.values():
            if b.role == loop.CONSTANT:
                self.tensors[b.name] = device.to_tensor(b.value.array, b.dtype)
            elif b.role == loop.TEMPORARY:
                start = program.plan.offsets[b.name]
                self.tensors[b.name] = arena[start : start + b.nbytes].view(_torch_type(b.dtype))
            elif b.role != loop.VARIABLE:
                self.tensors[b.name] = device.empty(b.dtype, b.size)

    def workspaces(self, launch: Launch) -> dict[str, Tensor]:
        """The kernel's workspaces, one after the other in the common scratch."""
        result, start = {}, 0
        for space in launch.workspaces:
            part = self.scratch[start : start + space.nbytes]
            result[space.name] = part.view(_torch_type(space.dtype))
            start += _aligned(space.nbytes)
        return result


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


def _scratch_bytes(module: Module) -> int:
    sizes = [sum(_aligned(w.nbytes) for w in x.workspaces) for x in module.launches.values()]
    return max(sizes, default=0)


@dataclass(frozen=True, slots=True)
class Port:
    """A buffer that is fed or fetched: the tensor, its side on the host, that as an array."""

    name: str
    tensor: Tensor
    host: Tensor
    array: np.ndarray


def _interpret(function: Any, grid: int, arguments: Sequence[Tensor]) -> None:
    with _one_interpreter:
        function[(grid,)](*arguments)


class KernelLaunch:
    """The launch of a kernel with its arguments bound, once it is compiled and loaded."""

    def __init__(self, kernel: Any, grid: tuple[int, int, int], arguments: list[Tensor]) -> None:
        self._kernel = kernel
        self._grid = grid
        self._arguments = arguments
        self._run: Callable[..., None] = self._not_loaded

    def _not_loaded(self, *_: Tensor) -> None:
        raise AssertionError("a kernel is loaded before it is launched")

    def load(self) -> None:
        """Bring the kernel to the GPU. It may have been compiled in another thread."""
        kernel = self._kernel.result() if hasattr(self._kernel, "result") else self._kernel
        self._run = kernel[self._grid]

    def __call__(self) -> None:
        """Launch it on the current stream."""
        self._run(*self._arguments)


@contextmanager
def _compiling_at_once() -> Iterator[None]:
    """Inside, Triton compiles on several threads; at the end all is compiled."""
    import triton

    threads = min(_MOST_COMPILERS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool, triton.AsyncCompileMode(pool):
        yield


def _launch(steps: Sequence[Step]) -> None:
    for step in steps:
        step.launch()


class TritonExecutable:
    """A program bound to its memory: feeds in, replay, outputs out."""

    def __init__(
        self,
        device: TritonDevice,
        program: Program,
        variables: Mapping[str, Variable],
        settings: Settings,
    ) -> None:
        self.device = device
        self.program = program
        self.settings = settings
        self.lock = threading.Lock()
        fetched = set(program.outputs) & set(program.updates)
        assert not fetched, f"{fetched} change before they are read: lowering must copy them"
        module = emit(program, device.options_for(settings))
        self.memory = Memory(device, program, module, variables)
        self.functions = build(module.text)
        self.counter = next(
            (self.tensor(b.name) for b in program.buffers.values() if b.role == loop.COUNTER), None
        )
        self.feeds = [self._port(program.buffers[n], self.tensor(n)) for n in program.inputs]
        self.outputs = [self._port(program.buffers[n], self.tensor(n)) for n in program.outputs]
        self.fed = self._event()
        self.launches: list[KernelLaunch] = []
        # in a context of its own: after an error Triton 3.6 leaves its mode of compiling in it
        self.compute, self.commit = copy_context().run(self._steps, module)
        for launch in self.launches:
            launch.load()
        self.graph = self._capture() if self._may_capture() else None

    def tensor(self, name: str) -> Tensor:
        """The flat tensor of a buffer."""
        return self.memory.tensors[name]

    # -- preparation

    def _port(self, b: Buffer, tensor: Tensor) -> Port:
        """The host's side of a buffer: pinned memory, or on the CPU the tensor itself."""
        import torch

        host = tensor
        if not self.device.interpret:
            host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        array: np.ndarray = host.view(torch.uint8).numpy().view(b.dtype.numpy).reshape(b.shape)
        return Port(b.name, tensor, host, array)

    def _event(self) -> Any:
        """What says that the feeds have left the host's memory (None on the CPU)."""
        import torch

        return None if self.device.interpret else torch.cuda.Event()

    @property
    def steps(self) -> list[Step]:
        """All launches of a run, in order."""
        return [*self.compute, *self.commit]

    def _steps(self, module: Module) -> tuple[list[Step], list[Step]]:
        """The launches before variables change, and those that change them."""
        with nullcontext() if self.device.interpret else _compiling_at_once():
            steps = [self._kernel_steps(k, module.launches[k.name]) for k in self.program.kernels]
        commit = self.program.commit
        return list(itertools.chain(*steps[:commit])), list(itertools.chain(*steps[commit:]))

    def _kernel_steps(self, kernel: Kernel, launch: Launch) -> list[Step]:
        if launch.recipe == "call":
            _log.info("kernel %s runs on the host; no CUDA graph", kernel.name)
            return [Step(kernel.name, lambda: self._call_on_host(kernel), on_host=True)]
        writes = any(self.program.buffers[n].role == loop.VARIABLE for n in kernel.outputs)
        if self.settings.libraries:
            tensors, tf32 = self.memory.tensors, self.settings.tf32
            matmul = matmul_of(kernel, self.program.buffers, tensors, tf32)
            if matmul is not None:
                return [Step(kernel.name, matmul, matmul.warm_up if writes else matmul)]
        arguments = {**self.memory.tensors, **self.memory.workspaces(launch)}
        launches = [(s.function, self._prepared(s, arguments)) for s in launch.stages]
        return [Step(name, run, None if writes else run) for name, run in launches]

    def _prepared(self, stage: Stage, tensors: Mapping[str, Tensor]) -> Callable[[], None]:
        """The launch of one function with its arguments bound; on a GPU its compilation begins."""
        function = self.functions[stage.function]
        arguments = [tensors[a] for a in stage.arguments]
        if self.device.interpret:
            return partial(_interpret, function, stage.grid, arguments)
        grid = (stage.grid, 1, 1)
        kernel = function.warmup(
            *arguments, grid=grid, num_warps=stage.num_warps, num_stages=stage.num_stages
        )
        launch = KernelLaunch(kernel, grid, arguments)
        self.launches.append(launch)
        return launch

    def _call_on_host(self, kernel: Kernel) -> None:
        """An op without a GPU routine: its inputs to the host, its meaning in NumPy, and back."""
        (stmt,) = kernel.body
        assert isinstance(stmt, loop.Call), stmt
        op, attrs = OPS[stmt.op], dict(stmt.attrs)
        shapes = attrs.pop("shapes")
        assert op.numpy is not None, f"{stmt.op} has no meaning in NumPy"
        inputs = [
            to_numpy(self.tensor(n), self.program.buffers[n].dtype).reshape(s)
            for n, s in zip(stmt.inputs, shapes, strict=True)
        ]
        result = op.numpy(attrs, *inputs)
        results = result if isinstance(result, (tuple, list)) else (result,)
        for name, array in zip(stmt.outputs, results, strict=True):
            dtype = self.program.buffers[name].dtype
            self.tensor(name).copy_(self.device.to_tensor(np.asarray(array), dtype))

    # -- the CUDA graph

    def _may_capture(self) -> bool:
        wanted = self.settings.cuda_graph and not self.device.interpret
        return wanted and bool(self.steps) and not any(s.on_host for s in self.steps)

    def _capture(self) -> Any:
        """The whole run as one graph.

        Libraries set themselves up on their first call, which a capture does not allow: so all
        steps run once before, on the stream of the capture, but those that change a variable.
        """
        import torch

        stream = self.device.capture_stream
        with _one_capture:
            stream.wait_stream(self.device.stream)
            with torch.cuda.stream(stream):
                for step in self.steps:
                    if step.warm_up is not None:
                        step.warm_up()
            torch.cuda.synchronize(self.device.place)
            graph = torch.cuda.CUDAGraph()
            # "thread_local": what other threads do meanwhile is no error
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                _launch(self.steps)
        return graph

    # -- running

    def run(self, feeds: Sequence[np.ndarray], run: int) -> list[np.ndarray]:
        """Run once; see graphc.runtime.devices.base.Executable."""
        with self.lock, self.device.queue():
            self._feed(feeds)
            if self.counter is not None:
                self.counter.fill_(run)
            self.launch()
            return self._fetch()

    def launch(self) -> None:
        """What the device does in a run, on what was fed last; it may not have done it yet."""
        if self.graph is not None:
            self.graph.replay()
            return
        _launch(self.compute)
        if self.commit:
            uninterrupted(_launch, (self.commit,))

    def _feed(self, feeds: Sequence[np.ndarray]) -> None:
        if self.fed is not None:
            self.fed.synchronize()  # an earlier run may still be copying
        for port, feed in zip(self.feeds, feeds, strict=True):
            np.copyto(port.array, feed)
            if port.host is not port.tensor:
                port.tensor.copy_(port.host, non_blocking=True)
        if self.fed is not None:
            self.fed.record()

    def _fetch(self) -> list[np.ndarray]:
        """The outputs in arrays of the caller's own; a run without outputs does not wait."""
        for port in self.outputs:
            if port.host is not port.tensor:
                port.host.copy_(port.tensor, non_blocking=True)
        if self.outputs and not self.device.interpret:
            self.device.stream.synchronize()
        return [port.array.copy() for port in self.outputs]

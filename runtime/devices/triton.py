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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from graphc.codegen.module import Module
from graphc.codegen.triton import Launch, Options, emit
from graphc.ir import loop
from graphc.ir.dtypes import DType, uint8
from graphc.ir.errors import DeviceError
from graphc.ir.loop import Buffer, Program
from graphc.ir.settings import Settings
from graphc.passes.target import GPU
from graphc.runtime.devices.triton_steps import Binder, Place, Step, launch_all
from graphc.runtime.devices.triton_tuning import Timer, gpu_timer, host_timer, tuned_schedules
from graphc.runtime.interrupts import uninterrupted

_log = logging.getLogger("graphc")
_ALIGNMENT = 256
_MOST_COMPILERS = 16  # threads
_module_numbers = itertools.count()
# While a stream is captured, nobody may wait for the whole GPU, as every capture does first.
_one_capture: Final = threading.Lock()
Tensor = Any  # torch is imported late


class TritonDevice:
    """The first NVIDIA GPU, or with `interpret` the CPU as Triton's interpreter sees it.

    One that `compiles` nothing, but runs what was compiled elsewhere, needs torch alone.
    """

    name = "triton"

    def __init__(self, interpret: bool = False, compiles: bool = True) -> None:
        self.interpret = interpret
        _check_available(interpret, compiles)
        import torch

        self.place = torch.device("cpu" if interpret else "cuda", None if interpret else 0)
        processors = 132
        if not interpret:
            processors = torch.cuda.get_device_properties(self.place).multi_processor_count
            self.stream = torch.cuda.current_stream(self.place)
            self.capture_stream = torch.cuda.Stream(self.place)
        self.timer: Timer = host_timer if interpret else gpu_timer
        self.options = Options(interpret=interpret, processors=processors)
        self.target = GPU

    def queue(self) -> AbstractContextManager[object]:
        """Inside, work goes to the device's stream, whichever is the current one outside."""
        import torch

        if self.interpret or torch.cuda.current_stream() == self.stream:
            return nullcontext()
        stream: AbstractContextManager[object] = torch.cuda.stream(self.stream)
        return stream

    def options_for(self, settings: Settings, program: Program) -> Options:
        """What is emitted for this GPU with these settings, perhaps after measuring."""
        options = replace(self.options, tf32=settings.tf32, libraries=settings.libraries)
        if not settings.autotune:
            return options
        with self.queue():
            return replace(options, schedules=tuned_schedules(self, program, options, settings))

    @property
    def label(self) -> str:
        """What measurements hold for."""
        if self.interpret:
            return "interpreter"
        import torch
        import triton

        return f"{torch.cuda.get_device_name(self.place)}, triton {triton.__version__}"

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
            return self.to_numpy(storage.tensor, storage.dtype).reshape(storage.shape)

    def write(self, storage: Variable, array: np.ndarray) -> None:
        """Set a variable's value."""
        with self.queue():
            storage.tensor.copy_(self.to_tensor(array, storage.dtype))

    def to_tensor(self, array: np.ndarray, dtype: DType) -> Tensor:
        """The array's elements on the device, flat."""
        import torch

        raw = np.array(array, dtype.numpy, order="C").reshape(-1).view(np.uint8)
        return torch.from_numpy(raw).to(self.place).view(_torch_type(dtype))

    def to_numpy(self, tensor: Tensor, dtype: DType) -> np.ndarray:
        """A copy of a flat tensor as a flat array."""
        import torch

        raw = tensor.view(torch.uint8).to("cpu", copy=True).numpy()
        array: np.ndarray = raw.view(dtype.numpy)
        return array

    def load(
        self, program: Program, variables: Mapping[str, Variable], settings: Settings
    ) -> TritonExecutable:
        """Emit, compile and bind the program, and capture it as a CUDA graph where that goes."""
        with self.queue():
            return TritonExecutable(self, program, variables, settings)

    def load_built(
        self, program: Program, variables: Mapping[str, Variable], settings: Settings, built: Built
    ) -> TritonExecutable:
        """Bind and capture a program whose functions exist."""
        with self.queue():
            return TritonExecutable(self, program, variables, settings, built)

    def sources(self, program: Program, settings: Settings) -> Mapping[str, str]:
        """Per kernel name, its Triton source."""
        return emit(program, self.options_for(settings, program)).kernels


@dataclass(frozen=True, slots=True)
class Built:
    """What was emitted for a program, and its functions by name; compiled, or as Triton's."""

    module: Module
    functions: Mapping[str, Any]
    is_compiled: bool = False


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable's memory: a flat tensor on the device, and what its elements mean."""

    tensor: Tensor
    dtype: DType
    shape: tuple[int, ...]


def _check_available(interpret: bool, compiles: bool) -> None:
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

        if compiles:
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


def check_compiler() -> None:
    """DeviceError where there is no Triton to compile with."""
    try:
        import triton  # noqa: F401
    except ImportError as error:
        raise DeviceError(
            f"GPU kernels are compiled by triton ({error}): pip install graphc[gpu]"
        ) from error


def _torch_type(dtype: DType) -> Any:
    import torch

    return torch.int8 if dtype.is_bool else getattr(torch, dtype.name)


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
        self.device = device
        self.scratch = device.empty(uint8, _scratch_bytes(module))
        self.tensors: dict[str, Tensor] = {n: v.tensor for n, v in variables.items()}
        self.lay_out(program, self.tensors, device.empty(uint8, program.plan.arena_bytes))

    def lay_out(
        self, program: Program, tensors: dict[str, Tensor], arena: Tensor, fed: bool = True
    ) -> None:
        """Tensors for a program's buffers; with `fed`, for those that come and go, too."""
        assert program.plan is not None, "a program is planned before it is loaded"
        for b in program.buffers.values():
            if b.role == loop.CONSTANT:
                tensors[b.name] = self.device.to_tensor(b.value.array, b.dtype)
            elif b.role == loop.TEMPORARY:
                start = program.plan.offsets[b.name]
                tensors[b.name] = arena[start : start + b.nbytes].view(_torch_type(b.dtype))
            elif b.role == loop.COUNTER or (fed and b.role != loop.VARIABLE):
                tensors[b.name] = self.device.empty(b.dtype, b.size)

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
    return max((_workspace_bytes(x) for x in module.launches.values()), default=0)


def _workspace_bytes(launch: Launch) -> int:
    own = sum(_aligned(w.nbytes) for w in launch.workspaces)
    return max([own, *(_workspace_bytes(x) for p in launch.programs for x in p.values())])


@dataclass(frozen=True, slots=True)
class Port:
    """A buffer that is fed or fetched: the tensor, its side on the host, that as an array."""

    name: str
    tensor: Tensor
    host: Tensor
    array: np.ndarray


@contextmanager
def _compiling_at_once() -> Iterator[None]:
    """Inside, Triton compiles on several threads; at the end all is compiled."""
    import triton

    threads = min(_MOST_COMPILERS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool, triton.AsyncCompileMode(pool):
        yield


class TritonExecutable:
    """A program bound to its memory: feeds in, replay, outputs out."""

    def __init__(
        self,
        device: TritonDevice,
        program: Program,
        variables: Mapping[str, Variable],
        settings: Settings,
        built: Built | None = None,
    ) -> None:
        self.device = device
        self.program = program
        self.settings = settings
        self.lock = threading.Lock()
        fetched = set(program.outputs) & set(program.updates)
        assert not fetched, f"{fetched} change before they are read: lowering must copy them"
        if built is None:
            module = emit(program, device.options_for(settings, program))
            built = Built(module, build(module.text))
        self.built = built
        self.memory = Memory(device, program, built.module, variables)
        self.functions = built.functions
        self.counter = next(
            (self.tensor(b.name) for b in program.buffers.values() if b.role == loop.COUNTER), None
        )
        self.feeds = [self._port(program.buffers[n], self.tensor(n)) for n in program.inputs]
        self.outputs = [self._port(program.buffers[n], self.tensor(n)) for n in program.outputs]
        self.fed = self._event()
        self.binder = Binder(device, self.memory, self.functions, settings.libraries, settings.tf32)
        # in a context of its own: after an error Triton 3.6 leaves its mode of compiling in it
        self.compute, self.commit = copy_context().run(self._steps, built.module)
        for launch in self.binder.launches:
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
        nothing_to_compile = self.device.interpret or self.built.is_compiled
        with nullcontext() if nothing_to_compile else _compiling_at_once():
            place = Place(self.program, self.memory.tensors, module.launches)
            steps = [self.binder.kernel_steps(k, place) for k in self.program.kernels]
        commit = self.program.commit
        return list(itertools.chain(*steps[:commit])), list(itertools.chain(*steps[commit:]))

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
                launch_all(self.steps)
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
        launch_all(self.compute)
        if self.commit:
            uninterrupted(launch_all, (self.commit,))

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

"""The Triton device: programs as Triton kernels on an NVIDIA GPU, a whole run as one CUDA graph.

Everything is prepared when a program is loaded: kernels are compiled, buffers lie at fixed
addresses, and a run replays the graph, which brings the feeds and takes the outputs. All work of
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
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np

from graphc.codegen.module import Module
from graphc.codegen.triton import Launch, Options, emit
from graphc.ir import loop
from graphc.ir.dtypes import DType, uint8
from graphc.ir.errors import DeviceError
from graphc.ir.loop import Program
from graphc.ir.settings import Settings
from graphc.passes.target import GPU
from graphc.runtime.devices.triton_staging import Side, Staging, aligned, torch_type
from graphc.runtime.devices.triton_steps import Binder, Place, Step, launch_all
from graphc.runtime.devices.triton_tuning import Timer, gpu_timer, host_timer, tuned_schedules
from graphc.runtime.interrupts import uninterrupted

_log = logging.getLogger("graphc")
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
            return torch.zeros(count, dtype=torch_type(dtype), device=self.place)

    def pinned(self, nbytes: int) -> Tensor:
        """So many bytes of the host's memory, from which the device copies by itself."""
        import torch

        return torch.empty(nbytes, dtype=torch.uint8, pin_memory=not self.interpret)

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
        return torch.from_numpy(raw).to(self.place).view(torch_type(dtype))

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
        self.staging = Staging(device, program)
        self.tensors: dict[str, Tensor] = {n: v.tensor for n, v in variables.items()}
        self.tensors |= self.staging.tensors()
        self.lay_out(program, self.tensors, device.empty(uint8, program.plan.arena_bytes))

    def lay_out(self, program: Program, tensors: dict[str, Tensor], arena: Tensor) -> None:
        """Tensors for a program's constants, temporaries and counter, where it has none yet."""
        assert program.plan is not None, "a program is planned before it is loaded"
        for b in program.buffers.values():
            if b.role == loop.CONSTANT:
                tensors[b.name] = self.device.to_tensor(b.value.array, b.dtype)
            elif b.role == loop.TEMPORARY:
                start = program.plan.offsets[b.name]
                tensors[b.name] = arena[start : start + b.nbytes].view(torch_type(b.dtype))
            elif b.role == loop.COUNTER and b.name not in tensors:
                tensors[b.name] = self.device.empty(b.dtype, b.size)

    def workspaces(self, launch: Launch) -> dict[str, Tensor]:
        """The kernel's workspaces, one after the other in the common scratch."""
        result, start = {}, 0
        for space in launch.workspaces:
            part = self.scratch[start : start + space.nbytes]
            result[space.name] = part.view(torch_type(space.dtype))
            start += aligned(space.nbytes)
        return result


def _scratch_bytes(module: Module) -> int:
    return max((_workspace_bytes(x) for x in module.launches.values()), default=0)


def _workspace_bytes(launch: Launch) -> int:
    own = sum(aligned(w.nbytes) for w in launch.workspaces)
    return max([own, *(_workspace_bytes(x) for p in launch.programs for x in p.values())])


@contextmanager
def _compiling_at_once() -> Iterator[None]:
    """Inside, Triton compiles on several threads; at the end all is compiled."""
    import triton

    threads = min(_MOST_COMPILERS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool, triton.AsyncCompileMode(pool):
        yield


@dataclass(frozen=True, slots=True)
class Turn:
    """What one run at a time needs: the host's side, and the whole run as a CUDA graph or None.

    `done` says when the device has left the host's side alone; None where that needs no asking:
    nothing is fed, or every run waits for its outputs.
    """

    side: Side
    graph: Any
    done: Any

    @property
    def is_free(self) -> bool:
        """True when the host may write to its side."""
        return self.done is None or bool(self.done.query())


class TritonExecutable:
    """A program bound to its memory: feeds in, replay, outputs out.

    A run with outputs ends when they have arrived. One without does not wait for the device: the
    next run may find its side of the host in use, and takes another, in turns.
    """

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
        self.binder = Binder(device, self.memory, self.functions, settings.libraries, settings.tf32)
        # in a context of its own: after an error Triton 3.6 leaves its mode of compiling in it
        self.compute, self.commit = copy_context().run(self._steps, built.module)
        for launch in self.binder.launches:
            launch.load()
        self._warm_up()
        self.turns = deque([self._turn()])

    def tensor(self, name: str) -> Tensor:
        """The flat tensor of a buffer."""
        return self.memory.tensors[name]

    # -- preparation

    @property
    def steps(self) -> list[Step]:
        """All launches of a run, in order, without the copies from and to the host."""
        return [*self.compute, *self.commit]

    def _steps(self, module: Module) -> tuple[list[Step], list[Step]]:
        """The launches before variables change, and those that change them."""
        nothing_to_compile = self.device.interpret or self.built.is_compiled
        with nullcontext() if nothing_to_compile else _compiling_at_once():
            place = Place(self.program, self.memory.tensors, module.launches)
            steps = [self.binder.kernel_steps(k, place) for k in self.program.kernels]
        commit = self.program.commit
        return list(itertools.chain(*steps[:commit])), list(itertools.chain(*steps[commit:]))

    @property
    def _waits(self) -> bool:
        """True where a run ends when the device has done it: the outputs are there."""
        return self.device.interpret or bool(self.program.outputs)

    def _turn(self) -> Turn:
        """Another side of the host, and the run that goes by it."""
        import torch

        side = Side(self.memory.staging, self.memory.tensors)
        copies = Step("copy_in", side.copy_in), Step("copy_out", side.copy_out)
        graph = self._captured([copies[0], *self.steps, copies[1]])
        in_use = bool(self.memory.staging.fed.nbytes) and not self._waits
        return Turn(side, graph, torch.cuda.Event() if in_use else None)

    # -- the CUDA graph

    @property
    def _may_capture(self) -> bool:
        wanted = self.settings.cuda_graph and not self.device.interpret
        return wanted and bool(self.steps) and not any(s.on_host for s in self.steps)

    def _warm_up(self) -> None:
        """Run what may run before a capture: all steps but those that change a variable.

        Libraries set themselves up on their first call, which a capture does not allow: so they
        are called once before, on the stream of the capture.
        """
        if not self._may_capture:
            return
        import torch

        stream = self.device.capture_stream
        with _one_capture:
            stream.wait_stream(self.device.stream)
            with torch.cuda.stream(stream):
                for step in self.steps:
                    if step.warm_up is not None:
                        step.warm_up()
            torch.cuda.synchronize(self.device.place)

    def _captured(self, steps: Sequence[Step]) -> Any:
        """The steps as one graph, or None where they cannot be one."""
        if not self._may_capture:
            return None
        import torch

        stream, graph = self.device.capture_stream, torch.cuda.CUDAGraph()
        # "thread_local": what other threads do meanwhile is no error
        mode = "thread_local"
        with _one_capture, torch.cuda.graph(graph, stream=stream, capture_error_mode=mode):
            launch_all(steps)
        return graph

    # -- running

    def run(self, feeds: Sequence[np.ndarray], run: int) -> list[np.ndarray]:
        """Run once; see graphc.runtime.devices.base.Executable."""
        with self.lock, self.device.queue():
            turn = self._next_turn()
            turn.side.feed(feeds, run)
            self._launch(turn)
            if turn.done is not None:
                turn.done.record()
            if self.program.outputs and not self.device.interpret:
                self.device.stream.synchronize()
            return turn.side.results()

    def _next_turn(self) -> Turn:
        """A turn whose side the device has done with; there are two where a run does not wait."""
        if not self.turns[0].is_free:
            if len(self.turns) == 1:
                self.turns.append(self._turn())
            self.turns.rotate()
            self.turns[0].done.synchronize()
        return self.turns[0]

    def _launch(self, turn: Turn) -> None:
        if turn.graph is not None:
            turn.graph.replay()
            return
        turn.side.copy_in()
        self._launch_steps()
        turn.side.copy_out()

    def _launch_steps(self) -> None:
        launch_all(self.compute)
        if self.commit:
            uninterrupted(launch_all, (self.commit,))

    @cached_property
    def _kernels(self) -> Any:
        """The run without its copies as a graph, or None."""
        (first, *_) = self.turns
        return first.graph if first.side.is_empty else self._captured(self.steps)

    def launch(self) -> None:
        """For timing: what the device computes in a run on what was fed last, without copies."""
        if self._kernels is not None:
            self._kernels.replay()
        else:
            self._launch_steps()

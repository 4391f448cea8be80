"""What a run launches, step by step: kernels, library calls, the steps of loops and branches.

A loop with a known number of steps is laid out: each of its steps becomes launches with their
arguments bound to that step's slices, so that a CUDA graph holds the whole loop. Loops that
end by a condition and branches ask the GPU, and so run from the host.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from graphc.codegen.triton import COMPILE_OPTIONS, Launch, Stage, most_registers
from graphc.ir import loop
from graphc.ir.dtypes import int64, uint8
from graphc.ir.errors import DeviceError
from graphc.ir.loop import Kernel, Program, step_counter
from graphc.ir.table import OPS
from graphc.runtime.devices.triton_convolution import Convolve
from graphc.runtime.devices.triton_library import Matmul, attention_of, bound_call
from graphc.runtime.devices.triton_routines import routine_of

if TYPE_CHECKING:
    from graphc.runtime.devices.triton import Memory, TritonDevice

_log = logging.getLogger("graphc")
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


def launch_all(steps: Iterable[Step]) -> None:
    """Launch them in order."""
    for step in steps:
        step.launch()


def _interpret(function: Any, grid: int, arguments: Sequence[Tensor]) -> None:
    with _one_interpreter:
        function[(grid,)](*arguments)


class KernelLaunch:
    """The launch of a kernel with its arguments bound, once it is compiled and loaded."""

    def __init__(
        self,
        kernel: Any,
        grid: tuple[int, int, int],
        arguments: list[Tensor],
        again: Callable[[], Any] | None = None,
    ) -> None:
        self._kernel = kernel
        self._again = again  # compiles it so that nothing is spilled
        self._grid = grid
        self._arguments = arguments
        self._run: Callable[..., None] = self._not_loaded

    def _not_loaded(self, *_: Tensor) -> None:
        raise AssertionError("a kernel is loaded before it is launched")

    def load(self) -> None:
        """Bring the kernel to the GPU. It may have been compiled in another thread.

        One that spills is compiled once more, and is that one if it does not.
        """
        kernel, run = _loaded(self._kernel, self._grid)
        if self._again is not None and getattr(kernel, "n_spills", False):
            other, run_other = _loaded(self._again(), self._grid)
            run = run if other.n_spills else run_other
        self._run = run

    def __call__(self) -> None:
        """Launch it on the current stream."""
        self._run(*self._arguments)


def _loaded(kernel: Any, grid: tuple[int, int, int]) -> tuple[Any, Callable[..., None]]:
    """The kernel, compiled, and its launch over the grid."""
    kernel = kernel.result() if hasattr(kernel, "result") else kernel
    return kernel, kernel[grid]


@dataclass(frozen=True)
class Place:
    """A program where it lies: the tensors of its buffers, and how its kernels are launched."""

    program: Program
    tensors: Mapping[str, Tensor]
    launches: Mapping[str, Launch]

    def moved(self, tensors: Mapping[str, Tensor]) -> Place:
        """The same with other tensors for some buffers."""
        return Place(self.program, {**self.tensors, **tensors}, self.launches)


class Binder:
    """Makes the steps of a program; `launches` are those whose kernels must still be loaded."""

    def __init__(
        self, device: TritonDevice, memory: Memory, functions: Mapping[str, Any],
        libraries: bool, tf32: bool,
    ) -> None:  # fmt: skip
        self.device = device
        self.memory = memory
        self.functions = functions
        self.libraries = libraries
        self.tf32 = tf32
        self.launches: list[KernelLaunch] = []

    def steps(self, place: Place) -> list[Step]:
        """All launches of a program, in order."""
        return list(itertools.chain(*(self.kernel_steps(k, place) for k in place.program.kernels)))

    def kernel_steps(self, kernel: Kernel, place: Place) -> list[Step]:
        """The launches of one kernel."""
        launch = place.launches[kernel.name]
        if launch.recipe in ("loop", "branch"):
            return self.control_steps(kernel, launch, place)
        if launch.recipe == "call":
            routine = routine_of(kernel, place.program, place.tensors)
            if routine is not None:
                return [Step(kernel.name, routine, routine.computed)]
            _log.info("kernel %s runs on the host; no CUDA graph", kernel.name)
            return [Step(kernel.name, lambda: self.call_on_host(kernel, place), on_host=True)]
        buffers = place.program.buffers
        if self.libraries:
            attention = attention_of(kernel, place.program, place.tensors)
            if attention is not None:
                return [Step(kernel.name, attention, attention.computed)]
        arguments = {**place.tensors, **self.memory.workspaces(launch)}
        steps = []
        if launch.library is not None:
            call = bound_call(launch.library, arguments, self.tf32)
            steps.append(Step(kernel.name, call, partial(_warm_up, call, launch)))
        writes = any(buffers[n].role == loop.VARIABLE for n in kernel.outputs)
        for stage in launch.stages:
            run = self.prepared(stage, arguments)
            steps.append(Step(stage.function, run, None if writes else run))
        return steps

    def prepared(self, stage: Stage, tensors: Mapping[str, Tensor]) -> Callable[[], None]:
        """The launch of one function with its arguments bound; on a GPU its compilation begins."""
        function = self.functions[stage.function]
        arguments = [tensors[a] for a in stage.arguments]
        if self.device.interpret:
            return partial(_interpret, function, stage.grid, arguments)
        grid = (stage.grid, 1, 1)
        compiled = partial(
            function.warmup, *arguments, grid=grid, num_warps=stage.num_warps,
            num_stages=stage.num_stages, **COMPILE_OPTIONS,
        )  # fmt: skip
        again = partial(compiled, maxnreg=most_registers(stage.num_warps))
        launch = KernelLaunch(compiled(), grid, arguments, again)
        self.launches.append(launch)
        return launch

    def call_on_host(self, kernel: Kernel, place: Place) -> None:
        """An op without a GPU routine: its inputs to the host, its meaning in NumPy, and back."""
        (stmt,) = kernel.body
        assert isinstance(stmt, loop.Call), stmt
        op, attrs = OPS[stmt.op], dict(stmt.attrs)
        shapes = attrs.pop("shapes")
        assert op.numpy is not None, f"{stmt.op} has no meaning in NumPy"
        buffers = place.program.buffers
        inputs = [
            self.device.to_numpy(place.tensors[n], buffers[n].dtype).reshape(s)
            for n, s in zip(stmt.inputs, shapes, strict=True)
        ]
        result = op.numpy(attrs, *inputs)
        results = result if isinstance(result, (tuple, list)) else (result,)
        for name, array in zip(stmt.outputs, results, strict=True):
            dtype = buffers[name].dtype
            place.tensors[name].copy_(self.device.to_tensor(np.asarray(array), dtype))

    # -- loops and branches

    def control_steps(self, kernel: Kernel, launch: Launch, place: Place) -> list[Step]:
        (stmt,) = kernel.body
        if isinstance(stmt, loop.Branch):
            return [self.branch_step(kernel, stmt, launch, place)]
        assert isinstance(stmt, loop.Repeat)
        inner = self.inside(stmt, stmt.body, launch.programs[0], place)
        if stmt.conditional:
            return [Step(kernel.name, _While(self, stmt, place, inner).run, on_host=True)]
        return self.laid_out(kernel.name, stmt, place, inner)

    def inside(
        self, stmt: loop.Repeat | loop.Branch, program: Program,
        launches: Mapping[str, Launch], place: Place,
    ) -> Place:  # fmt: skip
        """The program of a body, with all its tensors but those that move."""
        arena = place.tensors[stmt.arena] if stmt.arena else self.device.empty(uint8, 0)
        given = program.inputs[len(program.inputs) - len(stmt.captured) :]
        pairs = zip(given, stmt.captured, strict=True)
        tensors = {n: place.tensors[outer] for n, outer in pairs}
        self.memory.lay_out(program, tensors, arena)
        return Place(program, tensors, launches)

    def counting(self, stmt: Any, place: Place, inner: Place, step: int | None) -> list[Step]:
        """The step that tells a body which run, and which step of it, this is."""
        names = [b.name for b in inner.program.buffers.values() if b.role == loop.COUNTER]
        if not names:
            return []
        import torch

        source, target = place.tensors[stmt.counter], inner.tensors[names[0]]
        more = 0 if step is None else step_counter(0, step)
        run = partial(torch.add, source, more, out=target)
        return [Step("counter", run, run)]

    def laid_out(self, name: str, stmt: loop.Repeat, place: Place, inner: Place) -> list[Step]:
        """Every step of the loop, on its own slices."""
        numbers = self.device.to_tensor(np.arange(max(stmt.trips, 1)), int64)
        state = [place.tensors[c.initial] for c in stmt.carried]
        steps: list[Step] = []
        order = range(stmt.trips)
        for done, t in enumerate(reversed(order) if stmt.reverse else order):
            last = (stmt.trips - 1 - done) % 2 == 0
            following = [place.tensors[c.result if last else c.spare] for c in stmt.carried]
            moving = [numbers[t : t + 1], *state]
            moving += [_slice(place.tensors[n], t, stmt.trips) for n in stmt.scanned]
            results = [_slice(place.tensors[n], t, stmt.trips) for n in stmt.stacked]
            body = inner.program
            tensors = dict(zip(body.inputs, moving, strict=False))
            tensors |= dict(zip(body.outputs, [*following, *results], strict=True))
            steps += self.counting(stmt, place, inner, t) + self.steps(inner.moved(tensors))
            state = following
        if not stmt.trips:
            results = [place.tensors[c.result] for c in stmt.carried]
            steps += [_copy(name, x, to) for x, to in zip(state, results, strict=True)]
        return steps

    def branch_step(self, kernel: Kernel, stmt: loop.Branch, launch: Launch, place: Place) -> Step:
        bodies = []
        for program, launches in zip(stmt.programs, launch.programs, strict=True):
            inner = self.inside(stmt, program, launches, place)
            results = [place.tensors[n] for n in stmt.results]
            moved = inner.moved(dict(zip(program.outputs, results, strict=True)))
            bodies.append(self.counting(stmt, place, inner, None) + self.steps(moved))
        predicate = place.tensors[stmt.predicate]
        return Step(
            kernel.name, lambda: launch_all(bodies[0 if predicate.item() else 1]), on_host=True
        )


class _While:
    """A loop that ends by a condition: two sets of launches, which write to each other's state."""

    def __init__(self, binder: Binder, stmt: loop.Repeat, place: Place, inner: Place) -> None:
        self.stmt = stmt
        self.place = place
        self.binder = binder
        self.inner = inner
        body, tensors = inner.program, place.tensors
        device, count = binder.device, len(stmt.carried)
        self.initial = [tensors[c.initial] for c in stmt.carried]
        self.sides = [[tensors[c.result] for c in stmt.carried],
                      [tensors[c.spare or c.result] for c in stmt.carried]]  # fmt: skip
        self.step = device.empty(int64, 1)
        sizes = [body.buffers[n] for n in body.inputs[1 + count : 1 + count + len(stmt.scanned)]]
        self.scanned = [device.empty(b.dtype, b.size) for b in sizes]
        self.stacked = [device.empty(body.buffers[n].dtype, body.buffers[n].size)
                        for n in body.outputs[count:]]  # fmt: skip
        self.bodies = [self.bound(side) for side in (0, 1)]

    def bound(self, side: int) -> list[Step]:
        """The body's launches that read the state of one side and write that of the other."""
        body = self.inner.program
        given = [self.step, *self.sides[side], *self.scanned]
        tensors = dict(zip(body.inputs, given, strict=False))
        results = [*self.sides[1 - side], *self.stacked]
        tensors |= dict(zip(body.outputs, results, strict=True))
        return self.binder.steps(self.inner.moved(tensors))

    def run(self) -> None:
        stmt, tensors = self.stmt, self.place.tensors
        for x, initial in zip(self.sides[0], self.initial, strict=True):
            x.copy_(initial)
        for name in stmt.stacked:
            tensors[name].zero_()
        side = 0
        order: Any = itertools.count() if stmt.trips < 0 else range(stmt.trips)
        for t in reversed(order) if stmt.reverse else order:
            if not self.sides[side][0].item():
                break
            self.one(t, side)
            side = 1 - side
        if side:
            for x, other in zip(self.sides[0], self.sides[1], strict=True):
                x.copy_(other)

    def one(self, t: int, side: int) -> None:
        stmt, tensors = self.stmt, self.place.tensors
        self.step.fill_(t)
        for x, name in zip(self.scanned, stmt.scanned, strict=True):
            x.copy_(_slice(tensors[name], t, stmt.trips))
        launch_all(self.binder.counting(stmt, self.place, self.inner, t))
        launch_all(self.bodies[side])
        for x, name in zip(self.stacked, stmt.stacked, strict=True):
            _slice(tensors[name], t, stmt.trips).copy_(x)


def _warm_up(call: Matmul | Convolve, launch: Launch) -> None:
    """Let the library choose its routine. DeviceError where it has none."""
    try:
        call.warm_up()
    except RuntimeError as error:
        raise DeviceError(
            f"torch does not compute {launch.library} of kernel {launch.kernel}: {error}; "
            "with GRAPHC_LIBRARIES=0 or Session(libraries=False) kernels of graphc do"
        ) from error


def _slice(flat: Tensor, t: int, trips: int) -> Tensor:
    size = flat.shape[0] // trips
    return flat[t * size : (t + 1) * size]


def _copy(name: str, source: Tensor, target: Tensor) -> Step:
    run = partial(target.copy_, source)
    return Step(name, run, run)

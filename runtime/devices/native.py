"""The native device: programs as C, compiled on this machine, with threads of their own."""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

import numpy as np

from graphc.codegen.module import Module
from graphc.codegen.native.emit import Kept, Routine, emit, inner_constants, kept_memory
from graphc.ir import loop
from graphc.ir.dtypes import DType
from graphc.ir.errors import DeviceError
from graphc.ir.loop import Program
from graphc.ir.memory import aligned_bytes, touch_beside
from graphc.ir.settings import Settings
from graphc.ir.table import OPS
from graphc.passes.manager import uncollected
from graphc.passes.target import CPU
from graphc.runtime.devices.base import Executable
from graphc.runtime.devices.copies import Copies, copies_of
from graphc.runtime.devices.memory import HostMemory, OutputPool, collect
from graphc.runtime.devices.native_build import EXACT, build, is_built
from graphc.runtime.devices.native_team import ROUTINES, Team, address_of, routines_of, team
from graphc.runtime.devices.native_waiting import WaitingExecutable
from graphc.runtime.interrupts import uninterrupted

_LINE: Final = 64  # bytes of the processor's cache
_log = logging.getLogger("graphc")
_CALL: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_long, ctypes.POINTER(ctypes.c_void_p))


class _Host(ctypes.Structure):
    """gc_host of graphc.h."""

    _fields_ = (
        ("parallel", ctypes.c_void_p),
        *((name, ctypes.c_void_p) for name in ROUTINES),
        ("call", _CALL),
        ("team", ctypes.c_void_p),
        ("scratch", ctypes.c_void_p),
        ("threads", ctypes.c_long),
    )


class _Routines:
    """Computes library routines when C calls them; keeps what went wrong for the caller."""

    def __init__(self, routines: Sequence[Routine]) -> None:
        self._routines = routines
        self.error: BaseException | None = None
        self.function = _CALL(self._call)

    def _call(self, number: int, arrays: Any) -> int:
        try:
            self._compute(self._routines[number], arrays)
        except BaseException as error:  # raised again when C has returned
            self.error = error
            return 1
        return 0

    @staticmethod
    def _compute(routine: Routine, arrays: Any) -> None:
        count = len(routine.inputs)
        inputs = [_at(arrays[i], *t) for i, t in enumerate(routine.inputs)]
        with np.errstate(all="ignore"):
            results = OPS[routine.op].numpy(dict(routine.attrs), *inputs)  # type: ignore[misc]
        if len(routine.outputs) == 1:
            results = (results,)
        for i, (t, result) in enumerate(zip(routine.outputs, results, strict=True)):
            _at(arrays[count + i], *t).reshape(-1)[...] = np.asarray(result).ravel()

    def raise_error(self) -> None:
        """Raise what a routine raised."""
        error, self.error = self.error, None
        assert error is not None, "a program fails only by a routine"
        raise error


def _at(address: int | None, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
    """The array at an address."""
    count = int(np.prod(shape, dtype=np.int64))
    if not count:
        return np.empty(shape, dtype.numpy)
    raw = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(address or 0)
    array: np.ndarray = np.ctypeslib.as_array(raw).view(dtype.numpy).reshape(shape)
    return array


def _is_plain(x: np.ndarray) -> bool:
    flags = x.flags
    return flags.c_contiguous and flags.aligned


def _misfit(buffer: loop.Buffer, x: np.ndarray) -> str:
    wanted = f"{buffer.dtype}{list(buffer.shape)}"
    return f"input {buffer.name!r} must be {wanted}, got {x.dtype}{list(x.shape)}"


class _Room(NamedTuple):
    """The memory of a program: its temporaries, and what its products keep."""

    arena: np.ndarray
    packed: np.ndarray

    @classmethod
    def of(cls, program: Program, kept: Mapping[str, Kept]) -> _Room:
        """Where it is large, its pages are on their way when this returns: the C text is written
        meanwhile."""
        assert program.plan is not None, "a program is planned before it is loaded"
        # one block for all: each by itself would take whole huge pages
        room = cls(
            aligned_bytes(program.plan.arena_bytes), aligned_bytes(sum(map(_lines, kept.values())))
        )
        touch_beside(room)
        return room


def _lines(kept: Kept) -> int:
    """Bytes of what a product keeps, in whole lines of the cache."""
    return -(-kept.nbytes // _LINE) * _LINE


class NativeExecutable:
    """A loaded program: its table of buffers, filled in anew for feeds and outputs."""

    def __init__(
        self,
        program: Program,
        module: Module,
        variables: Mapping[str, Any],
        settings: Settings,
        changes: dict[int, int],
        parts: int,
        room: _Room,
    ) -> None:
        wanted = routines_of(module.text, settings)
        team().want(wanted.values())
        self._library = build(module.text, EXACT, settings, parts)
        self._routines = _Routines(module.launches["routines"])
        self._threads = settings.threads
        self._slots: Mapping[str, int] = module.launches["slots"]
        self._arena, self._packed = room
        self._scratch = aligned_bytes(module.scratch_bytes)
        self._host = _Host(
            address_of(team().library().gc_parallel),
            *(team().routine(wanted[name]) if name in wanted else None for name in ROUTINES),
            self._routines.function,
            None,
            self._scratch.ctypes.data,
            settings.threads,
        )
        self._table = (ctypes.c_void_p * (len(self._slots) + 1))(ctypes.addressof(self._host))
        self._fixed: dict[str, np.ndarray] = {}
        self._counter: np.ndarray | None = None
        self._bind(program, variables)
        self._keep(program, module.launches["kept"], changes)
        self._inputs = tuple((program.buffers[n], self._slots[n]) for n in program.inputs)
        fresh = [b for b in program.buffers.values() if b.role == loop.OUTPUT]
        self._fresh = tuple((b.name, b.shape, b.dtype.numpy, self._slots[b.name]) for b in fresh)
        self._outputs = tuple(program.buffers[n] for n in program.outputs)
        self._pool = OutputPool()
        self._run = team().library().gc_run
        self._program = address_of(self._library.program)
        self._updates = program.commit < len(program.kernels)

    def _bind(self, program: Program, variables: Mapping[str, Any]) -> None:
        """The addresses that stay: variables, constants, temporaries, the counter."""
        plan, arena = program.plan, self._arena
        assert plan is not None
        every = {**program.buffers, **inner_constants(program)}
        for name, buffer in every.items():
            if buffer.role == loop.TEMPORARY:
                start = plan.offsets[name]
                array = arena[start : start + buffer.nbytes].view(buffer.dtype.numpy)
            elif buffer.role == loop.CONSTANT:
                array = np.require(buffer.value.array.reshape(-1), requirements=("C", "A"))
            elif buffer.role == loop.VARIABLE:
                array = variables[name].reshape(-1)
                assert array.dtype == buffer.dtype.numpy and array.size == buffer.size, name
            elif buffer.role == loop.COUNTER:
                array = self._counter = np.zeros(1, np.int64)
            else:
                continue
            self._fixed[name] = array
            self._table[self._slots[name]] = array.ctypes.data

    def _keep(self, program: Program, kept_by: Mapping[str, Kept], changes: dict[int, int]) -> None:
        """Memory for what products keep, and which variables it follows from."""
        self._changes = changes
        self._flags: list[np.ndarray] = []  # of what follows from variables
        followed: dict[int, None] = {}
        starts = accumulate(map(_lines, kept_by.values()), initial=0)
        for (name, kept), start in zip(kept_by.items(), starts, strict=False):
            memory = self._packed[start : start + kept.nbytes]
            self._table[self._slots[name]] = memory.ctypes.data
            own = [self._fixed[n].ctypes.data for n in kept.sources & {*program.variables}]
            followed.update(dict.fromkeys(own))
            if own:
                self._flags.append(memory[:8].view(np.int64))
        self._followed = tuple(followed)
        self._seen: tuple[int, ...] = ()
        self._changed = tuple(self._fixed[n].ctypes.data for n in program.updates)

    def _forget_changed(self) -> None:
        """What was packed of variables that have changed since is packed again."""
        now = tuple([self._changes.get(v, 0) for v in self._followed])
        if now != self._seen:
            self._seen = now
            for flag in self._flags:
                flag[0] = 0

    def run(self, feeds: Sequence[np.ndarray], run: int) -> list[np.ndarray]:
        """Run once; see graphc.runtime.devices.base.Executable."""
        table = self._table
        flat = [x if _is_plain(x) else np.require(x, requirements=("C", "A")) for x in feeds]
        for (buffer, slot), x in zip(self._inputs, flat, strict=True):
            if x.shape != buffer.shape or x.dtype != buffer.dtype.numpy:  # C would go astray
                raise DeviceError(_misfit(buffer, x))
            table[slot] = x.__array_interface__["data"][0]
        outputs: dict[str, np.ndarray] = {}
        for name, shape, dtype, slot in self._fresh:
            x = outputs[name] = self._pool.take(name, shape, dtype)
            table[slot] = x.__array_interface__["data"][0]
        if self._counter is not None:
            self._counter[0] = run
        if self._followed:
            self._forget_changed()
        arguments = (self._program, table, team().of(os.getpid(), self._threads))
        if self._updates:
            uninterrupted(self._launch, arguments)
        else:
            self._launch(*arguments)
        if not self._outputs:
            return []
        inputs = {b.name: x for (b, _), x in zip(self._inputs, flat, strict=True)}
        return collect(self._outputs, outputs, inputs, self._fixed)

    def _launch(self, *arguments: Any) -> None:
        if self._run(*arguments):
            self._routines.raise_error()
        for variable in self._changed:
            self._changes[variable] = self._changes.get(variable, 0) + 1


def _is_initializer(program: Program) -> bool:
    """True for what is fed nothing, reads no variable, and does nothing but set some."""
    read = {n for k in program.kernels for n in k.inputs}
    return bool(program.updates) and not (
        program.inputs or program.outputs or read & {*program.variables}
    )


def _on_numpy(
    program: Program, variables: Mapping[str, np.ndarray], settings: Settings
) -> Executable:
    from graphc.runtime.devices.numpy import NumPyDevice  # which many programs do without

    return NumPyDevice().load(program, variables, settings)


class _Noted:
    """An executable of another device, after whose runs it is noted that variables changed."""

    def __init__(self, inner: Executable, changed: Callable[[], None]) -> None:
        self._inner = inner
        self._changed = changed

    def run(self, feeds: Sequence[np.ndarray], run: int) -> list[np.ndarray]:
        """Run once; see graphc.runtime.devices.base.Executable."""
        results = self._inner.run(feeds, run)
        self._changed()
        return results


class NativeDevice(HostMemory):
    """Programs as C in this process."""

    name = "native"
    parts = 8  # of a program's text at most, which are compiled side by side

    def __init__(self) -> None:
        team().library()  # which shows that the compiler works
        self.target = CPU
        self._changes: dict[int, int] = {}  # of variables, by address

    def write(self, storage: np.ndarray, array: np.ndarray) -> None:
        """Set the variable's value, of which packed copies may be kept."""
        super().write(storage, array)
        self._note([storage])

    def load(
        self, program: Program, variables: Mapping[str, np.ndarray], settings: Settings
    ) -> Executable:
        """Emit, compile and bind."""
        updated = [variables[n] for n in program.updates]
        if _is_initializer(program):
            _log.info("an initializer runs on NumPy: it is not worth compiling for one run")
            copies = copies_of(program)
            first: Executable = (
                _on_numpy(program, variables, settings)
                if copies is None
                else Copies(copies, program, variables)
            )
            return _Noted(first, lambda: self._note(updated))
        with uncollected():
            kept = kept_memory(program)
            room = _Room.of(program, kept)
            module = self.module_of(program, kept)

        def make() -> NativeExecutable:
            return NativeExecutable(
                program, module, variables, settings, self._changes, self.parts, room
            )

        if not settings.native_async or is_built(module.text, EXACT, settings, self.parts):
            return make()
        first = _on_numpy(program, variables, settings)
        return WaitingExecutable(first, make, lambda: self._note(updated))

    def module_of(self, program: Program, kept: Mapping[str, Kept]) -> Module:
        """What is compiled; a device that measures may put more into it."""
        return emit(program, kept)

    def _note(self, updated: Sequence[np.ndarray]) -> None:
        """These variables have other values than before."""
        for storage in updated:
            address = storage.ctypes.data
            self._changes[address] = self._changes.get(address, 0) + 1

    def want_libraries(self, program: Program, settings: Settings) -> None:
        """Build what programs share, as far as this one needs it, as if it were the first."""
        Team().want(routines_of(emit(program).text, settings).values())

    def sources(self, program: Program, settings: Settings) -> Mapping[str, str]:
        """Per kernel name, its C source."""
        return emit(program).kernels

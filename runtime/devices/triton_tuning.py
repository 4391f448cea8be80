"""Schedules by measurement: every candidate of a kernel is run on the device, the quickest is kept.

Asked for with the setting `autotune`. Results are kept in a JSON file, by the GPU and by what the
kernel computes, so that a kernel is measured once; `explain` shows them. Buffers hold zeros while
it is measured, which changes no kernel's time but a gather's.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from graphc.codegen.triton import Options, emit
from graphc.codegen.triton.candidates import candidates, tuning_key
from graphc.codegen.triton.contraction import prepared
from graphc.codegen.triton.schedule import Schedule
from graphc.ir import loop
from graphc.ir.loop import Buffer, Kernel, MemoryPlan, Program
from graphc.ir.settings import Settings
from graphc.runtime.devices.native_build import cache_folder

if TYPE_CHECKING:
    from graphc.runtime.devices.triton import TritonDevice

_log = logging.getLogger("graphc")
_LEAST_SPACE: Final = 1 << 12  # points of a kernel below which nothing is to be gained
_RUNS: Final = 11
_CLEARLY: Final = 0.97  # what a candidate must need of the rule's time to replace it
Timer = Callable[[Callable[[], None]], float]  # the seconds that a launch takes


@dataclass(frozen=True, slots=True)
class Choice:
    """The quickest schedule, its seconds, and those of the rule's."""

    schedule: Schedule
    seconds: float
    rule_seconds: float


def gpu_timer(launch: Callable[[], None]) -> float:
    """The median of some runs by CUDA events, after two to warm up."""
    import torch

    seconds: list[float] = []
    for _ in range(_RUNS + 2):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        launch()
        end.record()
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1e3)
    return float(statistics.median(seconds[2:]))


def host_timer(launch: Callable[[], None]) -> float:
    """One run by the clock: in the interpreter, where it says little."""
    start = time.perf_counter()
    launch()
    return time.perf_counter() - start


def tuned_schedules(
    device: TritonDevice, program: Program, options: Options, settings: Settings
) -> dict[str, Schedule]:
    """By key, the schedules of the program's kernels that differ from the rule's."""
    store = _Store(cache_file(settings), device.label)
    found = {}
    for kernel, buffers in _kernels(program):
        ready = prepared(kernel)
        key = tuning_key(ready, buffers, options)
        plans = candidates(ready, buffers, options)
        choice = store.choice(key)
        if choice is None or choice.schedule not in plans:
            choice = _measured(device, kernel, buffers, key, plans, options, settings)
            store.keep(key, kernel.name, choice)
        if choice.schedule != plans[0]:
            found[key] = replace(choice.schedule, note=_note(choice))
    store.write()
    return found


def _note(choice: Choice) -> str:
    return f"measured {1e6 * choice.seconds:.1f} us, by rule {1e6 * choice.rule_seconds:.1f} us"


def _kernels(program: Program) -> Iterator[tuple[Kernel, Mapping[str, Buffer]]]:
    """Those that are worth it, in loops and branches too."""
    for kernel in program.kernels:
        for inner in kernel.programs:
            yield from _kernels(inner)
        if kernel.is_whole or kernel.parts or kernel.space < _LEAST_SPACE:
            continue
        yield kernel, program.buffers


def _measured(
    device: TritonDevice, kernel: Kernel, buffers: Mapping[str, Buffer], key: str,
    plans: Sequence[Schedule], options: Options, settings: Settings,
) -> Choice:  # fmt: skip
    """The quickest of the plans; the rule's, unless another is clearly quicker."""
    program = _alone(kernel, buffers)
    quiet = replace(settings, autotune=False)
    seconds: dict[Schedule, float] = {}
    for plan in plans:
        forced = replace(options, schedules={key: plan})
        try:
            seconds[plan] = _time(device, program, forced, quiet)
        except Exception as error:  # too much shared memory, say: no candidate then
            if plan == plans[0]:
                raise
            _log.info("%s: %s does not work: %s", kernel.name, plan, error)
    best = min(seconds, key=lambda p: seconds[p])
    rule = seconds[plans[0]]
    if seconds[best] > _CLEARLY * rule:
        best = plans[0]
    _log.info("tuned %s: %s %.1f us, by rule %.1f us of %d", kernel.name, best.recipe,
              1e6 * seconds[best], 1e6 * rule, len(seconds))  # fmt: skip
    return Choice(best, seconds[best], rule)


def _time(device: TritonDevice, program: Program, options: Options, settings: Settings) -> float:
    from graphc.runtime.devices import triton

    module = emit(program, options)
    built = triton.Built(module, triton.build(module.text))
    storage = {n: _storage(device, program.buffers[n]) for n in program.variables}
    return device.timer(device.load_built(program, storage, settings, built).launch)


def _storage(device: TritonDevice, buffer: Buffer) -> Any:
    return device.allocate(buffer.dtype, buffer.shape)


def _alone(kernel: Kernel, buffers: Mapping[str, Buffer]) -> Program:
    """The kernel as a program: everything it touches is a variable, which needs no copies."""
    names = tuple(dict.fromkeys((*kernel.inputs, *kernel.outputs)))
    own = {n: replace(buffers[n], role=loop.VARIABLE, value=None) for n in names}
    return Program(own, (kernel,), (), (), names, kernel.outputs, 0, MemoryPlan())


# -- the file


def cache_file(settings: Settings) -> Path:
    """Where results are kept: in the folder of compiled programs."""
    return cache_folder(settings) / "tuning.json"


class _Store:
    """The results of one kind of device. Other processes may write the file at the same time: the
    last one keeps what the others have written, but for what they write in that moment."""

    def __init__(self, path: Path, label: str) -> None:
        self.path = path
        self.label = label
        self.known: dict[str, Any] = self._read().get(label, {})
        self.new: dict[str, Any] = {}

    def _read(self) -> dict[str, Any]:
        try:
            told = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            _log.warning("%s is damaged, and is made anew: %s", self.path, error)
            return {}
        return told if isinstance(told, dict) else {}

    def choice(self, key: str) -> Choice | None:
        """What was measured before, if it can be read."""
        told = self.known.get(key)
        try:
            return told and Choice(
                Schedule(**told["schedule"]), float(told["seconds"]), float(told["rule_seconds"])
            )
        except (KeyError, TypeError, ValueError):
            return None

    def keep(self, key: str, name: str, choice: Choice) -> None:
        """A new result."""
        numbers = {k: v for k, v in asdict(choice.schedule).items() if k != "note"}
        self.new[key] = self.known[key] = {
            "kernel": name, "schedule": numbers, "seconds": choice.seconds,
            "rule_seconds": choice.rule_seconds,
        }  # fmt: skip

    def write(self) -> None:
        """Put the new results into the file, in one step."""
        if not self.new:
            return
        every = self._read()
        every[self.label] = {**every.get(self.label, {}), **self.new}
        temporary = self.path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(every, indent=1), encoding="utf-8")
        os.replace(temporary, self.path)


__all__ = ["Choice", "Timer", "cache_file", "gpu_timer", "host_timer", "tuned_schedules"]

"""Where a row's time goes: seconds per kernel of graphc's native program.

    python -m benchmarks.profile_row W6 [steps]

The C text of the program is taken as it is, with a reading of the clock after every launch.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import graphc as gc
from benchmarks.peers.graphc_peer import function_graph, training_graph
from benchmarks.workload import Training, Workload
from benchmarks.workloads import ROWS, load
from graphc.codegen.module import Module
from graphc.codegen.native.emit import Kept
from graphc.ir.loop import Program
from graphc.ir.settings import Settings
from graphc.runtime.devices import native

CLOCK = """
#include <time.h>
double gc_profile[{count}];
static double gc_profile_last;
static void gc_profile_tick(long launch) {{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double seconds = now.tv_sec + 1e-9 * now.tv_nsec;
    if (launch >= 0) gc_profile[launch] += seconds - gc_profile_last;
    gc_profile_last = seconds;
}}
"""
PROGRAM = "int program(gc_buffers b) {"


@dataclass(frozen=True)
class Clocked:
    """A unit's text with clocks, and the launch of each."""

    text: str
    launches: tuple[str, ...]


def clocked(text: str) -> Clocked:
    """A reading after each statement of `program`, which stand one to a line."""
    before, start, body = text.partition(f"\n{PROGRAM}\n")
    assert start, "a unit ends with the function `program`"
    lines, launches = [], []
    for line in body.splitlines():
        is_launch = "(" in line and not line.strip().startswith("return")
        lines.append(f"{line} gc_profile_tick({len(launches)});" if is_launch else line)
        launches += [line.strip()] if is_launch else []
    clock = CLOCK.format(count=max(len(launches), 1))
    whole = [before, clock, PROGRAM, "    gc_profile_tick(-1);", *lines]
    return Clocked("\n".join(whole) + "\n", tuple(launches))


class ProfilingDevice(native.NativeDevice):
    """The native device with clocks; keeps the last program that it loaded."""

    parts = 1  # the clocks' memory is in it

    def __init__(self) -> None:
        super().__init__()
        self.launches: tuple[str, ...] = ()
        self.kernels: Mapping[str, str] = {}
        self.program: Program | None = None
        self._times: Any = None

    def module_of(self, program: Program, kept: Mapping[str, Kept]) -> Module:
        """The program's unit with clocks in it."""
        module = super().module_of(program, kept)
        unit = clocked(module.text)
        self.launches, self.kernels, self.program = unit.launches, module.kernels, program
        return module._replace(text=unit.text)

    def load(
        self, program: Program, variables: Mapping[str, np.ndarray], settings: Settings
    ) -> Any:
        """Emit, put clocks in, compile and bind."""
        executable = super().load(program, variables, settings)
        if isinstance(executable, native.NativeExecutable):  # initializers are not compiled
            times = ctypes.c_double * max(len(self.launches), 1)
            self._times = times.in_dll(executable._library, "gc_profile")
        return executable

    def seconds(self) -> np.ndarray:
        """Of each launch so far; starts anew."""
        found = np.array(self._times)
        ctypes.memset(ctypes.byref(self._times), 0, ctypes.sizeof(self._times))
        return found[: len(self.launches)]

    def kernel_of(self, launch: str) -> str:
        """The kernel whose functions the launch names."""
        words = re.findall(r"\w+", launch)
        names = [k for k in self.kernels if any(w == k or w.startswith(f"{k}_") for w in words)]
        return max(names, key=len, default=launch)


def _callable(workload: Workload, session: gc.Session) -> tuple[Any, list[np.ndarray]]:
    if isinstance(workload, Training):
        step, _, inputs = training_graph(workload)
        session.run(gc.global_variables_initializer())
        return session.make_callable(step, list(inputs.values())), list(workload.batch.values())
    outputs, inputs = function_graph(workload)
    return session.make_callable(outputs, list(inputs.values())), list(workload.inputs.values())


def profile(workload: Workload, steps: int) -> tuple[dict[str, float], float, ProfilingDevice]:
    """Seconds per kernel and step, the seconds of a whole step, and the device."""
    device = ProfilingDevice()
    with gc.Graph().as_default(), gc.Session(device="native") as session:
        session.device = device
        call, arrays = _callable(workload, session)
        call(*arrays)
        device.seconds()
        start = time.perf_counter()
        for _ in range(steps):
            call(*arrays)
        whole = (time.perf_counter() - start) / steps
        per_kernel: dict[str, float] = {}
        for launch, seconds in zip(device.launches, device.seconds() / steps, strict=True):
            name = device.kernel_of(launch)
            per_kernel[name] = per_kernel.get(name, 0.0) + float(seconds)
    return per_kernel, whole, device


def table(per_kernel: Mapping[str, float], whole: float, device: ProfilingDevice) -> str:
    """Kernels by time, with GB/s of what they touch, then what is not in kernels."""
    assert device.program is not None
    lines = [f"{'ms':>10} {'share':>6} {'GB/s':>7}  kernel"]
    kernels = {k.name: k for k in device.program.kernels}
    for name, seconds in sorted(per_kernel.items(), key=lambda item: -item[1]):
        rate = ""
        if name in kernels and seconds:
            touched = {*kernels[name].inputs, *kernels[name].outputs}
            moved = sum(device.program.buffers[n].nbytes for n in touched)
            rate = f"{moved / seconds / 1e9:.1f}"
        lines.append(f"{seconds * 1e3:10.4f} {seconds / whole:6.1%} {rate:>7}  {name}")
    rest = whole - sum(per_kernel.values())
    lines.append(f"{rest * 1e3:10.4f} {rest / whole:6.1%} {'':7}  outside of kernels")
    lines.append(f"{whole * 1e3:10.4f} {'':6} {'':7}  a step")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of a row."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile_row", description=__doc__)
    parser.add_argument("row", choices=ROWS)
    parser.add_argument("steps", nargs="?", type=int, default=10)
    options = parser.parse_args(arguments)
    workload = load(options.row)
    print(workload.title)
    print(table(*profile(workload, options.steps)))


if __name__ == "__main__":
    main()

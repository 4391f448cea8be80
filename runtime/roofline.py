"""What a program would take on a GPU that nothing holds up: a prediction, not a measurement.

A kernel's time is the larger of its bytes over the memory's speed and its operations over the
arithmetic's (the roofline of Williams, Waterman and Patterson, 2009). A launch costs nothing here;
in a CUDA graph it costs about a microsecond, so programs of many small kernels take longer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from graphc.codegen.triton import Options
from graphc.codegen.triton.traffic import Traffic, traffic
from graphc.ir import loop
from graphc.ir.loop import Kernel, Program
from graphc.passes.costs import kernel_flops


@dataclass(frozen=True, slots=True)
class Machine:
    """A GPU's speeds: bytes per second, operations per second in and outside tensor cores."""

    name: str
    bytes_per_s: float
    tensor_flops_per_s: float
    flops_per_s: float


H200: Final = Machine("H200", 4.3e12, 790e12, 60e12)  # a copy, bf16 and fp32 products


@dataclass(frozen=True, slots=True)
class KernelTime:
    """One kernel: launches, bytes, operations, seconds."""

    name: str
    form: str
    launches: int
    traffic: Traffic
    flops: float
    seconds: float


@dataclass(frozen=True)
class Roofline:
    """A program's prediction; prints as a table."""

    machine: Machine
    kernels: tuple[KernelTime, ...]

    @property
    def launches(self) -> int:
        """Kernels launched in a run; of a loop of unknown length, in one step."""
        return sum(k.launches for k in self.kernels)

    @property
    def traffic(self) -> Traffic:
        """Bytes of a run."""
        return sum((k.traffic for k in self.kernels), Traffic(0, 0))

    @property
    def seconds(self) -> float:
        """Of a run."""
        return sum(k.seconds for k in self.kernels)

    def __str__(self) -> str:
        width = max([6, *(len(k.name) for k in self.kernels)])
        head = f"{'kernel':<{width}}  {'form':<6}  launches  {'moved':>14}  {'least':>14}"
        lines = [f"{head}  {'operations':>15}  {'us':>9}"]
        lines += [
            f"{k.name:<{width}}  {k.form:<6}  {k.launches:>8}  {k.traffic.moved:>14,}  "
            f"{k.traffic.least:>14,}  {k.flops:>15,.0f}  {1e6 * k.seconds:>9.2f}"
            for k in self.kernels
        ]
        t = self.traffic
        ratio = f" ({t.moved / t.least:.2f} of the least)" if t.least else ""
        total = f"{self.launches} launches, {t.moved:,} bytes{ratio}"
        return "\n".join(
            [
                *lines,
                f"{total}: {1e6 * self.seconds:.2f} us at best on an {self.machine.name} "
                "(predicted, not measured)",
            ]
        )


def roofline(program: Program, options: Options | None = None, machine: Machine = H200) -> Roofline:
    """The prediction for a program that is compiled for a GPU."""
    options = options or Options()
    return Roofline(machine, tuple(_times(program, options, machine)))


def _times(program: Program, options: Options, machine: Machine) -> Iterable[KernelTime]:
    for kernel in program.kernels:
        bytes_of = traffic(kernel, program.buffers, options)
        flops = kernel_flops(kernel)
        on_tensor_cores = _uses_tensor_cores(kernel, program, options)
        speed = machine.tensor_flops_per_s if on_tensor_cores else None
        seconds = max(bytes_of.moved / machine.bytes_per_s, flops / (speed or machine.flops_per_s))
        yield KernelTime(
            kernel.name,
            kernel.form,
            launches_of(kernel, program, options),
            bytes_of,
            flops,
            seconds,
        )


def launches_of(kernel: Kernel, program: Program, options: Options) -> int:
    """How many functions a run starts for the kernel; of a branch, on the longer side."""
    from graphc.codegen.triton import emit_kernel

    if not kernel.programs:
        launch = emit_kernel(kernel, program.buffers, options).launch
        return len(launch.stages) + (launch.library is not None)
    inside = [sum(launches_of(k, p, options) for k in p.kernels) for p in kernel.programs]
    (stmt,) = kernel.body
    return inside[0] * max(stmt.trips, 1) if isinstance(stmt, loop.Repeat) else max(inside)


def _uses_tensor_cores(kernel: Kernel, program: Program, options: Options) -> bool:
    """True for products of 16-bit floats, or of float32 where that may be rounded."""
    dtypes = [s.a.dtype for s in kernel.body if isinstance(s, loop.Dot)]
    dtypes += [s.a.dtype for p in kernel.programs for k in p.kernels for s in k.body
               if isinstance(s, loop.Dot)]  # fmt: skip
    dtypes += [program.buffers[s.inputs[0]].dtype for s in kernel.body
               if isinstance(s, loop.Call) and s.flops]  # fmt: skip
    wide = 32 if options.tf32 else 16
    return bool(dtypes) and all(d.is_floating and d.bits <= wide for d in dtypes)


__all__ = ["H200", "KernelTime", "Machine", "Roofline", "launches_of", "roofline"]

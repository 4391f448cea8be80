"""What kernels cost, by the op table: arithmetic, bytes moved, and seconds by roofline.

The seconds serve to compare kernels with one another, not to foretell times. (Williams,
Waterman and Patterson, "Roofline", 2009.)
"""

from __future__ import annotations

from collections.abc import Mapping

from graphc.ir import loop
from graphc.ir.loop import Buffer, Kernel
from graphc.ir.table import OPS
from graphc.passes.target import Rates


def kernel_flops(kernel: Kernel) -> float:
    """Arithmetic operations of the kernel: by the op table, two per product of a dot; of a
    routine as many as its op says."""
    total = float(sum(kernel_flops(p) for p in kernel.parts))
    total += _inner_flops(kernel)
    known = kernel.scopes
    for stmt in kernel.body:
        if isinstance(stmt, loop.Call):
            total += stmt.flops
        if isinstance(stmt, (loop.Dot, loop.Reduce, loop.Fold)):
            total += kernel.space * (2.0 if isinstance(stmt, loop.Dot) else 1.0)
        for e in stmt.exprs:
            for part in loop.walk(e):
                if isinstance(part, loop.Apply):
                    cost = OPS[part.op].flops
                    points = 1.0
                    for axis in loop.axes_used(part, known):
                        points *= kernel.axes[axis].size
                    total += points * (cost if isinstance(cost, (int, float)) else 1.0)
    return total


def _inner_flops(kernel: Kernel) -> float:
    """Of a loop all steps', as far as their number is known; of a branch the greater."""
    totals = [sum(kernel_flops(k) for k in p.kernels) for p in kernel.programs]
    if kernel.form != "loop":
        return max(totals, default=0.0)
    (stmt,) = kernel.body
    assert isinstance(stmt, loop.Repeat)
    return totals[0] * max(stmt.trips, 1)


def moved_bytes(kernel: Kernel, buffers: Mapping[str, Buffer]) -> int:
    """Bytes of all that the kernel reads and writes, each buffer once."""
    return sum(buffers[n].nbytes for n in (*kernel.inputs, *kernel.outputs))


def seconds(kernel: Kernel, buffers: Mapping[str, Buffer], rates: Rates) -> float:
    """About how long the kernel takes."""
    arithmetic = kernel_flops(kernel) / rates.flops_per_s
    return rates.launch_s + max(arithmetic, moved_bytes(kernel, buffers) / rates.bytes_per_s)

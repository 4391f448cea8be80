"""Kernels without a reduction: one flat index, or a two-dimensional tile that transposes."""

from __future__ import annotations

from graphc.codegen.triton.body import Body
from graphc.codegen.triton.function import Function, blocks
from graphc.codegen.triton.schedule import Schedule, transposed_axes
from graphc.ir import loop
from graphc.ir.loop import Kernel


def emit_flat(function: Function, plan: Schedule) -> int:
    """Write the function; the number of programs to launch."""
    kernel = function.kernel
    axes = range(len(kernel.axes))
    if not kernel.axes:
        statements(kernel, function.body(function.tile()))
        return 1
    width = function.constant("BLOCK", plan.x)
    index = function.tiled_dim(axes, "i", f"pid * {width}", width, plan.x)
    statements(kernel, function.body(function.tile(index)))
    return blocks(kernel.space, plan.x)


def emit_tiled(function: Function, plan: Schedule) -> int:
    """A tile over the axis that is contiguous in a load and the one contiguous in the store."""
    kernel = function.kernel
    sides = transposed_axes(kernel, function.buffers)
    assert sides is not None, "the schedule said that a load is transposed"
    y, x = sides
    rest = [i for i in range(len(kernel.axes)) if i not in sides]
    high, wide = blocks(kernel.axes[y].size, plan.y), blocks(kernel.axes[x].size, plan.x)
    height, width = function.constant("HEIGHT", plan.y), function.constant("WIDTH", plan.x)
    outer = function.scalar_dim(rest, "outer", f"pid // {high * wide}")
    inside = f"(pid % {high * wide})" if rest else "pid"
    rows = function.tiled_dim(
        [y], "i", f"{inside} // {wide} * {height}", height, plan.y, "[:, None]"
    )
    columns = function.tiled_dim(
        [x], "j", f"{inside} % {wide} * {width}", width, plan.x, "[None, :]"
    )
    statements(kernel, function.body(function.tile(outer, rows, columns)))
    return outer.size * high * wide


def statements(kernel: Kernel, body: Body) -> None:
    """The kernel's lets and stores in order."""
    for stmt in kernel.body:
        if isinstance(stmt, loop.Let):
            body.let(stmt)
        else:
            assert isinstance(stmt, loop.Store), stmt
            body.store(stmt)

"""Kernels with a contraction: a tile of rows by columns, and a loop over the summed axes.

Rows, columns and sums may each be several axes, told apart by division with constants: a
convolution is a dot over guarded accesses. What stands before the dot becomes part of its
operands, what stands after it is computed on the tile before it is stored.
"""

from __future__ import annotations

from dataclasses import replace

from graphc.codegen.triton.body import Body, Term
from graphc.codegen.triton.contraction import dot_axes, dot_of, uses_tensor_dot
from graphc.codegen.triton.flat import statements
from graphc.codegen.triton.function import Function, blocks
from graphc.codegen.triton.names import triton_type
from graphc.codegen.triton.schedule import Schedule
from graphc.codegen.triton.tile import Dim
from graphc.ir import loop
from graphc.ir.dtypes import bfloat16, float32
from graphc.ir.loop import Dot

GROUP = 8  # row tiles that walk the columns together, so that they share them in the L2 cache


def emit_dot(function: Function, plan: Schedule) -> int:
    """Write the function; the number of programs."""
    rows, columns, summed, batch = dot_axes(function.kernel)
    dot = dot_of(function.kernel)
    m, n = function.constant("M", plan.x), function.constant("N", plan.y)
    k = function.constant("K", plan.k)
    high, wide = blocks(function.size(rows), plan.x), blocks(function.size(columns), plan.y)
    inner = _tile_numbers(function, high, wide, bool(batch))
    outer = function.scalar_dim(batch, "batch", f"pid // {high * wide}")
    starts = ["0" if t == "0" else f"{t} * {w}" for t, w in zip(inner, (m, n), strict=True)]
    row = function.tiled_dim(rows, "m", starts[0], m, plan.x, "[:, None]")
    column = function.tiled_dim(columns, "n", starts[1], n, plan.y, "[None, :]")
    title = function.titles.get(dot.name, "dot")
    acc = function.namer.fresh(f"{title}_acc")
    function.writer.line(f"{acc} = tl.zeros([{m}, {n}], {triton_type(dot.dtype)})")
    span = _span(function, plan, f"pid // {outer.size // plan.chunks * high * wide}")
    with function.writer.block(f"for k0 in range({span}, {k}):"):
        left = function.tiled_dim(summed, "k", "k0", k, plan.k, "[None, :]")
        a = _operand(function, function.body(function.tile(outer, row, left)), dot.a, left)
        right = function.tiled_dim(summed, "k", "k0", k, plan.k, "[:, None]")
        b = _operand(function, function.body(function.tile(outer, right, column)), dot.b, right)
        function.writer.line(f"{acc} = {_multiply(function, dot, a, b, acc)}")
    body = function.body(function.tile(outer, row, column))
    body.names[dot.name] = Term(acc, body.tile.every, True)
    _epilogue(function, body)
    return outer.size * high * wide


def _span(function: Function, plan: Schedule, chunk: str) -> str:
    """From where to where a program sums: all, or a chunk of whole steps, perhaps an empty one."""
    size = function.size(function.kernel.reduced)
    if plan.chunks == 1:
        return f"0, {size}"
    steps = blocks(blocks(size, plan.k), plan.chunks)
    start = function.namer.fresh("start")
    function.writer.line(f"{start} = {chunk} * {steps * plan.k}")
    return f"{start}, tl.minimum({start} + {steps * plan.k}, {size})"


def _tile_numbers(function: Function, high: int, wide: int, batched: bool) -> tuple[str, str]:
    """Which row tile and column tile a program has."""
    tile = f"(pid % {high * wide})" if batched else "pid"
    if wide == 1:
        return tile, "0"
    if high == 1:
        return "0", tile
    writer = function.writer
    writer.line(f"group = {tile} // {GROUP * wide}")
    if high % GROUP:
        writer.line(f"height = tl.minimum({high} - group * {GROUP}, {GROUP})")
    else:
        writer.line(f"height = {GROUP}")
    writer.line(f"inside = {tile} % {GROUP * wide}")
    return f"(group * {GROUP} + inside % height)", "(inside // height)"


def _operand(function: Function, body: Body, expr: loop.Expr, summed: Dim) -> str:
    """The operand's tile; 0 where the summed index is out of range."""
    body.fills = isinstance(expr, loop.Load) and expr.fill == 0
    text = body.whole(body.expr(expr))
    if summed.mask is not None and not body.fills:
        zero = "0.0" if expr.dtype.is_floating else "0"
        text = f"tl.where({summed.mask}, {text}, {zero})"
    return text


def _multiply(function: Function, dot: Dot, a: str, b: str, acc: str) -> str:
    if not uses_tensor_dot(dot.a.dtype):
        kind = triton_type(dot.dtype)
        product = f"({a}).to({kind})[:, :, None] * ({b}).to({kind})[None, :, :]"
        return f"{acc} + tl.sum({product}, 1).to({kind})"
    if function.options.interpret and dot.a.dtype is bfloat16:
        a, b = f"({a}).to(tl.float32)", f"({b}).to(tl.float32)"  # the interpreter's is broken
    if dot.a.dtype is float32:
        precision = "tf32" if function.options.tf32 else "ieee"
        return f'tl.dot({a}, {b}, {acc}, input_precision="{precision}")'
    return f"tl.dot({a}, {b}, {acc})"


def _epilogue(function: Function, body: Body) -> None:
    kernel = function.kernel
    at = next(i for i, s in enumerate(kernel.body) if isinstance(s, Dot))
    rest = replace(kernel, body=kernel.body[at + 1 :])
    statements(rest, body)

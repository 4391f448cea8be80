"""Fold kernels: a program walks its rows and adds up, column by column, what goes down them.

A step has some rows in one tile, as a row kernel has. The totals of the columns stay in registers
from the first row to the last, one per lane of the tile; the rows of the tile become one at the
end. The order of the sums follows from the sizes alone: results are deterministic.
"""

from __future__ import annotations

from graphc.codegen.triton.body import Term
from graphc.codegen.triton.function import Function, blocks
from graphc.codegen.triton.reduction import Reduction
from graphc.codegen.triton.row import row_statement, start_states
from graphc.codegen.triton.schedule import Schedule
from graphc.codegen.triton.tile import Dim
from graphc.ir import loop
from graphc.ir.loop import Fold


def emit_fold(function: Function, plan: Schedule) -> int:
    """Write the function; the number of programs."""
    kernel = function.kernel
    rows = function.constant("ROWS", plan.x) if plan.x > 1 else None
    columns = function.constant("COLUMNS", plan.y)
    part = function.scalar_dim(kernel.parallel, "part", "pid")
    side = "[None, :]" if rows else ""
    column = function.tiled_dim(kernel.reduced, "col", "0", columns, plan.y, side)
    folds = [s for s in kernel.body if isinstance(s, Fold)]
    size = function.size(kernel.folded)
    place = function.writer.place()
    shape = function.tile(Dim((), size, "", place, rows), column)
    states = {s.name: start_states(function, s, shape) for s in folds}
    ahead = f", num_stages={plan.num_stages}" if plan.num_stages > 1 else ""
    with function.writer.block(f"for r0 in tl.range(0, {size}, {rows or 1}{ahead}):"):
        if rows is None:
            row = function.scalar_dim(kernel.folded, "row", "r0")
        else:
            row = function.tiled_dim(kernel.folded, "row", "r0", rows, plan.x, "[:, None]")
        body = function.body(function.tile(part, row, column))
        for load in _loads(kernel):
            body.load(load)
        for stmt in kernel.body:
            if isinstance(stmt, Fold):
                (total,) = states[stmt.name]
                reduction = Reduction.of(stmt)
                value = reduction.prepare(body.whole(body.expr(stmt.value)))
                if row.mask is not None:
                    value = f"tl.where({row.mask}, {value}, {reduction.starts[0]})"
                function.writer.line(f"{total} = {reduction.combine([total], [value])}")
            elif stmt not in kernel.fold_stores:
                row_statement(function, body, stmt, column)
    _store_totals(function, plan, part, column, states)
    return blocks(function.size(kernel.parallel), 1)


def _loads(kernel: loop.Kernel) -> list[loop.Load]:
    """What a row reads, each once: all of it is on its way before the first sum is waited for."""
    parts = (e for s in kernel.body for x in s.exprs for e in loop.walk(x))
    return list(dict.fromkeys(e for e in parts if isinstance(e, loop.Load)))


def _store_totals(
    function: Function, plan: Schedule, part: Dim, column: Dim, states: dict[str, list[str]]
) -> None:
    """The totals of all rows, one per column, to where they belong."""
    if plan.x > 1:  # the tile's rows become one; its columns are a tile of their own
        assert column.width is not None, "columns are lanes"
        column = function.tiled_dim(function.kernel.reduced, "total_col", "0", column.width, plan.y)
    body = function.body(function.tile(part, column))
    for stmt in (s for s in function.kernel.body if isinstance(s, Fold)):
        reduction, names = Reduction.of(stmt), states[stmt.name]
        if plan.x > 1:
            names = [function.namer.fresh(function.title(stmt))]
            text = reduction.reduce(states[stmt.name], 0, keep=False)
            function.writer.line(f"{names[0]} = {text}")
        body.names[stmt.name] = Term(reduction.finish(names), frozenset({0}))
    for store in function.kernel.fold_stores:
        body.store(store)

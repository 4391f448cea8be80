"""Kernels with reductions: rows in one tile, rows in a loop, rows split among programs.

All three run the same passes (`levels`): a persistent row keeps its tile in registers, a looped
row walks it once per pass, a split row has one launch per pass, with the partial states of every
chunk in a workspace. Partial states are combined in a fixed order: results are deterministic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphc.codegen.triton.body import Body, Term
from graphc.codegen.triton.function import Function, blocks, pow2
from graphc.codegen.triton.launch import Workspace
from graphc.codegen.triton.levels import Passes, passes_of
from graphc.codegen.triton.names import triton_type
from graphc.codegen.triton.reduction import Reduction
from graphc.codegen.triton.schedule import Schedule
from graphc.codegen.triton.tile import Dim, Tile
from graphc.ir import loop
from graphc.ir.loop import Fold, Let, Reduce, Stmt


@dataclass(frozen=True, slots=True)
class _Columns:
    """The tile's second dimension: its width by name and value."""

    width: str
    block: int


@dataclass(frozen=True, slots=True)
class _Span:
    """What a loop walks: `length` positions from `start`; `reach` is where the last such span
    ends, perhaps beyond the row."""

    start: str
    length: int
    reach: int | None = None


def emit_row(function: Function, plan: Schedule) -> int:
    """A whole row in one tile; the number of programs."""
    kernel = function.kernel
    rows, columns = _sizes(function, plan)
    row = _rows(function, plan, rows, "pid")
    column = _column_dim(function, columns, "0", row)
    body = function.body(function.tile(row, column))
    for stmt in kernel.body:
        row_statement(function, body, stmt, column)
    return blocks(function.size(kernel.parallel), plan.x)


def row_statement(function: Function, body: Body, stmt: Stmt, column: Dim) -> None:
    """A statement over a tile that has whole rows."""
    if isinstance(stmt, Let):
        body.let(stmt)
    elif isinstance(stmt, Reduce):
        states = lane_states(function, body, stmt, column)
        finish(function, body, stmt, states, body.tile)
    else:
        assert isinstance(stmt, loop.Store), stmt
        body.store(stmt)


def emit_row_looped(function: Function, plan: Schedule) -> int:
    """One loop over the row per pass; the number of programs."""
    passes = passes_of(function.kernel)
    rows, columns = _sizes(function, plan)
    row = _rows(function, plan, rows, "pid")
    outer = _outer_body(function, row, columns, {})
    whole = _Span("", function.size(function.kernel.reduced))
    for level in range(passes.last + 1):
        _row_lets(outer, passes, level)
        work = [*passes.reduces(level), *passes.stores(level, inner=True)]
        if work:
            states = _loop(function, passes, level, outer, row, columns, whole)
            for stmt in passes.reduces(level):
                finish(function, outer, stmt, states[stmt.name], outer.tile)
        for store in passes.stores(level, inner=False):
            outer.store(store)
    return blocks(function.size(function.kernel.parallel), plan.x)


def _sizes(function: Function, plan: Schedule) -> tuple[str | None, _Columns]:
    rows = function.constant("ROWS", plan.x) if plan.x > 1 else None
    return rows, _Columns(function.constant("COLUMNS", plan.y), plan.y)


def _rows(function: Function, plan: Schedule, width: str | None, position: str) -> Dim:
    """The rows of a program: a scalar, or the tile's first dimension."""
    axes = function.kernel.parallel
    if width is None:
        return function.scalar_dim(axes, "row", position)
    return function.tiled_dim(axes, "row", f"{position} * {width}", width, plan.x, "[:, None]")


def _column_dim(
    function: Function, columns: _Columns, start: str, row: Dim, reach: int | None = None
) -> Dim:
    side = "" if row.width is None else "[None, :]"
    return function.tiled_dim(
        function.kernel.reduced, "col", start, columns.width, columns.block, side, reach
    )


def _outer_body(function: Function, row: Dim, columns: _Columns, names: Mapping[str, Term]) -> Body:
    """The scope around the loops: values that are one per row, in a tile's shape."""
    place = function.writer.place()
    unused = Dim(tuple(function.kernel.reduced), 0, "", place, columns.width)
    return function.body(function.tile(row, unused), names)


def _row_lets(outer: Body, passes: Passes, level: int) -> None:
    for stmt in passes.row_lets():
        if passes.levels[stmt.name] == level:
            outer.let(stmt)


# -- one pass


def _loop(
    function: Function,
    passes: Passes,
    level: int,
    outer: Body,
    row: Dim,
    columns: _Columns,
    span: _Span,
) -> dict[str, list[str]]:
    """One walk over the row (or a chunk of it): the pass's stores, and its reductions' states."""
    reduces, stores = passes.reduces(level), passes.stores(level, inner=True)
    states = {s.name: start_states(function, s, outer.tile) for s in reduces}
    with function.writer.block(f"for c0 in range(0, {span.length}, {columns.width}):"):
        start = f"{span.start} + c0" if span.start else "c0"
        column = _column_dim(function, columns, start, row, span.reach)
        body = function.body(function.tile(row, column), outer.names)
        work: list[Stmt] = [*reduces, *stores]
        for stmt in passes.needed(work):
            if passes.is_inner(stmt) and isinstance(stmt, Let):
                body.let(stmt)
        for stmt in reduces:
            _accumulate(function, body, stmt, states[stmt.name], column)
        for store in stores:
            body.store(store)
    return states


def start_states(function: Function, stmt: Reduce | Fold, tile: Tile) -> list[str]:
    """Names of accumulators for every lane, which hold the state of nothing."""
    reduction = Reduction.of(stmt)
    names = []
    for dtype, start in zip(reduction.dtypes, reduction.starts, strict=True):
        name = function.namer.fresh(f"{function.title(stmt)}_acc")
        function.writer.line(f"{name} = tl.full({tile.shape()}, {start}, {triton_type(dtype)})")
        names.append(name)
    return names


def lane_states(function: Function, body: Body, stmt: Reduce, column: Dim) -> list[str]:
    """The state of every lane; lanes outside the row have that of nothing."""
    reduction = Reduction.of(stmt)
    value = body.whole(body.expr(stmt.value))
    text = reduction.prepare(value)
    if column.mask is not None:
        text = f"tl.where({column.mask}, {text}, {reduction.starts[0]})"
    if not reduction.with_position:
        return [text]
    position = column.flat if not body.tile.wide else f"{column.flat}.to(tl.int32)"
    shape = body.tile.shape()
    wide = position if body.tile.rank == 1 else f"tl.broadcast_to({position}, {shape})"
    return [text, wide]


def _accumulate(
    function: Function, body: Body, stmt: Reduce, states: list[str], column: Dim
) -> None:
    lanes = lane_states(function, body, stmt, column)
    combined = Reduction.of(stmt).combine(states, lanes)
    function.writer.line(f"{', '.join(states)} = {combined}")


def finish(function: Function, body: Body, stmt: Reduce, states: list[str], tile: Tile) -> None:
    """Combine the lanes and name the result."""
    names = _reduced(function, stmt, states, tile)
    dims = frozenset({0}) if tile.rank == 2 else frozenset[int]()
    result = Reduction.of(stmt).finish(names)
    title = function.title(stmt)
    body.names[stmt.name] = body.named(Term(result, dims, result in names), title)


def _reduced(function: Function, stmt: Reduce, states: list[str], tile: Tile) -> list[str]:
    """All lanes' states along the row as one; their names."""
    names = [function.namer.fresh(function.title(stmt)) for _ in states]
    text = Reduction.of(stmt).reduce(states, tile.rank - 1, tile.rank == 2)
    function.writer.line(f"{', '.join(names)} = {text}")
    return names


# -- split rows


def emit_split(function: Function, plan: Schedule, passes: Passes, level: int) -> int:
    """The launch that runs pass `level` of split rows; the number of programs."""
    rows, columns = _sizes(function, plan)
    has_inner = bool(passes.reduces(level) or passes.stores(level, inner=True))
    count = plan.chunks if has_inner else 1
    row = _rows(function, plan, rows, f"pid // {count}" if count > 1 else "pid")
    chunk = f"pid % {count}"
    done = _combine_partials(function, plan, passes, level, row)
    outer = _outer_body(function, row, columns, done)
    needed = passes.needed(passes.work(level))
    for let in passes.row_lets():
        if let in needed:
            outer.let(let)
    if has_inner:
        _chunk(function, plan, passes, level, outer, row, columns, chunk)
    once = passes.stores(level, inner=False)
    if once and has_inner:
        with function.writer.block(f"if {chunk} == 0:"):
            for store in once:
                outer.store(store)
    else:
        for store in once:
            outer.store(store)
    return blocks(function.size(function.kernel.parallel), plan.x) * count


def chunk_length(function: Function, plan: Schedule) -> int:
    """Elements of a row in one chunk: whole steps of the loop."""
    steps = blocks(function.size(function.kernel.reduced), plan.y)
    return blocks(steps, plan.chunks) * plan.y


def split_workspaces(function: Function, plan: Schedule) -> tuple[Workspace, ...]:
    """One partial state per reduction, row and chunk."""
    count = function.size(function.kernel.parallel) * plan.chunks
    return tuple(
        Workspace(name, dtype, count)
        for stmt in function.kernel.body
        if isinstance(stmt, Reduce)
        for name, dtype in zip(_space_names(stmt), Reduction.of(stmt).dtypes, strict=True)
    )


def _space_names(stmt: Reduce) -> list[str]:
    return [f"partial_{stmt.name}_{i}" for i in range(len(Reduction.of(stmt).dtypes))]


def _combine_partials(
    function: Function, plan: Schedule, passes: Passes, level: int, row: Dim
) -> dict[str, Term]:
    """The results of earlier passes that this one needs, from the workspaces."""
    wanted = [s for s in passes.needed(passes.work(level)) if isinstance(s, Reduce)]
    if not wanted:
        return {}
    width = pow2(plan.chunks)
    side = "" if row.width is None else "[None, :]"
    writer, namer = function.writer, function.namer
    lane = namer.structure("lane")
    writer.line(f"{lane} = tl.arange(0, {width}){side}")
    position = f"{row.flat} * {plan.chunks} + {lane}" if row.axes else lane
    masks = [m for m in (row.mask, f"({lane} < {plan.chunks})") if m]
    placeholder = Dim((), width, "", writer.place(), str(width))
    tile = function.tile(row, placeholder)
    body = function.body(tile)
    for stmt in wanted:
        states = []
        for name, start in zip(_space_names(stmt), Reduction.of(stmt).starts, strict=True):
            state = namer.fresh(name)
            load = f"tl.load(p_{name} + {position}, mask={' & '.join(masks)}, other={start})"
            writer.line(f"{state} = {load}")
            states.append(state)
        finish(function, body, stmt, states, tile)
    return body.names


def _chunk(
    function: Function,
    plan: Schedule,
    passes: Passes,
    level: int,
    outer: Body,
    row: Dim,
    columns: _Columns,
    chunk: str,
) -> None:
    """The pass over one chunk; its states go to the workspaces."""
    length = chunk_length(function, plan)
    writer = function.writer
    first = function.namer.structure("start")
    writer.line(f"{first} = {chunk} * {length}")
    span = _Span(first, length, plan.chunks * length)
    states = _loop(function, passes, level, outer, row, columns, span)
    position = f"{row.flat} * {plan.chunks} + {chunk}" if row.axes else chunk
    mask = f", mask={row.mask}" if row.mask else ""
    for stmt in passes.reduces(level):
        names = _reduced(function, stmt, states[stmt.name], outer.tile)
        for space, name in zip(_space_names(stmt), names, strict=True):
            writer.line(f"tl.store(p_{space} + {position}, {name}{mask})")

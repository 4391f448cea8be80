"""One kernel as C functions: its schedule, walked with the statements' text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from graphc.codegen.native.body import zeroed
from graphc.codegen.native.lanes import LANES, LONG, RowNest, has_position
from graphc.codegen.native.matmul import emit_product
from graphc.codegen.native.nest import by_name, is_let
from graphc.codegen.native.product import product_of
from graphc.codegen.native.schedule import (
    TILE,
    WIDTH,
    Column,
    Flat,
    Folded,
    Row,
    Split,
    grain,
    op_flops,
    schedule,
)
from graphc.codegen.native.spelling import VALUE, combine
from graphc.codegen.native.split import SplitNest
from graphc.codegen.native.text import KernelText, Place
from graphc.codegen.phases import Phase, plan_phases
from graphc.ir import loop
from graphc.ir.dtypes import float32
from graphc.ir.loop import Kernel

_ROW_RUN = 1 << 13  # elements of a row that are added up without a break
_COLUMN_RUN = 1 << 9  # elements of a column likewise
_KEPT_BYTES = 1 << 18  # of a row's expensive values, on the stack, that its phases hand on
_LARGE_BYTES = 1 << 25  # of a buffer that does not fit into the cache
_STREAM_UNIT = 8  # elements that are stored past the cache at once
_FETCHED_ELEMENTS = 1 << 15  # of a row that is fetched while the one before is computed with
_KEPT_FLOPS = 8.0  # of a value that is kept rather than computed again


def emit_kernel(kernel: Kernel, place: Place) -> KernelText:
    """The functions of a loop nest; `kernel` has ordered and collapsed axes."""
    product = product_of(kernel)
    if product is not None:
        return emit_product(kernel, product, place)
    how = schedule(kernel)
    kernel = without_dots(kernel)
    if not all(kernel.sizes[i] for i in kernel.parallel):
        return KernelText()
    if isinstance(how, Split):
        split = SplitNest(kernel, place)
        split.emit(how)
        return split.result
    nest = LoopNest(kernel, place)
    nest.emit(how)
    return nest.result


def without_dots(kernel: Kernel) -> Kernel:
    """Products as sums."""
    return replace(kernel, body=tuple(map(_as_sum, kernel.body)))


def _as_sum(stmt: loop.Stmt) -> loop.Stmt:
    if not isinstance(stmt, loop.Dot):
        return stmt
    factors = tuple(
        x if x.dtype is stmt.dtype else loop.Apply("cast", (x,), stmt.dtype)
        for x in (stmt.a, stmt.b)
    )
    return loop.Reduce(stmt.name, "sum", loop.Apply("multiply", factors, stmt.dtype), stmt.dtype)


def _is_large(buffer: loop.Buffer) -> bool:
    return buffer.nbytes >= _LARGE_BYTES


class LoopNest(RowNest):
    """Walks one kernel in loops over its axes."""

    _streams = False  # it has stored past the cache

    def emit(self, how: Flat | Row | Column | Folded) -> None:
        """The function of one of these schedules."""
        match how:
            case Flat():
                self.flat(how)
            case Row():
                self.row(how)
            case Column():
                self.column(how)
            case Folded():
                self.fold()

    # -- schedules

    def flat(self, flat: Flat) -> None:
        """All statements at each point."""
        kernel, axes = self.kernel, self.kernel.parallel
        with ExitStack() as stack:
            if flat.tile:
                extent = self._tiles(stack, flat)
            elif flat.prefix:
                extent = self._share(stack, flat.prefix)
                self._loops(stack, [i for i in axes if i not in flat.prefix])
            elif axes:
                extent = kernel.sizes[axes[-1]]
                self._loops(stack, axes[:-1])
                self._loop(stack, axes[-1], "first", "last", "#pragma omp simd\n")
            else:
                extent = 1
            self._statements(kernel.body)
        self._finish("", extent, grain(kernel, extent))

    def row(self, row: Row) -> None:
        """Phase after phase at each point of the parallel axes."""
        with ExitStack() as stack:
            extent = self._share(stack, row.prefix)
            rest = [i for i in self.kernel.parallel if i not in row.prefix]
            self._loops(stack, rest, simd=False)
            self._row_phases({})
        if self._streams:
            self._line("gc_stream_end();")
        self._finish("", extent, grain(self.kernel, extent))

    def fold(self) -> None:
        """Row after row, and then what they add up to."""
        with ExitStack() as stack:
            extent = self._share(stack, self.kernel.parallel)
            totals = self._fold_totals()
            with ExitStack() as rows:
                self._loops(rows, self.kernel.folded, simd=False)
                self._row_phases(totals)
            with ExitStack() as columns:
                self._loops(columns, self.kernel.reduced)
                self.body.text.blocks[-1].names.update(totals)
                self._statements(self.kernel.fold_stores)
        if self._streams:
            self._line("gc_stream_end();")
        self._finish("", extent, grain(self.kernel, extent))

    def column(self, column: Column) -> None:
        """Phase after phase for a block of one parallel axis."""
        axis, width = column.axis, column.width
        size, name = self.kernel.sizes[axis], self.kernel.axes[axis].name
        others = [i for i in self.kernel.parallel if i != axis]
        lo, hi = "0", str(size)
        with ExitStack() as stack:
            extra = []
            if width < size:
                lo, hi = "lo", "hi"
                extra = [("block", -(-size // width))]
            extent = self._share(stack, others, extra)
            if extra:
                self._line(f"const long lo = {width} * block;")
                end = f"lo + {width}"
                fits = size % width == 0
                self._line(
                    f"const long hi = {end if fits else f'{end} < {size} ? {end} : {size}'};"
                )
            index = f"{name} - lo" if extra else name
            inner = f"#pragma omp simd\nfor (long {name} = {lo}; {name} < {hi}; {name}++)"
            for phase in plan_phases(self.kernel):
                self._column_phase(phase, (inner, axis), index, width)
        self._finish("", extent, grain(self.kernel, extent))

    # -- flat

    def _tiles(self, stack: ExitStack, flat: Flat) -> int:
        assert flat.tile is not None
        outer, inner = flat.tile
        sizes, axes = self.kernel.sizes, self.kernel.axes
        blocks = -(-sizes[outer] // TILE)
        extent = self._share(stack, flat.prefix, [("block", blocks)])
        u, v = axes[outer].name, axes[inner].name
        self._line(f"const long top = {TILE} * block;")
        end = f"top + {TILE}"
        self._line(f"const long bottom = {end} < {sizes[outer]} ? {end} : {sizes[outer]};")
        stack.enter_context(
            self.body.text.block(
                f"for (long left = 0; left < {sizes[inner]}; left += {TILE})", (),
                [f"const long right = left + {TILE} < {sizes[inner]} ? left + {TILE} "
                 f": {sizes[inner]};"],
            )
        )  # fmt: skip
        stack.enter_context(
            self.body.text.block(f"for (long {u} = top; {u} < bottom; {u}++)", (outer,))
        )
        header = f"#pragma omp simd\nfor (long {v} = left; {v} < right; {v}++)"
        stack.enter_context(self.body.text.block(header, (inner,)))
        return extent

    # -- rows

    def _fold_totals(self) -> dict[str, str]:
        """Arrays for the folds' totals at each column, from nothing; by name, the elements."""
        folds = [s for s in self.kernel.body if isinstance(s, loop.Fold)]
        size = math.prod(self.kernel.sizes[i] for i in self.kernel.reduced)
        arrays = [self.body.text.fresh("fold") for _ in folds]
        for stmt, array in zip(folds, arrays, strict=True):
            self._line(f"{VALUE[stmt.dtype]} {array}[{size}];")
        totals = by_name(folds, [f"{a}[{self._row_index()}]" for a in arrays])
        with ExitStack() as stack:
            self._loops(stack, self.kernel.reduced)
            self._start(folds, totals)
        return totals

    def _row_phases(self, folds: Mapping[str, str]) -> None:
        """One row; `folds` are the elements that its values are added to."""
        phases = plan_phases(self.kernel)
        kept, fetched = self._kept(phases), self._fetched(phases)
        for number, phase in enumerate(phases):
            self._row_phase(phase, kept, folds, fetched if number == 1 else [])

    def _row_phase(
        self,
        phase: Phase,
        kept: Mapping[str, str],
        folds: Mapping[str, str],
        before: Sequence[str],
    ) -> None:
        reduces = [s for s in phase.inside if isinstance(s, loop.Reduce)]
        names = parts = [self._total(s) for s in reduces]
        inside, streamed = self._streamed(phase.inside)
        after = [self._stream(store, array) for store, array in streamed]
        run = self._run(reduces, _ROW_RUN)
        with ExitStack() as stack:
            spans = self._run_block(stack, *run) if run else {}
            if run:
                parts = [self._total(s) for s in reduces]
            if phase.inside:
                with self._along_row(reduces, parts, spans, before, after) as places:
                    self._statements(inside, {**places, **folds}, kept)
                    for store, array in streamed:
                        self._line(f"{array}[lane] = {self.body.value(store.value)};")
            if run:
                for stmt, name, part in zip(reduces, names, parts, strict=True):
                    self._line(combine(stmt.op, stmt.dtype, name, part))
        for stmt, name in zip(reduces, names, strict=True):
            self.body.text.blocks[-1].names[stmt.name] = name
        self._statements(phase.after)

    def _fetched(self, phases: Sequence[Phase]) -> list[str]:
        """Lines for the second phase that fetch a block of what the first reads of the next row:
        the processor's own prefetching ends at each page, and in the second phase memory rests."""
        kernel = self.kernel
        axis = kernel.reduced[-1]
        rows = [i for i in kernel.folded or kernel.parallel if kernel.sizes[i] > 1]
        if len(phases) < 2 or len(kernel.reduced) != 1 or not rows:
            return []
        if has_position(phases[1].inside):
            return []
        if not LONG <= kernel.sizes[axis] <= _FETCHED_ELEMENTS:
            return []
        inside = (e for s in phases[0].inside for e in s.exprs)
        loads = [e for x in inside for e in loop.walk(x) if isinstance(e, loop.Load) and e.is_plain]
        lines = []
        for access in dict.fromkeys(e.pieces[0] for e in loads):
            buffer = self.place.buffers[access.buffer]
            if access.strides[axis] == 1 and access.strides[rows[-1]] and _is_large(buffer):
                strides = zeroed(access.strides, axis)
                offset = access.offset + access.strides[rows[-1]]
                place, _ = self.body.place(replace(access, strides=strides, offset=offset))
                lines.append(f"gc_fetch(&{place} + at, {LANES * buffer.dtype.itemsize});")
        return lines

    def _streamed(
        self, stmts: Sequence[loop.Stmt]
    ) -> tuple[list[loop.Stmt], list[tuple[loop.Store, str]]]:
        """The statements without the stores of whole rows of buffers that are larger than the
        cache; those, with the arrays that a block of such a row is collected in."""
        kernel, streamed = self.kernel, []
        rest = list(stmts)
        short = kernel.sizes[kernel.reduced[0]] < LANES
        if len(kernel.reduced) != 1 or short or has_position(stmts):
            return rest, []
        (axis,) = kernel.reduced
        for stmt in [s for s in stmts if isinstance(s, loop.Store)]:
            access, buffer = stmt.access, self.place.buffers[stmt.access.buffer]
            dense = access.is_plain and access.strides[axis] == 1
            others = [access.offset, *(s for i, s in enumerate(access.strides) if i != axis)]
            aligned = all(s % _STREAM_UNIT == 0 for s in others)
            large = buffer.dtype is float32 and _is_large(buffer)
            if dense and aligned and large and buffer.name not in kernel.inputs:
                array = self.body.text.fresh("stream")
                self._line(f"float {array}[{LANES}];")
                streamed.append((stmt, array))
                rest.remove(stmt)
        return rest, streamed

    def _stream(self, stmt: loop.Store, array: str) -> str:
        """The line that stores a collected block past the cache to where it belongs."""
        (axis,) = self.kernel.reduced
        strides = zeroed(stmt.access.strides, axis)
        place, _ = self.body.place(replace(stmt.access, strides=strides))
        self._streams = True
        return f"gc_stream(&{place} + at, {array}, lanes);"

    def _kept(self, phases: Sequence[Phase]) -> dict[str, str]:
        """Arrays for the values of a row that are expensive and needed in a later phase."""
        size = math.prod(self.kernel.sizes[i] for i in self.kernel.reduced)
        reduced = frozenset(self.kernel.reduced)
        seen: set[str] = set()
        kept: dict[str, str] = {}
        left = _KEPT_BYTES
        for phase in phases if size else ():
            lets = [s for s in phase.inside if is_let(s) and self.body.scope[s.name] & reduced]
            for stmt in lets:
                cost = sum(map(op_flops, loop.walk(stmt.value)))
                nbytes = max(4, stmt.value.dtype.itemsize) * size
                again = stmt.name in seen and stmt.name not in kept
                if again and cost >= _KEPT_FLOPS and nbytes <= left:
                    name = kept[stmt.name] = self.body.text.fresh("row")
                    self._line(f"{VALUE[stmt.value.dtype]} {name}[{size}];")
                    left -= nbytes
            seen.update(s.name for s in lets)
        return kept

    # -- columns

    def _column_runs(
        self,
        phase: Phase,
        reduces: Sequence[loop.Reduce],
        totals: Mapping[str, str],
        inner: tuple[str, int],
        index: str,
        run: tuple[int, int],
    ) -> None:
        """Long columns in runs, whose sums are added to the totals."""
        header, axis = inner
        text, width = self.body.text, min(self.kernel.sizes[axis], WIDTH)
        arrays = [text.fresh("run") for _ in reduces]
        for stmt, array in zip(reduces, arrays, strict=True):
            self._line(f"{VALUE[stmt.dtype]} {array}[{width}];")
        parts = by_name(reduces, [f"{a}[{index}]" for a in arrays])
        with ExitStack() as stack:
            spans = self._run_block(stack, *run)
            with text.block(header, (axis,)):
                self._start(reduces, parts)
            with ExitStack() as loops:
                self._reduce_loops(loops, spans)
                loops.enter_context(text.block(header, (axis,)))
                self._statements(phase.inside, parts)
            with text.block(header, (axis,)):
                for stmt in reduces:
                    self._line(combine(stmt.op, stmt.dtype, totals[stmt.name], parts[stmt.name]))

    def _column_phase(self, phase: Phase, inner: tuple[str, int], index: str, width: int) -> None:
        header, axis = inner
        text = self.body.text
        reduces = [s for s in phase.inside if isinstance(s, loop.Reduce)]
        names = [text.fresh(s.op) for s in reduces]
        for stmt, name in zip(reduces, names, strict=True):
            self._line(f"{VALUE[stmt.dtype]} {name}[{width}];")
        totals = by_name(reduces, [f"{n}[{index}]" for n in names])
        if reduces:
            with text.block(header, (axis,)):
                self._start(reduces, totals)
        run = self._run(reduces, _COLUMN_RUN)
        if run:
            self._column_runs(phase, reduces, totals, inner, index, run)
        elif phase.inside:
            with ExitStack() as stack:
                self._reduce_loops(stack)
                stack.enter_context(text.block(header, (axis,)))
                self._statements(phase.inside, totals)
        text.blocks[-1].names.update(totals)
        arrays: dict[str, str] = {}
        for let in phase.after:
            if is_let(let) and axis in self.body.scope[let.name]:
                arrays[let.name] = text.fresh("column")
                self._line(f"{VALUE[let.value.dtype]} {arrays[let.name]}[{width}];")
        if phase.after:
            with text.block(header, (axis,)):
                for after in phase.after:
                    self._statements([after])
                    if is_let(after) and after.name in arrays:
                        self._line(f"{arrays[after.name]}[{index}] = {text.name(after.name)};")
        text.blocks[-1].names.update({n: f"{array}[{index}]" for n, array in arrays.items()})

"""Split reductions: few results from many elements, in parts that threads compute side by side.

Each phase is a function of some parts, whose totals go to the scratch memory, and one that
combines them; the parts are the same with any number of threads, and so are the sums.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from graphc.codegen.native.body import flat_index
from graphc.codegen.native.lanes import RowNest
from graphc.codegen.native.nest import Span, is_let
from graphc.codegen.native.schedule import Split, grain
from graphc.codegen.native.spelling import VALUE, combine
from graphc.codegen.phases import Phase, plan_phases
from graphc.ir import loop


class SplitNest(RowNest):
    """Walks one kernel in parts of a reduce axis."""

    def emit(self, split: Split) -> None:
        """Per phase: parts side by side, then what combines their totals."""
        phases = plan_phases(self.kernel)
        results = math.prod(self.kernel.sizes[i] for i in self.kernel.parallel)
        totals: dict[str, int] = {}  # where in the scratch memory each name's results lie
        offset = 0
        for phase in phases:
            for name in _results_of(phase):
                totals[name] = offset
                offset += -(-results * 8 // 64) * 64
        partials = offset
        for number, phase in enumerate(phases):
            if phase.inside:
                self._split_inside(split, phase, number, totals, partials)
            reduces = [s for s in phase.inside if isinstance(s, loop.Reduce)]
            if reduces or phase.after:
                self._split_after(split, phase, number, totals, partials)
            size = sum(-(-results * 8 // 64) * 64 for _ in reduces) * split.parts
            self.result.scratch_bytes = max(self.result.scratch_bytes, partials + size)

    def _split_inside(
        self, split: Split, phase: Phase, number: int, totals: Mapping[str, int], partials: int
    ) -> None:
        """The function of some parts: their totals go to the scratch memory."""
        kernel, size = self.kernel, self.kernel.sizes[split.axis]
        self.body = self._new_body()
        reduces = [s for s in phase.inside if isinstance(s, loop.Reduce)]
        self._known_totals(totals, number, plan_phases(kernel))
        arrays = self._partials(split, reduces, partials)
        spans = {split.axis: Span("lo", "hi", math.gcd(size, split.step))}
        with ExitStack() as stack:
            stack.enter_context(
                self.body.text.block("for (long part = first; part < last; part++)")
            )
            end = f"lo + {split.step}"
            self._line(f"const long lo = {split.step} * part;")
            self._line(f"const long hi = {end} < {size} ? {end} : {size};")
            index = flat_index(kernel, kernel.parallel)
            at = f"part * {self._results()} + {index}"
            places = {n: f"{array}[{at}]" for n, array in arrays.items()}
            if split.column:
                self._fill(reduces, places)
                self._reduce_loops(stack, spans)
                self._loops(stack, kernel.parallel)
                self._statements(phase.inside, places)
            else:
                self._loops(stack, kernel.parallel, simd=False)
                names = [self._total(s) for s in reduces]
                with self._along_row(reduces, names, spans) as totals_here:
                    self._statements(phase.inside, totals_here)
                for stmt, name in zip(reduces, names, strict=True):
                    self._line(f"{places[stmt.name]} = {name};")
        per_part = grain(kernel, split.parts)
        self._finish(f"_part{number}", split.parts, per_part)

    def _split_after(
        self, split: Split, phase: Phase, number: int, totals: Mapping[str, int], partials: int
    ) -> None:
        """The function that combines the parts' totals and goes on from them."""
        kernel = self.kernel
        self.body = self._new_body()
        reduces = [s for s in phase.inside if isinstance(s, loop.Reduce)]
        self._known_totals(totals, number, plan_phases(kernel), own=True)
        arrays = self._partials(split, reduces, partials)
        index = flat_index(kernel, kernel.parallel)
        with ExitStack() as stack:
            self._loops(stack, kernel.parallel, simd=False)
            for stmt in reduces:
                name = self._total(stmt)
                value = f"{arrays[stmt.name]}[part * {self._results()} + {index}]"
                with self.body.text.block(f"for (long part = 0; part < {split.parts}; part++)"):
                    self._line(combine(stmt.op, stmt.dtype, name, value))
                self._line(f"{self.body.text.name(stmt.name)} = {name};")
            for after in phase.after:
                if is_let(after):
                    target = self.body.text.name(after.name)
                    self._line(f"{target} = {self.body.value(after.value)};")
                else:
                    self._statements([after])
        self._finish(f"_total{number}", 1, 1)

    def _known_totals(
        self, totals: Mapping[str, int], number: int, phases: Sequence[Phase], own: bool = False
    ) -> None:
        """Pointers to the results of the phases before (and of this one)."""
        index = flat_index(self.kernel, self.kernel.parallel)
        dtypes = {s.name: s.dtype for s in self.kernel.body if isinstance(s, loop.Reduce)}
        dtypes |= {s.name: s.value.dtype for s in self.kernel.body if is_let(s)}
        for result in (n for phase in phases[: number + own] for n in _results_of(phase)):
            name, ctype = self.body.text.fresh("total"), VALUE[dtypes[result]]
            at = f"(char *)GC_HOST(b)->scratch + {totals[result]}"
            self._line(f"{ctype} *{name} = ({ctype} *)({at});")
            self.body.text.blocks[0].names[result] = f"{name}[{index}]"

    def _partials(self, split: Split, reduces: Sequence[loop.Reduce], start: int) -> dict[str, str]:
        arrays: dict[str, str] = {}
        step = -(-self._results() * 8 // 64) * 64 * split.parts
        for n, stmt in enumerate(reduces):
            name = arrays[stmt.name] = self.body.text.fresh("parts")
            ctype = VALUE[stmt.dtype]
            at = f"(char *)GC_HOST(b)->scratch + {start + n * step}"
            self._line(f"{ctype} *{name} = ({ctype} *)({at});")
        return arrays

    def _fill(self, reduces: Sequence[loop.Reduce], places: Mapping[str, str]) -> None:
        if reduces:
            with ExitStack() as stack:
                self._loops(stack, self.kernel.parallel)
                self._start(reduces, places)

    def _results(self) -> int:
        return math.prod(self.kernel.sizes[i] for i in self.kernel.parallel)


def _results_of(phase: Phase) -> list[str]:
    """The names that later phases read: totals, and what follows from them."""
    totals = [s.name for s in phase.inside if isinstance(s, loop.Reduce)]
    return totals + [s.name for s in phase.after if is_let(s)]

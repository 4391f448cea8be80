"""Loops along a row: in blocks of lanes, each of which has a partial result of its own.

A single vector of partial results waits for its own last addition; as many lanes as several
vectors do not, and lose fewer digits. A block is also the unit in which the next row is fetched
and finished values are stored past the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from graphc.codegen.native.nest import Nest, Span, by_name
from graphc.codegen.native.spelling import VALUE, clause, combine
from graphc.ir import loop

LANES: Final = 128
LONG: Final = 512  # elements of a row, below which setting up the lanes costs more than it gains


class RowNest(Nest):
    """Loops over the reduce axes of a kernel, the innermost vectorized."""

    def _has_lanes(self, reduces: Sequence[loop.Reduce]) -> bool:
        """True when the reductions are worth a partial result per lane."""
        long = self.kernel.sizes[self._row_axes()[-1]] >= LONG
        return bool(reduces) and long and not has_position(reduces)

    @contextmanager
    def _along_row(
        self,
        reduces: Sequence[loop.Reduce],
        names: Sequence[str],
        spans: Mapping[int, Span] | None = None,
        before: Sequence[str] = (),
        after: Sequence[str] = (),
    ) -> Iterator[Mapping[str, str]]:
        """Loops along a row; gives where each reduction, named or by lanes, adds up.

        `before` and `after` are lines for each block, which has `lanes` lanes from `at` on.
        """
        if before or after or self._has_lanes(reduces):
            with self._in_blocks(reduces, names, spans or {}, before, after) as places:
                yield places
        else:
            with ExitStack() as stack:
                self._whole(stack, reduces, names, spans or {})
                yield by_name(reduces, names)

    def _row_axes(self) -> list[int]:
        reduced = self.kernel.reduced
        return [i for i in reduced if self.kernel.sizes[i] != 1] or list(reduced[-1:])

    def _whole(
        self,
        stack: ExitStack,
        reduces: Sequence[loop.Reduce],
        names: Sequence[str],
        spans: Mapping[int, Span],
    ) -> None:
        axes = self._row_axes()
        simd = not has_position(reduces)
        for i in axes:
            span = self._span(i, spans)
            pragma = f"{_simd(reduces, names)}\n" if simd and i == axes[-1] else ""
            self._loop(stack, i, span.first, span.last, pragma)

    @contextmanager
    def _in_blocks(
        self,
        reduces: Sequence[loop.Reduce],
        names: Sequence[str],
        spans: Mapping[int, Span],
        before: Sequence[str],
        after: Sequence[str],
    ) -> Iterator[Mapping[str, str]]:
        text = self.body.text
        arrays = [text.fresh("lanes") for _ in reduces]
        for stmt, array in zip(reduces, arrays, strict=True):
            self._line(f"{VALUE[stmt.dtype]} {array}[{LANES}];")
        places = by_name(reduces, [f"{a}[lane]" for a in arrays])
        every = f"for (long lane = 0; lane < {LANES}; lane++)"
        if reduces:
            with text.block(f"#pragma omp simd\n{every}"):
                self._start(reduces, places)
        *outer, axis = self._row_axes()
        span, name = self._span(axis, spans), self.kernel.axes[axis].name
        with ExitStack() as stack:
            for i in outer:
                whole = self._span(i, spans)
                self._loop(stack, i, whole.first, whole.last)
            header = f"for (long at = {span.first}; at < {span.last}; at += {LANES})"
            stack.enter_context(text.block(header))
            rest = f"{span.last} - at"
            count = f"{rest} < {LANES} ? {rest} : {LANES}" if span.unit % LANES else str(LANES)
            self._line(f"const long lanes = {count};")
            for line in before:
                self._line(line)
            first = [f"const long {name} = at + lane;"]
            header = "#pragma omp simd\nfor (long lane = 0; lane < lanes; lane++)"
            with text.block(header, (axis,), first):
                yield places
            for line in after:
                self._line(line)
        for stmt, total in zip(reduces, names, strict=True):
            with text.block(f"{_simd([stmt], [total])}\n{every}"):
                self._line(combine(stmt.op, stmt.dtype, total, places[stmt.name]))


def has_position(stmts: Sequence[loop.Stmt]) -> bool:
    """True when a position is searched for: no loop that does is vectorized."""
    return any(isinstance(s, loop.Reduce) and s.op.startswith("arg") for s in stmts)


def _simd(reduces: Sequence[loop.Reduce], names: Sequence[str]) -> str:
    """The pragma of a vectorized loop that adds up to these names."""
    clauses = [
        f" reduction({clause(s.op, s.dtype)}: {n})"
        for s, n in zip(reduces, names, strict=True)
        if not s.op.startswith("arg")
    ]
    return f"#pragma omp simd{''.join(clauses)}"

"""Loops and statements of one kernel: what every schedule is put together from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple, TypeGuard

from graphc.codegen.native.body import Body, flat_index, pointers
from graphc.codegen.native.spelling import SUFFIX, VALUE, combine, literal
from graphc.codegen.native.text import KernelText, Place
from graphc.ir import loop
from graphc.ir.loop import Kernel
from graphc.ir.ops.reduce import neutral


class Span(NamedTuple):
    """A part of an axis, from `first` to before `last`; its length is a multiple of `unit`."""

    first: str
    last: str
    unit: int


class Nest:
    """One kernel being spelled out, function after function."""

    def __init__(self, kernel: Kernel, place: Place) -> None:
        self.kernel = kernel
        self.place = place
        self.result = KernelText()
        self.body = self._new_body()

    # -- reductions

    def _total(self, stmt: loop.Reduce) -> str:
        """The declaration of a reduction's total."""
        name = self.body.text.fresh(stmt.op)
        if stmt.op.startswith("arg"):
            dtype = stmt.value.dtype
            first = literal(neutral(stmt.op[3:], dtype), dtype)
            self._line(f"{VALUE[dtype]} {name}_value = {first};")
            self._line(f"{VALUE[stmt.dtype]} {name} = 0;")
        else:
            first = literal(neutral(stmt.op, stmt.dtype), stmt.dtype)
            self._line(f"{VALUE[stmt.dtype]} {name} = {first};")
        return name

    def _run(self, reduces: Sequence[loop.Reduce], most: int) -> tuple[int, int] | None:
        """The reduce axis and the step in which a long sum is added up in runs of about `most`.

        The rounding error of a plain sum grows with its length, of one in runs with that of a
        run (Higham, "The accuracy of floating point summation", 1993).
        """
        axes = [i for i in self.kernel.reduced if self.kernel.sizes[i] > 1]
        extent = math.prod(self.kernel.sizes[i] for i in axes)
        sums = any(s.op == "sum" and s.dtype.is_floating for s in reduces)
        if not sums or extent <= 2 * most or any(s.op.startswith("arg") for s in reduces):
            return None
        step = max(1, most // (extent // self.kernel.sizes[axes[0]]))
        return (axes[0], step) if step < self.kernel.sizes[axes[0]] else None

    def _span(self, axis: int, spans: Mapping[int, Span]) -> Span:
        """The part of an axis that is walked, by default all of it."""
        size = self.kernel.sizes[axis]
        return spans.get(axis, Span("0", str(size), size))

    def _reduce_loops(self, stack: ExitStack, spans: Mapping[int, Span] | None = None) -> None:
        """Loops over the reduce axes, none of them vectorized."""
        for i in self.kernel.reduced:
            span = self._span(i, spans or {})
            self._loop(stack, i, span.first, span.last)

    def _run_block(self, stack: ExitStack, axis: int, step: int) -> dict[int, Span]:
        """A loop over the runs of an axis; gives the span of one of them."""
        size = self.kernel.sizes[axis]
        end = f"start + {step}"
        stop = end if size % step == 0 else f"{end} < {size} ? {end} : {size}"
        header = f"for (long start = 0; start < {size}; start += {step})"
        stack.enter_context(self.body.text.block(header, (), [f"const long stop = {stop};"]))
        return {axis: Span("start", "stop", math.gcd(size, step))}

    def _start(self, reduces: Sequence[loop.Reduce | loop.Fold], places: Mapping[str, str]) -> None:
        """What the totals are before the first value."""
        for stmt in reduces:
            first = literal(neutral(stmt.op, stmt.dtype), stmt.dtype)
            self._line(f"{places[stmt.name]} = {first};")

    def _row_index(self) -> str:
        return flat_index(self.kernel, self.kernel.reduced)

    # -- statements

    def _statements(
        self,
        stmts: Iterable[loop.Stmt],
        totals: Mapping[str, str] | None = None,
        kept: Mapping[str, str] | None = None,
    ) -> None:
        for stmt in stmts:
            match stmt:
                case loop.Let(name) if kept and name in kept:
                    self._keep(stmt, f"{kept[name]}[{self._row_index()}]")
                case loop.Let():
                    self.body.let(stmt)
                case loop.Reduce() | loop.Fold() if totals is not None:
                    self._accumulate(stmt, totals[stmt.name])
                case loop.Store():
                    self.body.store(stmt)
                case _:
                    raise AssertionError(f"not in a loop nest: {stmt}")

    def _keep(self, stmt: loop.Let, element: str) -> None:
        """The first phase computes and keeps the value, the later ones read it."""
        text = self.body.text
        if stmt.name in text.blocks[0].names:
            text.blocks[-1].names[stmt.name] = element
            return
        name = text.fresh("kept")
        self._line(f"const {VALUE[stmt.value.dtype]} {name} = {self.body.value(stmt.value)};")
        self._line(f"{element} = {name};")
        text.blocks[-1].names[stmt.name] = name
        text.blocks[0].names[stmt.name] = element

    def _accumulate(self, stmt: loop.Reduce | loop.Fold, total: str) -> None:
        value = self.body.value(stmt.value)
        if not stmt.op.startswith("arg"):
            self._line(combine(stmt.op, stmt.dtype, total, value))
            return
        name = self.body.text.fresh("v")
        dtype = stmt.value.dtype
        self._line(f"const {VALUE[dtype]} {name} = {value};")
        before = {"argmax": "above", "argmin": "below"}[stmt.op]
        with self.body.text.block(f"if (gc_{before}_{SUFFIX[dtype]}({name}, {total}_value))"):
            self._line(f"{total}_value = {name};")
            self._line(f"{total} = {self._row_index()};")

    # -- loops

    def _share(
        self, stack: ExitStack, axes: Sequence[int], more: Sequence[tuple[str, int]] = ()
    ) -> int:
        """One loop from `first` to `last` over the axes (and what is named more) as one."""
        named = [(self.kernel.axes[i].name, self.kernel.sizes[i]) for i in axes]
        parts = [(n, size) for n, size in (*named, *more) if size > 1]
        extent = math.prod(size for _, size in parts)
        first = []
        if not parts:
            first = [f"const long {n} = 0;" for n, _ in more]
            stack.enter_context(
                self.body.text.block("for (long s = first; s < last; s++)", axes, first)
            )
            return 1
        if len(parts) == 1:
            name = parts[0][0]
            first += [f"const long {n} = 0;" for n, size in more if size == 1]
        else:
            name, rest = "s", extent
            for n, size in parts:
                rest //= size
                at = "s" if rest == 1 else f"s / {rest}"
                outermost = n == parts[0][0]
                first.append(f"const long {n} = {at}{'' if outermost else f' % {size}'};")
            first += [f"const long {n} = 0;" for n, size in more if size == 1]
        header = f"for (long {name} = first; {name} < last; {name}++)"
        stack.enter_context(self.body.text.block(header, axes, first))
        return extent

    def _loops(self, stack: ExitStack, axes: Sequence[int], simd: bool = True) -> None:
        """Loops over whole axes, the innermost vectorized."""
        for n, i in enumerate(axes):
            inner = simd and n == len(axes) - 1
            self._loop(
                stack, i, "0", str(self.kernel.sizes[i]), "#pragma omp simd\n" if inner else ""
            )

    def _loop(self, stack: ExitStack, axis: int, first: str, last: str, pragma: str = "") -> None:
        n = self.kernel.axes[axis].name
        header = f"{pragma}for (long {n} = {first}; {n} < {last}; {n}++)"
        stack.enter_context(self.body.text.block(header, (axis,)))

    # -- functions

    def _line(self, text: str) -> None:
        self.body.text.line(text)

    def _new_body(self) -> Body:
        return Body(self.kernel, self.place.names, self.place.buffers)

    def _finish(self, ending: str, extent: int, part: int) -> None:
        """The function with all lines so far, and its launch."""
        place, name = self.place, self.place.name + ending
        lines = self.body.text.blocks[0].lines
        lines = [*pointers(self.kernel, place, lines), *lines]
        header = f"GC_KERNEL void {name}(gc_buffers b, long first, long last) {{"
        self.result.functions.append("\n".join([header, *("    " + line for line in lines), "}"]))
        if extent > part:
            self.result.launches.append(f"GC_PARALLEL({name}, b, {extent}, {part});")
        else:
            self.result.launches.append(f"{name}(b, 0, {extent});")


def by_name(reduces: Sequence[loop.Reduce | loop.Fold], texts: Sequence[str]) -> dict[str, str]:
    return {s.name: text for s, text in zip(reduces, texts, strict=True)}


def is_let(stmt: loop.Stmt) -> TypeGuard[loop.Let]:
    return isinstance(stmt, loop.Let)

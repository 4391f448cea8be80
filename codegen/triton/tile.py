"""Tiles: how the axes of a kernel become index variables, and accesses become offsets and masks.

A `Dim` runs over a group of axes as one flat index, along one dimension of the tile or, without
one, as a scalar. An access whose strides follow the flat index costs no division: only axes that
an access tells apart are computed, by `//` and `%` with constants, where they are first used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from graphc.codegen.triton.names import Namer
from graphc.ir.loop import Axis, Guard, Linear

Lines: TypeAlias = "list[str | Lines]"


class Writer:
    """The lines of a function body. A placeholder is a list that may be filled later."""

    def __init__(self) -> None:
        self.lines: Lines = []
        self.depth = 1

    def line(self, text: str = "") -> None:
        """Append a line at the current depth."""
        self.lines.append("    " * self.depth + text if text else "")

    def place(self) -> Placeholder:
        """A point into which lines may be written later, at the present depth."""
        lines: Lines = []
        self.lines.append(lines)
        return Placeholder(lines, "    " * self.depth)

    @contextmanager
    def block(self, header: str) -> Iterator[None]:
        """A header line, and what is written inside one level deeper."""
        self.line(header)
        self.depth += 1
        yield
        self.depth -= 1

    def text(self) -> str:
        """All lines."""
        return "\n".join(_flatten(self.lines))


def _flatten(lines: Lines) -> Iterator[str]:
    for item in lines:
        if isinstance(item, str):
            yield item
        else:
            yield from _flatten(item)


@dataclass(frozen=True)
class Placeholder:
    """Where definitions of index variables go."""

    lines: Lines
    indent: str

    def line(self, text: str) -> None:
        """Append a line here."""
        self.lines.append(self.indent + text)


@dataclass(eq=False)
class Dim:
    """Some axes of the kernel, outermost first, walked as one flat index.

    `flat` is the index variable's name, `mask` that of the condition that it is in range (None:
    it always is), `size` the number of positions, `width` the tile's extent, by name or number;
    `place` is where its axes are defined.
    """

    axes: tuple[int, ...]
    size: int
    flat: str
    place: Placeholder
    width: str | None = None  # None: a scalar
    mask: str | None = None
    known: dict[tuple[int, int], str] = field(default_factory=dict)


class Tile:
    """The dims of one piece of straight-line code; the tiled ones in the tile's order."""

    def __init__(self, axes: Sequence[Axis], dims: Sequence[Dim], namer: Namer, wide: bool) -> None:
        self.axes = axes
        self.dims = tuple(dims)
        self.tiled = tuple(d for d in dims if d.width is not None)
        self.namer = namer
        self.wide = wide  # index arithmetic needs 64 bits
        self.rank = len(self.tiled)

    # -- index variables

    def terms(self, strides: Sequence[int]) -> Iterator[tuple[Dim, str]]:
        """The summands of the linear function with these strides, each with its dim."""
        for dim in self.dims:
            for start, stop, stride in self._runs(dim, strides):
                name = self._index(dim, start, stop)
                yield dim, name if stride == 1 else f"{stride} * {name}"

    def _runs(self, dim: Dim, strides: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """Maximal groups start..stop of the dim's axes that one index walks; their stride."""
        stop = len(dim.axes)
        while stop > 0:
            stride = strides[dim.axes[stop - 1]]
            start, follow = stop - 1, stride * self._size(dim, stop - 1)
            while start > 0 and (strides[dim.axes[start - 1]] == follow):
                start -= 1
                follow *= self._size(dim, start)
            if stride:
                yield start, stop, stride
            stop = start

    def _size(self, dim: Dim, position: int) -> int:
        return self.axes[dim.axes[position]].size

    def _index(self, dim: Dim, start: int, stop: int) -> str:
        """The variable of the axes start..stop of the dim as one index."""
        if start == 0 and stop == len(dim.axes):
            return dim.flat
        if (start, stop) not in dim.known:
            inner = math.prod(self._size(dim, i) for i in range(stop, len(dim.axes)))
            own = math.prod(self._size(dim, i) for i in range(start, stop))
            text = dim.flat if inner == 1 else f"{dim.flat} // {inner}"
            if start > 0:
                text = f"{text} % {own}" if inner == 1 else f"({text}) % {own}"
            names = [self.axes[i].name for i in dim.axes[start:stop]]
            name = self.namer.fresh("_".join(names))
            dim.place.line(f"{name} = {text}")
            dim.known[(start, stop)] = name
        return dim.known[(start, stop)]

    # -- linear functions and conditions

    def linear(self, value: Linear) -> tuple[str, frozenset[int]]:
        """The text of the function, and the tile's dims along which it varies."""
        terms, dims = [], set()
        for dim, text in self.terms(value.strides):
            terms.append(text)
            if dim.width is not None:
                dims.add(self.tiled.index(dim))
        if value.offset or not terms:
            terms.append(str(value.offset))
        return " + ".join(terms).replace("+ -", "- "), frozenset(dims)

    def bounds(self, value: Linear) -> tuple[int, int]:
        """The least and the greatest value over the kernel's axes."""
        ends = [s * (a.size - 1) for s, a in zip(value.strides, self.axes, strict=True)]
        low = value.offset + sum(e for e in ends if e < 0)
        return low, value.offset + sum(e for e in ends if e > 0)

    def conditions(self, guard: Guard) -> Iterator[tuple[str, frozenset[int]]]:
        """What must hold for the guard, without what always holds."""
        text, dims = self.linear(guard.value)
        low, high = self.bounds(guard.value)
        if low < 0:
            yield f"({text} >= 0)", dims
        if high >= guard.size * guard.step:
            yield f"({text} < {guard.size * guard.step})", dims
        step = math.gcd(guard.step, guard.value.offset, *guard.value.strides)
        if step != guard.step:
            yield f"(({text}) % {guard.step} == 0)", dims

    def masks(self, dims: frozenset[int]) -> list[str]:
        """The masks of the tile's dims (scalar dims are never out of range)."""
        return [m for i in sorted(dims) if (m := self.tiled[i].mask) is not None]

    def shape(self, dims: frozenset[int] | None = None) -> str:
        """The tile's shape, 1 along dims not named."""
        widths = [
            str(d.width) if dims is None or i in dims else "1" for i, d in enumerate(self.tiled)
        ]
        return f"[{', '.join(widths)}]"

    @property
    def every(self) -> frozenset[int]:
        """All dims of the tile."""
        return frozenset(range(self.rank))

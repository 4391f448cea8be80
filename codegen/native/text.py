"""The text of a function while it grows: blocks that nest, and what is known in each.

A block knows which axes it has a value for. What does not depend on the axes of an inner block
is computed in an outer one, before the inner one begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from graphc.ir.loop import Buffer, Expr


@dataclass
class KernelText:
    """Functions, and the lines that launch them; scratch bytes that they share in turn."""

    functions: list[str] = field(default_factory=list)
    launches: list[str] = field(default_factory=list)
    scratch_bytes: int = 0


class Place(NamedTuple):
    """Where a kernel is spelled out: its name, and the table of buffers that it is given."""

    name: str
    names: Mapping[str, str]
    slots: Mapping[str, int]
    buffers: Mapping[str, Buffer]
    kept: int = 0  # the slot of memory that stays from run to run


@dataclass
class Block:
    """Lines, the axes that have values here, and the names and loads known here."""

    axes: frozenset[int]
    lines: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    loads: dict[Expr, str] = field(default_factory=dict)


class Text:
    """Nested blocks, innermost last."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.blocks = [Block(frozenset())]
        self._taken = set(taken)
        self._count = 0

    def line(self, text: str) -> None:
        """A line in the innermost block."""
        self.blocks[-1].lines.append(text)

    def fresh(self, base: str) -> str:
        """A name not used before."""
        self._count += 1
        while f"{base}_{self._count}" in self._taken:
            self._count += 1
        return f"{base}_{self._count}"

    @contextmanager
    def block(
        self, header: str, axes: Sequence[int] = (), first: Sequence[str] = ()
    ) -> Iterator[None]:
        """A block in braces inside the innermost one; `first` are its first lines."""
        outer = self.blocks[-1]
        self.blocks.append(Block(outer.axes | frozenset(axes), list(first)))
        yield
        inner = self.blocks.pop()
        outer.lines += [*header.split("\n")[:-1], f"{header.split(chr(10))[-1]} {{"]
        outer.lines += ["    " + line for line in inner.lines]
        outer.lines.append("}")

    def level(self, axes: frozenset[int], names: Iterable[str] = ()) -> int:
        """The outermost block in which these axes have values and these names are known."""
        known = max((self._level_of(n) for n in names), default=0)
        for i, block in enumerate(self.blocks):
            if i >= known and axes <= block.axes:
                return i
        raise AssertionError(f"no block has the axes {sorted(axes)}")

    def _level_of(self, name: str) -> int:
        for i in reversed(range(len(self.blocks))):
            if name in self.blocks[i].names:
                return i
        raise AssertionError(f"{name} is not known here")

    def name(self, name: str) -> str:
        """The text of a value of the kernel."""
        return self.blocks[self._level_of(name)].names[name]

    def known_load(self, expr: Expr) -> str | None:
        """The name under which an element was loaded before."""
        return next((b.loads[expr] for b in reversed(self.blocks) if expr in b.loads), None)

"""The text of a kernel while it grows, and the point of the loops at which it grows.

A kernel has lines that run once, when the program is loaded (`bound`), and the lines of a
launch. Inside loops an array stands for the part of it at which the loops are. What threads do
side by side are functions of their own, `walks`, with registers of each thread's own (`own`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from graphc.ir.loop import Kernel, Program


class Frame:
    """Lines of text, fresh names, and the loops that are open.

    `outer` are axes walked one by one, `tile` the axis walked in steps and the step.
    """

    def __init__(self, kernel: Kernel, program: Program, arguments: Sequence[str]) -> None:
        self.kernel = kernel
        self.program = program
        self.arguments = tuple(arguments)
        self.sizes = kernel.sizes
        self.scope = kernel.scopes
        self.bound: list[str] = []
        self.lines: list[str] = []
        self.own: list[str] = []
        self.walks: list[list[str]] = []
        self.in_walk = False
        self.outer: tuple[int, ...] = ()
        self.tile: tuple[int, int] | None = None
        self._indent = ""
        self._counter = 0
        self._parts: dict[str, str] = {}

    # -- text

    def new(self, prefix: str) -> str:
        """A name not used before."""
        self._counter += 1
        return f"{prefix}{self._counter}_"

    def line(self, text: str) -> None:
        """A line of the launch."""
        self.lines.append(self._indent + text)

    def flat(self, buffer: str) -> str:
        """The flat array of a buffer: an argument of the launch, or fixed."""
        return buffer if buffer in self.arguments else f'mem["{buffer}"]'

    # -- walks

    @property
    def section(self) -> int:
        """Tells walks from each other and from the launch: views of arguments are made in each."""
        return len(self.walks) + 1 if self.in_walk else 0

    @contextmanager
    def walk(self, over_chunks: bool = False) -> Iterator[None]:
        """Inside, lines are those of a function over a range that threads share: of loops, or of
        chunks."""
        launch, self.lines, self.in_walk = self.lines, [], True
        if over_chunks:
            self._open("for chunk in range(first, last):")
        yield
        self.walks.append(self.lines)
        self.lines, self.in_walk, self._indent = launch, False, ""
        self.line(f"run{len(self.walks) - 1}({', '.join(self.arguments)})")

    # -- loops

    @property
    def in_loop(self) -> bool:
        """True inside `loops`."""
        return bool(self._indent)

    @contextmanager
    def loops(
        self, tile: tuple[int, int], outer: Sequence[int] = (), chunk: int = 0
    ) -> Iterator[None]:
        """Loops over the outer axes, then over the tiles; the first over the walk's range, or the
        only one over a chunk. Back to whole arrays after them."""
        self.outer, self.tile = tuple(outer), tile
        axis, size = tile
        shared = "" if chunk else "first, last"
        for i in self.outer:
            self._open(f"for p{i} in range({shared or self.sizes[i]}):")
            shared = ""
        end = "last" if shared else str(self.sizes[axis])
        first = f"chunk * {chunk}, min(chunk * {chunk} + {chunk}, {end})" if chunk else f"0, {end}"
        self._open(f"for lo in range({shared or first}, {size}):")
        self.line(f"hi = min(lo + {size}, {end})")
        yield
        self._indent, self.outer, self.tile = "", (), None
        self._parts.clear()

    def _open(self, header: str) -> None:
        self.line(header)
        self._indent += "    "

    # -- parts of arrays

    def part(self, name: str, span: frozenset[int]) -> str:
        """The part of an array over `span` at which the loops are."""
        if self.tile is None or not self.in_loop:
            return name
        subscripts = [self._subscript(i) if i in span else ":" for i in range(len(self.sizes))]
        if all(s == ":" for s in subscripts):
            return name
        return self._named_part(f"{name}[{', '.join(subscripts)}]")

    def _subscript(self, axis: int) -> str:
        if axis in self.outer:
            return f"p{axis}:p{axis} + 1"
        return "lo:hi" if self.tile and axis == self.tile[0] else ":"

    def trimmed(self, name: str, span: frozenset[int]) -> str:
        """The part of a tile's register that the last, smaller tile takes."""
        if not self.in_loop or self.tile is None or self.tile[0] not in span:
            return name
        axis, size = self.tile
        if self.sizes[axis] % size == 0:
            return name
        return self._named_part(f"{name}[{', '.join([':'] * axis + [':hi - lo'])}]")

    def _named_part(self, text: str) -> str:
        if text not in self._parts:
            self._parts[text] = self.new("u")
            self.line(f"{self._parts[text]} = {text}")
        return self._parts[text]

    def shape(self, span: frozenset[int]) -> tuple[int, ...]:
        """The shape of a value over `span`: whole, or of a tile."""
        shape = [n if i in span else 1 for i, n in enumerate(self.sizes)]
        if self.in_loop and self.tile is not None:
            axis, size = self.tile
            shape[axis] = min(size, shape[axis])
            for i in self.outer:
                shape[i] = 1
        return tuple(shape)

    def shape_text(self, span: frozenset[int]) -> str:
        """The same as text, exact in the last tile."""
        extents = [str(n) for n in self.shape(span)]
        if self.in_loop and self.tile is not None and self.tile[0] in span:
            extents[self.tile[0]] = "hi - lo"
        return "(" + "".join(e + ", " for e in extents) + ")"

    # -- facts

    def overlap(self, a: str, b: str) -> bool:
        """True when the two buffers may share memory."""
        plan, buffers = self.program.plan, self.program.buffers
        if a == b:
            return True
        if plan is None or a not in plan.offsets or b not in plan.offsets:
            return False
        first, second = plan.offsets[a], plan.offsets[b]
        return first < second + buffers[b].nbytes and second < first + buffers[a].nbytes

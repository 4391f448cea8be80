"""One emitted function: its names, parameters and the dims of its tile."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from graphc.codegen.triton.body import Body, Term, titles_of
from graphc.codegen.triton.launch import Options, Workspace
from graphc.codegen.triton.names import Namer
from graphc.codegen.triton.tile import Dim, Tile, Writer
from graphc.ir import loop
from graphc.ir.loop import Buffer, Kernel, Linear

_LIMIT = 2**31 - 2**20  # lanes beyond the end may compute offsets somewhat larger


class Function:
    """What is being written, for one kernel. `is_part`: the program's number is a parameter."""

    def __init__(
        self, kernel: Kernel, buffers: Mapping[str, Buffer], options: Options, is_part: bool = False
    ) -> None:
        self.kernel = kernel
        self.buffers = buffers
        self.options = options
        self.is_part = is_part
        self.writer = Writer()
        self.namer = Namer()
        self.arguments = list(dict.fromkeys((*kernel.inputs, *kernel.outputs)))
        self.namer.taken.update(f"p_{n}" for n in self.arguments)
        self.titles = titles_of(kernel, buffers)
        self.wide = needs_wide_index(kernel, buffers)
        if self.wide or not is_part:
            source = "pid" if is_part else "tl.program_id(0)"
            self.writer.line(f"pid = {source}{'.to(tl.int64)' if self.wide else ''}")

    def title(self, stmt: loop.Reduce | loop.Fold) -> str:
        """What the result of a reduction is called."""
        return self.titles.get(stmt.name, f"row_{stmt.op}")

    def workspace(self, space: Workspace) -> None:
        """Add a workspace to the parameters."""
        if space.name not in self.arguments:
            self.arguments.append(space.name)
            self.namer.taken.add(f"p_{space.name}")

    def size(self, axes: Sequence[int]) -> int:
        """Positions of these axes together."""
        return math.prod(self.kernel.axes[i].size for i in axes)

    def constant(self, name: str, value: int) -> str:
        """A block size, as a named constant of the function."""
        name = self.namer.structure(name)
        self.writer.line(f"{name}: tl.constexpr = {value}")
        return name

    def scalar_dim(self, axes: Sequence[int], name: str, value: str) -> Dim:
        """Axes walked by a scalar."""
        if axes:
            name = self.namer.structure(name)
            self.writer.line(f"{name} = {value}")
        return Dim(tuple(axes), self.size(axes), name, self.writer.place())

    def tiled_dim(
        self, axes: Sequence[int], name: str, start: str, width: str, block: int,
        side: str = "", reach: int | None = None,
    ) -> Dim:  # fmt: skip
        """Axes walked by `start + arange(width)`; `side` turns it to a row or column of a tile.

        `block` is the width's value; a mask is made unless the blocks fill the size exactly
        (`reach` is where they end, if not with the last one that the size needs).
        """
        size = self.size(axes)
        name = self.namer.structure(name)
        lead = "" if start == "0" else f"{start} + "
        arange = f"tl.arange(0, {width})"
        if self.wide:
            arange += ".to(tl.int64)"
        self.writer.line(f"{name} = {lead}{arange}{side}")
        mask = None
        if size != (blocks(size, block) * block if reach is None else reach):
            mask = self.namer.structure(f"{name}_mask")
            self.writer.line(f"{mask} = {name} < {size}")
        return Dim(tuple(axes), size, name, self.writer.place(), width, mask)

    def tile(self, *dims: Dim) -> Tile:
        """A tile over these dims."""
        return Tile(self.kernel.axes, dims, self.namer, self.wide)

    def body(self, tile: Tile, names: Mapping[str, Term] | None = None) -> Body:
        """A scope over the tile, with the values of the scope around it."""
        return Body(self.writer, tile, self.namer, self.buffers, names, self.titles)

    def text(self, name: str) -> str:
        """The whole function."""
        parameters = [f"p_{a}" for a in self.arguments]
        if self.is_part:
            parameters.insert(0, "pid")
        signature = f"def {name}({', '.join(parameters)}):"
        if len(signature) > 96:
            signature = f"def {name}(\n    {', '.join(parameters)}\n):"
        body = self.writer.text()
        return f"@triton.jit\n{signature}\n{body}\n"


def needs_wide_index(kernel: Kernel, buffers: Mapping[str, Buffer]) -> bool:
    """True when an offset may not fit into 32 bits."""
    names = (*kernel.inputs, *kernel.outputs)
    largest = max((buffers[n].size for n in names), default=0)
    return max(largest, kernel.space, *map(_reach(kernel), _linears(kernel)), 0) > _LIMIT


def _reach(kernel: Kernel) -> Callable[[Linear], int]:
    def reach(value: Linear) -> int:
        ends = zip(value.strides, kernel.axes, strict=True)
        return abs(value.offset) + sum(abs(s) * (a.size - 1) for s, a in ends)

    return reach


def _linears(kernel: Kernel) -> Iterator[Linear]:
    """Every affine function that the kernel computes."""
    for stmt in kernel.body:
        parts = [e for x in stmt.exprs for e in loop.walk(x)]
        yield from (e.value for e in parts if isinstance(e, loop.Index))
        found = [a for x in stmt.exprs for a in loop.accesses(x)]
        found += [stmt.access] if isinstance(stmt, loop.Store) else []
        for access in found:
            yield Linear(access.strides, access.offset)
            yield from (g.value for g in access.guards)


def pow2(number: int) -> int:
    """The least power of two that is not below `number`."""
    return 1 << max(0, number - 1).bit_length()


def blocks(size: int, block: int) -> int:
    """How many blocks cover the size."""
    return -(-size // block)


def stores_of(kernel: Kernel) -> list[loop.Store]:
    """The kernel's stores."""
    return [s for s in kernel.body if isinstance(s, loop.Store)]

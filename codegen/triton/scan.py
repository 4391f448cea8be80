"""Running sums and products: each program walks some rows, and carries totals from step to step.

A row is a line along the axis. Where lines lie side by side in memory, neighbouring lanes take
neighbouring lines; else neighbouring elements of one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from graphc.codegen.triton.function import blocks, pow2
from graphc.codegen.triton.launch import Emitted, Options, Stage
from graphc.codegen.triton.names import triton_type
from graphc.ir import loop
from graphc.ir.dtypes import DType, bfloat16, float16, float32, float64, int32, int64
from graphc.ir.loop import Buffer

_DTYPES: Final = frozenset({float16, bfloat16, float32, float64, int32, int64})
_LANES: Final = 2048  # of a tile
_STEP: Final = 1024  # elements of a line in one step
_STEP_ACROSS: Final = 64  # the same where lanes run across lines
# Per op: what computes a step, what adds the steps before, and what nothing amounts to.
_SCANS: Final[Mapping[str, tuple[str, str, int]]] = {
    "cumsum": ("tl.cumsum", "+", 0), "cumprod": ("tl.cumprod", "*", 1),
}  # fmt: skip


def emit_scan(
    stmt: loop.Call, name: str, buffers: Mapping[str, Buffer], options: Options
) -> Emitted | None:
    """The call as one kernel; None for another routine, or where none takes it."""
    del options
    source, target = (buffers[n] for n in (*stmt.inputs[:1], *stmt.outputs[:1]))
    if stmt.op not in _SCANS or source.dtype not in _DTYPES:
        return None
    attrs = dict(stmt.attrs)
    (shape,) = attrs["shapes"]
    axis = attrs["axis"] % len(shape)
    lines = _Lines(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
    arguments = (source.name, target.name)
    head = ["@triton.jit", f"def {name}({', '.join(f'p_{n}' for n in arguments)}):"]
    body = _body(stmt.op, lines, source.dtype, arguments, attrs["exclusive"], attrs["reverse"])
    text = "\n".join([*head, *("    " + line for line in body)]) + "\n"
    return text, (Stage(name, blocks(lines.count, lines.width), arguments),)


@dataclass(frozen=True, slots=True)
class _Lines:
    """A dense array as lines along an axis: [lead, length, tail]."""

    lead: int
    length: int
    tail: int

    @property
    def count(self) -> int:
        """How many."""
        return self.lead * self.tail

    @property
    def step(self) -> int:
        """Elements of a line in one step."""
        return min(pow2(self.length), _STEP if self.tail == 1 else _STEP_ACROSS)

    @property
    def width(self) -> int:
        """Lines of one program."""
        return min(pow2(self.count), max(1, _LANES // self.step))


def _body(
    op: str, lines: _Lines, dtype: DType, arguments: tuple[str, str], exclusive: bool, reverse: bool
) -> list[str]:
    scan, combine, nothing = _SCANS[op]
    source, target = arguments
    along, across = ("[None, :]", "[:, None]") if lines.tail == 1 else ("[:, None]", "[None, :]")
    axis, one = (1, "[WIDTH, 1]") if lines.tail == 1 else (0, "[1, WIDTH]")
    wide = triton_type(dtype.compute)
    read = "at - 1" if exclusive else "at"
    there = f"(line < {lines.count}) & (at < {lines.length})"
    known = f"{there} & (at > 0)" if exclusive else there
    return [
        f"STEP: tl.constexpr = {lines.step}",
        f"WIDTH: tl.constexpr = {lines.width}",
        "pid = tl.program_id(0).to(tl.int64)",
        f"line = (pid * WIDTH + tl.arange(0, WIDTH)){across}",
        f"base = line // {lines.tail} * {lines.length * lines.tail} + line % {lines.tail}",
        f"total = tl.full({one}, {nothing}, {wide})",
        f"for start in range(0, {lines.length}, STEP):",
        f"    at = start + tl.arange(0, STEP){along}",
        f"    place = p_{source} + base + {_place(read, lines, reverse)}",
        f"    x = tl.load(place, mask={known}, other={nothing}).to({wide})",
        f"    x = {scan}(x, {axis}) {combine} total",
        f"    place = p_{target} + base + {_place('at', lines, reverse)}",
        f"    tl.store(place, x.to({triton_type(dtype)}), mask={there})",
        # the last element's: another way of adding would end elsewhere by some rounding
        f"    total = tl.sum(tl.where(at == start + STEP - 1, x, 0), {axis}, keep_dims=True)",
    ]


def _place(at: str, lines: _Lines, reverse: bool) -> str:
    """Where the element at this position of a line lies, from the line's first on."""
    position = f"({lines.length - 1} - ({at}))" if reverse else f"({at})"
    return f"{position} * {lines.tail}"


__all__ = ["emit_scan"]

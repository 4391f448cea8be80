"""Attention as Triton kernels: blocks of rows by keys, with sums carried from block to block.

One function forward; backward one for the gradient of q, over blocks of rows, and one for those
of k and v, over blocks of keys: every sum has one program, and so the same order at each run.
Exponentials are powers of 2. (Dao et al., "FlashAttention-2", 2023.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from graphc.codegen.triton.function import blocks, pow2
from graphc.codegen.triton.launch import Emitted, Options, Stage
from graphc.ir import loop
from graphc.ir.attention import scale_of
from graphc.ir.dtypes import DType, bfloat16, bool_, float16, float32
from graphc.ir.loop import Buffer

FORWARD: Final = "scaled_dot_product_attention"
BACKWARD: Final = "scaled_dot_product_attention_grad"
MOST_DEPTH: Final = 256  # of q and v, of which a block is held in registers
_DTYPES: Final = (float32, float16, bfloat16)
_LOG2E: Final = math.log2(math.e)


def emit_attention(
    stmt: loop.Call, name: str, buffers: Mapping[str, Buffer], options: Options
) -> Emitted | None:
    """The call as kernels named after it; None for another routine, or where none takes it."""
    if stmt.op not in (FORWARD, BACKWARD):
        return None
    call = _Call(stmt, name, buffers, options)
    if call.dtype not in _DTYPES or max(call.d, call.e) > MOST_DEPTH:
        return None
    return call.backward() if stmt.op == BACKWARD else call.forward()


@dataclass(frozen=True, slots=True)
class _Tile:
    """Rows by keys of one step, and the resources of a program."""

    rows: int
    keys: int
    num_warps: int
    num_stages: int


class _Call:
    """One call: its sizes, and the text of what all of its functions share."""

    def __init__(
        self, stmt: loop.Call, name: str, buffers: Mapping[str, Buffer], options: Options
    ) -> None:
        self.stmt, self.name, self.options = stmt, name, options
        attrs: Mapping[str, Any] = dict(stmt.attrs)
        self.shapes: Sequence[tuple[int, ...]] = attrs["shapes"]
        q, k, v = self.shapes[:3]
        self.heads, self.n, self.d = math.prod(q[:-2]), q[-2], q[-1]
        self.m, self.e = k[-2], v[-1]
        self.scale, self.causal = scale_of(attrs, self.d), attrs["causal"]
        self.dtype: DType = buffers[stmt.inputs[0]].dtype
        reads = 6 if stmt.op == BACKWARD else 3
        self.mask = stmt.inputs[reads] if len(stmt.inputs) > reads else None
        self.keeps = self.mask is not None and buffers[self.mask].dtype is bool_
        self.arguments = tuple(dict.fromkeys((*stmt.inputs, *stmt.outputs)))

    # -- the functions

    def forward(self) -> Emitted:
        """The result and the logarithms of the sums, a block of rows per program."""
        q, k, v, out, lse = self.pointers(3)
        tile = self.tile(forward=True)
        lines = [
            *self.head("row", self.n, tile.rows, tile),
            f"q = {self.load(q, 'row', self.n, 'd', self.d)}",
            "top = tl.full([ROWS], float('-inf'), tl.float32)",
            "total = tl.zeros([ROWS], tl.float32)",
            "acc = tl.zeros([ROWS, E], tl.float32)",
            f"for key0 in range(0, {self.keys_end()}, KEYS):",
            "    key = key0 + tl.arange(0, KEYS)",
            f"    k = {self.load(k, 'key', self.m, 'd', self.d, turned=True)}",
            *self.scores("q", "k"),
            "    most = tl.maximum(top, tl.max(s, 1))",
            "    shift = tl.where(most == float('-inf'), 0.0, most)",
            "    p = tl.exp2(s - shift[:, None])",
            "    less = tl.exp2(top - shift)",
            "    total = total * less + tl.sum(p, 1)",
            f"    v = {self.load(v, 'key', self.m, 'e', self.e)}",
            f"    acc = {self.dot(self.narrow('p'), 'v', 'acc * less[:, None]')}",
            "    top = most",
            "known = tl.where(top == float('-inf'), 0.0, top) + tl.log2(total)",
            f"tl.store({lse} + head * {self.n} + row, known * {1 / _LOG2E!r}, mask=row < {self.n})",
            "acc = acc / tl.where(total == 0.0, 1.0, total)[:, None]",
            self.store(out, "row", self.n, "e", self.e, "acc"),
        ]
        return self.function(self.name, lines), (self.stage(self.name, self.n, tile.rows, tile),)

    def backward(self) -> Emitted:
        """The gradient of q, then those of k and v."""
        tile = self.tile(forward=False)
        of_rows, of_keys = f"{self.name}_rows", f"{self.name}_keys"
        text = [self.function(of_rows, self.rows_grad(tile)),
                self.function(of_keys, self.keys_grad(tile))]  # fmt: skip
        stages = (self.stage(of_rows, self.n, tile.rows, tile),
                  self.stage(of_keys, self.m, tile.keys, tile))  # fmt: skip
        return "\n\n".join(text), tuple(s for s in stages if s.grid)

    def rows_grad(self, tile: _Tile) -> list[str]:
        q, k, v, g, lse, delta, dq, *_ = self.pointers(6)
        return [
            *self.head("row", self.n, tile.rows, tile),
            f"q = {self.load(q, 'row', self.n, 'd', self.d)}",
            f"g = {self.load(g, 'row', self.n, 'e', self.e)}",
            *self.sums(lse, delta),
            "acc = tl.zeros([ROWS, D], tl.float32)",
            f"for key0 in range(0, {self.keys_end()}, KEYS):",
            "    key = key0 + tl.arange(0, KEYS)",
            f"    k = {self.load(k, 'key', self.m, 'd', self.d)}",
            f"    v = {self.load(v, 'key', self.m, 'e', self.e, turned=True)}",
            *self.scores("q", "tl.trans(k)"),
            "    p = tl.exp2(s - known[:, None])",
            f"    ds = p * ({self.dot('g', 'v')} - delta[:, None])",
            f"    acc = {self.dot(self.narrow('ds'), 'k', 'acc')}",
            self.store(dq, "row", self.n, "d", self.d, f"acc * {self.scale!r}"),
        ]

    def keys_grad(self, tile: _Tile) -> list[str]:
        q, k, v, g, lse, delta, _, dk, dv = self.pointers(6)
        start = "key0 // ROWS * ROWS" if self.causal else "0"
        return [
            *self.head("key", self.m, tile.keys, tile),
            f"k = {self.load(k, 'key', self.m, 'd', self.d)}",
            f"v = {self.load(v, 'key', self.m, 'e', self.e)}",
            "k_acc = tl.zeros([KEYS, D], tl.float32)",
            "v_acc = tl.zeros([KEYS, E], tl.float32)",
            f"for row0 in range({start}, {self.n}, ROWS):",
            "    row = row0 + tl.arange(0, ROWS)",
            f"    q = {self.load(q, 'row', self.n, 'd', self.d)}",
            f"    g = {self.load(g, 'row', self.n, 'e', self.e)}",
            *("    " + line for line in self.sums(lse, delta)),
            *self.scores("q", "tl.trans(k)"),
            "    p = tl.exp2(s - known[:, None])",
            f"    ds = p * ({self.dot('g', 'tl.trans(v)')} - delta[:, None])",
            f"    v_acc = {self.dot('tl.trans(' + self.narrow('p') + ')', 'g', 'v_acc')}",
            f"    k_acc = {self.dot('tl.trans(' + self.narrow('ds') + ')', 'q', 'k_acc')}",
            self.store(dk, "key", self.m, "d", self.d, f"k_acc * {self.scale!r}"),
            self.store(dv, "key", self.m, "e", self.e, "v_acc"),
        ]

    # -- their parts

    def pointers(self, reads: int) -> list[str]:
        """Parameters of the inputs but for the mask, then of the outputs."""
        return [f"p_{n}" for n in (*self.stmt.inputs[:reads], *self.stmt.outputs)]

    def head(self, what: str, size: int, block: int, tile: _Tile) -> list[str]:
        """Which head, and which of its rows or keys."""
        count, name = max(blocks(size, block), 1), f"{what.upper()}S"
        return [
            f"ROWS: tl.constexpr = {tile.rows}",
            f"KEYS: tl.constexpr = {tile.keys}",
            f"D: tl.constexpr = {_width(self.d)}",
            f"E: tl.constexpr = {_width(self.e)}",
            "pid = tl.program_id(0)",
            f"head = (pid // {count}).to(tl.int64)",
            f"{what}0 = pid % {count} * {name}",
            f"{what} = {what}0 + tl.arange(0, {name})",
            "d = tl.arange(0, D)",
            "e = tl.arange(0, E)",
        ]

    def load(
        self, pointer: str, what: str, size: int, along: str, width: int, turned: bool = False
    ) -> str:
        """A block of a head's matrix, 0 beyond its ends; `turned` with what is along it first."""
        at, inside = self.place(pointer, what, size, along, width, turned)
        text = f"tl.load({at}, mask={inside}, other=0.0)"
        wide = self.options.interpret and self.dtype is bfloat16  # whose product is broken there
        return f"{text}.to(tl.float32)" if wide else text

    def store(self, pointer: str, what: str, size: int, along: str, width: int, value: str) -> str:
        at, inside = self.place(pointer, what, size, along, width, False)
        return f"tl.store({at}, ({value}).to(tl.{self.dtype.name}), mask={inside})"

    def place(
        self, pointer: str, what: str, size: int, along: str, width: int, turned: bool
    ) -> tuple[str, str]:
        row, column = (f"{what}[None, :]", f"{along}[:, None]") if turned else (
            f"{what}[:, None]", f"{along}[None, :]")  # fmt: skip
        at = f"{pointer} + head * {size * width} + {row} * {width} + {column}"
        return at, f"({row} < {size}) & ({column} < {width})"

    def keys_end(self) -> str:
        """Where the keys of a block of rows end."""
        return f"tl.minimum(row0 + ROWS, {self.m})" if self.causal else str(self.m)

    def scores(self, q: str, k: str) -> list[str]:
        """s, in powers of 2: -inf where a key is excluded, or beyond the last one."""
        lines = [f"s = {self.dot(q, k)} * {self.scale * _LOG2E!r}"]
        keep = f"(key[None, :] < {self.m})"
        if self.causal:
            keep += " & (key[None, :] <= row[:, None])"
        if self.mask is not None:
            loaded = f"tl.load({self.mask_place()}, mask={keep} & (row[:, None] < {self.n}), "
            if self.keeps:
                keep += f" & ({loaded}other=0) != 0)"
            else:
                lines.append(f"s += {loaded}other=0.0).to(tl.float32) * {_LOG2E!r}")
        return ["    " + line for line in (*lines, f"s = tl.where({keep}, s, float('-inf'))")]

    def mask_place(self) -> str:
        """The pointers to the mask's elements; along what it is broadcast, they stay."""
        shape = self.shapes[6 if self.stmt.op == BACKWARD else 3]
        lead = self.shapes[0][:-2]
        full = (1,) * (len(lead) + 2 - len(shape)) + tuple(shape)
        strides = [0 if size == 1 else math.prod(full[i + 1 :]) for i, size in enumerate(full)]
        terms = [f"p_{self.mask}"]
        for i, stride in enumerate(strides[:-2]):
            if stride:
                terms.append(f"head // {math.prod(lead[i + 1 :])} % {lead[i]} * {stride}")
        row = "row[:, None].to(tl.int64)" if math.prod(full[-2:]) >= 1 << 31 else "row[:, None]"
        return f"{' + '.join(terms)} + {row} * {strides[-2]} + key[None, :] * {strides[-1]}"

    def sums(self, lse: str, delta: str) -> list[str]:
        """`known`, in powers of 2 (inf where a row has no key), and `delta` of the rows."""
        at = f"head * {self.n} + row, mask=row < {self.n}, other=0.0"
        return [
            f"known = tl.load({lse} + {at})",
            f"known = tl.where(known == float('-inf'), float('inf'), known * {_LOG2E!r})",
            f"delta = tl.load({delta} + {at})",
        ]

    def dot(self, a: str, b: str, acc: str | None = None) -> str:
        given = f", {acc}" if acc else ""
        if self.dtype is not float32:
            return f"tl.dot({a}, {b}{given})"
        precision = "tf32" if self.options.tf32 else "ieee"
        return f'tl.dot({a}, {b}{given}, input_precision="{precision}")'

    def narrow(self, value: str) -> str:
        """A factor of the next product, as tensor cores take it."""
        wide = self.dtype is float32 or (self.options.interpret and self.dtype is bfloat16)
        return value if wide else f"{value}.to(tl.{self.dtype.name})"

    def tile(self, forward: bool) -> _Tile:
        """Blocks that fit into registers: two matrices of them forward, four backward."""
        depth = max(_width(self.d), _width(self.e))
        if self.dtype is float32:
            side = 32 if depth <= 64 else 16
            return _Tile(side, 32 if depth <= 64 else 16, 4, 1)
        if not forward and depth > 128:
            return _Tile(32, 32, 4, 1)
        if not forward:
            return _Tile(64, 64, 4, 2) if depth <= 64 else _Tile(64, 32, 8, 1)
        if depth <= 64:
            return _Tile(128, 64, 4, 3)
        return _Tile(128, 64, 8, 2) if depth <= 128 else _Tile(64, 32, 8, 2)

    def function(self, name: str, lines: Sequence[str]) -> str:
        parameters = ", ".join(f"p_{n}" for n in self.arguments)
        head = ["@triton.jit", f"def {name}({parameters}):"]
        return "\n".join([*head, *("    " + line for line in lines)]) + "\n"

    def stage(self, name: str, size: int, block: int, tile: _Tile) -> Stage:
        grid = self.heads * blocks(size, block)
        return Stage(name, grid, self.arguments, tile.num_warps, tile.num_stages)


def _width(depth: int) -> int:
    """A depth as products take it."""
    return max(16, pow2(depth))


__all__ = ["BACKWARD", "FORWARD", "MOST_DEPTH", "emit_attention"]

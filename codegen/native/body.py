"""Expressions and statements of the loop IR as C, at a point of the loops."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from graphc.codegen.expressions import bare, title
from graphc.codegen.native.spelling import (
    SUFFIX,
    VALUE,
    cast,
    literal,
    loaded,
    stored_type,
    to_store,
    wrapped,
)
from graphc.codegen.native.text import Place, Text
from graphc.ir import loop
from graphc.ir.dtypes import float32, int64
from graphc.ir.errors import UnsupportedOp
from graphc.ir.loop import Access, Axis, Buffer, Expr, Guard, Kernel, Linear
from graphc.ir.table import OPS

MOST_FILL: Final = 1 << 12  # elements of a constant array; GC_MOST_CHANNELS of graphc.h


class Body:
    """Spells out a kernel's statements; where depends on the blocks that are open in `text`."""

    def __init__(self, kernel: Kernel, names: Mapping[str, str], buffers: Mapping[str, Buffer]):
        self.kernel = kernel
        self.axes = kernel.axes
        self.names = names  # of buffers, in C
        self.buffers = buffers
        self.text = Text(names.values())
        self.scope = kernel.scopes
        parts = (e for s in kernel.body for x in s.exprs for e in loop.walk(x))
        named = (s for s in kernel.body if isinstance(s, (loop.Let, loop.Reduce)))
        self.named: dict[str, loop.Let | loop.Reduce] = {s.name: s for s in named}
        self.fills: dict[tuple[str, str, int], str] = {}
        self.uses = Counter(e for e in parts if isinstance(e, (loop.Load, loop.Gather)))

    # -- statements

    def let(self, stmt: loop.Let) -> None:
        """name = value, in the outermost block that has the axes on which it depends."""
        level = self.text.level(self.scope[stmt.name], loop.refs(stmt.value))
        value = self.value(stmt.value, level)
        block = self.text.blocks[level]
        if value.isidentifier():
            block.names[stmt.name] = value
            return
        name = self.text.fresh(title(stmt.value))
        block.lines.append(f"const {VALUE[stmt.value.dtype]} {name} = {bare(value)};")
        block.names[stmt.name] = name

    def store(self, stmt: loop.Store) -> None:
        """buffer[access] = value, where the guards hold."""
        dtype = self.buffers[stmt.access.buffer].dtype
        value = self.value(stmt.value)
        target, conditions = self.place(stmt.access)
        when = f"if ({' && '.join(conditions)}) " if conditions else ""
        self.text.line(f"{when}{target} = {bare(to_store(value, dtype))};")
        for block in self.text.blocks:  # what was loaded from there may have changed
            for expr in [e for e in block.loads if _reads(e, stmt.access.buffer)]:
                del block.loads[expr]

    # -- expressions

    def value(self, expr: Expr, level: int | None = None) -> str:
        """The text of a value, for use in the block of this level (the innermost)."""
        level = len(self.text.blocks) - 1 if level is None else level
        match expr:
            case loop.Load() | loop.Gather():
                return self._element(expr, level)
            case loop.Const(value, dtype):
                return literal(value, dtype)
            case loop.Index(value, dtype):
                return cast(f"({self.linear(value)})", int64, dtype)
            case loop.Ref(name):
                return self.text.name(name)
        return self._apply(expr, level)

    def _apply(self, expr: loop.Apply, level: int) -> str:
        if expr.op == "cast":
            (arg,) = expr.args
            return cast(self.value(arg, level), arg.dtype, expr.dtype)
        template = OPS[expr.op].spell.get("c")
        if template is None:
            raise UnsupportedOp(f"op {expr.op!r} has no spelling for C in the op table")
        if expr.op == "exp" and expr.dtype is float32 and self._is_at_most_zero(expr.args[0]):
            template = "gc_exp_below_f32({0})"
        texts = []
        for i, arg in enumerate(expr.args):
            text = self.value(arg, level)
            many = template.count(f"{{{i}}}") > 1
            texts.append(self._named(text, arg, level) if many else text)
        suffix = SUFFIX[expr.args[0].dtype]
        return wrapped(template.format(*texts, t=suffix, **dict(expr.attrs)), expr.dtype)

    def _is_at_most_zero(self, expr: Expr) -> bool:
        """Whether it is known to be, or to be NaN: the negative of a square or of a magnitude, and
        a value less the greatest of such values."""
        match self._defined(expr):
            case loop.Apply("negative", (value,)):
                value = self._defined(value)
                return isinstance(value, loop.Apply) and value.op in ("square", "abs")
            case loop.Apply("subtract", (value, loop.Ref(name))):
                match self.named.get(name):
                    case loop.Reduce(op="max", value=other):
                        return self._defined(other) == self._defined(value)
        return False

    def _defined(self, expr: Expr) -> Expr:
        """What a name stands for, where it is a let's."""
        stmt = self.named.get(expr.name) if isinstance(expr, loop.Ref) else None
        return self._defined(stmt.value) if isinstance(stmt, loop.Let) else expr

    def _named(self, text: str, expr: Expr, level: int) -> str:
        if text.isidentifier():
            return text
        name = self.text.fresh(title(expr))
        block = self.text.blocks[level]
        block.lines.append(f"const {VALUE[expr.dtype]} {name} = {bare(text)};")
        return name

    def _element(self, expr: loop.Load | loop.Gather, level: int) -> str:
        """An element of a buffer: as it stands where it is used once, else under a name."""
        known = self.text.known_load(expr)
        if known is not None:
            return known
        own = min(level, self.text.level(loop.axes_used(expr, self.scope), loop.refs(expr)))
        if isinstance(expr, loop.Gather):
            text = self._gather(expr, own)
        else:
            text = self._run(expr, own) or self._load(expr)
        if own == level and self.uses[expr] == 1:
            return text
        base = (expr.pieces[0] if isinstance(expr, loop.Load) else expr.access).buffer
        name = self.text.fresh(self.names[base])
        block = self.text.blocks[own]
        block.lines.append(f"const {VALUE[expr.dtype]} {name} = {bare(text)};")
        block.loads[expr] = name
        return name

    def _load(self, expr: loop.Load) -> str:
        """The first piece whose conditions hold, else the fill."""
        text = ""
        for piece in reversed(expr.pieces):
            place, conditions = self.place(piece)
            element = loaded(place, expr.dtype)
            rest = text or literal(expr.fill, expr.dtype)
            text = f"({' && '.join(conditions)} ? {element} : {rest})" if conditions else element
        return text

    def _run(self, expr: loop.Load, level: int) -> str | None:
        """The element of a run that starts where conditions say, once for a whole loop: loads
        with conditions inside of a vectorized loop would be many times as slow. None where an
        element's conditions are its own."""
        axis = self._loop_axis(level)
        stored = {stored_type(self.buffers[p.buffer].dtype) for p in expr.pieces}
        if axis is None or not any(p.guards for p in expr.pieces) or len(stored) != 1:
            return None
        if any(p.strides[axis] != 1 or p.divisor != 1 for p in expr.pieces):
            return None
        if any(g.value.strides[axis] for p in expr.pieces for g in p.guards):
            return None
        size, ctype, block = self.axes[axis].size, stored.pop(), self.text.blocks[level - 1]
        if size > MOST_FILL or (expr.fill != 0 and ctype != VALUE[expr.dtype]):
            return None
        run = ""
        for piece in reversed(expr.pieces):
            start = replace(piece, strides=zeroed(piece.strides, axis))
            place, conditions = self.place(start)
            rest = run or self.fill(ctype, expr, size)
            run = f"{' && '.join(conditions)} ? &{place} : {rest}" if conditions else f"&{place}"
        name = self.text.fresh("run")
        block.lines.append(f"const {ctype} *{name} = {run};")
        return loaded(f"{name}[{self.axes[axis].name}]", expr.dtype)

    def _loop_axis(self, level: int) -> int | None:
        """The axis of the loop that the block is, where it is one of a single axis."""
        blocks = self.text.blocks
        if level < 1 or level != len(blocks) - 1:
            return None
        added = blocks[level].axes - blocks[level - 1].axes
        return next(iter(added)) if len(added) == 1 else None

    def fill(self, ctype: str, expr: loop.Load, size: int) -> str:
        """A constant array of the load's fill, for what is not there."""
        fill = literal(expr.fill, expr.dtype)
        key = (ctype, fill, size)
        if key not in self.fills:
            name = self.fills[key] = self.text.fresh("fill")
            values = "" if expr.fill == 0 else f" = {{[0 ... {size - 1}] = {fill}}}"
            self.text.blocks[0].lines.append(f"static const {ctype} {name}[{size}]{values};")
        return self.fills[key]

    def _gather(self, expr: loop.Gather, level: int) -> str:
        """The element at a computed position; the fill where that is out of range."""
        index = self._named(self.value(expr.index, level), expr.index, level)
        at = index if expr.stride == 1 else f"{expr.stride} * {index}"
        place, conditions = self.place(expr.access, at)
        conditions.append(f"(uint64_t){index} < {expr.size}")
        element = loaded(place, expr.dtype)
        return f"({' && '.join(conditions)} ? {element} : {literal(expr.fill, expr.dtype)})"

    # -- places

    def place(self, access: Access, also: str = "") -> tuple[str, list[str]]:
        """The element of an access, and the conditions under which it is there."""
        conditions = [c for g in access.guards for c in self._conditions(g)]
        offset = self.linear(Linear(access.strides, access.offset))
        if access.divisor != 1:
            offset = f"({offset}) / {access.divisor}"
        if also:
            offset = also if offset == "0" else f"{offset} + {also}"
        return f"{self.names[access.buffer]}[{offset}]", list(dict.fromkeys(conditions))

    def linear(self, value: Linear) -> str:
        """`3 * i + j + 2`."""
        return linear_text(value, self.axes)

    def _conditions(self, guard: Guard) -> list[str]:
        """What of a guard does not hold everywhere."""
        low, high = bounds(guard.value, self.axes)
        text, most = self.linear(guard.value), guard.size * guard.step
        conditions = []
        if low < 0 and high >= most:
            conditions.append(f"(uint64_t)({text}) < {most}")
        elif low < 0:
            conditions.append(f"{text} >= 0")
        elif high >= most:
            conditions.append(f"{text} < {most}")
        if guard.step != 1:
            conditions.append(f"({text}) % {guard.step} == 0")
        return conditions


def linear_text(value: Linear, axes: Sequence[Axis]) -> str:
    """An affine function of the axes."""
    terms = []
    for axis, stride in zip(axes, value.strides, strict=True):
        if stride and axis.size > 1:
            terms.append(axis.name if stride == 1 else f"{stride} * {axis.name}")
    if value.offset or not terms:
        terms.append(str(value.offset))
    return " + ".join(terms).replace("+ -", "- ")


def bounds(value: Linear, axes: Sequence[Axis]) -> tuple[int, int]:
    """The least and the greatest value over all points."""
    ends = [s * (a.size - 1) for s, a in zip(value.strides, axes, strict=True)]
    low = value.offset + sum(min(e, 0) for e in ends)
    return low, value.offset + sum(max(e, 0) for e in ends)


def pointers(kernel: Kernel, place: Place, lines: Sequence[str]) -> list[str]:
    """The declarations of the buffers that lines of a kernel's function touch."""
    words = set(re.findall(r"[A-Za-z_]\w*", "\n".join(lines)))
    declared = []
    for name in dict.fromkeys((*kernel.inputs, *kernel.outputs)):
        if place.names[name] in words:
            const = "" if name in kernel.outputs else "const "
            ctype = stored_type(place.buffers[name].dtype)
            declared.append(f"{const}{ctype} *{place.names[name]} = b[{place.slots[name]}];")
    return declared


def zeroed(strides: Sequence[int], axis: int) -> tuple[int, ...]:
    """The strides without that of an axis."""
    return tuple(0 if i == axis else s for i, s in enumerate(strides))


def flat_index(kernel: Kernel, axes: Sequence[int]) -> str:
    """The row-major position over the axes."""
    terms, stride = [], 1
    for i in reversed(axes):
        if kernel.sizes[i] > 1:
            name = kernel.axes[i].name
            terms.append(name if stride == 1 else f"{stride} * {name}")
        stride *= kernel.sizes[i]
    return " + ".join(reversed(terms)) or "0"


def _reads(expr: Expr, buffer: str) -> bool:
    return any(a.buffer == buffer for a in loop.accesses(expr))

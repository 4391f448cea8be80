"""What a kernel does, whatever its buffers and values are called: its form.

    t = a[4*i + j] * 2; b[4*i + j] = t    and    u = c[4*i + j] * 2; d[4*i + j] = u

have one form where a and c, and b and d, have one type: what is spelled out for one of two such
kernels serves the other, with its buffers in the places of the first one's. Of a buffer, text may
depend on the dtype and the size alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple

from graphc.ir import loop
from graphc.ir.loop import Access, Buffer, Expr, Kernel, Linear, Stmt


class Form(NamedTuple):
    """`key` is equal for kernels that do the same, each on its own `buffers`, in this order."""

    key: Hashable
    buffers: tuple[str, ...]


def form_of(kernel: Kernel, buffers: Mapping[str, Buffer]) -> Form:
    """The form of a loop nest."""
    writer = _Writer(buffers)
    for stmt in kernel.body:
        writer.stmt(stmt)
    axes = tuple([(a.name, a.size, a.kind) for a in kernel.axes])
    return Form((axes, *writer.words), tuple(writer.buffers))


class _Writer:
    """Spells out statements as a flat list, in which each thing says how many follow it."""

    def __init__(self, buffers: Mapping[str, Buffer]) -> None:
        self.words: list[Hashable] = []
        self.buffers: dict[str, int] = {}
        self._known = buffers
        self._values: dict[str, int] = {}

    def stmt(self, stmt: Stmt) -> None:
        match stmt:
            case loop.Let(name, value):
                self.words.append("let")
                self.expr(value)
            case loop.Reduce(name, op, value, dtype) | loop.Fold(name, op, value, dtype):
                self.words += ("reduce" if isinstance(stmt, loop.Reduce) else "fold", op, dtype)
                self.expr(value)
            case loop.Dot(name, a, b, dtype):
                self.words += ("dot", dtype)
                self.expr(a)
                self.expr(b)
            case loop.Store(access, value):
                self.words.append("store")
                self.access(access)
                self.expr(value)
                return
            case _:
                raise AssertionError(f"not in a loop nest: {stmt}")
        self._values[name] = len(self._values)

    def expr(self, expr: Expr) -> None:
        words = self.words
        match expr:
            case loop.Load(pieces, dtype, fill):
                words += ("load", len(pieces), dtype, repr(fill))
                for piece in pieces:
                    self.access(piece)
            case loop.Gather(access, index, stride, size, dtype, fill):
                words += ("gather", stride, size, dtype, repr(fill))
                self.access(access)
                self.expr(index)
            case loop.Const(value, dtype):  # by its text: 0, 0.0, -0.0 and False are equal
                words += ("const", repr(value), dtype)
            case loop.Index(value, dtype):
                words += ("index", dtype, *_linear(value))
            case loop.Ref(name, dtype):
                words += ("ref", self._values[name], dtype)
            case loop.Apply(op, args, dtype, attrs):
                words += ("apply", op, len(args), dtype, repr(attrs))
                for arg in args:
                    self.expr(arg)

    def access(self, access: Access) -> None:
        name = access.buffer
        if name not in self.buffers:
            self.buffers[name] = len(self.buffers)
            buffer = self._known[name]
            self.words += (buffer.dtype, buffer.size)
        self.words += (self.buffers[name], access.strides, access.offset, access.divisor)
        self.words.append(tuple([(*_linear(g.value), g.size, g.step) for g in access.guards]))


def _linear(value: Linear) -> tuple[tuple[int, ...], int]:
    return value.strides, value.offset


__all__ = ["Form", "form_of"]

"""Dots: matrix products of views where strides allow it, of dense copies where they do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from graphc.codegen.numpy.frame import Frame
from graphc.codegen.numpy.loads import Loads
from graphc.codegen.numpy.registers import Operand, Registers
from graphc.codegen.numpy.values import Values
from graphc.ir import loop
from graphc.ir.dtypes import DType
from graphc.ir.loop import Access

# what tells a dense matrix from other registers: no axis of a kernel has these numbers
_MATRIX = frozenset({-1})
_PRODUCT = frozenset({-2})


class _Groups(NamedTuple):
    """The kernel's axes by what they are in a @ b: batch, rows of a, columns of b, inner."""

    batch: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    inner: tuple[int, ...]


class Dots:
    """Products as calls of `np.matmul` on [batch..., rows, columns]."""

    def __init__(self, frame: Frame, registers: Registers, loads: Loads, values: Values) -> None:
        self._frame = frame
        self._registers = registers
        self._loads = loads
        self._values = values

    def emit(self, stmt: loop.Dot, rest: Sequence[loop.Stmt]) -> Operand:
        """The product over the kernel's axes; `rest` are the statements that follow."""
        g = self._groups(stmt)
        a = self._matrix(stmt.a, stmt.dtype, g.batch, g.rows, g.inner)
        b = self._matrix(stmt.b, stmt.dtype, g.batch, g.inner, g.columns)
        target, product = self._stored(stmt, rest, g) or self._kept(stmt, g)
        self._frame.line(f"np.matmul({a}, {b}, {target})")
        return product

    def _groups(self, stmt: loop.Dot) -> _Groups:
        frame = self._frame
        inner = frame.kernel.reduced
        a, b = (loop.axes_used(e, frame.scope) - set(inner) for e in (stmt.a, stmt.b))
        return _Groups(tuple(sorted(a & b)), tuple(sorted(a - b)), tuple(sorted(b - a)), inner)

    # -- operands

    def _matrix(
        self,
        e: loop.Expr,
        dtype: DType,
        batch: Sequence[int],
        rows: Sequence[int],
        columns: Sequence[int],
    ) -> str:
        """The operand as [batch..., rows, columns]: a view where the strides allow it."""
        if isinstance(e, loop.Load) and e.is_plain and e.dtype is dtype:
            view = self._matrix_view(e.pieces[0], batch, rows, columns)
            if view is not None:
                return view
        value = self._values.emit(e)
        matrix, wide = self._dense(dtype, _MATRIX, batch, rows, columns)
        self._frame.line(f"{wide}[...] = {value.text}")
        self._registers.drop(value)
        return matrix

    def _matrix_view(
        self, access: Access, batch: Sequence[int], rows: Sequence[int], columns: Sequence[int]
    ) -> str | None:
        """The buffer's elements as a matrix; None when one stride cannot walk rows or columns."""
        down = merged_stride(access, rows, self._frame.sizes)
        along = merged_stride(access, columns, self._frame.sizes)
        if down is None or along is None:
            return None
        strides = [*(access.strides[i] for i in batch), down, along]
        shape = self._shape(batch, rows, columns)
        return self._loads.bind_view(access.buffer, shape, strides, access.offset)

    def _dense(
        self,
        dtype: DType,
        kind: frozenset[int],
        batch: Sequence[int],
        rows: Sequence[int],
        columns: Sequence[int],
    ) -> tuple[str, str]:
        """A register as a dense matrix, never dropped, and its memory over the kernel's axes."""
        frame = self._frame
        order = [*batch, *rows, *columns]
        flat = self._registers.take_shape(dtype, (self._extent(order),), kind)
        matrix, wide = frame.new("m"), frame.new("w")
        shape, place = _spread_back(order, frame.sizes)
        dense = self._shape(batch, rows, columns)
        frame.bound.append(f"{matrix} = {flat.text}.reshape({dense})")
        frame.bound.append(f"{wide} = {flat.text}.reshape({shape}).transpose({place})")
        return matrix, wide

    # -- results: the text that matmul writes to, and the product over the kernel's axes

    def _stored(
        self, stmt: loop.Dot, rest: Sequence[loop.Stmt], g: _Groups
    ) -> tuple[str, Operand] | None:
        """The buffer itself, when the product is only stored and its operands lie elsewhere."""
        frame = self._frame
        access = self._only_store(stmt, rest)
        if access is None:
            return None
        known = {*g.batch, *g.rows, *g.columns, *g.inner}
        if any(size > 1 and i not in known for i, size in enumerate(frame.sizes)):
            return None  # neither operand knows this axis: the product is spread along it
        if any(frame.overlap(access.buffer, x) for x in frame.kernel.inputs):
            return None
        target = self._matrix_view(access, g.batch, g.rows, g.columns)
        if target is None:
            return None
        return target, Operand(self._loads.view(access), stmt.dtype, frame.scope[stmt.name])

    def _only_store(self, stmt: loop.Dot, rest: Sequence[loop.Stmt]) -> Access | None:
        if len(rest) != 1 or not isinstance(rest[0], loop.Store):
            return None
        access, value = rest[0].access, rest[0].value
        same = self._frame.program.buffers[access.buffer].dtype is stmt.dtype
        return access if same and value == loop.Ref(stmt.name, stmt.dtype) else None

    def _kept(self, stmt: loop.Dot, g: _Groups) -> tuple[str, Operand]:
        """A register of its own, which what follows reads through the second name."""
        matrix, wide = self._dense(stmt.dtype, _PRODUCT, g.batch, g.rows, g.columns)
        return matrix, Operand(wide, stmt.dtype, self._frame.scope[stmt.name])

    # -- shapes

    def _shape(
        self, batch: Sequence[int], rows: Sequence[int], columns: Sequence[int]
    ) -> tuple[int, ...]:
        sizes = self._frame.sizes
        return (*(sizes[i] for i in batch), self._extent(rows), self._extent(columns))

    def _extent(self, axes: Sequence[int]) -> int:
        return math.prod(self._frame.sizes[i] for i in axes)


def merged_stride(access: Access, axes: Sequence[int], sizes: Sequence[int]) -> int | None:
    """The one stride with which the access walks the axes, None when there is none."""
    stride: int | None = None
    size = 1
    for i in reversed(axes):
        if stride is None:
            stride = access.strides[i]
        elif access.strides[i] != stride * size:
            return None
        size *= sizes[i]
    return stride or 0


def _spread_back(
    order: Sequence[int], sizes: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shape and the transposition that bring dense dims `order` to the kernel's axes."""
    rest = [i for i in range(len(sizes)) if i not in order]
    shape = tuple(sizes[i] for i in order) + (1,) * len(rest)
    place = [*order, *rest]
    return shape, tuple(place.index(i) for i in range(len(sizes)))

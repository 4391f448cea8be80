"""Tensor arrays: rows that are written one by one, by hand-written loops above all.

A TensorArray never changes: `write` and the like give a new one, which a program uses from then
on, as in TensorFlow. Rows written at numbers that are known stay apart; other rows lie in one
tensor. In a `while_loop` that writes a row per step at its counter, the rows are what the loop
stacks, so that nothing is copied and the gradient is a stack as well; an array that is used
otherwise is carried from step to step as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import numpy as np

from graphc.frontend import array as ar
from graphc.frontend.arguments import constant_value, is_tensor, static_ints
from graphc.ir.dtypes import DType, as_dtype, int32
from graphc.ir.errors import AttributeValueError, DTypeError, ShapeError
from graphc.ir.graph import Value, convert
from graphc.ir.ops import movement as mv
from graphc.ir.ops.source import placeholder
from graphc.ir.table import OPS
from graphc.ir.types import UNKNOWN, Shape, TensorShape, merge_shapes

Index: TypeAlias = "int | Value"
Write: TypeAlias = tuple[Index, Value]
_NO_SIZE: Final = (
    "{} has a dynamic size, but is carried through a loop or written at a computed index: give "
    "the greatest size that it can have (size=..., dynamic_size=False), or write one row per step "
    "at a counter"
)


@dataclass(frozen=True)
class _Content:
    """Rows: those of a tensor or of a loop's parameter, then writes on top, in their order."""

    size: int | Value | None  # None: as many as are written
    element: Shape | None  # what is known of a row's shape
    rows: Value | None = None
    slot: Slot | None = None
    writes: tuple[Write, ...] = ()

    def known_rows(self) -> Mapping[int, Value] | None:
        """The rows by number, where every one was written at a known number."""
        known = all(isinstance(i, int) for i, _ in self.writes)
        if self.rows is not None or self.slot is not None or not known:
            return None
        return {i: v for i, v in self.writes if isinstance(i, int)}


class TensorArray:
    """Rows of one dtype and, unless written at known numbers, of one shape.

    `size` may be a tensor. With `dynamic_size` there are as many rows as are written; where such
    an array is carried through a loop as a whole, its size must be given. Rows can be read again.
    """

    def __init__(
        self,
        dtype: Any,
        size: Any = None,
        dynamic_size: bool | None = None,
        clear_after_read: bool | None = None,
        tensor_array_name: str | None = None,
        handle: Any = None,
        flow: Any = None,
        infer_shape: bool = True,
        element_shape: Any = None,
        colocate_with_first_write_call: bool = True,
        name: str | None = None,
    ) -> None:
        del clear_after_read, tensor_array_name, flow, infer_shape, colocate_with_first_write_call
        if handle is not None:
            raise AttributeValueError("a TensorArray has no handle: use the array that write gives")
        self._dtype = as_dtype(dtype)
        known = None if size is None else constant_value(size)
        number = int(known) if known is not None else None if size is None else convert(size)
        if number is None and not dynamic_size:
            raise AttributeValueError("a TensorArray needs a size, or dynamic_size=True")
        dims = None if element_shape is None else TensorShape(element_shape)
        element = None if dims is None else tuple(UNKNOWN if d is None else int(d) for d in dims)
        self.name = name or "TensorArray"
        self._grows = bool(dynamic_size)
        self._content = _Content(None if dynamic_size else number, element)

    def _with(self, content: _Content) -> TensorArray:
        made = object.__new__(TensorArray)
        made._dtype, made.name, made._grows = self._dtype, self.name, self._grows
        made._content = content
        return made

    # -- what it is

    @property
    def dtype(self) -> DType:
        """The rows' dtype."""
        return self._dtype

    @property
    def element_shape(self) -> TensorShape | None:
        """The rows' shape as far as it is known."""
        element = self._content.element
        return (
            None
            if element is None
            else TensorShape(d if isinstance(d, int) else None for d in element)
        )

    @property
    def flow(self) -> Value:
        """A tensor that depends on all that was written: the rows."""
        return self.stack()

    def size(self, name: str | None = None) -> Value:
        """How many rows there are."""
        size = self._content.size
        if isinstance(size, int):
            return convert(size, dtype=int32, name=name)
        if size is not None:
            return size
        rows = self._content.known_rows()
        if rows is not None:
            return convert(max(rows, default=-1) + 1, dtype=int32, name=name)
        return ar.shape(self._whole())[0]

    def identity(self) -> TensorArray:
        """Itself."""
        return self

    def close(self, name: str | None = None) -> None:
        """Nothing: there is nothing to free."""
        del name

    # -- writing

    def write(self, index: Any, value: Any, name: str | None = None) -> TensorArray:
        """The array with a row written."""
        del name
        row = self._row(value)
        at = self._index(index)
        content = replace(self._content, element=self._merged(row.type.shape))
        return self._with(replace(content, writes=(*content.writes, (at, row))))

    def _row(self, value: Any) -> Value:
        row = convert(value, like=self._dtype)
        if row.dtype is not self._dtype:
            raise DTypeError(f"a TensorArray of {self._dtype} cannot hold {row!r}; cast() it")
        return row

    def _merged(self, shape: Shape | None) -> Shape | None:
        return merge_shapes(self._content.element, shape, "rows of a TensorArray")

    def _index(self, index: Any) -> Index:
        known = constant_value(index)
        if known is None:
            return convert(index)
        number, size = int(known), self._content.size
        if number < 0 or (isinstance(size, int) and number >= size):
            raise ShapeError(f"row {number} is outside a TensorArray of size {size}")
        return number

    def unstack(self, value: Any, name: str | None = None) -> TensorArray:
        """The array with the slices of a tensor along its first axis as its rows."""
        del name
        rows = self._row(value)
        shape = rows.type.shape
        if shape == ():
            raise ShapeError(f"unstack needs a tensor with a first axis, got {rows!r}")
        element = self._merged(None if shape is None else shape[1:])
        length = shape[0] if shape else None
        size = length if isinstance(length, int) else ar.shape(rows)[0]
        old = self._content.size
        if isinstance(old, int) and isinstance(size, int) and old != size:
            raise ShapeError(f"{size} rows do not fit a TensorArray of size {old}")
        return self._with(_Content(size, element, rows))

    def scatter(self, indices: Any, value: Any, name: str | None = None) -> TensorArray:
        """The array with the slices of a tensor written at the indices."""
        del name
        rows, at = self._row(value), convert(indices)
        shape = rows.type.shape
        element = self._merged(None if shape is None else shape[1:])
        content = replace(self._content, element=element)
        known = constant_value(at)
        if known is not None and (content.size is None or content.known_rows() is not None):
            new = tuple((int(i), rows[k]) for k, i in enumerate(known.tolist()))
            return self._with(replace(content, writes=(*content.writes, *new)))
        whole = self._with(content)._whole(rows[0])
        made = OPS["scatter_update_nd"](whole, mv.expand_dims(at, axis=(1,)), rows)
        return self._with(replace(content, rows=made, slot=None, writes=()))

    def split(self, value: Any, lengths: Any, name: str | None = None) -> TensorArray:
        """The array with parts of a tensor, of these lengths along its first axis, as its rows."""
        del name
        parts = ar.split(self._row(value), list(static_ints(lengths, "lengths")), 0)
        if len({p.type for p in parts}) == 1:
            return self.unstack(ar.stack(parts))
        writes = tuple(enumerate(parts))
        return self._with(_Content(len(parts), None, writes=writes))

    # -- reading

    def read(self, index: Any, name: str | None = None) -> Value:
        """One row. What was not written is zeros."""
        at = self._index(index)
        if isinstance(at, int):
            for number, row in reversed(self._content.writes):
                if number == at:
                    return row if name is None else OPS["identity"](row, name=name)
                if not isinstance(number, int):
                    break
        return OPS["gather"](self._whole(), convert(at), axis=0, name=name)

    def stack(self, name: str | None = None) -> Value:
        """All rows along a new first axis."""
        rows = self._content.known_rows()
        if rows is not None:
            size = self._content.size
            count = max(rows, default=-1) + 1 if size is None else size
            if not isinstance(count, int) or set(rows) == set(range(count)):
                count = len(rows)
            if rows and set(rows) == set(range(count)):
                return ar.stack([rows[i] for i in range(count)], name=name)
        whole = self._whole()
        return whole if name is None else OPS["identity"](whole, name=name)

    def gather(self, indices: Any, name: str | None = None) -> Value:
        """The rows of these numbers along a new first axis."""
        return OPS["gather"](self._whole(), convert(indices), axis=0, name=name)

    def concat(self, name: str | None = None) -> Value:
        """All rows joined along their first axis."""
        rows = self._content.known_rows()
        if rows and set(rows) == set(range(len(rows))):
            return ar.concat([rows[i] for i in range(len(rows))], 0, name=name)
        whole = self._whole()
        if whole.type.rank is None or whole.type.rank < 2:
            raise ShapeError(f"concat needs rows with a first axis, got {whole!r}")
        return ar.reshape(whole, ar.concat([convert([-1]), ar.shape(whole)[2:]], 0), name=name)

    pack, unpack = stack, unstack  # before 1.0

    # -- rows as one tensor

    def _whole(self, like: Value | None = None) -> Value:
        """All rows as one tensor; what was not written is zeros."""
        content = self._content
        if content.rows is not None:
            rows = content.rows
        elif content.slot is not None:
            rows = content.slot.parameter(self, like)
        else:
            rows = self._zeros(like)
        for at, row in content.writes:
            index = ar.reshape(convert(at), [1, 1])
            rows = OPS["scatter_update_nd"](rows, index, mv.expand_dims(row, axis=(0,)))
        return rows

    def _zeros(self, like: Value | None) -> Value:
        """As many rows of zeros as there will be, shaped as what is written, or as declared."""
        rows = [row for _, row in self._content.writes] + ([] if like is None else [like])
        element = self._content.element
        if element is not None and all(isinstance(d, int) for d in element):
            sizes = convert(np.array(element, np.int32))
        elif rows:
            sizes = ar.shape(rows[0])
        else:
            raise ShapeError(
                f"{self.name} is read before anything was written: give its element_shape"
            )
        zero = convert(0 if self._dtype.name != "bool" else False, dtype=self._dtype)
        return ar.broadcast_to(zero, ar.concat([mv.reshape(self._count(), shape=(1,)), sizes], 0))

    def _count(self) -> Value:
        size = self._content.size
        if size is None:
            known = self._content.known_rows()
            if known is None:
                raise ShapeError(_NO_SIZE.format(self.name))
            size = max(known, default=-1) + 1
        return OPS["cast"](convert(size), dtype=int32)


# -- in loops


class Slot:
    """An array as one of a loop's variables: what it was before, and its parameter in the body.

    The parameter, a tensor of all rows, is made when something needs it: a row that is read, or
    a write that is no plain one per step.
    """

    def __init__(self, before: TensorArray, outer: Sequence[Value]) -> None:
        self.before = before
        self.outer = outer
        self.param: Value | None = None
        self.start: Value | None = None
        content = before._content
        self.inside = before._with(_Content(content.size, content.element, slot=self))

    def parameter(self, array: TensorArray, like: Value | None = None) -> Value:
        """The tensor of all rows that the body is given."""
        if self.param is None:
            self.start = self._start(array, like)
            self.param = placeholder(
                dtype=self.start.dtype, shape=self.start.type.shape, name="param"
            )
        return self.param

    def _start(self, array: TensorArray, like: Value | None) -> Value:
        """All rows before the first step."""
        content = self.before._content
        if content.size is None:
            raise ShapeError(_NO_SIZE.format(self.before.name))
        if content.rows is not None or content.writes or content.slot is not None:
            return self.before._whole()
        rows = [row for _, row in array._content.writes] + ([] if like is None else [like])
        element = merge_shapes(content.element, rows[0].type.shape if rows else None, "rows")
        if element is None:
            raise ShapeError(
                f"{self.before.name} is read before anything was written: give its element_shape"
            )
        sizes = [d if isinstance(d, int) else self._size_of(d) for d in element]
        zero = convert(0 if array.dtype.name != "bool" else False, dtype=array.dtype)
        made = ar.broadcast_to(zero, [self.before._count(), *sizes])
        count = content.size if isinstance(content.size, int) else UNKNOWN
        return mv.broadcast_to(made, ar.shape(made), shape=(count, *element))

    def _size_of(self, dim: str) -> Value:
        """The size of that name, by a tensor outside of the loop that has it."""
        for value in self.outer:
            for axis, d in enumerate(value.type.shape or ()):
                if d == dim and d != UNKNOWN:
                    return ar.shape(value)[axis]
        raise ShapeError(
            f"the size {dim!r} of the rows of {self.before.name} is not known before the loop: "
            "give its element_shape"
        )


@dataclass
class LoopArrays:
    """The arrays among a loop's variables, by their positions among its leaves."""

    slots: dict[int, Slot] = field(default_factory=dict)
    after: dict[int, TensorArray] = field(default_factory=dict)
    stacked: list[tuple[int, Value, int]] = field(default_factory=list)  # position, row, start
    carried: list[int] = field(default_factory=list)

    def merged(self, values: Sequence[Any], arrays: Mapping[int, TensorArray]) -> list[Any]:
        """All leaves: the arrays at their positions, the values at the others."""
        rest = iter(values)
        return [arrays[i] if i in arrays else next(rest) for i in range(len(values) + len(arrays))]

    @property
    def grow(self) -> bool:
        """True where an array has as many rows as the loop writes."""
        return any(s.before._content.size is None for s in self.slots.values())

    @property
    def before(self) -> dict[int, TensorArray]:
        """The arrays that the loop begins with."""
        return {i: s.before for i, s in self.slots.items()}

    @property
    def inside(self) -> dict[int, TensorArray]:
        """The arrays that the body is given."""
        return {i: s.inside for i, s in self.slots.items()}

    def take(self, leaves: Sequence[Any]) -> list[Any]:
        """Remember the arrays that the body gives; the leaves that are none."""
        for i in self.slots:
            if not isinstance(leaves[i], TensorArray):
                raise AttributeValueError(
                    f"while_loop: the body must give a TensorArray as variable {i}, "
                    f"got {leaves[i]!r}"
                )
            self.after[i] = leaves[i]
        return [x for i, x in enumerate(leaves) if i not in self.slots]

    def plan(
        self, counters: Mapping[Value, int], bounded: bool
    ) -> tuple[list[tuple[Value, Value, Value]], list[Value]]:
        """What is carried and what is stacked for the arrays.

        `counters` are the parameters that grow by one each step, with their first values.
        `bounded`: the number of steps, or a greatest one, is known or will be.
        """
        for i, slot in self.slots.items():
            row = self._row_per_step(slot, self.after[i], counters) if bounded else None
            if row is not None:
                self.stacked.append((i, *row))
            elif self.after[i] is not slot.inside or slot.param is not None:
                slot.parameter(self.after[i])
                self.carried.append(i)
        carried = []
        for i in self.carried:
            slot = self.slots[i]
            assert slot.param is not None
            assert slot.start is not None
            carried.append((slot.param, slot.start, self.after[i]._whole()))
        return carried, [row for _, row, _ in self.stacked]

    def _row_per_step(
        self, slot: Slot, after: TensorArray, counters: Mapping[Value, int]
    ) -> tuple[Value, int] | None:
        """The row that each step writes at a counter, and where the first one does."""
        content = after._content
        if slot.param is not None or content.slot is not slot or len(content.writes) != 1:
            return None
        ((index, row),) = content.writes
        start = counters.get(peeled(index)) if isinstance(index, Value) else None
        known = slot.before._content.known_rows()
        if start is None or known is None or set(known) != set(range(start)):
            return None
        return row, start

    def finish(
        self, finals: Sequence[Value], stacks: Sequence[Value], steps: Value | None
    ) -> dict[int, TensorArray]:
        """The arrays after the loop. `steps`: how many ran, where that may be less than stacked."""
        result = dict(self.before)
        for i, rows in zip(self.carried, finals, strict=True):
            content = self.after[i]._content
            result[i] = self.after[i]._with(replace(content, rows=rows, slot=None, writes=()))
        for (i, _, start), rows in zip(self.stacked, stacks, strict=True):
            before = self.slots[i].before
            if steps is not None and before._grows:
                rows = rows[:steps]
            if start:
                known = before._content.known_rows()
                assert known is not None
                rows = ar.concat([ar.stack([known[k] for k in range(start)]), rows], 0)
            element = self.after[i]._content.element
            result[i] = before._with(_Content(before._content.size, element, rows))
        return result


def loop_arrays(leaves: Sequence[Any]) -> LoopArrays:
    """The arrays among a loop's variables."""
    outer = [convert(x) for x in leaves if is_tensor(x)]
    slots = {i: Slot(x, outer) for i, x in enumerate(leaves) if isinstance(x, TensorArray)}
    return LoopArrays(slots)


def peeled(value: Value) -> Value:
    """Without casts."""
    while value.node.op.name in ("cast", "identity"):
        value = value.node.inputs[0]
    return value


def counters(
    params: Sequence[Value], initial: Sequence[Value], following: Sequence[Value]
) -> dict[Value, int]:
    """The parameters that begin with a known number and grow by one each step."""
    found = {}
    for param, start, after in zip(params, initial, following, strict=True):
        first = constant_value(start)
        node = peeled(after).node
        if first is None or first.ndim or not param.dtype.is_integer or node.op.name != "add":
            continue
        others = [v for v in node.inputs if peeled(v) is not param]
        step = constant_value(others[0]) if len(others) == 1 else None
        if step is not None and step.size == 1 and int(step.ravel()[0]) == 1:
            found[param] = int(first)
    return found


__all__ = ["LoopArrays", "TensorArray", "counters", "loop_arrays"]

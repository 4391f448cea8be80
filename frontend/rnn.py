"""Recurrent networks over sequences: loops of cells, or cells in a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.frontend import nest
from graphc.frontend.arguments import as_value
from graphc.frontend.array import concat, gather_nd, reshape, reverse, stack, transpose
from graphc.frontend.array import shape as shape_of
from graphc.frontend.rnn_cells import RNNCell, batch_size_of
from graphc.frontend.scopes import variable_scope
from graphc.frontend.sources import range as range_of
from graphc.ir.dtypes import int64
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Value, convert, next_serial
from graphc.ir.ops.control import LoopPlan
from graphc.ir.ops.movement import zeros_like
from graphc.ir.ops.pointwise import cast, where
from graphc.ir.ops.source import placeholder
from graphc.ir.table import OPS


def dynamic_rnn(
    cell: RNNCell,
    inputs: Any,
    sequence_length: Any = None,
    initial_state: Any = None,
    dtype: Any = None,
    parallel_iterations: int | None = None,
    swap_memory: bool = False,
    time_major: bool = False,
    scope: Any = None,
) -> tuple[Any, Any]:
    """The cell over [batch, time, depth] (time first with `time_major`): outputs, last state.

    A loop whose step is compiled once. Beyond a sequence's length its state stays and its
    outputs are 0. Without an initial state (`dtype` is its dtype then) it begins with zeros.
    """
    del parallel_iterations, swap_memory
    with variable_scope(scope, default_name="rnn"):
        given = [as_value(x) for x in nest.flatten(inputs)]
        for x in given:
            if x.type.rank is not None and x.type.rank < 3:
                raise ShapeError(f"dynamic_rnn needs [batch, time, ...], got {x!r}")
        whole = given if time_major else [_swapped(x) for x in given]
        state = _initial(cell, initial_state, whole[0], dtype)
        outputs, final = _Unrolling(cell, nest.pack_as(inputs, whole), state, sequence_length).run()
    return (outputs if time_major else nest.map_leaves(_swapped, outputs)), final


def _swapped(x: Value) -> Value:
    """Batch first and time first change places."""
    rank = x.type.rank
    if rank is None:
        raise ShapeError(f"a sequence needs a known number of dims, got {x!r}")
    return transpose(x, [1, 0, *range(2, rank)])


def _initial(cell: RNNCell, initial_state: Any, x: Value, dtype: Any) -> Any:
    if initial_state is not None:
        return nest.map_leaves(as_value, initial_state)
    if dtype is None:
        raise AttributeValueError("give an initial_state, or the dtype of one of zeros")
    return cell.zero_state(batch_size_of(x, 1 if (x.type.rank or 0) > 2 else 0), dtype)


class _Unrolling:
    """The loop of a cell over slices along the first axis."""

    def __init__(self, cell: RNNCell, inputs: Any, state: Any, lengths: Any) -> None:
        self.inputs = nest.flatten(inputs)
        self.initial = nest.flatten(state)
        self.lengths = None if lengths is None else cast(as_value(lengths), dtype=int64)
        self.first = next_serial()
        self.step = placeholder(dtype=int64, shape=(), name="step")
        self.slices = [_param(x, x.type.shape and x.type.shape[1:]) for x in self.inputs]
        self.params = [_param(s, s.type.shape) for s in self.initial]
        output, new = cell(nest.pack_as(inputs, self.slices), nest.pack_as(state, self.params))
        self.state_form, self.output_form = state, output
        leaves = nest.flatten_like(state, new, "the cell's new state")
        self.new = [self.kept(convert(a), b) for a, b in zip(leaves, self.params, strict=True)]
        self.outputs = [self.kept(convert(o), None) for o in nest.flatten(output)]

    def kept(self, value: Value, otherwise: Value | None) -> Value:
        """The value while the sequence lasts; then the old one, or zeros."""
        if self.lengths is None:
            return value
        runs = self.step < self.lengths
        runs = OPS["expand_dims"](runs, axis=tuple(range(1, value.type.rank or 1)))
        return where(runs, value, zeros_like(value) if otherwise is None else otherwise)

    def run(self) -> tuple[Any, Any]:
        shape = self.inputs[0].type.shape
        length = shape[0] if shape else None
        trips = (
            length if isinstance(length, int) else cast(shape_of(self.inputs[0])[0], dtype=int64)
        )
        carried = list(zip(self.params, self.initial, self.new, strict=True))
        plan = LoopPlan(
            self.step, carried, list(zip(self.slices, self.inputs, strict=True)), self.outputs,
            trips, [], first=self.first,
        )  # fmt: skip
        finals, stacks = plan.build("while")
        return nest.pack_as(self.output_form, stacks), nest.pack_as(self.state_form, finals)


def _param(like: Value, shape: Any) -> Value:
    return placeholder(dtype=like.dtype, shape=shape, name="param")


def static_rnn(
    cell: RNNCell,
    inputs: Sequence[Any],
    initial_state: Any = None,
    dtype: Any = None,
    sequence_length: Any = None,
    scope: Any = None,
) -> tuple[list[Value], Any]:
    """The cell over a list of [batch, depth], one by one: a list of outputs, and the last state."""
    if not isinstance(inputs, (list, tuple)) or not inputs:
        raise AttributeValueError(f"static_rnn needs a list of inputs, got {inputs!r}")
    with variable_scope(scope, default_name="rnn"):
        steps = [as_value(x) for x in inputs]
        state = _initial(cell, initial_state, steps[0], dtype)
        lengths = None if sequence_length is None else cast(as_value(sequence_length), dtype=int64)
        outputs = []
        for t, x in enumerate(steps):
            output, new = cell(x, state)
            if lengths is not None:
                runs = OPS["expand_dims"](convert(t, int64) < lengths, axis=(1,))
                output = where(runs, output, zeros_like(output))
                new = nest.map_leaves(lambda a, b, runs=runs: where(runs, a, b), new, state)
            state = new
            outputs.append(output)
    return outputs, state


def bidirectional_dynamic_rnn(
    cell_fw: RNNCell,
    cell_bw: RNNCell,
    inputs: Any,
    sequence_length: Any = None,
    initial_state_fw: Any = None,
    initial_state_bw: Any = None,
    dtype: Any = None,
    parallel_iterations: int | None = None,
    swap_memory: bool = False,
    time_major: bool = False,
    scope: Any = None,
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Two cells, one from each end: (outputs forwards, backwards), (last states)."""
    del parallel_iterations, swap_memory
    axes = (0, 1) if time_major else (1, 0)

    def flipped(x: Value) -> Value:
        if sequence_length is None:
            return reverse(x, [axes[0]])
        return reverse_sequence(x, sequence_length, *axes)

    with variable_scope(scope, default_name="bidirectional_rnn"):
        options = {"sequence_length": sequence_length, "dtype": dtype, "time_major": time_major}
        forwards, state_fw = dynamic_rnn(
            cell_fw, inputs, initial_state=initial_state_fw, scope="fw", **options
        )
        turned = nest.map_leaves(lambda x: flipped(as_value(x)), inputs)
        backwards, state_bw = dynamic_rnn(
            cell_bw, turned, initial_state=initial_state_bw, scope="bw", **options
        )
    return (forwards, nest.map_leaves(flipped, backwards)), (state_fw, state_bw)


def static_bidirectional_rnn(
    cell_fw: RNNCell,
    cell_bw: RNNCell,
    inputs: Sequence[Any],
    initial_state_fw: Any = None,
    initial_state_bw: Any = None,
    dtype: Any = None,
    sequence_length: Any = None,
    scope: Any = None,
) -> tuple[list[Value], Any, Any]:
    """As bidirectional_dynamic_rnn, of lists: the joined outputs, and both last states."""
    with variable_scope(scope, default_name="bidirectional_rnn"):
        forwards, state_fw = static_rnn(
            cell_fw, inputs, initial_state_fw, dtype, sequence_length, scope="fw"
        )
        turned = _turned([as_value(x) for x in inputs], sequence_length)
        backwards, state_bw = static_rnn(
            cell_bw, turned, initial_state_bw, dtype, sequence_length, scope="bw"
        )
    pairs = zip(forwards, _turned(backwards, sequence_length), strict=True)
    return [concat([a, b], 1) for a, b in pairs], state_fw, state_bw


def _turned(steps: Sequence[Value], lengths: Any) -> list[Value]:
    if lengths is None:
        return list(reversed(steps))
    turned = reverse_sequence(stack(list(steps), 0), lengths, 0, 1)
    return [turned[t] for t in range(len(steps))]


def reverse_sequence(
    input: Any,
    seq_lengths: Any,
    seq_axis: int | None = None,
    batch_axis: int | None = None,
    name: str | None = None,
    seq_dim: int | None = None,
    batch_dim: int | None = None,
) -> Value:
    """The first seq_lengths[b] elements of each sequence b in the opposite order."""
    x, lengths = as_value(input), cast(as_value(seq_lengths), dtype=int64)
    along = seq_axis if seq_axis is not None else seq_dim
    batch = batch_axis if batch_axis is not None else batch_dim or 0
    rank = x.type.rank
    if along is None or rank is None or along == batch:
        raise AttributeValueError("reverse_sequence needs a seq_axis other than its batch_axis")
    order = [batch, along, *(i for i in range(rank) if i not in (batch, along))]
    front = transpose(x, order)
    size = cast(shape_of(front), dtype=int64)
    steps, rows = reshape(range_of(size[1]), [1, -1]), reshape(range_of(size[0]), [-1, 1])
    ends = reshape(lengths, [-1, 1])
    source = where(steps < ends, ends - 1 - steps, steps + zeros_like(ends))
    index = stack([rows + zeros_like(source), source], 2)
    back = [order.index(i) for i in range(rank)]
    return transpose(gather_nd(front, index), back, name=name)


__all__ = [
    "bidirectional_dynamic_rnn", "dynamic_rnn", "reverse_sequence", "static_bidirectional_rnn",
    "static_rnn",
]  # fmt: skip

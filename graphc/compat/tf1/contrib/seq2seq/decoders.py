"""Decoding step by step: what a decoder is, the basic one, and the loop."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from graphc.compat.tf1.contrib.seq2seq.helpers import Helper
from graphc.frontend import nest
from graphc.frontend.arguments import as_value
from graphc.frontend.array import expand_dims, transpose, where
from graphc.frontend.control_flow import while_loop
from graphc.frontend.math import cast, logical_not, logical_or, minimum, reduce_all
from graphc.frontend.rnn_cells import RNNCell
from graphc.frontend.scopes import variable_scope
from graphc.frontend.sources import zeros_like
from graphc.frontend.tensor_array import TensorArray
from graphc.ir.dtypes import int32
from graphc.ir.graph import Value, constant


class BasicDecoderOutput(NamedTuple):
    """What a step gives: the outputs [batch, ...], and the ids [batch] chosen by them."""

    rnn_output: Any
    sample_id: Any


class Decoder:
    """What a decoder is. `steps` is how many steps it takes, where that is known before.

    One that `tracks_own_finished` may turn a finished sequence into one that goes on.
    """

    tracks_own_finished: ClassVar[bool] = False
    steps: Value | None = None

    @property
    def batch_size(self) -> Any:
        """The number of sequences."""
        raise NotImplementedError(f"{type(self).__name__} has no batch_size")

    @property
    def output_dtype(self) -> Any:
        """The dtypes of a step's outputs, in their structure."""
        raise NotImplementedError(f"{type(self).__name__} has no output_dtype")

    def initialize(self, name: str | None = None) -> tuple[Any, Any, Any]:
        """(finished, first inputs, first state)"""
        raise NotImplementedError(f"{type(self).__name__} has no initialize()")

    def step(
        self, time: Any, inputs: Any, state: Any, name: str | None = None
    ) -> tuple[Any, Any, Any, Any]:
        """(outputs, next state, next inputs, finished)"""
        raise NotImplementedError(f"{type(self).__name__} has no step()")

    def finalize(self, outputs: Any, final_state: Any, sequence_lengths: Any) -> tuple[Any, Any]:
        """The outputs of all steps, time first, and the last state, as they are handed out."""
        del sequence_lengths
        return outputs, final_state


class BasicDecoder(Decoder):
    """A cell whose inputs come from a helper; `output_layer` makes logits of its outputs."""

    def __init__(
        self, cell: RNNCell, helper: Helper, initial_state: Any, output_layer: Any = None
    ) -> None:
        self._cell = cell
        self._helper = helper
        self._state = initial_state
        self._layer = output_layer
        self.steps = helper.steps

    @property
    def batch_size(self) -> Any:
        """The number of sequences."""
        return self._helper.batch_size

    @property
    def output_dtype(self) -> BasicDecoderOutput:
        """That of the state, and that of the ids."""
        dtype = as_value(nest.flatten(self._state)[0]).dtype
        return BasicDecoderOutput(dtype, self._helper.sample_ids_dtype)

    def initialize(self, name: str | None = None) -> tuple[Any, Any, Any]:
        """What the helper begins with, and the initial state."""
        del name
        finished, inputs = self._helper.initialize()
        return finished, inputs, self._state

    def step(
        self, time: Any, inputs: Any, state: Any, name: str | None = None
    ) -> tuple[Any, Any, Any, Any]:
        """One step of the cell, and what the helper makes of it."""
        del name
        outputs, after = self._cell(inputs, state)
        if self._layer is not None:
            outputs = self._layer(outputs)
        ids = self._helper.sample(time=time, outputs=outputs, state=after)
        finished, following, after = self._helper.next_inputs(
            time=time, outputs=outputs, state=after, sample_ids=ids
        )
        return BasicDecoderOutput(outputs, ids), after, following, finished


def dynamic_decode(
    decoder: Decoder,
    output_time_major: bool = False,
    impute_finished: bool = False,
    maximum_iterations: Any = None,
    parallel_iterations: int = 32,
    swap_memory: bool = False,
    scope: Any = None,
) -> tuple[Any, Any, Any]:
    """The decoder, step after step: (outputs, last state, lengths [batch]).

    Outputs are [batch, time, ...] (time first with `output_time_major`). With `impute_finished`
    those behind a sequence's end are zeros, and its state stays. There are as many steps as were
    taken; where that depends on what the decoder computes, it is run twice, first to count them.
    """
    del parallel_iterations, swap_memory
    most = _most(decoder, maximum_iterations)
    with variable_scope(scope, "decoder"):
        outputs, state, lengths = _Decoding(decoder, impute_finished, most).run()
        outputs, state = decoder.finalize(outputs, state, lengths)
    if not output_time_major:
        outputs = nest.map_leaves(_batch_first, outputs)
    return outputs, state, lengths


def _most(decoder: Decoder, maximum: Any) -> Value | int | None:
    """The greatest number of steps; None: the decoder ends by itself."""
    if decoder.steps is None:
        known = maximum is None or isinstance(maximum, int)
        return maximum if known else cast(as_value(maximum), int32)
    if maximum is None:
        return decoder.steps
    return minimum(decoder.steps, cast(as_value(maximum), int32))


def _batch_first(x: Value) -> Value:
    return transpose(x, [1, 0, *range(2, x.type.rank or 2)])


class _Decoding:
    """The loop: its variables are time, arrays of outputs, state, inputs, finished, lengths."""

    def __init__(self, decoder: Decoder, impute: bool, most: Value | int | None) -> None:
        self.decoder = decoder
        self.impute = impute
        self.most = most
        self.form: Any = None  # of a step's outputs, known when one has been built

    def run(self) -> tuple[Any, Any, Any]:
        """(outputs time first, last state, lengths)"""
        finished, inputs, state = self.decoder.initialize()
        lengths = zeros_like(as_value(finished), int32)
        dtypes = nest.flatten(self.decoder.output_dtype)
        arrays = tuple(TensorArray(d, 0, dynamic_size=True) for d in dtypes)
        begin = (constant(0, int32), arrays, state, inputs, as_value(finished), lengths)
        end = while_loop(self.goes_on, self.step, begin, maximum_iterations=self.most)
        stacks = [array.stack() for array in end[1]]
        return nest.pack_as(self.form, stacks), end[2], end[5]

    def goes_on(self, time: Any, arrays: Any, state: Any, inputs: Any, finished: Any,
                lengths: Any) -> Any:  # fmt: skip
        """True while steps are left and a sequence has not ended."""
        del arrays, state, inputs, lengths
        if self.decoder.steps is not None:  # a number that is known before the first step
            return time < self.most
        return logical_not(reduce_all(finished))

    def step(self, time: Any, arrays: Any, state: Any, inputs: Any, finished: Any,
             lengths: Any) -> Any:  # fmt: skip
        """One step."""
        outputs, after, following, ends = self.decoder.step(time, inputs, state)
        self.form = outputs
        counted = where(logical_not(finished), zeros_like(lengths) + (time + 1), lengths)
        if self.decoder.tracks_own_finished:
            own = getattr(after, "lengths", None)
            counted = counted if own is None else cast(own, int32)
        else:
            ends = logical_or(ends, finished)
        leaves = [as_value(x) for x in nest.flatten(outputs)]
        if self.impute:
            leaves = [_chosen(finished, zeros_like(x), x) for x in leaves]
            after = nest.map_leaves(lambda old, new: _kept(finished, old, new), state, after)
        written = tuple(a.write(time, x) for a, x in zip(arrays, leaves, strict=True))
        return time + 1, written, after, following, ends, counted


def _chosen(test: Value, a: Value, b: Value) -> Value:
    """By sequence."""
    return where(expand_dims(test, list(range(1, b.type.rank or 1))) if b.type.rank else test, a, b)


def _kept(finished: Value, old: Any, new: Any) -> Any:
    """The old state of sequences that have ended; what has no batch is new."""
    if isinstance(new, TensorArray) or as_value(new).type.rank == 0:
        return new
    return _chosen(finished, as_value(old), as_value(new))


__all__ = ["BasicDecoder", "BasicDecoderOutput", "Decoder", "dynamic_decode"]

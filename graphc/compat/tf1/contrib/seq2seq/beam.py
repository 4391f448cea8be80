"""Beam search: the likeliest sequences, several kept at every step.

Scores are divided by ((5 + length) / 6) ^ weight; Wu et al., "Google's Neural Machine Translation
System", 2016, section 7.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from graphc.compat.tf1.contrib.seq2seq.decoders import Decoder
from graphc.compat.tf1.contrib.seq2seq.helpers import _embedding
from graphc.frontend import nest, nn
from graphc.frontend.arguments import as_value
from graphc.frontend.array import expand_dims, gather, one_hot, reshape, shape, where
from graphc.frontend.control_flow import scan
from graphc.frontend.math import (
    cast,
    cumsum,
    equal,
    floordiv,
    floormod,
    logical_not,
    logical_or,
    minimum,
    pow,
    reduce_max,
)
from graphc.frontend.sources import fill, zeros, zeros_like
from graphc.frontend.sources import range as range_of
from graphc.frontend.tensor_array import TensorArray
from graphc.ir.dtypes import bool_, float32, int32, int64
from graphc.ir.errors import AttributeValueError, ShapeError, UnsupportedOp
from graphc.ir.graph import Value, convert


class BeamSearchDecoderState(NamedTuple):
    """Per beam: the cell's state, the log-probability, whether it has ended, its length."""

    cell_state: Any
    log_probs: Any
    finished: Any
    lengths: Any


class BeamSearchDecoderOutput(NamedTuple):
    """Per step and beam: score, id, and the beam of the step before that it continues."""

    scores: Any
    predicted_ids: Any
    parent_ids: Any


class FinalBeamSearchDecoderOutput(NamedTuple):
    """The sequences of ids [batch, time, beam], the best first, and what the steps gave."""

    predicted_ids: Any
    beam_search_decoder_output: BeamSearchDecoderOutput


class BeamSearchDecoder(Decoder):
    """Keeps the `beam_width` likeliest sequences. `initial_state` is tiled by `tile_batch`."""

    tracks_own_finished = True

    def __init__(
        self,
        cell: Any,
        embedding: Any,
        start_tokens: Any,
        end_token: Any,
        initial_state: Any,
        beam_width: int,
        output_layer: Any = None,
        length_penalty_weight: float = 0.0,
        coverage_penalty_weight: float = 0.0,
        reorder_tensor_arrays: bool = True,
    ) -> None:
        del reorder_tensor_arrays
        if coverage_penalty_weight:
            raise UnsupportedOp("BeamSearchDecoder has no coverage penalty: leave its weight 0")
        self._cell = cell
        self._embed = _embedding(embedding)
        self._start = cast(as_value(start_tokens), int32)
        self._end = cast(as_value(end_token), int32)
        if self._start.type.rank != 1 or self._end.type.rank != 0:
            raise ShapeError(f"start_tokens are [batch], got {start_tokens!r}; end_token is one")
        self._state = initial_state
        self._width = beam_width
        self._layer = output_layer
        self._penalty = length_penalty_weight
        self._batch = shape(self._start)[0]
        if any(isinstance(x, TensorArray) for x in nest.flatten(initial_state)):
            raise AttributeValueError(
                "BeamSearchDecoder keeps no alignment_history: build its AttentionWrapper without"
            )

    @property
    def batch_size(self) -> Any:
        """The number of sequences, not counting beams."""
        return self._batch

    @property
    def output_dtype(self) -> BeamSearchDecoderOutput:
        """Scores are floats, ids and parents int32."""
        return BeamSearchDecoderOutput(float32, int32, int32)

    # -- [batch, beam, ...] and [batch * beam, ...]

    def _merged(self, x: Any) -> Value:
        value = as_value(x)
        rest = [d if isinstance(d, int) else shape(value)[i + 2]
                for i, d in enumerate((value.type.shape or ())[2:])]  # fmt: skip
        return reshape(value, [self._batch * self._width, *rest])

    def _split(self, x: Any) -> Value:
        value = as_value(x)
        rest = [d if isinstance(d, int) else shape(value)[i + 1]
                for i, d in enumerate((value.type.shape or ())[1:])]  # fmt: skip
        return reshape(value, [self._batch, self._width, *rest])

    def _each(self, function: Any, state: Any) -> Any:
        """The function of the parts of a state that have a batch."""
        return nest.map_leaves(lambda x: function(x) if as_value(x).type.rank else x, state)

    def _picked(self, x: Any, beams: Value) -> Value:
        """The beams of each sequence: [batch, beam, ...] by [batch, beam]."""
        first = reshape(range_of(self._batch) * self._width, [-1, 1])
        return gather(self._merged(x), beams + first)

    # -- steps

    def initialize(self, name: str | None = None) -> tuple[Any, Any, Any]:
        """One beam of each sequence is alive; the others come from it in the first step."""
        del name
        only = one_hot(zeros([self._batch], int32), self._width, 0.0, -float("inf"))
        finished = one_hot(zeros([self._batch], int32), self._width, False, True, dtype=bool_)
        start = expand_dims(self._start, 1) + zeros([1, self._width], int32)
        state = BeamSearchDecoderState(
            self._each(self._split, self._state), only, finished,
            zeros([self._batch, self._width], int64),
        )  # fmt: skip
        return finished, self._embed(start), state

    def step(
        self, time: Any, inputs: Any, state: Any, name: str | None = None
    ) -> tuple[Any, Any, Any, Any]:
        """Every beam goes on by one id, and the best stay."""
        del time, name
        flat = nest.map_leaves(self._merged, inputs)
        outputs, after = self._cell(flat, self._each(self._merged, state.cell_state))
        logits = self._split(outputs if self._layer is None else self._layer(outputs))
        output, new = self._chosen(logits, self._each(self._split, after), state)
        return output, new, self._embed(output.predicted_ids), new.finished

    def _chosen(self, logits: Value, cell_state: Any, state: Any) -> tuple[Any, Any]:
        """The best continuations of all beams."""
        count = logits.type.shape[-1] if logits.type.shape else None
        if not isinstance(count, int):
            raise ShapeError(f"beam search needs to know the number of ids, got {logits!r}")
        ends = one_hot(fill([self._batch, self._width], self._end), count, 0.0, float32.min)
        ended = expand_dims(state.finished, 2)  # these go on with the end token alone, at no cost
        step = where(ended, ends + zeros_like(logits), nn.log_softmax(logits))
        total = expand_dims(state.log_probs, 2) + step
        # an id but the end token makes a beam longer
        longer = one_hot(fill([self._batch, self._width], self._end), count, 0, 1, dtype=int64)
        alive = expand_dims(cast(logical_not(state.finished), int64), 2)
        lengths = longer * alive + expand_dims(state.lengths, 2)
        scores = self._penalized(total, lengths)
        best, at = nn.top_k(reshape(scores, [-1, self._width * count]), self._width)
        beams, ids = floordiv(at, count), floormod(at, count)
        ended = self._picked(state.finished, beams)
        taken = at + reshape(range_of(self._batch) * (self._width * count), [-1, 1])
        new = BeamSearchDecoderState(
            self._each(lambda x: self._picked(x, beams), cell_state),
            gather(reshape(total, [-1]), taken), logical_or(ended, equal(ids, self._end)),
            self._picked(state.lengths, beams) + cast(logical_not(ended), int64),
        )  # fmt: skip
        return BeamSearchDecoderOutput(best, ids, beams), new

    def _penalized(self, total: Value, lengths: Value) -> Value:
        if not self._penalty:
            return total
        return total / pow((cast(lengths, float32) + 5.0) / 6.0, convert(float(self._penalty)))

    def finalize(self, outputs: Any, final_state: Any, sequence_lengths: Any) -> tuple[Any, Any]:
        """The sequences, followed back from their ends."""
        del sequence_lengths
        longest = reduce_max(final_state.lengths, 1)
        ids = gather_tree(outputs.predicted_ids, outputs.parent_ids, longest, self._end)
        return FinalBeamSearchDecoderOutput(ids, outputs), final_state


def gather_tree(
    step_ids: Any, parent_ids: Any, max_sequence_lengths: Any, end_token: Any, name: Any = None
) -> Value:
    """Sequences of ids by the beams that they continue: all [time, batch, beam].

    Behind `max_sequence_lengths` [batch], and behind a sequence's first end token, stand end
    tokens.
    """
    del name
    ids, parents = as_value(step_ids), as_value(parent_ids)
    end = cast(as_value(end_token), ids.dtype)
    sizes = shape(ids)
    steps, batch, width = sizes[0], sizes[1], sizes[2]
    first = reshape(range_of(batch) * width, [-1, 1])
    longest = reshape(minimum(cast(as_value(max_sequence_lengths), int32), steps), [-1, 1])

    def back(carried: Any, given: Any) -> Any:
        _, beams = carried
        time, step, parent = given
        inside = time < longest
        at = reshape(beams + first, [-1])
        found = reshape(gather(reshape(step, [-1]), at), [batch, width])
        above = reshape(gather(reshape(parent, [-1]), at), [batch, width])
        return where(inside, found, end + zeros_like(found)), where(inside, above, beams)

    start = zeros([batch, width], int32)
    rows = range_of(width) + start
    ends = cast(start, ids.dtype)
    found, _ = scan(back, (range_of(steps), ids, parents), (ends, rows), reverse=True)
    over = cumsum(cast(equal(found, end), int32), axis=0, exclusive=True) > 0
    return where(over, end + zeros_like(found), found)


__all__ = [
    "BeamSearchDecoder", "BeamSearchDecoderOutput", "BeamSearchDecoderState",
    "FinalBeamSearchDecoderOutput", "gather_tree",
]  # fmt: skip

"""Helpers: where a decoder's next input comes from.

initialize()                               ->  finished [batch], first inputs [batch, ...]
sample(time, outputs, state)               ->  ids [batch]
next_inputs(time, outputs, state, ids)     ->  finished, inputs, state
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc.frontend import nest
from graphc.frontend.arguments import as_value, is_tensor
from graphc.frontend.array import expand_dims, gather, reshape, shape, transpose, where
from graphc.frontend.math import argmax, cast, equal, greater_equal, reduce_max
from graphc.frontend.random import multinomial, random_uniform
from graphc.frontend.sources import zeros
from graphc.ir.dtypes import bool_, int32
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Value, convert


class Helper:
    """What a helper is. `steps` is how often it gives inputs, where that is known before."""

    batch_size: Any
    steps: Value | None = None
    sample_ids_shape = ()
    sample_ids_dtype = int32

    def initialize(self, name: str | None = None) -> tuple[Any, Any]:
        """Which sequences are empty, and the first inputs."""
        raise NotImplementedError(f"{type(self).__name__} has no initialize()")

    def sample(self, time: Any, outputs: Any, state: Any, name: str | None = None) -> Any:
        """An id per sequence, chosen by the outputs: the greatest."""
        del time, state
        return cast(argmax(as_value(outputs), -1, name=name), int32)

    def next_inputs(
        self, time: Any, outputs: Any, state: Any, sample_ids: Any, name: str | None = None
    ) -> tuple[Any, Any, Any]:
        """Which sequences have ended, the next inputs, and the state."""
        raise NotImplementedError(f"{type(self).__name__} has no next_inputs()")


class TrainingHelper(Helper):
    """The inputs are given: [batch, time, ...] (time first with `time_major`), with lengths."""

    def __init__(
        self, inputs: Any, sequence_length: Any, time_major: bool = False, name: str | None = None
    ) -> None:
        del name
        self.sequence_length = cast(as_value(sequence_length), int32)
        if self.sequence_length.type.rank != 1:
            raise ShapeError(f"sequence_length is [batch], got {sequence_length!r}")
        given = nest.map_leaves(as_value, inputs)
        self._rows = given if time_major else nest.map_leaves(_time_first, given)
        self.batch_size = shape(self.sequence_length)[0]
        self.steps = reduce_max(self.sequence_length)

    def _at(self, time: Any) -> Any:
        # behind the last step gather gives zeros, as they are wanted there
        return nest.map_leaves(lambda x: gather(x, time), self._rows)

    def initialize(self, name: str | None = None) -> tuple[Any, Any]:
        """Which sequences have length 0, and the first inputs."""
        del name
        return equal(self.sequence_length, 0), self._at(convert(0))

    def next_inputs(
        self, time: Any, outputs: Any, state: Any, sample_ids: Any, name: str | None = None
    ) -> tuple[Any, Any, Any]:
        """Which sequences end here, and the inputs of the next step."""
        del outputs, sample_ids, name
        after = as_value(time) + 1
        return greater_equal(after, self.sequence_length), self._at(after), state


def _time_first(x: Value) -> Value:
    if x.type.rank is None:
        raise ShapeError(f"a sequence needs a known number of dims, got {x!r}")
    return transpose(x, [1, 0, *range(2, x.type.rank)])


class ScheduledEmbeddingTrainingHelper(TrainingHelper):
    """As TrainingHelper, but by chance an input is the embedding of what was sampled.

    Bengio et al., "Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks",
    2015. Where nothing was sampled the id is -1.
    """

    def __init__(
        self,
        inputs: Any,
        sequence_length: Any,
        embedding: Any,
        sampling_probability: Any,
        time_major: bool = False,
        seed: int | None = None,
        scheduling_seed: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(inputs, sequence_length, time_major, name)
        self._embed = _embedding(embedding)
        self._probability = sampling_probability
        self._seeds = seed, scheduling_seed

    def sample(self, time: Any, outputs: Any, state: Any, name: str | None = None) -> Any:
        """Drawn by the outputs as logits, or -1."""
        del time, state, name
        drawn = _drawn(as_value(outputs), self._seeds[0])
        chance = random_uniform([self.batch_size], seed=self._seeds[1])
        return where(chance < self._probability, drawn, convert(-1, like=int32))

    def next_inputs(
        self, time: Any, outputs: Any, state: Any, sample_ids: Any, name: str | None = None
    ) -> tuple[Any, Any, Any]:
        """The embeddings of what was sampled, the given inputs where nothing was."""
        finished, inputs, state = super().next_inputs(time, outputs, state, sample_ids, name)
        chosen = expand_dims(as_value(sample_ids) >= 0, 1)
        return finished, where(chosen, self._embed(sample_ids), inputs), state


class GreedyEmbeddingHelper(Helper):
    """The next input is the embedding of the likeliest id, until it is the end token.

    embedding: a tensor, or a function of ids; start_tokens: [batch].
    """

    def __init__(self, embedding: Any, start_tokens: Any, end_token: Any) -> None:
        self._embed = _embedding(embedding)
        self._start = cast(as_value(start_tokens), int32)
        self._end = end_token
        if self._start.type.rank != 1:
            raise ShapeError(f"start_tokens are [batch], got {start_tokens!r}")
        self.batch_size = shape(self._start)[0]

    def initialize(self, name: str | None = None) -> tuple[Any, Any]:
        """No sequence has ended; the embeddings of the start tokens."""
        del name
        return zeros([self.batch_size], bool_), self._embed(self._start)

    def next_inputs(
        self, time: Any, outputs: Any, state: Any, sample_ids: Any, name: str | None = None
    ) -> tuple[Any, Any, Any]:
        """Those end that gave the end token."""
        del time, outputs, name
        return equal(as_value(sample_ids), self._end), self._embed(sample_ids), state


class SampleEmbeddingHelper(GreedyEmbeddingHelper):
    """As GreedyEmbeddingHelper, but ids are drawn by the outputs as logits."""

    def __init__(
        self,
        embedding: Any,
        start_tokens: Any,
        end_token: Any,
        softmax_temperature: Any = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(embedding, start_tokens, end_token)
        self._temperature = softmax_temperature
        self._seed = seed

    def sample(self, time: Any, outputs: Any, state: Any, name: str | None = None) -> Any:
        """Drawn by the outputs, divided by the temperature."""
        del time, state, name
        logits = as_value(outputs)
        return _drawn(
            logits if self._temperature is None else logits / self._temperature, self._seed
        )


class CustomHelper(Helper):
    """A helper of three functions."""

    def __init__(
        self,
        initialize_fn: Callable[[], Any],
        sample_fn: Callable[..., Any],
        next_inputs_fn: Callable[..., Any],
        sample_ids_shape: Any = None,
        sample_ids_dtype: Any = None,
    ) -> None:
        del sample_ids_shape, sample_ids_dtype
        self._functions = initialize_fn, sample_fn, next_inputs_fn

    def initialize(self, name: str | None = None) -> tuple[Any, Any]:
        """What the first function gives."""
        del name
        finished, inputs = self._functions[0]()
        self.batch_size = shape(finished)[0]
        return finished, inputs

    def sample(self, time: Any, outputs: Any, state: Any, name: str | None = None) -> Any:
        """What the second function gives."""
        del name
        return self._functions[1](time=time, outputs=outputs, state=state)

    def next_inputs(
        self, time: Any, outputs: Any, state: Any, sample_ids: Any, name: str | None = None
    ) -> tuple[Any, Any, Any]:
        """What the third function gives."""
        del name
        finished, inputs, after = self._functions[2](
            time=time, outputs=outputs, state=state, sample_ids=sample_ids
        )
        return finished, inputs, after


def _embedding(embedding: Any) -> Callable[[Any], Any]:
    """The function of ids that an embedding is."""
    if callable(embedding) and not is_tensor(embedding):
        return embedding  # type: ignore[no-any-return]
    table = as_value(embedding)
    if table.type.rank != 2:
        raise AttributeValueError(f"an embedding is [ids, depth] or a function, got {embedding!r}")
    return lambda ids: gather(table, ids)


def _drawn(logits: Value, seed: int | None) -> Value:
    return cast(reshape(multinomial(logits, 1, seed=seed), [-1]), int32)


__all__ = [
    "CustomHelper", "GreedyEmbeddingHelper", "Helper", "SampleEmbeddingHelper",
    "ScheduledEmbeddingTrainingHelper", "TrainingHelper",
]  # fmt: skip

"""Attention over a memory, and the cell that attends at every step.

Bahdanau et al., "Neural Machine Translation by Jointly Learning to Align and Translate", 2015;
Luong et al., "Effective Approaches to Attention-based Neural Machine Translation", 2015.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from graphc.frontend import nest, nn
from graphc.frontend.arguments import as_value
from graphc.frontend.array import concat, expand_dims, sequence_mask, shape, squeeze, where
from graphc.frontend.initializers import constant_initializer, zeros_initializer
from graphc.frontend.layers import Dense
from graphc.frontend.linalg import matmul
from graphc.frontend.math import cast, reduce_sum, rsqrt, square, tanh
from graphc.frontend.rnn_cells import RNNCell
from graphc.frontend.scopes import get_variable, variable_scope
from graphc.frontend.sources import zeros, zeros_like
from graphc.frontend.tensor_array import TensorArray
from graphc.ir.dtypes import float32, int32
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Value, constant, convert


class AttentionMechanism:
    """What attends: `values` [batch, time, depth] of the memory, and the keys made of them.

    Where `memory_sequence_length` [batch] is given, nothing behind it is attended to.
    """

    base_name: ClassVar[str] = "attention"

    def __init__(
        self,
        num_units: int,
        memory: Any,
        memory_sequence_length: Any = None,
        probability_fn: Callable[[Value], Value] | None = None,
        score_mask_value: Any = None,
        query_layer: Dense | None = None,
    ) -> None:
        self._num_units = num_units
        self.query_layer = query_layer
        self.memory_layer = Dense(num_units, use_bias=False, name="memory_layer")
        self._probability = probability_fn or nn.softmax
        self._lowest = -math.inf if score_mask_value is None else score_mask_value
        self.values, self._mask = _masked(as_value(memory), memory_sequence_length)
        self.keys: Value = self.memory_layer(self.values)
        self.batch_size = shape(self.keys)[0]

    @property
    def alignments_size(self) -> Any:
        """The number of the memory's steps."""
        dims = self.values.type.shape
        return dims[1] if dims and isinstance(dims[1], int) else shape(self.values)[1]

    @property
    def state_size(self) -> Any:
        """The size of the state: that of the alignments."""
        return self.alignments_size

    def initial_alignments(self, batch_size: Any, dtype: Any = float32) -> Value:
        """No attention to anything: zeros [batch, time]."""
        return zeros([batch_size, self.alignments_size], dtype)

    initial_state = initial_alignments

    def score(self, query: Value) -> Value:
        """How much each step of the memory fits the query: [batch, time]."""
        raise NotImplementedError(f"{type(self).__name__} has no score()")

    def __call__(self, query: Any, state: Any = None, previous_alignments: Any = None) -> Any:
        """The alignments [batch, time], and the next state, which are they."""
        del state, previous_alignments
        asked = as_value(query)
        with variable_scope(None, self.base_name):
            fit = self.score(self.query_layer(asked) if self.query_layer else asked)
        if self._mask is not None:
            fit = where(self._mask, fit, convert(self._lowest, like=fit.dtype))
        alignments = self._probability(fit)
        return alignments, alignments


def _masked(memory: Value, lengths: Any) -> tuple[Value, Value | None]:
    """The memory with zeros behind its lengths, and where it counts."""
    rank = memory.type.rank
    if rank is None or rank < 3:
        raise ShapeError(f"attention needs a memory of [batch, time, depth], got {memory!r}")
    if lengths is None:
        return memory, None
    mask = sequence_mask(lengths, shape(memory)[1])
    wide = expand_dims(mask, list(range(2, rank)))
    return where(wide, memory, zeros_like(memory)), mask


class LuongAttention(AttentionMechanism):
    """The score is the product of query and key, with `scale` times a number that is learned."""

    base_name = "luong_attention"

    def __init__(
        self,
        num_units: int,
        memory: Any,
        memory_sequence_length: Any = None,
        scale: bool = False,
        probability_fn: Callable[[Value], Value] | None = None,
        score_mask_value: Any = None,
        dtype: Any = None,
        name: str = "LuongAttention",
    ) -> None:
        del dtype, name
        super().__init__(
            num_units, memory, memory_sequence_length, probability_fn, score_mask_value
        )
        self._scale = scale

    def score(self, query: Value) -> Value:
        """query . key"""
        width = query.type.shape[-1] if query.type.shape else None
        if width != self._num_units:
            raise ShapeError(f"queries of width {width} do not fit {self._num_units} units")
        fit = squeeze(matmul(expand_dims(query, 1), self.keys, transpose_b=True), [1])
        if not self._scale:
            return fit
        return fit * get_variable("attention_g", [], query.dtype, constant_initializer(1.0))


class BahdanauAttention(AttentionMechanism):
    """The score is v . tanh(query + key); with `normalize`, v has a length that is learned."""

    base_name = "bahdanau_attention"

    def __init__(
        self,
        num_units: int,
        memory: Any,
        memory_sequence_length: Any = None,
        normalize: bool = False,
        probability_fn: Callable[[Value], Value] | None = None,
        score_mask_value: Any = None,
        dtype: Any = None,
        name: str = "BahdanauAttention",
    ) -> None:
        del dtype, name
        super().__init__(
            num_units, memory, memory_sequence_length, probability_fn, score_mask_value,
            Dense(num_units, use_bias=False, name="query_layer"),
        )  # fmt: skip
        self._normalize = normalize

    def score(self, query: Value) -> Value:
        """v . tanh(query + key)"""
        v = as_value(get_variable("attention_v", [self._num_units], query.dtype))
        total = self.keys + expand_dims(query, 1)
        if self._normalize:
            start = constant_initializer(math.sqrt(1.0 / self._num_units))
            g = get_variable("attention_g", [], query.dtype, start)
            b = get_variable("attention_b", [self._num_units], query.dtype, zeros_initializer())
            v, total = g * v * rsqrt(reduce_sum(square(v))), total + b
        return reduce_sum(v * tanh(total), [2])


class AttentionWrapperState(NamedTuple):
    """The state of an AttentionWrapper: its cell's, and what it attended to last."""

    cell_state: Any
    attention: Any
    time: Any
    alignments: Any
    alignment_history: Any
    attention_state: Any

    def clone(self, **kwargs: Any) -> AttentionWrapperState:
        """A copy with some parts replaced."""
        return self._replace(**kwargs)


class AttentionWrapper(RNNCell):
    """A cell that attends after every step.

    What it attended to is an input of the next step, and its output (`output_attention=False`:
    the output is the cell's). With an `attention_layer_size` that is a layer of context and output,
    else the context. Several mechanisms, in a list, are joined.
    """

    base_name = "attention_wrapper"

    def __init__(
        self,
        cell: RNNCell,
        attention_mechanism: Any,
        attention_layer_size: Any = None,
        alignment_history: bool = False,
        cell_input_fn: Callable[[Value, Value], Value] | None = None,
        output_attention: bool = True,
        initial_cell_state: Any = None,
        name: str | None = None,
        attention_layer: Any = None,
    ) -> None:
        super().__init__(name=name)
        self._cell = cell
        self._several = isinstance(attention_mechanism, (list, tuple))
        self._mechanisms = list(attention_mechanism) if self._several else [attention_mechanism]
        self._layers = _layers(attention_layer_size, attention_layer, len(self._mechanisms))
        self._history = alignment_history
        self._inputs = cell_input_fn or (lambda x, attention: concat([x, attention], -1))
        self._gives_attention = output_attention
        self._initial = initial_cell_state

    def _packed(self, items: Sequence[Any]) -> Any:
        return tuple(items) if self._several else items[0]

    def _parts(self, packed: Any) -> list[Any]:
        return list(packed) if self._several else [packed]

    @property
    def _attention_size(self) -> int:
        total = 0
        for mechanism, layer in zip(self._mechanisms, self._layers, strict=True):
            dims = mechanism.values.type.shape
            width = layer.units if layer is not None else dims[-1] if dims else None
            if not isinstance(width, int):
                raise ShapeError(f"the depth of the memory {mechanism.values!r} is not known")
            total += width
        return total

    @property
    def output_size(self) -> Any:
        """The attention's size, or that of the cell's output."""
        return self._attention_size if self._gives_attention else self._cell.output_size

    @property
    def state_size(self) -> Any:
        """The sizes of the state's parts."""
        sizes = self._packed([m.alignments_size for m in self._mechanisms])
        history = self._packed([() for _ in self._mechanisms])
        return AttentionWrapperState(
            self._cell.state_size, self._attention_size, (), sizes, history, sizes
        )

    def zero_state(self, batch_size: Any, dtype: Any = float32) -> Any:
        """The state before the first step."""
        state = self._initial
        if state is None:
            state = self._cell.zero_state(batch_size, dtype)
        begin = [m.initial_alignments(batch_size, dtype) for m in self._mechanisms]
        history: list[Any] = [() for _ in self._mechanisms]
        if self._history:
            history = [TensorArray(dtype, 0, dynamic_size=True) for _ in self._mechanisms]
        return AttentionWrapperState(
            state, zeros([batch_size, self._attention_size], dtype), constant(0, int32),
            self._packed(begin), self._packed(history), self._packed(begin),
        )  # fmt: skip

    def call(self, inputs: Value, state: Any) -> tuple[Any, Any]:
        """One step of the cell, then the attention."""
        if not isinstance(state, AttentionWrapperState):
            raise AttributeValueError(
                f"an AttentionWrapper's state is an AttentionWrapperState, got {state!r}: begin "
                "with cell.zero_state(batch, dtype).clone(cell_state=...)"
            )
        output, cell_state = self._cell(self._inputs(inputs, state.attention), state.cell_state)
        attentions, alignments, states, history = [], [], [], []
        parts = (
            self._mechanisms, self._layers, self._parts(state.attention_state),
            self._parts(state.alignment_history),
        )  # fmt: skip
        for mechanism, layer, before, rows in zip(*parts, strict=True):
            aligned, after = mechanism(output, state=before)
            context = squeeze(matmul(expand_dims(aligned, 1), mechanism.values), [1])
            attentions.append(layer(concat([output, context], 1)) if layer else context)
            alignments.append(aligned)
            states.append(after)
            history.append(rows.write(state.time, aligned) if self._history else ())
        attention = concat(attentions, 1) if len(attentions) > 1 else attentions[0]
        new = AttentionWrapperState(
            cell_state, attention, cast(state.time + 1, int32), self._packed(alignments),
            self._packed(history), self._packed(states),
        )  # fmt: skip
        return (attention if self._gives_attention else output), new


def _layers(sizes: Any, given: Any, count: int) -> list[Any]:
    """Per mechanism the layer of context and output, or None."""
    if given is not None:
        return list(given) if isinstance(given, (list, tuple)) else [given]
    if sizes is None:
        return [None] * count
    each = list(sizes) if nest.is_nested(sizes) else [sizes]
    if len(each) != count:
        raise AttributeValueError(f"{len(each)} attention_layer_size for {count} mechanisms")
    return [Dense(n, use_bias=False, name="attention_layer") for n in each]


__all__ = [
    "AttentionMechanism", "AttentionWrapper", "AttentionWrapperState", "BahdanauAttention",
    "LuongAttention",
]  # fmt: skip

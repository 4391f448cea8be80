"""`tf.contrib.legacy_seq2seq`: sequences as lists of steps, and models of two of them.

The models with attention follow Vinyals et al., "Grammar as a Foreign Language", 2015.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from graphc.compat.symbols import delegate
from graphc.compat.tf1.contrib.rnn import EmbeddingWrapper
from graphc.frontend import nest, nn
from graphc.frontend.arguments import as_value
from graphc.frontend.array import expand_dims, gather, reshape, shape, stack
from graphc.frontend.framework import name_scope, stop_gradient
from graphc.frontend.linalg import matmul
from graphc.frontend.math import add_n, argmax, cast, reduce_sum, tanh
from graphc.frontend.normalization import bias_add
from graphc.frontend.rnn import static_rnn
from graphc.frontend.rnn_cells import OutputProjectionWrapper, linear
from graphc.frontend.scopes import get_variable, get_variable_scope, variable_scope
from graphc.frontend.sources import zeros
from graphc.ir.dtypes import float32
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Value, convert


def sequence_loss_by_example(
    logits: Sequence[Any],
    targets: Sequence[Any],
    weights: Sequence[Any],
    average_across_timesteps: bool = True,
    softmax_loss_function: Any = None,
    name: str | None = None,
) -> Value:
    """The weighted cross entropy of each sequence: [batch]. All are lists over the steps."""
    if not len(logits) == len(targets) == len(weights):
        counts = len(logits), len(targets), len(weights)
        raise AttributeValueError(f"logits, targets and weights have {counts} steps")
    with name_scope(name, "sequence_loss_by_example"):
        losses = []
        for x, target, weight in zip(logits, targets, weights, strict=True):
            y = reshape(target, [-1])
            if softmax_loss_function is None:
                loss = nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=x)
            else:
                loss = softmax_loss_function(labels=y, logits=x)
            losses.append(loss * weight)
        total = add_n(losses)
        if average_across_timesteps:
            count = add_n([convert(w) for w in weights])
            total = total / (count + 1e-12)
        return total


def sequence_loss(
    logits: Sequence[Any],
    targets: Sequence[Any],
    weights: Sequence[Any],
    average_across_timesteps: bool = True,
    average_across_batch: bool = True,
    softmax_loss_function: Any = None,
    name: str | None = None,
) -> Value:
    """The sum over the batch of `sequence_loss_by_example`, or the mean."""
    with name_scope(name, "sequence_loss"):
        each = sequence_loss_by_example(
            logits, targets, weights, average_across_timesteps, softmax_loss_function
        )
        total = reduce_sum(each)
        if not average_across_batch:
            return total
        return total / cast(_batch_size(targets[0]), total.dtype)


def _batch_size(target: Any) -> Value:
    return shape(target)[0]


def rnn_decoder(
    decoder_inputs: Sequence[Any],
    initial_state: Any,
    cell: Any,
    loop_function: Callable[[Value, int], Value] | None = None,
    scope: Any = None,
) -> tuple[list[Value], Any]:
    """The cell's outputs step by step, and its last state.

    With `loop_function(output, i)`, step i gets that of the step before instead of its input.
    """
    outputs: list[Value] = []
    state = initial_state
    with variable_scope(scope or "rnn_decoder"):
        for i, given in enumerate(decoder_inputs):
            x = given
            if loop_function is not None and outputs:
                with variable_scope("loop_function", reuse=True):
                    x = loop_function(outputs[-1], i)
            if i > 0:
                get_variable_scope().reuse_variables()
            output, state = cell(x, state)
            outputs.append(output)
    return outputs, state


# -- two sequences


def basic_rnn_seq2seq(
    encoder_inputs: Sequence[Any],
    decoder_inputs: Sequence[Any],
    cell: Any,
    dtype: Any = float32,
    scope: Any = None,
) -> tuple[list[Value], Any]:
    """A decoder that begins with the state in which the encoder ended."""
    with variable_scope(scope or "basic_rnn_seq2seq"):
        _, state = static_rnn(cell, encoder_inputs, dtype=dtype)
        return rnn_decoder(decoder_inputs, state, cell)


def _words(embedding: Any, projection: Any, update: bool) -> Callable[[Value, int], Value]:
    """A step's input from the output before it: the embedding of the likeliest word."""

    def after(output: Value, i: int) -> Value:
        del i
        logits = output if projection is None else _projected(output, projection)
        found = gather(embedding, argmax(logits, 1))
        return found if update else stop_gradient(found)

    return after


def _projected(output: Value, projection: Any) -> Value:
    return bias_add(matmul(output, as_value(projection[0])), as_value(projection[1]))


def embedding_rnn_decoder(
    decoder_inputs: Sequence[Any],
    initial_state: Any,
    cell: Any,
    num_symbols: int,
    embedding_size: int,
    output_projection: Any = None,
    feed_previous: bool = False,
    update_embedding_for_previous: bool = True,
    scope: Any = None,
) -> tuple[list[Value], Any]:
    """A decoder over words; with `feed_previous` each is the one that the step before chose."""
    with variable_scope(scope or "embedding_rnn_decoder"):
        table = as_value(get_variable("embedding", [num_symbols, embedding_size]))
        after = _words(table, output_projection, update_embedding_for_previous)
        inputs = [gather(table, i) for i in decoder_inputs]
        return rnn_decoder(inputs, initial_state, cell, after if feed_previous else None)


def embedding_rnn_seq2seq(
    encoder_inputs: Sequence[Any],
    decoder_inputs: Sequence[Any],
    cell: Any,
    num_encoder_symbols: int,
    num_decoder_symbols: int,
    embedding_size: int,
    output_projection: Any = None,
    feed_previous: bool = False,
    dtype: Any = None,
    scope: Any = None,
) -> tuple[list[Value], Any]:
    """Words in, logits of words out (outputs of the cell with an `output_projection`)."""
    _check_bool(feed_previous)
    with variable_scope(scope or "embedding_rnn_seq2seq"):
        encoder = EmbeddingWrapper(
            copy.deepcopy(cell), embedding_classes=num_encoder_symbols,
            embedding_size=embedding_size,
        )  # fmt: skip
        _, state = static_rnn(encoder, encoder_inputs, dtype=dtype or float32)
        if output_projection is None:
            cell = OutputProjectionWrapper(cell, num_decoder_symbols)
        return embedding_rnn_decoder(
            decoder_inputs, state, cell, num_decoder_symbols, embedding_size, output_projection,
            feed_previous,
        )  # fmt: skip


def _check_bool(feed_previous: Any) -> None:
    if not isinstance(feed_previous, bool):
        raise AttributeValueError(
            "feed_previous must be True or False: build one model for each, sharing variables"
        )


def attention_decoder(
    decoder_inputs: Sequence[Any],
    initial_state: Any,
    attention_states: Any,
    cell: Any,
    output_size: int | None = None,
    num_heads: int = 1,
    loop_function: Callable[[Value, int], Value] | None = None,
    dtype: Any = None,
    scope: Any = None,
    initial_state_attention: bool = False,
) -> tuple[list[Value], Any]:
    """A decoder that attends at every step to `attention_states` [batch, time, depth]."""
    del dtype
    with variable_scope(scope or "attention_decoder"):
        reader = _Attention(as_value(attention_states), num_heads)
        state = initial_state
        outputs: list[Value] = []
        attns = reader(state) if initial_state_attention else reader.nothing()
        for i, given in enumerate(decoder_inputs):
            if i > 0:
                get_variable_scope().reuse_variables()
            x = as_value(given)
            if loop_function is not None and outputs:
                with variable_scope("loop_function", reuse=True):
                    x = loop_function(outputs[-1], i)
            width = _depth(x)
            cell_output, state = cell(linear([x, *attns], width), state)
            with variable_scope(get_variable_scope(), reuse=i > 0 or initial_state_attention):
                attns = reader(state)
            with variable_scope("attention_output_projection"):
                outputs.append(linear([cell_output, *attns], output_size or cell.output_size))
    return outputs, state


def _depth(x: Value) -> int:
    depth = x.type.shape[-1] if x.type.shape else None
    if not isinstance(depth, int):
        raise ShapeError(f"attention needs to know the last dim of {x!r}")
    return depth


class _Attention:
    """Several heads over a memory: v . tanh(W memory + U query), softmax, weighted sum."""

    def __init__(self, memory: Value, heads: int) -> None:
        self.memory = memory
        self.size = _depth(memory)
        shape_ = [1, 1, self.size, self.size]  # of the convolution by 1 that it was
        self.keys, self.v = [], []
        for a in range(heads):
            w = reshape(get_variable(f"AttnW_{a}", shape_), [self.size, self.size])
            flat = matmul(reshape(memory, [-1, self.size]), w)
            self.keys.append(reshape(flat, shape(memory)))
            self.v.append(as_value(get_variable(f"AttnV_{a}", [self.size])))

    def nothing(self) -> list[Value]:
        """What is attended to before the first step."""
        return [zeros([shape(self.memory)[0], self.size], self.memory.dtype) for _ in self.v]

    def __call__(self, state: Any) -> list[Value]:
        """The context of each head for a state."""
        parts = [as_value(x) for x in nest.flatten(state)]
        found = []
        for a, (keys, v) in enumerate(zip(self.keys, self.v, strict=True)):
            with variable_scope(f"Attention_{a}"):
                query = expand_dims(linear(parts, self.size), 1)
                share = nn.softmax(reduce_sum(v * tanh(keys + query), [2]))
                found.append(reduce_sum(expand_dims(share, 2) * self.memory, [1]))
        return found


def embedding_attention_decoder(
    decoder_inputs: Sequence[Any],
    initial_state: Any,
    attention_states: Any,
    cell: Any,
    num_symbols: int,
    embedding_size: int,
    num_heads: int = 1,
    output_size: int | None = None,
    output_projection: Any = None,
    feed_previous: bool = False,
    update_embedding_for_previous: bool = True,
    dtype: Any = None,
    scope: Any = None,
    initial_state_attention: bool = False,
) -> tuple[list[Value], Any]:
    """`attention_decoder` over words; see `embedding_rnn_decoder`."""
    with variable_scope(scope or "embedding_attention_decoder"):
        table = as_value(get_variable("embedding", [num_symbols, embedding_size]))
        after = _words(table, output_projection, update_embedding_for_previous)
        return attention_decoder(
            [gather(table, i) for i in decoder_inputs], initial_state, attention_states, cell,
            output_size, num_heads, after if feed_previous else None, dtype,
            initial_state_attention=initial_state_attention,
        )  # fmt: skip


def embedding_attention_seq2seq(
    encoder_inputs: Sequence[Any],
    decoder_inputs: Sequence[Any],
    cell: Any,
    num_encoder_symbols: int,
    num_decoder_symbols: int,
    embedding_size: int,
    num_heads: int = 1,
    output_projection: Any = None,
    feed_previous: bool = False,
    dtype: Any = None,
    scope: Any = None,
    initial_state_attention: bool = False,
) -> tuple[list[Value], Any]:
    """Words in, logits of words out, attending to the encoder's outputs."""
    _check_bool(feed_previous)
    with variable_scope(scope or "embedding_attention_seq2seq"):
        encoder = EmbeddingWrapper(
            copy.deepcopy(cell), embedding_classes=num_encoder_symbols,
            embedding_size=embedding_size,
        )  # fmt: skip
        given, state = static_rnn(encoder, encoder_inputs, dtype=dtype or float32)
        size = None
        if output_projection is None:
            cell, size = OutputProjectionWrapper(cell, num_decoder_symbols), num_decoder_symbols
        return embedding_attention_decoder(
            decoder_inputs, state, stack(given, 1), cell, num_decoder_symbols, embedding_size,
            num_heads, size, output_projection, feed_previous, dtype=dtype,
            initial_state_attention=initial_state_attention,
        )  # fmt: skip


def model_with_buckets(
    encoder_inputs: Sequence[Any],
    decoder_inputs: Sequence[Any],
    targets: Sequence[Any],
    weights: Sequence[Any],
    buckets: Sequence[tuple[int, int]],
    seq2seq: Callable[[Sequence[Any], Sequence[Any]], tuple[Any, Any]],
    softmax_loss_function: Any = None,
    per_example_loss: bool = False,
    name: str | None = None,
) -> tuple[list[Any], list[Value]]:
    """Per bucket (lengths in and out) the model of that many steps, and its loss."""
    most = [max(lengths) for lengths in zip(*buckets, strict=True)]
    if len(encoder_inputs) < most[0] or min(len(targets), len(weights)) < most[1]:
        raise AttributeValueError(f"the inputs have fewer steps than the greatest bucket {most}")
    outputs, losses = [], []
    loss = sequence_loss_by_example if per_example_loss else sequence_loss
    with name_scope(name, "model_with_buckets"):
        for j, (taken, given) in enumerate(buckets):
            with variable_scope(get_variable_scope(), reuse=True if j > 0 else None):
                made, _ = seq2seq(encoder_inputs[:taken], decoder_inputs[:given])
                outputs.append(made)
                losses.append(loss(made, targets[:given], weights[:given],
                                   softmax_loss_function=softmax_loss_function))  # fmt: skip
    return outputs, losses


__getattr__ = delegate(__name__)

"""`tf.contrib.legacy_seq2seq`: sequences as lists of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphc.compat.symbols import delegate
from graphc.frontend import nn
from graphc.frontend.array import reshape, shape
from graphc.frontend.framework import name_scope
from graphc.frontend.math import add_n, cast
from graphc.frontend.scopes import get_variable_scope, variable_scope
from graphc.ir.errors import AttributeValueError
from graphc.ir.graph import Value, convert
from graphc.ir.ops.reduce import reduce_sum


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


__getattr__ = delegate(__name__)

"""`tf.nn`: layers of networks without their variables, and how old programs called them."""

from __future__ import annotations

from typing import Any

from graphc.compat.symbols import delegate
from graphc.frontend import nn as _nn
from graphc.frontend.rnn import static_rnn
from graphc.frontend.windowing import conv2d_transpose
from graphc.ir.graph import Value

__getattr__ = delegate(__name__, "graphc.frontend.nn", "graphc", submodules=("rnn_cell", "seq2seq"))
deconv2d = conv2d_transpose
rnn = static_rnn  # before 1.0


# Since 1.0 these take keywords alone; positions are those of before, with the logits first.


def softmax_cross_entropy_with_logits(
    _sentinel: Any = None,
    labels: Any = None,
    logits: Any = None,
    dim: int = -1,
    name: str | None = None,
    axis: int | None = None,
) -> Value:
    """As in `graphc.nn`; positional arguments are (logits, labels), as before 1.0."""
    logits = _sentinel if logits is None else logits
    return _nn.softmax_cross_entropy_with_logits(labels, logits, dim, name, axis)


def sparse_softmax_cross_entropy_with_logits(
    _sentinel: Any = None, labels: Any = None, logits: Any = None, name: str | None = None
) -> Value:
    """As in `graphc.nn`; positional arguments are (logits, labels), as before 1.0."""
    logits = _sentinel if logits is None else logits
    return _nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits, name=name)


def sigmoid_cross_entropy_with_logits(
    _sentinel: Any = None,
    labels: Any = None,
    logits: Any = None,
    name: str | None = None,
    targets: Any = None,
) -> Value:
    """As in `graphc.nn`; positional arguments are (logits, targets), as before 1.0."""
    logits = _sentinel if logits is None else logits
    labels = targets if labels is None else labels
    return _nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits, name=name)

"""Functions of neural networks, by TensorFlow's names."""

from __future__ import annotations

from typing import Any

from graphc.ir.graph import Value
from graphc.ir.ops import nn as ops


def relu(features: Any, name: str | None = None) -> Value:
    """max(x, 0)"""
    return ops.relu(features, name=name)


def softmax(logits: Any, axis: int = -1, name: str | None = None) -> Value:
    """exp(x) / sum(exp(x)) along an axis."""
    return ops.softmax(logits, axis=axis, name=name)


def softmax_cross_entropy_with_logits(
    labels: Any = None, logits: Any = None, name: str | None = None
) -> Value:
    """-sum(labels * log_softmax(logits)) along the last dim."""
    return ops.softmax_cross_entropy(labels, logits, name=name)

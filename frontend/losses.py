"""`losses`: weighted mean losses, which are put into the collection of the graph's losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from graphc.frontend import nn
from graphc.frontend.arguments import as_value
from graphc.frontend.framework import GraphKeys, add_to_collection, get_collection, name_scope
from graphc.frontend.math import add_n, cast
from graphc.frontend.sources import ones_like
from graphc.ir.dtypes import float32
from graphc.ir.errors import AttributeValueError
from graphc.ir.graph import Value, convert
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import reduce as red
from graphc.ir.table import OPS
from graphc.ir.types import broadcast_shapes, merge_shapes


class Reduction:
    """How a loss per element becomes the loss."""

    NONE: Final = "none"
    SUM: Final = "weighted_sum"
    SUM_OVER_BATCH_SIZE: Final = "weighted_sum_over_batch_size"
    MEAN: Final = "weighted_mean"
    SUM_OVER_NONZERO_WEIGHTS: Final = "weighted_sum_by_nonzero_weights"
    SUM_BY_NONZERO_WEIGHTS: Final = SUM_OVER_NONZERO_WEIGHTS

    @classmethod
    def all(cls) -> tuple[str, ...]:
        """All of them."""
        return (
            cls.NONE, cls.SUM, cls.SUM_OVER_BATCH_SIZE, cls.MEAN, cls.SUM_OVER_NONZERO_WEIGHTS
        )  # fmt: skip


def compute_weighted_loss(
    losses: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Value:
    """losses * weights, reduced; by default the sum over the number of weights that are not 0."""
    if reduction not in Reduction.all():
        raise AttributeValueError(f"reduction is one of {Reduction.all()}, got {reduction!r}")
    with name_scope(scope, "weighted_loss"):
        values = as_value(losses)
        weight = cast(convert(weights, like=float32), float32)
        weight = cast(weight, values.dtype)
        broadcast_shapes([values.type.shape, weight.type.shape])
        result = _reduced(values * weight, values, weight, reduction)
    if loss_collection is not None:
        add_to_collection(loss_collection, result)
    return result


def _reduced(weighted: Value, values: Value, weight: Value, reduction: str) -> Value:
    if reduction == Reduction.NONE:
        return weighted
    total = red.reduce_sum(weighted)
    if reduction == Reduction.SUM:
        return total
    present = OPS["broadcast_like"](weight, weighted)
    if reduction == Reduction.SUM_OVER_BATCH_SIZE:
        count = red.reduce_sum(ones_like(weighted))
    elif reduction == Reduction.MEAN:
        count = red.reduce_sum(present)
    else:
        zero = convert(0, like=values.dtype)
        count = red.reduce_sum(cast(pw.not_equal(present, zero), values.dtype))
    # nothing to average is 0, not NaN
    none = pw.equal(count, convert(0, like=values.dtype))
    safe = pw.where(none, convert(1, like=values.dtype), count)
    return pw.where(none, convert(0, like=values.dtype), total / safe)


def _elementwise(
    labels: Any, predictions: Any, loss: Callable[[Value, Value], Value], name: str, rest: Any
) -> Value:
    """A loss of equally shaped labels and predictions, computed in floats."""
    scope, weights, loss_collection, reduction = rest
    if labels is None or predictions is None:
        raise AttributeValueError(f"{name} needs labels and predictions")
    with name_scope(scope, name) as opened:
        x = as_value(predictions)
        y = as_value(labels) if hasattr(labels, "__graphc_value__") else labels
        y = cast(y, x.dtype) if isinstance(y, Value) else convert(y, dtype=x.dtype)
        merge_shapes(x.type.shape, y.type.shape, f"{name}: predictions and labels")
        values = loss(y, x)
        return compute_weighted_loss(values, weights, opened, loss_collection, reduction)


def mean_squared_error(
    labels: Any,
    predictions: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Value:
    """The mean of (predictions - labels)^2."""
    rest = scope, weights, loss_collection, reduction
    return _elementwise(
        labels, predictions, lambda y, x: pw.square(x - y), "mean_squared_error", rest
    )


def absolute_difference(
    labels: Any,
    predictions: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Value:
    """The mean of |predictions - labels|."""
    rest = scope, weights, loss_collection, reduction
    return _elementwise(
        labels, predictions, lambda y, x: pw.abs_(x - y), "absolute_difference", rest
    )


def huber_loss(
    labels: Any,
    predictions: Any,
    weights: Any = 1.0,
    delta: float = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Value:
    """Half the square of the error up to delta, then delta * (|error| - delta / 2)."""

    def loss(y: Value, x: Value) -> Value:
        size = pw.abs_(x - y)
        inner = pw.minimum(size, convert(delta, like=x.dtype))
        return pw.square(inner) * 0.5 + (size - inner) * delta

    rest = scope, weights, loss_collection, reduction
    return _elementwise(labels, predictions, loss, "huber_loss", rest)


def log_loss(
    labels: Any,
    predictions: Any,
    weights: Any = 1.0,
    epsilon: float = 1e-7,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Value:
    """-y log(p + epsilon) - (1 - y) log(1 - p + epsilon)"""

    def loss(y: Value, x: Value) -> Value:
        return -(y * pw.log(x + epsilon)) - (1.0 - y) * pw.log(1.0 - x + epsilon)

    rest = scope, weights, loss_collection, reduction
    return _elementwise(labels, predictions, loss, "log_loss", rest)


def hinge_loss(
    labels: Any,
    logits: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Value:
    """max(0, 1 - (2 y - 1) logits), with labels y of 0 and 1."""
    rest = scope, weights, loss_collection, reduction
    return _elementwise(
        labels, logits, lambda y, x: nn.relu(1.0 - (y * 2.0 - 1.0) * x), "hinge_loss", rest
    )


def softmax_cross_entropy(
    onehot_labels: Any,
    logits: Any,
    weights: Any = 1.0,
    label_smoothing: float = 0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Value:
    """The mean of softmax_cross_entropy_with_logits. onehot_labels, logits: [batch, classes].

    `label_smoothing` s makes the labels y * (1 - s) + s / classes (Szegedy et al., 2016).
    """
    with name_scope(scope, "softmax_cross_entropy_loss") as opened:
        x = as_value(logits)
        y = cast(onehot_labels, x.dtype)
        merge_shapes(x.type.shape, y.type.shape, "softmax_cross_entropy: logits and labels")
        if label_smoothing:
            share = ones_like(y)
            classes = red.reduce_sum(share, axis=(-1,), keepdims=True)
            y = y * (1.0 - label_smoothing) + label_smoothing / classes
        values = nn.softmax_cross_entropy_with_logits_v2(OPS["stop_gradient"](y), x)
        return compute_weighted_loss(values, weights, opened, loss_collection, reduction)


def sparse_softmax_cross_entropy(
    labels: Any,
    logits: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Value:
    """The mean of sparse_softmax_cross_entropy_with_logits. labels: [batch] or [batch, 1]."""
    with name_scope(scope, "sparse_softmax_cross_entropy_loss") as opened:
        x, y = as_value(logits), as_value(labels)
        if y.type.rank is not None and y.type.rank == x.type.rank:
            y = OPS["squeeze"](y, axis=(-1,))
        values = nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=x)
        return compute_weighted_loss(values, weights, opened, loss_collection, reduction)


def sigmoid_cross_entropy(
    multi_class_labels: Any,
    logits: Any,
    weights: Any = 1.0,
    label_smoothing: float = 0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Value:
    """The mean of sigmoid_cross_entropy_with_logits; smoothing moves labels towards 1/2."""

    def loss(y: Value, x: Value) -> Value:
        smooth = y * (1.0 - label_smoothing) + 0.5 * label_smoothing if label_smoothing else y
        return nn.sigmoid_cross_entropy_with_logits(labels=smooth, logits=x)

    rest = scope, weights, loss_collection, reduction
    return _elementwise(multi_class_labels, logits, loss, "sigmoid_cross_entropy_loss", rest)


def cosine_distance(
    labels: Any,
    predictions: Any,
    axis: int | None = None,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Value:
    """1 - the sum of labels * predictions along an axis; both are taken as normalized."""
    if axis is None:
        raise AttributeValueError("cosine_distance needs an axis")

    def loss(y: Value, x: Value) -> Value:
        return 1.0 - red.reduce_sum(y * x, axis=(axis,), keepdims=True)

    rest = scope, weights, loss_collection, reduction
    return _elementwise(labels, predictions, loss, "cosine_distance_loss", rest)


def add_loss(loss: Any, loss_collection: str | None = GraphKeys.LOSSES) -> None:
    """Put a loss into the collection."""
    if loss_collection is not None:
        add_to_collection(loss_collection, loss)


def get_losses(scope: str | None = None, loss_collection: str = GraphKeys.LOSSES) -> list[Value]:
    """The losses in the collection."""
    return get_collection(loss_collection, scope)


def get_regularization_losses(scope: str | None = None) -> list[Value]:
    """The penalties of variables made with a regularizer."""
    return get_collection(GraphKeys.REGULARIZATION_LOSSES, scope)


def get_regularization_loss(
    scope: str | None = None, name: str = "total_regularization_loss"
) -> Value:
    """The sum of the penalties; 0 when there is none."""
    parts = get_regularization_losses(scope)
    return add_n(parts, name=name) if parts else convert(0.0, name=name)


def get_total_loss(
    add_regularization_losses: bool = True, name: str = "total_loss", scope: str | None = None
) -> Value:
    """The sum of all losses in the collection, with the penalties unless told otherwise."""
    parts = get_losses(scope)
    parts = parts + get_regularization_losses(scope) if add_regularization_losses else parts
    return add_n(parts, name=name)

"""`metrics`: numbers over many batches, kept in local variables.

Each gives `(value, update_op)`: running the update takes in a batch and gives the metric so far;
the value reads it without taking in anything. `local_variables_initializer()` begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from graphc.frontend.arguments import as_value
from graphc.frontend.framework import GraphKeys, add_to_collections
from graphc.frontend.scopes import variable_scope
from graphc.frontend.variables import Variable
from graphc.ir.dtypes import bool_, float32, int64
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Value, convert
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import reduce as red
from graphc.ir.table import OPS

Metric = tuple[Value, Value]
Collections = Iterable[str] | str | None


def _counter(name: str, shape: Sequence[int] = ()) -> Variable:
    return Variable(
        np.zeros(tuple(shape), np.float32),
        trainable=False,
        collections=[GraphKeys.LOCAL_VARIABLES, GraphKeys.METRIC_VARIABLES],
        name=name,
    )


def _ratio(a: Value, b: Value, name: str) -> Value:
    """a / b, 0 where b is 0."""
    zero = pw.equal(b, convert(0.0))
    return pw.where(zero, convert(0.0), a / pw.where(zero, convert(1.0), b), name=name)


def _collected(
    metric: Metric, metrics_collections: Collections, updates_collections: Collections
) -> Metric:
    add_to_collections(metrics_collections, metric[0])
    add_to_collections(updates_collections, metric[1])
    return metric


def _floats(x: Any) -> Value:
    return pw.cast(as_value(x), dtype=float32)


def _weighted(values: Value, weights: Any) -> tuple[Value, Value]:
    """The values times their weights, and the weights in the values' shape."""
    if weights is None:
        return values, OPS["ones_like"](values)
    weight = _floats(weights)
    missing = (values.type.rank or 0) - (weight.type.rank or 0)
    if weight.type.rank and missing > 0:  # a weight per row
        weight = OPS["expand_dims"](weight, axis=tuple(range(-missing, 0)))
    return values * weight, OPS["broadcast_like"](weight, values)


def _mean(values: Value, weights: Any) -> Metric:
    total, count = _counter("total"), _counter("count")
    weighted, weight = _weighted(values, weights)
    new_total = total.assign_add(red.reduce_sum(weighted))
    new_count = count.assign_add(red.reduce_sum(weight))
    value = _ratio(total.value(), count.value(), "value")
    return value, _ratio(new_total, new_count, "update_op")


def mean(
    values: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> Metric:
    """The weighted mean of all elements."""
    with variable_scope(name, "mean"):
        metric = _mean(_floats(values), weights)
    return _collected(metric, metrics_collections, updates_collections)


def accuracy(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> Metric:
    """How often the predictions (classes, not logits) are the labels."""
    with variable_scope(name, "accuracy"):
        said, true = _same_rank(as_value(predictions), as_value(labels))
        if said.dtype is not true.dtype:
            said = pw.cast(said, dtype=true.dtype)
        metric = _mean(_floats(pw.equal(said, true)), weights)
    return _collected(metric, metrics_collections, updates_collections)


def _same_rank(a: Value, b: Value) -> tuple[Value, Value]:
    """Without a last dim of 1 that the other has not."""
    ranks = a.type.rank, b.type.rank
    if None in ranks or ranks[0] == ranks[1]:
        return a, b
    if (ranks[0] or 0) == (ranks[1] or 0) + 1:
        return OPS["squeeze"](a, axis=(-1,)), b
    if (ranks[1] or 0) == (ranks[0] or 0) + 1:
        return a, OPS["squeeze"](b, axis=(-1,))
    raise ShapeError(f"predictions {a.type} and labels {b.type} do not fit together")


def _error_metric(default: str, power: int, root: bool, arguments: tuple[Any, ...]) -> Metric:
    labels, predictions, weights, metrics_collections, updates_collections, name = arguments
    with variable_scope(name, default):
        said, true = _same_rank(_floats(predictions), _floats(labels))
        error = pw.square(said - true) if power == 2 else pw.abs_(said - true)
        value, update = _mean(error, weights)
        if root:
            value, update = pw.sqrt(value), pw.sqrt(update)
    return _collected((value, update), metrics_collections, updates_collections)


def mean_squared_error(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> Metric:
    """The mean of (predictions - labels)^2."""
    rest = labels, predictions, weights, metrics_collections, updates_collections, name
    return _error_metric("mean_squared_error", 2, False, rest)


def root_mean_squared_error(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> Metric:
    """The root of the mean of (predictions - labels)^2."""
    rest = labels, predictions, weights, metrics_collections, updates_collections, name
    return _error_metric("root_mean_squared_error", 2, True, rest)


def mean_absolute_error(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> Metric:
    """The mean of |predictions - labels|."""
    rest = labels, predictions, weights, metrics_collections, updates_collections, name
    return _error_metric("mean_absolute_error", 1, False, rest)


# -- of yes and no


def _truth(x: Any) -> Value:
    return pw.cast(as_value(x), dtype=bool_)


def _count(condition: Value, weights: Any, name: str) -> tuple[Value, Value]:
    """How often the condition holds: so far, and with this batch."""
    counter = _counter(name)
    weighted, _ = _weighted(_floats(condition), weights)
    return counter.value(), counter.assign_add(red.reduce_sum(weighted))


def _outcomes(labels: Any, predictions: Any) -> dict[str, Value]:
    said, true = _same_rank(_truth(predictions), _truth(labels))
    no, false = pw.logical_not(said), pw.logical_not(true)
    return {
        "true_positives": pw.logical_and(said, true),
        "false_positives": pw.logical_and(said, false),
        "true_negatives": pw.logical_and(no, false),
        "false_negatives": pw.logical_and(no, true),
    }


def _outcome(which: str, arguments: tuple[Any, ...]) -> Metric:
    labels, predictions, weights, metrics_collections, updates_collections, name = arguments
    with variable_scope(name, which):
        metric = _count(_outcomes(labels, predictions)[which], weights, "count")
    return _collected(metric, metrics_collections, updates_collections)


def true_positives(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> Metric:
    """How often a prediction is yes, rightly."""
    rest = labels, predictions, weights, metrics_collections, updates_collections, name
    return _outcome("true_positives", rest)


def false_positives(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> Metric:
    """How often a prediction is yes, wrongly."""
    rest = labels, predictions, weights, metrics_collections, updates_collections, name
    return _outcome("false_positives", rest)


def true_negatives(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> Metric:
    """How often a prediction is no, rightly."""
    rest = labels, predictions, weights, metrics_collections, updates_collections, name
    return _outcome("true_negatives", rest)


def false_negatives(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> Metric:
    """How often a prediction is no, wrongly."""
    rest = labels, predictions, weights, metrics_collections, updates_collections, name
    return _outcome("false_negatives", rest)


def _share(default: str, other: str, arguments: tuple[Any, ...]) -> Metric:
    """true_positives / (true_positives + other)"""
    labels, predictions, weights, metrics_collections, updates_collections, name = arguments
    with variable_scope(name, default):
        found = _outcomes(labels, predictions)
        hit, new_hit = _count(found["true_positives"], weights, "true_positives/count")
        miss, new_miss = _count(found[other], weights, f"{other}/count")
        metric = _ratio(hit, hit + miss, "value"), _ratio(new_hit, new_hit + new_miss, "update_op")
    return _collected(metric, metrics_collections, updates_collections)


def precision(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> Metric:
    """Of the predictions that are yes, how many are right."""
    rest = labels, predictions, weights, metrics_collections, updates_collections, name
    return _share("precision", "false_positives", rest)


def recall(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> Metric:
    """Of the labels that are yes, how many were found."""
    rest = labels, predictions, weights, metrics_collections, updates_collections, name
    return _share("recall", "false_negatives", rest)


def auc(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    num_thresholds: int = 200,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    curve: str = "ROC",
    name: str | None = None,
    summation_method: str = "trapezoidal",
) -> Metric:
    """The area under the ROC or precision-recall curve, by trapezoids over the thresholds.

    Predictions lie in [0, 1]. Davis and Goadrich, "The relationship between precision-recall and
    ROC curves", 2006, on why a trapezoid is only an estimate for "PR".
    """
    if curve not in ("ROC", "PR") or summation_method != "trapezoidal" or num_thresholds < 2:
        raise AttributeValueError(
            f"auc knows the curves ROC and PR, trapezoidal sums, and two thresholds or more; got "
            f"{curve!r}, {summation_method!r}, {num_thresholds}"
        )
    inner = [(i + 1) / (num_thresholds - 1) for i in range(num_thresholds - 2)]
    limits = np.array([-1e-7, *inner, 1 + 1e-7], np.float32)
    with variable_scope(name, "auc"):
        counts = _counts_at(limits, labels, predictions, weights)
        metric = _area(counts[0], curve, "value"), _area(counts[1], curve, "update_op")
    return _collected(metric, metrics_collections, updates_collections)


def _counts_at(
    limits: np.ndarray, labels: Any, predictions: Any, weights: Any
) -> tuple[list[Value], list[Value]]:
    """tp, fp, tn, fn per threshold: so far, and with this batch."""
    flat = OPS["reshape"](_floats(predictions), shape=(-1, 1))
    true = OPS["reshape"](_truth(labels), shape=(-1, 1))
    weight = (
        None
        if weights is None
        else OPS["reshape"](_weighted(_floats(predictions), weights)[1], shape=(-1, 1))
    )
    said = pw.greater(flat, convert(limits))
    every = OPS["broadcast_like"](true, said)
    before, after = [], []
    for which, condition in _outcomes(every, said).items():
        weighted, _ = _weighted(_floats(condition), weight)
        counter = _counter(which, limits.shape)
        before.append(counter.value())
        after.append(counter.assign_add(red.reduce_sum(weighted, axis=(0,))))
    return before, after


def _area(counts: Sequence[Value], curve: str, name: str) -> Value:
    tp, fp, tn, fn = counts
    small = 1e-6  # against 0 / 0
    found = (tp + small) / (tp + fn + small)
    if curve == "ROC":
        x, y = fp / (fp + tn + small), found
    else:
        x, y = found, (tp + small) / (tp + fp + small)
    width, height = x[:-1] - x[1:], (y[:-1] + y[1:]) * 0.5
    return red.reduce_sum(width * height, name=name)


def mean_per_class_accuracy(
    labels: Any,
    predictions: Any,
    num_classes: int,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> Metric:
    """The mean over the classes of how often each is recognized."""
    with variable_scope(name, "mean_accuracy"):
        said, true = (OPS["reshape"](as_value(x), shape=(-1, 1)) for x in (predictions, labels))
        said, true = pw.cast(said, dtype=int64), pw.cast(true, dtype=int64)
        member = _floats(pw.equal(true, convert(np.arange(num_classes))))
        weight = None if weights is None else OPS["reshape"](_floats(weights), shape=(-1, 1))
        present, _ = _weighted(member, weight)
        hit = present * _floats(pw.equal(said, true))
        total, count = _counter("total", [num_classes]), _counter("count", [num_classes])
        new_count = total.assign_add(red.reduce_sum(present, axis=(0,)))
        new_hit = count.assign_add(red.reduce_sum(hit, axis=(0,)))
        value = red.reduce_mean(_ratio(count.value(), total.value(), "shares"), name="value")
        update = red.reduce_mean(_ratio(new_hit, new_count, "new_shares"), name="update_op")
    return _collected((value, update), metrics_collections, updates_collections)


__all__ = [
    "accuracy", "auc", "false_negatives", "false_positives", "mean", "mean_absolute_error",
    "mean_per_class_accuracy", "mean_squared_error", "precision", "recall",
    "root_mean_squared_error", "true_negatives", "true_positives",
]  # fmt: skip

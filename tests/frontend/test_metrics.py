"""Metrics over several batches, against NumPy and scikit-learn on all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as reference

import graphc as gc
from graphc import metrics
from graphc.errors import AttributeValueError, ShapeError

RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, 2, (4, 37))
SCORES = np.clip(LABELS * 0.3 + RNG.random((4, 37)) * 0.7, 0, 1).astype(np.float32)
WEIGHTS = RNG.random((4, 37)).astype(np.float32)


@pytest.fixture(autouse=True)
def session() -> Iterator[gc.Session]:
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        yield session


# name -> (with the labels, scores and weights; all at once in NumPy)
Case = tuple[Callable[..., Any], Callable[..., float]]
CASES: dict[str, Case] = {
    "accuracy": (
        lambda y, p, w: metrics.accuracy(y, p > 0.5, w),
        lambda y, p, w: reference.accuracy_score(y, p > 0.5, sample_weight=w),
    ),
    "mean": (lambda y, p, w: metrics.mean(p, w), lambda y, p, w: np.average(p, weights=w)),
    "mean_squared_error": (
        lambda y, p, w: metrics.mean_squared_error(y, p, w),
        lambda y, p, w: np.average((y - p) ** 2, weights=w),
    ),
    "root_mean_squared_error": (
        lambda y, p, w: metrics.root_mean_squared_error(y, p, w),
        lambda y, p, w: np.sqrt(np.average((y - p) ** 2, weights=w)),
    ),
    "mean_absolute_error": (
        lambda y, p, w: metrics.mean_absolute_error(y, p, w),
        lambda y, p, w: np.average(np.abs(y - p), weights=w),
    ),
    "precision": (
        lambda y, p, w: metrics.precision(y, p > 0.5, w),
        lambda y, p, w: reference.precision_score(y, p > 0.5, sample_weight=w),
    ),
    "recall": (
        lambda y, p, w: metrics.recall(y, p > 0.5, w),
        lambda y, p, w: reference.recall_score(y, p > 0.5, sample_weight=w),
    ),
    "true_positives": (
        lambda y, p, w: metrics.true_positives(y, p > 0.5, w),
        lambda y, p, w: _sum(w, (p > 0.5) & (y == 1)),
    ),
    "false_positives": (
        lambda y, p, w: metrics.false_positives(y, p > 0.5, w),
        lambda y, p, w: _sum(w, (p > 0.5) & (y == 0)),
    ),
    "true_negatives": (
        lambda y, p, w: metrics.true_negatives(y, p > 0.5, w),
        lambda y, p, w: _sum(w, (p <= 0.5) & (y == 0)),
    ),
    "false_negatives": (
        lambda y, p, w: metrics.false_negatives(y, p > 0.5, w),
        lambda y, p, w: _sum(w, (p <= 0.5) & (y == 1)),
    ),
    "auc": (
        lambda y, p, w: metrics.auc(y, p, w, num_thresholds=2000),
        lambda y, p, w: reference.roc_auc_score(y, p, sample_weight=w),
    ),
    "mean_per_class_accuracy": (
        lambda y, p, w: metrics.mean_per_class_accuracy(y, gc.cast(p > 0.5, gc.int32), 2, w),
        lambda y, p, w: reference.balanced_accuracy_score(y, p > 0.5, sample_weight=w),
    ),
}  # fmt: skip


def _sum(weights: Any, where: np.ndarray) -> float:
    return float((where * (1 if weights is None else weights)).sum())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_over_batches_as_over_all(name: str, weighted: bool, session: gc.Session) -> None:
    build, expected = CASES[name]
    y, p = gc.placeholder(gc.int64, [None]), gc.placeholder(gc.float32, [None])
    w = gc.placeholder(gc.float32, [None]) if weighted else None
    value, update = build(y, p, w)
    session.run(gc.local_variables_initializer())
    assert session.run(value) == 0
    for i in range(4):
        feeds = {y: LABELS[i], p: SCORES[i]} | ({w: WEIGHTS[i]} if weighted else {})
        last = session.run(update, feeds)
    assert session.run(value) == last
    wanted = expected(LABELS.ravel(), SCORES.ravel(), WEIGHTS.ravel() if weighted else None)
    assert last == pytest.approx(wanted, rel=2e-3 if name == "auc" else 1e-5)


def test_variables_are_local_and_named(session: gc.Session) -> None:
    metrics.accuracy([1], [1])
    metrics.accuracy([1], [1])
    metrics.mean([1.0], name="loss")
    assert [v.op.name for v in gc.local_variables()] == [
        "accuracy/total", "accuracy/count", "accuracy_1/total", "accuracy_1/count", "loss/total",
        "loss/count",
    ]  # fmt: skip
    assert gc.global_variables() == [] and gc.trainable_variables() == []
    assert len(gc.get_collection(gc.GraphKeys.METRIC_VARIABLES)) == 6


def test_collections(session: gc.Session) -> None:
    value, update = metrics.mean([1.0], metrics_collections="m", updates_collections=["u", "v"])
    assert gc.get_collection("m") == [value]
    assert gc.get_collection("u") == gc.get_collection("v") == [update]


def test_the_area_under_precision_and_recall(session: gc.Session) -> None:
    _, update = metrics.auc(LABELS[0], SCORES[0], num_thresholds=2000, curve="PR")
    session.run(gc.local_variables_initializer())
    precision, recall, _ = reference.precision_recall_curve(LABELS[0], SCORES[0])
    assert session.run(update) == pytest.approx(reference.auc(recall, precision), abs=0.01)


def test_ranks_that_differ_by_a_last_one(session: gc.Session) -> None:
    _, update = metrics.accuracy(np.array([[1], [2], [3]]), np.array([1, 2, 0]))
    session.run(gc.local_variables_initializer())
    assert session.run(update) == pytest.approx(2 / 3)
    with pytest.raises(ShapeError, match="do not fit"):
        metrics.accuracy(np.zeros((2, 2, 2)), np.zeros(2))


def test_what_auc_refuses(session: gc.Session) -> None:
    for wrong in ({"curve": "XY"}, {"summation_method": "careful"}, {"num_thresholds": 1}):
        with pytest.raises(AttributeValueError, match="ROC and PR"):
            metrics.auc([1], [0.5], **wrong)

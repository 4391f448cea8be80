"""Candidate samplers by their distributions, sampled losses by TensorFlow's formulas in NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.ir.graph import Graph
from tests.ir.nn_checks import gradients

TRUE = np.array([[0, 3], [7, 19], [4, 4]], np.int64)


@pytest.fixture
def session() -> Iterator[gc.Session]:
    with Graph().as_default(), gc.Session(device="numpy") as session:
        yield session


def log_uniform(k: np.ndarray, size: int) -> np.ndarray:
    return np.log((k + 2) / (k + 1)) / np.log(size + 1)


SAMPLERS: dict[str, tuple[Any, Any]] = {
    "log_uniform": (gc.nn.log_uniform_candidate_sampler, lambda k: log_uniform(k, 20)),
    "uniform": (gc.nn.uniform_candidate_sampler, lambda k: np.full(k.shape, 1 / 20)),
    "unigrams": (
        lambda *a, **k: gc.nn.fixed_unigram_candidate_sampler(
            *a, **k, unigrams=[float(i) for i in range(1, 20)], distortion=0.5, num_reserved_ids=1
        ),
        lambda k: np.sqrt(k) / np.sqrt(np.arange(20)).sum(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLERS)
def test_frequencies_follow_the_probabilities(session: gc.Session, name: str) -> None:
    sampler, probability = SAMPLERS[name]
    drawn = sampler(TRUE, 2, 50_000, False, 20, seed=3)
    sampled, true_count, sampled_count = session.run(list(drawn))
    assert sampled.dtype == np.int64 and sampled.min() >= 0 and sampled.max() < 20
    shares = np.bincount(sampled, minlength=20) / sampled.size
    np.testing.assert_allclose(shares, probability(np.arange(20)), atol=0.008)
    np.testing.assert_allclose(true_count, probability(TRUE) * 50_000, rtol=1e-4)
    np.testing.assert_allclose(sampled_count, probability(sampled) * 50_000, rtol=1e-4)


@pytest.mark.parametrize("name", SAMPLERS)
def test_unique_candidates(session: gc.Session, name: str) -> None:
    sampler, probability = SAMPLERS[name]
    drawn = sampler(TRUE, 2, 15, True, 20, seed=3)
    sampled, true_count, sampled_count = session.run(list(drawn))
    assert len(set(sampled.tolist())) == 15
    # 1 - (1 - p)^tries: the number of tries follows from any two of them, and is whole
    p = probability(sampled)
    tries = np.log1p(-sampled_count[0].astype(np.float64)) / np.log1p(-p[0])
    assert abs(tries - round(tries)) < 1e-2 and tries >= 15
    np.testing.assert_allclose(sampled_count, 1 - (1 - p) ** round(tries), rtol=1e-4)
    np.testing.assert_allclose(true_count, 1 - (1 - probability(TRUE)) ** round(tries), rtol=1e-4)


def test_runs_differ_and_seeds_repeat() -> None:
    values = []
    for seed in (1, 1, 2):
        with Graph().as_default(), gc.Session(device="numpy") as session:
            drawn = gc.nn.uniform_candidate_sampler(TRUE, 2, 8, True, 1000, seed=seed)
            values.append([session.run(drawn.sampled_candidates).tolist() for _ in range(2)])
    assert values[0] == values[1] and values[0] != values[2] and values[0][0] != values[0][1]


def numpy_logits(
    w: Any, b: Any, labels: Any, x: Any, sampled: Any, counts: Any, remove: bool
) -> tuple[np.ndarray, np.ndarray]:
    """TensorFlow's _compute_sampled_logits, row by row, in float64."""
    logits, targets = [], []
    for row, own in zip(x.astype(np.float64), labels, strict=True):
        true = [row @ w[c] + b[c] for c in own] - np.log(counts[0][len(logits)])
        other = [
            row @ w[c] + b[c] + (-1e38 if remove and c in own else 0) for c in sampled
        ] - np.log(counts[1])
        logits.append([*true, *other])
        targets.append([1 / len(own)] * len(own) + [0] * len(sampled))
    return np.array(logits), np.array(targets)


def inputs(seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in ((20, 5), (20,), (3, 5))]
    return arrays[0], arrays[1], arrays[2]


@pytest.mark.parametrize("remove", [False, True])
def test_losses(session: gc.Session, remove: bool) -> None:
    w, b, x = inputs()
    drawn = gc.nn.log_uniform_candidate_sampler(TRUE, 2, 12, True, 20, seed=5)
    given: dict[str, Any] = {"num_true": 2, "sampled_values": drawn}
    nce = gc.nn.nce_loss(w, b, TRUE, x, 12, 20, remove_accidental_hits=remove, **given)
    soft = gc.nn.sampled_softmax_loss(w, b, TRUE, x, 12, 20, remove_accidental_hits=remove, **given)
    values, (sampled, *counts) = session.run([[nce, soft], list(drawn)])
    assert set(sampled.tolist()) & set(TRUE.ravel().tolist())  # there are accidental hits
    logits, targets = numpy_logits(w, b, TRUE, x, sampled, counts, remove)
    with np.errstate(over="ignore"):
        sigmoid = np.maximum(logits, 0) - logits * targets + np.log1p(np.exp(-np.abs(logits)))
    np.testing.assert_allclose(values[0], sigmoid.sum(1), rtol=1e-4)
    top = logits.max(1, keepdims=True)
    log_softmax = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
    np.testing.assert_allclose(values[1], -(targets * log_softmax).sum(1), rtol=1e-4)


def test_gradients_by_differences(session: gc.Session) -> None:
    arrays = [a.astype(np.float64) for a in inputs(1)]
    w, b, x = (gc.placeholder(gc.float64, a.shape) for a in arrays)
    drawn = [np.array([3, 7, 11, 2]), np.full((3, 1), 0.5), np.full(4, 0.25)]
    given = [gc.constant(d, gc.int64 if d.dtype.kind == "i" else gc.float64) for d in drawn]
    labels = gc.placeholder(gc.int32, [None, 1])
    total = gc.reduce_sum(
        gc.nn.nce_loss(w, b, labels, x, 4, 20, sampled_values=given)
        + gc.nn.sampled_softmax_loss(w, b, labels, x, 4, 20, sampled_values=given)
    )
    feeds = {**dict(zip((w, b, x), arrays, strict=True)), labels: TRUE[:, :1]}
    slopes = session.run(gradients(total, [w, b, x]), feeds)
    rng = np.random.default_rng(2)
    for v, array, slope in zip((w, b, x), arrays, slopes, strict=True):
        way = rng.standard_normal(array.shape)
        ends = [session.run(total, {**feeds, v: array + s * 1e-6 * way}) for s in (1, -1)]
        np.testing.assert_allclose((slope * way).sum(), (ends[0] - ends[1]) / 2e-6, rtol=1e-5)


def test_training_with_the_default_sampler(session: gc.Session) -> None:
    rng = np.random.default_rng(0)
    w = gc.get_variable("w", [50, 8])
    b = gc.get_variable("b", [50], initializer=gc.zeros_initializer())
    embeddings = gc.get_variable("e", [50, 8])
    words, context = gc.placeholder(gc.int32, [None]), gc.placeholder(gc.int32, [None, 1])
    x = gc.nn.embedding_lookup(embeddings, words)
    loss = gc.reduce_mean(gc.nn.nce_loss(w, b, context, x, num_sampled=8, num_classes=50))
    step = gc.train.GradientDescentOptimizer(0.5).minimize(loss)
    session.run(gc.global_variables_initializer())
    curve = []
    for _ in range(120):
        batch = rng.integers(0, 50, 64)
        feeds = {words: batch, context: ((batch + 1) % 50)[:, None]}
        curve.append(session.run([loss, step], feeds)[0])
    assert np.mean(curve[-10:]) < 0.6 * np.mean(curve[:10])


WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "too_many": (
        lambda: gc.nn.uniform_candidate_sampler(TRUE, 2, 21, True, 20),
        gc.errors.AttributeValueError, "21 different classes of 20",
    ),
    "reserved": (
        lambda: gc.nn.fixed_unigram_candidate_sampler(
            TRUE, 2, 3, True, 3, unigrams=[1.0, 1.0], num_reserved_ids=1
        ),
        gc.errors.AttributeValueError, "3 different classes of 2",
    ),
    "unigrams": (
        lambda: gc.nn.fixed_unigram_candidate_sampler(TRUE, 2, 3, True, 5, unigrams=[1.0]),
        gc.errors.ShapeError, "1 unigrams.*5 classes",
    ),
    "none": (
        lambda: gc.nn.uniform_candidate_sampler(TRUE, 2, 0, True, 20),
        gc.errors.AttributeValueError, "0",
    ),
    "floats": (
        lambda: gc.nn.uniform_candidate_sampler(np.ones((2, 1), np.float32), 1, 3, True, 20),
        gc.errors.DTypeError, "integers",
    ),
    "num_true": (
        lambda: gc.nn.uniform_candidate_sampler(TRUE, 1, 3, True, 20), gc.errors.ShapeError, "1",
    ),
    "labels": (
        lambda: gc.nn.nce_loss(*inputs()[:2], TRUE[:, 0], inputs()[2], 3, 20),
        gc.errors.ShapeError, "expand_dims",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_errors(session: gc.Session, name: str) -> None:
    make, error, text = WRONG[name]
    with pytest.raises(error, match=text):
        make()

"""A training step of softmax regression (784-10, batch 100) against the same calls by hand.

    python -m benchmarks.softmax_regression

The hand-written step is what a careful NumPy user would write: every result in an array made
beforehand, through `out=`. Aim: graphc's step, session included, costs at most 1.5x.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import graphc as gc
from benchmarks.measure import interleaved, save

BATCH, INPUTS, CLASSES, RATE = 100, 784, 10, 0.5
Array = np.ndarray


def by_hand(x: Array, labels: Array, weights: Array, bias: Array) -> Callable[[], None]:
    """The step as NumPy calls on preallocated arrays; updates weights and bias in place."""
    logits, total = np.empty((BATCH, CLASSES), np.float32), np.empty((BATCH, 1), np.float32)
    d_weights, d_bias = np.empty_like(weights), np.empty_like(bias)
    scale, rate = np.float32(1 / BATCH), np.float32(RATE)

    def step() -> None:
        np.matmul(x, weights, logits)
        np.add(logits, bias, logits)
        np.maximum.reduce(logits, 1, out=total, keepdims=True)
        np.subtract(logits, total, logits)
        np.exp(logits, logits)
        np.add.reduce(logits, 1, out=total, keepdims=True)
        np.true_divide(logits, total, logits)
        np.subtract(logits, labels, logits)
        np.multiply(logits, scale, logits)
        np.matmul(x.T, logits, d_weights)
        np.add.reduce(logits, 0, out=d_bias)
        np.multiply(d_weights, rate, d_weights)
        np.subtract(weights, d_weights, weights)
        np.multiply(d_bias, rate, d_bias)
        np.subtract(bias, d_bias, bias)

    return step


def build() -> tuple[Any, ...]:
    """The same step as a graph: (image placeholder, label placeholder, weights, bias, step)."""
    x = gc.placeholder(gc.float32, [None, INPUTS])
    labels = gc.placeholder(gc.float32, [None, CLASSES])
    weights, bias = gc.Variable(gc.zeros([INPUTS, CLASSES])), gc.Variable(gc.zeros([CLASSES]))
    logits = gc.matmul(x, weights) + bias
    losses = gc.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    step = gc.train.GradientDescentOptimizer(RATE).minimize(gc.reduce_mean(losses))
    return x, labels, weights, bias, step


def measure(rounds: int = 31, repeats: int = 50) -> dict[str, float]:
    """Median seconds per step: by hand, Session.run, and make_callable; and the ratios."""
    rng = np.random.default_rng(0)
    images = rng.random((BATCH, INPUTS), np.float32)
    targets = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, BATCH)]
    weights, bias = np.zeros((INPUTS, CLASSES), np.float32), np.zeros(CLASSES, np.float32)
    hand = by_hand(images, targets, weights, bias)
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        x, labels, w, b, step = build()
        session.run(gc.global_variables_initializer())
        feeds = {x: images, labels: targets}
        for _ in range(20):
            hand()
            session.run(step, feeds)
        np.testing.assert_allclose(session.run(w), weights, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(session.run(b), bias, rtol=1e-4, atol=1e-6)
        call = session.make_callable(step, [x, labels])
        seconds = interleaved(
            {
                "by hand": hand,
                "Session.run": lambda: session.run(step, feeds),
                "make_callable": lambda: call(images, targets),
            },
            rounds,
            repeats,
        )
    ratios = {f"{k} / by hand": v / seconds["by hand"] for k, v in seconds.items()}
    return {**seconds, **ratios}


def main() -> None:
    """Measure, print, save."""
    figures = measure()
    for name in ("by hand", "Session.run", "make_callable"):
        print(f"{name:14} {figures[name] * 1e6:7.1f} us  {figures[f'{name} / by hand']:.2f}x")
    print("saved", save("softmax_regression", figures))


if __name__ == "__main__":
    main()

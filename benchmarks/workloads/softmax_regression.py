"""W1: softmax regression of 784 pixels to 10 classes, a step of gradient descent on 100 images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.workload import Array, Arrays, Optimizer, Training, generator, one_hot
from benchmarks.workloads.classification import losses, spelled

RATE = 0.5


def graph_logits(tf: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """graphc's and TensorFlow's."""
    return [tf.matmul(x["images"], p["weights"]) + p["bias"]]


def torch_logits(torch: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """torch's."""
    return [torch.addmm(p["bias"], x["images"], p["weights"])]


def jax_logits(jax: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """JAX's."""
    del jax
    return [x["images"] @ p["weights"] + p["bias"]]


def by_hand(p: Arrays, x: Arrays) -> Callable[[], None]:
    """What a careful NumPy user writes: every result in an array made beforehand."""
    images, labels, weights, bias = x["images"], x["labels"], p["weights"], p["bias"]
    logits = np.empty(labels.shape, np.float32)
    total = np.empty((len(labels), 1), np.float32)
    d_weights, d_bias = np.empty_like(weights), np.empty_like(bias)
    scale, rate = np.float32(1 / len(labels)), np.float32(RATE)

    def step() -> None:
        np.matmul(images, weights, logits)
        np.add(logits, bias, logits)
        np.maximum.reduce(logits, 1, out=total, keepdims=True)
        np.subtract(logits, total, logits)
        np.exp(logits, logits)
        np.add.reduce(logits, 1, out=total, keepdims=True)
        np.true_divide(logits, total, logits)
        np.subtract(logits, labels, logits)
        np.multiply(logits, scale, logits)
        np.matmul(images.T, logits, d_weights)
        np.add.reduce(logits, 0, out=d_bias)
        np.multiply(d_weights, rate, d_weights)
        np.subtract(weights, d_weights, weights)
        np.multiply(d_bias, rate, d_bias)
        np.subtract(bias, d_bias, bias)

    return step


def workload(tiny: bool = False) -> Training:
    """The row."""
    batch, pixels, classes = (6, 12, 5) if tiny else (100, 784, 10)
    rng = generator()
    images: Array = rng.random((batch, pixels), np.float32)
    return Training(
        title=f"softmax regression {pixels}-{classes}, batch {batch}, SGD step",
        parameters={
            "weights": np.zeros((pixels, classes), np.float32),
            "bias": np.zeros(classes, np.float32),
        },
        batch={"images": images, "labels": one_hot(rng, batch, classes)},
        optimizer=Optimizer("sgd", RATE),
        losses=losses(spelled(graph_logits, torch_logits, jax_logits)),
        flops=2 * 2 * batch * pixels * classes,
        tolerance=1e-3,
        by_hand=by_hand,
    )  # fmt: skip

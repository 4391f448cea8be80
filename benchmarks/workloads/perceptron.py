"""W2: a perceptron of 784-512-512-10, a step of Adam on 128 images; inference of the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.workload import Arrays, Function, Optimizer, Training, generator, one_hot, scaled
from benchmarks.workloads.classification import losses, spelled

SIZES = (784, 512, 512, 10)
TINY = 6, (12, 7, 9, 5)  # images, and sizes of layers


def _layers(p: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """Weights and bias of each."""
    return [(p[f"w{i}"], p[f"b{i}"]) for i in range(len(p) // 2)]


def graph_logits(tf: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """graphc's and TensorFlow's."""
    h, (*inner, (w, b)) = x["images"], _layers(p)
    for weights, bias in inner:
        h = tf.nn.relu(tf.matmul(h, weights) + bias)
    return [tf.matmul(h, w) + b]


def torch_logits(torch: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """torch's."""
    h, (*inner, (w, b)) = x["images"], _layers(p)
    for weights, bias in inner:
        h = torch.relu(torch.addmm(bias, h, weights))
    return [torch.addmm(b, h, w)]


def jax_logits(jax: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """JAX's."""
    h, (*inner, (w, b)) = x["images"], _layers(p)
    for weights, bias in inner:
        h = jax.nn.relu(h @ weights + bias)
    return [h @ w + b]


LOGITS = spelled(graph_logits, torch_logits, jax_logits)


def _parameters(rng: np.random.Generator, sizes: Sequence[int]) -> Arrays:
    parameters: Arrays = {}
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        parameters[f"w{i}"] = scaled(rng, inputs, outputs)
        parameters[f"b{i}"] = np.zeros(outputs, np.float32)
    return parameters


def _name(sizes: Sequence[int]) -> str:
    inner = f"{len(sizes) - 2} x {sizes[1]}" if len(sizes) > 6 else "-".join(map(str, sizes[1:-1]))
    return f"perceptron {sizes[0]}-{inner}-{sizes[-1]}"


def workload(tiny: bool = False, batch: int = 128, sizes: Sequence[int] = SIZES) -> Training:
    """The row."""
    batch, sizes = TINY if tiny else (batch, sizes)
    rng = generator()
    parameters = _parameters(rng, sizes)
    products = [n * m for n, m in pairwise(sizes)]
    images = rng.random((batch, sizes[0]), np.float32)
    return Training(
        title=f"{_name(sizes)}, batch {batch}, Adam step",
        parameters=parameters,
        batch={"images": images, "labels": one_hot(rng, batch, sizes[-1])},
        optimizer=Optimizer("adam", 1e-5),
        losses=losses(LOGITS),
        flops=2 * batch * (3 * sum(products) - products[0]),  # no gradient of the images
        tolerance=1e-2,
    )  # fmt: skip


def inference(tiny: bool = False, batch: int = 1, sizes: Sequence[int] = SIZES) -> Function:
    """Logits of as many images."""
    batch, sizes = TINY if tiny else (batch, sizes)
    rng = generator()
    weights = _parameters(rng, sizes)
    return Function(
        title=f"{_name(sizes)}, inference, batch {batch}",
        inputs={"images": rng.random((batch, sizes[0]), np.float32)},
        weights=weights,
        names=("logits",),
        outputs=LOGITS,
        tolerance=1e-3,
        traffic=sum(a.nbytes for a in weights.values()),
        flops=2.0 * batch * sum(n * m for n, m in pairwise(sizes)),
    )  # fmt: skip

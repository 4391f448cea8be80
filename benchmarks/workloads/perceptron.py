"""W2: a perceptron of 784-512-512-10, a step of Adam on 128 images."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.workload import Arrays, Optimizer, Training, generator, one_hot, scaled


def graph_loss(tf: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> Any:
    """graphc's and TensorFlow's."""
    h = tf.nn.relu(tf.matmul(x["images"], p["w0"]) + p["b0"])
    h = tf.nn.relu(tf.matmul(h, p["w1"]) + p["b1"])
    logits = tf.matmul(h, p["w2"]) + p["b2"]
    losses = tf.nn.softmax_cross_entropy_with_logits(labels=x["labels"], logits=logits)
    return tf.reduce_mean(losses)


def torch_loss(torch: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> Any:
    """torch's."""
    h = torch.relu(torch.addmm(p["b0"], x["images"], p["w0"]))
    h = torch.relu(torch.addmm(p["b1"], h, p["w1"]))
    return torch.nn.functional.cross_entropy(torch.addmm(p["b2"], h, p["w2"]), x["labels"])


def jax_loss(jax: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> Any:
    """JAX's."""
    h = jax.nn.relu(x["images"] @ p["w0"] + p["b0"])
    h = jax.nn.relu(h @ p["w1"] + p["b1"])
    return -(x["labels"] * jax.nn.log_softmax(h @ p["w2"] + p["b2"])).sum(1).mean()


def workload(tiny: bool = False) -> Training:
    """The row."""
    batch, *sizes = (6, 12, 7, 9, 5) if tiny else (128, 784, 512, 512, 10)
    rng = generator()
    parameters: Arrays = {}
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        parameters[f"w{i}"] = scaled(rng, inputs, outputs)
        parameters[f"b{i}"] = np.zeros(outputs, np.float32)
    products = [n * m for n, m in pairwise(sizes)]
    images = rng.random((batch, sizes[0]), np.float32)
    return Training(
        title=f"perceptron {'-'.join(map(str, sizes))}, batch {batch}, Adam step",
        parameters=parameters,
        batch={"images": images, "labels": one_hot(rng, batch, sizes[-1])},
        optimizer=Optimizer("adam", 1e-5),
        losses={
            "graphc": graph_loss, "tensorflow": graph_loss, "torch": torch_loss, "jax": jax_loss,
        },
        flops=2 * batch * (3 * sum(products) - products[0]),  # no gradient of the images
        tolerance=1e-2,
    )  # fmt: skip

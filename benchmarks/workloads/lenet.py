"""W3: a network like LeNet-5 (5x5x32, pool, 5x5x64, pool, 1024, 10), momentum, 64 images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.workload import Optimizer, Training, generator, normal, one_hot, scaled


def graph_loss(tf: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> Any:
    """graphc's and TensorFlow's."""
    h = x["images"]
    for layer in ("conv1", "conv2"):
        h = tf.nn.conv2d(h, p[layer], strides=[1, 1, 1, 1], padding="SAME")
        h = tf.nn.relu(h + p[f"{layer}_bias"])
        h = tf.nn.max_pool(h, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME")
    h = tf.reshape(h, [-1, p["hidden"].shape.as_list()[0]])
    h = tf.nn.relu(tf.matmul(h, p["hidden"]) + p["hidden_bias"])
    logits = tf.matmul(h, p["output"]) + p["output_bias"]
    losses = tf.nn.softmax_cross_entropy_with_logits(labels=x["labels"], logits=logits)
    return tf.reduce_mean(losses)


def torch_loss(torch: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> Any:
    """torch's; permuted images are channels-last, and so is what follows."""
    functional = torch.nn.functional
    h = x["images"].permute(0, 3, 1, 2)
    for layer in ("conv1", "conv2"):
        h = torch.relu(functional.conv2d(h, p[layer], p[f"{layer}_bias"], padding="same"))
        h = functional.max_pool2d(h, 2)
    h = h.permute(0, 2, 3, 1).reshape(h.shape[0], -1)
    h = torch.relu(torch.addmm(p["hidden_bias"], h, p["hidden"]))
    return functional.cross_entropy(torch.addmm(p["output_bias"], h, p["output"]), x["labels"])


def jax_loss(jax: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> Any:
    """JAX's."""
    h = x["images"]
    for layer in ("conv1", "conv2"):
        h = jax.lax.conv_general_dilated(
            h, p[layer], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        h = jax.nn.relu(h + p[f"{layer}_bias"])
        window = (1, 2, 2, 1)
        h = jax.lax.reduce_window(h, -np.inf, jax.lax.max, window, window, "VALID")
    h = h.reshape(h.shape[0], -1)
    h = jax.nn.relu(h @ p["hidden"] + p["hidden_bias"])
    logits = h @ p["output"] + p["output_bias"]
    return -(x["labels"] * jax.nn.log_softmax(logits)).sum(1).mean()


def workload(tiny: bool = False) -> Training:
    """The row."""
    batch, side, one, two, hidden = (3, 8, 4, 5, 6) if tiny else (64, 28, 32, 64, 1024)
    flat = (side // 4) ** 2 * two
    rng = generator()
    images = normal(rng, (batch, side, side, 1))
    first, second = 25 * one * side**2, 25 * one * two * (side // 2) ** 2
    return Training(
        title=f"LeNet-5 (5x5x{one}, 5x5x{two}, {hidden}, 10), batch {batch}, momentum step",
        parameters={
            "conv1": scaled(rng, 5, 5, 1, one), "conv1_bias": np.zeros(one, np.float32),
            "conv2": scaled(rng, 5, 5, one, two), "conv2_bias": np.zeros(two, np.float32),
            "hidden": scaled(rng, flat, hidden), "hidden_bias": np.zeros(hidden, np.float32),
            "output": scaled(rng, hidden, 10), "output_bias": np.zeros(10, np.float32),
        },
        batch={"images": images, "labels": one_hot(rng, batch, 10)},
        optimizer=Optimizer("momentum", 1e-4),
        losses={
            "graphc": graph_loss, "tensorflow": graph_loss, "torch": torch_loss, "jax": jax_loss,
        },
        flops=2 * batch * (2 * first + 3 * (second + flat * hidden + hidden * 10)),
        tolerance=1e-2,
        torch_layout={"conv1": (3, 2, 0, 1), "conv2": (3, 2, 0, 1)},
    )  # fmt: skip

"""W3: a network like LeNet-5 (5x5x32, pool, 5x5x64, pool, 1024, 10), momentum, 64 images.

Inference of the same, and other sizes of it, are rows of the GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.workload import (
    Arrays,
    Function,
    Optimizer,
    Training,
    generator,
    normal,
    one_hot,
    scaled,
)
from benchmarks.workloads.classification import losses, spelled


@dataclass(frozen=True)
class Sizes:
    """Of the images (a multiple of 4), windows, filters of both convolutions, hidden layer."""

    side: int = 28
    window: int = 5
    one: int = 32
    two: int = 64
    hidden: int = 1024

    @property
    def flat(self) -> int:
        """Features after the second pool."""
        return (self.side // 4) ** 2 * self.two

    @property
    def products(self) -> tuple[int, int, int]:
        """Multiply-adds of an image: both convolutions, and the dense layers."""
        area, square = self.window**2, self.side**2
        convolutions = area * self.one * square, area * self.one * self.two * square // 4
        return *convolutions, self.flat * self.hidden + self.hidden * 10


LENET = Sizes()
DEMO = Sizes(side=8, window=3, hidden=256)  # the network of `make demo`, without dropout
TINY = 3, Sizes(8, 5, 4, 5, 6)  # images, and sizes


def graph_logits(tf: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """graphc's and TensorFlow's."""
    h = x["images"]
    for layer in ("conv1", "conv2"):
        h = tf.nn.conv2d(h, p[layer], strides=[1, 1, 1, 1], padding="SAME")
        h = tf.nn.relu(h + p[f"{layer}_bias"])
        h = tf.nn.max_pool(h, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME")
    h = tf.reshape(h, [-1, p["hidden"].shape.as_list()[0]])
    h = tf.nn.relu(tf.matmul(h, p["hidden"]) + p["hidden_bias"])
    return [tf.matmul(h, p["output"]) + p["output_bias"]]


def torch_logits(torch: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """torch's; permuted images are channels-last, and so is what follows."""
    functional = torch.nn.functional
    h = x["images"].permute(0, 3, 1, 2)
    for layer in ("conv1", "conv2"):
        h = torch.relu(functional.conv2d(h, p[layer], p[f"{layer}_bias"], padding="same"))
        h = functional.max_pool2d(h, 2)
    h = h.permute(0, 2, 3, 1).reshape(h.shape[0], -1)
    h = torch.relu(torch.addmm(p["hidden_bias"], h, p["hidden"]))
    return [torch.addmm(p["output_bias"], h, p["output"])]


def jax_logits(jax: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
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
    return [h @ p["output"] + p["output_bias"]]


LOGITS = spelled(graph_logits, torch_logits, jax_logits)
_LAYOUT = {"conv1": (3, 2, 0, 1), "conv2": (3, 2, 0, 1)}


def _parameters(rng: np.random.Generator, sizes: Sizes) -> Arrays:
    window, one, two, hidden = (sizes.window,) * 2, sizes.one, sizes.two, sizes.hidden
    return {
        "conv1": scaled(rng, *window, 1, one), "conv1_bias": np.zeros(one, np.float32),
        "conv2": scaled(rng, *window, one, two), "conv2_bias": np.zeros(two, np.float32),
        "hidden": scaled(rng, sizes.flat, hidden), "hidden_bias": np.zeros(hidden, np.float32),
        "output": scaled(rng, hidden, 10), "output_bias": np.zeros(10, np.float32),
    }  # fmt: skip


def _name(sizes: Sizes) -> str:
    windows = f"{sizes.window}x{sizes.window}x"
    return f"LeNet-5 ({windows}{sizes.one}, {windows}{sizes.two}, {sizes.hidden}, 10)"


def workload(tiny: bool = False, batch: int = 64, sizes: Sizes = LENET) -> Training:
    """The row."""
    batch, sizes = TINY if tiny else (batch, sizes)
    rng = generator()
    images = normal(rng, (batch, sizes.side, sizes.side, 1))
    first, second, dense = sizes.products
    return Training(
        title=f"{_name(sizes)}, batch {batch}, momentum step",
        parameters=_parameters(rng, sizes),
        batch={"images": images, "labels": one_hot(rng, batch, 10)},
        optimizer=Optimizer("momentum", 1e-4),
        losses=losses(LOGITS),
        flops=2 * batch * (2 * first + 3 * (second + dense)),
        tolerance=1e-2,
        torch_layout=_LAYOUT,
    )  # fmt: skip


def inference(tiny: bool = False, batch: int = 1, sizes: Sizes = LENET) -> Function:
    """Logits of as many images."""
    batch, sizes = TINY if tiny else (batch, sizes)
    rng = generator()
    weights = _parameters(rng, sizes)
    return Function(
        title=f"{_name(sizes)}, inference, batch {batch}",
        inputs={"images": normal(rng, (batch, sizes.side, sizes.side, 1))},
        weights=weights,
        names=("logits",),
        outputs=LOGITS,
        tolerance=1e-3,
        traffic=sum(a.nbytes for a in weights.values()),
        flops=2.0 * batch * sum(sizes.products),
        torch_layout=_LAYOUT,
    )  # fmt: skip

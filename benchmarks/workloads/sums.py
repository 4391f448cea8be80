"""W9: the sum of exp(x - max x), and the variance of x, over 16M elements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.workload import Array, Arrays, Function, generator, normal


def graph_outputs(tf: Any, _: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """graphc's and TensorFlow's."""
    y = x["x"]
    shifted = tf.reduce_sum(tf.exp(y - tf.reduce_max(y)))
    return [shifted, tf.reduce_mean(tf.square(y - tf.reduce_mean(y)))]


def torch_outputs(torch: Any, _: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """torch's."""
    y = x["x"]
    return [torch.exp(y - y.max()).sum(), torch.var(y, unbiased=False)]


def jax_outputs(jax: Any, _: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """JAX's."""
    y = x["x"]
    return [jax.numpy.exp(y - y.max()).sum(), y.var()]


def by_hand(x: Arrays) -> Callable[[], list[Array]]:
    """NumPy's."""
    y = x["x"]
    space = np.empty_like(y)

    def call() -> list[Array]:
        np.subtract(y, y.max(), space)
        total = np.exp(space, space).sum()
        np.subtract(y, y.mean(), space)
        return [total, np.multiply(space, space, space).mean()]

    return call


def workload(tiny: bool = False) -> Function:
    """The row."""
    shape = (7, 33) if tiny else (4096, 4096)
    return Function(
        title=f"sum of exp(x - max), and variance, over {shape[0]} x {shape[1]}",
        inputs={"x": normal(generator(), shape)},
        names=("sum", "variance"),
        outputs={
            "graphc": graph_outputs, "tensorflow": graph_outputs, "torch": torch_outputs,
            "jax": jax_outputs,
        },
        tolerance=3e-3,  # onnxruntime's plain sum of 16M floats is 1.3e-3 away from all others
        traffic=4 * shape[0] * shape[1],
        by_hand=by_hand,
    )  # fmt: skip

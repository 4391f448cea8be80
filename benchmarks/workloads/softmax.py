"""W8s: softmax of 4096 rows of 4096."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.workload import Array, Arrays, Function, generator, normal


def graph_outputs(tf: Any, _: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """graphc's and TensorFlow's."""
    return [tf.nn.softmax(x["x"])]


def torch_outputs(torch: Any, _: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """torch's."""
    return [torch.softmax(x["x"], 1)]


def jax_outputs(jax: Any, _: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """JAX's."""
    return [jax.nn.softmax(x["x"])]


def by_hand(x: Arrays) -> Callable[[], list[Array]]:
    """NumPy's."""
    out, row = np.empty_like(x["x"]), np.empty((len(x["x"]), 1), np.float32)

    def call() -> list[Array]:
        np.maximum.reduce(x["x"], 1, out=row, keepdims=True)
        np.subtract(x["x"], row, out)
        np.exp(out, out)
        np.add.reduce(out, 1, out=row, keepdims=True)
        np.true_divide(out, row, out)
        return [out]

    return call


def workload(tiny: bool = False) -> Function:
    """The row."""
    rows, columns = (7, 33) if tiny else (4096, 4096)
    return Function(
        title=f"softmax of {rows} rows of {columns}",
        inputs={"x": normal(generator(), (rows, columns))},
        names=("y",),
        outputs={
            "graphc": graph_outputs, "tensorflow": graph_outputs, "torch": torch_outputs,
            "jax": jax_outputs,
        },
        tolerance=1e-5,
        traffic=2 * 4 * rows * columns,
        by_hand=by_hand,
    )  # fmt: skip

"""W7: gelu(x * a + b) + r * tanh(x) of 16M elements; a and b are rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.workload import Array, Arrays, Function, generator, normal

HALF_ROOT = 0.5**0.5


def graph_outputs(tf: Any, _: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """graphc's and TensorFlow's."""
    z = x["x"] * x["a"] + x["b"]
    return [0.5 * z * (1.0 + tf.math.erf(z * HALF_ROOT)) + x["r"] * tf.tanh(x["x"])]


def torch_outputs(torch: Any, _: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """torch's."""
    gelu = torch.nn.functional.gelu(torch.addcmul(x["b"], x["x"], x["a"]))
    return [torch.addcmul(gelu, x["r"], torch.tanh(x["x"]))]


def jax_outputs(jax: Any, _: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """JAX's."""
    gelu = jax.nn.gelu(x["x"] * x["a"] + x["b"], approximate=False)
    return [gelu + x["r"] * jax.numpy.tanh(x["x"])]


def by_hand(x: Arrays) -> Callable[[], list[Array]]:
    """NumPy's, with SciPy's erf; two arrays made beforehand."""
    from scipy.special import erf

    z, out = np.empty_like(x["x"]), np.empty_like(x["x"])

    def call() -> list[Array]:
        np.multiply(x["x"], x["a"], z)
        np.add(z, x["b"], z)
        np.multiply(z, np.float32(HALF_ROOT), out)
        erf(out, out)
        np.add(out, np.float32(1), out)
        np.multiply(out, z, out)
        np.multiply(out, np.float32(0.5), out)
        np.tanh(x["x"], z)
        np.multiply(z, x["r"], z)
        np.add(out, z, out)
        return [out]

    return call


def workload(tiny: bool = False) -> Function:
    """The row."""
    rows, columns = (7, 33) if tiny else (4096, 4096)
    rng = generator()
    return Function(
        title=f"gelu(x * a + b) + r * tanh(x), {rows} x {columns}",
        inputs={
            "x": normal(rng, (rows, columns)), "r": normal(rng, (rows, columns)),
            "a": normal(rng, (columns,)), "b": normal(rng, (columns,)),
        },
        names=("y",),
        outputs={
            "graphc": graph_outputs, "tensorflow": graph_outputs, "torch": torch_outputs,
            "jax": jax_outputs,
        },
        tolerance=1e-5,
        traffic=3 * 4 * rows * columns,
        by_hand=by_hand,
    )  # fmt: skip

"""W10: gelu(x w + bias) with matrices of 2048 x 2048."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.workload import Function, generator, normal


def graph_outputs(tf: Any, _: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """graphc's and TensorFlow's."""
    z = tf.matmul(x["x"], x["w"]) + x["bias"]
    return [0.5 * z * (1.0 + tf.math.erf(z * 0.5**0.5))]


def torch_outputs(torch: Any, _: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """torch's."""
    return [torch.nn.functional.gelu(torch.addmm(x["bias"], x["x"], x["w"]))]


def jax_outputs(jax: Any, _: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """JAX's."""
    return [jax.nn.gelu(x["x"] @ x["w"] + x["bias"], approximate=False)]


def workload(tiny: bool = False) -> Function:
    """The row."""
    size = 13 if tiny else 2048
    rng = generator()
    return Function(
        title=f"gelu(x w + bias), {size} x {size}",
        inputs={
            "x": normal(rng, (size, size)), "w": normal(rng, (size, size), size**-0.5),
            "bias": normal(rng, (size,)),
        },
        names=("y",),
        outputs={
            "graphc": graph_outputs, "tensorflow": graph_outputs, "torch": torch_outputs,
            "jax": jax_outputs,
        },
        tolerance=1e-4,
        traffic=3 * 4 * size**2,
        flops=2 * size**3,
    )  # fmt: skip

"""W8l: layer norm of 4096 rows of 4096, scaled and shifted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.workload import Array, Arrays, Function, generator, normal

EPSILON = 1e-5


def graphc_outputs(gc: Any, _: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """graphc's."""
    return [gc.nn.layer_norm(x["x"], x["scale"], x["offset"], epsilon=EPSILON)]


def tensorflow_outputs(tf: Any, _: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """TensorFlow's, whose raw ops have no layer norm."""
    mean, variance = tf.nn.moments(x["x"], [1], keepdims=True)
    given = (x["x"], mean, variance, x["offset"], x["scale"], EPSILON)
    return [tf.nn.batch_normalization(*given)]


def torch_outputs(torch: Any, _: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """torch's."""
    width = x["x"].shape[-1]
    norm = torch.nn.functional.layer_norm
    return [norm(x["x"], (width,), x["scale"], x["offset"], EPSILON)]


def jax_outputs(jax: Any, _: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """JAX's."""
    y = x["x"]
    mean, variance = y.mean(1, keepdims=True), y.var(1, keepdims=True)
    return [(y - mean) * jax.lax.rsqrt(variance + EPSILON) * x["scale"] + x["offset"]]


def by_hand(x: Arrays) -> Callable[[], list[Array]]:
    """NumPy's."""
    out, square = np.empty_like(x["x"]), np.empty_like(x["x"])
    row = np.empty((len(x["x"]), 1), np.float32)
    part = np.float32(1 / x["x"].shape[1])

    def call() -> list[Array]:
        np.add.reduce(x["x"], 1, out=row, keepdims=True)
        np.multiply(row, part, row)
        np.subtract(x["x"], row, out)
        np.multiply(out, out, square)
        np.add.reduce(square, 1, out=row, keepdims=True)
        np.multiply(row, part, row)
        np.add(row, np.float32(EPSILON), row)
        np.sqrt(row, row)
        np.true_divide(out, row, out)
        np.multiply(out, x["scale"], out)
        np.add(out, x["offset"], out)
        return [out]

    return call


def onnx_model(onnx: Any, x: Mapping[str, Any]) -> Any:
    """The one ONNX operator for it, which onnxruntime has a kernel of its own for."""
    names = ["x", "scale", "offset"]
    node = onnx.helper.make_node("LayerNormalization", names, ["y"], epsilon=EPSILON)
    infos = [_info(onnx, n, x[n].shape) for n in names]
    graph = onnx.helper.make_graph([node], "layer_norm", infos, [_info(onnx, "y", x["x"].shape)])
    opsets = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _info(onnx: Any, name: str, shape: Any) -> Any:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def workload(tiny: bool = False) -> Function:
    """The row."""
    rows, columns = (7, 33) if tiny else (4096, 4096)
    rng = generator()
    return Function(
        title=f"layer norm of {rows} rows of {columns}",
        inputs={
            "x": normal(rng, (rows, columns)), "scale": normal(rng, (columns,)),
            "offset": normal(rng, (columns,)),
        },
        names=("y",),
        outputs={
            "graphc": graphc_outputs, "tensorflow": tensorflow_outputs, "torch": torch_outputs,
            "jax": jax_outputs,
        },
        tolerance=1e-4,
        traffic=2 * 4 * rows * columns,
        by_hand=by_hand,
        onnx_model=onnx_model,
    )  # fmt: skip

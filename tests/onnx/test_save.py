"""Graphs as ONNX models: onnx.checker accepts them, onnxruntime and graphc agree on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import graphc as gc
from graphc.demo import NETWORKS
from graphc.ir.errors import ModelError, UnsupportedOp
from graphc.onnx import load, save


@pytest.fixture(autouse=True)
def _graph() -> Iterator[None]:
    with gc.Graph().as_default():
        gc.set_random_seed(5)
        yield


def reloaded(proto: Any, feeds: dict[str, Any]) -> list[Any]:
    model = load(proto)
    with gc.Session(graph=model.graph, device="numpy") as session:
        given = {model.inputs[n]: x for n, x in feeds.items()}
        return list(session.run(list(model.outputs.values()), given))


def others(proto: Any, feeds: dict[str, Any]) -> list[Any]:
    """The same by onnxruntime."""
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, feeds))


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
def test_the_demo_networks_come_back_bit_by_bit(network: Any, tmp_path: Path) -> None:
    images = gc.placeholder(gc.float32, [None, 8, 8])
    logits = network.logits(images, 1.0)
    x = np.random.default_rng(0).random((7, 8, 8), np.float32)
    with gc.Session(device="numpy") as session:
        session.run(gc.global_variables_initializer())
        want = session.run(logits, {images: x})
        path = tmp_path / "net.onnx"
        save({"logits": logits}, path, inputs={"images": images}, session=session)
    feeds = {"images": x}
    proto = path.read_bytes()
    (again,) = reloaded(path, feeds)
    np.testing.assert_array_equal(again, want)
    engine = onnxruntime.InferenceSession(proto, providers=["CPUExecutionProvider"])
    (other,) = engine.run(None, feeds)
    np.testing.assert_allclose(other, want, rtol=1e-5, atol=1e-5)


def x_(*shape: Any, dtype: Any = gc.float32) -> Any:
    return gc.placeholder(dtype, list(shape), name="x")


FUNCTIONS: dict[str, tuple[Callable[[Any], Any], tuple[Any, ...]]] = {
    "elementwise": (lambda x: gc.tanh(x) * gc.exp(-x) / (gc.sqrt(gc.abs(x)) + 1.0), (None, 5)),
    "rsqrt and square": (lambda x: gc.rsqrt(gc.square(x) + 1.0), (3, None)),
    "comparisons": (
        lambda x: gc.where(gc.logical_and(x > 0.2, gc.not_equal(x, 0.5)), x, -x), (4, 5),
    ),
    "reductions": (
        lambda x: gc.reduce_mean(x, 1) + gc.reduce_max(x, 1) - gc.reduce_sum(x), (None, 5),
    ),
    "argmax": (lambda x: gc.cast(gc.argmax(x, 1), gc.float32), (None, 5)),
    "matmul": (lambda x: gc.matmul(x, x, transpose_b=True), (4, 5)),
    "softmax": (lambda x: gc.nn.softmax(x) + gc.nn.log_softmax(x), (None, 5)),
    "reshape": (lambda x: gc.reshape(x, [-1, 2]), (4, 5)),
    "reshape by its shape": (lambda x: gc.reshape(x, [gc.shape(x)[0], 5, 1]), (None, 5)),
    "transpose": (lambda x: gc.transpose(x) * 2.0, (4, None)),
    "slices": (lambda x: x[1:, ::2] + x[:-1, 4], (4, 5)),
    "slices backwards": (lambda x: x[::-1, -2:], (4, 5)),
    "open slices": (lambda x: x[:, 0] + x[:, -1], (None, 5)),
    "concat": (lambda x: gc.concat([x, x * 2.0], 0), (None, 5)),
    "stack": (lambda x: gc.stack([x, x], 1), (4, 5)),
    "pad": (lambda x: gc.pad(x, [[1, 0], [0, 2]], constant_values=3.0), (4, 5)),
    "gather": (lambda x: gc.gather(x, [2, 0]), (4, 5)),
    "layer norm": (lambda x: gc.nn.layer_norm(x, gc.ones([5]), gc.zeros([5])), (4, 5)),
    "cross entropy": (
        lambda x: gc.nn.softmax_cross_entropy_with_logits(labels=x * x, logits=x), (4, 5),
    ),
    "zeros like": (lambda x: gc.maximum(x, gc.zeros_like(x)), (None, 5)),
    "activations": (
        lambda x: gc.nn.relu6(x) + gc.nn.elu(x) + gc.nn.leaky_relu(x) + gc.nn.selu(x), (None, 5),
    ),
    "layer norm of a batch": (
        lambda x: gc.nn.layer_norm(x, gc.ones([5]), gc.zeros([5])), (None, 5),
    ),
    "moments": (lambda x: gc.stack(gc.nn.moments(x, [1])), (None, 5)),
    "slices with new axes": (lambda x: x[..., gc.newaxis, ::-2] + x[:, None, -1:], (None, 5)),
    "tile": (lambda x: gc.tile(x, [2, 3]), (None, 5)),
    "einsum": (lambda x: gc.einsum("ij,kj->ik", x, x), (4, 5)),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    function, shape = FUNCTIONS[name]
    x = x_(*shape)
    y = function(x)
    sizes = [d or (4, 5)[i] for i, d in enumerate(shape)]
    data = np.random.default_rng(3).standard_normal(sizes).astype("f")
    with gc.Session(device="numpy") as session:
        want = session.run(y, {x: data})
    proto = save({"y": y})
    np.testing.assert_allclose(others(proto, {"x": data})[0], want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(reloaded(proto, {"x": data})[0], want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_convolution_and_pooling(padding: str, data_format: str) -> None:
    rng = np.random.default_rng(1)
    shape = (2, 9, 8, 3) if data_format == "NHWC" else (2, 3, 9, 8)
    x, w = x_(*shape), gc.constant(rng.standard_normal((3, 2, 3, 4)).astype("f"))
    strides = [1, 2, 1, 1] if data_format == "NHWC" else [1, 1, 2, 1]
    y = gc.nn.conv2d(x, w, strides, padding, data_format=data_format)
    window = [1, 2, 2, 1] if data_format == "NHWC" else [1, 1, 2, 2]
    z = gc.nn.max_pool(gc.nn.relu(y), window, window, padding, data_format=data_format)
    z = gc.nn.avg_pool(z, window, [1, 1, 1, 1], "SAME", data_format=data_format)
    data = rng.standard_normal(shape).astype("f")
    with gc.Session(device="numpy") as session:
        want = session.run(z, {x: data})
    proto = save({"z": z})
    np.testing.assert_allclose(others(proto, {"x": data})[0], want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(reloaded(proto, {"x": data})[0], want, rtol=1e-5, atol=1e-5)


def test_unknown_sizes_keep_their_names() -> None:
    proto = save({"y": x_(None, 3) * 2.0})
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "x.0"


def test_what_cannot_be_said() -> None:
    with pytest.raises(UnsupportedOp, match=r"cholesky.*has no spelling"):
        save(gc.cholesky(x_(3, 3)))
    with pytest.raises(ModelError, match="give the session"):
        save(gc.Variable(1.0, name="v") * 2.0)
    v = gc.Variable(1.0)
    with pytest.raises(ModelError, match="changes no variables"):
        save(v.assign(2.0))

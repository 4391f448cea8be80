"""Layers: shapes, names and values against torch, classes that share, losses and updates."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import graphc as gc
from graphc.ir.graph import Graph

RNG = np.random.default_rng(7)
VOLUME = RNG.standard_normal((2, 5, 6, 7, 3)).astype(np.float32)


@pytest.fixture
def session() -> Iterator[gc.Session]:
    with Graph().as_default(), gc.Session(device="numpy") as session:
        yield session


def image(rank: int) -> np.ndarray:
    return VOLUME[(slice(None), *(0,) * (3 - rank))]


def first(x: np.ndarray) -> torch.Tensor:
    return torch.tensor(np.moveaxis(x, -1, 1).copy())


def torch_filter(w: np.ndarray) -> torch.Tensor:
    return torch.tensor(np.moveaxis(w, (-1, -2), (0, 1)).copy())


def run(session: gc.Session, y: Any, feeds: Any = None) -> tuple[np.ndarray, list[np.ndarray]]:
    session.run(gc.global_variables_initializer())
    return session.run([y, gc.global_variables()], feeds)


CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
LAYERS = {1: gc.layers.conv1d, 2: gc.layers.conv2d, 3: gc.layers.conv3d}


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("channels_first", [False, True])
def test_convolutions(session: gc.Session, rank: int, channels_first: bool) -> None:
    x = image(rank)
    given = np.moveaxis(x, -1, 1) if channels_first else x
    y = LAYERS[rank](
        given, 4, 3, strides=2, data_format="channels_first" if channels_first else "channels_last",
        bias_initializer=gc.constant_initializer(0.25), activation=gc.nn.relu,
    )  # fmt: skip
    names = [v.name for v in gc.global_variables()]
    assert names == [f"conv{rank}d/kernel:0", f"conv{rank}d/bias:0"]
    assert y.name.startswith(f"conv{rank}d/Relu")
    got, (w, b) = run(session, y)
    assert b.tolist() == [0.25] * 4
    want = torch.relu(CONV[rank](first(x), torch_filter(w), torch.tensor(b), 2)).numpy()
    got = got if channels_first else np.moveaxis(got, -1, 1)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize(
    ("padding", "stride", "size"),
    [("valid", 2, 3), ("same", 2, 3), ("valid", 3, 2), ("same", 1, 2)],
)
def test_transposed_convolutions(
    session: gc.Session, rank: int, padding: str, stride: int, size: int
) -> None:
    x = image(rank)
    layer = {2: gc.layers.conv2d_transpose, 3: gc.layers.conv3d_transpose}[rank]
    y = layer(x, 2, size, strides=stride, padding=padding, use_bias=False)
    more = max(size - stride, 0) if padding == "valid" else 0
    sizes = tuple(n * stride + more for n in x.shape[1:-1])
    assert y.shape == (2, *sizes, 2)
    got, (w,) = run(session, y)
    assert w.shape == (*(size,) * rank, 2, 3)
    transposed = {2: F.conv_transpose2d, 3: F.conv_transpose3d}[rank]
    full = transposed(first(x), torch_filter(w), stride=stride).numpy()
    low = max(size - stride, 0) // 2 if padding == "same" else 0
    part = full[(..., *(slice(low, low + n) for n in sizes))]
    want = np.zeros((2, 2, *sizes), np.float32)
    want[tuple(slice(0, n) for n in part.shape)] = part
    np.testing.assert_allclose(np.moveaxis(got, -1, 1), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 2])
def test_separable_convolutions(session: gc.Session, rank: int) -> None:
    x = image(rank)
    layer = {1: gc.layers.separable_conv1d, 2: gc.layers.separable_conv2d}[rank]
    y = layer(x, 5, 3, depth_multiplier=2, name="deep")
    names = [v.op.name for v in gc.global_variables()]
    assert names == ["deep/depthwise_kernel", "deep/pointwise_kernel", "deep/bias"]
    got, (deep, point, bias) = run(session, y)
    assert deep.shape == (*(3,) * rank, 3, 2) and point.shape == (*(1,) * rank, 6, 5)
    flat = deep.reshape(*(3,) * rank, 1, 6)
    mid = CONV[rank](first(x), torch_filter(flat), groups=3)
    want = CONV[rank](mid, torch_filter(point), torch.tensor(bias)).numpy()
    np.testing.assert_allclose(np.moveaxis(got, -1, 1), want, rtol=1e-4, atol=1e-5)


POOLS = {
    "max": {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d},
    "average": {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d},
}


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", ["max", "average"])
def test_pooling(session: gc.Session, rank: int, kind: str) -> None:
    x = image(rank)
    name = f"{kind}_pooling{rank}d"
    y = getattr(gc.layers, name)(x, 2, 2)
    assert y.op.name.startswith(name + "/")
    again = getattr(gc.layers, name.title().replace("_", "").replace("d", "D"))
    layer = again([2] * rank, [2] * rank, "valid")
    got, other = session.run([y, layer(x)])
    np.testing.assert_array_equal(got, other)
    want = POOLS[kind][rank](first(x), 2).numpy()
    np.testing.assert_allclose(np.moveaxis(got, -1, 1), want, rtol=1e-5, atol=1e-6)


def test_a_layer_called_twice_shares_its_variables(session: gc.Session) -> None:
    layer = gc.layers.Dense(3, gc.nn.tanh, kernel_initializer=gc.ones_initializer())
    assert not layer.built and layer.weights == []
    a, b = layer(np.ones((2, 4), np.float32)), layer(np.zeros((5, 4), np.float32))
    other = gc.layers.Dense(3)
    other(np.ones((2, 4), np.float32))
    names = [v.op.name for v in gc.global_variables()]
    assert names == ["dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"]
    assert layer.kernel is gc.global_variables()[0] and layer.name == "dense"
    assert other.scope_name == "dense_1" and layer.count_params() == 15
    assert layer.trainable_variables == [layer.kernel, layer.bias]
    session.run(gc.global_variables_initializer())
    values = session.run([a, b])
    np.testing.assert_allclose(values[0], np.full((2, 3), np.tanh(4)), rtol=1e-6)
    np.testing.assert_array_equal(values[1], np.zeros((5, 3)))


def test_a_layer_of_one_more_dim_and_frozen(session: gc.Session) -> None:
    x = RNG.standard_normal((2, 3, 4)).astype(np.float32)
    y = gc.layers.dense(x, 5, trainable=False)
    assert gc.trainable_variables() == [] and len(gc.global_variables()) == 2
    got, (w, b) = run(session, y)
    np.testing.assert_allclose(got, x @ w + b, rtol=1e-5, atol=1e-5)


def test_reuse_by_scope_and_by_argument(session: gc.Session) -> None:
    x = np.ones((2, 6, 6, 3), np.float32)
    with gc.variable_scope("net"):
        a = gc.layers.conv2d(x, 2, 3, name="conv")
    with gc.variable_scope("net", reuse=True):
        b = gc.layers.conv2d(x, 2, 3, name="conv")
    with gc.variable_scope("net"):
        c = gc.layers.conv2d(x, 2, 3, name="conv", reuse=True)
    assert [v.op.name for v in gc.global_variables()] == ["net/conv/kernel", "net/conv/bias"]
    values, _ = run(session, [a, b, c])
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(values[0], values[2])


def test_regularizers_and_constraints(session: gc.Session) -> None:
    def double(w: Any) -> Any:
        return gc.reduce_sum(gc.abs(w)) * 2.0

    layer = gc.layers.Conv2D(
        2, 1, kernel_regularizer=double, bias_regularizer=double, activity_regularizer=double,
        kernel_initializer=gc.ones_initializer(), kernel_constraint=lambda w: w * 0.5,
    )  # fmt: skip
    layer(np.ones((1, 2, 2, 3), np.float32))
    losses = gc.get_collection(gc.GraphKeys.REGULARIZATION_LOSSES)
    assert losses == layer.losses and len(losses) == 3
    session.run(gc.global_variables_initializer())
    assert session.run(losses) == [12.0, 0.0, 48.0]
    step = gc.train.GradientDescentOptimizer(0.0).minimize(losses[0])
    session.run(step)
    assert np.unique(session.run(layer.kernel)).tolist() == [0.5]


def test_batch_normalization_layer(session: gc.Session) -> None:
    layer = gc.layers.BatchNormalization(momentum=0.5, center=False)
    x = np.array([[1.0], [3.0]], np.float32)
    y = layer(x, training=True)
    assert layer.beta is None and [v.op.name for v in layer.weights] == [
        f"batch_normalization/{n}" for n in ("gamma", "moving_mean", "moving_variance")
    ]
    assert layer.trainable_variables == [layer.gamma]
    assert layer.non_trainable_variables == [layer.moving_mean, layer.moving_variance]
    assert layer.updates == gc.get_collection(gc.GraphKeys.UPDATE_OPS) and len(layer.updates) == 2
    session.run(gc.global_variables_initializer())
    value = session.run([y, layer.updates])[0]
    np.testing.assert_allclose(value, [[-0.9995], [0.9995]], rtol=1e-4)
    # no image: the batch's variance, 1, is divided by n
    assert session.run(layer.moving_mean) == 1.0 and session.run(layer.moving_variance) == 1.0


def test_functions_have_the_signatures_of_their_classes() -> None:
    names = list(inspect.signature(gc.layers.conv2d).parameters)
    assert names[:4] == ["inputs", "filters", "kernel_size", "strides"]
    assert names[-2:] == ["name", "reuse"] and gc.layers.conv2d.__name__ == "conv2d"


IMAGE = np.ones((1, 4, 4, 2), np.float32)
WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "padding": (
        lambda: gc.layers.conv2d(IMAGE, 3, 3, padding="full"),
        gc.errors.AttributeValueError, "'full'",
    ),
    "kernel_size": (
        lambda: gc.layers.conv2d(IMAGE, 3, [3, 3, 3]), gc.errors.AttributeValueError, "3, 3, 3",
    ),
    "rank": (lambda: gc.layers.conv1d(IMAGE, 3, 3), gc.errors.ShapeError, "rank 3"),
    "pool_format": (
        lambda: gc.layers.max_pooling2d(IMAGE, 2, 2, data_format="NHWC"),
        gc.errors.AttributeValueError, "channels_last",
    ),
    "too_large": (lambda: gc.layers.max_pooling2d(IMAGE, 5, 1), gc.errors.ShapeError, "5.*4"),
    "renorm": (
        lambda: gc.layers.batch_normalization(IMAGE, renorm=True),
        gc.errors.AttributeValueError, "renorm",
    ),
    "scope": (lambda: gc.layers.Dense(3).scope_name, gc.errors.GraphError, "first call"),
    "argument": (lambda: gc.layers.conv2d(IMAGE, 3, 3, size=1), TypeError, "size"),
    "units": (
        lambda: gc.layers.Dense(3)(gc.placeholder(gc.float32, None)),
        gc.errors.ShapeError, "dim -1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_errors(session: gc.Session, name: str) -> None:
    make, error, text = WRONG[name]
    with pytest.raises(error, match=text):
        make()

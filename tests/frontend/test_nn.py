"""nn, losses and layers, against torch; dropout and batch normalization in training and after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import graphc as gc

RNG = np.random.default_rng(9)
X = RNG.standard_normal((6, 5)).astype(np.float32) * 3
EDGES = np.array([-100.0, -1.0, -0.0, 0.0, 1e-3, 1.0, 100.0, np.nan], np.float32)
CLASSES = np.array([0, 4, 1, 1, 3, 2])
IMAGE = RNG.standard_normal((2, 7, 6, 4)).astype(np.float32)


@pytest.fixture(autouse=True)
def session() -> Iterator[gc.Session]:
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        yield session


ACTIVATIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "relu": (gc.nn.relu, torch.relu),
    "relu6": (gc.nn.relu6, functional.relu6),
    "leaky_relu": (gc.nn.leaky_relu, lambda t: functional.leaky_relu(t, 0.2)),
    "elu": (gc.nn.elu, functional.elu),
    "selu": (gc.nn.selu, functional.selu),
    "softplus": (gc.nn.softplus, lambda t: torch.logaddexp(t, torch.zeros_like(t))),
    "softsign": (gc.nn.softsign, functional.softsign),
    "swish": (gc.nn.swish, functional.silu),
    "gelu": (gc.nn.gelu, functional.gelu),
    "gelu, approximate": (
        lambda x: gc.nn.gelu(x, approximate=True),
        lambda t: functional.gelu(t, approximate="tanh"),
    ),
    "log_sigmoid": (gc.nn.log_sigmoid, functional.logsigmoid),
    "sigmoid": (gc.nn.sigmoid, torch.sigmoid),
    "tanh": (gc.nn.tanh, torch.tanh),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_their_gradients(session: gc.Session, name: str) -> None:
    ours, theirs = ACTIVATIONS[name]
    x = gc.placeholder(gc.float32, [None])
    y = ours(x)
    got, slope = session.run([y, gc.gradients(y, x)[0]], {x: EDGES})
    t = torch.tensor(EDGES, requires_grad=True)
    want = theirs(t)
    np.testing.assert_allclose(got, want.detach(), rtol=2e-5, atol=2e-6)
    inner = ~np.isin(EDGES, [0.0, np.nan]) & ~np.isnan(EDGES)  # torch takes other sides at kinks
    np.testing.assert_allclose(
        slope[inner], torch.autograd.grad(want.sum(), t)[0][inner], rtol=2e-5, atol=2e-6
    )


ONE_HOT = np.eye(5, dtype=np.float32)[CLASSES]
BINARY = (X > 0.5).astype(np.float32)


def _torch_ce(x: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(x, torch.tensor(CLASSES), reduction="none")


LOSSES: dict[str, tuple[Callable[[Any], Any], Callable[[torch.Tensor], torch.Tensor]]] = {
    "softmax": (
        lambda x: gc.nn.softmax_cross_entropy_with_logits(labels=ONE_HOT, logits=x), _torch_ce),
    "softmax, positional": (
        lambda x: gc.nn.softmax_cross_entropy_with_logits(ONE_HOT, x), _torch_ce),
    "softmax v2 along axis 0": (
        lambda x: gc.nn.softmax_cross_entropy_with_logits_v2(ONE_HOT.T, gc.transpose(x), axis=0),
        _torch_ce),
    "sparse": (
        lambda x: gc.nn.sparse_softmax_cross_entropy_with_logits(labels=CLASSES, logits=x),
        _torch_ce),
    "sigmoid": (
        lambda x: gc.nn.sigmoid_cross_entropy_with_logits(labels=BINARY, logits=x),
        lambda t: functional.binary_cross_entropy_with_logits(
            t, torch.tensor(BINARY), reduction="none")),
    "weighted": (
        lambda x: gc.nn.weighted_cross_entropy_with_logits(BINARY, x, 3.0),
        lambda t: functional.binary_cross_entropy_with_logits(
            t, torch.tensor(BINARY), reduction="none", pos_weight=torch.tensor(3.0))),
    "losses.softmax": (
        lambda x: gc.losses.softmax_cross_entropy(ONE_HOT, x),
        lambda t: functional.cross_entropy(t, torch.tensor(CLASSES))),
    "losses.softmax, smoothed": (
        lambda x: gc.losses.softmax_cross_entropy(ONE_HOT, x, label_smoothing=0.1),
        lambda t: functional.cross_entropy(t, torch.tensor(CLASSES), label_smoothing=0.1)),
    "losses.sparse": (
        lambda x: gc.losses.sparse_softmax_cross_entropy(CLASSES[:, None], x),
        lambda t: functional.cross_entropy(t, torch.tensor(CLASSES))),
    "losses.sigmoid": (
        lambda x: gc.losses.sigmoid_cross_entropy(BINARY, x),
        lambda t: functional.binary_cross_entropy_with_logits(t, torch.tensor(BINARY))),
    "losses.mse": (
        lambda x: gc.losses.mean_squared_error(BINARY, x),
        lambda t: functional.mse_loss(t, torch.tensor(BINARY))),
    "losses.absolute": (
        lambda x: gc.losses.absolute_difference(BINARY, x),
        lambda t: functional.l1_loss(t, torch.tensor(BINARY))),
    "losses.huber": (
        lambda x: gc.losses.huber_loss(BINARY, x, delta=0.7),
        lambda t: functional.huber_loss(t, torch.tensor(BINARY), delta=0.7)),
    "l2_loss": (gc.nn.l2_loss, lambda t: (t * t).sum() / 2),
    "l2_normalize": (lambda x: gc.nn.l2_normalize(x, 1), lambda t: functional.normalize(t, dim=1)),
    "log_softmax": (gc.nn.log_softmax, lambda t: torch.log_softmax(t, -1)),
    "softmax dim": (lambda x: gc.nn.softmax(x, dim=0), lambda t: torch.softmax(t, 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_their_gradients(session: gc.Session, name: str) -> None:
    ours, theirs = LOSSES[name]
    x = gc.placeholder(gc.float32, [None, 5])
    y = ours(x)
    weights = np.cos(np.arange(30, dtype=np.float32))  # so that no gradient is 0 by symmetry
    flat = gc.reshape(y, [-1])
    weighed = gc.reduce_sum(
        flat * gc.constant(weights)[: int(np.prod(theirs(torch.tensor(X)).shape))]
    )
    got, slope = session.run([y, gc.gradients(weighed, x)[0]], {x: X})
    t = torch.tensor(X, requires_grad=True)
    want = theirs(t)
    np.testing.assert_allclose(got, want.detach(), rtol=2e-5, atol=1e-5)
    scaled = (want.flatten() * torch.tensor(weights)[: want.numel()]).sum()
    np.testing.assert_allclose(slope, torch.autograd.grad(scaled, t)[0], rtol=1e-4, atol=1e-5)


def test_no_gradient_flows_into_the_labels_of_the_first_version() -> None:
    y, x = gc.constant(ONE_HOT), gc.constant(X)
    first = gc.nn.softmax_cross_entropy_with_logits(labels=y, logits=x)
    second = gc.nn.softmax_cross_entropy_with_logits_v2(labels=y, logits=x)
    assert gc.gradients(first, y) == [None]
    assert gc.gradients(second, y) != [None]


def test_weighted_losses(session: gc.Session) -> None:
    values, weights = np.array([1.0, 2.0, 4.0], np.float32), [1.0, 0.0, 3.0]
    R = gc.losses.Reduction
    want: dict[str, Any] = {
        R.NONE: [1, 0, 12],
        R.SUM: 13,
        R.MEAN: 13 / 4,
        R.SUM_OVER_BATCH_SIZE: 13 / 3,
        R.SUM_OVER_NONZERO_WEIGHTS: 13 / 2,
    }
    for kind, expected in want.items():
        loss = gc.losses.compute_weighted_loss(values, weights, reduction=kind)
        np.testing.assert_allclose(session.run(loss), expected, rtol=1e-6)
    assert session.run(gc.losses.compute_weighted_loss(values, 0.0)) == 0.0
    assert len(gc.losses.get_losses()) == 6
    with pytest.raises(gc.errors.AttributeValueError, match="reduction"):
        gc.losses.compute_weighted_loss(values, reduction="mean")


def test_bias_add(session: gc.Session) -> None:
    bias = np.arange(4, dtype=np.float32)
    last, second = (
        gc.nn.bias_add(IMAGE, bias),
        gc.nn.bias_add(IMAGE.transpose(0, 3, 1, 2), bias, "NCHW"),
    )
    got = session.run([last, second])
    np.testing.assert_allclose(got[0], IMAGE + bias)
    np.testing.assert_allclose(got[1].transpose(0, 2, 3, 1), IMAGE + bias)
    with pytest.raises(gc.errors.ShapeError, match="one number per channel"):
        gc.nn.bias_add(IMAGE, np.zeros(1, np.float32))
    with pytest.raises(gc.errors.ShapeError, match="vector"):
        gc.nn.bias_add(IMAGE, IMAGE)


def test_dropout(session: gc.Session) -> None:
    x = gc.placeholder(gc.float32, [None, 100])
    keep = gc.placeholder_with_default(0.25, [])
    a, b = gc.nn.dropout(x, keep), gc.nn.dropout(x, rate=0.75)
    rows = gc.nn.dropout(x, 0.5, noise_shape=[gc.shape(x)[0], 1])
    ones = np.ones((100, 100), np.float32)
    for y in session.run([a, b], {x: ones}):
        assert set(np.unique(y)) == {0.0, 4.0}
        assert abs((y > 0).mean() - 0.25) < 0.02
    np.testing.assert_array_equal(session.run(a, {x: ones, keep: 1.0}), ones)
    together = session.run(rows, {x: ones})
    assert (together == together[:, :1]).all() and len(np.unique(together)) == 2
    grad = gc.gradients(gc.reduce_sum(a), x)[0]
    y, g = session.run([a, grad], {x: ones})
    np.testing.assert_array_equal(y, g)  # the same mask backward
    nan = session.run(gc.nn.dropout(x, 0.5), {x: ones * np.inf})
    assert set(np.unique(nan)) == {0.0, np.inf}, "what is dropped is 0, not inf * 0"
    for bad in ({"keep_prob": 0.0}, {"keep_prob": 1.5}, {}, {"keep_prob": 0.5, "rate": 0.5}):
        with pytest.raises(gc.errors.AttributeValueError):
            gc.nn.dropout(x, **bad)  # type: ignore[arg-type]


def test_in_top_k_and_moments(session: gc.Session) -> None:
    hit = session.run(gc.nn.in_top_k(X, CLASSES, 2))
    want = [c in np.argsort(-row)[:2] for row, c in zip(X, CLASSES, strict=True)]
    np.testing.assert_array_equal(hit, want)
    mean, variance = session.run(list(gc.nn.moments(IMAGE, [0, 1, 2])))
    np.testing.assert_allclose(mean, IMAGE.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(variance, IMAGE.var((0, 1, 2)), rtol=1e-5)
    kept, _ = gc.nn.moments(IMAGE, [1], keep_dims=True)
    assert kept.type.static_shape == (2, 1, 6, 4)


def test_normalizations_against_torch(session: gc.Session) -> None:
    scale, offset, mean = RNG.standard_normal((3, 4)).astype(np.float32)
    variance = RNG.uniform(0.5, 2, 4).astype(np.float32)
    t, vectors = torch.tensor(IMAGE), [torch.tensor(v) for v in (scale, offset)]
    first = t.permute(0, 3, 1, 2)
    given = torch.tensor(mean), torch.tensor(variance)
    batch = functional.batch_norm(first, None, None, *vectors, training=True, eps=1e-3)
    fixed = functional.batch_norm(first, *given, *vectors, eps=1e-3)
    rows = functional.layer_norm(t, (4,), *vectors, eps=1e-5)
    lrn = functional.local_response_norm(first, 5, alpha=5 * 0.3, beta=0.6, k=1.5)
    y, center, spread = gc.nn.fused_batch_norm(IMAGE, scale, offset)
    outside = gc.nn.fused_batch_norm(
        IMAGE.transpose(0, 3, 1, 2), scale, offset, mean, variance, data_format="NCHW",
        is_training=False,
    )  # fmt: skip
    got = session.run(
        [y, outside[0], gc.nn.layer_norm(IMAGE, scale, offset), gc.nn.lrn(IMAGE, 2, 1.5, 0.3, 0.6)]
    )
    want = batch.permute(0, 2, 3, 1), fixed, rows, lrn.permute(0, 2, 3, 1)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=2e-5, atol=2e-5)
    moments = session.run([center, spread, outside[1], outside[2]])
    np.testing.assert_allclose(moments[0], IMAGE.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(moments[1], IMAGE.var((0, 1, 2), ddof=1), rtol=1e-5)
    np.testing.assert_array_equal(moments[2], mean)
    np.testing.assert_array_equal(moments[3], variance)
    with pytest.raises(gc.errors.AttributeValueError, match="needs mean and variance"):
        gc.nn.fused_batch_norm(IMAGE, scale, offset, is_training=False)
    with pytest.raises(gc.errors.ShapeError, match="scale"):
        gc.nn.fused_batch_norm(IMAGE, scale[:3], offset)


def test_dropout_of_shapes_that_are_not_known(session: gc.Session) -> None:
    x = gc.placeholder(gc.float32, [None, 3, 4])
    n = gc.placeholder(gc.int32, [])
    whole = gc.nn.dropout(x, 0.5, noise_shape=[None, 1, 4])
    got = session.run(whole, {x: np.ones((50, 3, 4))})
    assert (got == got[:, :1]).all() and not (got == got[..., :1]).all()
    with pytest.raises(gc.errors.ShapeError, match="not known to be"):
        gc.nn.dropout(x, 0.5, noise_shape=[n, 1, 4])
    with pytest.raises(gc.errors.ShapeError, match="one size per dim"):
        gc.nn.dropout(x, 0.5, noise_shape=[1, 4])
    with pytest.raises(gc.errors.ShapeError, match="broadcast"):
        gc.nn.dropout(x, 0.5, noise_shape=[1, 2, 4])


def test_errors() -> None:
    with pytest.raises(gc.errors.DTypeError, match="sparse labels are integers"):
        gc.nn.sparse_softmax_cross_entropy_with_logits(labels=ONE_HOT, logits=X)
    with pytest.raises(gc.errors.ShapeError, match="one label per row"):
        gc.nn.sparse_softmax_cross_entropy_with_logits(labels=CLASSES[:3], logits=X)
    with pytest.raises(gc.errors.AttributeValueError, match="logits is missing"):
        gc.nn.softmax_cross_entropy_with_logits(labels=ONE_HOT)
    with pytest.raises(gc.errors.ShapeError, match="one shape"):
        gc.nn.sigmoid_cross_entropy_with_logits(labels=BINARY[0], logits=X)
    with pytest.raises(gc.errors.ShapeError, match="dim -1"):
        gc.layers.dense(gc.placeholder(gc.float32, [None, None]), 3)
    with pytest.raises(gc.errors.AttributeValueError, match="channels_last"):
        gc.layers.conv2d(IMAGE, 3, 3, data_format="NHWC")


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_depthwise_separable_and_conv1d(session: gc.Session, padding: str) -> None:
    depth = RNG.standard_normal((3, 3, 4, 2)).astype(np.float32)
    point = RNG.standard_normal((1, 1, 8, 5)).astype(np.float32)
    line = RNG.standard_normal((3, 4, 5)).astype(np.float32)
    got = session.run(
        [
            gc.nn.depthwise_conv2d(IMAGE, depth, [1, 1, 1, 1], padding),
            gc.nn.separable_conv2d(IMAGE, depth, point, [1, 1, 1, 1], padding),
            gc.nn.conv1d(IMAGE[:, 0], line, 1, padding),
        ]
    )
    pad = padding.lower()
    t = torch.tensor(IMAGE.transpose(0, 3, 1, 2))
    w = torch.tensor(depth.reshape(3, 3, 1, 8).transpose(3, 2, 0, 1))
    first = functional.conv2d(t, w, padding=pad, groups=4)
    second = functional.conv2d(first, torch.tensor(point.transpose(3, 2, 0, 1)))
    third = functional.conv1d(
        torch.tensor(IMAGE[:, 0].transpose(0, 2, 1)),
        torch.tensor(line.transpose(2, 1, 0)),
        padding=pad,
    )
    for ours, theirs in zip(got, (first, second, third), strict=True):
        np.testing.assert_allclose(np.moveaxis(ours, -1, 1), theirs, rtol=1e-4, atol=1e-4)


def test_layers_make_and_share_variables(session: gc.Session) -> None:
    x = gc.placeholder(gc.float32, [None, 5])
    a = gc.layers.dense(x, 3, activation=gc.nn.relu)
    gc.layers.dense(a, 2)
    named = gc.layers.dense(x, 3, name="shared")
    again = gc.layers.dense(x, 3, name="shared", reuse=True)
    gc.layers.dense(x, 1, use_bias=False, name="bare")
    names = [v.op.name for v in gc.global_variables()]
    assert names == ["dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias",
                     "shared/kernel", "shared/bias", "bare/kernel"]  # fmt: skip
    session.run(gc.global_variables_initializer())
    kernel = session.run(gc.global_variables()[0])
    got = session.run([a, named, again], {x: X})
    np.testing.assert_allclose(got[0], np.maximum(X @ kernel, 0), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(got[1], got[2])
    with pytest.raises(gc.errors.GraphError, match="already exists"):
        gc.layers.dense(x, 3, name="shared")


def test_convolutional_layers(session: gc.Session) -> None:
    x = gc.placeholder(gc.float32, [None, 7, 6, 4])
    y = gc.layers.conv2d(x, 5, 3, padding="same", activation=gc.nn.relu)
    p = gc.layers.max_pooling2d(y, 2, 2)
    q = gc.layers.average_pooling2d(y, [2, 2], [2, 2], padding="same")
    f = gc.layers.flatten(p)
    up = gc.layers.conv2d_transpose(p, 2, 3, strides=2, padding="same")
    line = gc.layers.max_pooling1d(gc.layers.conv1d(x[:, 0], 3, 2), 2, 2)
    assert [v.type.shape[1:] for v in (y, p, q, f, up, line) if v.type.shape] == [
        (7, 6, 5), (3, 3, 5), (4, 3, 5), (45,), (6, 6, 2), (2, 3),
    ]  # fmt: skip
    session.run(gc.global_variables_initializer())
    got = session.run([y, p, f, up, line, gc.global_variables()[0]], {x: IMAGE})
    w = torch.tensor(got[-1].transpose(3, 2, 0, 1))
    want = torch.relu(functional.conv2d(torch.tensor(IMAGE.transpose(0, 3, 1, 2)), w, padding=1))
    np.testing.assert_allclose(np.moveaxis(got[0], -1, 1), want, rtol=1e-4, atol=1e-5)
    pooled = functional.max_pool2d(want, 2).numpy()
    np.testing.assert_allclose(np.moveaxis(got[1], -1, 1), pooled, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(got[2], got[1].reshape(2, -1))
    assert got[3].shape == (2, 6, 6, 2)


def test_dropout_layer(session: gc.Session) -> None:
    training = gc.placeholder(gc.bool, [])
    x = np.ones((50, 50), np.float32)
    y = gc.layers.dropout(x, 0.5, training=training)
    np.testing.assert_array_equal(session.run(y, {training: False}), x)
    assert set(np.unique(session.run(y, {training: True}))) == {0.0, 2.0}
    np.testing.assert_array_equal(session.run(gc.layers.dropout(x, 0.5)), x)


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("flag", ["python", "tensor"])
@pytest.mark.parametrize("fused", [None, False])
def test_batch_normalization(session: gc.Session, axis: int, flag: str, fused: Any) -> None:
    image = np.moveaxis(IMAGE, -1, axis)
    x = gc.placeholder(gc.float32, [None, *image.shape[1:]])
    training: Any = True if flag == "python" else gc.placeholder(gc.bool, [])
    with gc.variable_scope("bn"):
        y = gc.layers.batch_normalization(
            x, axis=axis, momentum=0.9, training=training, fused=fused
        )
    with gc.variable_scope("", reuse=True):
        off = gc.layers.batch_normalization(
            x, axis=axis, momentum=0.9, training=False, name="bn/batch_normalization"
        )
    feeds: dict[Any, Any] = {x: image} | ({} if flag == "python" else {training: True})
    with gc.control_dependencies(gc.get_collection(gc.GraphKeys.UPDATE_OPS)):
        step = gc.no_op()
    session.run(gc.global_variables_initializer())
    theirs = torch.nn.BatchNorm2d(4, eps=1e-3, momentum=0.1)
    t = torch.tensor(IMAGE.transpose(0, 3, 1, 2))
    got = session.run([y, step], feeds)[0]
    want = theirs(t).detach().numpy()
    np.testing.assert_allclose(np.moveaxis(got, axis, 1), want, rtol=1e-4, atol=1e-5)
    mean, variance = (v for v in gc.global_variables() if "moving" in v.name)
    count = IMAGE[..., 0].size
    np.testing.assert_allclose(session.run(mean), theirs.running_mean, rtol=1e-5, atol=1e-6)
    # divided by n - 1, as torch does; without TensorFlow's fused op by n
    want = theirs.running_var.numpy()
    want = want if fused is None else (want - 0.9) * (count - 1) / count + 0.9
    np.testing.assert_allclose(session.run(variance), want, rtol=1e-5)
    before = session.run([mean, variance])
    after = (IMAGE - before[0]) / np.sqrt(before[1] + 1e-3)
    np.testing.assert_allclose(
        np.moveaxis(session.run(off, {x: image}), axis, -1), after, rtol=1e-4, atol=1e-5
    )
    if flag == "tensor":  # outside training nothing moves
        got = session.run([y, step], {x: image, training: False})[0]
        np.testing.assert_allclose(np.moveaxis(got, axis, -1), after, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(session.run(mean), before[0])


def test_poisson_loss_and_the_old_batch_normalization(session: gc.Session) -> None:
    z = np.array([0.0, 0.5, 1.0, 2.0, 7.0], np.float32)
    x = np.linspace(-1, 2, 5, dtype=np.float32)
    short, full = session.run(
        [gc.nn.log_poisson_loss(z, x), gc.nn.log_poisson_loss(z, x, compute_full_loss=True)]
    )
    for got, whole in ((short, False), (full, True)):
        want = functional.poisson_nll_loss(
            torch.tensor(x), torch.tensor(z), full=whole, reduction="none"
        )
        np.testing.assert_allclose(got, want, rtol=1e-5)
    mean, variance, beta, gamma = (np.float32(v) for v in ([1, 2], [4, 9], [1, 1], [5, 6]))
    for scaled in (False, True):
        got = session.run(
            gc.nn.batch_norm_with_global_normalization(
                X[:, :2], mean, variance, beta, gamma, 0.0, scaled
            )
        )
        want = (X[:, :2] - mean) / np.sqrt(variance) * (gamma if scaled else 1) + beta
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)

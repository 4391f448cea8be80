"""Activations, softmax, dropout, losses, normalization: torch, differences, programs, sessions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import graphc as gc
from graphc.ir import errors
from graphc.ir.graph import Graph, Value
from graphc.ir.interpret import evaluate
from graphc.ir.ops import losses, nn, norm
from graphc.ir.table import OPS
from tests.ir.nn_checks import Build, Reference, check, check_differences, gradients
from tests.passes.program_checks import Given, check_values, only_kernel

Arrays = tuple[np.ndarray, ...]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape), np.float32)


def uniform(*shape: int, seed: int = 0) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).uniform(0.1, 0.9, shape), np.float32)


def numbers(count: int, classes: int, dtype: Any = np.int32) -> np.ndarray:
    return np.random.default_rng(1).integers(0, classes, count).astype(dtype)


def placeholder(*shape: Any, name: str = "x", dtype: Any = gc.float32) -> Value:
    return OPS["placeholder"](dtype=dtype, shape=shape, name=name)


@pytest.fixture(autouse=True)
def _fresh() -> Any:
    with Graph().as_default():
        yield


def channels_first(x: torch.Tensor) -> torch.Tensor:
    return x.movedim(-1, 1)


# -- activations

ACTIVATIONS: dict[str, tuple[Build, Reference]] = {
    "relu": (nn.relu, F.relu),
    "relu6": (nn.relu6, F.relu6),
    "leaky_relu": (nn.leaky_relu, lambda x: F.leaky_relu(x, 0.2)),
    "leaky_relu_steep": (
        lambda x: nn.leaky_relu(x, alpha=1.5), lambda x: F.leaky_relu(x, 1.5),
    ),
    "elu": (nn.elu, F.elu),
    "selu": (nn.selu, F.selu),
    "softplus": (nn.softplus, lambda x: torch.logaddexp(x, torch.zeros_like(x))),
    "softsign": (nn.softsign, F.softsign),
    "silu": (nn.silu, F.silu),
    "gelu": (nn.gelu, F.gelu),
    "gelu_tanh": (
        lambda x: nn.gelu(x, approximate=True), lambda x: F.gelu(x, approximate="tanh"),
    ),
    "log_sigmoid": (nn.log_sigmoid, F.logsigmoid),
}  # fmt: skip
SPECIAL = np.array([np.nan, np.inf, -np.inf, 1e4, -1e4, 90, -90, 30, -30, 6.5], np.float32)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name: str) -> None:
    build, reference = ACTIVATIONS[name]
    for x in (normal(5, 7) * 3, normal(), normal(0, 3), normal(1, 1)):
        check(build, reference, (x,))
    # at -inf torch's own silu and gelu gradients are NaN; far out they are numbers
    check(build, reference, (SPECIAL,), ())
    check(build, reference, (SPECIAL[3:],))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_differences(name: str) -> None:
    x = normal(3, 5) * 2
    x[np.abs(x) < 0.05] = 0.3  # away from the kinks
    check_differences(ACTIVATIONS[name][0], (x,), order=3)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_keeps_16_bits(name: str) -> None:
    x = placeholder(5, dtype=gc.float16)
    y = ACTIVATIONS[name][0](x)
    given = {x.node: normal(5).astype(np.float16)}
    assert evaluate([y], given)[0].dtype == np.float16
    check_values([y], given, rtol=2e-3, atol=1e-3)


# -- softmax

SOFTMAXES: dict[str, tuple[Build, Reference]] = {
    "softmax": (nn.softmax, lambda x: F.softmax(x, -1)),
    "log_softmax": (nn.log_softmax, lambda x: F.log_softmax(x, -1)),
    "softmax_axis_1": (lambda x: nn.softmax(x, axis=1), lambda x: F.softmax(x, 1)),
    "log_softmax_axis_1": (lambda x: nn.log_softmax(x, axis=1), lambda x: F.log_softmax(x, 1)),
}


@pytest.mark.parametrize("name", SOFTMAXES)
def test_softmax(name: str) -> None:
    build, reference = SOFTMAXES[name]
    for shape in ((3, 7), (2, 3, 5), (4, 1), (0, 3)):
        check(build, reference, (normal(*shape) * 4,))
    special = np.array([[1, np.nan, 2], [1e4, -1e4, 0], [-np.inf, 1, 2], [np.inf, 1, 2]])
    check(build, reference, (special.astype(np.float32),), ())
    check_differences(build, (normal(3, 4),), order=3)


# -- dropout


def test_dropout_keeps_the_mean_and_draws_the_mask_again() -> None:
    x, rate = placeholder("n", 50), placeholder(name="rate")
    y = nn.dropout(x, rate, key=11)
    (g,) = gradients(y, [x])
    array = np.full((200, 50), 3, np.float32)
    with gc.Session(device="numpy") as session:
        first = session.run([y, g], {x: array, rate: 0.25})
        second = session.run(y, {x: array, rate: 0.25})
        none, all_ = (session.run(y, {x: array, rate: r}) for r in (0.0, 1.0))
    np.testing.assert_array_equal(first[0] != 0, first[1] != 0)
    np.testing.assert_allclose(first[0][first[0] != 0], 4, rtol=1e-6)
    np.testing.assert_allclose(first[1][first[1] != 0], 4 / 3, rtol=1e-6)
    assert abs((first[0] == 0).mean() - 0.25) < 0.02  # 4.6 standard deviations of 10,000 draws
    assert (first[0] != second).any(), "another run draws other bits"
    np.testing.assert_array_equal(none, array)
    np.testing.assert_array_equal(all_, 0)


def test_dropout_programs_and_shared_noise() -> None:
    def build(x: Value) -> Value:
        return nn.dropout(x, 0.4, key=5, noise_shape=(None, 1))

    x = placeholder(9, 4)
    y = build(x)
    given = {x.node: normal(9, 4)}
    value = evaluate([y], given)[0]
    assert set((value != 0).sum(axis=1)) == {0, 4}
    up = placeholder(9, 4, name="up")
    given[up.node] = normal(9, 4, seed=1)
    check_values([y, *gradients(y, [x], up)], given)
    # the mask of run 0, seen through the op itself, is all that the gradient may depend on
    check_differences(build, (normal(9, 4),), order=2)


def test_dropout_of_another_key_is_another() -> None:
    x = gc.constant(np.ones((20, 20), np.float32))
    a, b, again = evaluate([nn.dropout(x, 0.5, key=k) for k in (1, 2, 1)], {})
    assert (a != b).any()
    np.testing.assert_array_equal(a, again)


def test_dropout_of_nan_is_0_where_dropped() -> None:
    x = gc.constant(np.full(64, np.nan, np.float32))
    (y,) = evaluate([nn.dropout(x, 0.5, key=1)], {})
    assert 0 < np.isnan(y).sum() < 64
    assert (y[~np.isnan(y)] == 0).all()


# -- losses


def soft_labels(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(4)
    return rng.dirichlet(np.ones(shape[-1]), shape[:-1]).astype(np.float32)


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4), (6,), (4, 1), (0, 3)])
def test_softmax_cross_entropy(shape: tuple[int, ...]) -> None:
    def reference(labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        return -(labels * F.log_softmax(logits, -1)).sum(-1)

    arrays = soft_labels(*shape), normal(*shape) * 3
    check(losses.softmax_cross_entropy, reference, arrays)
    check(losses.softmax_cross_entropy, reference, (arrays[0] * 2, arrays[1]))  # no distribution
    check_differences(losses.softmax_cross_entropy, arrays)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.int8])
def test_sparse_softmax_cross_entropy(dtype: Any) -> None:
    def reference(labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        flat = F.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), labels.reshape(-1).long(), reduction="none"
        )
        return flat.reshape(labels.shape)

    for shape in ((7, 5), (2, 3, 4), (3, 1), (0, 3)):
        labels = numbers(int(np.prod(shape[:-1])), shape[-1], dtype).reshape(shape[:-1])
        logits = normal(*shape) * 3
        check(losses.sparse_softmax_cross_entropy, reference, (labels, logits))
    masked = np.array([[-np.inf, 1, 2], [0, -np.inf, 1e4]], np.float32)
    check(losses.sparse_softmax_cross_entropy, reference, (np.array([1, 2], dtype), masked))
    check_differences(losses.sparse_softmax_cross_entropy, (numbers(5, 4, dtype), normal(5, 4)))


def test_labels_that_are_no_class_give_nan_and_only_there() -> None:
    labels = gc.constant(np.array([-1, 0, 3, 2], np.int32))
    logits = gc.constant(normal(4, 3))
    loss = losses.sparse_softmax_cross_entropy(labels, logits)
    values = gc.Session(device="numpy").run([loss, *gradients(loss, [logits])])
    for value in values:
        rows = np.isnan(value.reshape(4, -1))
        assert rows.all(axis=1).tolist() == [True, False, True, False]
        assert rows.any(axis=1).tolist() == [True, False, True, False]


def test_more_classes_than_the_labels_dtype_holds() -> None:
    labels = np.array([0, 255, 44], np.uint8)
    logits = normal(3, 300)

    def reference(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(x, y.long(), reduction="none")

    check(losses.sparse_softmax_cross_entropy, reference, (labels, logits))


def torch_weighted(z: torch.Tensor, x: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    return -(q * z * F.logsigmoid(x) + (1 - z) * F.logsigmoid(-x))


def torch_huber(delta: float) -> Reference:
    return lambda y, p: F.huber_loss(p, y, reduction="none", delta=delta)


PAIRS: dict[str, tuple[Build, Reference, Sequence[Arrays]]] = {
    "sigmoid": (
        losses.sigmoid_cross_entropy,
        lambda z, x: -(z * F.logsigmoid(x) + (1 - z) * F.logsigmoid(-x)),
        [(uniform(3, 5), normal(3, 5) * 4), (uniform(), normal()), (uniform(0, 2), normal(0, 2))],
    ),
    "weighted": (
        losses.weighted_cross_entropy, torch_weighted,
        [
            (uniform(3, 5), normal(3, 5) * 4, np.asarray(2.5, np.float32)),
            (uniform(3, 5), normal(3, 5), uniform(5)),
            (uniform(3, 5), normal(3, 5), uniform(3, 1) + 2),
        ],
    ),
    "huber": (losses.huber, torch_huber(1.0), [(normal(4, 5), normal(4, 5, seed=1) * 2)]),
    "huber_delta": (
        lambda y, p: losses.huber(y, p, delta=0.4), torch_huber(0.4),
        [(normal(17), normal(17, seed=1))],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_elementwise_loss(name: str) -> None:
    build, reference, cases = PAIRS[name]
    for arrays in cases:
        check(build, reference, arrays)
    check_differences(build, cases[0])
    far = np.array([-1e4, -90, 90, 1e4], np.float32)
    rest = [np.full(4, 0.5, np.float32)] * (len(cases[0]) - 2)
    check(build, reference, (np.full(4, 0.25, np.float32), far, *rest))


def top_k_by_sorting(predictions: np.ndarray, targets: np.ndarray, k: int) -> list[bool]:
    result = []
    for row, target in zip(predictions, targets, strict=True):
        known = 0 <= target < len(row) and np.isfinite(row).all()
        better = sorted((v for v in row if known and v > row[target]), reverse=True)
        result.append(bool(known and len(better) < k))
    return result


@pytest.mark.parametrize("k", [0, 1, 2, 5, 9])
def test_in_top_k(k: int) -> None:
    rng = np.random.default_rng(6)
    x = rng.integers(0, 4, (40, 5)).astype(np.float32)
    x[3, 2], x[4, 0], x[5, 1] = np.nan, np.inf, -np.inf
    targets = rng.integers(-1, 6, 40).astype(np.int64)
    p, t = placeholder(40, 5), placeholder(40, name="t", dtype=gc.int64)
    y = losses.in_top_k(p, t, k=k)
    given: Given = {p.node: x, t.node: targets}
    assert evaluate([y], given)[0].tolist() == top_k_by_sorting(x, targets, k)
    only_kernel(check_values([y], given)[0])


# -- normalization


def torch_inference(*inputs: torch.Tensor) -> torch.Tensor:
    x, s, o, m, v = inputs
    s, o, m, v = (t[:, None, None] for t in (s, o, m, v))
    return (x - m) / torch.sqrt(v + 1e-2) * s + o


def torch_batch_norm(x: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    y = F.batch_norm(channels_first(x), None, None, scale, offset, training=True, eps=1e-2)
    return y.movedim(1, -1)


def torch_bias(x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return x + b.reshape(-1, *[1] * (x.ndim - 2))


def torch_lrn(x: torch.Tensor) -> torch.Tensor:
    total = sum(F.pad(x * x, (2, 2))[..., i : i + x.shape[-1]] for i in range(5))
    return x / (1.5 + 0.3 * total) ** 0.6


def torch_l2(x: torch.Tensor, dim: Any, epsilon: float) -> torch.Tensor:
    total = (x * x).sum() if dim is None else (x * x).sum(dim, keepdim=True)
    return x * torch.rsqrt(torch.clamp_min(total, epsilon))


def fused(index: int, **attrs: Any) -> Build:
    return lambda x, s, o: norm.fused_batch_norm.outputs(x, s, o, epsilon=1e-2, **attrs)[index]


NORMS: dict[str, tuple[Build, Reference, Arrays]] = {
    "bias_add": (norm.bias_add, lambda x, b: x + b, (normal(2, 3, 4, 5), normal(5))),
    "bias_add_matrix": (norm.bias_add, lambda x, b: x + b, (normal(3, 5), normal(5))),
    "bias_add_nchw": (
        lambda x, b: norm.bias_add(x, b, data_format="NCHW"), torch_bias,
        (normal(2, 3, 4, 5), normal(3)),
    ),
    "bias_add_ncw": (
        lambda x, b: norm.bias_add(x, b, data_format="NCHW"), torch_bias,
        (normal(2, 3, 4), normal(3)),
    ),
    "mean": (
        lambda x: norm.moments.outputs(x, axis=(0, 2))[0], lambda x: x.mean((0, 2)),
        (normal(4, 3, 5),),
    ),
    "variance": (
        lambda x: norm.moments.outputs(x, axis=(0, 2))[1],
        lambda x: x.var((0, 2), correction=0), (normal(4, 3, 5) + 30,),
    ),
    "variance_keepdims": (
        lambda x: norm.moments.outputs(x, axis=(1,), keepdims=True)[1],
        lambda x: x.var(1, correction=0, keepdim=True), (normal(4, 7),),
    ),
    "both_moments": (
        lambda x: (lambda m: m[0] * m[1])(norm.moments.outputs(x, axis=(1,))),
        lambda x: x.mean(1) * x.var(1, correction=0), (normal(4, 7),),
    ),
    "layer_norm": (
        norm.layer_norm, lambda x, g, b: F.layer_norm(x, (7,), g, b),
        (normal(5, 7) * 3 + 1, normal(7), normal(7, seed=2)),
    ),
    "layer_norm_two_dims": (
        lambda x, g, b: norm.layer_norm(
            x, OPS["reshape"](g, shape=(3, 5)), OPS["reshape"](b, shape=(3, 5)), epsilon=1e-2
        ),
        lambda x, g, b: F.layer_norm(x, (3, 5), g.reshape(3, 5), b.reshape(3, 5), 1e-2),
        (normal(2, 4, 3, 5), normal(15), normal(15, seed=2)),
    ),
    "layer_norm_empty": (
        norm.layer_norm, lambda x, g, b: F.layer_norm(x, (7,), g, b),
        (normal(0, 7), normal(7), normal(7, seed=2)),
    ),
    "batch_normalization": (
        lambda x, m, v, o, s: norm.batch_normalization(x, m, v, o, s, variance_epsilon=1e-2),
        lambda x, m, v, o, s: (x - m) / torch.sqrt(v + 1e-2) * s + o,
        (normal(4, 3, 5), normal(5), uniform(5), normal(5, seed=1), normal(5, seed=2)),
    ),
    "fused_batch_norm": (
        fused(0), torch_batch_norm, (normal(3, 4, 5, 6) * 2 + 1, normal(6), normal(6, seed=2)),
    ),
    "fused_batch_norm_matrix": (
        fused(0), torch_batch_norm, (normal(7, 3), normal(3), normal(3, seed=2)),
    ),
    "fused_batch_norm_nchw": (
        fused(0, data_format="NCHW"),
        lambda x, s, o: F.batch_norm(x, None, None, s, o, training=True, eps=1e-2),
        (normal(3, 4, 5, 2), normal(4), normal(4, seed=2)),
    ),
    "inference": (
        lambda x, s, o, m, v: norm.fused_batch_norm_inference(x, s, o, m, v, 1e-2),
        lambda x, s, o, m, v: (x - m) / torch.sqrt(v + 1e-2) * s + o,
        (normal(2, 3, 4, 5), normal(5), normal(5, seed=1), normal(5, seed=2), uniform(5)),
    ),
    "inference_nchw": (
        lambda x, s, o, m, v: norm.fused_batch_norm_inference(x, s, o, m, v, 1e-2, "NCHW"),
        torch_inference,
        (normal(2, 3, 4, 5), normal(3), normal(3, seed=1), normal(3, seed=2), uniform(3)),
    ),
    "l2_loss": (norm.l2_loss, lambda x: (x * x).sum() / 2, (normal(4, 5),)),
    "l2_normalize": (
        lambda x: norm.l2_normalize(x, axis=(1,)), lambda x: torch_l2(x, 1, 1e-12),
        (normal(4, 5, 2),),
    ),
    "l2_normalize_all": (norm.l2_normalize, lambda x: torch_l2(x, None, 1e-12), (normal(4, 5),)),
    "l2_normalize_below_epsilon": (
        lambda x: norm.l2_normalize(x, axis=(1,), epsilon=4.0), lambda x: torch_l2(x, 1, 4.0),
        (normal(6, 5),),
    ),
    "lrn": (
        lambda x: norm.local_response_normalization(
            x, depth_radius=2, bias=1.5, alpha=0.3, beta=0.6
        ),
        torch_lrn, (normal(2, 3, 2, 7),),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMS)
def test_normalization(name: str) -> None:
    build, reference, arrays = NORMS[name]
    check(build, reference, arrays)
    if arrays[0].size:
        check_differences(build, arrays)


def test_fused_batch_norm_gives_the_batch_moments() -> None:
    x = normal(3, 4, 5, 6) + 2
    inputs = gc.constant(x), gc.constant(normal(6)), gc.constant(normal(6))
    _, mean, variance = norm.fused_batch_norm.outputs(*inputs)
    got = gc.Session(device="numpy").run([mean, variance])
    np.testing.assert_allclose(got[0], x.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(got[1], x.var((0, 1, 2), ddof=1), rtol=1e-5)


def test_fused_batch_norm_of_one_pixel_divides_by_no_zero() -> None:
    inputs = gc.constant(normal(1, 3)), gc.constant(normal(3)), gc.constant(normal(3, seed=2))
    values = evaluate(norm.fused_batch_norm.outputs(*inputs), {})
    np.testing.assert_array_equal(values[0], normal(1, 3, seed=2)[:, :3])
    np.testing.assert_array_equal(values[2], 0)


def test_16_bit_images_are_normalized_in_float32() -> None:
    x = placeholder(64, 3, dtype=gc.float16)
    s, o = placeholder(3, name="s"), placeholder(3, name="o")
    y, mean, _ = norm.fused_batch_norm.outputs(x, s, o)
    grads = gradients(y, [x, s, o])
    assert [v.dtype for v in (y, mean, *grads)] == [
        gc.float16, gc.float32, gc.float16, gc.float32, gc.float32,
    ]  # fmt: skip
    array = (normal(64, 3) * 30 + 100).astype(np.float16)
    given: Given = {x.node: array, s.node: np.ones(3, np.float32), o.node: np.zeros(3, np.float32)}
    got = evaluate([y, mean], given)
    wide = array.astype(np.float32)
    np.testing.assert_allclose(got[1], wide.mean(0), rtol=1e-5)
    np.testing.assert_allclose(got[0], (wide - wide.mean(0)) / wide.std(0), atol=3e-3)


def test_layer_norm_of_special_rows() -> None:
    rows = np.array([[1, np.nan, 2], [np.inf, 0, 1], [5, 5, 5]], np.float32)
    ones = np.ones(3, np.float32)
    check(norm.layer_norm, lambda x, g, b: F.layer_norm(x, (3,), g, b), (rows, ones, ones), ())


# -- one kernel each


def test_forward_and_gradient_are_one_kernel() -> None:
    rows, gamma, beta = placeholder(13, 10), placeholder(10, name="g"), placeholder(10, name="b")
    labels, up = placeholder(13, 10, name="labels"), placeholder(13, 10, name="up")
    classes = placeholder(13, name="classes", dtype=gc.int32)
    given = {v.node: normal(*v.type.static_shape) for v in (rows, gamma, beta, labels, up)}
    given[classes.node] = numbers(13, 10)

    def with_gradient(y: Value, weight: Any = None) -> list[Value]:
        return [y, *gradients(y, [rows], weight)]

    dense = losses.softmax_cross_entropy(labels, rows)
    sparse = losses.sparse_softmax_cross_entropy(classes, rows)
    scaled = gc.constant(np.full(13, 1 / 13, np.float32))
    groups: dict[str, list[Value]] = {
        "softmax": [nn.softmax(rows)],
        "softmax gradient": with_gradient(nn.softmax(rows), up)[1:],
        "softmax, both": with_gradient(nn.softmax(rows), up),
        "log_softmax, both": with_gradient(nn.log_softmax(rows), up),
        "layer norm": [norm.layer_norm(rows, gamma, beta)],
        "layer norm gradient": with_gradient(norm.layer_norm(rows, gamma, beta), up)[1:],
        "cross entropy, both": with_gradient(dense),
        "cross entropy, scaled": with_gradient(dense, scaled),
        "sparse, both": with_gradient(sparse),
        "sparse, scaled": with_gradient(sparse, scaled),
        "l2_normalize, both": with_gradient(norm.l2_normalize(rows, axis=(1,)), up),
        "gelu, both": with_gradient(nn.gelu(rows), up),
        "dropout, both": with_gradient(nn.dropout(rows, 0.3, key=3), up),
    }
    for name, values in groups.items():
        program, _ = check_values(values, given, atol=2e-5)
        assert len(program.kernels) == 1, name
        assert not [b for b in program.buffers.values() if b.role == "temporary"], name


def test_batch_norm_is_one_kernel_each_way() -> None:
    x, s, o = placeholder(3, 5, 4, 6), placeholder(6, name="s"), placeholder(6, name="o")
    g = placeholder(3, 5, 4, 6, name="g")
    given = {v.node: normal(*v.type.static_shape) for v in (x, s, o, g)}
    outputs = norm.fused_batch_norm.outputs(x, s, o)
    only_kernel(check_values(list(outputs), given, atol=2e-5)[0])
    only_kernel(check_values(gradients(outputs[0], [x, s, o], g), given, atol=2e-5)[0])


def test_layer_norm_parameters_are_sums_over_rows_in_a_second_kernel() -> None:
    x, gamma, beta = placeholder(13, 10), placeholder(10, name="g"), placeholder(10, name="b")
    up = placeholder(13, 10, name="up")
    given = {v.node: normal(*v.type.static_shape) for v in (x, gamma, beta, up)}
    grads = gradients(norm.layer_norm(x, gamma, beta), [x, gamma, beta], up)
    program, ctx = check_values(grads, given, atol=2e-5)
    assert len(program.kernels) == 2
    assert {d.reason for d in ctx.decisions} == {"SPACE"}


# -- wrong inputs


def _classes(*shape: int) -> Value:
    return placeholder(*shape, name="labels", dtype=gc.int32)


WRONG: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "softmax_scalar": (lambda: nn.softmax(placeholder()), errors.ShapeError, "scalar"),
    "softmax_axis": (
        lambda: nn.softmax(placeholder(3, 4), axis=2), errors.AttributeValueError, "axis 2.*rank 2",
    ),
    "softmax_int": (lambda: nn.log_softmax(_classes(3, 4)), errors.DTypeError, "int32"),
    "gelu_int": (lambda: nn.gelu(_classes(3)), errors.DTypeError, "int32"),
    "alpha": (
        lambda: nn.leaky_relu(placeholder(3), slope=1), errors.AttributeValueError, "slope.*alpha",
    ),
    "dropout_rate": (
        lambda: nn.dropout(placeholder(3), placeholder(3), key=1), errors.ShapeError, r"\[3\]",
    ),
    "dropout_key": (lambda: nn.dropout(placeholder(3), 0.5), errors.AttributeValueError, "key"),
    "dropout_noise": (
        lambda: nn.dropout(placeholder(3, 4), 0.5, key=1, noise_shape=(3,)),
        errors.ShapeError, r"\(3,\).*\[3, 4\]",
    ),
    "dropout_noise_size": (
        lambda: nn.dropout(placeholder(3, 4), 0.5, key=1, noise_shape=(2, 4)),
        errors.ShapeError, r"\[3, 4\] and \[2, 4\]",
    ),
    "dense_shapes": (
        lambda: losses.softmax_cross_entropy(placeholder(3, 4), placeholder(3, 5)),
        errors.ShapeError, r"\[3, 4\] and \[3, 5\]",
    ),
    "sparse_rows": (
        lambda: losses.sparse_softmax_cross_entropy(_classes(4), placeholder(3, 5)),
        errors.ShapeError, r"\[4\] and \[3\]",
    ),
    "sparse_labels_dtype": (
        lambda: losses.sparse_softmax_cross_entropy(placeholder(3), placeholder(3, 5)),
        errors.DTypeError, "float32",
    ),
    "sparse_scalar": (
        lambda: losses.sparse_softmax_cross_entropy(_classes(), placeholder()),
        errors.ShapeError, "scalar",
    ),
    "sigmoid_shapes": (
        lambda: losses.sigmoid_cross_entropy(placeholder(3), placeholder(4)),
        errors.ShapeError, r"\[3\] and \[4\]",
    ),
    "pos_weight": (
        lambda: losses.weighted_cross_entropy(placeholder(3), placeholder(3), placeholder(2, 3)),
        errors.ShapeError, r"\[2, 3\]",
    ),
    "top_k": (
        lambda: losses.in_top_k(placeholder(3, 4), _classes(3), k=1.5),
        errors.AttributeValueError, "1.5",
    ),
    "top_k_rank": (
        lambda: losses.in_top_k(placeholder(3), _classes(3), k=1), errors.ShapeError, r"\[3\]",
    ),
    "bias_size": (
        lambda: norm.bias_add(placeholder(2, 3), placeholder(4)),
        errors.ShapeError, r"bias.*3 in float32\[2, 3\].*\[4\]",
    ),
    "bias_rank": (
        lambda: norm.bias_add(placeholder(2, 3), placeholder(1, 3)), errors.ShapeError, r"\[1, 3\]",
    ),
    "bias_format": (
        lambda: norm.bias_add(placeholder(2, 3), placeholder(3), data_format="CHW"),
        errors.AttributeValueError, "CHW",
    ),
    "bias_image": (
        lambda: norm.bias_add(placeholder(3), placeholder(3)), errors.ShapeError, "batch",
    ),
    "bias_dtype": (
        lambda: norm.bias_add(placeholder(2, 3), _classes(3)), errors.DTypeError, "int32",
    ),
    "layer_norm_gamma": (
        lambda: norm.layer_norm(placeholder(2, 3), placeholder(4), placeholder(4)),
        errors.ShapeError, r"\[2, 3\].*\[4\]",
    ),
    "layer_norm_rank": (
        lambda: norm.layer_norm(placeholder(3), placeholder(2, 3), placeholder(2, 3)),
        errors.ShapeError, r"\[2, 3\].*\[3\]",
    ),
    "layer_norm_beta": (
        lambda: norm.layer_norm(placeholder(2, 3), placeholder(3), placeholder(2)),
        errors.ShapeError, r"\[3\] and \[2\]",
    ),
    "batch_norm_scale": (
        lambda: norm.fused_batch_norm(placeholder(2, 3), placeholder(3), placeholder(2)),
        errors.ShapeError, "offset.*3",
    ),
    "batch_normalization_shapes": (
        lambda: norm.batch_normalization(
            placeholder(3), *(placeholder(2, 3) for _ in range(4))
        ),
        errors.ShapeError, "batch_normalization",
    ),
    "lrn_rank": (
        lambda: norm.local_response_normalization(placeholder(2, 3)), errors.ShapeError, "2, 3",
    ),
    "lrn_radius": (
        lambda: norm.local_response_normalization(placeholder(1, 1, 1, 3), depth_radius=-1),
        errors.AttributeValueError, "-1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_errors_have_the_values(name: str) -> None:
    make, error, text = WRONG[name]
    with pytest.raises(error, match=text):
        make()


def test_types_with_unknown_dims() -> None:
    x, labels = placeholder("n", 5), placeholder("n", name="labels", dtype=gc.int64)
    assert losses.sparse_softmax_cross_entropy(labels, x).type.shape == ("n",)
    assert losses.softmax_cross_entropy(x, placeholder("m", 5)).type.rank == 1
    assert norm.layer_norm(x, placeholder(5), placeholder(5)).type.shape == ("n", 5)
    wide = placeholder("n", "c")
    assert norm.layer_norm(wide, placeholder(5), placeholder(5)).type.shape == ("n", 5)
    with pytest.raises(errors.ShapeError, match="rank must be known"):
        norm.bias_add(OPS["placeholder"](dtype=gc.float32, shape=None), placeholder(3))

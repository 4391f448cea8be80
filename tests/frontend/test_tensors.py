"""Tensor functions against NumPy: sources, shapes given as tensors, joining, reductions, einsum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import graphc as gc

RNG = np.random.default_rng(5)
A = RNG.standard_normal((3, 5)).astype(np.float32)
B = RNG.standard_normal((2, 3, 4)).astype(np.float32)


@pytest.fixture(autouse=True)
def session() -> Iterator[gc.Session]:
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        yield session


CASES: dict[str, tuple[Callable[[], Any], Any]] = {
    "constant filled": (lambda: gc.constant([1, 2], shape=[2, 2]), [[1, 2], [2, 2]]),
    "constant spread": (lambda: gc.constant(0.1, shape=[3]), np.full(3, 0.1, np.float32)),
    "zeros": (lambda: gc.zeros([2, 0]), np.zeros((2, 0))),
    "ones bool": (lambda: gc.ones([2], gc.bool), [True, True]),
    "fill": (lambda: gc.fill([2, 2], 7), np.full((2, 2), 7)),
    "fill by a tensor": (lambda: gc.fill(gc.shape(A), 7), np.full((3, 5), 7)),
    "eye": (lambda: gc.eye(2, 3, batch_shape=[2]), np.stack([np.eye(2, 3)] * 2)),
    "range": (lambda: gc.range(3, 18, 3), np.arange(3, 18, 3)),
    "range down": (lambda: gc.range(5, 0, -2), [5, 3, 1]),
    "range of floats": (lambda: gc.range(0.0, 1.0, 0.25), [0, 0.25, 0.5, 0.75]),
    "range empty": (lambda: gc.range(0), np.zeros(0)),
    "linspace": (lambda: gc.linspace(1.0, 2.0, 5), np.linspace(1, 2, 5)),
    "linspace one": (lambda: gc.linspace(1.0, 2.0, 1), [1.0]),
    "one_hot": (lambda: gc.one_hot([0, 2, 9], 3), [[1, 0, 0], [0, 0, 1], [0, 0, 0]]),
    "one_hot axis": (lambda: gc.one_hot([1], 2, 5, 3, axis=0, dtype=gc.int32), [[3], [5]]),
    "size": (lambda: gc.size(B), 24),
    "rank": (lambda: gc.rank(B), 3),
    "shape": (lambda: gc.shape(B, out_type=gc.int64), [2, 3, 4]),
    "concat": (lambda: gc.concat([A, A[:, :2]], 1), np.concatenate([A, A[:, :2]], 1)),
    "stack": (lambda: gc.stack([A, A], axis=-1), np.stack([A, A], -1)),
    "unstack": (lambda: gc.unstack(B, axis=1)[2], B[:, 2]),
    "split": (lambda: gc.split(B, 2, axis=2)[1], B[:, :, 2:]),
    "split sizes": (lambda: gc.split(A, [1, -1, 2], 1)[1], A[:, 1:3]),
    "slice": (lambda: gc.slice(A, [1, 0], [-1, 2]), A[1:, :2]),
    "strided_slice": (lambda: gc.strided_slice(A, [0, 4], [3, 0], [2, -2]), A[0:3:2, 4:0:-2]),
    "strided_slice masks": (
        lambda: gc.strided_slice(A, [1, 1], [2, 2], shrink_axis_mask=1, end_mask=2), A[1, 1:],
    ),
    "tile": (lambda: gc.tile(A, [2, 3]), np.tile(A, (2, 3))),
    "tile by none": (lambda: gc.tile(A, [0, 1]), np.tile(A, (0, 1))),
    "reverse": (lambda: gc.reverse(B, [0, -1]), B[::-1, :, ::-1]),
    "pad": (lambda: gc.pad(A, [[1, 0], [0, 2]]), np.pad(A, ((1, 0), (0, 2)))),
    "pad value": (
        lambda: gc.pad(A, [[1, 0], [0, 2]], constant_values=3.0),
        np.pad(A, ((1, 0), (0, 2)), constant_values=3),
    ),
    "pad reflect": (
        lambda: gc.pad(A, [[2, 1], [0, 4]], "REFLECT"), np.pad(A, ((2, 1), (0, 4)), "reflect"),
    ),
    "pad symmetric": (
        lambda: gc.pad(A, [[3, 1], [0, 5]], "SYMMETRIC"),
        np.pad(A, ((3, 1), (0, 5)), "symmetric"),
    ),
    "where rows": (
        lambda: gc.where([True, False, True], A, -A), np.where([[True], [False], [True]], A, -A),
    ),
    "sequence_mask": (lambda: gc.sequence_mask([1, 3], 3), [[1, 0, 0], [1, 1, 1]]),
    "transpose": (lambda: gc.transpose(B, [2, 0, 1]), B.transpose(2, 0, 1)),
    "expand_dims": (lambda: gc.expand_dims(A, -1), A[..., None]),
    "expand_dims dim": (lambda: gc.expand_dims(A, dim=0), A[None]),
    "squeeze": (lambda: gc.squeeze(A[None, :, None], squeeze_dims=[0]), A[:, None]),
    "sum": (lambda: gc.reduce_sum(B, [0, -1]), B.sum((0, 2))),
    "sum old names": (
        lambda: gc.reduce_sum(B, reduction_indices=1, keep_dims=True), B.sum(1, keepdims=True),
    ),
    "sum over no axes": (lambda: gc.reduce_sum(A, []), A),
    "mean": (lambda: gc.reduce_mean(B, 2), B.mean(2)),
    "mean of integers": (lambda: gc.reduce_mean([-1, 0, 0, -4]), -1),
    "logsumexp": (
        lambda: gc.reduce_logsumexp([[1000.0, 1000.0], [-np.inf, -np.inf]], 1),
        [1000 + np.log(2), -np.inf],
    ),
    "variance": (lambda: gc.reduce_variance(A, 1), A.var(1)),
    "std": (lambda: gc.reduce_std(A, 1), A.std(1)),
    "count_nonzero": (lambda: gc.count_nonzero([[0, 1], [2, 3]], 0), [1, 2]),
    "argmax": (lambda: gc.argmax(A, 1), A.argmax(1)),
    "argmax dimension": (lambda: gc.argmax(A, dimension=0), A.argmax(0)),
    "argmin": (lambda: gc.argmin(A, -1, output_type=gc.int32), A.argmin(1)),
    "truediv of integers": (lambda: gc.truediv(7, 2), 3.5),
    "div of integers": (lambda: gc.div([7, -7], 2), [3, -4]),
    "div_no_nan": (lambda: gc.div_no_nan([1.0, 2.0], [0.0, 4.0]), [0, 0.5]),
    "pow of integers": (lambda: gc.pow([2, -3], 5), [32, -243]),
    "pow zero": (lambda: gc.pow([2, 0], 0), [1, 1]),
    "add_n": (lambda: gc.add_n([A, A, A]), 3 * A),
    "squared_difference": (lambda: gc.squared_difference(A, 1.0), (A - 1) ** 2),
    "saturate_cast": (
        lambda: gc.saturate_cast([-5.0, 3.7, 300.0], gc.uint8), [0, 3, 255],
    ),
    "log_sigmoid": (lambda: gc.log_sigmoid([-200.0, 0.0]), [-200, -np.log(2)]),
    "matmul": (lambda: gc.matmul(A, A, transpose_b=True), A @ A.T),
    "matmul adjoint": (lambda: gc.matmul(A, A, adjoint_a=True), A.T @ A),
    "tensordot": (lambda: gc.tensordot(B, A, [[1], [0]]), np.tensordot(B, A, ((1,), (0,)))),
    "tensordot outer": (lambda: gc.tensordot(A, A, 0), np.tensordot(A, A, 0)),
    "einsum": (lambda: gc.einsum("xab,bc,xad->xcd", B.swapaxes(1, 2), A, B.swapaxes(1, 2)),
               np.einsum("xab,bc,xad->xcd", B.swapaxes(1, 2), A, B.swapaxes(1, 2))),
    "einsum one": (lambda: gc.einsum("xab->ba", B), B.sum(0).T),
    "einsum implicit": (lambda: gc.einsum("ab,cb", A, A), A @ A.T),
    "einsum lonely labels": (lambda: gc.einsum("ab,cd->ad", A, A),
                             np.einsum("ab,cd->ad", A, A)),
    "trace": (lambda: gc.trace(A), np.trace(A)),
    "norm": (lambda: gc.norm(A, axis=1), np.linalg.norm(A, axis=1)),
    "norm 1": (lambda: gc.norm(A, 1), np.abs(A).sum()),
    "norm 3": (lambda: gc.norm(A, 3.0), (np.abs(A) ** 3).sum() ** (1 / 3)),
    "norm inf": (lambda: gc.norm(A, np.inf), np.abs(A).max()),
    "clip_by_value": (lambda: gc.clip_by_value(A, -0.5, 0.2), A.clip(-0.5, 0.2)),
    "clip_by_norm": (lambda: gc.clip_by_norm([3.0, 4.0], 2.5), [1.5, 2.0]),
    "clip_by_norm within": (lambda: gc.clip_by_norm([0.0, 0.0], 1.0), [0, 0]),
    "clip_by_average_norm": (lambda: gc.clip_by_average_norm([3.0, 4.0], 1.0), [1.2, 1.6]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_against_numpy(session: gc.Session, name: str) -> None:
    make, want = CASES[name]
    value = make()
    got = np.asarray(session.run(value))
    assert got.shape == np.shape(want)
    np.testing.assert_allclose(got, want, rtol=3e-5, atol=1e-5)
    assert value.type.static_shape == got.shape, "the shape is known while building"


def test_shapes_given_as_tensors(session: gc.Session) -> None:
    x = gc.placeholder(gc.float32, [None, 6], name="x")
    n = gc.shape(x)[0]
    y = gc.reshape(x, [n * 2, 3])
    z = gc.reshape(x, [n, 2, 3])
    w = gc.zeros(gc.stack([n, 4]))
    r = gc.range(n)
    known = gc.reshape(x, [-1, gc.shape(x)[1]])
    assert [v.type.shape and v.type.shape[1:] for v in (y, z, w)] == [(3,), (2, 3), (4,)]
    assert known.type.shape == ("x.0", 6)
    for count in (4, 7):
        a = RNG.standard_normal((count, 6)).astype(np.float32)
        got = session.run([y, z, w, r], {x: a})
        np.testing.assert_array_equal(got[0], a.reshape(-1, 3))
        np.testing.assert_array_equal(got[1], a.reshape(count, 2, 3))
        assert got[2].shape == (count, 4)
        np.testing.assert_array_equal(got[3], np.arange(count))


def test_shapes_as_tensors_keep_the_names_of_sizes(session: gc.Session) -> None:
    x = gc.placeholder(gc.float32, [None, 6], name="x")
    n = gc.shape(x)[0]
    split, turned = gc.reshape(x, [n, 2, 3]), gc.reshape(x, [-1, n])
    repeated, square = gc.tile(gc.ones([1, 6]), [n, 1]), gc.tile(x, [1, n])
    assert [str(v.type) for v in (split, turned, repeated, square, gc.fill([n, 2], 1.0))] == [
        "float32[x.0, 2, 3]", "float32[6, x.0]", "float32[x.0, 6]", "float32[x.0, ?]",
        "float32[x.0, 2]",
    ]  # fmt: skip
    (grad,) = gc.gradients(square, x)
    feed = RNG.standard_normal((4, 6)).astype(np.float32)
    got = session.run([turned, repeated, square, grad], {x: feed})
    np.testing.assert_array_equal(got[0], feed.reshape(6, 4))
    np.testing.assert_array_equal(got[1], np.ones((4, 6)))
    np.testing.assert_array_equal(got[2], np.tile(feed, (1, 4)))
    np.testing.assert_array_equal(got[3], np.full((4, 6), 4))
    assert session.run(square, {x: feed[:0]}).shape == (0, 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: gc.fill([2, -1], 1.0),
        lambda: gc.zeros([-1]),
        lambda: gc.random_uniform([-2]),
        lambda: gc.truncated_normal([-2]),
        lambda: gc.broadcast_to(gc.ones([3]), [-1, 3]),
        lambda: gc.placeholder(gc.float32, [-2]),
    ],
)
def test_negative_sizes_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(gc.errors.ShapeError, match=r"negative|sizes, None or names"):
        make()


def test_placeholder_with_default(session: gc.Session) -> None:
    a = gc.placeholder_with_default(3.0, [])
    b = gc.placeholder_with_default(np.ones((2, 3), np.float32), [None, 3], name="b")
    y = gc.reduce_sum(b) * a
    assert session.run(y) == 18
    assert session.run(y, {a: 1.0}) == 6
    assert session.run(y, {b: np.ones((5, 3), np.float32)}) == 45
    with pytest.raises(gc.errors.ShapeError, match="not of shape"):
        gc.placeholder_with_default([1.0, 2.0], [None, 2])


def test_clip_by_global_norm(session: gc.Session) -> None:
    parts = [gc.constant([3.0]), None, gc.constant([4.0])]
    clipped, norm = gc.clip_by_global_norm(parts, 1.0)
    assert clipped[1] is None
    got = session.run([clipped[0], clipped[2], norm])
    np.testing.assert_allclose(np.concatenate([*got[:2], [got[2]]]), [0.6, 0.8, 5.0], rtol=1e-6)
    (same,), _ = gc.clip_by_global_norm([[0.3]], 1.0)
    assert session.run(same) == np.float32(0.3)
    (bad,), _ = gc.clip_by_global_norm([[1.0, np.inf]], 1.0)
    assert np.isnan(session.run(bad)).all()


ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "constant too long": (
        lambda: gc.constant([1, 2, 3], shape=[2]), gc.errors.ShapeError, "do not fit"),
    "constant verified": (
        lambda: gc.constant(1, shape=[2], verify_shape=True), gc.errors.ShapeError, "shape"),
    "constant of a tensor": (
        lambda: gc.constant(gc.zeros([1])), gc.errors.DTypeError, "takes numbers"),
    "shape of None": (lambda: gc.zeros([None, 2]), gc.errors.ShapeError, "unknown dims"),
    "no shape": (lambda: gc.zeros(None), gc.errors.ShapeError, "integers or an integer tensor"),
    "range": (lambda: gc.range(0, 3, 0), gc.errors.AttributeValueError, "never ends"),
    "linspace": (lambda: gc.linspace(0.0, 1.0, 0), gc.errors.AttributeValueError, "num=0"),
    "axis twice": (
        lambda: gc.reduce_sum(A, 1, reduction_indices=1), gc.errors.AttributeValueError, "both"),
    "axis unknown": (
        lambda: gc.reduce_sum(A, gc.placeholder(gc.int32, [])), gc.errors.AttributeValueError,
        "must be known"),
    "axis outside": (lambda: gc.reduce_sum(A, 2), gc.errors.AttributeValueError, "outside"),
    "split uneven": (lambda: gc.split(A, 2, 1), gc.errors.ShapeError, "equal parts"),
    "split sizes": (lambda: gc.split(A, [1, 1], 1), gc.errors.ShapeError, "cannot be split"),
    "tile": (lambda: gc.tile(A, [2]), gc.errors.ShapeError, "multiples"),
    "tile negative": (lambda: gc.tile(A, [2, -1]), gc.errors.AttributeValueError, "negative"),
    "pad mode": (lambda: gc.pad(A, [[0, 0]] * 2, "WRAP"), gc.errors.AttributeValueError, "WRAP"),
    "pad reflect": (
        lambda: gc.pad(A, [[3, 0], [0, 0]], "REFLECT"), gc.errors.ShapeError, "mirror"),
    "where alone": (lambda: gc.where([True], [1]), gc.errors.AttributeValueError, "x and y"),
    "add_n none": (lambda: gc.add_n([]), gc.errors.AttributeValueError, "at least one"),
    "add_n shapes": (lambda: gc.add_n([A, A[0]]), gc.errors.ShapeError, "equal shapes"),
    "pow negative": (lambda: gc.pow([2], -1), gc.errors.AttributeValueError, "no integer"),
    "matmul": (lambda: gc.matmul(A, A), gc.errors.ShapeError, "transpose_b=True"),
    "matmul both": (
        lambda: gc.matmul(A, A, transpose_a=True, adjoint_a=True), gc.errors.AttributeValueError,
        "not both"),
    "tensordot": (
        lambda: gc.tensordot(A, A, [[0], [0, 1]]), gc.errors.AttributeValueError, "over 1 axes"),
    "einsum dots": (lambda: gc.einsum("...a->a", A), gc.errors.AttributeValueError, "the result"),
    "einsum diagonal": (
        lambda: gc.einsum("aa->a", gc.zeros([2, 3])), gc.errors.ShapeError, "no diagonal"),
    "einsum result": (
        lambda: gc.einsum("ab->aa", A), gc.errors.AttributeValueError, "once each"),
    "einsum rank": (lambda: gc.einsum("...abc->a", A), gc.errors.ShapeError, "3 dims"),
    "einsum count": (
        lambda: gc.einsum("ab,bc->ac", A), gc.errors.AttributeValueError, "2 tensors, got 1"),
    "norm": (lambda: gc.norm(A, "nuclear"), gc.errors.AttributeValueError, "orders"),
    "dtypes": (
        lambda: gc.add(gc.constant(1), gc.constant(1.0)), gc.errors.DTypeError, "cast"),
    "random integers": (
        lambda: gc.random_normal([2], dtype=gc.int32), gc.errors.DTypeError, "int32"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    make, kind, text = ERRORS[name]
    with pytest.raises(kind, match=text):
        make()


def test_gradients_of_composed_functions_against_torch(session: gc.Session) -> None:
    x = gc.constant(A)
    t = torch.tensor(A, requires_grad=True)
    pairs = [
        (gc.reduce_logsumexp(x, 1), torch.logsumexp(t, 1)),
        (gc.norm(x, axis=1), torch.linalg.norm(t, dim=1)),
        (gc.tile(x, [2, 2]) * 2.0, t.repeat(2, 2) * 2),
        (gc.pad(x, [[1, 1], [2, 0]], "REFLECT"),
         torch.nn.functional.pad(t[None, None], (2, 0, 1, 1), mode="reflect")[0, 0]),
        (gc.einsum("ab,cb->ac", x, x), t @ t.T),
        (gc.reduce_variance(x, 0), t.var(0, unbiased=False)),
        (gc.reduce_prod(x, 1), t.prod(1)),
        (gc.concat([x, x * x], 1)[:, ::2], torch.cat([t, t * t], 1)[:, ::2]),
    ]  # fmt: skip
    grads = [gc.gradients(gc.reduce_sum(y * y), x)[0] for y, _ in pairs]
    for got, (_, y) in zip(session.run(grads), pairs, strict=True):
        (want,) = torch.autograd.grad((y * y).sum(), t)
        np.testing.assert_allclose(got, want.numpy(), rtol=2e-4, atol=1e-4)

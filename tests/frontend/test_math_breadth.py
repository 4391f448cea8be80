"""The breadth of TensorFlow 1's arithmetic: values against NumPy, gradients against torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import graphc as gc

RNG = np.random.default_rng(13)
A = RNG.uniform(-0.9, 0.9, (3, 5)).astype(np.float32)
P = RNG.uniform(1.1, 3.0, (3, 5)).astype(np.float32)
N = RNG.integers(-9, 10, (3, 5)).astype(np.int32)
M = np.array([3, -4, 7, -2, 5], np.int32)
IDS = np.array([2, 0, 2], np.int32)
nan, inf = np.nan, np.inf


@pytest.fixture(autouse=True)
def session() -> Iterator[gc.Session]:
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        yield session


def by_segment(function: Any, start: Any, count: int) -> np.ndarray:
    """The reduction of A's rows by IDS."""
    out = np.full((count, 5), start, np.float32)
    function.at(out, IDS, A)
    return out


CASES: dict[str, tuple[Callable[[], Any], Any]] = {
    "tan": (lambda: gc.tan(A), np.tan(A)),
    "asin": (lambda: gc.asin(A), np.arcsin(A)),
    "acos": (lambda: gc.acos(A), np.arccos(A)),
    "atan": (lambda: gc.atan(P), np.arctan(P)),
    "atan2": (lambda: gc.atan2(A, P), np.arctan2(A, P)),
    "atan2 of numbers": (lambda: gc.atan2(0.0, -1.0), np.pi),
    "sinh": (lambda: gc.sinh(A), np.sinh(A)),
    "cosh": (lambda: gc.cosh(A), np.cosh(A)),
    "asinh": (lambda: gc.asinh(A), np.arcsinh(A)),
    "acosh": (lambda: gc.acosh(P), np.arccosh(P)),
    "atanh": (lambda: gc.atanh(A), np.arctanh(A)),
    "erfc": (lambda: gc.erfc([0.0, 3.0, -9.0, nan]), [1, 2.2090497e-5, 2, nan]),
    "sign of integers": (lambda: gc.sign(N), np.sign(N)),
    "is_nan": (lambda: gc.is_nan([nan, inf, 1.0]), [True, False, False]),
    "is_inf": (lambda: gc.is_inf([nan, -inf, 1.0]), [False, True, False]),
    "is_finite": (lambda: gc.is_finite([nan, inf, 1.0]), [False, False, True]),
    "div_no_nan": (lambda: gc.div_no_nan([1.0, 0.0, nan], [0.0, 0.0, 2.0]), [0, 0, nan]),
    "reciprocal_no_nan": (lambda: gc.math.reciprocal_no_nan([0.0, 4.0]), [0, 0.25]),
    "multiply_no_nan": (
        lambda: gc.math.multiply_no_nan([nan, inf, 3.0, nan], [0.0, 0.0, 2.0, 1.0]),
        [0, 0, 6, nan],
    ),
    "xlogy": (
        lambda: gc.math.xlogy([0.0, 0.0, 2.0, 1.0], [0.0, nan, 3.0, 0.0]),
        [0, 0, 2 * np.log(3), -inf],
    ),
    "xdivy": (lambda: gc.math.xdivy([0.0, 0.0, 2.0], [0.0, nan, 4.0]), [0, 0, 0.5]),
    "truncatediv": (lambda: gc.truncatediv(N, M), np.trunc(N / M)),
    "truncatediv by zero": (lambda: gc.truncatediv([-5, 5], [0, 0]), [0, 0]),
    "truncatediv of floats": (lambda: gc.truncatediv([-7.0, 7.0, nan], 2.0), [-3, 3, nan]),
    "truncatemod": (lambda: gc.truncatemod(N, M), np.fmod(N, M)),
    "truncatemod of floats": (
        lambda: gc.truncatemod([-5.5, 5.5, -5.0, nan], [2.0, -2.0, inf, 1.0]), [-1.5, 1.5, -5, nan],
    ),
    "truncatemod unsigned": (lambda: gc.truncatemod(gc.constant([7, 250], gc.uint8), 4), [3, 2]),
    "floordiv": (lambda: gc.floordiv(N, M), N // M),
    "floormod": (lambda: gc.floormod(N, M), N % M),
    "squared_difference": (lambda: gc.squared_difference(N, M), (N - M) ** 2),
    "scalar_mul": (lambda: gc.scalar_mul(2, A), 2 * A),
    "polyval": (lambda: gc.math.polyval([2, 3, 4], [1.0, -2.0]), [9, 6]),
    "polyval of tensors": (lambda: gc.math.polyval([gc.constant(A), P], 3.0), 3 * A + P),
    "polyval of nothing": (lambda: gc.math.polyval([], [1.0, 2.0]), [0, 0]),
    "bitwise_and": (lambda: gc.bitwise.bitwise_and(N, M), N & M),
    "bitwise_or": (lambda: gc.bitwise.bitwise_or(N, M), N | M),
    "bitwise_xor": (lambda: gc.bitwise.bitwise_xor(N, 6), N ^ 6),
    "invert": (lambda: gc.bitwise.invert(np.array([0, 255, 7], np.uint8)), [255, 0, 248]),
    "left_shift": (lambda: gc.bitwise.left_shift([1, -3, 5], [31, 2, 32]), [-(2**31), -12, 0]),
    "right_shift": (lambda: gc.bitwise.right_shift([-9, 9, -1], [1, 1, 40]), [-5, 4, -1]),
    "euclidean norm": (
        lambda: gc.reduce_euclidean_norm(A, 1, keepdims=True),
        np.linalg.norm(A, axis=1, keepdims=True),
    ),
    "variance of all": (lambda: gc.reduce_variance(A), A.var()),
    "std of two axes": (
        lambda: gc.reduce_std(A[None], [0, 2], True), A[None].std((0, 2), keepdims=True),
    ),
    "count_nonzero of bools": (lambda: gc.count_nonzero(N > 0, dtype=gc.int32), (N > 0).sum()),
    "logsumexp of -inf": (lambda: gc.reduce_logsumexp([-inf, -inf]), -inf),
    "logsumexp of inf": (lambda: gc.reduce_logsumexp([inf, 1.0]), inf),
    "cumsum": (lambda: gc.cumsum(A, 1), A.cumsum(1)),
    "cumsum exclusive": (lambda: gc.cumsum([1, 2, 3], exclusive=True), [0, 1, 3]),
    "cumsum reverse": (lambda: gc.cumsum([1, 2, 3], reverse=True), [6, 5, 3]),
    "cumsum both": (lambda: gc.cumsum([1, 2, 3], exclusive=True, reverse=True), [5, 3, 0]),
    "cumprod": (lambda: gc.cumprod(P, -1), P.cumprod(1)),
    "cumprod exclusive": (lambda: gc.cumprod([2, 3, 4], exclusive=True), [1, 2, 6]),
    "sort": (lambda: gc.sort([2.0, nan, -inf, 1.0]), [-inf, 1, 2, nan]),
    "sort down": (lambda: gc.sort([2.0, nan, 1.0], direction="DESCENDING"), [nan, 2, 1]),
    "sort axis": (lambda: gc.sort(A, 0), np.sort(A, 0)),
    "argsort": (lambda: gc.argsort([2, 1, 2, 1]), [1, 3, 0, 2]),
    "argsort down": (lambda: gc.argsort([2, 1, 2, 1], direction="DESCENDING"), [0, 2, 1, 3]),
    "top_k values": (lambda: gc.nn.top_k(A, 2).values, -np.sort(-A, 1)[:, :2]),
    "top_k indices": (lambda: gc.nn.top_k([[1, 3, 3, 2]], 3).indices, [[1, 2, 3]]),
    "top_k of all": (lambda: gc.nn.top_k([3.0, 4.0], 2)[0], [4, 3]),
    "in_top_k": (lambda: gc.nn.in_top_k([[0.1, 0.7, 0.2]] * 2, [2, 0], 2), [True, False]),
    "invert_permutation": (lambda: gc.invert_permutation([2, 0, 3, 1]), [1, 3, 0, 2]),
    "is_non_decreasing": (lambda: gc.math.is_non_decreasing([[1, 1], [2, 3]]), True),
    "is_strictly_increasing": (lambda: gc.math.is_strictly_increasing([1, 1, 2]), False),
    "increasing nothing": (lambda: gc.math.is_strictly_increasing(np.zeros(0, "f")), True),
    "gather_nd": (lambda: gc.gather_nd(A, [[0, 1], [2, 4]]), A[[0, 2], [1, 4]]),
    "gather_nd slices": (lambda: gc.gather_nd(A, [[[2]], [[0]]]), A[[2, 0]][:, None]),
    "gather_nd outside": (lambda: gc.gather_nd([1, 2], [[-1], [1], [2]]), [0, 2, 0]),
    "scatter_nd": (lambda: gc.scatter_nd([[1], [3], [1]], [5, 6, 7], [5]), [0, 12, 0, 6, 0]),
    "scatter_nd outside": (lambda: gc.scatter_nd([[4], [-1]], [5, 6], [2]), [0, 0]),
    "embedding_lookup": (lambda: gc.nn.embedding_lookup(A, [[2, 0]]), A[[[2, 0]]]),
    "segment_sum": (lambda: gc.segment_sum(A, IDS), by_segment(np.add, 0, 3)),
    "segment_prod": (lambda: gc.segment_prod(A, IDS), by_segment(np.multiply, 1, 3)),
    "segment_mean": (
        lambda: gc.segment_mean(A, IDS), np.stack([A[1], 0 * A[0], (A[0] + A[2]) / 2]),
    ),
    "segment_max": (
        lambda: gc.segment_max(A, IDS), np.stack([A[1], 0 * A[0], np.maximum(A[0], A[2])]),
    ),
    "segment_min": (
        lambda: gc.segment_min(A, IDS), np.stack([A[1], 0 * A[0], np.minimum(A[0], A[2])]),
    ),
    "unsorted_segment_sum": (
        lambda: gc.unsorted_segment_sum(A, IDS, 4), by_segment(np.add, 0, 4),
    ),
    "unsorted_segment_sum drops": (
        lambda: gc.unsorted_segment_sum([1, 2, 3], [0, -1, 5], 2), [1, 0],
    ),
    "unsorted_segment_prod": (
        lambda: gc.unsorted_segment_prod(A, IDS, 4), by_segment(np.multiply, 1, 4),
    ),
    "unsorted_segment_max": (
        lambda: gc.unsorted_segment_max(A, IDS, 4),
        by_segment(np.maximum, np.finfo(np.float32).min, 4),
    ),
    "unsorted_segment_min of integers": (
        lambda: gc.unsorted_segment_min([5, 3], [0, 0], 2), [3, np.iinfo(np.int32).max],
    ),
    "unsorted_segment_mean": (
        lambda: gc.unsorted_segment_mean([1.0, 2.0, 6.0], [0, 2, 2], 3), [1, 0, 4],
    ),
    "unsorted_segment_sqrt_n": (
        lambda: gc.unsorted_segment_sqrt_n([1.0, 2.0, 6.0, 0.0, 0.0], [0, 2, 2, 2, 2], 3),
        [1, 0, 4],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_against_numpy(session: gc.Session, name: str) -> None:
    make, want = CASES[name]
    value = make()
    got = np.asarray(session.run(value))
    assert got.shape == np.shape(want)
    np.testing.assert_allclose(got, want, rtol=3e-6, atol=1e-6)
    assert value.type.static_shape == got.shape, "the shape is known while building"


@pytest.mark.parametrize(
    ("dtype", "wide"),
    [(gc.int8, gc.float32), (gc.uint8, gc.float32), (gc.int16, gc.float32),
     (gc.uint16, gc.float32), (gc.int32, gc.float64), (gc.int64, gc.float64),
     (gc.float16, gc.float16), (gc.bfloat16, gc.bfloat16)],
)  # fmt: skip
def test_division_of_integers_is_of_floats(session: gc.Session, dtype: Any, wide: Any) -> None:
    x, y = gc.constant([7, 1], dtype), gc.constant([2, 4], dtype)
    for quotient in (x / y, x / 2, 7 / y, gc.truediv(x, y)):
        assert quotient.dtype is wide
    assert session.run(x / y).tolist() == [3.5, 0.25]
    assert session.run([x / 2, 7 / y])[1].tolist() == [3.5, 1.75]


def test_powers_by_the_operator(session: gc.Session) -> None:
    n, x = gc.constant([-3, 0, 2]), gc.constant([4.0, 9.0])
    assert (n**3).dtype is gc.int32
    got = session.run([n**3, n**0, n**1, x**0.5, 2.0**x, gc.constant([5], gc.int64) ** 20])
    assert [g.tolist() for g in got] == [
        [-27, 0, 8], [1, 1, 1], [-3, 0, 2], [2, 3], [16, 512], [5**20],
    ]  # fmt: skip


def test_logic_operators_follow_the_dtype(session: gc.Session) -> None:
    n, b = gc.constant(N), gc.constant(N > 0)
    pairs = [
        (n & M, N & M), (3 & n, 3 & N), (n | M, N | M), (8 | n, 8 | N), (n ^ M, N ^ M),
        (5 ^ n, 5 ^ N), (~n, ~N), (n << 2, N << 2), (1 << gc.abs(n), 1 << np.abs(N)),
        (n >> 1, N >> 1), (-64 >> gc.abs(n), -64 >> np.abs(N)),
        (b & True, N > 0), (b | True, N < 99), (b ^ True, N <= 0), (True ^ b, N <= 0),
        (~b, N <= 0), (gc.Variable(N, trainable=False) & 3, N & 3),
    ]  # fmt: skip
    session.run(gc.global_variables_initializer())
    for got, (value, want) in zip(session.run([v for v, _ in pairs]), pairs, strict=True):
        assert value.dtype.numpy == want.dtype and value.dtype.is_bool == (want.dtype == bool)
        np.testing.assert_array_equal(got, want)


def test_counts_and_shapes_from_feeds(session: gc.Session) -> None:
    x, ids = gc.placeholder(gc.float32, [None, 2]), gc.placeholder(gc.int32, [None])
    count = gc.placeholder(gc.int32, [])
    fetches = [
        gc.segment_sum(x, ids), gc.segment_max(x, ids), gc.unsorted_segment_max(x, ids, count),
        gc.unsorted_segment_sum(x, ids, count),
        gc.scatter_nd(gc.expand_dims(ids, 1), x, gc.stack([count, 2])),
    ]  # fmt: skip
    assert [f.type.shape for f in fetches[:4]] == [("?", 2)] * 4
    rows = np.array([[1, -2], [3, 4], [5, -6]], np.float32)
    got = session.run(fetches, {x: rows, ids: [0, 2, 2], count: 4})
    np.testing.assert_array_equal(got[0], [[1, -2], [0, 0], [8, -2]])
    np.testing.assert_array_equal(got[1], [[1, -2], [0, 0], [5, 4]])
    assert got[2].shape == (4, 2) and got[2][1, 0] == np.finfo(np.float32).min
    np.testing.assert_array_equal(got[3], [[1, -2], [0, 0], [8, -2], [0, 0]])
    np.testing.assert_array_equal(got[4], got[3])
    empty = session.run(fetches, {x: rows[:0], ids: [], count: 0})
    assert [e.shape for e in empty] == [(0, 2)] * 5


def test_top_k_is_fetched_by_name(session: gc.Session) -> None:
    got = session.run(gc.nn.top_k(gc.constant([1.0, 3.0, 2.0]), k=2))
    assert got.values.tolist() == [3, 2] and got.indices.tolist() == [1, 2]
    assert got.indices.dtype == np.int32


def _torch_sorted(t: torch.Tensor) -> torch.Tensor:
    return torch.sort(t, dim=0)[0]


# name: the function here, in torch, of A
GRADIENTS: dict[str, tuple[Callable[[Any], Any], Callable[[torch.Tensor], Any]]] = {
    "atan2": (lambda x: gc.atan2(x, x + 2.0), lambda t: torch.atan2(t, t + 2)),
    "xlogy": (lambda x: gc.math.xlogy(x, x + 2.0), lambda t: torch.xlogy(t, t + 2)),
    "clip": (lambda x: gc.clip_by_value(x, -0.5, 0.2), lambda t: t.clamp(-0.5, 0.2)),
    "euclidean norm": (
        lambda x: gc.reduce_euclidean_norm(x, 0), lambda t: torch.linalg.norm(t, dim=0)),
    "variance": (lambda x: gc.reduce_variance(x, 1), lambda t: t.var(1, unbiased=False)),
    "std": (lambda x: gc.reduce_std(x), lambda t: t.std(unbiased=False)),
    "logsumexp": (lambda x: gc.reduce_logsumexp(x, 1), lambda t: torch.logsumexp(t, 1)),
    "cumsum": (
        lambda x: gc.cumsum(x, 1, exclusive=True), lambda t: torch.cumsum(t, 1) - t),
    "cumprod": (lambda x: gc.cumprod(x, 0), lambda t: torch.cumprod(t, 0)),
    "sort": (lambda x: gc.sort(x, 0) * gc.range(3.0)[:, None],
             lambda t: _torch_sorted(t) * torch.arange(3.0)[:, None]),
    "top_k": (lambda x: gc.nn.top_k(x, 2)[0], lambda t: torch.topk(t, 2)[0]),
    "gather_nd": (lambda x: gc.gather_nd(x, [[0, 1], [0, 1], [2, 2]]),
                  lambda t: t[[0, 0, 2], [1, 1, 2]]),
    "scatter_nd": (lambda x: gc.scatter_nd([[3], [0], [3]], x, [4, 5]),
                   lambda t: torch.zeros(4, 5).index_add(0, torch.tensor([3, 0, 3]), t)),
    "segment_mean": (lambda x: gc.segment_mean(x, IDS),
                     lambda t: torch.stack([t[1], 0 * t[0], (t[0] + t[2]) / 2])),
    "segment_max": (lambda x: gc.segment_max(x, IDS),
                    lambda t: torch.stack([t[1], 0 * t[0], torch.maximum(t[0], t[2])])),
    "segment_prod": (lambda x: gc.segment_prod(x, IDS),
                     lambda t: torch.stack([t[1], 1 + 0 * t[0], t[0] * t[2]])),
    "polyval": (lambda x: gc.math.polyval([1, 2, 3], x), lambda t: t * t + 2 * t + 3),
    "truncatemod": (lambda x: gc.truncatemod(x * 5.0, 2.0), lambda t: torch.fmod(t * 5, 2)),
    "cast": (lambda x: gc.cast(gc.cast(x, gc.float64) * 3.0, gc.float32),
             lambda t: (t.double() * 3).float()),
    "embedding_lookup": (lambda x: gc.nn.embedding_lookup(x, [2, 2, 0]), lambda t: t[[2, 2, 0]]),
}  # fmt: skip


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_against_torch(session: gc.Session, name: str) -> None:
    ours, theirs = GRADIENTS[name]
    x, t = gc.constant(A), torch.tensor(A, requires_grad=True)
    y, want = ours(x), theirs(t)
    (got,) = session.run(gc.gradients(gc.reduce_sum(y * y * y), [x]))
    (wanted,) = torch.autograd.grad((want * want * want).sum(), t)
    np.testing.assert_allclose(got, wanted.numpy(), rtol=2e-5, atol=2e-6)


def test_gradients_at_zero_are_those_of_tensorflow(session: gc.Session) -> None:
    x, y = gc.constant([0.0, 0.0, 2.0]), gc.constant([0.0, 3.0, 4.0])
    pairs = [
        (gc.math.xlogy(x, y), [0, 0, np.log(4)], [0, 0, 0.5]),
        (gc.math.xdivy(x, y), [0, 0, 0.25], [0, 0, -0.125]),
        (gc.div_no_nan(y, x), [0, 0, -1], [0, 0, 0.5]),
        (gc.math.multiply_no_nan(y, x), [0, 3, 4], [0, 0, 2]),
    ]
    for value, wanted_x, wanted_y in pairs:
        got = session.run(gc.gradients(value, [x, y]))
        np.testing.assert_allclose(got[0], wanted_x, rtol=1e-6)
        np.testing.assert_allclose(got[1], wanted_y, rtol=1e-6)


def test_gradient_of_clipping_at_and_beyond_its_ends(session: gc.Session) -> None:
    x = gc.constant([-3.0, -1.0, 0.0, 1.0, 3.0])
    low, high = gc.constant(-1.0), gc.constant(1.0)
    got = session.run(gc.gradients(gc.clip_by_value(x, low, high), [x, low, high]))
    assert [g.tolist() for g in got] == [[0, 1, 1, 1, 0], 1, 1]


def test_gradients_of_ties_and_zeros_by_segment(session: gc.Session) -> None:
    x = gc.constant([2.0, 2.0, 1.0, 5.0, 0.0])
    most = gc.unsorted_segment_max(x, [0, 0, 0, 1, -1], 2)
    product = gc.unsorted_segment_prod(x, [0, 0, 1, 1, 1], 2)
    got = session.run([*gc.gradients(most, x), *gc.gradients(product, x)])
    assert got[0].tolist() == [0.5, 0.5, 0, 1, 0]
    assert got[1].tolist() == [2, 2, 0, 0, 5]


ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "k too large": (lambda: gc.nn.top_k([1.0, 2.0], 3), gc.errors.ShapeError, "k=3 of 2"),
    "k negative": (lambda: gc.nn.top_k([1.0], -1), gc.errors.AttributeValueError, "k is a number"),
    "sort a scalar": (lambda: gc.sort(1.0), gc.errors.ShapeError, "needs an axis"),
    "sort sideways": (
        lambda: gc.sort([1.0], direction="UP"), gc.errors.AttributeValueError, "'UP'"),
    "cumsum axis": (lambda: gc.cumsum([1.0], 1), gc.errors.AttributeValueError, "outside"),
    "bits of floats": (lambda: gc.constant(1.5) & 1.5, gc.errors.DTypeError, "needs bool"),
    "shift of floats": (lambda: gc.constant(1.5) << 1.0, gc.errors.DTypeError, "int or uint"),
    "power by a tensor": (
        lambda: gc.constant(2) ** gc.placeholder(gc.int32, []), gc.errors.AttributeValueError,
        "one known integer"),
    "negative power": (lambda: gc.constant(2) ** -1, gc.errors.AttributeValueError, "no integer"),
    "division of two dtypes": (
        lambda: gc.constant(2) / gc.constant(2.0), gc.errors.DTypeError, "one dtype"),
    "index too long": (lambda: gc.gather_nd(A, [[0, 0, 0]]), gc.errors.ShapeError, "3 numbers"),
    "index of floats": (lambda: gc.gather_nd(A, [[0.0]]), gc.errors.DTypeError, "integer"),
    "scatter_nd": (
        lambda: gc.scatter_nd([[0], [1]], [1.0], [3]), gc.errors.ShapeError, "slices"),
    "segments too few": (lambda: gc.segment_sum(A, [0, 1]), gc.errors.ShapeError, "first dims"),
    "segments in two dims": (lambda: gc.segment_sum(A, [[0]]), gc.errors.ShapeError, "a vector"),
    "segments of floats": (
        lambda: gc.unsorted_segment_max(A, [0.0] * 3, 2), gc.errors.DTypeError, "integers"),
    "polyval": (lambda: gc.math.polyval(A, 1.0), gc.errors.AttributeValueError, "a list"),
    "scalar_mul": (lambda: gc.scalar_mul([1.0, 2.0], A), gc.errors.ShapeError, "a scalar"),
    "permutation": (lambda: gc.invert_permutation([[0]]), gc.errors.ShapeError, "a vector"),
    "atan of integers": (lambda: gc.atan([1]), gc.errors.DTypeError, "needs float"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    make, kind, text = ERRORS[name]
    with pytest.raises(kind, match=text):
        make()


def test_segments_numbered_by_a_variable(session: gc.Session) -> None:
    ids = gc.Variable(IDS, trainable=False)
    session.run(gc.global_variables_initializer())
    np.testing.assert_allclose(
        session.run(gc.segment_sum(A, ids)), by_segment(np.add, 0, int(max(IDS)) + 1), rtol=1e-6
    )
    np.testing.assert_allclose(
        session.run(gc.unsorted_segment_sum(A, ids, 3)), by_segment(np.add, 0, 3), rtol=1e-6
    )

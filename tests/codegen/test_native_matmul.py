"""Products in C: every way to walk them, every shape of what comes before and after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.codegen.axes import simplified
from graphc.codegen.native.product import product_of

RNG = np.random.default_rng(5)


def _array(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def _check(
    build: Callable[..., Any], meaning: Callable[..., Any], *arrays: np.ndarray, threads: int = 2
) -> None:
    """`build` on the C back end in float32 and float64, against `meaning` in float64."""
    kinds = ((gc.float32, 2e-5), (gc.float64, 1e-12))
    for dtype, tolerance in kinds if threads > 1 else kinds[:1]:
        _check_dtype(build, meaning, [a.astype(dtype.numpy) for a in arrays], threads, tolerance)


def _check_dtype(
    build: Callable[..., Any],
    meaning: Callable[..., Any],
    arrays: list[np.ndarray],
    threads: int,
    tolerance: float,
) -> None:
    with gc.Graph().as_default(), gc.Session(device="native", threads=threads) as session:
        inputs = [gc.placeholder(a.dtype, a.shape) for a in arrays]
        y = build(*inputs)
        report = gc.explain(y, device="native")
        assert any("GC_GROUP" in k.source or "gc_matmul" in k.source for k in report.kernels)
        got = session.run(y, dict(zip(inputs, arrays, strict=True)))
    want = meaning(*(a.astype(np.float64) for a in arrays))
    assert got.shape == want.shape
    atol = tolerance * max(1.0, np.abs(want).max())
    np.testing.assert_allclose(got, want, rtol=5 * tolerance, atol=atol)


@pytest.mark.parametrize(
    ("dtype", "rows", "computed"),
    [(gc.float32, 1000, 0), (gc.float32, 512, 0), (gc.float32, 1024, 1), (gc.float32, 3072, 1),
     (gc.float64, 1000, 0), (gc.float64, 512, 1)],
)  # fmt: skip
def test_rows_whose_lines_collide_are_copied(dtype: Any, rows: int, computed: int) -> None:
    """Read across where they lie, they would push each other out of the first cache."""
    with gc.Graph().as_default():
        a, b = (gc.placeholder(dtype, (64, n)) for n in (rows, 48))
        (kernel,) = gc.explain(gc.matmul(a, b, transpose_a=True), device="native").kernels
    assert f".computed = {computed}," in kernel.source


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [
        (2, 4, 700), (5, 7, 200), (6, 16, 64), (7, 65, 33), (48, 64, 100), (49, 130, 17),
        (100, 10, 784), (97, 100, 500), (600, 30, 40), (513, 200, 2), (13, 9, 5000),
        (70, 70, 4097), (600, 70, 3000), (1024, 20, 130),
    ],
)  # fmt: skip
@pytest.mark.parametrize("turned", ["nn", "tn", "nt", "tt"])
def test_matrices(m: int, n: int, k: int, turned: str, threads: int) -> None:
    first, second = (c == "t" for c in turned)
    a = _array(*((k, m) if first else (m, k)))
    b = _array(*((n, k) if second else (k, n)))
    _check(
        lambda x, y: gc.matmul(x, y, transpose_a=first, transpose_b=second),
        lambda x, y: (x.T if first else x) @ (y.T if second else y),
        a, b, threads=threads,
    )  # fmt: skip


@pytest.mark.parametrize(("batch", "m"), [((3,), 50), ((2, 8), 20), ((2,), 600)])
def test_batches(batch: tuple[int, ...], m: int) -> None:
    _check(gc.matmul, np.matmul, _array(*batch, m, 33), _array(*batch, 33, 70))
    # one factor for all of the batch
    _check(
        lambda x, y: gc.einsum("abij,jk->abik", x, y), lambda x, y: x @ y,
        _array(2, 3, m, 33), _array(33, 20),
    )  # fmt: skip


def test_what_comes_before_and_after() -> None:
    relu = lambda x: np.maximum(x, 0)  # noqa: E731
    bias = _array(70)
    for m, k in ((20, 40), (300, 64), (40, 5000)):
        _check(
            lambda x, y, c: gc.nn.relu(gc.matmul(gc.tanh(x), y * 2.0) + c),
            lambda x, y, c: relu(np.tanh(x) @ (y * 2) + c),
            _array(m, k), _array(k, 70), bias,
        )  # fmt: skip
        _check(
            lambda x, y, c: gc.transpose(gc.matmul(x, y) * c) + 1.0,
            lambda x, y, c: ((x @ y) * c).T + 1,
            _array(m, k), _array(k, 70), bias,
        )  # fmt: skip


def _convolved(x: np.ndarray, w: np.ndarray, stride: int, rate: int) -> np.ndarray:
    """A convolution in two dimensions with SAME padding, NHWC, by its definition."""
    size = [(s - 1) * rate + 1 for s in w.shape[:2]]
    out = [-(-x.shape[1 + i] // stride) for i in range(2)]
    pads = [max((out[i] - 1) * stride + size[i] - x.shape[1 + i], 0) for i in range(2)]
    x = np.pad(x, ((0, 0), *((p // 2, p - p // 2) for p in pads), (0, 0)))
    y = np.zeros((x.shape[0], *out, w.shape[3]))
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            rows = slice(i * rate, i * rate + (out[0] - 1) * stride + 1, stride)
            columns = slice(j * rate, j * rate + (out[1] - 1) * stride + 1, stride)
            y += x[:, rows, columns] @ w[i, j]
    return y


@pytest.mark.parametrize(
    ("shape", "filters", "stride", "rate"),
    [
        ((3, 9, 11, 16), (3, 3, 16, 20), 1, 1), ((2, 12, 12, 3), (5, 5, 3, 8), 2, 1),
        ((2, 13, 9, 8), (3, 3, 8, 70), 1, 2), ((5, 14, 14, 1), (5, 5, 1, 32), 1, 1),
        ((2, 8, 8, 40), (1, 1, 40, 24), 2, 1),
    ],
)  # fmt: skip
def test_convolutions_and_their_gradients(
    shape: tuple[int, ...], filters: tuple[int, ...], stride: int, rate: int
) -> None:
    x, w = _array(*shape), _array(*filters)
    strides, rates = [1, stride, stride, 1], [1, rate, rate, 1]

    def build(a: Any, b: Any) -> Any:
        return gc.nn.conv2d(a, b, strides=strides, padding="SAME", dilations=rates)

    _check(build, lambda a, b: _convolved(a, b, stride, rate), x, w)
    with gc.Graph().as_default():
        a, b = gc.placeholder(gc.float32, x.shape), gc.placeholder(gc.float32, w.shape)
        y = build(a, b)
        g = _array(*y.shape.as_list())
        fetches = gc.gradients(y, [a, b], grad_ys=gc.constant(g))
        results = []
        for device in ("native", "numpy"):
            with gc.Session(device=device) as session:
                results.append(session.run(fetches, {a: x, b: w}))
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


def test_what_is_no_product_of_matrices() -> None:
    """Small ones, other dtypes, and vectors stay loops."""
    with gc.Graph().as_default():
        for m, n, k, dtype in (
            (3, 3, 3, gc.float32),
            (64, 64, 64, gc.int32),
            (1, 99, 99, gc.float32),
        ):
            y = gc.matmul(gc.placeholder(dtype, [m, k]), gc.placeholder(dtype, [k, n]))
            (kernel,) = gc.explain(y, device="native").program.kernels
            assert product_of(simplified(kernel)) is None

"""Scalar functions on arrays that NumPy lacks: values, `out=`, and arrays that share memory."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from graphc.codegen.native.minimax import erf_argument
from graphc.ir import elementwise

DTYPES = (
    np.float32,
    np.float64,
    np.float16,
    ml_dtypes.bfloat16,
    np.int8,
    np.uint32,
    np.int64,
    bool,
)


def numbers(dtype: Any, *shape: int) -> np.ndarray:
    """Random ones, NaN, inf and both zeros among the floats."""
    x = 3 * np.random.default_rng(len(shape)).standard_normal(shape)
    if x.size > 4 and np.dtype(dtype).kind not in "iub":
        x.reshape(-1)[:5] = np.nan, np.inf, -np.inf, -0.0, 0.0
    return np.abs(x).astype(dtype) if np.dtype(dtype).kind == "u" else x.astype(dtype)


def same_bits(got: np.ndarray, want: np.ndarray) -> bool:
    """Equal to the last bit."""
    return got.dtype == want.dtype and got.shape == want.shape and got.tobytes() == want.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0,), (1,), (7, 33), (2, 3, 5)])
def test_where(dtype: Any, shape: tuple[int, ...]) -> None:
    x, y = numbers(dtype, *shape), numbers(dtype, *shape)[..., ::-1]
    condition = np.random.default_rng(1).random(shape) < 0.5
    row, one = condition[..., :1], y.reshape(-1)[:1].reshape(()) if y.size else dtype(1)
    for c, a, b in (
        (condition, x, y), (condition, x, dtype(0)), (condition, dtype(0), y),
        (row, x, y), (condition, x, one), (~condition, x.T.copy().T, one), (np.True_, x, y),
    ):  # fmt: skip
        want = np.where(c, a, b).astype(dtype)
        out = np.full(shape, 1, dtype)
        assert elementwise.where(c, a, b, out) is out
        assert same_bits(out, want)


@pytest.mark.parametrize("dtype", [np.float32, bool, np.int8])
def test_where_over_its_own_arguments(dtype: Any) -> None:
    x, y = numbers(dtype, 6, 50), numbers(dtype, 6, 50)[::-1].copy()
    condition = np.random.default_rng(2).random((6, 50)) < 0.5
    want = np.where(condition, x, y)
    for which in (0, 1):
        given = [x.copy(), y.copy()]
        assert same_bits(elementwise.where(condition, *given, given[which]), want)
    if dtype is bool:
        own = condition.copy()
        assert same_bits(elementwise.where(own, x, y, own), want)


def test_where_keeps_a_negative_zero() -> None:
    condition = np.array([True, False])
    for x, y in ((np.float32(-0.0), np.float32(0.0)), (np.float32(0.0), np.float32(-0.0))):
        got = elementwise.where(condition, x, y, np.empty(2, np.float32))
        assert same_bits(got, np.where(condition, x, y))


def test_erf_is_within_4_ulp() -> None:
    x = np.concatenate([np.linspace(0, 6, 60_001), np.geomspace(1e-30, 6, 20_000)])
    x = np.concatenate([x, -x]).astype(np.float32)
    want = np.array([math.erf(float(v)) for v in x])
    error = np.abs(elementwise.erf(x) - want) / np.spacing(np.abs(want).astype(np.float32))
    assert error.max() < 4


def test_erf_far_out_and_in_place() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 1e20, -1e20, 3e38, 0.0, -0.0], np.float32)
    with np.errstate(all="ignore"):
        got = elementwise.erf(x)
    want = np.array([np.nan, 1, -1, 1, -1, 1, 0.0, -0.0], np.float32)
    assert np.array_equal(got, want, equal_nan=True) and np.signbit(got[7])
    large = numbers(np.float32, 40_001)
    with np.errstate(all="ignore"):
        want = elementwise.erf(large)
        columns = elementwise.erf(np.stack([large, large])[:, ::3])
        assert elementwise.erf(large, large) is large
    assert same_bits(large, want)
    assert np.array_equal(columns[0], want[::3], equal_nan=True)


def test_the_polynomial_of_erf_is_the_fit() -> None:
    fit = erf_argument()
    assert fit.error < 1e-7
    np.testing.assert_allclose(elementwise._ERF_ARGUMENT, fit.coefficients[::-1], rtol=1e-5)

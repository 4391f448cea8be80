"""Scalar functions on arrays that NumPy lacks, with NumPy's `out=` convention.

They define what the ops mean on the host, and emitted NumPy code calls them as `k.<name>`.
All warnings of floating point are left to the caller to silence: NaN and inf travel as IEEE
says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray
_one = np.float32(1)


def where(condition: Array, x: Array, y: Array, out: Array | None = None) -> Array:
    """x where condition holds, else y. `out` may share memory with any of them."""
    if out is None:
        return np.where(condition, x, y)
    if _shares(out, x) or _shares(out, condition):  # y is copied first, over what is still needed
        np.copyto(out, np.where(condition, x, y))
    else:
        np.copyto(out, y)
        np.copyto(out, x, where=condition)
    return out


def _shares(out: Array, x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype == out.dtype and np.may_share_memory(out, x)


def cast(x: Array, out: Array) -> Array:
    """x in out's dtype: floats to integers by truncation, anything to bool by x != 0."""
    if out.dtype == np.bool_:
        np.not_equal(x, 0, out)
        return out
    np.copyto(out, x, casting="unsafe")
    return out


def _finish(value: Any, out: Array | None) -> Any:
    if out is None:
        return value
    out[...] = value
    return out


def floordiv(x: Array, y: Array, out: Array | None = None) -> Any:
    """Floor of x / y; 0 where integers are divided by 0."""
    return np.floor_divide(x, y, out) if out is not None else np.floor_divide(x, y)


def sigmoid(x: Array, out: Array | None = None) -> Any:
    """1 / (1 + exp(-x)), without overflow: through tanh of half the argument."""
    if out is None:
        out = np.empty(np.shape(x), np.asarray(x).dtype)
    half = out.dtype.type(0.5)
    np.multiply(x, half, out)
    np.tanh(out, out)
    np.multiply(out, half, out)
    return np.add(out, half, out)


def rsqrt(x: Array, out: Array | None = None) -> Any:
    """1 / sqrt(x)."""
    if out is None:
        out = np.empty(np.shape(x), np.asarray(x).dtype)
    np.sqrt(x, out)
    return np.divide(out.dtype.type(1), out, out)


def _horner(x: Array, coefficients: tuple[float, ...], out: Array) -> Array:
    dtype = out.dtype.type
    out.fill(dtype(coefficients[0]))
    for c in coefficients[1:]:
        np.multiply(out, x, out)
        np.add(out, dtype(c), out)
    return out


# erf on |x| < 4 as x * P(x^2) / Q(x^2): the rational minimax form used by Eigen for float32
_ERF_P = (
    -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
    -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02,
)  # fmt: skip
_ERF_Q = (
    -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
    -1.42647390514189e-02,
)  # fmt: skip


def erf(x: Array, out: Array | None = None) -> Any:
    """The error function; float64 through `math.erf`, float32 by a rational form (2 ulp)."""
    x = np.asarray(x)
    if x.dtype != np.float32:
        return _finish(np.asarray(_ERF(x), dtype=x.dtype), out)
    clipped = np.clip(x, np.float32(-4), np.float32(4))
    square = clipped * clipped
    p = _horner(square, _ERF_P, np.empty_like(square))
    q = _horner(square, _ERF_Q, np.empty_like(square))
    np.multiply(p, clipped, p)
    return np.divide(p, q, out if out is not None else p)


def erfc(x: Array, out: Array | None = None) -> Any:
    """1 - erf(x), through `math.erfc`: exact to the last place also far out."""
    x = np.asarray(x)
    return _finish(np.asarray(_ERFC(x), dtype=x.dtype), out)


_ERFC = np.vectorize(math.erfc, otypes=[np.float64])
_ERF = np.vectorize(math.erf, otypes=[np.float64])


def sign(x: Array, out: Array | None = None) -> Any:
    """-1, 0 or 1; NaN stays NaN."""
    return np.sign(x, out) if out is not None else np.sign(x)


# Philox 4x32-10, Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, table 2
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox(index: Array, run: Array, key: int, out: Array | None = None) -> Array:
    """The first 32-bit word of Philox 4x32-10 at counter (index, run), keyed by 64-bit `key`.

    `index` (the element) and `run` (the number of the run) are non-negative integers below
    2^64; each gives two of the counter's four words.
    """
    index, run = np.broadcast_arrays(np.asarray(index), np.asarray(run))
    c0, c1 = _words(index)
    c2, c3 = _words(run)
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        p0, p1 = c0 * _M0, c2 * _M1
        c0, c1, c2, c3 = (
            (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0), p1 & _LOW,
            (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1), p0 & _LOW,
        )  # fmt: skip
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    result: Array = c0.astype(np.uint32)
    return _finish(result, out)  # type: ignore[no-any-return]


def _words(x: Array) -> tuple[Array, Array]:
    wide = x.astype(np.uint64)
    return wide & _LOW, wide >> _SHIFT


def unary(function: Callable[[Array], Any]) -> Callable[..., Any]:
    """A function without `out=` in the convention with it."""

    def call(x: Array, out: Array | None = None) -> Any:
        return _finish(function(x), out)

    return call


reciprocal = unary(lambda x: x.dtype.type(1) / x)

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
    """x where condition holds, else y. `out` may share memory with any of them.

    With `out` it is put together from bits, y ^ ((x ^ y) & mask): whatever else NumPy offers takes
    a branch per element, and ten times as long.
    """
    if out is None:
        return np.where(condition, x, y)
    bits = np.dtype(f"i{out.itemsize}")
    mask = np.negative(np.asarray(condition).view(np.int8))  # all bits, or none
    chosen, other = (np.asarray(v, out.dtype).view(bits) for v in (x, y))
    if other.ndim == 0 and not other:
        np.bitwise_and(chosen, mask, out.view(bits))
        return out
    differing = np.bitwise_and(np.bitwise_xor(chosen, other), mask)
    np.bitwise_xor(differing, other, out.view(bits))
    return out


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


# erf(x) = tanh(x p(x^2)): codegen/native/minimax.py, erf_argument; the highest power first
_ERF_ARGUMENT = (
    1.4185231123065023e-07, -5.668478479492478e-06, 8.763735240790993e-05, -0.0006197847542352974,
    -0.00019183063704986125, 0.10276905447244644, 1.128379225730896,
)  # fmt: skip
_BLOCK = 1 << 15  # elements: temporaries of so many stay in the cache


def erf(x: Array, out: Array | None = None) -> Any:
    """The error function; float64 through `math.erf`, float32 within 4 ulp."""
    x = np.asarray(x)
    if x.dtype != np.float32:
        return _finish(np.asarray(_ERF(x), dtype=x.dtype), out)
    if out is None:
        out = np.empty_like(x)
    if not (x.flags.c_contiguous and out.flags.c_contiguous):
        _erf_block(x, out)
        return out
    flat, result = x.reshape(-1), out.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        _erf_block(flat[start : start + _BLOCK], result[start : start + _BLOCK])
    return out


def _erf_block(x: Array, out: Array) -> None:
    first, *rest = _ERF_ARGUMENT
    square = x * x
    p = square * np.float32(first)
    for c in rest[:-1]:
        np.add(p, np.float32(c), p)
        np.multiply(p, square, p)
    np.add(p, np.float32(rest[-1]), p)
    np.multiply(p, x, p)
    np.tanh(p, out)


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

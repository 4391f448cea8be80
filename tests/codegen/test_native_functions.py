"""The elementary functions of the C back end: within 4 units in the last place everywhere."""

from __future__ import annotations

import ctypes
import functools
import math
import platform
from collections.abc import Callable

import numpy as np
import pytest

from graphc.runtime.devices.native_build import build

LIMIT = 4.0
_MANTISSAS = 1024  # per exponent and sign
_SPECIAL = (
    0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 1e-45, -1e-45, 1.1754944e-38, 88.72283, 88.7229,
    -87.33, -103.97, -103.98, -104.0, -150.0, 3.4028235e38, -3.4028235e38, 9.01, 3.92, 0.5, -0.5,
    1e5, 1e10, 3.1415927, 1.5707964, 16777216.0, 2.0, -2.0, 3.0, -3.0, 1.5,
)  # fmt: skip
# the worst arguments of float32 for a reduction by pi/2 are among the dense exponents below
_DENSE = ((-110.0, 110.0), (-1.0, 1.0), (0.999, 1.001), (-1.001, -0.999))


def _per_element(function: Callable[[float], float]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.asarray([function(v) for v in x])


UNARY = {
    "exp": np.exp, "exp_below": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p,
    "sigmoid": lambda x: np.where(x < 0, np.exp(x), 1.0) / (1 + np.exp(-np.abs(x))),
    "tanh": np.tanh, "erf": _per_element(math.erf), "erfc": _per_element(math.erfc),
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos,
    "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "asinh": np.arcsinh,
    "acosh": np.arccosh, "atanh": np.arctanh,
}  # fmt: skip
MOST = {"exp_below": 64.0}  # what a function is for, where that is not all
BINARY = {"pow": np.power, "atan2": np.arctan2}
DOUBLE = ("exp", "expm1", "log", "log1p", "sigmoid", "tanh")
VARIANTS = {
    "native": (),
    "no fused multiply-add": ("-march=x86-64",),
}


_HALVES = """
void load(const uint16_t *x, float *y) {
#pragma omp simd
    for (long i = 0; i < 65536; i++) y[i] = gc_load_float16(x[i]);
}
void store(const float *x, uint16_t *y, long n) {
#pragma omp simd
    for (long i = 0; i < n; i++) y[i] = gc_store_float16(gc_round_float16(x[i]));
}
"""


def _source() -> str:
    lines = ['#include "graphc.h"']
    for name in UNARY:
        lines.append(
            f"void all_{name}(const float *x, float *y, long n) {{\n"
            f"#pragma omp simd\nfor (long i = 0; i < n; i++) y[i] = gc_{name}_f32(x[i]); }}"
        )
    for name in BINARY:
        lines.append(
            f"void all_{name}(const float *x, const float *z, float *y, long n) {{\n"
            f"#pragma omp simd\nfor (long i = 0; i < n; i++) y[i] = gc_{name}_f32(x[i], z[i]); }}"
        )
    for name in DOUBLE:
        lines.append(
            f"void double_{name}(const double *x, double *y, long n) {{\n"
            f"#pragma omp simd\nfor (long i = 0; i < n; i++) y[i] = gc_{name}_f64(x[i]); }}"
        )
    return "\n".join([*lines, _HALVES])


@functools.cache
def _library(variant: str) -> ctypes.CDLL:
    return build(_source(), VARIANTS[variant])


def _call(variant: str, name: str, *inputs: np.ndarray) -> np.ndarray:
    result = np.empty_like(inputs[0])
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*inputs, result)]
    getattr(_library(variant), f"all_{name}")(*pointers, ctypes.c_long(result.size))
    return result


@functools.cache
def _arguments() -> np.ndarray:
    """Every exponent with both signs, denormals and NaN among them, and where functions turn."""
    rng = np.random.default_rng(0)
    upper = np.arange(512, dtype=np.uint32)[:, None] << np.uint32(23)
    bits = (upper | rng.integers(0, 1 << 23, (512, _MANTISSAS), dtype=np.uint32)).ravel()
    dense = [rng.uniform(a, b, 100_000).astype(np.float32) for a, b in _DENSE]
    return np.concatenate([bits.view(np.float32), np.float32(_SPECIAL), *dense])


def _pairs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    every = rng.integers(0, 1 << 32, (2, 200_000), dtype=np.uint64).astype(np.uint32)
    bases = np.exp(rng.uniform(-20, 20, 200_000)).astype(np.float32)
    whole = rng.integers(-20, 20, 200_000).astype(np.float32)
    powers = rng.uniform(-6, 6, 200_000).astype(np.float32)
    special = np.array(np.meshgrid(_SPECIAL, _SPECIAL), np.float32).reshape(2, -1)
    near = (1 + rng.uniform(-1e-4, 1e-4, 200_000)).astype(np.float32)
    x = np.concatenate([every[0].view(np.float32), bases, -bases, near, special[0]])
    y = np.concatenate([every[1].view(np.float32), powers, whole, 1e5 * powers, special[1]])
    return x, y


def _check(got: np.ndarray, want: np.ndarray, inputs: tuple[np.ndarray, ...]) -> None:
    """`want` is in float64; the unit is that of the float32 number nearest to it."""
    rounded = want.astype(np.float32)
    same = (got == rounded) | (np.isnan(got) & np.isnan(want))
    unit = np.maximum(np.exp2(np.floor(np.log2(np.abs(want))) - 23), 2.0**-149)
    far = np.abs(got.astype(np.float64) - want) / unit
    wrong = ~same & ~(far <= LIMIT)
    worst = [(*(float(x[i]) for x in inputs), got[i], want[i]) for i in np.flatnonzero(wrong)[:5]]
    assert not wrong.any(), (
        f"{wrong.sum()} of {got.size} are off, as (arguments, got, want) {worst}"
    )
    zeros = (got == 0) & (want == 0)
    np.testing.assert_array_equal(np.signbit(got[zeros]), np.signbit(want[zeros]))


def _variants() -> list[str]:
    return list(VARIANTS) if platform.machine() == "x86_64" else ["native"]


@pytest.mark.parametrize("variant", _variants())
@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str, variant: str) -> None:
    x = _arguments()
    taken = ~(x > MOST.get(name, np.inf))
    with np.errstate(all="ignore"):
        _check(_call(variant, name, x)[taken], _reference(name)[taken], (x[taken],))


@functools.cache
def _reference(name: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(UNARY[name](_arguments().astype(np.float64)))


@pytest.mark.parametrize("variant", _variants())
@pytest.mark.parametrize("name", BINARY)
def test_binary(name: str, variant: str) -> None:
    x, y = _pairs()
    with np.errstate(all="ignore"):
        want = BINARY[name](x.astype(np.float64), y.astype(np.float64))
        _check(_call(variant, name, x, y), want, (x, y))


@pytest.mark.parametrize("variant", _variants())
def test_halves(variant: str) -> None:
    library = _library(variant)
    bits = np.arange(1 << 16, dtype=np.uint32)
    halves = bits.astype(np.uint16).view(np.float16)
    single = np.empty(1 << 16, np.float32)
    library.load(ctypes.c_void_p(halves.ctypes.data), ctypes.c_void_p(single.ctypes.data))
    np.testing.assert_array_equal(single, halves.astype(np.float32))
    np.testing.assert_array_equal(np.signbit(single), np.signbit(halves))
    edges = np.concatenate([halves.astype(np.float32), _middles(halves), _arguments()])
    edges = edges[: edges.size // 16 * 16].copy()
    stored = np.empty(edges.size, np.float16)
    library.store(
        *(ctypes.c_void_p(a.ctypes.data) for a in (edges, stored)), ctypes.c_long(edges.size)
    )
    with np.errstate(all="ignore"):
        want = edges.astype(np.float16)
    np.testing.assert_array_equal(stored, want)
    np.testing.assert_array_equal(np.signbit(stored), np.signbit(want))


def _middles(halves: np.ndarray) -> np.ndarray:
    """What lies between two neighbours, and its own neighbours."""
    finite = np.sort(halves[np.isfinite(halves)].astype(np.float32))
    middle = (finite[1:] + finite[:-1]) / np.float32(2)
    around = [np.nextafter(middle, np.float32(s)) for s in (-np.inf, np.inf)]
    return np.concatenate([middle, *around])


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 60, reason="nothing more accurate to compare")
@pytest.mark.parametrize("variant", _variants())
@pytest.mark.parametrize("name", DOUBLE)
def test_double(name: str, variant: str) -> None:
    rng = np.random.default_rng(2)
    upper = np.arange(4096, dtype=np.uint64)[:, None] << np.uint64(52)
    bits = upper | rng.integers(0, 1 << 52, (4096, 32), dtype=np.uint64)
    dense = [rng.uniform(a, b, 20_000) for a, b in (*_DENSE, (-750.0, 720.0))]
    special = np.float64([*_SPECIAL, 709.78, 709.79, -745.13, -745.14, 5e-324, 2.3e-308])
    x = np.concatenate([bits.ravel().view(np.float64), special, *dense])
    got = np.empty_like(x)
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (x, got)]
    getattr(_library(variant), f"double_{name}")(*pointers, ctypes.c_long(x.size))
    with np.errstate(all="ignore"):
        want = np.asarray(UNARY[name](x.astype(np.longdouble)))
        rounded = want.astype(np.float64)
        unit = np.maximum(np.spacing(np.abs(rounded)), 5e-324)
        far = np.abs(got - want) / unit
        wrong = ~((got == rounded) | (np.isnan(got) & np.isnan(want)) | (far <= LIMIT))
    assert not wrong.any(), [(x[i], got[i], rounded[i]) for i in np.flatnonzero(wrong)[:5]]
    zeros = got == 0
    np.testing.assert_array_equal(np.signbit(got[zeros]), np.signbit(rounded[zeros]))

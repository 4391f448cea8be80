"""Where the polynomials of c/vector.h come from: minimax fits, printed as C.

python -m graphc.codegen.native.minimax > graphc/codegen/native/c/polynomials.h

A fit minimizes the greatest relative error of the function, not of the polynomial: each has the
weight with which it enters the result. Method: Lawson's iteration (C. L. Lawson, 1961; Cody,
"A survey of practical rational and polynomial approximation of functions", SIAM Review 12,
1970, section 5), least squares whose weights grow where the error is large.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Function = Callable[[Array], Array]
_POINTS = 1000
_STEPS = 1200
ERF_SMALL, ERF_END = 1.15, 3.93  # beyond the second, erf is 1 in float32
TANH_SMALL = 0.55
ERFC_END = 10.1  # beyond, erfc is 0 in float32
BANDS = (26, 52, 78)  # powers of 2 by which large arguments of sin and cos are divided


@dataclass(frozen=True)
class Fit:
    """Coefficients, lowest power first, and the greatest error of the function by them."""

    name: str
    coefficients: tuple[float, ...]
    error: float


def _points(first: float, last: float) -> Array:
    """Chebyshev's points."""
    t = np.cos(np.pi * (np.arange(_POINTS) + 0.5) / _POINTS)
    return (first + last) / 2 + (last - first) / 2 * t


def _least_squares(basis: Array, target: Array, weight: Array) -> Array:
    scaled = basis * weight[:, None]
    norms = np.linalg.norm(scaled, axis=0)
    solved: Array = np.linalg.lstsq(scaled / norms, target * weight, rcond=1e-18)[0] / norms
    return solved


def polynomial(
    name: str, f: Function, first: float, last: float, degree: int, share: Function
) -> Fit:
    """The polynomial whose error, times `share`, is least at worst."""
    x = _points(first, last)
    basis, target, weight = np.vander(x, degree + 1, increasing=True), f(x), share(x)
    c, error = _lawson(basis, target, weight)
    return Fit(name, tuple(c), error)


def _lawson(basis: Array, target: Array, weight: Array) -> tuple[Array, float]:
    """The combination of the columns whose weighted error is least at worst, and that error."""
    best: tuple[Array, float] = np.zeros(0), math.inf
    growing = np.ones_like(target)
    for _ in range(_STEPS):
        c = _least_squares(basis, target, np.sqrt(growing) * weight)
        error = np.abs(weight * (basis @ c - target))
        if error.max() < best[1]:
            best = c, float(error.max())
        growing = growing * error / (growing * error).sum()
    return best


def _series(terms: Callable[[int], float]) -> Function:
    """A power series, for functions whose tails cancel when they are computed directly."""
    return lambda z: np.polynomial.polynomial.polyval(z, [terms(k) for k in range(16)])


def _log_tail(f: Array) -> Array:
    """(log(1 + f) - f + f^2/2) / f^3"""
    near = _series(lambda k: (-1) ** k / (k + 3))(f)
    far = (np.log1p(f) - f + f * f / 2) / np.where(f == 0, 1, f) ** 3
    return np.where(np.abs(f) < 0.05, near, far)


def _tail(f: Function, near: Function) -> Function:
    """(f(x) - x) / x^3 as a function of x^2; near 0 by its series"""

    def tail(z: Array) -> Array:
        x = np.sqrt(z)
        return np.where(z < 0.01, near(z), (f(x) - x) / np.where(z == 0, 1, x * z))

    return tail


def _odd(name: str, tail: Function, last: float, degree: int) -> Fit:
    """x + x^3 tail(x^2), by relative error"""
    return polynomial(name, tail, 0, last**2, degree, lambda z: z / (1 + z * tail(z)))


def _exp_share(r: Array) -> Array:
    """1 + r p(r), relative to e^r"""
    share: Array = np.abs(r) * np.exp(-r)
    return share


def _hyperbolic_tangent(z: Array) -> Array:
    """(tanh(x) - x) / x^3 near 0, in z = x^2"""
    return _series(lambda k: (-1 / 3, 2 / 15, -17 / 315, 62 / 2835, -1382 / 155925, 0)[min(k, 5)])(
        z
    )


def _erf_over_x(z: Array) -> Array:
    """erf(x) / x in z = x^2"""
    slope = 2 / math.sqrt(math.pi)
    return np.asarray([math.erf(math.sqrt(v)) / math.sqrt(v) if v else slope for v in z])


def _erfc_root(x: Array) -> Array:
    """erfc(x)^(-1/16): a polynomial of low degree will do (after Hastings, 1955)"""
    return np.asarray([math.erfc(v) ** (-1 / 16) for v in x])


def _scaled_erfc(t: Array) -> Array:
    """(1 + 2x) erfc(x) e^(x^2), t = (x - 1.5) / (x + 3)"""
    x = (1.5 + 3 * t) / (1 - t)
    return np.asarray([(1 + 2 * v) * math.exp(v * v) * math.erfc(v) for v in x])


def _arcsine(k: int) -> float:
    """Coefficients of (asin(x) - x) / x^3 in x^2"""
    n = k + 1
    return math.comb(2 * n, n) / (4.0**n * (2 * n + 1))


def fits() -> list[Fit]:
    """All of them."""
    half_log2, eighth_turn = math.log(2) / 2, 0.85
    near, far = 1.001 * half_log2, 1.01 * half_log2  # the latter with what is added to it
    exponential = _series(lambda k: 1 / math.factorial(k + 2))
    sine = _series(lambda k: -((-1) ** k) / math.factorial(2 * k + 3))
    cosine = _series(lambda k: (-1) ** k / math.factorial(2 * k + 4))
    arctangent = _series(lambda k: -((-1) ** k) / (2 * k + 3))
    erfc_end = (ERFC_END - 1.5) / (ERFC_END + 3)
    return [
        polynomial("exp", lambda r: np.expm1(r) / r, -near, near, 4, _exp_share),
        polynomial("expm1", exponential, -far, far, 4, np.abs),
        polynomial(
            "log", _log_tail, 0.5**0.5 - 1, 2**0.5 - 1, 7, lambda f: np.abs(f**3 / np.log1p(f))
        ),
        _odd("tanh", _tail(np.tanh, _hyperbolic_tangent), TANH_SMALL, 4),
        polynomial("erf_small", _erf_over_x, 0, ERF_SMALL**2, 6, lambda z: 1 / _erf_over_x(z)),
        polynomial(
            "erf_large",
            _erfc_root,
            ERF_SMALL,
            ERF_END,
            6,
            lambda x: 16 * _erfc_root(x) ** -17 / (1 - _erfc_root(x) ** -16),
        ),
        polynomial("erfc", _scaled_erfc, -0.5, erfc_end, 10, lambda t: 1 / _scaled_erfc(t)),
        _odd("sin", sine, eighth_turn, 3),
        polynomial(
            "cos", cosine, 0, eighth_turn**2, 2, lambda z: z * z / (1 - z / 2 + z * z * cosine(z))
        ),
        _odd("atan", _tail(np.arctan, arctangent), 1, 8),
        _odd("asin", _tail(np.arcsin, _series(_arcsine)), 0.5, 4),
        _odd("sinh", _series(lambda k: 1 / math.factorial(2 * k + 3)), 1, 3),
    ]


def erf_argument() -> Fit:
    """p(x^2) with erf(x) = tanh(x p(x^2)), by which NumPy computes erf.

    Where tanh is 1, p only has to stay large: the highest coefficient is positive.
    """

    def wanted(z: Array) -> Array:
        x = np.sqrt(z)
        rest = np.asarray([math.erfc(v) for v in x])
        result: Array = np.log((2 - rest) / rest) / (2 * x)
        return result

    def share(z: Array) -> Array:
        x, p = np.sqrt(z), wanted(z)
        weight: Array = x / (np.cosh(x * p) ** 2 * np.tanh(x * p))
        return weight

    return polynomial("erf_argument", wanted, 1e-8, 4.6**2, 6, share)


def c_text(fit: Fit) -> str:
    """The polynomial by Horner's rule."""
    first, *rest = (float(np.float32(c)) for c in reversed(fit.coefficients))
    lines = [f"    float p = {first!r}f;"]
    lines += [f"    p = GC_FMA_F32(p, x, {c!r}f);" for c in rest]
    return (
        f"GC_INLINE float gc_{fit.name}_polynomial(float x) {{ /* error {fit.error:.1e} */\n"
        + "\n".join(lines)
        + "\n    return p;\n}\n"
    )


def quarter_turns(j: int) -> tuple[float, float, float]:
    """2^j * 2/pi modulo 4, in [-2, 2), in three: twice 29 bits, and the rest."""
    scale, unit = 1 << 240, 1 << (240 - 28)
    turns = ((2 * scale * scale // _pi_times(scale)) << j) % (4 * scale)
    turns -= 4 * scale if turns >= 2 * scale else 0
    first = (turns + unit // 2) // unit * unit
    second = (turns - first + (unit >> 30)) // (unit >> 29) * (unit >> 29)
    return first / scale, second / scale, (turns - first - second) / scale


def _pi_times(scale: int) -> int:
    """pi * scale by Machin's formula, 16 arctan(1/5) - 4 arctan(1/239)."""
    guard = 1 << 32

    def arctangent(inverse: int) -> int:
        total, power, k = 0, scale * guard // inverse, 1
        while power:
            total += power // k if k % 4 == 1 else -(power // k)
            power //= inverse * inverse
            k += 2
        return total

    return (16 * arctangent(5) - 4 * arctangent(239)) // guard


def header() -> str:
    """The text of polynomials.h."""
    turns = [
        f"#define GC_TURNS_{j}_{n} {value.hex()}"
        for j in (0, *BANDS)
        for n, value in enumerate(quarter_turns(j))
    ]
    about = (
        "/* Printed by graphc.codegen.native.minimax, which says how the numbers were found. */\n"
    )
    return "\n".join([about, *map(c_text, fits()), *turns]) + "\n"


if __name__ == "__main__":
    print(header(), end="")

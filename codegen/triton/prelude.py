"""Small device functions that emitted kernels call: what Triton's language itself lacks.

All are written with `tl` alone (Triton's interpreter has no libdevice). They follow NumPy: NaN
travels, integer division floors and gives 0 for a divisor of 0.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from graphc.codegen.triton import trigonometry

HEADER = "import triton\nimport triton.language as tl\n"

_FUNCTIONS = '''
@triton.jit
def maximum(x, y):
    """The greater; NaN when either is."""
    return tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def minimum(x, y):
    """The smaller; NaN when either is."""
    return tl.minimum(x, y, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def product(x, y):
    """x * y, to combine a reduction."""
    return x * y


@triton.jit
def greater_pair(x, i, y, j):
    """The greater value and its position; NaN before all, then the lower position."""
    x_nan = x != x
    y_nan = y != y
    tie = (x == y) | (x_nan & y_nan)
    first = ((x > y) & (y == y)) | (x_nan & (y == y)) | (tie & (i < j))
    return tl.where(first, x, y), tl.where(first, i, j)


@triton.jit
def smaller_pair(x, i, y, j):
    """The smaller value and its position; NaN before all, then the lower position."""
    x_nan = x != x
    y_nan = y != y
    tie = (x == y) | (x_nan & y_nan)
    first = ((x < y) & (y == y)) | (x_nan & (y == y)) | (tie & (i < j))
    return tl.where(first, x, y), tl.where(first, i, j)


@triton.jit
def sqrt(x):
    """The square root, correctly rounded."""
    if tl.constexpr(x.dtype == tl.float32):
        return tl.sqrt_rn(x)
    else:
        return tl.sqrt(x)


@triton.jit
def divide(x, y):
    """x / y, correctly rounded."""
    if tl.constexpr(x.dtype == tl.float32):
        return tl.div_rn(x, y)
    else:
        return x / y


@triton.jit
def sign(x):
    """-1, 0 or 1; NaN stays NaN."""
    return tl.where(x > 0, 1, tl.where(x < 0, -1, x))


@triton.jit
def rint(x):
    """The nearest integer, ties to even: adding 2^23 (2^52) drops the fraction."""
    if tl.constexpr(x.dtype == tl.float64):
        big = tl.full([], 4503599627370496.0, tl.float64)
    else:
        big = tl.full([], 8388608.0, tl.float32)
    size = tl.abs(x)
    whole = (size + big) - big
    signed = tl.where(x < 0, -whole, whole)
    return tl.where(size < big, tl.where(whole == 0, 0.0 * x, signed), x)


@triton.jit
def negated(x):
    """-x; Triton's own is 0 - x, which makes 0 of 0, not -0."""
    if tl.constexpr(x.dtype.is_floating()):
        return x * -1.0
    else:
        return 0 - x


@triton.jit
def expm1(x):
    """exp(x) - 1; the series below 1/2, where the difference would lose digits."""
    term = x
    total = x
    if tl.constexpr(x.dtype == tl.float64):
        for n in tl.static_range(2, 17):
            term = term * x * (1.0 / n)
            total = total + term
    else:
        for n in tl.static_range(2, 10):
            term = term * x * (1.0 / n)
            total = total + term
    return tl.where(x == 0, x, tl.where(tl.abs(x) < 0.5, total, tl.exp(x) - 1.0))


@triton.jit
def log1p(x):
    """log(1 + x); below 1/2 as 2 atanh(x / (2 + x)), by its series."""
    s = x / (x + 2.0)
    square = s * s
    power_of_s = s
    total = s
    if tl.constexpr(x.dtype == tl.float64):
        for n in tl.static_range(3, 36, 2):
            power_of_s = power_of_s * square
            total = total + power_of_s * (1.0 / n)
    else:
        for n in tl.static_range(3, 18, 2):
            power_of_s = power_of_s * square
            total = total + power_of_s * (1.0 / n)
    return tl.where(tl.abs(x) < 0.5, total * 2.0, tl.log(x + 1.0))


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x)); exp overflows to inf, which gives 0."""
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def tanh(x):
    """The hyperbolic tangent: -e / (e + 2) with e = expm1(-2 |x|), and the sign of x."""
    e = expm1(-2.0 * tl.abs(x))
    t = -e / (e + 2.0)
    return tl.where(x < 0, -t, tl.where(x == 0, x, t))


@triton.jit
def power(x, y):
    """x to the power y, with the exceptional cases of IEEE 754 (section 9.2.1)."""
    y = tl.where(x == x, y, y)  # the interpreter cannot combine truth values of block and scalar
    x = tl.where(y == y, x, x)
    size = tl.abs(x)
    result = tl.exp2(y * tl.log2(size))
    whole = tl.floor(y) == y
    half = y * 0.5
    odd = whole & (tl.floor(half) != half) & (tl.abs(y) < 9007199254740992.0)
    negative = (x < 0) | ((x == 0) & (1.0 / x < 0))
    result = tl.where(negative & odd, -result, result)
    result = tl.where((x < 0) & (size < float("inf")) & (whole == 0), float("nan"), result)
    one = (x == 1) | (y == 0) | ((size == 1) & (tl.abs(y) == float("inf")))
    return tl.where(one, 1.0, result)


@triton.jit
def _float_quotient(x, y):
    """floor(x / y) and the remainder, corrected where the division rounded across an integer."""
    y = tl.where(x == x, y, y)  # the interpreter cannot combine truth values of block and scalar
    x = tl.where(y == y, x, x)
    quotient = tl.floor(divide(x, y))
    rest = tl.fma(-quotient, y, x)
    low = ((rest < 0) & (y > 0)) | ((rest > 0) & (y < 0))
    high = ((rest >= y) & (y > 0)) | ((rest <= y) & (y < 0))
    quotient = tl.where(low, quotient - 1.0, tl.where(high, quotient + 1.0, quotient))
    rest = tl.where(low, rest + y, tl.where(high, rest - y, rest))
    endless = (tl.abs(y) == float("inf")) & (tl.abs(x) < float("inf"))
    away = (x != 0) & ((x < 0) != (y < 0))
    quotient = tl.where(endless, tl.where(away, -1.0, 0.0), quotient)
    rest = tl.where(endless, tl.where(away, y, x), rest)
    return tl.where((tl.abs(x) == float("inf")) & (y != 0), float("nan"), quotient), rest


@triton.jit
def _whole_quotient(x, y):
    """The floor of x / y and the remainder of integers; 0 and 0 where y is 0."""
    if tl.constexpr(x.dtype.is_int_unsigned()):
        safe = tl.where(y == 0, 1, y)
        quotient = x // safe
        rest = x - quotient * safe
        return tl.where(y == 0, 0, quotient), tl.where(y == 0, 0, rest)
    else:
        # -1 is set apart: the least integer divided by it overflows
        safe = tl.where((y == 0) | (y == -1), 1, y)
        quotient = x // safe
        rest = x - quotient * safe
        down = (rest != 0) & ((rest < 0) != (safe < 0))
        quotient = tl.where(y == -1, 0 - x, tl.where(down, quotient - 1, quotient))
        return tl.where(y == 0, 0, quotient), tl.where(down, rest + safe, rest)


@triton.jit
def floordiv(x, y):
    """The floor of x / y; integers divided by 0 give 0."""
    if tl.constexpr(x.dtype.is_floating()):
        quotient, _ = _float_quotient(x, y)
        return quotient
    else:
        quotient, _ = _whole_quotient(x, y)
        return quotient


@triton.jit
def floormod(x, y):
    """x - floor(x / y) * y, with the sign of y; integers modulo 0 give 0."""
    if tl.constexpr(x.dtype.is_floating()):
        _, rest = _float_quotient(x, y)
        return rest
    else:
        _, rest = _whole_quotient(x, y)
        return rest


@triton.jit
def tan(x):
    """sin(x) / cos(x)"""
    return sin(x) / cos(x)


@triton.jit
def atan(x):
    """The angle of a tangent, in three ranges (Cephes, atan.c and atanf.c)."""
    size = tl.abs(x)
    far = size > 2.414213562373095
    if tl.constexpr(x.dtype == tl.float64):
        near = size <= 0.66
        s = tl.where(far, -1.0 / size, tl.where(near, size, (size - 1.0) / (size + 1.0)))
        z = s * s
        p = z * -0.8750608600031904 - 16.157537187333652
        p = ((p * z - 75.00855792314705) * z - 122.88666844901361) * z - 64.85021904942025
        q = ((z + 24.858464901423062) * z + 165.02700983169885) * z + 432.88106049129027
        q = (q * z + 485.3903996359137) * z + 194.5506571482614
        t = s * (z * p / q) + s
        rest = tl.where(far, 6.123233995736766e-17, tl.where(near, 0.0, 3.061616997868383e-17))
        t = t + rest
    else:
        near = size <= 0.41421356237
        s = tl.where(far, -1.0 / size, tl.where(near, size, (size - 1.0) / (size + 1.0)))
        z = s * s
        p = (8.05374449538e-2 * z - 1.38776856032e-1) * z + 1.99777106478e-1
        t = (p * z - 3.33329491539e-1) * z * s + s
    quarter = tl.full([], 0.7853981633974483, x.dtype)  # typed: a bare number is a float32
    angle = tl.where(far, quarter + quarter, tl.where(near, quarter * 0.0, quarter)) + t
    return tl.where(x < 0, -angle, tl.where(x == 0, x, angle))


@triton.jit
def _has_sign(x):
    """True for numbers below 0, and for -0."""
    if tl.constexpr(x.dtype == tl.float64):
        return x.to(tl.int64, bitcast=True) < 0
    else:
        return x.to(tl.int32, bitcast=True) < 0


@triton.jit
def atan2(y, x):
    """The angle of the point (x, y), by the octant in which it lies."""
    wide = tl.abs(x) + 0.0 * y
    high = tl.abs(y) + 0.0 * x
    wide = tl.where(tl.abs(y) == float("inf"), tl.abs(x), wide)
    high = tl.where(tl.abs(x) == float("inf"), tl.abs(y), high)
    steep = high > wide
    big = tl.where(steep, high, wide)
    small = tl.where(steep, wide, high)
    both = small == float("inf")
    ratio = tl.where(both, 1.0, small / tl.where(big == 0, 1.0, big))
    angle = atan(ratio)
    angle = tl.where(steep, 1.5707963267948966 - angle, angle)
    angle = tl.where(_has_sign(x), 3.141592653589793 - angle, angle)
    angle = tl.where(_has_sign(y), negated(angle), angle)
    return tl.where((x != x) | (y != y), float("nan"), angle)


@triton.jit
def asin(x):
    """The angle of a sine."""
    return atan2(x, sqrt((1.0 - x) * (1.0 + x)))


@triton.jit
def acos(x):
    """The angle of a cosine."""
    return atan2(sqrt((1.0 - x) * (1.0 + x)), x)


@triton.jit
def sinh(x):
    """By expm1 near 0; far out exp(x / 2) twice, for exp(x) overflows earlier than its half."""
    size = tl.abs(x)
    e = expm1(size)
    half = tl.exp(size * 0.5)
    value = tl.where(size < 20.0, (e + e / (e + 1.0)) * 0.5, half * 0.5 * half)
    return tl.where(x < 0, -value, tl.where(x == 0, x, value))


@triton.jit
def cosh(x):
    """The mean of exp(x) and exp(-x); far out as in sinh."""
    size = tl.abs(x)
    e = tl.exp(size)
    half = tl.exp(size * 0.5)
    return tl.where(size < 20.0, (e + 1.0 / e) * 0.5, half * 0.5 * half)


@triton.jit
def asinh(x):
    """log(x + sqrt(x^2 + 1)) without cancellation; log(2 x) where x^2 has no place for the 1."""
    size = tl.abs(x)
    square = size * size
    near = log1p(size + square / (1.0 + sqrt(square + 1.0)))
    value = tl.where(size < 1e9, near, tl.log(size) + 0.6931471805599453)
    return tl.where(x < 0, -value, tl.where(x == 0, x, value))


@triton.jit
def acosh(x):
    """log(x + sqrt(x^2 - 1)) without cancellation."""
    t = x - 1.0
    near = log1p(t + sqrt(t * (t + 2.0)))
    value = tl.where(x < 1e9, near, tl.log(x) + 0.6931471805599453)
    return tl.where(x < 1, float("nan"), value)


@triton.jit
def atanh(x):
    """log1p(2 x / (1 - x)) / 2"""
    size = tl.abs(x)
    value = 0.5 * log1p(2.0 * size / (1.0 - size))
    value = tl.where(size > 1, float("nan"), value)
    return tl.where(x < 0, -value, tl.where(x == 0, x, value))


@triton.jit
def erfc(x):
    """1 - erf(x); from 1 on exp(-x^2) by a rational function (Cephes, ndtr.c);
    exp(-x^2) from a part of x whose square is exact (fdlibm, s_erf.c)."""
    size = tl.abs(x)
    z = tl.where(size < 8.0, size, 1.0)
    p = 2.46196981473530512524e-10 * z + 5.64189564831068821977e-1
    p = (p * z + 7.46321056442269912687) * z + 48.6371970985681366614
    p = (p * z + 196.520832956077098242) * z + 526.445194995477358631
    p = (p * z + 934.528527171957607540) * z + 1027.55188689515710272
    p = p * z + 557.535335369399327526
    q = (z + 13.2281951154744992508) * z + 86.7072140885989742329
    q = (q * z + 354.937778887819891062) * z + 975.708501743205489753
    q = (q * z + 1823.90916687909736289) * z + 2246.33760818710981792
    q = (q * z + 1656.66309194161350182) * z + 557.535340817727675546
    w = tl.where(size < 8.0, 8.0, tl.where(size < 1e4, size, 1e4))
    r = 5.64189583547755073984e-1 * w + 1.27536670759978104416
    r = (r * w + 5.01905042251180477414) * w + 6.16021097993053585195
    r = (r * w + 7.40974269950448939160) * w + 2.97886665372100240670
    s = (w + 2.26052863220117276590) * w + 9.39603524938001434673
    s = (s * w + 12.0489539808096656605) * w + 17.0814450747565897222
    s = (s * w + 9.60896809063285878198) * w + 3.36907645100081516050
    bounded = tl.where(size < 1e4, size, 1e4)
    short = tl.floor(bounded * 256.0) * 0.00390625  # few bits: its square is exact
    power = tl.exp(-short * short) * tl.exp((short - bounded) * (short + bounded))
    tail = power * tl.where(size < 8.0, p / q, r / s)
    value = tl.where(x < 0, 2.0 - tail, tail)
    return tl.where(size < 1, 1.0 - tl.erf(x), tl.where(x != x, x, value))


@triton.jit
def left_shift(x, y):
    """x << y; 0 where y is no number of bits below x's width."""
    inside = (y >= 0) & (y < x.dtype.primitive_bitwidth)
    return tl.where(inside, x << tl.where(inside, y, 0), 0)


@triton.jit
def right_shift(x, y):
    """x >> y, with the sign of x; as if by the width of x less one where y is no such number."""
    inside = (y >= 0) & (y < x.dtype.primitive_bitwidth)
    shifted = x >> tl.where(inside, y, 0)
    return tl.where(inside, shifted, tl.where(x < 0, -1, 0).to(x.dtype))


@triton.jit
def philox(index, run, key: tl.constexpr):
    """The first word of Philox 4x32-10 (Salmon et al. 2011) at counter (index, run)."""
    c0 = index.to(tl.uint64).to(tl.uint32)
    c1 = (index.to(tl.uint64) >> 32).to(tl.uint32)
    c2 = run.to(tl.uint64).to(tl.uint32)
    c3 = (run.to(tl.uint64) >> 32).to(tl.uint32)
    m0 = tl.full([], 0xD2511F53, tl.uint32)
    m1 = tl.full([], 0xCD9E8D57, tl.uint32)
    c2 = c2 + c0 * 0
    c3 = c3 + c0 * 0
    for i in tl.static_range(10):
        k0 = tl.full([], ((key & 0xFFFFFFFF) + i * 0x9E3779B9) & 0xFFFFFFFF, tl.uint32)
        k1 = tl.full([], ((key >> 32) + i * 0xBB67AE85) & 0xFFFFFFFF, tl.uint32)
        high0 = tl.umulhi(c0, m0 + c0 * 0)
        high1 = tl.umulhi(c2, m1 + c0 * 0)
        low0 = c0 * m0
        low1 = c2 * m1
        c0 = high1 ^ c1 ^ k0
        c1 = low1
        c2 = high0 ^ c3 ^ k1
        c3 = low0
    return c0
'''


@functools.cache
def _functions(interpret: bool = False) -> Mapping[str, str]:
    text = _FUNCTIONS + trigonometry.functions(interpret)
    parts = re.split(r"(?=^@triton\.jit$)", text, flags=re.MULTILINE)
    named = (p.strip() for p in parts if p.strip())
    return {re.search(r"def (\w+)", p).group(1): p for p in named}  # type: ignore[union-attr]


def function_names() -> tuple[str, ...]:
    """The names that a spelling in the op table may use, besides those of `tl`."""
    return tuple(_functions())


def prelude(text: str, interpret: bool = False) -> str:
    """The functions that `text` calls, and those that they call, in their order here.

    With `interpret` they avoid what Triton's interpreter cannot do.
    """
    functions = _functions(interpret)
    needed: set[str] = set()
    pending = [text]
    while pending:
        words = set(re.findall(r"(?<![\w.])([A-Za-z_]\w*)", pending.pop()))
        found = (words & functions.keys()) - needed
        needed |= found
        pending.extend(functions[name] for name in found)
    return "\n\n\n".join(source for name, source in functions.items() if name in needed)

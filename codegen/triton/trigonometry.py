"""Sine and cosine for emitted kernels, without libdevice.

What `tl.sin` compiles to keeps a table on the stack (before Triton 3.9). These follow the same
plan in registers: the argument is reduced to a quadrant and a rest in [-pi/4, pi/4], by Cody and
Waite's subtraction of pi/2 in parts (1980), or where it is large by Payne and Hanek's product
with the digits of 2/pi (1983). The polynomials are those of Cephes (float32) and of fdlibm
(float64). Errors stay below 2 units in the last place for every argument; infinities give NaN.
"""

from __future__ import annotations

# The binary digits of 2/pi in words of 32: enough for the largest float64.
_WORDS = (
    0xA2F9836E, 0x4E441529, 0xFC2757D1, 0xF534DDC0, 0xDB629599, 0x3C439041, 0xFE5163AB, 0xDEBBC561,
    0xB7246E3A, 0x424DD2E0, 0x06492EEA, 0x09D1921C, 0xFE1DEB1C, 0xB129A73E, 0xE88235F5, 0x2EBB4484,
    0xE99C7026, 0xB45F7E41, 0x3991D639, 0x835339F4, 0x9C845F8B, 0xBDF9283B, 0x1FF897FF, 0xDE05980F,
    0xEF2F118B, 0x5A0A6D1F, 0x6D367ECF, 0x27CB09B7, 0x4F463F66, 0x9E5FEA2D, 0x7527BAC7, 0xEBE5F17B,
    0x3D0739F7, 0x8A5292EA, 0x6BFB5FB1, 0x1F8D5D08,
)  # fmt: skip
_FLOAT32_WORDS = 6  # of them, what a float32 can reach

_SELECTION = "\n".join(
    f"    if tl.constexpr({number} < count):\n"
    f"        word = tl.where(number == {number}, tl.full([], 0x{word:08X}, tl.uint64), word)"
    for number, word in enumerate(_WORDS)
)

_FUNCTIONS = f'''
@triton.jit
def _word_of_two_over_pi(number, count: tl.constexpr):
    """The word of that number (one for all lanes) among the first `count` of 2/pi."""
    word = tl.full([], 0, tl.uint64)
{_SELECTION}
    return word


@triton.jit
def _shifted(bits, left):
    """64 bits moved to the left, or where that is negative to the right; zeros come in."""
    moved = tl.where(
        left >= 0, bits << (left & 63).to(tl.uint64), bits >> ((0 - left) & 63).to(tl.uint64)
    )
    return tl.where((left < 64) & (left > -64), moved, moved & 0)


@triton.jit
def _far_float32(x, top):
    """The multiple of pi/2 that is nearest to large x, modulo 4, and the rest (Payne, Hanek).

    |x| = m 2^e: the product of m with the digits of 2/pi, modulo 4, word by word, so that few
    registers are used; `top` is the largest exponent. The fraction has 62 bits: no float32 is
    nearer to a multiple than 2^-31.
    """
    bits = tl.abs(x).to(tl.uint32, bitcast=True)
    m = ((bits & 0x7FFFFF) | 0x800000).to(tl.uint64)
    place = (bits >> 23).to(tl.int32) - 120
    total = m & 0
    for number in range(0, FLOAT32_STEPS):
        word = _word_of_two_over_pi(number, {_FLOAT32_WORDS})
        total += _shifted(m * word, place - 32 * number)
    rest = (total << 2).to(tl.int64, bitcast=True).to(tl.float64)
    r = (rest * 8.515303950216386e-20).to(tl.float32)  # pi/2 * 2^-64
    return ((total + 0x2000000000000000) >> 62).to(tl.int32), r


@triton.jit
def _added(high, low, term, left):
    """128 bits plus the term, moved to the left."""
    lower = _shifted(term, left)
    low += lower
    return high + _shifted(term, left - 64) + (low < lower).to(tl.uint64), low


@triton.jit
def _far_float64(x, top):
    """As for float32, but with 126 bits of fraction, in two words; m is taken in two parts."""
    bits = tl.abs(x).to(tl.uint64, bitcast=True)
    place = (bits >> 52).to(tl.int32) - 981
    high = bits & 0
    low = bits & 0
    for number in range(0, FLOAT64_STEPS):
        word = _word_of_two_over_pi(number, {len(_WORDS)})
        left = place - 32 * number
        high, low = _added(high, low, (bits & 0x7FFFFFF) * word, left)
        upper = ((bits >> 27) & 0x1FFFFFF) | 0x2000000
        high, low = _added(high, low, upper * word, left + 27)
    rest = ((high << 2) | (low >> 62)).to(tl.int64, bitcast=True)
    # pi/2 * 2^-64 in two parts, times the rest in two parts
    lead = ((rest >> 11) << 11).to(tl.float64)
    tail = (rest & 2047).to(tl.float64) + (low << 2).to(tl.float64) * 5.421010862427522e-20
    r = lead * 8.515303950216386e-20 + (tail * 8.515303950216386e-20 + lead * 3.319411800407449e-36)
    return ((high + 0x2000000000000000) >> 62).to(tl.int32), r


@triton.jit
def _near_quadrant(x):
    """The nearest multiple of pi/2, modulo 4, and the rest, for small x (Cody, Waite).

    The parts of pi/2 are so short (12 bits, 33 bits) that their products with the multiple are
    exact, and so are the first differences; what the third rounds off is kept.
    """
    if tl.constexpr(x.dtype == tl.float64):
        shifted = x * 0.6366197723675814 + 6755399441055744.0  # 1.5 * 2^52
        quadrant = shifted.to(tl.int64, bitcast=True).to(tl.int32)
        n = shifted - 6755399441055744.0
        first = x - n * 1.5707963267341256
        part = n * 6.077100506303966e-11
        r = first - part
        low = ((first - r) - part) - (n * 2.0222662487111665e-21 + n * 8.4784276603689e-32)
    else:
        shifted = x * 0.6366197723675814 + 12582912.0  # 1.5 * 2^23
        quadrant = shifted.to(tl.int32, bitcast=True)
        n = shifted - 12582912.0
        first = (x - n * 1.5703125) - n * 0.0004837512969970703
        part = n * 7.549533620476723e-08
        r = first - part
        low = ((first - r) - part) - n * 2.5633440682570896e-12
    return quadrant, r + low


@triton.jit
def _exponent(x):
    """The biased exponent."""
    if tl.constexpr(x.dtype == tl.float64):
        return (tl.abs(x).to(tl.uint64, bitcast=True) >> 52).to(tl.int32)
    else:
        return (tl.abs(x).to(tl.uint32, bitcast=True) >> 23).to(tl.int32)


@triton.jit
def _quadrant(x):
    """The multiple of pi/2 that is nearest to x, modulo 4, and the rest."""
    quadrant, r = _near_quadrant(x)
    exponent = _exponent(x)
    # from 2^20 or 2^12 on, the short products are not exact
    limit: tl.constexpr = 1043 if x.dtype == tl.float64 else 139
    top = tl.max(exponent) if tl.constexpr(x.type.is_block()) else exponent
    if top >= limit:
        if tl.constexpr(x.dtype == tl.float64):
            far_quadrant, far_r = _far_float64(x, top)
        else:
            far_quadrant, far_r = _far_float32(x, top)
        far_quadrant = tl.where(x < 0, 0 - far_quadrant, far_quadrant)
        far_r = tl.where(x < 0, -far_r, far_r)
        far_r = tl.where(tl.abs(x) < float("inf"), far_r, float("nan"))
        quadrant = tl.where(exponent < limit, quadrant, far_quadrant)
        r = tl.where(exponent < limit, r, far_r)
    return quadrant, r


@triton.jit
def _sine(r):
    """The sine of r in [-pi/4, pi/4]."""
    z = r * r
    if tl.constexpr(r.dtype == tl.float64):
        p = z * 1.58969099521155010221e-10 - 2.50507602534068634195e-8
        p = z * (z * (z * p + 2.75573137070700676789e-6) - 1.98412698298579493134e-4)
        p = z * (p + 8.33333333332248946124e-3) - 1.66666666666666324348e-1
    else:
        p = z * (z * -1.9515295891e-4 + 8.3321608736e-3) - 1.6666654611e-1
    return r + r * (z * p)


@triton.jit
def _cosine(r):
    """The cosine of r in [-pi/4, pi/4]: 1 - z/2 + z^2 p, with what 1 - z/2 rounds off."""
    z = r * r
    if tl.constexpr(r.dtype == tl.float64):
        p = z * -1.13596475577881948265e-11 + 2.08757232129817482790e-9
        p = z * (z * p - 2.75573143513906633035e-7) + 2.48015872894767294178e-5
        p = z * (z * p - 1.38888888888741095749e-3) + 4.16666666666666019037e-2
    else:
        p = z * (z * 2.443315711809948e-5 - 1.388731625493765e-3) + 4.166664568298827e-2
    half = z * 0.5
    lead = 1.0 - half
    return lead + (((1.0 - lead) - half) + z * (z * p))


@triton.jit
def _sin_of_one(x):
    """The sine."""
    quadrant, r = _quadrant(x)
    y = tl.where((quadrant & 1) == 0, _sine(r), _cosine(r))
    return tl.where(x == 0, x, tl.where((quadrant & 2) == 0, y, -y))


@triton.jit
def _cos_of_one(x):
    """The cosine."""
    quadrant, r = _quadrant(x)
    y = tl.where((quadrant & 1) == 0, _cosine(r), _sine(r))
    return tl.where(((quadrant + 1) & 2) == 0, y, -y)
'''

_MAPPED = '''
@triton.jit
def {name}(x):
    """The {word}, element by element: only those with large arguments take the long way."""
    if tl.constexpr(x.type.is_block()):
        return tl.map_elementwise(_{name}_of_one, x)
    else:
        return _{name}_of_one(x)
'''

_WHOLE = '''
@triton.jit
def {name}(x):
    """The {word}."""
    return _{name}_of_one(x)
'''


def functions(interpret: bool) -> str:
    """The source of all. Triton's interpreter cannot map a function: it takes a tile at once, and
    all words of 2/pi, as its loops cannot depend on tensors."""
    steps = {"FLOAT32_STEPS": "(top - 33) // 32", "FLOAT64_STEPS": "(top - 864) // 32"}
    if interpret:
        steps = {"FLOAT32_STEPS": str(_FLOAT32_WORDS), "FLOAT64_STEPS": str(len(_WORDS))}
    text = _FUNCTIONS
    for word, value in steps.items():
        text = text.replace(word, value)
    form = _WHOLE if interpret else _MAPPED
    names = {"sin": "sine", "cos": "cosine"}
    return text + "\n".join(form.format(name=n, word=w) for n, w in names.items())

"""Pointwise ops: one scalar function over broadcast inputs.

`pointwise` is the family: it supplies broadcasting, dtype checks, the meaning in NumPy (the
16-bit floats compute in float32) and the sum that undoes a broadcast in a gradient. An entry
gives the function, its text per back end, and the gradient as one line.

A NumPy spelling is a function `f(*args, out)`: `np.` ufuncs, or `k.` of graphc.ir.elementwise.
A Triton spelling is an expression; names that Triton lacks stand in the emitter's prelude. So is
a C spelling, whose functions stand in codegen/native/c/graphc.h; `{t}` is the inputs' type (f32).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from graphc.ir import elementwise as k
from graphc.ir.dtypes import DType, as_dtype, bool_, int64, uint32
from graphc.ir.errors import DTypeError
from graphc.ir.graph import Node, Value, convert
from graphc.ir.table import (
    OPS,
    REQUIRED,
    STRINGS,
    Attrs,
    Kind,
    NoGradient,
    Op,
    Sample,
    Types,
    register,
)
from graphc.ir.types import TensorType, broadcast_shapes

ScalarGrad = Callable[..., Any]


def sum_to(value: Value, like: Value) -> Value:
    """`value` summed over the dims along which `like` was broadcast."""
    if value.type.shape == like.type.shape and value.type.is_static:
        return value
    return OPS["sum_to_like"](value, like)


def check_category(types: Types, accepts: str) -> None:
    """DTypeError unless every dtype is among the named categories ("float int uint bool")."""
    for t in types:
        if t.dtype.category not in accepts.split():
            raise DTypeError(f"needs {accepts.replace(' ', ' or ')}, got {t.dtype}")


def check_same_dtype(types: Types) -> DType:
    """The dtype that all have; DTypeError when they differ: nothing is widened silently."""
    first = types[0].dtype
    if any(t.dtype is not first for t in types):
        got = ", ".join(t.dtype.name for t in types)
        raise DTypeError(f"needs inputs of one dtype, got {got}; cast() one of them")
    return first


def _scalar_grad(rule: ScalarGrad) -> Callable[[Node, Sequence[Value | None]], Sequence[Any]]:
    """From `rule(g, y, *x)`, one gradient per input before the broadcast is undone."""

    def grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
        parts = rule(grads[0], node.outputs[0], *node.inputs)
        parts = parts if isinstance(parts, tuple) else (parts,)
        return [
            None if part is None else sum_to(part, x)
            for part, x in zip(parts, node.inputs, strict=True)
        ]

    return grad


def _meaning(function: Callable[..., Any], result: DType | None) -> Callable[..., Any]:
    def numpy(attrs: Attrs, *arrays: np.ndarray) -> np.ndarray:
        own = as_dtype(arrays[0].dtype) if result is None else result
        wide = [_widen(a) for a in arrays]
        return np.asarray(function(*wide)).astype(own.numpy, copy=False)

    return numpy


def _widen(array: np.ndarray) -> np.ndarray:
    return array.astype(as_dtype(array.dtype).compute.numpy, copy=False)


def pointwise(
    name: str,
    numpy: Callable[..., Any],
    spell_numpy: str,
    spell_triton: str,
    spell_c: str,
    *,
    arity: int,
    accepts: str = "float",
    result: DType | None = None,
    grad: ScalarGrad | NoGradient,
    samples: Callable[[], Iterable[Sample]] | None = None,
    facts: Iterable[str] = (),
    flops: float = 1.0,
    doc: str = "",
) -> Op:
    """Enter a pointwise op of `arity` inputs of one dtype."""

    # asked again and again for a few types: when a node is made, put in place, and verified
    @functools.lru_cache(maxsize=256)
    def infer(types: Types) -> TensorType:
        if len(types) != arity:
            raise DTypeError(f"needs {arity} inputs, got {len(types)}")
        dtype = check_same_dtype(types)
        check_category(types, accepts)
        return TensorType(result or dtype, broadcast_shapes([t.shape for t in types]))

    return register(
        Op(
            name,
            Kind.POINTWISE,
            lambda types, _: infer(types),
            numpy=_meaning(numpy, result),
            grad=grad if isinstance(grad, NoGradient) else _scalar_grad(grad),
            spell={"numpy": spell_numpy, "triton": spell_triton, "c": spell_c},
            facts=frozenset((*facts, STRINGS) if "string" in accepts.split() else facts),
            flops=flops,
            samples=samples or (lambda: default_samples(arity, accepts)),
            doc=doc,
        )
    )


def default_samples(
    arity: int, accepts: str, low: float = -2.0, high: float = 2.0
) -> Iterable[Sample]:
    """Random inputs of odd sizes, broadcast, empty, scalar and, for floats, NaN and inf."""
    rng = np.random.default_rng(arity)
    shapes: list[tuple[tuple[int, ...], ...]] = [
        ((3, 5),) * arity, ((),) * arity, ((0, 3),) * arity, ((17,),) * arity,
    ]  # fmt: skip
    if arity > 1:
        shapes.append(((4, 1, 3), (5, 1)) + ((),) * (arity - 2))
    for group in shapes:
        yield Sample(tuple(_random(rng, s, accepts, low, high) for s in group))
    if "float" in accepts:
        special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.5], np.float32)
        rolled = tuple(np.roll(special, i) for i in range(arity))
        yield Sample(rolled, differentiable=(), name="special")


def _random(
    rng: np.random.Generator, shape: tuple[int, ...], accepts: str, low: float, high: float
) -> np.ndarray:
    if "float" in accepts:
        # 0-d draws are Python floats, hence asarray
        return np.asarray(rng.uniform(low, high, shape), np.float32)
    if "int" in accepts:
        return np.asarray(rng.integers(-9, 10, shape), np.int32)
    return np.asarray(rng.integers(0, 2, shape), np.bool_)


def _positive(arity: int, accepts: str = "float") -> Callable[[], Iterable[Sample]]:
    return lambda: default_samples(arity, accepts, 0.1, 3.0)


def _inside(arity: int, low: float, high: float) -> Callable[[], Iterable[Sample]]:
    return lambda: default_samples(arity, "float", low, high)


NUMERIC = "float int uint"
ANY = "float int uint bool"
_FLAT = NoGradient("it is piecewise constant", zero=True)


def _select(condition: Value, x: Value, y: Any) -> Value:
    return where(condition, x, convert(y, like=x.type.dtype))


# -- arithmetic

add: Op = pointwise(
    "add", np.add, "np.add", "({0} + {1})", "({0} + {1})", arity=2, accepts=NUMERIC,
    grad=lambda g, y, a, b: (g, g), facts=("commutative", "associative"),
)  # fmt: skip
subtract: Op = pointwise(
    "subtract", np.subtract, "np.subtract", "({0} - {1})", "({0} - {1})", arity=2, accepts=NUMERIC,
    grad=lambda g, y, a, b: (g, -g),
)  # fmt: skip
multiply: Op = pointwise(
    "multiply", np.multiply, "np.multiply", "({0} * {1})", "({0} * {1})", arity=2, accepts=NUMERIC,
    grad=lambda g, y, a, b: (g * b, g * a), facts=("commutative", "associative"),
)  # fmt: skip
truediv: Op = pointwise(
    "truediv", np.true_divide, "np.true_divide", "({0} / {1})", "({0} / {1})", arity=2,
    grad=lambda g, y, a, b: (g / b, -(g * y) / b), flops=4,
    samples=_positive(2), doc="a / b of floats",
)  # fmt: skip
floordiv: Op = pointwise(
    "floordiv", k.floordiv, "k.floordiv", "floordiv({0}, {1})", "gc_floordiv_{t}({0}, {1})",
    arity=2, accepts=NUMERIC,
    grad=_FLAT, flops=8, doc="The floor of a / b; integers divided by 0 give 0.",
)  # fmt: skip
floormod: Op = pointwise(
    "floormod", np.remainder, "np.remainder", "floormod({0}, {1})", "gc_floormod_{t}({0}, {1})",
    arity=2, accepts=NUMERIC,
    grad=lambda g, y, a, b: (g, -(g * floordiv(a, b))), flops=8,
    samples=_positive(2), doc="a - floor(a / b) * b; integers modulo 0 give 0.",
)  # fmt: skip


def _pow_grad(g: Value, y: Value, a: Value, b: Value) -> tuple[Value, Value]:
    # d/da = b a^(b-1); d/db = a^b log a, taken as 0 where a <= 0 as TensorFlow does
    positive = a > 0
    return g * b * pow_(a, b - 1), g * _select(positive, y * log(_select(positive, a, 1)), 0)


maximum: Op = pointwise(
    "maximum", np.maximum, "np.maximum", "maximum({0}, {1})", "gc_maximum_{t}({0}, {1})",
    arity=2, accepts=NUMERIC,
    grad=lambda g, y, a, b: (_select(a >= b, g, 0), _select(a >= b, OPS["zeros_like"](g), g)),
    facts=("commutative", "associative", "idempotent"),
    doc="The greater; NaN when either is.",
)  # fmt: skip
minimum: Op = pointwise(
    "minimum", np.minimum, "np.minimum", "minimum({0}, {1})", "gc_minimum_{t}({0}, {1})",
    arity=2, accepts=NUMERIC,
    grad=lambda g, y, a, b: (_select(a <= b, g, 0), _select(a <= b, OPS["zeros_like"](g), g)),
    facts=("commutative", "associative", "idempotent"),
    doc="The smaller; NaN when either is.",
)  # fmt: skip
pow_: Op = pointwise(
    "pow", np.power, "np.power", "power({0}, {1})", "gc_pow_{t}({0}, {1})",
    arity=2, grad=_pow_grad, flops=20,
    samples=_positive(2), doc="a to the power b",
)  # fmt: skip
negative: Op = pointwise(
    "negative", np.negative, "np.negative", "negated({0})", "(-{0})", arity=1, accepts="float int",
    grad=lambda g, y, x: -g, facts=("involution",),
)  # fmt: skip
abs_: Op = pointwise(
    "abs", np.abs, "np.abs", "tl.abs({0})", "gc_abs_{t}({0})", arity=1, accepts="float int",
    grad=lambda g, y, x: g * sign(x), facts=("idempotent",),
)  # fmt: skip
sign: Op = pointwise(
    "sign", k.sign, "k.sign", "sign({0})", "gc_sign_{t}({0})",
    arity=1, accepts="float int", grad=_FLAT, flops=2,
)  # fmt: skip
square: Op = pointwise(
    "square", np.square, "np.square", "({0} * {0})", "({0} * {0})", arity=1, accepts=NUMERIC,
    grad=lambda g, y, x: g * (x + x),
)  # fmt: skip
reciprocal: Op = pointwise(
    "reciprocal", k.reciprocal, "k.reciprocal", "(1.0 / {0})", "(1 / {0})", arity=1,
    grad=lambda g, y, x: -(g * y * y), flops=4, samples=_positive(1),
)  # fmt: skip
sqrt: Op = pointwise(
    "sqrt", np.sqrt, "np.sqrt", "sqrt({0})", "gc_sqrt_{t}({0})", arity=1,
    grad=lambda g, y, x: g * 0.5 / y, flops=4, samples=_positive(1),
)  # fmt: skip
rsqrt: Op = pointwise(
    "rsqrt", k.rsqrt, "k.rsqrt", "tl.rsqrt({0})", "(1 / gc_sqrt_{t}({0}))", arity=1,
    grad=lambda g, y, x: g * -0.5 * y * y * y, flops=4, samples=_positive(1),
)  # fmt: skip

# -- exponentials and logarithms

exp: Op = pointwise(
    "exp", np.exp, "np.exp", "tl.exp({0})", "gc_exp_{t}({0})",
    arity=1, grad=lambda g, y, x: g * y, flops=12,
)  # fmt: skip
expm1: Op = pointwise(
    "expm1", np.expm1, "np.expm1", "expm1({0})", "gc_expm1_{t}({0})", arity=1,
    grad=lambda g, y, x: g * (y + 1.0), flops=16,
)  # fmt: skip
log: Op = pointwise(
    "log", np.log, "np.log", "tl.log({0})", "gc_log_{t}({0})",
    arity=1, grad=lambda g, y, x: g / x, flops=12,
    samples=_positive(1),
)  # fmt: skip
log1p: Op = pointwise(
    "log1p", np.log1p, "np.log1p", "log1p({0})", "gc_log1p_{t}({0})", arity=1,
    grad=lambda g, y, x: g / (x + 1.0), flops=14, samples=_inside(1, -0.8, 3.0),
)  # fmt: skip
sigmoid: Op = pointwise(
    "sigmoid", k.sigmoid, "k.sigmoid", "sigmoid({0})", "gc_sigmoid_{t}({0})", arity=1,
    grad=lambda g, y, x: g * y * (1.0 - y), flops=14,
)  # fmt: skip
tanh: Op = pointwise(
    "tanh", np.tanh, "np.tanh", "tanh({0})", "gc_tanh_{t}({0})", arity=1,
    grad=lambda g, y, x: g * (1.0 - y * y), flops=14,
)  # fmt: skip
erf: Op = pointwise(
    "erf", k.erf, "k.erf", "tl.erf({0})", "gc_erf_{t}({0})", arity=1,
    grad=lambda g, y, x: g * (2 / math.sqrt(math.pi)) * exp(-(x * x)), flops=20,
    doc="The error function, 2/sqrt(pi) * integral of exp(-t^2) from 0 to x.",
)  # fmt: skip
sin: Op = pointwise(
    "sin", np.sin, "np.sin", "sin({0})", "gc_sin_{t}({0})",
    arity=1, grad=lambda g, y, x: g * cos(x), flops=14,
)  # fmt: skip
cos: Op = pointwise(
    "cos", np.cos, "np.cos", "cos({0})", "gc_cos_{t}({0})",
    arity=1, grad=lambda g, y, x: -(g * sin(x)), flops=14,
)  # fmt: skip

# -- rounding

floor: Op = pointwise(
    "floor", np.floor, "np.floor", "tl.floor({0})", "gc_floor_{t}({0})", arity=1, grad=_FLAT
)
ceil: Op = pointwise(
    "ceil", np.ceil, "np.ceil", "tl.ceil({0})", "gc_ceil_{t}({0})", arity=1, grad=_FLAT
)
round_: Op = pointwise(
    "round", np.rint, "np.rint", "rint({0})", "gc_rint_{t}({0})", arity=1, grad=_FLAT, flops=2,
    doc="The nearest integer, ties to even.",
)  # fmt: skip

# -- comparisons and logic


def _comparison(name: str, function: Any, symbol: str, accepts: str = NUMERIC) -> Op:
    return pointwise(
        name, function, f"np.{function.__name__}", *(f"({{0}} {symbol} {{1}})",) * 2, arity=2,
        accepts=accepts, result=bool_, grad=_FLAT,
    )  # fmt: skip


equal: Op = _comparison("equal", np.equal, "==", f"{ANY} string")
not_equal: Op = _comparison("not_equal", np.not_equal, "!=", f"{ANY} string")
less: Op = _comparison("less", np.less, "<")
less_equal: Op = _comparison("less_equal", np.less_equal, "<=")
greater: Op = _comparison("greater", np.greater, ">")
greater_equal: Op = _comparison("greater_equal", np.greater_equal, ">=")

logical_and: Op = pointwise(
    "logical_and", np.logical_and, "np.logical_and", "({0} & {1})", "({0} & {1})",
    arity=2, accepts="bool",
    grad=_FLAT, facts=("commutative", "associative", "idempotent"),
)  # fmt: skip
logical_or: Op = pointwise(
    "logical_or", np.logical_or, "np.logical_or", "({0} | {1})", "({0} | {1})",
    arity=2, accepts="bool",
    grad=_FLAT, facts=("commutative", "associative", "idempotent"),
)  # fmt: skip
logical_xor: Op = pointwise(
    "logical_xor", np.logical_xor, "np.logical_xor", "({0} ^ {1})", "({0} ^ {1})",
    arity=2, accepts="bool",
    grad=_FLAT, facts=("commutative", "associative"),
)  # fmt: skip
logical_not: Op = pointwise(
    "logical_not", np.logical_not, "np.logical_not", "({0} == 0)", "(!{0})",
    arity=1, accepts="bool",
    grad=_FLAT, facts=("involution",),
)  # fmt: skip
is_nan: Op = pointwise(
    "is_nan", np.isnan, "np.isnan", "({0} != {0})", "gc_is_nan_{t}({0})",
    arity=1, result=bool_, grad=_FLAT,
)  # fmt: skip
is_inf: Op = pointwise(
    "is_inf", np.isinf, "np.isinf", "(tl.abs({0}) == float('inf'))", "gc_is_inf_{t}({0})",
    arity=1, result=bool_,
    grad=_FLAT,
)  # fmt: skip
is_finite: Op = pointwise(
    "is_finite", np.isfinite, "np.isfinite", "(tl.abs({0}) < float('inf'))",
    "gc_is_finite_{t}({0})",
    arity=1,
    result=bool_, grad=_FLAT,
)  # fmt: skip

# -- selection, casts


def _where_type(types: Types, _: Attrs) -> TensorType:
    condition, x, y = types
    check_category((condition,), "bool")
    dtype = check_same_dtype((x, y))
    return TensorType(dtype, broadcast_shapes([t.shape for t in types]))


def _where_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(3)
    for c, x, y in (((3, 5),) * 3, ((4, 1), (1, 3), ()), ((0,), (0,), (1,))):
        floats = [np.asarray(rng.standard_normal(s), np.float32) for s in (x, y)]
        yield Sample((np.asarray(rng.integers(0, 2, c), np.bool_), *floats))


where: Op = register(
    Op(
        "where",
        Kind.POINTWISE,
        _where_type,
        numpy=lambda attrs, c, x, y: np.where(c, x, y),
        grad=_scalar_grad(
            lambda g, out, c, x, y: (
                None,
                _select(c, g, 0),
                where(c, OPS["zeros_like"](g), g),
            )
        ),
        spell={"numpy": "k.where", "triton": "tl.where({0}, {1}, {2})", "c": "({0} ? {1} : {2})"},
        facts=frozenset({STRINGS}),
        samples=_where_samples,
        doc="x where the condition holds, else y; all three broadcast.",
    )
)


def _cast_type(types: Types, attrs: Attrs) -> TensorType:
    return types[0].with_dtype(attrs["dtype"])


def _cast_numpy(attrs: Attrs, x: np.ndarray) -> np.ndarray:
    return k.cast(x, np.empty(x.shape, attrs["dtype"].numpy))


def _cast_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    (x,), g = node.inputs, grads[0]
    if g is None or not (x.dtype.is_floating and g.dtype.is_floating):
        return [None]
    return [cast(g, dtype=x.dtype)]


def _cast_samples() -> Iterable[Sample]:
    x = np.array([-2.7, -0.0, 0.4, 3.5, 100.2], np.float32)
    for dtype in ("int32", "bool", "float64", "float16", "int64"):
        yield Sample((x,), {"dtype": as_dtype(dtype)})
    yield Sample((np.array([[0, 1], [2, -3]], np.int32),), {"dtype": as_dtype("float32")})
    yield Sample((np.array([True, False]),), {"dtype": as_dtype("float32")})


cast: Op = register(
    Op(
        "cast",
        Kind.POINTWISE,
        _cast_type,
        numpy=_cast_numpy,
        attrs={"dtype": REQUIRED},
        grad=_cast_grad,
        spell={"numpy": "k.cast", "triton": "cast({0})"},
        samples=_cast_samples,
        doc="The same values in another dtype; floats are truncated to integers.",
    )
)


# -- random bits: pointwise in the element's position


def _philox_type(types: Types, _: Attrs) -> TensorType:
    return TensorType(uint32, broadcast_shapes([t.shape for t in types]))


def _philox_samples() -> Iterable[Sample]:
    index = np.arange(37, dtype=np.int64)
    yield Sample((index, np.asarray(5, np.int64)), {"key": 0x0123456789ABCDEF})


philox: Op = register(
    Op(
        "philox",
        Kind.POINTWISE,
        _philox_type,
        numpy=lambda attrs, index, run: k.philox(index, run, attrs["key"]),
        attrs={"key": REQUIRED},
        grad=NoGradient("random bits do not depend on anything", zero=True),
        spell={
            "numpy": "k.philox",
            "triton": "philox({0}, {1}, {key})",
            "c": "gc_philox({0}, {1}, {key}ull)",
        },
        flops=80,
        samples=_philox_samples,
        doc="One 32-bit word of Philox 4x32-10 per element; see graphc.ir.elementwise.philox.",
    )
)

INDEX_DTYPE = int64

"""Arithmetic, comparisons and reductions, by TensorFlow's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc.frontend import segments
from graphc.frontend.arguments import (
    as_sequence,
    as_value,
    axes_argument,
    either,
    is_tensor,
    same_dtype,
    static_int,
)
from graphc.frontend.framework import name_scope
from graphc.ir.dtypes import as_dtype, bfloat16, float32, float64, int32, int64
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Value, convert
from graphc.ir.ops import movement as mv
from graphc.ir.ops import nn, operators, sorting
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import reduce as red
from graphc.ir.ops import trigonometry as trig
from graphc.ir.table import OPS, Op
from graphc.ir.types import merge_shapes


def _unary(op: Op, doc: str) -> Callable[..., Value]:
    def call(x: Any, name: str | None = None) -> Value:
        return op(x, name=name)

    call.__name__ = call.__qualname__ = op.name
    call.__doc__ = doc
    return call


def _binary(op: Op, doc: str) -> Callable[..., Value]:
    def call(x: Any, y: Any, name: str | None = None) -> Value:
        return op(x, y, name=name)

    call.__name__ = call.__qualname__ = op.name
    call.__doc__ = doc
    return call


_sum = _binary(pw.add, "x + y, elementwise.")


def add(x: Any, y: Any, name: str | None = None) -> Value:
    """x + y, elementwise; of strings, x and y side by side."""
    if any(is_tensor(v) and as_value(v).dtype.is_string for v in (x, y)):
        return OPS["string_join"](x, y, name=name)
    return _sum(x, y, name)


subtract = _binary(pw.subtract, "x - y, elementwise.")
multiply = _binary(pw.multiply, "x * y, elementwise.")
floordiv = _binary(pw.floordiv, "The floor of x / y; integers divided by 0 give 0.")
floormod = mod = _binary(pw.floormod, "x - floor(x / y) * y; integers modulo 0 give 0.")
maximum = _binary(pw.maximum, "The greater of both; NaN when either is.")
minimum = _binary(pw.minimum, "The smaller of both; NaN when either is.")
equal = _binary(pw.equal, "x == y, elementwise.")
not_equal = _binary(pw.not_equal, "x != y, elementwise.")
less = _binary(pw.less, "x < y, elementwise.")
less_equal = _binary(pw.less_equal, "x <= y, elementwise.")
greater = _binary(pw.greater, "x > y, elementwise.")
greater_equal = _binary(pw.greater_equal, "x >= y, elementwise.")
logical_and = _binary(pw.logical_and, "x and y, elementwise.")
logical_or = _binary(pw.logical_or, "x or y, elementwise.")
logical_xor = _binary(pw.logical_xor, "x or y but not both, elementwise.")
logical_not = _unary(pw.logical_not, "not x, elementwise.")
negative = _unary(pw.negative, "-x")
neg = negative
abs = _unary(pw.abs_, "|x|")
sign = _unary(pw.sign, "-1, 0 or 1 by the sign of x.")
square = _unary(pw.square, "x * x")
sqrt = _unary(pw.sqrt, "The square root of x.")
rsqrt = _unary(pw.rsqrt, "1 / sqrt(x)")
reciprocal = _unary(pw.reciprocal, "1 / x")
exp = _unary(pw.exp, "e to the power x.")
expm1 = _unary(pw.expm1, "exp(x) - 1, exact for small x.")
log = _unary(pw.log, "The natural logarithm of x.")
log1p = _unary(pw.log1p, "log(1 + x), exact for small x.")
sin = _unary(pw.sin, "The sine of x in radians.")
cos = _unary(pw.cos, "The cosine of x in radians.")
tan = _unary(trig.tan, "The tangent of x in radians.")
asin = _unary(trig.asin, "The angle in [-pi/2, pi/2] whose sine is x.")
acos = _unary(trig.acos, "The angle in [0, pi] whose cosine is x.")
atan = _unary(trig.atan, "The angle in (-pi/2, pi/2) whose tangent is x.")
sinh = _unary(trig.sinh, "The hyperbolic sine of x.")
cosh = _unary(trig.cosh, "The hyperbolic cosine of x.")
tanh = _unary(pw.tanh, "The hyperbolic tangent of x.")
asinh = _unary(trig.asinh, "The number whose sinh is x.")
acosh = _unary(trig.acosh, "The number from 0 on whose cosh is x.")
atanh = _unary(trig.atanh, "The number whose tanh is x.")
sigmoid = _unary(pw.sigmoid, "1 / (1 + exp(-x))")
erf = _unary(pw.erf, "The error function of x.")
erfc = _unary(trig.erfc, "1 - erf(x), exact far out, too.")
floor = _unary(pw.floor, "The greatest integer not above x.")
ceil = _unary(pw.ceil, "The least integer not below x.")
round = rint = _unary(pw.round_, "The nearest integer, ties to even.")
is_nan = _unary(pw.is_nan, "True where x is NaN.")
is_inf = _unary(pw.is_inf, "True where x is infinite.")
is_finite = _unary(pw.is_finite, "True where x is neither NaN nor infinite.")


def truediv(x: Any, y: Any, name: str | None = None) -> Value:
    """x / y; integers become float64 (8 and 16 bits: float32) first, as in Python 3."""
    return operators.true_divide(x, y, name)


def div(x: Any, y: Any, name: str | None = None) -> Value:
    """x / y of floats, the floor of x / y of integers, as in Python 2."""
    a, b = same_dtype([x, y])
    return (pw.floordiv if a.dtype.is_integer else pw.truediv)(a, b, name=name)


def div_no_nan(x: Any, y: Any, name: str | None = None) -> Value:
    """x / y, and 0 where y is 0."""
    with name_scope(name, "div_no_nan") as scope:
        a, b = same_dtype([x, y])
        zero = pw.equal(b, mv.zeros_like(b))
        safe = pw.where(zero, mv.ones_like(b), b)
        return pw.where(zero, convert(0, like=a.dtype), pw.truediv(a, safe), name=scope)


divide_no_nan = div_no_nan


def reciprocal_no_nan(x: Any, name: str | None = None) -> Value:
    """1 / x, and 0 where x is 0."""
    return div_no_nan(1, convert(x), name)


def multiply_no_nan(x: Any, y: Any, name: str | None = None) -> Value:
    """x * y, and 0 where y is 0, even if x is infinite or NaN."""
    with name_scope(name, "multiply_no_nan") as scope:
        a, b = same_dtype([x, y])
        lost = pw.logical_and(pw.equal(b, mv.zeros_like(b)), pw.logical_not(pw.is_finite(a)))
        return pw.multiply(pw.where(lost, convert(0, like=a.dtype), a), b, name=scope)


def xlogy(x: Any, y: Any, name: str | None = None) -> Value:
    """x * log(y), and 0 where x is 0, whatever y is."""
    return _zero_where_zero(lambda a, b: pw.multiply(a, pw.log(b)), x, y, name or "xlogy")


def xdivy(x: Any, y: Any, name: str | None = None) -> Value:
    """x / y, and 0 where x is 0, whatever y is."""
    return _zero_where_zero(pw.truediv, x, y, name or "xdivy")


def _zero_where_zero(function: Any, x: Any, y: Any, name: str) -> Value:
    """function(x, y), and 0 where x is 0; there y is replaced, so that gradients are 0, too."""
    with name_scope(name) as scope:
        a, b = same_dtype([x, y])
        zero = pw.equal(a, mv.zeros_like(a))
        safe = pw.where(zero, convert(1, like=b.dtype), b)
        return pw.where(zero, convert(0, like=a.dtype), function(a, safe), name=scope)


def scalar_mul(scalar: Any, x: Any, name: str | None = None) -> Value:
    """A scalar times a tensor."""
    value = convert(x)
    factor = convert(scalar, like=value.dtype)
    if factor.type.rank not in (0, None):
        raise ShapeError(f"scalar_mul needs a scalar, got {factor!r}")
    return pw.multiply(factor, value, name=name)


def polyval(coeffs: Any, x: Any, name: str | None = None) -> Value:
    """The polynomial of a list of coefficients, highest power first, at x (by Horner's rule)."""
    if not isinstance(coeffs, (list, tuple)):
        raise AttributeValueError(f"the coefficients are a list, got {coeffs!r}")
    with name_scope(name, "polyval") as scope:
        point = x if any(map(is_tensor, coeffs)) else convert(x)
        *factors, value = same_dtype([*coeffs, point])
        total = mv.zeros_like(value)
        for i, factor in enumerate(factors):
            total = factor if i == 0 else factor + total * value
        return OPS["identity"](total, name=scope)


def atan2(y: Any, x: Any, name: str | None = None) -> Value:
    """The angle in [-pi, pi] of the point (x, y)."""
    return trig.atan2(y, x, name=name)


divide = realdiv = truediv
floor_div = floordiv


def pow(x: Any, y: Any, name: str | None = None) -> Value:
    """x to the power y. Integers need an exponent known now, by repeated multiplication."""
    return operators.power(x, y, name)


def truncatediv(x: Any, y: Any, name: str | None = None) -> Value:
    """x / y without its fraction, as in C; integers divided by 0 give 0."""
    with name_scope(name, "truncatediv") as scope:
        a, b = same_dtype([x, y])
        if not a.dtype.is_integer:
            quotient = pw.truediv(a, b)
            up = pw.ceil(quotient)
            return pw.where(quotient < 0, up, pw.floor(quotient), name=scope)
        below = pw.cast(_rounded_down(a, b), dtype=a.dtype)
        return pw.add(pw.floordiv(a, b), below, name=scope)


def truncatemod(x: Any, y: Any, name: str | None = None) -> Value:
    """The rest of truncatediv, with the sign of x; integers modulo 0 give 0."""
    with name_scope(name, "truncatemod") as scope:
        a, b = same_dtype([x, y])
        if a.dtype.is_integer:
            rest = pw.floormod(a, b)
            return pw.where(_rounded_down(a, b), rest - b, rest, name=scope)
        rest = pw.floormod(pw.abs_(a), pw.abs_(b))
        return pw.where(a < 0, -rest, rest, name=scope)


def _rounded_down(a: Value, b: Value) -> Value:
    """Where the floor of a / b is below its whole part."""
    zero = convert(0, like=a.dtype)
    away = pw.logical_xor(a < zero, b < zero)
    return pw.logical_and(pw.not_equal(pw.floormod(a, b), zero), away)


def cast(x: Any, dtype: Any, name: str | None = None) -> Value:
    """The same values in another dtype; x itself when it has it and gets no name."""
    value, to = as_value(x), as_dtype(dtype)
    if value.dtype is to:
        return value if name is None else OPS["identity"](value, name=name)
    return pw.cast(value, dtype=to, name=name)


def to_float(x: Any, name: str | None = None) -> Value:
    """x as float32."""
    return cast(x, float32, name)


def to_double(x: Any, name: str | None = None) -> Value:
    """x as float64."""
    return cast(x, float64, name)


def to_int32(x: Any, name: str | None = None) -> Value:
    """x as int32."""
    return cast(x, int32, name)


def to_int64(x: Any, name: str | None = None) -> Value:
    """x as int64."""
    return cast(x, int64, name)


def to_bfloat16(x: Any, name: str | None = None) -> Value:
    """x as bfloat16."""
    return cast(x, bfloat16, name)


def squared_difference(x: Any, y: Any, name: str | None = None) -> Value:
    """(x - y)^2"""
    return pw.square(pw.subtract(x, y), name=name)


def add_n(inputs: Any, name: str | None = None) -> Value:
    """The sum of tensors of one shape and dtype."""
    items = same_dtype(as_sequence(inputs))
    if not items:
        raise AttributeValueError("add_n needs at least one tensor")
    for x in items[1:]:
        merge_shapes(items[0].type.shape, x.type.shape, "add_n needs equal shapes")
    total = items[0]
    for x in items[1:-1]:
        total = total + x
    return pw.add(total, items[-1], name=name) if items[1:] else OPS["identity"](total, name=name)


accumulate_n = add_n


log_sigmoid = _unary(nn.log_sigmoid, "log(sigmoid(x)) = -softplus(-x), without overflow.")


def saturate_cast(value: Any, dtype: Any, name: str | None = None) -> Value:
    """A cast that gives the nearest value of `dtype` where there is none."""
    x, to = convert(value), as_dtype(dtype)
    with name_scope(name, "saturate_cast") as scope:
        if x.dtype.min < to.min:
            x = pw.maximum(x, convert(to.min, dtype=x.dtype))
        if x.dtype.max > to.max:
            x = pw.minimum(x, convert(to.max, dtype=x.dtype))
        return pw.cast(x, dtype=to, name=scope)


# -- reductions


def _reduction(op: Op, doc: str) -> Callable[..., Value]:
    def call(
        input_tensor: Any,
        axis: Any = None,
        keepdims: Any = None,
        name: str | None = None,
        reduction_indices: Any = None,
        keep_dims: Any = None,
    ) -> Value:
        axes = axes_argument(either("axis", axis, "reduction_indices", reduction_indices))
        keep = bool(either("keepdims", keepdims, "keep_dims", keep_dims, False))
        return op(input_tensor, axis=axes, keepdims=keep, name=name)

    call.__name__ = call.__qualname__ = op.name
    call.__doc__ = doc
    return call


reduce_sum = _reduction(red.reduce_sum, "The sum along the axes (all by default).")
_float_mean = _reduction(red.reduce_mean, "The mean along the axes.")
reduce_max = _reduction(red.reduce_max, "The maximum along the axes; NaN when one is NaN.")
reduce_min = _reduction(red.reduce_min, "The minimum along the axes; NaN when one is NaN.")
reduce_prod = _reduction(red.reduce_prod, "The product along the axes.")
reduce_any = _reduction(red.reduce_any, "True where any is true along the axes.")
reduce_all = _reduction(red.reduce_all, "True where all are true along the axes.")


def reduce_mean(
    input_tensor: Any,
    axis: Any = None,
    keepdims: Any = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: Any = None,
) -> Value:
    """The mean along the axes (all by default); of integers, its whole part."""
    x = convert(input_tensor)
    rest = (axis, keepdims, name, reduction_indices, keep_dims)
    if not x.dtype.is_integer:
        result: Value = _float_mean(x, *rest)
        return result
    with name_scope(name, "Mean") as scope:
        mean = _float_mean(cast(x, float64), axis, keepdims, None, *rest[3:])
        return pw.cast(mean, dtype=x.dtype, name=scope)


def reduce_logsumexp(
    input_tensor: Any,
    axis: Any = None,
    keepdims: Any = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: Any = None,
) -> Value:
    """log(sum(exp(x))) along the axes, without overflow."""
    axes = axes_argument(either("axis", axis, "reduction_indices", reduction_indices))
    keep = bool(either("keepdims", keepdims, "keep_dims", keep_dims, False))
    with name_scope(name, "ReduceLogSumExp") as scope:
        x = convert(input_tensor)
        top = red.reduce_max(x, axis=axes, keepdims=True)
        # an infinite maximum would give inf - inf
        shift = OPS["stop_gradient"](pw.where(pw.is_finite(top), top, mv.zeros_like(top)))
        total = pw.log(red.reduce_sum(pw.exp(x - shift), axis=axes, keepdims=keep))
        return pw.add(total, shift if keep else mv.reshape_like(shift, total), name=scope)


def reduce_variance(
    input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None
) -> Value:
    """The mean squared distance from the mean along the axes."""
    axes = axes_argument(axis)
    with name_scope(name, "reduce_variance") as scope:
        x = convert(input_tensor)
        distance = x - red.reduce_mean(x, axis=axes, keepdims=True)
        return red.reduce_mean(pw.square(distance), axis=axes, keepdims=keepdims, name=scope)


def reduce_std(
    input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None
) -> Value:
    """The square root of the variance along the axes."""
    with name_scope(name, "reduce_std") as scope:
        return pw.sqrt(reduce_variance(input_tensor, axis, keepdims), name=scope)


def argmax(
    input: Any,
    axis: Any = None,
    name: str | None = None,
    dimension: Any = None,
    output_type: Any = int64,
) -> Value:
    """The first position of the maximum along an axis (0 by default)."""
    return _position(red.argmax, input, axis, dimension, output_type, name)


def argmin(
    input: Any,
    axis: Any = None,
    name: str | None = None,
    dimension: Any = None,
    output_type: Any = int64,
) -> Value:
    """The first position of the minimum along an axis (0 by default)."""
    return _position(red.argmin, input, axis, dimension, output_type, name)


def _position(
    op: Op, x: Any, axis: Any, dimension: Any, output_type: Any, name: str | None
) -> Value:
    given = either("axis", axis, "dimension", dimension, 0)
    number = static_int(given, "the axis of argmax")
    return op(x, axis=number, dtype=as_dtype(output_type), name=name)


def count_nonzero(
    input_tensor: Any,
    axis: Any = None,
    keepdims: Any = None,
    dtype: Any = int64,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: Any = None,
) -> Value:
    """How many elements along the axes are not zero."""
    axes = axes_argument(either("axis", axis, "reduction_indices", reduction_indices))
    keep = bool(either("keepdims", keepdims, "keep_dims", keep_dims, False))
    with name_scope(name, "count_nonzero") as scope:
        x = convert(input_tensor)
        hit = x if x.dtype.is_bool else pw.not_equal(x, convert(0, like=x.dtype))
        counted = pw.cast(hit, dtype=as_dtype(dtype))
        return red.reduce_sum(counted, axis=axes, keepdims=keep, name=scope)


def reduce_euclidean_norm(
    input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None
) -> Value:
    """The square root of the sum of the squares along the axes (all by default)."""
    with name_scope(name, "reduce_euclidean_norm") as scope:
        squares = pw.square(convert(input_tensor))
        total = red.reduce_sum(squares, axis=axes_argument(axis), keepdims=keepdims)
        return pw.sqrt(total, name=scope)


def is_non_decreasing(x: Any, name: str | None = None) -> Value:
    """Whether each element, in row-major order, is at least the one before it."""
    return _in_order(pw.less_equal, x, name or "is_non_decreasing")


def is_strictly_increasing(x: Any, name: str | None = None) -> Value:
    """Whether each element, in row-major order, is greater than the one before it."""
    return _in_order(pw.less, x, name or "is_strictly_increasing")


def _in_order(compare: Op, x: Any, name: str) -> Value:
    with name_scope(name) as scope:
        flat = mv.reshape(convert(x), shape=(-1,))
        return red.reduce_all(compare(flat[:-1], flat[1:]), name=scope)


def invert_permutation(x: Any, name: str | None = None) -> Value:
    """The permutation that undoes x, a vector of the numbers 0, 1, ..., each once."""
    with name_scope(name, "InvertPermutation") as scope:
        numbers = convert(x)
        if numbers.type.rank not in (1, None) or not numbers.dtype.is_integer:
            raise ShapeError(f"a permutation is a vector of integers, got {numbers!r}")
        order = sorting.sort_pairs.outputs(numbers)[1]
        return OPS["identity"](cast(order, numbers.dtype), name=scope)


# -- running sums and products


def cumsum(
    x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None
) -> Value:
    """Running sums along an axis, `reverse` from its end; `exclusive`: without the element."""
    return _running(sorting.cumsum, x, axis, exclusive, reverse, name)


def cumprod(
    x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None
) -> Value:
    """Running products along an axis; see cumsum."""
    return _running(sorting.cumprod, x, axis, exclusive, reverse, name)


def _running(op: Op, x: Any, axis: Any, exclusive: bool, reverse: bool, name: str | None) -> Value:
    flags = {"exclusive": bool(exclusive), "reverse": bool(reverse)}
    return op(x, axis=static_int(axis, "the axis"), **flags, name=name)


# -- by segment (graphc.frontend.segments)

segment_max = segments.segment_max
segment_mean = segments.segment_mean
segment_min = segments.segment_min
segment_prod = segments.segment_prod
segment_sum = segments.segment_sum
unsorted_segment_max = segments.unsorted_segment_max
unsorted_segment_mean = segments.unsorted_segment_mean
unsorted_segment_min = segments.unsorted_segment_min
unsorted_segment_prod = segments.unsorted_segment_prod
unsorted_segment_sqrt_n = segments.unsorted_segment_sqrt_n
unsorted_segment_sum = segments.unsorted_segment_sum

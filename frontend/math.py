"""Arithmetic, comparisons, reductions and matrix products, by TensorFlow's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.frontend.arguments import (
    as_value,
    axes_argument,
    either,
    is_tensor,
    same_dtype,
    static_int,
    static_ints,
)
from graphc.ir.dtypes import DType, as_dtype, bfloat16, bool_, float32, float64, int32, int64
from graphc.ir.errors import AttributeValueError
from graphc.ir.graph import Value, convert, get_default_graph
from graphc.ir.ops import contract as contraction
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import reduce as red
from graphc.ir.table import OPS, Op
from graphc.ir.types import normalize_axis


def _unary(op: Op, doc: str) -> Any:
    def call(x: Any, name: str | None = None) -> Value:
        return op(x, name=name)

    call.__name__ = call.__qualname__ = op.name
    call.__doc__ = doc
    return call


def _binary(op: Op, doc: str) -> Any:
    def call(x: Any, y: Any, name: str | None = None) -> Value:
        return op(x, y, name=name)

    call.__name__ = call.__qualname__ = op.name
    call.__doc__ = doc
    return call


add = _binary(pw.add, "x + y, elementwise.")
subtract = _binary(pw.subtract, "x - y, elementwise.")
multiply = _binary(pw.multiply, "x * y, elementwise.")
floordiv = _binary(pw.floordiv, "The floor of x / y; integers divided by 0 give 0.")
floormod = mod = _binary(pw.floormod, "x - floor(x / y) * y; integers modulo 0 give 0.")
maximum = _binary(pw.maximum, "The greater of both; NaN when either is.")
minimum = _binary(pw.minimum, "The smaller of both; NaN when either is.")
pow = _binary(pw.pow_, "x to the power y.")
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
tanh = _unary(pw.tanh, "The hyperbolic tangent of x.")
sigmoid = _unary(pw.sigmoid, "1 / (1 + exp(-x))")
erf = _unary(pw.erf, "The error function of x.")
floor = _unary(pw.floor, "The greatest integer not above x.")
ceil = _unary(pw.ceil, "The least integer not below x.")
round = rint = _unary(pw.round_, "The nearest integer, ties to even.")
is_nan = _unary(pw.is_nan, "True where x is NaN.")
is_inf = _unary(pw.is_inf, "True where x is infinite.")
is_finite = _unary(pw.is_finite, "True where x is neither NaN nor infinite.")


def truediv(x: Any, y: Any, name: str | None = None) -> Value:
    """x / y; integers become float64 (8 and 16 bits: float32) first, as in Python 3."""
    like = _dtype_of(x, y)
    if like is not None and like.is_integer:
        wide = float32 if like.bits <= 16 else float64
        x, y = (cast(convert(v, like=like), wide) for v in (x, y))
    return pw.truediv(x, y, name=name)


def div(x: Any, y: Any, name: str | None = None) -> Value:
    """x / y of floats, the floor of x / y of integers, as in Python 2."""
    like = _dtype_of(x, y)
    op = pw.floordiv if like is not None and like.is_integer else pw.truediv
    return op(x, y, name=name)


divide = truediv


def _dtype_of(*xs: Any) -> DType | None:
    for x in xs:
        if isinstance(x, Value) or hasattr(x, "__graphc_value__"):
            return convert(x).dtype
    return convert(xs[0]).dtype


def cast(x: Any, dtype: Any, name: str | None = None) -> Value:
    """The same values in another dtype; x itself when it has it."""
    value = convert(x)
    dtype = as_dtype(dtype)
    return value if value.dtype is dtype else pw.cast(value, dtype=dtype, name=name)


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
    """The sum of tensors of one shape."""
    items = [convert(x) for x in inputs]
    if not items:
        raise AttributeValueError("add_n needs at least one tensor")
    total = items[0]
    for x in items[1:]:
        total = total + x
    return total


accumulate_n = add_n


def clip_by_value(
    t: Any, clip_value_min: Any, clip_value_max: Any, name: str | None = None
) -> Value:
    """t held within [min, max]."""
    return pw.maximum(pw.minimum(t, clip_value_max), clip_value_min, name=name)


# -- reductions


def _reduction(op: Op, doc: str) -> Any:
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


# -- matrix products


def matmul(
    a: Any,
    b: Any,
    transpose_a: bool = False,
    transpose_b: bool = False,
    adjoint_a: bool = False,
    adjoint_b: bool = False,
    a_is_sparse: bool = False,
    b_is_sparse: bool = False,
    name: str | None = None,
) -> Value:
    """The matrix product of the last two dims; the dims before broadcast.

    a: [..., m, k] (transposed: [..., k, m]), b: [..., k, n] -> [..., m, n].
    """
    del a_is_sparse, b_is_sparse
    return contraction.matmul(
        a, b, transpose_a=transpose_a or adjoint_a, transpose_b=transpose_b or adjoint_b, name=name
    )


batch_matmul = matmul


def tensordot(a: Any, b: Any, axes: Any, name: str | None = None) -> Value:
    """The sum of products over the given axes of a and b; `axes` a number or two lists."""
    x, y = convert(a), convert(b)
    rank_x, rank_y = len(x.type.shape or ()), len(y.type.shape or ())
    if isinstance(axes, int):
        left, right = list(range(rank_x - axes, rank_x)), list(range(axes))
    else:
        left, right = (list(static_ints(part, "the axes of tensordot")) for part in axes)
    left = [normalize_axis(i, rank_x) for i in left]
    right = [normalize_axis(i, rank_y) for i in right]
    if len(left) != len(right):
        raise AttributeValueError(f"tensordot over {len(left)} axes of a and {len(right)} of b")
    letters = "abcdefghijklmnopqrstuvwxyz"
    labels_x = list(letters[:rank_x])
    labels_y = list(letters[rank_x : rank_x + rank_y])
    for i, j in zip(left, right, strict=True):
        labels_y[j] = labels_x[i]
    out = [c for i, c in enumerate(labels_x) if i not in left]
    out += [c for j, c in enumerate(labels_y) if j not in right]
    spec = f"{''.join(labels_x)},{''.join(labels_y)}->{''.join(out)}"
    return contraction.contract(x, y, spec=spec, name=name)


def einsum(equation: str, *inputs: Any, name: str | None = None) -> Value:
    """Einstein's sum of products, of one or two tensors, each label once per tensor."""
    equation = equation.replace(" ", "")
    if len(inputs) != 2:
        raise AttributeValueError(f"einsum takes two tensors here, got {len(inputs)}")
    if "->" not in equation:
        both = equation.replace(",", "")
        equation += "->" + "".join(sorted(c for c in set(both) if both.count(c) == 1))
    return contraction.contract(*inputs, spec=equation, name=name)


def count_nonzero(
    input_tensor: Any, axis: Any = None, keepdims: bool = False, dtype: Any = int64
) -> Value:
    """How many elements along the axes are not zero."""
    x = convert(input_tensor)
    zero = convert(0, like=x.dtype) if x.dtype is not bool_ else convert(False)
    hit = pw.cast(pw.not_equal(x, zero), dtype=as_dtype(dtype))
    return red.reduce_sum(hit, axis=axes_argument(axis), keepdims=keepdims)


# -- norms


def norm(tensor: Any, ord: Any = "euclidean", axis: Any = None, keepdims: bool = False) -> Value:
    """The euclidean, 1- or infinity-norm of vectors along the axes (all by default)."""
    x, axes = convert(tensor), axes_argument(axis)
    if ord in ("euclidean", 2):
        return pw.sqrt(red.reduce_sum(pw.square(x), axis=axes, keepdims=keepdims))
    if ord == 1:
        return red.reduce_sum(pw.abs_(x), axis=axes, keepdims=keepdims)
    if ord == float("inf"):
        return red.reduce_max(pw.abs_(x), axis=axes, keepdims=keepdims)
    raise AttributeValueError(f"norm knows the orders 'euclidean', 1, 2 and inf, got {ord!r}")


def global_norm(t_list: Sequence[Any], name: str | None = None) -> Value:
    """The square root of the sum of all squares of all tensors."""
    parts = [red.reduce_sum(pw.square(convert(t))) for t in t_list if t is not None]
    return pw.sqrt(add_n(parts), name=name)


def clip_by_global_norm(
    t_list: Sequence[Any], clip_norm: Any, use_norm: Any = None, name: str | None = None
) -> tuple[list[Value | None], Value]:
    """The tensors scaled by clip_norm / max(global norm, clip_norm), and the global norm.

    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013.
    """
    with get_default_graph().name_scope(name or "clip_by_global_norm"):
        total = convert(use_norm) if use_norm is not None else global_norm(t_list)
        limit = convert(clip_norm, like=total.dtype)
        scale = limit / pw.maximum(total, limit)
        clipped = [None if t is None else pw.multiply(t, scale) for t in t_list]
    return clipped, total


def clip_by_norm(t: Any, clip_norm: Any, axes: Any = None, name: str | None = None) -> Value:
    """t scaled to the norm clip_norm where its norm is greater."""
    x = convert(t)
    squares = red.reduce_sum(pw.square(x), axis=axes_argument(axes), keepdims=True)
    positive = squares > 0
    safe = pw.where(positive, squares, mv.ones_like(squares))
    length = pw.where(positive, pw.sqrt(safe), squares)
    limit = convert(clip_norm, like=x.dtype)
    return pw.truediv(x * limit, pw.maximum(length, limit), name=name)

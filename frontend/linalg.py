"""Matrix products, sums of products over labels, norms, and clipping by them."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any, Final

from graphc.frontend.arguments import as_value, axes_argument, either, same_dtype, static_ints
from graphc.frontend.einsum import einsum
from graphc.frontend.framework import name_scope
from graphc.frontend.math import add_n
from graphc.frontend.matrices import (
    band_part,
    cholesky,
    cholesky_solve,
    cross,
    det,
    diag,
    diag_part,
    inv,
    logdet,
    lstsq,
    matrix_transpose,
    qr,
    self_adjoint_eig,
    self_adjoint_eigvals,
    set_diag,
    slogdet,
    solve,
    svd,
    trace,
    triangular_solve,
)
from graphc.frontend.sources import eye
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Value, convert
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import reduce as red
from graphc.ir.ops.contract import contract
from graphc.ir.ops.contract import matmul as _matmul
from graphc.ir.table import OPS
from graphc.ir.types import normalize_axis

_LETTERS: Final = string.ascii_letters


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

    a: [..., m, k] (transposed: [..., k, m]), b: [..., k, n] (transposed: [..., n, k]) ->
    [..., m, n]. Of real numbers, the adjoint is the transpose.
    """
    del a_is_sparse, b_is_sparse
    if (transpose_a and adjoint_a) or (transpose_b and adjoint_b):
        raise AttributeValueError("matmul: give transpose or adjoint of one input, not both")
    left, right = bool(transpose_a or adjoint_a), bool(transpose_b or adjoint_b)
    return _matmul(a, b, transpose_a=left, transpose_b=right, name=name or "MatMul")


batch_matmul = matmul


def tensordot(a: Any, b: Any, axes: Any, name: str | None = None) -> Value:
    """The sum of products over the given axes of a and b.

    `axes`: n for the last n of a with the first n of b, or two lists of axes.
    """
    x, y = same_dtype([a, b])
    left, right = _summed_axes(axes, _rank(x, "tensordot"), _rank(y, "tensordot"))
    labels_x = list(_LETTERS[: x.type.rank])
    labels_y = list(_LETTERS[len(labels_x) : len(labels_x) + _rank(y, "tensordot")])
    for i, j in zip(left, right, strict=True):
        labels_y[j] = labels_x[i]
    out = [c for i, c in enumerate(labels_x) if i not in left]
    out += [c for j, c in enumerate(labels_y) if j not in right]
    spec = f"{''.join(labels_x)},{''.join(labels_y)}->{''.join(out)}"
    return contract(x, y, spec=spec, name=name or "Tensordot")


def _summed_axes(axes: Any, rank_x: int, rank_y: int) -> tuple[list[int], list[int]]:
    if isinstance(axes, int):
        if not 0 <= axes <= min(rank_x, rank_y):
            raise AttributeValueError(f"tensordot over {axes} axes of ranks {rank_x} and {rank_y}")
        return list(range(rank_x - axes, rank_x)), list(range(axes))
    left, right = (static_ints(part, "the axes of tensordot") for part in axes)
    if len(left) != len(right):
        raise AttributeValueError(f"tensordot over {len(left)} axes of a and {len(right)} of b")
    return [normalize_axis(i, rank_x) for i in left], [normalize_axis(j, rank_y) for j in right]


def _rank(x: Value, what: str) -> int:
    if x.type.rank is None:
        raise ShapeError(f"{what} needs a tensor of known rank, got {x!r}")
    return x.type.rank


def norm(
    tensor: Any,
    ord: Any = "euclidean",
    axis: Any = None,
    keepdims: Any = None,
    name: str | None = None,
    keep_dims: Any = None,
) -> Value:
    """The euclidean, 1-, p- or infinity-norm of vectors along the axes (all by default)."""
    axes = axes_argument(axis)
    attrs: dict[str, Any] = {
        "axis": axes,
        "keepdims": bool(either("keepdims", keepdims, "keep_dims", keep_dims, False)),
    }
    with name_scope(name, "norm") as scope:
        x = as_value(tensor)
        if ord in ("euclidean", 2):
            return pw.sqrt(red.reduce_sum(pw.square(x), **attrs), name=scope)
        if ord == 1:
            return red.reduce_sum(pw.abs_(x), **attrs, name=scope)
        if ord == float("inf"):
            return red.reduce_max(pw.abs_(x), **attrs, name=scope)
        if isinstance(ord, (int, float)) and ord > 0:
            total = red.reduce_sum(pw.pow_(pw.abs_(x), float(ord)), **attrs)
            return pw.pow_(total, 1.0 / ord, name=scope)
    raise AttributeValueError(f"norm knows the orders 'euclidean', inf and p > 0, got {ord!r}")


# -- clipping


def clip_by_value(
    t: Any, clip_value_min: Any, clip_value_max: Any, name: str | None = None
) -> Value:
    """t held within [min, max]."""
    with name_scope(name, "clip_by_value") as scope:
        return pw.maximum(pw.minimum(t, clip_value_max), clip_value_min, name=scope)


def global_norm(t_list: Sequence[Any], name: str | None = None) -> Value:
    """The square root of the sum of all squares of all tensors; None among them is skipped."""
    with name_scope(name, "global_norm") as scope:
        given = [as_value(t) for t in t_list if t is not None]
        if not given:
            raise AttributeValueError("global_norm needs at least one tensor")
        return pw.sqrt(add_n([red.reduce_sum(pw.square(t)) for t in given]), name=scope)


def clip_by_global_norm(
    t_list: Sequence[Any], clip_norm: Any, use_norm: Any = None, name: str | None = None
) -> tuple[list[Value | None], Value]:
    """The tensors scaled by clip_norm / max(global norm, clip_norm), and the global norm.

    A norm that is infinite or NaN makes all of them NaN. (Pascanu, Mikolov and Bengio, "On the
    difficulty of training recurrent neural networks", 2013.)
    """
    with name_scope(name, "clip_by_global_norm"):
        total = global_norm(t_list) if use_norm is None else as_value(use_norm)
        limit = convert(clip_norm, like=total.dtype)
        scale = limit / pw.maximum(total, limit)
        bad = convert(float("nan"), like=total.dtype)
        scale = pw.where(pw.is_finite(total), scale, bad)
        clipped = [None if t is None else _scaled(as_value(t), scale) for t in t_list]
    return clipped, total


def _scaled(t: Value, scale: Value) -> Value:
    factor = scale if scale.dtype is t.dtype else pw.cast(scale, dtype=t.dtype)
    return pw.multiply(t, factor)


def clip_by_norm(t: Any, clip_norm: Any, axes: Any = None, name: str | None = None) -> Value:
    """t scaled to the norm clip_norm where its norm is greater."""
    with name_scope(name, "clip_by_norm") as scope:
        x = as_value(t)
        squares = red.reduce_sum(pw.square(x), axis=axes_argument(axes), keepdims=True)
        positive = squares > 0  # the root has no gradient at 0
        safe = pw.where(positive, squares, mv.ones_like(squares))
        length = pw.where(positive, pw.sqrt(safe), squares)
        limit = convert(clip_norm, like=x.dtype)
        return pw.truediv(x * limit, pw.maximum(length, limit), name=scope)


def clip_by_average_norm(t: Any, clip_norm: Any, name: str | None = None) -> Value:
    """t scaled so that its norm per element is at most clip_norm."""
    with name_scope(name, "clip_by_average_norm") as scope:
        x = as_value(t)
        count = OPS["cast"](OPS["reduce_prod"](OPS["shape"](x)), dtype=x.dtype)
        length = pw.sqrt(red.reduce_sum(pw.square(x)))
        limit = convert(clip_norm, like=x.dtype)
        factor = limit / pw.maximum(length / count, limit)
        return pw.multiply(x, factor, name=scope)


__all__ = [
    "band_part", "batch_matmul", "cholesky", "cholesky_solve", "clip_by_average_norm",
    "clip_by_global_norm", "clip_by_norm", "clip_by_value", "cross", "det", "diag", "diag_part",
    "einsum", "eye", "global_norm", "inv", "logdet", "lstsq", "matmul", "matrix_transpose", "norm",
    "qr", "self_adjoint_eig", "self_adjoint_eigvals", "set_diag", "slogdet", "solve", "svd",
    "tensordot", "trace", "triangular_solve",
]  # fmt: skip

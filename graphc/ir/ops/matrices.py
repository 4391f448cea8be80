"""Decompositions of matrices and what is computed by them: routines on the host, by LAPACK.

    cholesky, matrix_inverse, matrix_solve, triangular_solve, determinant, log_determinant,
    eigen (of symmetric matrices), qr, svd

over the last two dims of the inputs. Gradients are those of Giles, "Collected matrix derivative
results for forward and reverse mode algorithmic differentiation", 2008, and Murray,
"Differentiation of the Cholesky decomposition", 2016.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from graphc.ir.errors import GradientError, NumericsError, ShapeError
from graphc.ir.graph import Node, Value, convert
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops.contract import matmul
from graphc.ir.ops.diagonals import diagonal, matrix_band, matrix_diag
from graphc.ir.table import Attrs, Kind, NoGradient, Op, Sample, Types, register
from graphc.ir.types import UNKNOWN, Dim, Shape, TensorType, may_equal, merge_shapes

Grads = Sequence["Value | None"]


# -- types


def _wide(t: TensorType, what: str) -> Shape | None:
    """The shape of matrices; ShapeError for less than two dims."""
    pw.check_category((t,), "float")
    if t.shape is not None and len(t.shape) < 2:
        raise ShapeError(f"{what} takes matrices [..., m, n], got {t}")
    return t.shape


def _square(t: TensorType, what: str) -> Shape | None:
    shape = _wide(t, what)
    if shape is not None and not may_equal(shape[-2], shape[-1]):
        raise ShapeError(f"{what} takes square matrices, got {t}")
    return shape


def _same_type(what: str) -> Callable[[Types, Attrs], TensorType]:
    def rule(types: Types, _: Attrs) -> TensorType:
        _square(types[0], what)
        return types[0]

    return rule


def _scalar_type(what: str) -> Callable[[Types, Attrs], TensorType]:
    def rule(types: Types, _: Attrs) -> TensorType:
        shape = _square(types[0], what)
        return types[0].with_shape(None if shape is None else shape[:-2])

    return rule


def _solve_type(types: Types, _: Attrs) -> TensorType:
    a, b = types
    pw.check_same_dtype(types)
    left, right = _square(a, "solving"), _wide(b, "solving")
    if left is None or right is None:
        return b
    merge_shapes(left[:-1], right[:-1], f"solving with {a} for {b}")
    return b


# -- what NumPy does


def _checked(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    """The function of wide floats; NumericsError where LAPACK finds no answer."""

    def numpy(attrs: Attrs, *arrays: np.ndarray) -> Any:
        dtype = arrays[0].dtype
        wide = [a if a.dtype.itemsize >= 4 else a.astype(np.float32) for a in arrays]
        try:
            result = function(*wide, **attrs)
        except np.linalg.LinAlgError as error:
            raise NumericsError(f"{what}: {error}") from None
        if isinstance(result, tuple):
            return tuple(np.asarray(r).astype(dtype, copy=False) for r in result)
        return np.asarray(result).astype(dtype, copy=False)

    return numpy


def _solve(a: np.ndarray, b: np.ndarray, adjoint: bool) -> np.ndarray:
    return np.linalg.solve(np.swapaxes(a, -1, -2) if adjoint else a, b)


def _triangular(a: np.ndarray, b: np.ndarray, lower: bool, adjoint: bool) -> np.ndarray:
    """By substitution, row after row; what lies beyond the diagonal is not read."""
    a = np.swapaxes(np.tril(a) if lower else np.triu(a), -1, -2) if adjoint else a
    forward = lower != adjoint
    n = a.shape[-1]
    x = np.zeros(np.broadcast_shapes(a.shape[:-2], b.shape[:-2]) + b.shape[-2:], b.dtype)
    with np.errstate(divide="ignore", invalid="ignore"):
        for i in range(n) if forward else reversed(range(n)):
            done = slice(0, i) if forward else slice(i + 1, n)
            known = a[..., i : i + 1, done] @ x[..., done, :]
            x[..., i : i + 1, :] = (b[..., i : i + 1, :] - known) / a[..., i : i + 1, i : i + 1]
    return x


# -- gradients


def transposed(x: Value) -> Value:
    """x with its last two dims exchanged."""
    rank = x.type.rank or 2
    return mv.transpose(x, perm=(*range(rank - 2), rank - 1, rank - 2))


def triangle(x: Value, lower: bool) -> Value:
    """The triangle below or above the diagonal, with it."""
    return matrix_band(x, lower=-1 if lower else 0, upper=0 if lower else -1)


def _inverse_grad(node: Node, grads: Grads) -> Grads:
    y, g = node.outputs[0], grads[0]
    assert g is not None
    return [-matmul(matmul(y, g, transpose_a=True), y, transpose_b=True)]


def _solve_grad(node: Node, grads: Grads) -> Grads:
    (a, _), x, g = node.inputs, node.outputs[0], grads[0]
    assert g is not None
    adjoint = node.attrs["adjoint"]
    db = matrix_solve(a, g, adjoint=not adjoint)
    da = -matmul(x, db, transpose_b=True) if adjoint else -matmul(db, x, transpose_b=True)
    return [da, db]


def _triangular_grad(node: Node, grads: Grads) -> Grads:
    (a, _), x, g = node.inputs, node.outputs[0], grads[0]
    assert g is not None
    adjoint, lower = node.attrs["adjoint"], node.attrs["lower"]
    db = triangular_solve(a, g, adjoint=not adjoint, lower=lower)
    da = -matmul(x, db, transpose_b=True) if adjoint else -matmul(db, x, transpose_b=True)
    return [triangle(da, lower), db]


def _determinant_grad(node: Node, grads: Grads) -> Grads:
    a, y, g = node.inputs[0], node.outputs[0], grads[0]
    assert g is not None
    scale = mv.expand_dims(g * y, axis=(-2, -1))
    return [transposed(matrix_inverse(a)) * scale]


def _log_determinant_grad(node: Node, grads: Grads) -> Grads:
    if grads[1] is None:  # the sign alone, which is constant wherever it has a derivative
        return [mv.zeros_like(node.inputs[0])]
    return [transposed(matrix_inverse(node.inputs[0])) * mv.expand_dims(grads[1], axis=(-2, -1))]


def _cholesky_grad(node: Node, grads: Grads) -> Grads:
    # with P the lower triangle and half the diagonal: S = L^-T P(L^T g) L^-1, then (S + S^T) / 2
    factor, g = node.outputs[0], grads[0]
    assert g is not None
    product = triangle(matmul(factor, g, transpose_a=True), True)
    p = product - matrix_diag(diagonal(product)) * 0.5
    left = triangular_solve(factor, p, lower=True, adjoint=True)
    s = transposed(triangular_solve(factor, transposed(left), lower=True, adjoint=True))
    return [(s + transposed(s)) * 0.5]


def _eigen_grad(node: Node, grads: Grads) -> Grads:
    # A = V diag(e) V^T: V (diag(de) + F * (V^T dV)) V^T with F[i, j] = 1 / (e[j] - e[i])
    e, v = node.outputs
    de, dv = grads
    middle = None if de is None else matrix_diag(de)
    if dv is not None:
        gaps = mv.expand_dims(e, axis=-2) - mv.expand_dims(e, axis=-1)
        same = pw.equal(gaps, 0.0)
        f = pw.where(same, convert(0, like=e.dtype), 1.0 / pw.where(same, mv.ones_like(gaps), gaps))
        turned = f * matmul(v, dv, transpose_a=True)
        middle = turned if middle is None else middle + turned
    if middle is None:
        return [None]
    s = matmul(matmul(v, middle), v, transpose_b=True)
    return [(s + transposed(s)) * 0.5]


# -- entries


def _random(*shape: int, seed: int = 67) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _regular(*shape: int) -> np.ndarray:
    """Well away from singular."""
    return _random(*shape) + 3 * np.eye(shape[-1], dtype=np.float32)


def _square_samples() -> Iterable[Sample]:
    for shape in ((3, 3), (2, 2, 4, 4), (1, 1), (0, 2, 2)):
        yield Sample((_regular(*shape),))


def _positive_samples() -> Iterable[Sample]:
    for shape in ((3, 3), (2, 4, 4), (1, 1)):
        a = _random(*shape)
        positive = a @ np.swapaxes(a, -1, -2) + np.eye(shape[-1])
        yield Sample((positive.astype(np.float32),), {}, ())


def _pair_samples(attrs: Iterable[dict[str, Any]]) -> Iterable[Sample]:
    for more in attrs:
        yield Sample((_regular(3, 3), _random(3, 2)), more)
        yield Sample((_regular(2, 4, 4), _random(2, 4, 1)), more)


def _enter(name: str, type_rule: Any, function: Any, grad: Any, samples: Any, doc: str,
           **attrs: Any) -> Op:  # fmt: skip
    return register(
        Op(
            name, Kind.OPAQUE, type_rule, numpy=_checked(function, name), attrs=attrs, grad=grad,
            samples=samples, doc=doc,
        )
    )  # fmt: skip


matrix_inverse: Op = _enter(
    "matrix_inverse", _same_type("matrix_inverse"), np.linalg.inv, _inverse_grad, _square_samples,
    "The inverses of square matrices.",
)  # fmt: skip
matrix_solve: Op = _enter(
    "matrix_solve", _solve_type, _solve, _solve_grad,
    lambda: _pair_samples([{}, {"adjoint": True}]),
    "x with a x = b (adjoint: a^T x = b). a: [..., m, m], b: [..., m, k]", adjoint=False,
)  # fmt: skip
triangular_solve: Op = _enter(
    "triangular_solve", _solve_type, _triangular, _triangular_grad,
    lambda: _pair_samples(
        [{"lower": x, "adjoint": y} for x in (True, False) for y in (True, False)]
    ),
    "matrix_solve by the lower or upper triangle of a alone.", lower=True, adjoint=False,
)  # fmt: skip
determinant: Op = _enter(
    "determinant", _scalar_type("determinant"), np.linalg.det, _determinant_grad, _square_samples,
    "The determinants of square matrices. [..., m, m] -> [...]",
)  # fmt: skip


def _log_determinant_type(types: Types, attrs: Attrs) -> Types:
    t = _scalar_type("log_determinant")(types, attrs)
    return t, t


log_determinant: Op = _enter(
    "log_determinant", _log_determinant_type, lambda a: tuple(np.linalg.slogdet(a)),
    _log_determinant_grad, _square_samples,
    "The signs of the determinants, and the logarithms of their absolute values.",
)  # fmt: skip
cholesky: Op = _enter(
    "cholesky", _same_type("cholesky"), np.linalg.cholesky, _cholesky_grad, _positive_samples,
    "The lower triangles l with l l^T = a, of symmetric positive definite matrices.",
)  # fmt: skip


def _eigen_type(types: Types, _: Attrs) -> Types:
    shape = _square(types[0], "eigen")
    return types[0].with_shape(None if shape is None else shape[:-1]), types[0]


eigen: Op = _enter(
    "eigen", _eigen_type, lambda a: tuple(np.linalg.eigh(a)), _eigen_grad, _positive_samples,
    "The eigenvalues, ascending, and eigenvectors (columns) of symmetric matrices.",
)  # fmt: skip


def _least(m: Dim, n: Dim) -> Dim:
    return min(m, n) if isinstance(m, int) and isinstance(n, int) else UNKNOWN


def _qr_type(types: Types, attrs: Attrs) -> Types:
    shape = _wide(types[0], "qr")
    if shape is None:
        return types[0], types[0]
    *lead, m, n = shape
    k = m if attrs["full_matrices"] else _least(m, n)
    return types[0].with_shape((*lead, m, k)), types[0].with_shape((*lead, k, n))


def _rectangular_samples() -> Iterable[Sample]:
    for shape in ((4, 3), (2, 3, 4), (1, 1)):
        for full in (False, True):
            yield Sample((_random(*shape),), {"full_matrices": full}, ())


qr: Op = _enter(
    "qr", _qr_type,
    lambda a, full_matrices: tuple(np.linalg.qr(a, "complete" if full_matrices else "reduced")),
    NoGradient("the gradient of qr is not offered"), _rectangular_samples,
    "q with orthonormal columns and the upper triangle r, with q r = a.", full_matrices=False,
)  # fmt: skip


def _svd_type(types: Types, attrs: Attrs) -> Types:
    shape = _wide(types[0], "svd")
    if shape is None:
        return types[0], types[0], types[0]
    *lead, m, n = shape
    k, full = _least(m, n), attrs["full_matrices"]
    t = types[0]
    return (
        t.with_shape((*lead, k)), t.with_shape((*lead, m, m if full else k)),
        t.with_shape((*lead, n, n if full else k)),
    )  # fmt: skip


def _svd(a: np.ndarray, full_matrices: bool) -> tuple[np.ndarray, ...]:
    u, s, vh = np.linalg.svd(a, full_matrices=full_matrices)
    return s, u, np.swapaxes(vh, -1, -2)


def _svd_grad(node: Node, grads: Grads) -> Grads:
    # of the singular values alone: u diag(ds) v^T
    if grads[1] is not None or grads[2] is not None:
        raise GradientError("the gradients of svd's u and v are not offered; those of s are")
    if grads[0] is None:
        return [None]
    _, u, v = svd.outputs(node.inputs[0], full_matrices=False)
    return [matmul(u * mv.expand_dims(grads[0], axis=-2), v, transpose_b=True)]


svd: Op = _enter(
    "svd", _svd_type, _svd, _svd_grad, _rectangular_samples,
    """Singular values s, descending, and u, v with u diag(s) v^T = a.

    The gradients of u and v are not offered.""",
    full_matrices=False,
)  # fmt: skip

__all__ = [
    "cholesky", "determinant", "diagonal", "eigen", "log_determinant", "matrix_inverse",
    "matrix_solve", "qr", "svd", "transposed", "triangle",
    "triangular_solve",
]  # fmt: skip

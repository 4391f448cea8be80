"""Diagonals, triangles, decompositions and equations of matrices; re-exported by `linalg`.

Matrices are the last two dims; the dims before are batches. Real floats only: adjoints are
transposes.
"""

from __future__ import annotations

from typing import Any

from graphc.frontend.arguments import as_value, same_dtype, static_int
from graphc.frontend.framework import name_scope
from graphc.ir.errors import ShapeError
from graphc.ir.graph import Value, convert
from graphc.ir.ops import diagonals, matrices, slicing
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import reduce as red

# -- diagonals and triangles


def diag_part(input: Any, name: str | None = None) -> Value:
    """The diagonals. [..., m, n] -> [..., min(m, n)]"""
    return diagonals.diagonal(input, name=name or "MatrixDiagPart")


def diag(diagonal: Any, name: str | None = None) -> Value:
    """Matrices of zeros with these diagonals. [..., n] -> [..., n, n]"""
    return diagonals.matrix_diag(diagonal, name=name or "MatrixDiag")


def set_diag(input: Any, diagonal: Any, name: str | None = None) -> Value:
    """The matrices with other diagonals. [..., m, n], [..., min(m, n)] -> [..., m, n]"""
    x, d = same_dtype([input, diagonal])
    if not x.type.shape or any(isinstance(n, str) for n in x.type.shape[-2:]):
        raise ShapeError(f"set_diag needs matrices of known size, got {x!r}")
    m, n = (int(k) for k in x.type.shape[-2:] if isinstance(k, int))
    with name_scope(name, "MatrixSetDiag"):
        wide = diagonals.matrix_diag(d)
        if m != n:
            zero = (0,) * (x.type.rank or 2)
            high = (*zero[2:], max(m - n, 0), max(n - m, 0))
            wide = slicing.pad(wide, low=zero, high=high, interior=zero)
        on = diagonals.matrix_band(mv.ones_like(x), lower=0, upper=0) > 0
        return pw.where(on, wide, x)


def band_part(input: Any, num_lower: Any, num_upper: Any, name: str | None = None) -> Value:
    """What lies at most so far below and above the diagonal (-1: all), and zeros."""
    return diagonals.matrix_band(
        input, lower=static_int(num_lower, "num_lower"), upper=static_int(num_upper, "num_upper"),
        name=name or "MatrixBandPart",
    )  # fmt: skip


def trace(x: Any, name: str | None = None) -> Value:
    """The sums of the diagonals. [..., m, n] -> [...]"""
    return red.reduce_sum(diagonals.diagonal(x), axis=(-1,), name=name or "Trace")


def matrix_transpose(a: Any, name: str | None = None, conjugate: bool = False) -> Value:
    """The last two dims exchanged."""
    del conjugate
    x = as_value(a)
    if x.type.rank is None or x.type.rank < 2:
        raise ShapeError(f"matrix_transpose takes matrices [..., m, n], got {x!r}")
    rank = x.type.rank
    perm = (*range(rank - 2), rank - 1, rank - 2)
    return mv.transpose(x, perm=perm, name=name or "matrix_transpose")


def cross(a: Any, b: Any, name: str | None = None) -> Value:
    """The cross products of vectors of three numbers along the last dim."""
    x, y = same_dtype([a, b])
    for v in (x, y):
        if v.type.shape is not None and (not v.type.shape or v.type.shape[-1] not in (3, "?")):
            raise ShapeError(f"cross takes vectors of 3 in the last dim, got {v!r}")
    with name_scope(name, "Cross"):
        parts = [
            x[..., (i + 1) % 3] * y[..., (i + 2) % 3] - x[..., (i + 2) % 3] * y[..., (i + 1) % 3]
            for i in range(3)
        ]
        return slicing.stack(*parts, axis=-1)


# -- decompositions


def cholesky(input: Any, name: str | None = None) -> Value:
    """The lower triangle l with l l^T = input, which is symmetric and positive definite.

    NumericsError, when it is run, for what is not.
    """
    return matrices.cholesky(input, name=name or "Cholesky")


def self_adjoint_eig(tensor: Any, name: str | None = None) -> tuple[Value, Value]:
    """Eigenvalues, ascending, and eigenvectors (columns) of symmetric matrices."""
    values, vectors = matrices.eigen.outputs(tensor, name=name or "SelfAdjointEigV2")
    return values, vectors


def self_adjoint_eigvals(tensor: Any, name: str | None = None) -> Value:
    """Eigenvalues, ascending, of symmetric matrices."""
    return self_adjoint_eig(tensor, name)[0]


def qr(input: Any, full_matrices: bool = False, name: str | None = None) -> tuple[Value, Value]:
    """q with orthonormal columns and the upper triangle r, with q r = input."""
    q, r = matrices.qr.outputs(input, full_matrices=bool(full_matrices), name=name or "Qr")
    return q, r


def svd(
    tensor: Any, full_matrices: bool = False, compute_uv: bool = True, name: str | None = None
) -> Any:
    """(s, u, v), s descending, with u diag(s) v^T = tensor; s alone without compute_uv."""
    s, u, v = matrices.svd.outputs(tensor, full_matrices=bool(full_matrices), name=name or "Svd")
    return (s, u, v) if compute_uv else s


# -- inverses, determinants, equations


def inv(input: Any, adjoint: bool = False, name: str | None = None) -> Value:
    """The inverses (of the transposes). NumericsError, when it is run, for singular ones."""
    y = matrices.matrix_inverse(input, name=name or "MatrixInverse")
    return matrix_transpose(y) if adjoint else y


def det(input: Any, name: str | None = None) -> Value:
    """The determinants. [..., m, m] -> [...]"""
    return matrices.determinant(input, name=name or "MatrixDeterminant")


def slogdet(input: Any, name: str | None = None) -> tuple[Value, Value]:
    """The determinants' signs, and the logarithms of their absolute values."""
    sign, size = matrices.log_determinant.outputs(input, name=name or "LogMatrixDeterminant")
    return sign, size


def logdet(matrix: Any, name: str | None = None) -> Value:
    """The logarithms of the determinants of positive definite matrices."""
    with name_scope(name, "logdet"):
        factor = matrices.cholesky(matrix)
        return red.reduce_sum(pw.log(diagonals.diagonal(factor)), axis=(-1,)) * 2.0


def solve(matrix: Any, rhs: Any, adjoint: bool = False, name: str | None = None) -> Value:
    """x with matrix x = rhs (adjoint: matrix^T x = rhs). [..., m, m], [..., m, k]"""
    values = same_dtype([matrix, rhs])
    return matrices.matrix_solve(*values, adjoint=bool(adjoint), name=name or "MatrixSolve")


def triangular_solve(
    matrix: Any, rhs: Any, lower: bool = True, adjoint: bool = False, name: str | None = None
) -> Value:
    """solve by the lower or upper triangle of the matrix alone."""
    values = same_dtype([matrix, rhs])
    return matrices.triangular_solve(
        *values, lower=bool(lower), adjoint=bool(adjoint), name=name or "MatrixTriangularSolve"
    )


def cholesky_solve(chol: Any, rhs: Any, name: str | None = None) -> Value:
    """x with a x = rhs, for the factor chol of a."""
    with name_scope(name, "cholesky_solve"):
        return triangular_solve(chol, triangular_solve(chol, rhs), adjoint=True)


def lstsq(
    matrix: Any, rhs: Any, l2_regularizer: float = 0.0, fast: bool = True, name: str | None = None
) -> Value:
    """x with the least |matrix x - rhs|^2 + l2_regularizer |x|^2, by the normal equations.

    matrix: [..., m, n] of full rank, m >= n.
    """
    del fast
    a, b = same_dtype([matrix, rhs])
    with name_scope(name, "matrix_solve_ls"):
        gram = _product(a, a)
        if l2_regularizer:
            ones = mv.ones_like(diagonals.diagonal(gram))
            gram = gram + diagonals.matrix_diag(ones * convert(l2_regularizer, like=a.dtype))
        return cholesky_solve(cholesky(gram), _product(a, b))


def _product(a: Value, b: Value) -> Value:
    from graphc.ir.ops.contract import matmul

    return matmul(a, b, transpose_a=True)


__all__ = [
    "band_part", "cholesky", "cholesky_solve", "cross", "det", "diag", "diag_part", "inv", "logdet",
    "lstsq", "matrix_transpose", "qr", "self_adjoint_eig", "self_adjoint_eigvals", "set_diag",
    "slogdet", "solve", "svd", "trace", "triangular_solve",
]  # fmt: skip

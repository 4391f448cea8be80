"""Matrices against torch and NumPy: diagonals, decompositions, equations, einsum in full."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import graphc as gc
from graphc.ir.graph import Graph
from tests.ir.nn_checks import check, check_differences

RNG = np.random.default_rng(21)
A = (RNG.standard_normal((2, 4, 4)) + 3 * np.eye(4)).astype(np.float32)
B = RNG.standard_normal((2, 4, 3)).astype(np.float32)
WIDE = RNG.standard_normal((3, 5)).astype(np.float32)
TALL = RNG.standard_normal((2, 5, 3)).astype(np.float32)
POSITIVE = (B @ B.swapaxes(1, 2) + np.eye(4)).astype(np.float32)


@pytest.fixture(autouse=True)
def session() -> Iterator[gc.Session]:
    with Graph().as_default(), gc.Session(device="numpy") as session:
        yield session


def run(x: Any) -> Any:
    return gc.get_default_session().run(x)


# -- against torch, with gradients; the inputs, ours, torch's

SAME: dict[str, tuple[tuple[np.ndarray, ...], Any, Any]] = {
    "diag_part": ((A,), gc.linalg.diag_part, lambda a: a.diagonal(dim1=-2, dim2=-1)),
    "diag_part_wide": ((WIDE,), gc.linalg.diag_part, torch.diagonal),
    "diag_part_tall": ((TALL,), gc.linalg.diag_part, lambda a: a.diagonal(dim1=-2, dim2=-1)),
    "diag": ((WIDE,), gc.linalg.diag, torch.diag_embed),
    "trace": ((A,), gc.linalg.trace, lambda a: a.diagonal(dim1=-2, dim2=-1).sum(-1)),
    "lower": ((TALL,), lambda a: gc.linalg.band_part(a, -1, 0), torch.tril),
    "upper": ((WIDE,), lambda a: gc.linalg.band_part(a, 0, -1), torch.triu),
    "band": (
        (A,), lambda a: gc.linalg.band_part(a, 1, 2), lambda a: torch.triu(torch.tril(a, 2), -1),
    ),
    "transpose": ((B,), gc.linalg.matrix_transpose, lambda a: a.mT),
    "cross": ((B, B[::-1].copy()), gc.linalg.cross, torch.linalg.cross),
    "inv": ((A,), gc.linalg.inv, torch.linalg.inv),
    "inv_adjoint": (
        (A,), lambda a: gc.linalg.inv(a, adjoint=True), lambda a: torch.linalg.inv(a).mT,
    ),
    "det": ((A,), gc.linalg.det, torch.linalg.det),
    "slogdet": ((A,), lambda a: gc.linalg.slogdet(a)[1], lambda a: torch.linalg.slogdet(a)[1]),
    "sign": ((A,), lambda a: gc.linalg.slogdet(-a)[0], lambda a: torch.linalg.slogdet(-a)[0]),
    "solve": ((A, B), gc.linalg.solve, torch.linalg.solve),
    "solve_adjoint": (
        (A, B), lambda a, b: gc.linalg.solve(a, b, adjoint=True),
        lambda a, b: torch.linalg.solve(a.mT, b),
    ),
    "lower_solve": (
        (A, B), gc.linalg.triangular_solve,
        lambda a, b: torch.linalg.solve_triangular(torch.tril(a), b, upper=False),
    ),
    "upper_solve_adjoint": (
        (A, B), lambda a, b: gc.linalg.triangular_solve(a, b, lower=False, adjoint=True),
        lambda a, b: torch.linalg.solve_triangular(torch.triu(a).mT, b, upper=False),
    ),
    "lstsq": (
        (TALL, RNG.standard_normal((2, 5, 2)).astype(np.float32)), gc.linalg.lstsq,
        lambda a, b: torch.linalg.solve(a.mT @ a, a.mT @ b),
    ),
    "svd_values": (
        (TALL,), lambda a: gc.linalg.svd(a, compute_uv=False), torch.linalg.svdvals,
    ),
    "svd_values_full": (
        (TALL,), lambda a: gc.linalg.svd(a, full_matrices=True)[0], torch.linalg.svdvals,
    ),
    # of symmetric matrices, so that a step stays one
    "cholesky": (
        (A,), lambda a: gc.linalg.cholesky(gc.matmul(a, a, transpose_b=True)),
        lambda a: torch.linalg.cholesky(a @ a.mT),
    ),
    "cholesky_solve": (
        (A, B),
        lambda a, b: gc.linalg.cholesky_solve(
            gc.linalg.cholesky(gc.matmul(a, a, transpose_b=True)), b
        ),
        lambda a, b: torch.linalg.solve(a @ a.mT, b),
    ),
    "logdet": (
        (A,), lambda a: gc.linalg.logdet(gc.matmul(a, a, transpose_b=True)),
        lambda a: torch.logdet(a @ a.mT),
    ),
    "eigenvalues": (
        (A,), lambda a: gc.linalg.self_adjoint_eigvals(a + gc.linalg.matrix_transpose(a)),
        lambda a: torch.linalg.eigvalsh(a + a.mT),
    ),
    "eigenvectors": (  # without their signs
        (A,),
        lambda a: gc.square(gc.linalg.self_adjoint_eig(a + gc.linalg.matrix_transpose(a))[1]),
        lambda a: torch.square(torch.linalg.eigh(a + a.mT)[1]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_against_torch(name: str) -> None:
    arrays, ours, theirs = SAME[name]
    check(ours, theirs, arrays, rtol=2e-3, atol=2e-3)
    check_differences(ours, arrays, order=1 if name.startswith(("eigenv", "svd")) else 2)


def test_set_diag() -> None:
    for x in (A, WIDE, TALL):
        d = np.full((*x.shape[:-2], min(x.shape[-2:])), np.inf, np.float32)
        got = run(gc.linalg.set_diag(x, d))
        want = x.copy()
        at = np.arange(d.shape[-1])
        want[..., at, at] = np.inf
        np.testing.assert_array_equal(got, want)


def test_decompositions() -> None:
    for full in (False, True):
        for x in (WIDE, TALL, A):
            (q, r), (s, u, v) = run([gc.linalg.qr(x, full), gc.linalg.svd(x, full)])
            np.testing.assert_allclose(q @ r, x, atol=1e-5)
            one = np.broadcast_to(np.eye(q.shape[-1]), (*q.shape[:-2], *(q.shape[-1],) * 2))
            np.testing.assert_allclose(q.swapaxes(-1, -2) @ q, one, atol=1e-5)
            k = s.shape[-1]
            again = (u[..., :k] * s[..., None, :]) @ v[..., :k].swapaxes(-1, -2)
            np.testing.assert_allclose(again, x, atol=1e-5)
            assert (u.shape[-1] == x.shape[-2]) >= full and (v.shape[-1] == x.shape[-1]) >= full


def test_a_step_of_a_gaussian_process(session: gc.Session) -> None:
    """A log-likelihood with its gradient, of a size that only the run knows."""
    x, y = gc.placeholder(gc.float64, [None, 2]), gc.placeholder(gc.float64, [None, 1])
    scale = gc.placeholder(gc.float64, [])
    gaps = gc.expand_dims(x, 1) - gc.expand_dims(x, 0)
    kernel = gc.exp(-gc.reduce_sum(gc.square(gaps), 2) * scale)
    kernel = kernel + gc.linalg.diag(gc.ones_like(y[:, 0])) * 0.1
    factor = gc.linalg.cholesky(kernel)
    fit = gc.reduce_sum(y * gc.linalg.cholesky_solve(factor, y))
    loss = fit + 2.0 * gc.reduce_sum(gc.log(gc.linalg.diag_part(factor)))
    (slope,) = gc.gradients(loss, [scale])
    feeds = {x: RNG.standard_normal((6, 2)), y: RNG.standard_normal((6, 1)), scale: 0.7}
    got = session.run(slope, feeds)
    ends = [session.run(loss, {**feeds, scale: 0.7 + s * 1e-6}) for s in (1, -1)]
    np.testing.assert_allclose(got, (ends[0] - ends[1]) / 2e-6, rtol=1e-6)


# -- einsum

EINSUMS: dict[str, tuple[str, tuple[tuple[int, ...], ...]]] = {
    "diagonal": ("ii->i", ((3, 3),)),
    "trace": ("ii", ((3, 3),)),
    "batch_diagonal": ("...ii->...i", ((2, 4, 3, 3),)),
    "triple": ("iii->i", ((3, 3, 3),)),
    "two_pairs": ("abab->ba", ((2, 3, 2, 3),)),
    "diagonal_times": ("ii,ij->j", ((3, 3), (3, 4))),
    "dots_matmul": ("...ij,...jk->...ik", ((2, 3, 4), (2, 4, 5))),
    "dots_broadcast": ("...ij,...jk->...ik", ((5, 1, 3, 4), (2, 4, 2))),
    "dots_one_side": ("...ij,jk->...ik", ((2, 2, 3, 4), (4, 5))),
    "dots_implicit": ("...ij,...jk", ((2, 3, 4), (2, 4, 5))),
    "dots_in_the_middle": ("a...b->b...a", ((2, 3, 4, 5),)),
    "dots_of_nothing": ("...i,...i->...", ((4,), (4,))),
    "dots_all_ones": ("...i,...i->...", ((1, 4), (1, 4))),
    "three": ("ab,bc,cd->ad", ((2, 3), (3, 4), (4, 5))),
    "outer": ("a,b->ab", ((3,), (4,))),
    "lonely_one": ("ab,cb->a", ((2, 3), (1, 3))),
    "spaces": (" i j , j k -> i k ", ((2, 3), (3, 4))),
}


@pytest.mark.parametrize("name", EINSUMS)
def test_einsum(name: str) -> None:
    equation, shapes = EINSUMS[name]
    arrays = [RNG.standard_normal(s).astype(np.float32) for s in shapes]
    want = np.einsum(equation, *arrays)
    np.testing.assert_allclose(run(gc.einsum(equation, *arrays)), want, rtol=1e-4, atol=1e-5)

    def build(*xs: Any) -> Any:
        known = [gc.reshape(x, s) for x, s in zip(xs, shapes, strict=True)]
        return gc.einsum(equation, *known)

    check_differences(build, arrays, order=2)


WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "singular": (
        lambda: run(gc.linalg.inv(np.zeros((2, 2), np.float32))), gc.errors.NumericsError,
        "matrix_inverse.*Singular",
    ),
    "not_positive": (
        lambda: run(gc.linalg.cholesky(-np.eye(2, dtype=np.float32))), gc.errors.NumericsError,
        "cholesky.*positive definite",
    ),
    "not_square": (lambda: gc.linalg.det(WIDE), gc.errors.ShapeError, "square"),
    "vector": (lambda: gc.linalg.qr(WIDE[0]), gc.errors.ShapeError, "matrices"),
    "rows": (lambda: gc.linalg.solve(A, B[:, :3]), gc.errors.ShapeError, "solving"),
    "integers": (lambda: gc.linalg.inv(np.eye(2, dtype=np.int32)), gc.errors.DTypeError, "int32"),
    "cross": (lambda: gc.linalg.cross(WIDE, WIDE), gc.errors.ShapeError, "vectors of 3"),
    "diag": (lambda: gc.linalg.diag(np.float32(3)), gc.errors.ShapeError, "scalar"),
    "diag_part": (lambda: gc.linalg.diag_part(WIDE[0]), gc.errors.ShapeError, "matrices"),
    "svd_vectors": (
        lambda: (lambda x: gc.gradients(gc.linalg.svd(x)[1], [x]))(gc.constant(TALL)),
        gc.errors.GradientError, "svd",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_errors(name: str) -> None:
    make, error, text = WRONG[name]
    with pytest.raises(error, match=text):
        make()

"""FTRL, the proximal optimizers and dual averaging, against TensorFlow's formulas in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.errors import AttributeValueError

START = np.array([0.5, -1.0, 2.0, 0.0], np.float64)
GRADIENTS = np.random.default_rng(3).standard_normal((6, 4))


def _steps(optimizer: Any, step: Any = None) -> np.ndarray:
    v = gc.Variable(START)
    g = gc.placeholder(gc.float64, [4])
    train = optimizer.apply_gradients([(g, v)], global_step=step)
    with gc.Session(device="numpy") as session:
        session.run(gc.global_variables_initializer())
        for gradient in GRADIENTS:
            session.run(train, {g: gradient})
        result: np.ndarray = session.run(v)
        return result


def _run(build: Callable[[], Any]) -> np.ndarray:
    with gc.Graph().as_default():
        return _steps(build())


def _shrunk(x: np.ndarray, limit: Any) -> np.ndarray:
    return np.sign(x) * np.maximum(np.abs(x) - limit, 0)


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (0.3, 0.0), (0.3, 0.2)])
def test_proximal_gradient_descent(l1: float, l2: float) -> None:
    v = START.copy()
    for g in GRADIENTS:
        v = _shrunk(v - 0.1 * g, 0.1 * l1) / (1 + 0.1 * l2)
    got = _run(lambda: gc.train.ProximalGradientDescentOptimizer(0.1, l1, l2))
    np.testing.assert_allclose(got, v, rtol=1e-7)


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (0.3, 0.2)])
def test_proximal_adagrad(l1: float, l2: float) -> None:
    v, a = START.copy(), np.full(4, 0.1)
    for g in GRADIENTS:
        a += g**2
        rate = 0.1 / np.sqrt(a)
        v = _shrunk(v - rate * g, rate * l1) / (1 + rate * l2)
    optimizer = gc.train.ProximalAdagradOptimizer
    got = _run(lambda: optimizer(0.1, l1_regularization_strength=l1, l2_regularization_strength=l2))
    np.testing.assert_allclose(got, v, rtol=1e-6)


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (0.3, 0.2)])
def test_dual_averaging(l1: float, l2: float) -> None:
    total, squares = np.zeros(4), np.full(4, 0.1)
    for t, g in enumerate(GRADIENTS, 1):
        total, squares = total + g, squares + g**2
        v = -0.1 * _shrunk(total, l1 * t) / (l2 * t * 0.1 + np.sqrt(squares))
    with gc.Graph().as_default():
        step = gc.train.get_or_create_global_step()
        optimizer = gc.train.AdagradDAOptimizer(
            0.1, step, l1_regularization_strength=l1, l2_regularization_strength=l2
        )
        np.testing.assert_allclose(_steps(optimizer, step), v, rtol=1e-6)


@pytest.mark.parametrize("power", [-0.5, -0.3, 0.0])
@pytest.mark.parametrize(
    ("l1", "l2", "shrinkage"), [(0.0, 0.0, 0.0), (0.5, 0.2, 0.0), (0.1, 0.0, 0.05)]
)
def test_ftrl(power: float, l1: float, l2: float, shrinkage: float) -> None:
    v, n, z = START.copy(), np.full(4, 0.1), np.zeros(4)
    for g in GRADIENTS:
        new = n + g**2
        z += g + 2 * shrinkage * v - (new**-power - n**-power) / 0.1 * v
        n = new
        v = np.where(np.abs(z) > l1, (np.sign(z) * l1 - z) / (n**-power / 0.1 + 2 * l2), 0)
    got = _run(
        lambda: gc.train.FtrlOptimizer(
            0.1, power, l1_regularization_strength=l1, l2_regularization_strength=l2,
            l2_shrinkage_regularization_strength=shrinkage,
        )
    )  # fmt: skip
    np.testing.assert_allclose(got, v, rtol=1e-6, atol=1e-12)


def test_strong_l1_gives_exact_zeros() -> None:
    assert (_run(lambda: gc.train.FtrlOptimizer(0.1, l1_regularization_strength=100.0)) == 0).all()


@pytest.mark.parametrize(
    "build",
    [
        lambda: gc.train.FtrlOptimizer(0.1, 0.5),
        lambda: gc.train.FtrlOptimizer(0.1, l1_regularization_strength=-1.0),
        lambda: gc.train.FtrlOptimizer(0.1, initial_accumulator_value=-1.0),
        lambda: gc.train.ProximalAdagradOptimizer(0.1, 0.0),
        lambda: gc.train.AdagradDAOptimizer(0.1, 0, 0.0),
    ],
)
def test_what_they_refuse(build: Callable[[], Any]) -> None:
    with pytest.raises(AttributeValueError, match=r"positive|negative"):
        build()


def test_restarts_and_linear_cosine() -> None:
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        step = gc.placeholder(gc.int32, [])
        restarts = gc.train.cosine_decay_restarts(0.1, step, 10, t_mul=2.0, m_mul=0.5, alpha=0.1)
        equal = gc.train.cosine_decay_restarts(0.1, step, 10, t_mul=1.0)
        linear = gc.train.linear_cosine_decay(0.1, step, 20, num_periods=1.0, alpha=0.2, beta=0.01)
        for i in (0, 3, 9, 12, 25, 45):
            got = session.run([restarts, equal, linear], {step: i})
            start, length, height = 0, 10, 1.0
            while i >= start + length:
                start, length, height = start + length, length * 2, height / 2
            wave = 0.5 * height * (1 + np.cos(np.pi * (i - start) / length))
            p = min(i, 20) / 20
            wanted = [
                0.1 * (0.9 * wave + 0.1),
                0.05 * (1 + np.cos(np.pi * (i % 10) / 10)),
                0.1 * ((1 - p + 0.2) * 0.5 * (1 + np.cos(2 * np.pi * p)) + 0.01),
            ]
            np.testing.assert_allclose(got, wanted, rtol=1e-5)

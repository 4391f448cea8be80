"""Optimizers against torch from equal values over ten steps, by TensorFlow's formulas.

Where TensorFlow's formula is another than torch's, the reference is written out here, after the
ops that TensorFlow 1 runs (tensorflow/core/kernels/training_ops.cc).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import graphc as gc

STEPS = 10
TARGET = np.array([[1.0, -2.0, 0.5], [0.3, 4.0, -1.0]], np.float32)
START = np.array([[0.1, 0.2, -0.3], [2.0, -1.0, 0.7]], np.float32)
Array = Any


@pytest.fixture(autouse=True)
def session() -> Iterator[gc.Session]:
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        yield session


def trained(session: gc.Session, optimizer: Any) -> list[Array]:
    """The variable after every step on sum((v - target)^2 * scale)."""
    v = gc.Variable(START, name="v")
    loss = gc.reduce_sum(gc.square(v - TARGET) * 0.7)
    step = optimizer.minimize(loss)
    session.run(gc.global_variables_initializer())
    values = []
    for _ in range(STEPS):
        session.run(step)
        values.append(session.run(v))
    return values


def by_torch(make: Callable[[list[Any]], Any]) -> list[Array]:
    v = torch.tensor(START, requires_grad=True)
    optimizer = make([v])
    values = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        ((v - torch.tensor(TARGET)) ** 2 * 0.7).sum().backward()
        optimizer.step()
        values.append(v.detach().numpy().copy())
    return values


def by_formula(update: Callable[[Array, Array, dict[str, Array], int], Array]) -> list[Array]:
    """`update(v, g, slots, t)` gives the new value; in float64."""
    slots: dict[str, Array] = {}
    v, values = START.astype(np.float64), []
    for t in range(1, STEPS + 1):
        v = update(v, 1.4 * (v - TARGET), slots, t)
        values.append(v)
    return values


def _rmsprop(centered: bool, v: Array, g: Array, s: dict[str, Array]) -> Array:
    # ApplyRMSProp: ms starts at 1, epsilon is inside the root
    s["ms"] = 0.9 * s.get("ms", 1.0) + 0.1 * g * g
    s["mg"] = 0.9 * s.get("mg", 0.0) + 0.1 * g
    spread = s["ms"] - (s["mg"] ** 2 if centered else 0.0)
    s["mom"] = 0.5 * s.get("mom", 0.0) + 0.05 * g / np.sqrt(spread + 1e-10)
    return v - s["mom"]


def _adam(v: Array, g: Array, s: dict[str, Array], t: int) -> Array:
    # ApplyAdam: epsilon (here large, to show) is beside the uncorrected root
    s["m"] = 0.9 * s.get("m", 0.0) + 0.1 * g
    s["v"] = 0.99 * s.get("v", 0.0) + 0.01 * g * g
    rate = 0.05 * np.sqrt(1 - 0.99**t) / (1 - 0.9**t)
    return v - rate * s["m"] / (np.sqrt(s["v"]) + 0.1)


def _adagrad(v: Array, g: Array, s: dict[str, Array], t: int) -> Array:
    # ApplyAdagrad: the accumulator starts at 0.1, no epsilon
    s["a"] = s.get("a", 0.1) + g * g
    return v - 0.3 * g / np.sqrt(s["a"])


T = gc.train
CASES: dict[str, tuple[Callable[[], Any], Callable[[], list[Array]]]] = {
    "sgd": (
        lambda: T.GradientDescentOptimizer(0.1),
        lambda: by_torch(lambda p: torch.optim.SGD(p, 0.1)),
    ),
    "momentum": (
        lambda: T.MomentumOptimizer(0.05, 0.9),
        lambda: by_torch(lambda p: torch.optim.SGD(p, 0.05, momentum=0.9)),
    ),
    "nesterov": (
        lambda: T.MomentumOptimizer(0.05, 0.9, use_nesterov=True),
        lambda: by_torch(lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True)),
    ),
    "adadelta": (
        lambda: T.AdadeltaOptimizer(1.0, 0.9, 1e-6),
        lambda: by_torch(lambda p: torch.optim.Adadelta(p, 1.0, rho=0.9, eps=1e-6)),
    ),
    "adam, torch": (
        lambda: T.AdamOptimizer(0.05, 0.9, 0.99, 1e-12),
        lambda: by_torch(lambda p: torch.optim.Adam(p, 0.05, (0.9, 0.99), 1e-12)),
    ),
    "adamw, torch": (
        lambda: T.AdamWOptimizer(0.1, 0.05, 0.9, 0.99, 1e-12),
        lambda: by_torch(
            lambda p: torch.optim.AdamW(p, 0.05, (0.9, 0.99), 1e-12, weight_decay=0.1)
        ),
    ),
    "adagrad, torch": (
        lambda: T.AdagradOptimizer(0.3, 0.1),
        lambda: by_torch(
            lambda p: torch.optim.Adagrad(p, 0.3, initial_accumulator_value=0.1, eps=0.0)
        ),
    ),
    "adagrad": (lambda: T.AdagradOptimizer(0.3), lambda: by_formula(_adagrad)),
    "adam": (
        lambda: T.AdamOptimizer(0.05, 0.9, 0.99, epsilon=0.1), lambda: by_formula(_adam),
    ),
    "rmsprop": (
        lambda: T.RMSPropOptimizer(0.05, momentum=0.5),
        lambda: by_formula(lambda v, g, s, t: _rmsprop(False, v, g, s)),
    ),
    "rmsprop, centered": (
        lambda: T.RMSPropOptimizer(0.05, momentum=0.5, centered=True),
        lambda: by_formula(lambda v, g, s, t: _rmsprop(True, v, g, s)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_ten_steps(session: gc.Session, name: str) -> None:
    make, reference = CASES[name]
    want = reference()
    assert np.abs(want[-1] - START).min() > 1e-3, "every element must move"
    for got, expected in zip(trained(session, make()), want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-6)


def test_slots_are_named_as_in_tensorflow() -> None:
    with gc.variable_scope("net"):
        w = gc.get_variable("w", [2])
    loss = gc.reduce_sum(w * w)
    adam = gc.train.AdamOptimizer()
    with gc.name_scope("training"):
        assert adam.minimize(loss).name == "training/Adam"
    gc.train.RMSPropOptimizer(0.1, centered=True).minimize(loss)
    names = [v.op.name for v in gc.global_variables()]
    assert names == [
        "net/w", "net/w/Adam", "net/w/Adam_1", "beta1_power", "beta2_power",
        "net/w/RMSProp", "net/w/RMSProp_1", "net/w/RMSProp_2",
    ]  # fmt: skip
    assert gc.trainable_variables() == [w]
    assert adam.get_slot_names() == ["m", "v"] and adam.get_slot(w, "m") is not None
    assert adam.get_slot(w, "x") is None


def test_learning_rate_from_a_placeholder_and_global_step(session: gc.Session) -> None:
    v = gc.Variable(1.0)
    rate = gc.placeholder(gc.float32, [])
    step = gc.train.get_or_create_global_step()
    train: Any = gc.train.GradientDescentOptimizer(rate).minimize(v * 3.0, global_step=step)
    session.run(gc.global_variables_initializer())
    train.run({rate: 0.1})
    session.run(train, {rate: 0.5})
    assert session.run([v, step]) == [pytest.approx(1 - 0.3 - 1.5), 2]
    assert gc.train.get_global_step() is step is gc.train.get_or_create_global_step()
    assert step.dtype is gc.int64 and gc.train.global_step(session, step) == 2
    with pytest.raises(gc.errors.AttributeValueError, match="already"):
        gc.train.create_global_step()


def test_compute_clip_apply(session: gc.Session) -> None:
    a, b, c = gc.Variable([3.0, 4.0]), gc.Variable([0.0]), gc.Variable(1.0)
    optimizer = gc.train.GradientDescentOptimizer(1.0)
    pairs = optimizer.compute_gradients(gc.reduce_sum(a * a) * 0.5, [a, b, c])
    assert [g is None for g, _ in pairs] == [False, True, True]
    clipped, norm = gc.clip_by_global_norm([g for g, _ in pairs], 1.0)
    train = optimizer.apply_gradients(list(zip(clipped, [v for _, v in pairs], strict=True)))
    session.run(gc.global_variables_initializer())
    assert session.run([norm, train])[0] == 5.0
    np.testing.assert_allclose(session.run(a), [2.4, 3.2], rtol=1e-6)


def test_constraints_hold_after_each_step(session: gc.Session) -> None:
    v = gc.Variable([1.0, 1.0], constraint=gc.nn.relu)
    train = gc.train.GradientDescentOptimizer(1.0).minimize(gc.reduce_sum(v * [5.0, 0.25]))
    session.run(gc.global_variables_initializer())
    session.run(train)
    np.testing.assert_array_equal(session.run(v), [0.0, 0.75])


def test_errors() -> None:
    v = gc.Variable(1.0, name="v")
    sgd = gc.train.GradientDescentOptimizer(0.1)
    with pytest.raises(gc.errors.GradientError, match=r"no gradient reaches .*'v:0'"):
        sgd.minimize(gc.constant(1.0))
    with pytest.raises(gc.errors.GradientError, match="no variables"):
        sgd.minimize(v * v, var_list=[])
    with pytest.raises(gc.errors.GradientError, match="given no gradient"):
        sgd.apply_gradients([(None, v)])
    x: Any = gc.constant(1.0)
    with pytest.raises(gc.errors.GradientError, match="only variables"):
        sgd.apply_gradients([(x, x)])
    with pytest.raises(gc.errors.AttributeValueError, match="positive"):
        gc.train.AdagradOptimizer(0.1, initial_accumulator_value=0.0)


def test_schedules(session: gc.Session) -> None:
    step = gc.placeholder(gc.int64, [])
    t = gc.train
    cases: dict[str, tuple[Any, Callable[[float], float]]] = {
        "exponential": (t.exponential_decay(0.1, step, 10, 0.5), lambda s: 0.1 * 0.5 ** (s / 10)),
        "staircase": (
            t.exponential_decay(0.1, step, 10, 0.5, staircase=True),
            lambda s: 0.1 * 0.5 ** (s // 10),
        ),
        "natural": (t.natural_exp_decay(0.1, step, 10, 0.5), lambda s: 0.1 * np.exp(-0.05 * s)),
        "inverse": (t.inverse_time_decay(0.1, step, 10, 0.5), lambda s: 0.1 / (1 + 0.05 * s)),
        "polynomial": (
            t.polynomial_decay(0.1, step, 20, 0.01, 2.0),
            lambda s: 0.09 * (1 - min(s, 20) / 20) ** 2 + 0.01,
        ),
        "cosine": (
            t.cosine_decay(0.1, step, 20, 0.2),
            lambda s: 0.1 * (0.8 * 0.5 * (1 + np.cos(np.pi * min(s, 20) / 20)) + 0.2),
        ),
        "piecewise": (
            t.piecewise_constant(step, [5, 12], [1.0, 0.5, 0.1]),
            lambda s: 1.0 if s <= 5 else 0.5 if s <= 12 else 0.1,
        ),
    }
    for s in (0, 5, 6, 12, 13, 20, 35):
        got = session.run({k: c[0] for k, c in cases.items()}, {step: s})
        for name, (_, want) in cases.items():
            assert got[name] == pytest.approx(want(s), rel=1e-5), (name, s)
    with pytest.raises(gc.errors.AttributeValueError, match="3 values, got 2"):
        t.piecewise_constant(step, [1, 2], [1.0, 2.0])


def test_moving_averages(session: gc.Session) -> None:
    v = gc.Variable(1.0, name="v")
    count = gc.Variable(0, trainable=False, name="count")
    ema, slow = gc.train.ExponentialMovingAverage(0.9), None
    update = ema.apply([v])
    slow = gc.train.ExponentialMovingAverage(0.9, num_updates=count, name="slow")
    with gc.control_dependencies([v.assign(11.0)]):
        later = slow.apply([v])
    session.run(gc.global_variables_initializer())
    session.run([v.assign(11.0), update])
    average: Any = ema.average(v)
    assert average.op.name == "v/ExponentialMovingAverage" == ema.average_name(v)
    assert session.run(average) == 1.0  # it read the variable as it was when the run began
    session.run(update)
    assert session.run(average) == pytest.approx(2.0)
    session.run(later)
    assert session.run(slow.average(v)) == pytest.approx(1.0 * 0.1 + 11 * 0.9)
    names = ema.variables_to_restore([v])
    assert names["v/ExponentialMovingAverage"] is v and "count" in names
    assert gc.moving_average_variables() == [v, v]
    with pytest.raises(gc.errors.UnsupportedOp, match="zero_debias"):
        gc.train.ExponentialMovingAverage(0.9, zero_debias=True)
    with pytest.raises(gc.errors.DTypeError, match="floats"):
        ema.apply([count])


def test_what_an_optimizer_makes_waits_for_nothing(session: gc.Session) -> None:
    x = gc.placeholder(gc.float32, [None])
    v = gc.Variable(1.0)
    seen = gc.Variable(0.0, trainable=False)
    loss = gc.reduce_sum(v * x)
    with gc.control_dependencies([seen.assign(gc.reduce_sum(x))]):
        steps = [
            make.minimize(loss)
            for make in (
                gc.train.AdamOptimizer(),
                gc.train.AdagradOptimizer(0.1),
                gc.train.RMSPropOptimizer(0.1),
                gc.train.MomentumOptimizer(0.1, 0.9),
            )
        ]
    session.run(gc.global_variables_initializer())  # no slot's initial value needs a feed
    session.run(steps, {x: [1.0, 2.0]})
    assert session.run(seen) == 3

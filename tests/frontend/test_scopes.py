"""Variable scopes: names, reuse, default names, initializers, regularizers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gc


@pytest.fixture(autouse=True)
def graph() -> Iterator[gc.Graph]:
    with gc.Graph().as_default() as graph:
        yield graph


def test_reuse_finds_the_variable() -> None:
    with gc.variable_scope("a") as scope:
        v = gc.get_variable("v", [2, 3])
        with gc.variable_scope("b"):
            assert gc.get_variable("v", [1]).name == "a/b/v:0"
    with gc.variable_scope("a", reuse=True):
        assert gc.get_variable("v", [2, 3]) is v
    with gc.variable_scope(scope, reuse=True):
        assert gc.get_variable("v") is v
    with gc.variable_scope("a") as again:
        again.reuse_variables()
        assert gc.get_variable("v") is v


def test_reuse_is_inherited_inside() -> None:
    with gc.variable_scope("a"), gc.variable_scope("b"):
        v = gc.get_variable("v", [1])
    with gc.variable_scope("a", reuse=True), gc.variable_scope("b", reuse=False):
        assert gc.get_variable("v", [1]) is v
    assert gc.get_variable_scope().reuse is False


def test_auto_reuse_makes_what_is_missing() -> None:
    def net() -> Any:
        with gc.variable_scope("net", reuse=gc.AUTO_REUSE):
            return gc.get_variable("w", [2])

    assert net() is net()


def test_errors_name_the_variable_and_its_line() -> None:
    with gc.variable_scope("a"):
        gc.get_variable("v", [2])
    with (
        pytest.raises(ValueError, match=r"'a/v' already exists \(.*test_scopes.py:\d+\)"),
        gc.variable_scope("a"),
    ):
        gc.get_variable("v", [2])
    with (
        pytest.raises(ValueError, match="'a/w' does not exist"),
        gc.variable_scope("a", reuse=True),
    ):
        gc.get_variable("w", [2])
    with gc.variable_scope("a", reuse=True):
        with pytest.raises(gc.errors.ShapeError, match=r"\[2\], not \[3\]"):
            gc.get_variable("v", [3])
        with pytest.raises(gc.errors.DTypeError, match="float32, not int32"):
            gc.get_variable("v", [2], gc.int32)
    with pytest.raises(gc.errors.ShapeError, match="needs a known shape"):
        gc.get_variable("u")
    with pytest.raises(gc.errors.ShapeError, match="give no other"):
        gc.get_variable("u", [2], initializer=gc.zeros([2]))
    with pytest.raises(gc.errors.GraphError, match="default_name"), gc.variable_scope(None):
        pass
    with (
        pytest.raises(gc.errors.GraphError, match="AUTO_REUSE"),
        gc.variable_scope("a", reuse="yes"),
    ):
        pass


def test_a_failed_scope_leaves_the_outer_one(graph: gc.Graph) -> None:
    with pytest.raises(RuntimeError), gc.variable_scope("a"):
        raise RuntimeError
    assert (gc.get_variable_scope().name, graph.scope) == ("", "")


def test_default_names_count_and_start_again() -> None:
    names = []
    for _ in range(2):
        with gc.variable_scope(None, default_name="dense"):
            names.append(gc.get_variable("k", [1]).op.name)
    assert names == ["dense/k", "dense_1/k"]
    with gc.variable_scope("net"), gc.variable_scope(None, default_name="dense"):
        first = gc.get_variable("k", [1])
    with gc.variable_scope("net", reuse=True), gc.variable_scope(None, default_name="dense"):
        assert gc.get_variable("k", [1]) is first


def test_ops_are_named_by_the_scope_too() -> None:
    with gc.variable_scope("a"):
        assert gc.add(1.0, 2.0).op.name == "a/add"
    with gc.variable_scope("a"):
        assert gc.add(1.0, 2.0).op.name == "a_1/add"
    with gc.name_scope("outer"):  # which does not touch variables' names
        assert gc.get_variable("free", [1]).op.name == "free"


def test_defaults_of_the_scope() -> None:
    ones = gc.ones_initializer()
    with (
        gc.variable_scope("a", initializer=ones, dtype=gc.float64),
        gc.Session(device="numpy") as s,
    ):
        v = gc.get_variable("v", [2])
        w = gc.get_variable("w", [2], initializer=gc.constant_initializer([3.0, 4.0]))
        z = gc.get_variable("z", [2], gc.int32, initializer=gc.zeros_initializer)
        t = gc.get_variable("t", initializer=np.float32(8.0))
        s.run(gc.global_variables_initializer())
        got = s.run([v, w, z, t])
    assert [v.dtype, z.dtype, t.dtype] == [gc.float64, gc.int32, gc.float32]
    for array, want in zip(got, ([1, 1], [3, 4], [0, 0], 8), strict=True):
        np.testing.assert_array_equal(array, want)


def test_regularizers_are_collected() -> None:
    with gc.variable_scope("a", regularizer=lambda v: gc.nn.l2_loss(v) * 0.1):
        gc.get_variable("v", [2], initializer=gc.constant_initializer([3.0, 4.0]))
    total = gc.losses.get_regularization_loss()
    with gc.Session(device="numpy") as s:
        s.run(gc.global_variables_initializer())
        assert s.run(total) == pytest.approx(1.25)


def test_get_local_variable() -> None:
    v = gc.get_local_variable("v", [1])
    assert gc.local_variables() == [v] and gc.trainable_variables() == []


SHAPE = (300, 200)
INITIALIZERS: list[tuple[Any, float, float]] = [
    (gc.random_normal_initializer(1.0, 2.0), 1.0, 2.0),
    (gc.random_uniform_initializer(-1, 3), 1.0, 4 / np.sqrt(12)),
    (gc.truncated_normal_initializer(0.0, 1.0), 0.0, 0.8796),
    (gc.glorot_uniform_initializer(), 0.0, np.sqrt(2 / 500)),
    (gc.glorot_normal_initializer(), 0.0, np.sqrt(2 / 500)),
    (gc.initializers.he_normal(), 0.0, np.sqrt(2 / 300)),
    (gc.initializers.he_uniform(), 0.0, np.sqrt(2 / 300)),
    (gc.initializers.lecun_normal(), 0.0, np.sqrt(1 / 300)),
    (gc.variance_scaling_initializer(3.0, "fan_out", "untruncated_normal"), 0, np.sqrt(3 / 200)),
    (gc.uniform_unit_scaling_initializer(), 0.0, np.sqrt(1 / 300)),
]


@pytest.mark.parametrize(
    ("initializer", "mean", "stddev"), INITIALIZERS, ids=lambda x: type(x).__name__
)
def test_moments_of_initial_values(initializer: Any, mean: float, stddev: float) -> None:
    with gc.Session(device="numpy") as s:
        x = s.run(initializer(SHAPE))
    assert x.dtype == np.float32
    error = stddev / np.sqrt(x.size)
    assert abs(x.mean() - mean) < 5 * error
    assert x.std() == pytest.approx(stddev, rel=0.02)


def test_orthogonal_and_identity() -> None:
    with gc.Session(device="numpy") as s:
        wide, tall = s.run(
            [gc.orthogonal_initializer(2.0)((3, 8)), gc.orthogonal_initializer()((8, 3))]
        )
        eye = s.run(gc.identity_initializer(3.0)((2, 3)))
    np.testing.assert_allclose(wide @ wide.T, 4 * np.eye(3), atol=1e-5)
    np.testing.assert_allclose(tall.T @ tall, np.eye(3), atol=1e-5)
    np.testing.assert_array_equal(eye, 3 * np.eye(2, 3))
    with pytest.raises(gc.errors.ShapeError):
        gc.orthogonal_initializer()((3,))
    with pytest.raises(gc.errors.AttributeValueError, match="scale"):
        gc.variance_scaling_initializer(scale=0.0)
    with pytest.raises(gc.errors.AttributeValueError, match="mode"):
        gc.variance_scaling_initializer(mode="fan")


def test_seeds_and_runs() -> None:
    def draw(seed: int, op_seed: int | None = None) -> Any:
        with gc.Graph().as_default(), gc.Session(device="numpy") as s:
            gc.set_random_seed(seed)
            a, b = gc.random_normal([4], seed=op_seed), gc.random_normal([4])
            return s.run([a, b]), s.run(a)

    (a, b), later = draw(1)
    np.testing.assert_array_equal(draw(1)[0], [a, b])
    assert not np.array_equal(a, b) and not np.array_equal(a, later)
    assert not np.array_equal(draw(2)[0][0], a)
    assert not np.array_equal(draw(1, op_seed=5)[0][0], a)


def test_random_ranges_and_tensors_as_shapes() -> None:
    x = gc.placeholder(gc.float32, [None, 3])
    n = gc.shape(x)[0]
    with gc.Session(device="numpy") as s:
        feeds = {x: np.zeros((500, 3), np.float32)}
        u, i, t, m = s.run(
            [
                gc.random_uniform([n, 2], -2.0, 5.0), gc.random_uniform([n], 3, 6, gc.int32),
                gc.truncated_normal([n]), gc.multinomial(gc.tile([[0.0, 50.0]], [2, 1]), 7),
            ],
            feeds,
        )  # fmt: skip
    assert u.shape == (500, 2) and u.min() >= -2 and u.max() < 5
    assert sorted(set(i.tolist())) == [3, 4, 5] and i.dtype == np.int32
    assert np.abs(t).max() < 2.001
    np.testing.assert_array_equal(m, np.ones((2, 7)))
    with pytest.raises(gc.errors.AttributeValueError, match="maxval"):
        gc.random_uniform([2], dtype=gc.int32)

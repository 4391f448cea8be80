"""Variables: reading, assigning, control dependencies, names, collections, and their errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gc


@pytest.fixture(autouse=True)
def session() -> Iterator[gc.Session]:
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        yield session


def run(session: gc.Session, fetches: Any, feeds: Any = None) -> Any:
    session.run(gc.global_variables_initializer())
    return session.run(fetches, feeds)


def test_lecture_program() -> None:
    """The program of the lecture, as it stands there."""
    tf = gc
    sess = tf.InteractiveSession(device="numpy")
    x = tf.placeholder(tf.float32, shape=[None, 784])
    y_ = tf.placeholder(tf.float32, shape=[None, 10])
    W = tf.Variable(tf.zeros([784, 10]))
    b = tf.Variable(tf.zeros([10]))
    sess.run(tf.global_variables_initializer())
    y = tf.matmul(x, W) + b
    loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(y_, y))
    train_step: Any = tf.train.GradientDescentOptimizer(0.5).minimize(loss)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 200)
    images = rng.standard_normal((10, 784))[labels] * 0.1 + rng.standard_normal((200, 784)) * 0.02
    feeds = {x: images.astype(np.float32), y_: np.eye(10, dtype=np.float32)[labels]}
    assert loss.eval(feed_dict=feeds) == pytest.approx(np.log(10), rel=1e-6)
    for _ in range(20):
        train_step.run(feed_dict=feeds)
    right = tf.equal(tf.argmax(y, 1), tf.argmax(y_, 1))
    accuracy = tf.reduce_mean(tf.cast(right, tf.float32))
    assert accuracy.eval(feed_dict=feeds) > 0.99
    sess.close()


def test_a_variable_is_read_by_every_operator(session: gc.Session) -> None:
    v = gc.Variable([[1.0, -2.0], [3.0, 4.0]], name="v")
    a = np.array([[1.0, -2.0], [3.0, 4.0]], np.float32)
    cases = [
        (v + 1.0, a + 1), (1.0 - v, 1 - a), (v * v, a * a), (2.0 / v, 2 / a), (v // 2.0, a // 2),
        (v % 3.0, a % 3), (v**2.0, a**2), (v @ v, a @ a), (-v, -a), (abs(v), abs(a)),
        (v > 0.0, a > 0), (v <= 1.0, a <= 1), (v[0], a[0]), (v[:, ::-1], a[:, ::-1]),
        (np.ones((2, 2), np.float32) + v, a + 1),
    ]  # fmt: skip
    for got, want in zip(run(session, [c[0] for c in cases]), (c[1] for c in cases), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_iteration_length_and_shape(session: gc.Session) -> None:
    v = gc.Variable(np.arange(6, dtype=np.float32).reshape(3, 2), name="v")
    rows = run(session, list(v))
    np.testing.assert_array_equal(rows, np.arange(6).reshape(3, 2))
    assert (len(v), tuple(v.shape), v.get_shape().as_list()) == (3, (3, 2), [3, 2])
    assert (v.dtype, v.name, v.op.name) == (gc.float32, "v:0", "v")
    with pytest.raises(gc.errors.DTypeError, match="no truth value"):
        bool(v)


def test_names_are_made_unique() -> None:
    names = [gc.Variable(0.0, name="w").op.name for _ in range(3)]
    assert names == ["w", "w_1", "w_2"]
    with gc.name_scope("a"):
        assert gc.Variable(0.0).op.name == "a/Variable"
        assert gc.Variable(0.0).op.name == "a/Variable_1"


def test_initial_values(session: gc.Session) -> None:
    v = gc.Variable(lambda: gc.ones([2]) * 3.0)
    w = gc.Variable(v.initialized_value() * 2.0)
    i = gc.Variable(np.array([1, 2]))
    d = gc.Variable(1, dtype=gc.float64)
    got = run(session, [v, w, i, d])
    np.testing.assert_array_equal(got[0], [3, 3])
    np.testing.assert_array_equal(got[1], [6, 6])
    assert [x.dtype for x in (i, d)] == [gc.int64, gc.float64]


def test_assignments_and_their_values(session: gc.Session) -> None:
    v = gc.Variable(1.0)
    session.run(v.initializer)
    assert session.run(v.assign(5.0)) == 5.0
    assert session.run(gc.assign_add(v, 2.0)) == 7.0
    assert session.run(v.assign_sub(3)) == 4.0
    v.load(np.float32(9.0), session)
    assert v.eval() == 9.0


def test_reads_see_the_start_of_the_run(session: gc.Session) -> None:
    v = gc.Variable(1.0)
    change = v.assign(5.0)
    assert run(session, [v + 0.0, change]) == [1.0, 5.0]
    assert session.run(v) == 5.0


def test_reads_after_control_dependencies_see_what_was_assigned(session: gc.Session) -> None:
    v, w = gc.Variable(1.0), gc.Variable(10.0)
    with gc.control_dependencies([v.assign(5.0)]):
        inside = v * 2.0
        untouched = w * 2.0
        with gc.control_dependencies([v.assign_add(1.0)]):
            deeper = v.read_value()
        with gc.control_dependencies(None):
            outside = v * 2.0
    assert run(session, [inside, untouched, deeper, outside]) == [10.0, 20.0, 6.0, 2.0]


@pytest.mark.parametrize("way", ["group", "data", "nested"])
def test_assignments_are_found_through_ops(session: gc.Session, way: str) -> None:
    v = gc.Variable(1.0)
    change = v.assign(7.0)
    gates: dict[str, Any] = {
        "group": lambda: gc.group(gc.group(change)),
        "data": lambda: gc.sqrt(change) + 1.0,
        "nested": lambda: gc.tuple([gc.constant(0.0)], control_inputs=[change])[0],
    }
    gate = gates[way]()
    with gc.control_dependencies([gate]):
        read = gc.identity(v)
    assert run(session, read) == 7.0


def test_the_newest_assignment_wins(session: gc.Session) -> None:
    v = gc.Variable(1.0)
    first, second = v.assign(2.0), v.assign(3.0)
    with gc.control_dependencies([second, first]):
        read = gc.identity(v)
    assert run(session, read) == 3.0
    assert session.run(v) == 3.0


def test_collections() -> None:
    a = gc.Variable(0.0, name="a")
    b = gc.Variable(0.0, name="b", trainable=False)
    c = gc.Variable(0.0, name="c", collections=[gc.GraphKeys.LOCAL_VARIABLES], trainable=False)
    assert gc.global_variables() == [a, b]
    assert gc.trainable_variables() == [a]
    assert gc.local_variables() == [c]
    assert gc.get_collection(gc.GraphKeys.GLOBAL_VARIABLES, scope="b") == [b]


def test_local_variables_have_an_initializer_of_their_own(session: gc.Session) -> None:
    c = gc.Variable(4.0, collections=[gc.GraphKeys.LOCAL_VARIABLES], trainable=False)
    session.run(gc.global_variables_initializer())
    with pytest.raises(gc.errors.UninitializedError):
        session.run(c)
    session.run(gc.local_variables_initializer())
    assert session.run(c) == 4.0


def test_errors_come_while_building() -> None:
    x = gc.placeholder(gc.float32, [None])
    with pytest.raises(gc.errors.ShapeError, match="must be known"):
        gc.Variable(x)
    with pytest.raises(gc.errors.GraphError, match="needs an initial_value"):
        gc.Variable()
    v = gc.Variable([1.0, 2.0], name="v")
    with pytest.raises(gc.errors.ShapeError, match=r"cannot take .*test_variables.py"):
        v.assign([1.0, 2.0, 3.0])
    with pytest.raises(gc.errors.DTypeError):
        v.assign(gc.constant([1, 2]))
    with pytest.raises(gc.errors.GraphError, match="only a Variable"):
        gc.assign(x, 1.0)
    with pytest.raises(gc.errors.ShapeError):
        gc.Variable([1.0], expected_shape=[2])


def test_devices_are_checked_by_name() -> None:
    for name in ("/cpu:0", "/gpu:1", "/device:GPU:0", "/job:worker/task:1/gpu:0", None, ""):
        with gc.device(name):
            gc.constant(1.0)
    with pytest.raises(gc.errors.DeviceError, match="no device name"), gc.device("gpu zero"):
        pass


def test_groups_and_seeds() -> None:
    assert gc.get_default_session() is not None
    assert (
        gc.group(gc.constant(1.0), [gc.no_op(), None], name="g").control_inputs[0].name == "Const"
    )
    with pytest.raises(gc.errors.GraphError, match="seed"):
        gc.set_random_seed("a")  # type: ignore[arg-type]

"""Tensor arrays: by themselves, and in hand-written loops with gradients, against torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import graphc as tf
from graphc.ir.errors import AttributeValueError, DTypeError, ShapeError

RNG = np.random.default_rng(23)


@pytest.fixture
def session() -> Iterator[tf.Session]:
    """A session on a graph of its own."""
    with tf.Graph().as_default(), tf.Session(device="numpy") as made:
        yield made


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def test_rows_are_written_read_and_stacked(session: tf.Session) -> None:
    a, b = floats(3), floats(3)
    empty = tf.TensorArray(tf.float32, size=2)
    array = empty.write(1, b).write(0, a)
    assert array.size().node.op.name == "constant"
    stacked, row, picked = session.run([array.stack(), array.read(1), array.gather([1, 1, 0])])
    np.testing.assert_array_equal(stacked, [a, b])
    np.testing.assert_array_equal(row, b)
    np.testing.assert_array_equal(picked, [b, b, a])
    np.testing.assert_array_equal(session.run(array.concat()), np.concatenate([a, b]))
    again = array.write(0, b)  # the later write counts, and the old array keeps its row
    np.testing.assert_array_equal(session.run(again.stack()), [b, b])
    np.testing.assert_array_equal(session.run(array.read(0)), a)


def test_unstack_scatter_and_split(session: tf.Session) -> None:
    x = floats(5, 2)
    fed = tf.placeholder(tf.float32, [None, 2])
    array = tf.TensorArray(tf.float32, size=tf.shape(fed)[0]).unstack(fed)
    at = tf.placeholder(tf.int32, [])
    read = session.run([array.read(at), array.size(), array.concat()], {fed: x, at: 3})
    np.testing.assert_array_equal(read[0], x[3])
    assert read[1] == 5
    np.testing.assert_array_equal(read[2], x.ravel())
    put = tf.TensorArray(tf.float32, size=4).scatter([3, 0], x[:2]).write(1, x[2])
    np.testing.assert_array_equal(session.run(put.gather([0, 1, 3])), np.stack([x[1], x[2], x[0]]))
    parts = tf.TensorArray(tf.float32, size=2).split(x, [2, 3])
    np.testing.assert_array_equal(session.run(parts.read(1)), x[2:])
    np.testing.assert_array_equal(session.run(parts.concat()), x)
    even = tf.TensorArray(tf.float32, size=2).split(x[:4], [2, 2])
    assert session.run(even.stack()).shape == (2, 2, 2)


def test_what_was_never_written_is_zeros(session: tf.Session) -> None:
    array = tf.TensorArray(tf.float32, size=3).write(1, [1.0, 2.0])
    assert session.run(array.stack()).tolist() == [[0, 0], [1, 2], [0, 0]]
    grows = tf.TensorArray(tf.float32, dynamic_size=True).write(2, 5.0)
    assert session.run([grows.stack(), grows.size()])[0].tolist() == [0, 0, 5]


def recurrence(x: Any, w: Any, reads: bool) -> Any:
    """A recurrent layer as programs write it by hand: outputs [time, batch, units]."""
    steps = tf.shape(x)[0]
    inputs = tf.TensorArray(tf.float32, size=steps).unstack(x)
    outputs = tf.TensorArray(tf.float32, size=steps)

    def step(t: Any, h: Any, out: Any) -> Any:
        h = tf.tanh(tf.matmul(h, w) + inputs.read(t))
        out = out.write(t, h)
        return t + 1, out.read(t) if reads else h, out

    start = tf.zeros([tf.shape(x)[1], 3])
    return tf.while_loop(lambda t, *_: t < steps, step, [0, start, outputs])[2].stack()


@pytest.mark.parametrize("reads", [False, True])
def test_a_hand_written_rnn_and_its_gradients_are_torchs(session: tf.Session, reads: bool) -> None:
    data, weights = floats(4, 2, 3), floats(3, 3)
    x, w = tf.placeholder(tf.float32, [None, None, 3]), tf.Variable(weights)
    y = recurrence(x, w, reads)
    grads = tf.gradients(tf.reduce_sum(y * y), [w, x])
    session.run(w.initializer)
    got, (gw, gx) = session.run([y, grads], {x: data})
    tw, tx = (torch.tensor(a, requires_grad=True) for a in (weights, data))
    h, rows = torch.zeros(2, 3), []
    for t in range(4):
        h = torch.tanh(h @ tw + tx[t])
        rows.append(h)
    expected = torch.stack(rows)
    (expected**2).sum().backward()
    np.testing.assert_allclose(got, expected.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(gw, tw.grad.numpy(), atol=1e-5)
    np.testing.assert_allclose(gx, tx.grad.numpy(), atol=1e-5)


def test_one_row_per_step_is_stacked_and_not_copied(session: tf.Session) -> None:
    x, w = tf.placeholder(tf.float32, [None, 2, 3]), tf.Variable(np.eye(3, dtype=np.float32))
    ops = {n.op.name for n in session.graph.nodes}
    recurrence(x, w, reads=False)
    assert "scatter_update_nd" not in {n.op.name for n in session.graph.nodes} - ops


def test_rows_of_earlier_steps_may_be_read(session: tf.Session) -> None:
    array = tf.TensorArray(tf.int32, size=10, element_shape=[]).write(0, 1).write(1, 1)
    _, final = tf.while_loop(
        lambda i, a: i < 10, lambda i, a: (i + 1, a.write(i, a.read(i - 1) + a.read(i - 2))),
        [2, array],
    )  # fmt: skip
    assert session.run(final.stack()).tolist() == [1, 1, 2, 3, 5, 8, 13, 21, 34, 55]


def test_rows_before_the_loop_come_before_its_own(session: tf.Session) -> None:
    array = tf.TensorArray(tf.float32, size=4).write(0, 7.0)
    _, final = tf.while_loop(
        lambda i, a: i < 4, lambda i, a: (i + 1, a.write(i, tf.to_float(i))), [1, array]
    )
    assert session.run(final.stack()).tolist() == [7, 1, 2, 3]


def test_rows_may_be_written_backwards(session: tf.Session) -> None:
    x = floats(4, 2)
    fed = tf.placeholder(tf.float32, [4, 2])
    array = tf.TensorArray(tf.float32, size=4, element_shape=[2])
    _, total, final = tf.while_loop(
        lambda i, *_: i >= 0, lambda i, s, a: (i - 1, s + fed[i], a.write(i, s + fed[i])),
        [3, tf.zeros([2]), array],
    )  # fmt: skip
    (g,) = tf.gradients(tf.reduce_sum(final.stack() ** 2) + tf.reduce_sum(total), [fed])
    got, grad = session.run([final.stack(), g], {fed: x})
    theirs = torch.tensor(x, requires_grad=True)
    expected = torch.flip(torch.cumsum(torch.flip(theirs, [0]), 0), [0])
    ((expected**2).sum() + theirs.sum()).backward()
    np.testing.assert_allclose(got, expected.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(grad, theirs.grad.numpy(), atol=1e-5)


@pytest.mark.parametrize("most", [None, 50])
def test_loops_that_end_by_what_they_compute(session: tf.Session, most: int | None) -> None:
    start = tf.placeholder(tf.float32, [])

    def run(array: Any) -> Any:
        return tf.while_loop(
            lambda i, z, a: z < 20.0, lambda i, z, a: (i + 1, z * 2, a.write(i, z)),
            [0, start, array], maximum_iterations=most,
        )[2]  # fmt: skip

    if most is None:
        final = run(tf.TensorArray(tf.float32, size=5))
        assert session.run(final.stack(), {start: 3.0}).tolist() == [3, 6, 12, 0, 0]
    final = run(tf.TensorArray(tf.float32, size=0, dynamic_size=True))
    (g,) = tf.gradients(tf.reduce_sum(final.stack()), [start])
    assert session.run(final.stack(), {start: 3.0}).tolist() == [3, 6, 12]
    assert session.run([final.size(), g], {start: 8.0}) == [2, 3.0]


def test_what_a_tensor_array_refuses(session: tf.Session) -> None:
    array = tf.TensorArray(tf.float32, size=2)
    with pytest.raises(AttributeValueError, match="needs a size"):
        tf.TensorArray(tf.float32)
    with pytest.raises(ShapeError, match="outside a TensorArray of size 2"):
        array.write(2, 1.0)
    with pytest.raises(DTypeError, match="cast"):
        array.write(0, tf.constant(1))
    with pytest.raises(ShapeError, match="rows of a TensorArray"):
        array.write(0, [1.0, 2.0]).write(1, [1.0])
    with pytest.raises(ShapeError, match="element_shape"):
        array.stack()
    with pytest.raises(ShapeError, match="3 rows do not fit"):
        array.unstack([1.0, 2.0, 3.0])
    grows = tf.TensorArray(tf.float32, size=0, dynamic_size=True)
    with pytest.raises(ShapeError, match="greatest size that"):
        tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a.write(2 * i, 1.0)), [0, grows])
    with pytest.raises(AttributeValueError, match="must give a TensorArray"):
        tf.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, a.write(i, 1.0).stack()), [0, array])


def test_a_loop_variable_that_changes_its_shape_is_refused_with_the_remedy() -> None:
    with tf.Graph().as_default(), pytest.raises(ShapeError, match="TensorArray"):
        tf.while_loop(
            lambda i, z: i < 3, lambda i, z: (i + 1, tf.concat([z, z], 0)), [0, tf.zeros([2])],
            shape_invariants=[tf.TensorShape([]), tf.TensorShape([None])],
        )  # fmt: skip

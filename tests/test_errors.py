"""What bad input gets: an error of its own class, with the values, the line, and the remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc import errors


@pytest.fixture(autouse=True)
def session() -> Iterator[gc.Session]:
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        yield session


def x() -> gc.Tensor:
    """A float32 matrix of four columns."""
    return gc.placeholder(gc.float32, [None, 4], name="x")


def image() -> gc.Tensor:
    return gc.ones([1, 8, 8, 3])


def filters(channels: int = 3) -> gc.Tensor:
    return gc.ones([3, 3, channels, 8])


STEPS = [1, 1, 1, 1]
# what is built, the error's class, a piece of its text
BUILT: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "matmul": (lambda: gc.matmul(x(), gc.ones([5, 2])), errors.ShapeError, r"\[x.0, 4\].*\[5, 2\]"),
    "matmul, transposed": (
        lambda: gc.matmul(x(), gc.ones([5, 4])), errors.ShapeError, "transpose_b=True"),
    "matmul of a vector": (lambda: gc.matmul(x(), gc.ones([4])), errors.ShapeError, "rank 2"),
    "two dtypes": (lambda: x() + gc.constant(1, gc.int32), errors.DTypeError, "cast"),
    "two shapes": (lambda: x() + gc.ones([3]), errors.ShapeError, r"\[x.0, 4\] and \[3\]"),
    "a text": (lambda: x() + "a", errors.DTypeError, "'a' is a tensor of strings, not of float32"),
    "None": (lambda: x() + None, errors.DTypeError, "None is no tensor"),
    "an object": (lambda: gc.constant(object()), errors.DTypeError, "is no tensor"),
    "a ragged list": (lambda: gc.constant([[1, 2], [3]]), errors.ShapeError, "is no tensor"),
    "a number too large": (lambda: gc.constant(300, gc.int8), errors.DTypeError, "300.*int8"),
    "a number beyond all": (lambda: gc.constant(2**70), errors.DTypeError, "is no tensor"),
    "a complex number": (lambda: gc.constant(1j), errors.DTypeError, "complex"),
    "a fraction as integer": (lambda: gc.constant(1.5, gc.int32), errors.DTypeError, "1.5"),
    "an unknown dtype": (lambda: gc.placeholder("real", [1]), errors.DTypeError, "float32"),
    "no dtype": (lambda: gc.placeholder(None, [1]), errors.DTypeError, "None"),
    "an axis outside": (lambda: gc.reduce_sum(x(), 5), errors.AttributeValueError, "rank 2"),
    "half an axis": (lambda: gc.reduce_sum(x(), 1.5), errors.AttributeValueError, "1.5"),
    "reshape": (lambda: gc.reshape(gc.ones([3]), [2, 2]), errors.ShapeError, "3 elements"),
    "two -1": (lambda: gc.reshape(x(), [-1, -1]), errors.AttributeValueError, "more than one -1"),
    "a text as shape": (lambda: gc.reshape(x(), "ab"), errors.ShapeError, "'ab'"),
    "half a size": (lambda: gc.reshape(x(), [1.5, 2]), errors.ShapeError, "1.5"),
    "a negative size": (lambda: gc.zeros([2, -1]), errors.ShapeError, "negative"),
    "permutation": (lambda: gc.transpose(x(), [0, 0]), errors.AttributeValueError, "permutation"),
    "concat": (
        lambda: gc.concat([x(), gc.ones([2, 3])], 0), errors.ShapeError, "4 is not 3"),
    "concat of none": (lambda: gc.concat([], 0), errors.AttributeValueError, "at least one"),
    "stack of one": (lambda: gc.stack(x()), errors.AttributeValueError, "a list"),
    "split": (lambda: gc.split(gc.ones([5]), 2), errors.ShapeError, "5 cannot be split into 2"),
    "index outside": (lambda: x()[:, 7], errors.ShapeError, "7 is outside a dim of size 4"),
    "too many indices": (lambda: x()[0, 0, 0], errors.ShapeError, "3 indices"),
    "half an index": (lambda: x()[1.0], errors.AttributeValueError, "1.0"),
    "a slice that stands": (lambda: x()[::0], errors.AttributeValueError, "not 0"),
    "gather by floats": (lambda: gc.gather(x(), x()), errors.DTypeError, "integer indices"),
    "one_hot of floats": (lambda: gc.one_hot(gc.ones([2]), 3), errors.DTypeError, "integer"),
    "pad by less than none": (
        lambda: gc.pad(x(), [[-1, 1], [0, 0]]), errors.AttributeValueError, "negative"),
    "pad of too few dims": (lambda: gc.pad(x(), [[1, 1]]), errors.ShapeError, "per dim"),
    "a truth value": (lambda: bool(x()), errors.DTypeError, "no truth value"),
    "as an array": (lambda: np.array(x()), errors.DTypeError, "run it in a session"),
    "iteration": (lambda: list(x()), errors.DTypeError, "iterated"),
    "channels": (
        lambda: gc.nn.conv2d(image(), filters(4), STEPS, "SAME"), errors.ShapeError, "3 channels"),
    "padding": (
        lambda: gc.nn.conv2d(image(), filters(), STEPS, "BAD"),
        errors.AttributeValueError, "'SAME', 'VALID'"),
    "strides": (
        lambda: gc.nn.conv2d(image(), filters(), [1, 0, 0, 1], "SAME"),
        errors.AttributeValueError, "positive"),
    "strides of the batch": (
        lambda: gc.nn.conv2d(image(), filters(), [2, 1, 1, 1], "SAME"),
        errors.AttributeValueError, "batch"),
    "a window too large": (
        lambda: gc.nn.conv2d(image()[:, :2, :2], filters(), STEPS, "VALID"),
        errors.ShapeError, "does not fit"),
    "a variable without a value": (lambda: gc.Variable(), errors.GraphError, "initial_value"),
    "a variable twice": (
        lambda: (gc.get_variable("w", [2]), gc.get_variable("w", [2])),
        errors.GraphError, "already exists.*reuse"),
    "assign": (
        lambda: gc.Variable(gc.ones([4])).assign(gc.ones([3])),
        errors.ShapeError, r"float32\[4\].*float32\[3\]"),
    "assign to no variable": (lambda: gc.assign(x(), x()), errors.GraphError, "Variable"),
    "a name": (lambda: gc.placeholder(gc.float32, name="a b"), errors.GraphError, "'a b'"),
    "a rate per column": (
        lambda: gc.train.AdamOptimizer([1.0, 2.0]).minimize(gc.reduce_sum(gc.Variable(x_ones()))),
        errors.ShapeError, "scalar"),
    "nothing to train": (
        lambda: gc.train.AdamOptimizer().minimize(gc.reduce_sum(x())),
        errors.GradientError, "no variables"),
    "a loss of something else": (
        lambda: (gc.Variable(1.0), gc.train.AdamOptimizer().minimize(gc.reduce_sum(x())))[1],
        errors.GradientError, "does not depend"),
    "a loss behind argmax": (
        lambda: gc.train.AdamOptimizer().minimize(
            gc.cast(gc.argmax(gc.Variable(x_ones()), 1, name="guess"), gc.float32)),
        errors.GradientError, "no gradient goes through op 'guess' of type 'argmax'"),
    "labels of another shape": (
        lambda: gc.nn.softmax_cross_entropy_with_logits(gc.ones([2, 3]), gc.ones([2, 4])),
        errors.ShapeError, "3 is not 4"),
    "an unknown tensor": (
        lambda: gc.get_default_graph().get_tensor_by_name("no:0"),
        errors.NameNotFoundError, "no op 'no'"),
    "where alone": (lambda: gc.where(x() > 0, x()), errors.AttributeValueError, "neither"),
}  # fmt: skip


def x_ones() -> gc.Tensor:
    return gc.ones([3, 4])


@pytest.mark.parametrize("name", list(BUILT))
def test_while_building(name: str) -> None:
    build, kind, text = BUILT[name]
    with pytest.raises(kind, match=text) as caught:
        build()
    assert isinstance(caught.value, errors.GraphcError)
    assert "test_errors.py:" in str(caught.value), "the message names the user's line"


RUN: dict[str, tuple[Callable[[gc.Session], Any], type[Exception], str]] = {
    "a feed is missing": (lambda s: s.run(x() + 1.0), errors.FeedError, "'x'.*must be fed"),
    "a shape": (
        lambda s: s.run(x() + 1.0, {"x:0": np.ones((2, 5))}),
        errors.FeedError, r"\[2, 5\].*\[x.0, 4\]"),
    "a rank": (lambda s: s.run(x() + 1.0, {"x": np.ones(4)}), errors.FeedError, r"\[4\]"),
    "a text": (lambda s: s.run(x() + 1.0, {"x": "abc"}), errors.FeedError, "str abc.*float32"),
    "None": (lambda s: s.run(x() + 1.0, {"x": None}), errors.FeedError, "None"),
    "ragged": (lambda s: s.run(x() + 1.0, {"x": [[1, 2], [3]]}), errors.FeedError, "no tensor"),
    "a tensor": (lambda s: s.run(x() + 1.0, {"x": gc.ones([2])}), errors.FeedError, "its value"),
    "fractions as integers": (
        lambda s: s.run(gc.placeholder(gc.int32, name="i") + 1, {"i": 1.5}),
        errors.FeedError, "1.5.*int32"),
    "an integer too large": (
        lambda s: s.run(gc.placeholder(gc.int32, name="i") + 1, {"i": 2**40}),
        errors.FeedError, "1099511627776"),
    "a key that is no tensor": (lambda s: s.run(x(), {3: 1}), errors.FeedError, "3 of type int"),
    "a key without an op": (lambda s: s.run(x(), {"no": 1}), errors.FeedError, "no op 'no'"),
    "a fetch of nothing": (lambda s: s.run(None), errors.FetchError, "None"),
    "a fetch of a set": (lambda s: s.run({x()}), errors.FetchError, "set"),
    "a fetch of an array": (lambda s: s.run(np.ones(2)), errors.FetchError, "ndarray"),
    "a fetch of another graph": (
        lambda s: gc.Session(graph=gc.Graph(), device="numpy").run(x()),
        errors.FetchError, "another graph"),
    "an unknown fetch": (lambda s: s.run("no:0"), errors.FetchError, "no op 'no'"),
    "before the initializer": (
        lambda s: s.run(gc.Variable(1.0, name="v")), errors.UninitializedError, "'v'.*initializer"),
    "a closed session": (lambda s: (s.close(), s.run(gc.ones([1]))), errors.SessionError, "closed"),
    "a device": (lambda s: gc.Session(device="tpu"), errors.DeviceError, "triton, native, numpy"),
    "a setting": (lambda s: gc.Session(fusee=True), errors.SettingError, "fuse"),
    "a setting's type": (lambda s: gc.Session(threads="a"), errors.SettingError, "integer"),
    "a setting's value": (lambda s: gc.Session(threads=0), errors.SettingError, "at least 1"),
    "a flag": (lambda s: gc.Session(fuse=1), errors.SettingError, "True or False"),
    "a folder": (lambda s: gc.Session(dump="/proc/no/x"), errors.SettingError, "/proc/no/x"),
    "a checkpoint": (
        lambda s: (gc.Variable(1.0), gc.train.Saver().restore(s, "/no/model"))[1],
        errors.CheckpointError, "/no/model"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(RUN))
def test_while_running(session: gc.Session, name: str) -> None:
    act, kind, text = RUN[name]
    with pytest.raises(kind, match=text) as caught:
        act(session)
    assert isinstance(caught.value, errors.GraphcError)
    assert "test_errors.py:" in str(caught.value), "the message names the user's line"


def test_a_line_is_named_once() -> None:
    with pytest.raises(errors.ShapeError) as caught:
        gc.matmul(x(), gc.ones([5, 2]))
    assert str(caught.value).count("test_errors.py:") == 1
    assert caught.value.where is not None and caught.value.where.function.startswith("test_a_line")

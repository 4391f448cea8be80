"""Loops and branches: values, gradients, what is computed where, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.ir.computation import cut
from graphc.ir.errors import (
    AttributeValueError,
    DTypeError,
    ShapeError,
    UnsupportedOp,
)
from graphc.ir.interpret import evaluate
from graphc.ir.text import parse, print_computation
from tests.control_programs import PROGRAMS, check, fetches_and_feeds


@pytest.fixture(autouse=True)
def _graph() -> Iterator[None]:
    with gc.Graph().as_default():
        yield


def run(fetches: Any, feeds: dict[Any, Any] | None = None, **settings: Any) -> Any:
    with gc.Session(device="numpy", check_passes=True, **settings) as session:
        session.run(gc.global_variables_initializer())
        return session.run(fetches, feeds)


@pytest.mark.parametrize("name", PROGRAMS)
def test_means_what_numpy_says(name: str) -> None:
    fetches, feeds = fetches_and_feeds(PROGRAMS[name])
    given = {p.node: x for p, x in feeds.items()}
    check(PROGRAMS[name], evaluate(fetches, given))


@pytest.mark.parametrize("name", PROGRAMS)
def test_on_numpy(name: str) -> None:
    fetches, feeds = fetches_and_feeds(PROGRAMS[name])
    check(PROGRAMS[name], run(fetches, feeds))


@pytest.mark.parametrize("name", PROGRAMS)
def test_text_parses_back(name: str) -> None:
    fetches, feeds = fetches_and_feeds(PROGRAMS[name])
    computation = cut(fetches, (), list(feeds))
    text = print_computation(computation)
    again = parse(text)
    assert print_computation(again) == text
    given = dict(zip(again.inputs, feeds.values(), strict=True))
    check(PROGRAMS[name], evaluate(again.outputs, given))


# -- what is computed where


def kernels(fetches: Any) -> list[Any]:
    return [k for k in gc.explain(fetches, device="numpy").program.kernels]


def rnn() -> tuple[Any, list[Any]]:
    x, w = gc.placeholder(gc.float32, [9, 8, 5]), gc.placeholder(gc.float32, [11, 6])
    h = gc.foldl(lambda h, t: gc.tanh(gc.matmul(gc.concat([t, h], 1), w)), x, gc.zeros([8, 6]))
    return h, [x, w]


def test_a_recurrent_step_is_one_kernel_and_the_projection_is_outside() -> None:
    h, _ = rnn()
    outside = kernels(h)
    (loop,) = (k for k in outside if k.form == "loop")
    assert [k.form for k in loop.programs[0].kernels] == ["dot"]
    (projection,) = (k for k in outside if k.form == "dot")
    assert projection.space == 9 * 8 * 6 * 5  # all steps at once


def test_inference_saves_nothing_for_gradients() -> None:
    h, _ = rnn()
    (loop,) = (k for k in kernels(h) if k.form == "loop")
    assert loop.body[0].stacked == ()


def test_the_gradient_of_weights_is_one_product_over_all_steps() -> None:
    h, inputs = rnn()
    outside = kernels(gc.gradients(h, inputs[1]))
    backward = [k for k in outside if k.form == "loop"][-1]
    assert backward.body[0].reverse
    assert len(backward.body[0].carried) == 1  # the state's gradient, but no sum for w
    last = outside[-1]
    assert last.form == "dot"
    assert last.space == 11 * 6 * 9 * 8


def test_what_no_step_changes_is_not_carried() -> None:
    x = gc.placeholder(gc.float32, [3])
    y = gc.while_loop(lambda i, a, b: i < 3, lambda i, a, b: (i + 1, a * b, b), [0, x, x])
    (loop,) = (k for k in kernels(y[1]) if k.form == "loop")
    assert len(loop.body[0].carried) == 1
    np.testing.assert_array_equal(run(y[2], {x: [1, 2, 3]}), [1, 2, 3])


def test_fetching_all_of_a_loop() -> None:
    x = gc.placeholder(gc.float32, [2])
    fetches = gc.while_loop(lambda i, a: i < 3, lambda i, a: (i + 2, a + 1.0), [0, x])
    i, a = run(fetches, {x: [0, 1]})
    assert i == 4
    np.testing.assert_array_equal(a, [2, 3])


def test_only_the_taken_branch_runs() -> None:
    """An endless loop in the other one would never return."""
    p = gc.placeholder(gc.bool, [])

    def forever() -> Any:
        return gc.while_loop(lambda a: a > 0.0, lambda a: a * 1.0, [1.0])

    result = gc.cond(p, forever, lambda: gc.constant(2.0))
    with gc.Session(device="numpy") as session:
        assert session.run(result, {p: False}) == 2.0


def test_steps_by_a_fed_number() -> None:
    n = gc.placeholder(gc.int32, [])
    fib = gc.while_loop(lambda i, a, b: i < n, lambda i, a, b: (i + 1, b, a + b), [0, 0, 1])[1]
    with gc.Session(device="numpy") as session:
        assert [session.run(fib, {n: k}) for k in (0, 1, 10, 20)] == [0, 1, 55, 6765]


def test_unknown_sizes() -> None:
    x = gc.placeholder(gc.float32, [None, None])
    y = gc.map_fn(lambda r: r / gc.reduce_sum(r), x)
    g = gc.gradients(gc.reduce_sum(y * y), x)
    with gc.Session(device="numpy") as session:
        for shape in ((2, 3), (5, 1), (1, 4)):
            data = np.random.default_rng(1).random(shape, np.float32) + 0.5
            value, _ = session.run([y, g], {x: data})
            np.testing.assert_allclose(value, data / data.sum(1, keepdims=True), rtol=1e-5)


def test_second_derivative_of_a_loop() -> None:
    x = gc.placeholder(gc.float64, [])
    y = gc.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a * a), [0, x])[1]
    (first,) = gc.gradients(y, x)
    (second,) = gc.gradients(first, x)
    np.testing.assert_allclose(run([first, second], {x: 1.1}), [8 * 1.1**7, 56 * 1.1**6])


def test_second_derivative_of_a_branch() -> None:
    x = gc.placeholder(gc.float64, [])
    y = gc.cond(x > 0.0, lambda: x**3, lambda: x * x)
    (second,) = gc.gradients(gc.gradients(y, x), x)
    assert run(second, {x: 2.0}) == pytest.approx(12)
    assert run(second, {x: -2.0}) == pytest.approx(2)


# -- randomness and state


def test_random_numbers_differ_by_step_and_run_and_repeat_by_seed() -> None:
    x = gc.zeros([4, 100])
    drawn = gc.map_fn(lambda r: r + gc.random_uniform([100], seed=3), x)
    with gc.Session(device="numpy") as session:
        first, second = session.run(drawn), session.run(drawn)
    rows = np.concatenate([first, second])
    assert len(np.unique(rows, axis=0)) == 8
    with gc.Session(device="numpy") as session:
        np.testing.assert_array_equal(session.run(drawn), first)


def test_gradient_sees_the_masks_of_the_forward_steps() -> None:
    x = gc.placeholder(gc.float32, [3, 50])
    y = gc.map_fn(lambda r: gc.nn.dropout(r, 0.5), x)
    value, grad = run([y, gc.gradients(y, x)[0]], {x: np.ones((3, 50))})
    np.testing.assert_array_equal(value, grad)
    assert 0 < (value == 0).sum() < value.size


def test_assignments_in_the_branch_that_runs() -> None:
    p, v = gc.placeholder(gc.bool, []), gc.Variable(1.0)
    w = gc.Variable(5.0)
    done = gc.cond(p, lambda: gc.group(v.assign_add(2.0), w.assign(0.0)), gc.no_op)
    value = gc.cond(p, lambda: v.assign_add(10.0), lambda: v.assign_sub(1.0))
    with gc.Session(device="numpy") as session:
        session.run(gc.global_variables_initializer())
        session.run(done, {p: False})
        assert session.run([v, w]) == [1, 5]
        session.run(done, {p: True})
        assert session.run([v, w]) == [3, 0]
        assert session.run(value, {p: True}) == 13
        assert session.run(value, {p: False}) == 12
        assert session.run(v) == 12


def test_variables_train_through_a_loop() -> None:
    v = gc.Variable(0.5)
    y = gc.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a * v), [0, 1.0])[1]
    step = gc.train.GradientDescentOptimizer(0.002).minimize(gc.square(y - 8.0))
    with gc.Session(device="numpy") as session:
        session.run(gc.global_variables_initializer())
        for _ in range(200):
            session.run(step)
        assert session.run(v) == pytest.approx(2.0, abs=1e-3)


def test_a_python_bool_chooses_now() -> None:
    assert gc.cond(True, lambda: 3, lambda: 4) == 3


def test_a_constant_condition_leaves_no_branch() -> None:
    x = gc.placeholder(gc.float32, [2])
    y = gc.cond(gc.constant(False), lambda: x * 2.0, lambda: x[:1] * 3.0)
    assert [k.form for k in kernels(y)] == ["flat"]


def test_branches_of_other_shapes_by_a_fed_condition() -> None:
    x = gc.placeholder(gc.float32, [])
    y = gc.cond(x > 0.0, lambda: gc.ones([2]), lambda: gc.ones([3]))
    assert y.shape.as_list() == [None]
    with gc.Session(device="numpy") as session:
        assert [len(session.run(y, {x: v})) for v in (1.0, -1.0, 2.0)] == [2, 3, 2]


def test_branches_of_other_shapes_by_a_computed_condition() -> None:
    v = gc.Variable(1.0)
    y = gc.cond(v > 0.0, lambda: gc.ones([2]), lambda: gc.ones([3]))
    with pytest.raises(ShapeError, match="different shapes"):
        run(y)


def test_switch_case() -> None:
    k = gc.placeholder(gc.int32, [])
    y = gc.switch_case(k, [lambda: gc.constant(1.0), lambda: gc.constant(2.0)])
    assert [run(y, {k: i}) for i in (0, 1, 7)] == [1, 2, 2]


# -- what is refused


def scalar() -> Any:
    return gc.placeholder(gc.float32, [], name="s")


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "shape changes": (
        lambda: gc.while_loop(
            lambda i, a: i < 3, lambda i, a: (i + 1, gc.concat([a, a], 0)), [0, gc.zeros([2])]
        ),
        ShapeError, "keeps its shape",
    ),
    "dtype changes": (
        lambda: gc.while_loop(lambda i: i < 3, lambda i: gc.cast(i, gc.float32), [0]),
        DTypeError, "int32.*float32",
    ),
    "condition is no bool": (
        lambda: gc.while_loop(lambda i: i, lambda i: i + 1, [0]), DTypeError, "must give a bool",
    ),
    "another number of variables": (
        lambda: gc.while_loop(lambda i, a: i < 3, lambda i, a: i + 1, [0, 1.0]),
        AttributeValueError, "the body must give what it takes",
    ),
    "no variables": (
        lambda: gc.while_loop(lambda: True, lambda: (), []), AttributeValueError, "loop variables",
    ),
    "branches of other dtypes": (
        lambda: gc.cond(scalar() > 0.0, lambda: gc.constant(1), lambda: gc.constant(1.0)),
        DTypeError, "int32.*float32",
    ),
    "branches of other structures": (
        lambda: gc.cond(scalar() > 0.0, lambda: [scalar(), scalar()], lambda: [scalar()]),
        AttributeValueError, "different structures",
    ),
    "condition of a branch": (
        lambda: gc.cond(scalar(), lambda: scalar(), lambda: scalar()), DTypeError, "bool scalar",
    ),
    "slices of a scalar": (
        lambda: gc.map_fn(lambda r: r, scalar()), ShapeError, "no first axis",
    ),
    "dtype of map_fn": (
        lambda: gc.map_fn(lambda r: r, gc.zeros([2]), dtype=gc.int32), DTypeError, "dtype says",
    ),
    "assignment in a loop": (
        lambda: gc.map_fn(lambda r: gc.Variable(1.0, name="v").assign_add(r), gc.zeros([2])),
        UnsupportedOp, "cannot assign the variable 'map/v",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    build, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        build()


def test_lengths_that_differ_are_an_error() -> None:
    x, y = gc.placeholder(gc.float32, [None]), gc.placeholder(gc.float32, [None])
    total = gc.map_fn(lambda e: e[0] + e[1], (x, y))
    with pytest.raises(ShapeError, match="slice by slice"):
        run(total, {x: [1, 2], y: [1, 2, 3]})


def until(total: Any, a: Any, w: Any, add: Any) -> Any:
    """a -> w * a + sin(a), until its sum is large enough; in the words of graphc or of torch."""
    while total(a) < 50.0:
        a = a * w + add(a)
    return a


@pytest.mark.parametrize("start", [[1.0, 2.0, 3.0], [0.1, 0.2, 0.3], [100.0, 1.0, 1.0]])
def test_gradients_of_loops_that_end_by_what_they_compute(start: list[float]) -> None:
    import torch

    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        x, w = gc.placeholder(gc.float32, [3]), gc.Variable(1.5)
        _, y = gc.while_loop(
            lambda i, a: gc.reduce_sum(a) < 50.0, lambda i, a: (i + 1, a * w + gc.sin(a)), [0, x]
        )
        grads = gc.gradients(gc.reduce_sum(y * y), [w, x])
        session.run(w.initializer)
        got, (gw, gx) = session.run([y, grads], {x: start})
    tx, tw = torch.tensor(start, requires_grad=True), torch.tensor(1.5, requires_grad=True)
    end = until(lambda a: a.sum(), tx, tw, torch.sin)
    (end * end).sum().backward()
    np.testing.assert_allclose(got, end.detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(gw, 0.0 if tw.grad is None else tw.grad.numpy(), rtol=1e-4)
    np.testing.assert_allclose(gx, tx.grad.numpy(), rtol=1e-4)


def test_inside_a_loop_such_a_loop_must_be_bounded() -> None:
    def inner(a: Any) -> Any:
        return gc.while_loop(lambda b: b < 9.0, lambda b: b * 2.0, [a])

    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        x = gc.placeholder(gc.float32, [])
        _, y = gc.while_loop(lambda i, a: i < 2, lambda i, a: (i + 1, inner(a) / 4.0), [0, x])
        (g,) = gc.gradients(y, [x])
        assert session.run(y, {x: 1.0}) == 4.0  # 1 -> 16 / 4 -> 16 / 4
        with pytest.raises(ShapeError, match="maximum_iterations"):
            session.run(g, {x: 1.0})

"""gradients(): against torch, of second order, what is None, what is an error, linear time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import graphc as gc
from graphc.ir.table import Kind, NoGradient, Op


@pytest.fixture(autouse=True)
def session() -> Iterator[gc.Session]:
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        yield session


def _relu(x: Any) -> Any:
    return torch.relu(x) if isinstance(x, torch.Tensor) else gc.nn.relu(x)


def _total(x: Any) -> Any:
    return x.sum() if isinstance(x, torch.Tensor) else gc.reduce_sum(x)


def _tanh(x: Any) -> Any:
    return torch.tanh(x) if isinstance(x, torch.Tensor) else gc.tanh(x)


NETS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "layer": lambda x, w, b: _total(_relu(x @ w + b)),
    "deep": lambda x, w, b: _total(_tanh(_tanh(x @ w + b) * b) ** 2.0),
    "used twice": lambda x, w, b: _total((x @ w) * (x @ w) + b * b),
    "indexed": lambda x, w, b: _total((x @ w)[:, 1:3] * b[1:3] + b[0]),
    "division": lambda x, w, b: _total(1.0 / (2.0 + _tanh(x @ w) * _tanh(b))),
}


@pytest.mark.parametrize("static", [True, False], ids=["static", "unknown"])
@pytest.mark.parametrize("name", NETS)
def test_against_torch(session: gc.Session, name: str, static: bool) -> None:
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in ((5, 3), (3, 4), (4,))]
    shapes = [a.shape if static else (None,) * a.ndim for a in arrays]
    inputs = [gc.placeholder(gc.float32, s) for s in shapes]
    grads = gc.gradients(NETS[name](*inputs), inputs)
    got = session.run(grads, dict(zip(inputs, arrays, strict=True)))
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    want = torch.autograd.grad(NETS[name](*tensors), tensors)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w.numpy(), rtol=2e-5, atol=1e-5)


def test_second_and_third_order(session: gc.Session) -> None:
    x = gc.placeholder(gc.float32, [None])
    y = gc.reduce_sum(gc.exp(x) * gc.sin(x))
    orders: list[Any] = []
    for _ in range(3):
        (y,) = gc.gradients(y, x)
        orders.append(y)
    points = np.linspace(-1, 1, 7, dtype=np.float32)
    t = torch.tensor(points, requires_grad=True)
    value = (torch.exp(t) * torch.sin(t)).sum()
    for got in session.run(orders, {x: points}):
        (value,) = torch.autograd.grad(value.sum(), t, create_graph=True)
        np.testing.assert_allclose(got, value.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_grad_ys_weigh_and_several_ys_add(session: gc.Session) -> None:
    x = gc.constant([1.0, 2.0])
    (weighed,) = gc.gradients(x * x, x, grad_ys=[[10.0, 1.0]])
    (both,) = gc.gradients([x * 2.0, x * 3.0], x)
    got = session.run([weighed, both])
    np.testing.assert_array_equal(got, [[20, 4], [5, 5]])
    with pytest.raises(gc.errors.GradientError, match="as many grad_ys"):
        gc.gradients([x, x], x, grad_ys=[1.0])
    with pytest.raises(gc.errors.ShapeError, match="grad_ys"):
        gc.gradients(x * x, x, grad_ys=[[1.0, 2.0, 3.0]])


def test_inner_tensors_and_stops(session: gc.Session) -> None:
    a = gc.constant(3.0)
    b = a * 2.0
    y = a * b
    whole = gc.gradients(y, [a, b])
    stopped = gc.gradients(y, [a, b], stop_gradients=[a, b])
    only_a = gc.gradients(y, [a], stop_gradients=[b])
    assert session.run(whole) == [12.0, 3.0]
    assert session.run(stopped) == [6.0, 3.0]
    assert session.run(only_a) == [6.0]
    assert session.run(gc.gradients(a * gc.stop_gradient(b), a)) == [6.0]


def test_unconnected_is_none_or_zero(session: gc.Session) -> None:
    x, y = gc.constant([1.0, 2.0]), gc.constant(1.0)
    assert gc.gradients(y * 2.0, [x]) == [None]
    assert gc.gradients(gc.stop_gradient(x), [x]) == [None]
    assert gc.gradients(gc.cast(gc.argmax(x), gc.float32), [x]) == [None]
    assert gc.gradients(gc.cast(gc.cast(x, gc.int32), gc.float32), [x]) == [None]
    (zero,) = gc.gradients(y * 2.0, [x], unconnected_gradients="zero")
    np.testing.assert_array_equal(session.run(zero), [0, 0])
    with pytest.raises(gc.errors.AttributeValueError, match="unconnected"):
        gc.gradients(y, [x], unconnected_gradients="ones")


def test_an_op_without_gradient_is_named_with_its_line() -> None:
    opaque = Op(
        "opaque_for_test", Kind.OPAQUE, lambda types, attrs: types[0],
        grad=NoGradient("a test said so"),
    )  # fmt: skip
    x = gc.constant(1.0)
    y = opaque(x, name="wall") * 2.0
    with pytest.raises(gc.errors.GradientError, match=r"'wall'.*test_gradients.py:\d+.*test said"):
        gc.gradients(y, x)
    # also where another path is open: half a gradient is a wrong one
    with pytest.raises(gc.errors.GradientError, match="wall"):
        gc.gradients(y + x, x)
    assert gc.gradients(y, gc.constant(1.0)) == [None]  # not on the way: no error


def test_integers_have_no_gradient() -> None:
    with pytest.raises(gc.errors.GradientError, match="int32; cast it"):
        gc.gradients(gc.constant(1), gc.constant(1.0))
    with pytest.raises(gc.errors.GradientError, match="at least one y"):
        gc.gradients([], gc.constant(1.0))


def test_every_reading_of_a_variable_counts(session: gc.Session) -> None:
    v = gc.Variable(3.0)
    before = v * v
    with gc.control_dependencies([v.assign(5.0)]):
        after = v * 10.0
    (g,) = gc.gradients(before + after, v)
    session.run(gc.global_variables_initializer())
    assert session.run(g) == 16.0  # 2 * 3 + 10


def test_names_and_lines_of_gradient_ops(session: gc.Session) -> None:
    x = gc.placeholder(gc.float32, [2], name="x")
    y = gc.tanh(x, name="net/act")
    (g,) = gc.gradients(y, x)
    assert g is not None
    assert g.op.name.startswith("gradients/net/act_grad/")
    assert g.op.where == y.op.where  # not the line that called gradients()
    (second,) = gc.gradients(y, x)
    assert second is not None and second.op.name.startswith("gradients_1/")


def test_time_is_linear_and_nothing_recurses() -> None:
    x = gc.placeholder(gc.float32, [3])
    y = x
    for _ in range(4000):
        y = y * 1.5 + x
    (g,) = gc.gradients(y, x)
    nodes = len(gc.get_default_graph().nodes)
    assert g is not None and nodes < 10 * 12000


def test_a_shared_value_gets_one_gradient() -> None:
    """Each op's rule is applied once, however many readers it has."""
    x = gc.placeholder(gc.float32, [3])
    y = gc.exp(x)
    for _ in range(30):  # 2^30 paths
        y = y + y
    gc.gradients(y, x)
    assert len(gc.get_default_graph().nodes) < 300

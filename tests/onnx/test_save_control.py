"""Loops and branches as ONNX models: checked, run by onnxruntime, and loaded back bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import graphc as gc
from graphc.ir.errors import UnsupportedOp
from graphc.onnx import load, save

cells = gc.nn.rnn_cell
STEPS = (None, 5, 3)
MATRIX = (3, 4)


def rnn(cell: Callable[[], Any], **options: Any) -> Callable[[Any], Any]:
    def build(x: Any) -> Any:
        y, state = gc.nn.dynamic_rnn(cell(), x, dtype=gc.float32, **options)
        return [y, *(state if isinstance(state, tuple) else [state])]

    return build


def bidirectional(x: Any) -> Any:
    lengths = gc.constant([2, 5])
    both, _ = gc.nn.bidirectional_dynamic_rnn(
        cells.GRUCell(4), cells.LSTMCell(2), x, sequence_length=lengths, dtype=gc.float32
    )
    return list(both)


def gradient(build: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: gc.gradients(gc.reduce_sum(gc.square(build(x)[0])), [x])


def counted(x: Any) -> Any:
    return gc.while_loop(
        lambda i, y: i < 5, lambda i, y: (i + 1, gc.tanh(y * 1.5) + gc.cast(i, gc.float32)), [0, x]
    )  # fmt: skip


def over_its_shape(x: Any) -> Any:
    count = gc.shape(x)[0]
    return gc.while_loop(
        lambda i, y: i < count, lambda i, y: (i + 1, y + x[i]), [0, gc.zeros([4])]
    )[1]  # fmt: skip


def until(x: Any, most: int | None = None) -> Any:
    return gc.while_loop(
        lambda y: gc.reduce_sum(y) < 100.0, lambda y: (y * 1.5 + gc.abs(gc.tanh(y)),), [gc.abs(x)],
        maximum_iterations=most,
    )  # fmt: skip


def branch(x: Any) -> Any:
    return gc.cond(gc.reduce_sum(x) > 0.0, lambda: gc.sin(x) * 2.0, lambda: gc.tanh(x))


def branch_in_a_loop(x: Any) -> Any:
    def step(i: Any, y: Any) -> Any:
        return i + 1, gc.cond(gc.reduce_sum(y) > 3.0, lambda: y - 1.0, lambda: y * y + 1.0)

    return gc.while_loop(lambda i, y: i < 4, step, [0, x])[1]


def loop_in_a_map(x: Any) -> Any:
    def inner(row: Any) -> Any:
        return gc.while_loop(
            lambda i, y: i < 3, lambda i, y: (i + 1, y + row * gc.cast(i, gc.float32)), [0, row]
        )[1]  # fmt: skip

    return gc.map_fn(inner, x)


# what is built, the declared and the fed shape, and the operators that it becomes
PROGRAMS: dict[str, tuple[Callable[[Any], Any], tuple[Any, ...], set[str]]] = {
    "LSTM": (rnn(lambda: cells.LSTMCell(4)), STEPS, {"Scan"}),
    "LSTM of any length": (rnn(lambda: cells.LSTMCell(4)), (None, None, 3), {"Scan"}),
    "GRU with lengths": (
        rnn(lambda: cells.GRUCell(4), sequence_length=[2, 5]), STEPS, {"Scan"},
    ),
    "two layers": (
        rnn(lambda: cells.MultiRNNCell([cells.BasicLSTMCell(4), cells.BasicRNNCell(3)])),
        (2, 5, 3), {"Scan"},
    ),
    "both directions": (bidirectional, (2, 5, 3), {"Scan"}),
    "gradient of an LSTM": (gradient(rnn(lambda: cells.LSTMCell(4))), (2, 5, 3), {"Scan"}),
    "gradient with lengths": (
        gradient(rnn(lambda: cells.GRUCell(4), sequence_length=[2, 5])), (2, 5, 3), {"Scan"},
    ),
    "counted": (counted, MATRIX, {"Loop"}),
    "over its shape": (over_its_shape, (None, 4), {"Loop"}),
    "until": (until, MATRIX, {"Loop"}),
    "until, at most": (lambda x: until(x, 30), MATRIX, {"Loop"}),
    "until, at most 2": (lambda x: until(x, 2), MATRIX, {"Loop"}),
    "gradient until, at most": (
        lambda x: gc.gradients(until(x, 30), [x]), MATRIX, {"Loop", "Scan"},
    ),
    "a branch": (branch, MATRIX, {"If"}),
    "the other branch": (lambda x: branch(x - 9.0), MATRIX, {"If"}),
    "gradient of a branch": (lambda x: gc.gradients(branch(x), [x]), MATRIX, {"If"}),
    "case": (
        lambda x: gc.case(
            [(gc.reduce_sum(x) > 900.0, lambda: x), (gc.reduce_sum(x) > -900.0, lambda: x * x)],
            default=lambda: -x,
        ),
        MATRIX, {"If"},
    ),
    "a branch in a loop": (branch_in_a_loop, MATRIX, {"Loop"}),
    "a loop in a map": (loop_in_a_map, MATRIX, {"Scan"}),
    "map": (lambda x: gc.map_fn(lambda r: gc.tanh(r) * gc.reduce_sum(r), x), (None, 4), {"Scan"}),
    "scan": (lambda x: gc.scan(lambda a, r: a * 0.5 + r, x), (5, 4), {"Scan"}),
    "scan from the end": (
        lambda x: gc.scan(lambda a, r: a * 0.5 + r, x, gc.zeros([4]), reverse=True), (5, 4),
        {"Scan"},
    ),
    "foldl": (lambda x: gc.foldl(lambda a, r: a * 0.5 + gc.sin(r), x), (None, 4), {"Scan"}),
    "foldr": (lambda x: gc.foldr(lambda a, r: a * 0.5 + gc.sin(r), x), (5, 4), {"Scan"}),
}  # fmt: skip


def by_onnxruntime(proto: Any, x: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, {"x": x}))


def by_graphc(proto: Any, x: Any) -> tuple[Any, list[Any]]:
    model = load(proto)
    with gc.Session(graph=model.graph, device="numpy") as session:
        return model, session.run(list(model.outputs.values()), {model.inputs["x"]: x})


@pytest.mark.parametrize("name", PROGRAMS)
def test_control_flow_comes_back_bit_by_bit(name: str) -> None:
    build, shape, operators = PROGRAMS[name]
    sizes = [d or (2, 5)[i] for i, d in enumerate(shape)]
    data = np.random.default_rng(7).standard_normal(sizes).astype("f")
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        gc.set_random_seed(3)
        x = gc.placeholder(gc.float32, list(shape), name="x")
        made = build(x)
        fetches = made if isinstance(made, (list, tuple)) else [made]
        session.run(gc.global_variables_initializer())
        want = session.run(list(fetches), {x: data})
        proto = save({f"y{i}": y for i, y in enumerate(fetches)}, session=session)
    onnx.checker.check_model(proto, full_check=True)
    assert {n.op_type for n in proto.graph.node} & {"Loop", "If", "Scan"} == operators
    for a, b in zip(by_onnxruntime(proto, data), want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    model, again = by_graphc(proto, data)
    for a, b in zip(again, want, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)
    # what was loaded is saved again, with the operators that wait for sizes
    with model.graph.as_default():
        second = save(model.outputs, inputs=model.inputs)
    onnx.checker.check_model(second, full_check=True)
    for a, b in zip(by_onnxruntime(second, data), want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    for a, b in zip(by_graphc(second, data)[1], want, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


def test_inference_carries_nothing_for_a_gradient() -> None:
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        x = gc.placeholder(gc.float32, [2, 5, 3], name="x")
        y, _ = gc.nn.dynamic_rnn(cells.LSTMCell(4), x, dtype=gc.float32)
        session.run(gc.global_variables_initializer())
        proto = save({"y": y}, session=session)
    (scan,) = (n for n in proto.graph.node if n.op_type == "Scan")
    assert len(scan.output) == 3  # two states and what is stacked


def test_names_of_bodies_do_not_leak() -> None:
    """A tensor that both branches compute is computed in each."""
    with gc.Graph().as_default():
        x = gc.placeholder(gc.float32, [3], name="x")
        z = gc.cond(x[0] > 0.0, lambda: gc.exp(x) + 1.0, lambda: gc.exp(x) - 1.0)
        proto = save({"z": z + gc.exp(x)})
    onnx.checker.check_model(proto, full_check=True)
    for first in (-1.0, 1.0):
        data = np.array([first, 2, 3], np.float32)
        np.testing.assert_allclose(
            by_onnxruntime(proto, data)[0], 2 * np.exp(data) + np.sign(first), rtol=1e-6
        )


def test_stacks_of_unknown_slices_that_may_end_early() -> None:
    with gc.Graph().as_default():
        x = gc.placeholder(gc.float32, [None, 4], name="x")
        with pytest.raises(UnsupportedOp, match="may end early"):
            save(gc.gradients(until(x, 30), [x]))

"""Recurrent layers: values and gradients against torch, names against TensorFlow's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import graphc as gc
from graphc.ir.errors import AttributeValueError, ShapeError

B, T, D, H = 3, 6, 5, 4
cells = gc.nn.rnn_cell


@pytest.fixture(autouse=True)
def _graph() -> Iterator[None]:
    with gc.Graph().as_default():
        gc.set_random_seed(11)
        yield


def data(*shape: int) -> np.ndarray:
    return np.random.default_rng(4).standard_normal(shape)


def run(fetches: Any, feeds: Any = None) -> Any:
    with gc.Session(device="numpy") as session:
        session.run(gc.global_variables_initializer())
        return session.run(fetches, feeds)


def names() -> list[tuple[str, tuple[int, ...]]]:
    return [(v.name, tuple(v.shape.as_list())) for v in gc.global_variables()]


def gates(array: np.ndarray) -> np.ndarray:
    """TensorFlow's order i, j, f, o as torch's i, f, g, o."""
    i, j, f, o = np.split(array, 4, -1)
    return np.concatenate([i, f, j, o], -1)


def torch_lstm(kernel: np.ndarray, bias: np.ndarray) -> torch.nn.LSTM:
    layer = torch.nn.LSTM(D, H, batch_first=True, dtype=torch.float64)
    bias = bias.copy()
    bias[2 * H : 3 * H] += 1.0  # forget_bias
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.tensor(gates(kernel[:D]).T))
        layer.weight_hh_l0.copy_(torch.tensor(gates(kernel[D:]).T))
        layer.bias_ih_l0.copy_(torch.tensor(gates(bias)))
        layer.bias_hh_l0.zero_()
    return layer


def test_lstm_and_its_gradients_are_those_of_torch() -> None:
    x = gc.placeholder(gc.float64, [None, T, D])
    y, state = gc.nn.dynamic_rnn(cells.BasicLSTMCell(H), x, dtype=gc.float64)
    kernel, bias = gc.global_variables()
    assert names() == [
        ("rnn/basic_lstm_cell/kernel:0", (D + H, 4 * H)), ("rnn/basic_lstm_cell/bias:0", (4 * H,)),
    ]  # fmt: skip
    loss = gc.reduce_sum(gc.sin(y)) + gc.reduce_sum(state.c)
    fetches = [y, state.c, state.h, *gc.gradients(loss, [x, kernel, bias]), kernel, bias]
    given = data(B, T, D)
    *values, gx, gw, gb, w, b = run(fetches, {x: given})
    layer, tx = torch_lstm(w, b), torch.tensor(given, requires_grad=True)
    ty, (th, tc) = layer(tx)
    (torch.sin(ty).sum() + tc.sum()).backward()  # type: ignore[no-untyped-call]
    for got, want in zip(values, (ty, tc[0], th[0]), strict=True):
        np.testing.assert_allclose(got, want.detach().numpy(), atol=1e-12)
    np.testing.assert_allclose(gx, tx.grad.numpy(), atol=1e-12)
    np.testing.assert_allclose(gates(gw[:D]).T, layer.weight_ih_l0.grad.numpy(), atol=1e-12)
    np.testing.assert_allclose(gates(gw[D:]).T, layer.weight_hh_l0.grad.numpy(), atol=1e-12)
    np.testing.assert_allclose(gates(gb), layer.bias_ih_l0.grad.numpy(), atol=1e-12)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_gru() -> None:
    """Cho et al. 2014; torch resets after the product, TensorFlow before it."""
    x = gc.placeholder(gc.float64, [None, T, D])
    y, state = gc.nn.dynamic_rnn(cells.GRUCell(H), x, dtype=gc.float64)
    assert names() == [
        ("rnn/gru_cell/gates/kernel:0", (D + H, 2 * H)), ("rnn/gru_cell/gates/bias:0", (2 * H,)),
        ("rnn/gru_cell/candidate/kernel:0", (D + H, H)), ("rnn/gru_cell/candidate/bias:0", (H,)),
    ]  # fmt: skip
    given = data(B, T, D)
    got, last, wg, bg, wc, bc = run([y, state, *gc.global_variables()], {x: given})
    np.testing.assert_array_equal(bg, np.ones(2 * H))
    h = np.zeros((B, H))
    for t in range(T):
        r, u = np.split(sigmoid(np.concatenate([given[:, t], h], 1) @ wg + bg), 2, 1)
        c = np.tanh(np.concatenate([given[:, t], r * h], 1) @ wc + bc)
        h = u * h + (1 - u) * c
        np.testing.assert_allclose(got[:, t], h, atol=1e-12)
    np.testing.assert_allclose(last, h, atol=1e-12)


def test_lstm_with_peepholes_projection_and_clips() -> None:
    x = gc.placeholder(gc.float64, [B, T, D])
    cell = cells.LSTMCell(H, use_peepholes=True, num_proj=2, cell_clip=0.3, proj_clip=0.2)
    y, state = gc.nn.dynamic_rnn(cell, x, dtype=gc.float64)
    assert [n for n, _ in names()] == [
        f"rnn/lstm_cell/{n}:0"
        for n in ("kernel", "bias", "w_f_diag", "w_i_diag", "w_o_diag", "projection/kernel")
    ]
    given = data(B, T, D)
    got, c_last, w, b, wf, wi, wo, wp = run([y, state.c, *gc.global_variables()], {x: given})
    c, h = np.zeros((B, H)), np.zeros((B, 2))
    for t in range(T):
        i, j, f, o = np.split(np.concatenate([given[:, t], h], 1) @ w + b, 4, 1)
        c = sigmoid(f + 1 + wf * c) * c + sigmoid(i + wi * c) * np.tanh(j)
        c = np.clip(c, -0.3, 0.3)
        h = np.clip(sigmoid(o + wo * c) * np.tanh(c) @ wp, -0.2, 0.2)
        np.testing.assert_allclose(got[:, t], h, atol=1e-12)
    np.testing.assert_allclose(c_last, c, atol=1e-12)


def test_a_step_is_one_product_and_one_kernel() -> None:
    x = gc.placeholder(gc.float32, [B, T, D])
    y, _ = gc.nn.dynamic_rnn(cells.BasicLSTMCell(H), x, dtype=gc.float32)
    report = gc.explain(y, device="numpy")
    (loop,) = (k for k in report.program.kernels if k.form == "loop")
    assert [k.form for k in loop.programs[0].kernels] == ["dot", "flat"]


def test_sequence_lengths() -> None:
    x = gc.placeholder(gc.float64, [B, T, D])
    lengths = [2, 6, 0]
    cell = cells.BasicRNNCell(H)
    y, state = gc.nn.dynamic_rnn(cell, x, lengths, dtype=gc.float64)
    given = data(B, T, D)
    got, last, w, b = run([y, state, *gc.global_variables()], {x: given})
    h = np.zeros((B, H))
    for t in range(T):
        new = np.tanh(np.concatenate([given[:, t], h], 1) @ w + b)
        runs = (t < np.array(lengths))[:, None]
        np.testing.assert_allclose(got[:, t], np.where(runs, new, 0), atol=1e-12)
        h = np.where(runs, new, h)
    np.testing.assert_allclose(last, h, atol=1e-12)


def test_static_rnn_is_dynamic_rnn_unrolled() -> None:
    x = gc.placeholder(gc.float64, [B, T, D])
    cell = cells.MultiRNNCell([cells.GRUCell(H), cells.BasicLSTMCell(3)])
    with gc.variable_scope("net"):
        y, state = gc.nn.dynamic_rnn(cell, x, [4, 6, 1], dtype=gc.float64)
    with gc.variable_scope("net", reuse=True):
        ys, last = gc.nn.static_rnn(
            cell, gc.unstack(x, axis=1), dtype=gc.float64, sequence_length=[4, 6, 1]
        )
    made = [n for n, _ in names()]
    assert made[0] == "net/rnn/multi_rnn_cell/cell_0/gru_cell/gates/kernel:0"
    assert len(made) == 6
    got, want, a, b = run([y, gc.stack(ys, 1), state[1].c, last[1].c], {x: data(B, T, D)})
    np.testing.assert_allclose(got, want, atol=1e-12)
    np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("lengths", [None, [2, 6, 1]])
def test_bidirectional(lengths: Any) -> None:
    x = gc.placeholder(gc.float64, [B, T, D])
    forward, backward = cells.BasicRNNCell(H), cells.BasicRNNCell(H)
    (y, z), (_, last) = gc.nn.bidirectional_dynamic_rnn(
        forward, backward, x, lengths, dtype=gc.float64
    )
    assert [n for n, _ in names()][2] == "bidirectional_rnn/bw/basic_rnn_cell/kernel:0"
    given = data(B, T, D)
    _, got, end, _, _, w, b = run([y, z, last, *gc.global_variables()], {x: given})
    for n in range(B):
        h = np.zeros(H)
        for t in reversed(range(T if lengths is None else lengths[n])):
            h = np.tanh(np.concatenate([given[n, t], h]) @ w + b)
            np.testing.assert_allclose(got[n, t], h, atol=1e-12)
        np.testing.assert_allclose(end[n], h, atol=1e-12)


def test_wrappers() -> None:
    x = gc.placeholder(gc.float64, [B, T, H])
    cell = cells.ResidualWrapper(cells.DropoutWrapper(cells.GRUCell(H), output_keep_prob=0.5))
    y, _ = gc.nn.dynamic_rnn(cell, x, dtype=gc.float64)
    given = data(B, T, H)
    added = run(y, {x: given}) - given
    dropped = added == 0
    assert 0 < dropped.sum() < dropped.size
    assert len({tuple(row) for row in dropped[:, :, 0].T.tolist()}) > 1  # another mask each step


def test_reverse_sequence() -> None:
    x = data(2, 4, 3)
    got = run(gc.reverse_sequence(gc.constant(x), [3, 1], seq_axis=1, batch_axis=0))
    want = x.copy()
    want[0, :3] = x[0, 2::-1]
    np.testing.assert_array_equal(got, want)


class Leaky(cells.RNNCell):  # type: ignore[name-defined,misc]
    """A cell of a user's own, in the old manner."""

    state_size = output_size = H

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> Any:
        with gc.variable_scope(scope or "leaky"):
            w = gc.get_variable("w", [D, H], gc.float64)
            state = 0.9 * state + gc.matmul(inputs, w)
            return gc.nn.relu(state), state


def test_a_cell_of_ones_own() -> None:
    x = gc.placeholder(gc.float64, [B, T, D])
    y, state = gc.nn.dynamic_rnn(Leaky(), x, dtype=gc.float64)
    assert [n for n, _ in names()] == ["rnn/leaky/w:0"]
    given = data(B, T, D)
    _, last, w = run([y, state, *gc.global_variables()], {x: given})
    want = sum(0.9 ** (T - 1 - t) * given[:, t] @ w for t in range(T))
    np.testing.assert_allclose(last, want, atol=1e-12)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_training_curve_is_that_of_the_unrolled_network_in_torch(kind: str) -> None:
    """100 steps of gradient descent from equal values on equal data, to 1e-4."""
    x, t = gc.placeholder(gc.float32, [B, T, D]), gc.placeholder(gc.float32, [B, H])
    cell = cells.BasicLSTMCell(H) if kind == "lstm" else cells.GRUCell(H)
    y, _ = gc.nn.dynamic_rnn(cell, x, dtype=gc.float32)
    loss = gc.reduce_mean(gc.square(y[:, -1] - t))
    step = gc.train.GradientDescentOptimizer(0.5).minimize(loss)
    given, target = data(B, T, D).astype("f"), np.tanh(data(B, H)).astype("f")
    with gc.Session(device="numpy") as session:
        session.run(gc.global_variables_initializer())
        weights = [torch.tensor(w, requires_grad=True) for w in session.run(gc.global_variables())]
        curve = [session.run([loss, step], {x: given, t: target})[0] for _ in range(100)]
    other = list(torch_curve(kind, weights, torch.tensor(given), torch.tensor(target)))
    np.testing.assert_allclose(curve, other, rtol=1e-4)
    assert curve[-1] < 0.2 * curve[0]


def torch_curve(kind: str, weights: Any, x: Any, target: Any) -> Iterator[float]:
    for _ in range(100):
        h, c = torch.zeros(B, H), torch.zeros(B, H)
        for t in range(T):
            if kind == "lstm":
                i, j, f, o = (torch.cat([x[:, t], h], 1) @ weights[0] + weights[1]).split(H, 1)
                c = torch.sigmoid(f + 1) * c + torch.sigmoid(i) * torch.tanh(j)
                h = torch.sigmoid(o) * torch.tanh(c)
            else:
                both = torch.sigmoid(torch.cat([x[:, t], h], 1) @ weights[0] + weights[1])
                r, u = both.split(H, 1)
                new = torch.tanh(torch.cat([x[:, t], r * h], 1) @ weights[2] + weights[3])
                h = u * h + (1 - u) * new
        loss = ((h - target) ** 2).mean()
        grads = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for w, g in zip(weights, grads, strict=True):
                w -= 0.5 * g
        yield float(loss.detach())


WRONG: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no dtype": (
        lambda: gc.nn.dynamic_rnn(cells.GRUCell(H), gc.zeros([B, T, D])),
        AttributeValueError, "initial_state",
    ),
    "a matrix": (
        lambda: gc.nn.dynamic_rnn(cells.GRUCell(H), gc.zeros([B, T]), dtype=gc.float32),
        ShapeError, "time",
    ),
    "no list": (
        lambda: gc.nn.static_rnn(cells.GRUCell(H), gc.zeros([B, T, D]), dtype=gc.float32),
        AttributeValueError, "a list of inputs",
    ),
    "no cells": (lambda: cells.MultiRNNCell([]), AttributeValueError, "at least one"),
    "an unknown depth": (
        lambda: gc.nn.dynamic_rnn(
            cells.GRUCell(H), gc.placeholder(gc.float32, [B, T, None]), dtype=gc.float32
        ),
        ShapeError, "last dim",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong(name: str) -> None:
    build, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        build()

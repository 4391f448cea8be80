"""RNN, GRU and LSTM with all their options: loops whose step is one product and a few kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphc.frontend import math as m
from graphc.frontend.onnx.ops.elementwise import _in
from graphc.frontend.onnx.registry import Call, converter
from graphc.ir.dtypes import int64
from graphc.ir.graph import Value, next_serial
from graphc.ir.ops import movement as mv
from graphc.ir.ops import nn
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops.control import LoopPlan
from graphc.ir.ops.source import placeholder
from graphc.ir.table import OPS

Activation = Callable[[Value], Value]


def activation(call: Call, name: str, alpha: float | None, beta: float | None) -> Activation:
    """A gate's function; alpha and beta are its parameters, where it has some."""

    def or_(value: float | None, default: float) -> float:
        return default if value is None else value

    table: dict[str, Activation] = {
        "sigmoid": m.sigmoid, "tanh": m.tanh, "relu": nn.relu, "softplus": nn.softplus,
        "softsign": lambda x: x / (m.abs(x) + 1),
        "affine": lambda x: x * _in(x, or_(alpha, 1.0)) + _in(x, or_(beta, 0.0)),
        "leakyrelu": lambda x: pw.where(x < 0, x * _in(x, or_(alpha, 0.01)), x),
        "thresholdedrelu": lambda x: pw.where(x >= _in(x, or_(alpha, 1.0)), x, mv.zeros_like(x)),
        "scaledtanh": lambda x: _in(x, or_(alpha, 1.0)) * m.tanh(x * _in(x, or_(beta, 1.0))),
        "elu": lambda x: pw.where(x < 0, _in(x, or_(alpha, 1.0)) * m.expm1(x), x),
        "hardsigmoid": lambda x: pw.minimum(
            pw.maximum(x * _in(x, or_(alpha, 0.2)) + _in(x, or_(beta, 0.5)), mv.zeros_like(x)),
            mv.ones_like(x),
        ),
    }  # fmt: skip
    if name.lower() not in table:
        raise call.refused(f"activation {name!r}")
    return table[name.lower()]


@dataclass
class _Direction:
    """One direction's weights and functions."""

    w: Value
    r: Value
    input_bias: Value | None
    state_bias: Value | None
    peepholes: Value | None
    functions: list[Activation]
    reverse: bool


_GATES = {"RNN": (1, ["Tanh"]), "GRU": (3, ["Sigmoid", "Tanh"]),
          "LSTM": (4, ["Sigmoid", "Tanh", "Tanh"])}  # fmt: skip


@converter("RNN", "GRU", "LSTM")
def recurrent(call: Call) -> list[Value]:
    """x: [time, batch, size] -> y: [time, directions, batch, units], last states."""
    x, w = call.x(0), call.x(1)
    batch_first = bool(call.attr("layout", 0))
    x = mv.transpose(x, perm=(1, 0, 2)) if batch_first else x
    directions = call.dims(w)[0]
    states = 2 if call.op == "LSTM" else 1
    initial = [call.get(5), call.get(6)][:states]
    ys, lasts = [], []
    for number in range(directions):
        start = [_initial(call, s, x, number, batch_first) for s in initial]
        y, last = _run(call, x, _direction(call, number), start)
        ys.append(y)
        lasts.append(last)
    joined = OPS["stack"](*ys, axis=1)
    finals = [OPS["stack"](*(last[i] for last in lasts), axis=0) for i in range(states)]
    if batch_first:
        joined = mv.transpose(joined, perm=(2, 0, 1, 3))
        finals = [mv.transpose(f, perm=(1, 0, 2)) for f in finals]
    return [joined, *finals][: call.output_count]


def _initial(call: Call, state: Value | None, x: Value, number: int, batch_first: bool) -> Value:
    units = call.dims(call.x(2))[-1]
    if state is None:
        row = mv.zeros_like(x[0, :, :1])
        return row + OPS["zeros_like"](call.x(2)[0, 0]) if units != 1 else row
    return state[:, number] if batch_first else state[number]


def _direction(call: Call, number: int) -> _Direction:
    gates, defaults = _GATES[call.op]
    units = call.dims(call.x(2))[-1]
    bias, peepholes = call.get(3), call.get(7) if call.op == "LSTM" else None
    names = call.attr("activations", defaults * 2)
    count = len(defaults)
    alphas, betas = call.attr("activation_alpha", []), call.attr("activation_beta", [])
    functions = []
    for i in range(number * count, (number + 1) * count):
        alpha = alphas[i] if i < len(alphas) else None
        functions.append(activation(call, names[i], alpha, betas[i] if i < len(betas) else None))
    direction = call.attr("direction", "forward")
    row = None if bias is None else bias[number]
    return _Direction(
        call.x(1)[number], call.x(2)[number],
        None if row is None else row[: gates * units],
        None if row is None else row[gates * units :],
        None if peepholes is None else peepholes[number], functions,
        direction == "reverse" or number == 1,
    )  # fmt: skip


def _run(call: Call, x: Value, d: _Direction, start: list[Value]) -> tuple[Value, list[Value]]:
    """One direction: y [time, batch, units] and the last states."""
    lengths = call.get(4)
    if d.reverse and lengths is not None:
        from graphc.frontend.rnn import reverse_sequence

        y, last = _loop(call, reverse_sequence(x, lengths, 0, 1), d, start, False)
        return reverse_sequence(y, lengths, 0, 1), last
    return _loop(call, x, d, start, d.reverse)


def _loop(
    call: Call, x: Value, d: _Direction, start: list[Value], backward: bool
) -> tuple[Value, list[Value]]:
    projected = OPS["matmul"](x, _batched(d.w, x), transpose_b=True)  # all steps at once
    if d.input_bias is not None:
        projected = projected + d.input_bias
    lengths = None if call.get(4) is None else m.cast(call.x(4), int64)
    first = next_serial()
    step = placeholder(dtype=int64, shape=())
    shape = projected.type.shape
    gates = placeholder(dtype=x.dtype, shape=shape and shape[1:])
    params = [placeholder(dtype=s.dtype, shape=s.type.shape) for s in start]
    new = _STEPS[call.op](call, gates, params, d)
    y = new[0]
    if lengths is not None:
        runs = OPS["expand_dims"](step < lengths, axis=(1,))
        y = pw.where(runs, y, mv.zeros_like(y))
        new = [pw.where(runs, a, b) for a, b in zip(new, params, strict=True)]
    plan = LoopPlan(
        step, list(zip(params, start, new, strict=True)), [(gates, projected)], [y],
        call.dims(x)[0], [], reverse=backward, first=first,
    )  # fmt: skip
    finals, (stack,) = plan.build()
    return stack, finals


def _batched(w: Value, x: Value) -> Value:
    return OPS["expand_dims"](w, axis=(0,)) if (x.type.rank or 0) > 2 else w


def _clipped(call: Call, x: Value) -> Value:
    clip = call.attr("clip")
    return x if not clip else pw.minimum(pw.maximum(x, _in(x, -clip)), _in(x, clip))


def _parts(x: Value, count: int) -> list[Value]:
    units = (x.type.shape or ())[-1]
    assert isinstance(units, int)
    size = units // count
    return [x[:, i * size : (i + 1) * size] for i in range(count)]


def _recur(h: Value, d: _Direction) -> Value:
    total = OPS["matmul"](h, d.r, transpose_b=True)
    return total if d.state_bias is None else total + d.state_bias


def _rnn_step(call: Call, gates: Value, state: list[Value], d: _Direction) -> list[Value]:
    return [d.functions[0](_clipped(call, gates + _recur(state[0], d)))]


def _gru_step(call: Call, gates: Value, state: list[Value], d: _Direction) -> list[Value]:
    (h,) = state
    f, g = d.functions
    units = call.dims(call.x(2))[-1]
    z_in, r_in, h_in = _parts(gates, 3)
    if call.attr("linear_before_reset", 0):
        z_h, r_h, h_h = _parts(_recur(h, d), 3)
        z, r = f(_clipped(call, z_in + z_h)), f(_clipped(call, r_in + r_h))
        candidate = g(_clipped(call, h_in + r * h_h))
    else:
        both = OPS["matmul"](h, d.r[: 2 * units], transpose_b=True)
        both = both if d.state_bias is None else both + d.state_bias[: 2 * units]
        z_h, r_h = _parts(both, 2)
        z, r = f(_clipped(call, z_in + z_h)), f(_clipped(call, r_in + r_h))
        inner = OPS["matmul"](r * h, d.r[2 * units :], transpose_b=True)
        inner = inner if d.state_bias is None else inner + d.state_bias[2 * units :]
        candidate = g(_clipped(call, h_in + inner))
    return [(1 - z) * candidate + z * h]


def _lstm_step(call: Call, gates: Value, state: list[Value], d: _Direction) -> list[Value]:
    h, c = state
    f, g, k = d.functions
    i, o, forget, cell = _parts(gates + _recur(h, d), 4)
    if d.peepholes is not None:
        units = call.dims(call.x(2))[-1]
        p_i, p_o, p_f = (d.peepholes[j * units : (j + 1) * units] for j in range(3))
        i, forget = i + p_i * c, forget + p_f * c
    input_gate = f(_clipped(call, i))
    coupled = call.attr("input_forget", 0)
    forget_gate = 1 - input_gate if coupled else f(_clipped(call, forget))
    new = forget_gate * c + input_gate * g(_clipped(call, cell))
    if d.peepholes is not None:
        o = o + p_o * new
    return [f(_clipped(call, o)) * k(new), new]


_STEPS: dict[str, Any] = {"RNN": _rnn_step, "GRU": _gru_step, "LSTM": _lstm_step}

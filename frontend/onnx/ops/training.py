"""The operators of ai.onnx.preview.training: one step of an optimizer, and gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphc.frontend import math as m
from graphc.frontend.gradients import gradients
from graphc.frontend.onnx.ops.elementwise import _in
from graphc.frontend.onnx.registry import Call, converter
from graphc.ir.graph import Value
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.table import OPS

DOMAIN = "ai.onnx.preview.training"


def _each(call: Call, count: int, step: Callable[..., Sequence[Value]]) -> list[Value]:
    """`step` of every tensor with its gradient and its `count` - 2 states; kind by kind."""
    given = call.given()[2:]
    tensors = len(given) // count
    made = [step(*given[i::tensors]) for i in range(tensors)]
    return [parts[k] for k in range(count - 1) for parts in made]


def _regular(call: Call, x: Value, g: Value) -> Value:
    """The gradient of the loss with its penalty for large x."""
    return g + x * _in(x, call.attr("norm_coefficient", 0.0))


@converter(f"{DOMAIN}.Adagrad")
def adagrad(call: Call) -> list[Value]:
    """Duchi et al. 2011: steps by the root of the sum of all squared gradients."""
    rate, count = call.x(0), call.x(1)
    decay = m.cast(count, rate.dtype) * _in(rate, call.attr("decay_factor", 0.0))
    rate = rate / (decay + 1)

    def step(x: Value, g: Value, squares: Value) -> tuple[Value, Value]:
        g = _regular(call, x, g)
        squares = squares + g * g
        return x - rate * g / (m.sqrt(squares) + _in(x, call.attr("epsilon", 1e-6))), squares

    return _each(call, 3, step)


@converter(f"{DOMAIN}.Adam")
def adam(call: Call) -> list[Value]:
    """Kingma and Ba 2014; with `norm_coefficient_post` x shrinks after the step."""
    rate, count = call.x(0), call.x(1)
    alpha, beta = (_in(rate, call.attr(n, d)) for n, d in (("alpha", 0.9), ("beta", 0.999)))
    t = m.cast(count, rate.dtype)
    corrected = rate * m.sqrt(1 - OPS["pow"](beta, t)) / (1 - OPS["pow"](alpha, t))
    rate = pw.where(m.greater(count, mv.zeros_like(count)), corrected, rate)

    def step(x: Value, g: Value, mean: Value, square: Value) -> tuple[Value, Value, Value]:
        g = _regular(call, x, g)
        mean = alpha * mean + (1 - alpha) * g
        square = beta * square + (1 - beta) * g * g
        x = x - rate * mean / (m.sqrt(square) + _in(x, call.attr("epsilon", 1e-6)))
        return x * (1 - _in(x, call.attr("norm_coefficient_post", 0.0))), mean, square

    return _each(call, 4, step)


@converter(f"{DOMAIN}.Momentum")
def momentum(call: Call) -> list[Value]:
    """Steps along a running sum of gradients; Nesterov's with a look ahead."""
    rate, count = call.x(0), call.x(1)
    alpha, beta = _in(rate, call.attr("alpha")), _in(rate, call.attr("beta"))
    beta = pw.where(m.greater(count, mv.zeros_like(count)), beta, mv.ones_like(beta))
    ahead = call.attr("mode") == "nesterov"

    def step(x: Value, g: Value, sums: Value) -> tuple[Value, Value]:
        g = _regular(call, x, g)
        sums = alpha * sums + beta * g
        return x - rate * (g + alpha * sums if ahead else sums), sums

    return _each(call, 3, step)


@converter(f"{DOMAIN}.Gradient")
def gradient(call: Call) -> list[Value]:
    """The gradients of a tensor, which is named, for the inputs that `xs` names."""
    y = call.importer.values.get(call.attr("y"))
    if y is None:
        raise call.refused(f"nothing before it gives {call.attr('y')!r}")
    sources = call.given()[: len(call.attr("xs"))]
    found: Any = gradients(y, sources)
    pairs = zip(found, sources, strict=True)
    return [mv.zeros_like(x) if g is None else g for g, x in pairs]

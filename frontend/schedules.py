"""Learning rates as functions of the global step, by TensorFlow's names, and that step itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from graphc.frontend.framework import GraphKeys
from graphc.frontend.math import cast
from graphc.frontend.variables import Variable
from graphc.ir.dtypes import float32, int64
from graphc.ir.errors import AttributeValueError
from graphc.ir.graph import Graph, Value, convert, get_default_graph
from graphc.ir.ops import pointwise as pw


def get_global_step(graph: Graph | None = None) -> Variable | None:
    """The graph's global step, None when there is none."""
    items = (graph or get_default_graph()).get_collection(GraphKeys.GLOBAL_STEP)
    return items[0] if items else None


def create_global_step(graph: Graph | None = None) -> Variable:
    """A new global step: an int64 variable that starts at 0."""
    graph = graph or get_default_graph()
    if get_global_step(graph) is not None:
        raise AttributeValueError("the graph has a global step already")
    with graph.as_default(), graph.absolute_scope():
        return Variable(
            convert(0, dtype=int64),
            trainable=False,
            name="global_step",
            collections=[GraphKeys.GLOBAL_VARIABLES, GraphKeys.GLOBAL_STEP],
        )


def get_or_create_global_step(graph: Graph | None = None) -> Variable:
    """The graph's global step."""
    known = get_global_step(graph)
    return create_global_step(graph) if known is None else known


def global_step(sess: Any, global_step_tensor: Any) -> int:
    """The step's value in the session."""
    return int(sess.run(global_step_tensor))


def _fraction(step: Any, decay_steps: Any, staircase: bool) -> Value:
    p = cast(step, float32) / cast(convert(decay_steps), float32)
    return pw.floor(p) if staircase else p


def exponential_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    decay_rate: Any,
    staircase: bool = False,
    name: str | None = None,
) -> Value:
    """learning_rate * decay_rate ^ (global_step / decay_steps)"""
    p = _fraction(global_step, decay_steps, staircase)
    rate = convert(decay_rate, like=float32)
    return pw.multiply(convert(learning_rate, like=float32), pw.pow_(rate, p), name=name)


def natural_exp_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    decay_rate: Any,
    staircase: bool = False,
    name: str | None = None,
) -> Value:
    """learning_rate * exp(-decay_rate * global_step / decay_steps)"""
    p = _fraction(global_step, decay_steps, staircase)
    factor = pw.exp(-(convert(decay_rate, like=float32) * p))
    return pw.multiply(convert(learning_rate, like=float32), factor, name=name)


def inverse_time_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    decay_rate: Any,
    staircase: bool = False,
    name: str | None = None,
) -> Value:
    """learning_rate / (1 + decay_rate * global_step / decay_steps)"""
    p = _fraction(global_step, decay_steps, staircase)
    denominator = 1.0 + convert(decay_rate, like=float32) * p
    return pw.truediv(convert(learning_rate, like=float32), denominator, name=name)


def polynomial_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    end_learning_rate: Any = 0.0001,
    power: Any = 1.0,
    cycle: bool = False,
    name: str | None = None,
) -> Value:
    """From learning_rate to end_learning_rate as (1 - global_step / decay_steps) ^ power."""
    step = cast(global_step, float32)
    steps = cast(convert(decay_steps), float32)
    if cycle:
        steps = steps * pw.maximum(pw.ceil(step / steps), convert(1.0))
    else:
        step = pw.minimum(step, steps)
    start, end = (convert(x, like=float32) for x in (learning_rate, end_learning_rate))
    left = pw.pow_(1.0 - step / steps, convert(power, like=float32))
    return pw.add((start - end) * left, end, name=name)


def cosine_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    alpha: Any = 0.0,
    name: str | None = None,
) -> Value:
    """From learning_rate to alpha * learning_rate along a half cosine (Loshchilov, Hutter 2017)."""
    p = pw.minimum(_fraction(global_step, decay_steps, False), convert(1.0))
    wave = 0.5 * (1.0 + pw.cos(p * math.pi))
    floor = convert(alpha, like=float32)
    factor = (1.0 - floor) * wave + floor
    return pw.multiply(convert(learning_rate, like=float32), factor, name=name)


def cosine_decay_restarts(
    learning_rate: Any,
    global_step: Any,
    first_decay_steps: Any,
    t_mul: float = 2.0,
    m_mul: float = 1.0,
    alpha: Any = 0.0,
    name: str | None = None,
) -> Value:
    """Half cosines one after the other: each t_mul times longer, from m_mul times the rate.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.
    """
    p = _fraction(global_step, first_decay_steps, False)
    if t_mul == 1.0:
        count = pw.floor(p)
        p = p - count
    else:
        count = pw.floor(pw.log(1.0 - p * (1.0 - t_mul)) * (1.0 / math.log(t_mul)))
        longer = pw.pow_(convert(t_mul, like=float32), count)
        p = (p - (1.0 - longer) * (1.0 / (1.0 - t_mul))) / longer
    height = pw.pow_(convert(m_mul, like=float32), count)
    wave = 0.5 * height * (1.0 + pw.cos(p * math.pi))
    floor = convert(alpha, like=float32)
    factor = (1.0 - floor) * wave + floor
    return pw.multiply(convert(learning_rate, like=float32), factor, name=name)


def linear_cosine_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    num_periods: float = 0.5,
    alpha: Any = 0.0,
    beta: Any = 0.001,
    name: str | None = None,
) -> Value:
    """learning_rate * ((alpha + a line from 1 to 0) * a cosine between 1 and 0 + beta)

    Bello et al., "Neural optimizer search with reinforcement learning", 2017.
    """
    p = pw.minimum(_fraction(global_step, decay_steps, False), convert(1.0))
    wave = 0.5 * (1.0 + pw.cos(p * (2.0 * num_periods * math.pi)))
    factor = (1.0 - p + convert(alpha, like=float32)) * wave + convert(beta, like=float32)
    return pw.multiply(convert(learning_rate, like=float32), factor, name=name)


def piecewise_constant(
    x: Any, boundaries: Sequence[Any], values: Sequence[Any], name: str | None = None
) -> Value:
    """values[0] up to and including boundaries[0], values[1] up to boundaries[1], and so on."""
    if len(values) != len(boundaries) + 1:
        raise AttributeValueError(
            f"{len(boundaries)} boundaries need {len(boundaries) + 1} values, got {len(values)}"
        )
    step = convert(x)
    result = convert(values[-1], like=float32)
    for bound, value in reversed(list(zip(boundaries, values[:-1], strict=True))):
        limit = convert(bound, like=step.dtype)
        result = pw.where(step <= limit, convert(value, like=float32), result)
    return result if name is None else pw.multiply(result, convert(1.0), name=name)


piecewise_constant_decay = piecewise_constant

"""Reductions along axes, and positions of extrema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc.frontend import math as m
from graphc.frontend.array import reverse
from graphc.frontend.onnx.registry import Call, converter
from graphc.ir.dtypes import bool_, uint8
from graphc.ir.graph import Value
from graphc.ir.table import OPS

_SIMPLE: dict[str, Callable[..., Value]] = {
    "ReduceSum": m.reduce_sum, "ReduceProd": m.reduce_prod, "ReduceMean": m.reduce_mean,
    "ReduceMax": m.reduce_max, "ReduceMin": m.reduce_min,
    "ReduceL1": lambda x, **k: m.reduce_sum(m.abs(x), **k),
    "ReduceL2": lambda x, **k: _of_float(x, lambda v: m.sqrt(m.reduce_sum(m.square(v), **k))),
    "ReduceSumSquare": lambda x, **k: m.reduce_sum(m.square(x), **k),
    "ReduceLogSum": lambda x, **k: _of_float(x, lambda v: m.log(m.reduce_sum(v, **k))),
    "ReduceLogSumExp": lambda x, **k: _of_float(x, lambda v: m.reduce_logsumexp(v, **k)),
}  # fmt: skip


def _of_float(x: Value, function: Callable[[Value], Value]) -> Value:
    """Through floats where x has integers."""
    return function(x) if x.dtype.is_floating else m.cast(function(m.cast(x, "float64")), x.dtype)


@converter(*_SIMPLE)
def reduction(call: Call) -> Value:
    """Along the axes, by default along all; of no axes with noop_with_empty_axes the input."""
    x = call.x()
    axes = call.ints("axes", 1, None)
    keep = bool(call.attr("keepdims", 1))
    if not axes:
        if call.attr("noop_with_empty_axes", 0):
            return _of_nothing(call.op, x)
        axes = list(range(call.rank(x)))
    wide = m.cast(x, uint8) if x.dtype is bool_ else x
    result = _SIMPLE[call.op](wide, axis=axes, keepdims=keep)
    return m.cast(result, bool_) if x.dtype is bool_ else result


def _of_nothing(name: str, x: Value) -> Value:
    """What is done to each element although nothing is reduced."""
    match name:
        case "ReduceL1" | "ReduceL2":
            return m.abs(x)
        case "ReduceSumSquare":
            return m.square(x)
        case "ReduceLogSum":
            return m.log(x)
    return OPS["identity"](x)


@converter("ArgMax", "ArgMin")
def arg(call: Call) -> Value:
    """The first position of the extremum along an axis, or the last."""
    x, axis = call.x(), call.attr("axis", 0)
    function: Any = m.argmax if call.op == "ArgMax" else m.argmin
    if call.attr("select_last_index", 0):
        size = call.dims(x)[axis]
        found = size - 1 - function(reverse(x, [axis]), axis)
    else:
        found = function(x, axis)
    return (
        OPS["expand_dims"](found, axis=(axis % call.rank(x),))
        if call.attr("keepdims", 1)
        else found
    )


@converter("CumSum", "CumProd")
def cumulative(call: Call) -> Value:
    """Running sums and products."""
    axis = call.value(1)
    function = m.cumsum if call.op == "CumSum" else m.cumprod
    return function(call.x(), axis=int(axis.ravel()[0]), exclusive=bool(call.attr("exclusive", 0)),
                    reverse=bool(call.attr("reverse", 0)))  # fmt: skip

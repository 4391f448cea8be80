"""Moving averages of variables, which often do better in evaluation than the variables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from graphc.frontend.framework import GraphKeys, add_to_collection, group
from graphc.frontend.sources import zeros
from graphc.frontend.variables import (
    Variable,
    global_variables,
    moving_average_variables,
    trainable_variables,
)
from graphc.ir.errors import DTypeError, UnsupportedOp
from graphc.ir.graph import Node, Value, convert, get_default_graph
from graphc.ir.ops import pointwise as pw


class ExponentialMovingAverage:
    """Shadow variables: shadow -= (1 - decay) * (shadow - variable) at every run of `apply`.

    With `num_updates` (a step counter) the decay is min(decay, (1 + n) / (10 + n)): quicker at
    the start. The shadow of a variable starts as the variable does, that of a tensor at 0.
    """

    def __init__(
        self,
        decay: Any,
        num_updates: Any = None,
        zero_debias: bool = False,
        name: str = "ExponentialMovingAverage",
    ) -> None:
        if zero_debias:
            raise UnsupportedOp("ExponentialMovingAverage(zero_debias=True) is not offered")
        self.decay, self.num_updates, self.name = decay, num_updates, name
        self._shadows: dict[Any, Variable] = {}

    def apply(self, var_list: Iterable[Any] | None = None) -> Node:
        """An op that updates the averages (default: of all trainable variables)."""
        chosen = trainable_variables() if var_list is None else list(var_list)
        updates = []
        for item in chosen:
            shadow = self._shadow(item)
            share = 1.0 - self._decay(shadow)
            updates.append(shadow.assign_sub((shadow.value() - convert(item)) * share))
        return group(*updates, name=self.name)

    def _shadow(self, item: Variable | Value) -> Variable:
        if item in self._shadows:
            return self._shadows[item]
        if not item.dtype.is_floating:
            raise DTypeError(f"averages are of floats, not of {item!r}")
        is_variable = isinstance(item, Variable)
        graph = get_default_graph()
        with graph.absolute_scope(), graph.control_dependencies(None):
            start = item.initialized_value() if isinstance(item, Variable) else _zeros(item)
            name = f"{item.op.name}/{self.name}"
            shadow = self._shadows[item] = Variable(start, trainable=False, name=name)
        if is_variable:
            add_to_collection(GraphKeys.MOVING_AVERAGE_VARIABLES, item)
        return shadow

    def _decay(self, shadow: Variable) -> Value:
        decay = convert(self.decay, like=shadow.dtype)
        if self.num_updates is None:
            return decay
        count = pw.cast(convert(self.num_updates), dtype=shadow.dtype)
        return pw.minimum(decay, (count + 1.0) / (count + 10.0))

    def average(self, var: Any) -> Variable | None:
        """The shadow of a variable or tensor; None before `apply` made it."""
        return self._shadows.get(var)

    def average_name(self, var: Any) -> str:
        """The name under which a checkpoint holds the average."""
        shadow = self._shadows.get(var)
        return shadow.op.name if shadow is not None else f"{var.op.name}/{self.name}"

    def variables_to_restore(
        self, moving_avg_variables: Iterable[Variable] | None = None
    ) -> dict[str, Variable]:
        """Names in a checkpoint and variables, such that averages are restored as the variables."""
        averaged = moving_avg_variables
        if averaged is None:
            averaged = [*trainable_variables(), *moving_average_variables()]
        names = {self.average_name(v): v for v in dict.fromkeys(averaged)}
        others = [v for v in global_variables() if v not in names.values()]
        shadows = set(self._shadows.values())
        return names | {v.op.name: v for v in others if v not in shadows}


def _zeros(value: Value) -> Value:
    return zeros(value.type.static_shape, value.dtype)

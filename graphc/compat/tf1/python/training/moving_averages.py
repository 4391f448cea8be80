"""`tf.python.training.moving_averages`: averages of variables."""

from __future__ import annotations

from typing import Any

from graphc.compat.symbols import delegate
from graphc.frontend.averages import ExponentialMovingAverage
from graphc.frontend.variables import Variable
from graphc.ir.graph import Value


def assign_moving_average(
    variable: Variable, value: Any, decay: Any, zero_debias: bool = False, name: str | None = None
) -> Value:
    """variable -= (1 - decay) * (variable - value)"""
    del zero_debias
    return variable.assign_sub((variable.value() - value) * (1.0 - decay), name=name)


__all__ = ["ExponentialMovingAverage", "assign_moving_average"]
__getattr__ = delegate(__name__)

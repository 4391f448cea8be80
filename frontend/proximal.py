"""Optimizers with penalties in the update itself: FTRL, the proximal ones, dual averaging.

The formulas are those of TensorFlow 1's update kernels. l1 makes small weights exactly 0.
"""

from __future__ import annotations

from typing import Any

from graphc.frontend.optimizers import Optimizer
from graphc.frontend.variables import Variable
from graphc.ir.errors import AttributeValueError
from graphc.ir.graph import Value, convert
from graphc.ir.ops import pointwise as pw


def _check_positive(name: str, value: float, allow_zero: bool = True) -> float:
    if value < 0 or (value == 0 and not allow_zero):
        raise AttributeValueError(
            f"{name} must {'not be negative' if allow_zero else 'be positive'}, got {value}"
        )
    return value


def _shrunk(x: Value, limit: Value) -> Value:
    """x moved towards 0 by `limit`, and not past it."""
    return pw.sign(x) * pw.maximum(pw.abs_(x) - limit, convert(0, like=x.dtype))


class ProximalGradientDescentOptimizer(Optimizer):
    """p = v - rate g;  v = sign(p) max(|p| - rate l1, 0) / (1 + rate l2)

    Duchi and Singer, "Efficient learning using forward-backward splitting", 2009.
    """

    def __init__(
        self,
        learning_rate: Any,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        use_locking: bool = False,
        name: str = "ProximalGradientDescent",
    ) -> None:
        super().__init__(learning_rate, name, use_locking)
        self.l1, self.l2 = l1_regularization_strength, l2_regularization_strength

    def _update(self, g: Value, variable: Variable) -> list[Any]:
        rate = self._like(self.learning_rate, variable)
        return [variable.assign(self._step(g, variable, rate))]

    def _step(self, g: Value, variable: Variable, rate: Value) -> Value:
        return _shrunk(variable.value() - g * rate, rate * self.l1) / (rate * self.l2 + 1.0)


class ProximalAdagradOptimizer(ProximalGradientDescentOptimizer):
    """As the proximal gradient descent, at Adagrad's rate for each element."""

    def __init__(
        self,
        learning_rate: Any,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        use_locking: bool = False,
        name: str = "ProximalAdagrad",
    ) -> None:
        strengths = l1_regularization_strength, l2_regularization_strength
        super().__init__(learning_rate, *strengths, use_locking, name)
        self.initial = _check_positive(
            "initial_accumulator_value", initial_accumulator_value, allow_zero=False
        )

    def _create_slots(self, variable: Variable) -> None:
        self.slot(variable, "accumulator", self.initial)

    def _update(self, g: Value, variable: Variable) -> list[Any]:
        slot = self.slot(variable, "accumulator", self.initial)
        total = slot.value() + pw.square(g)
        rate = self._like(self.learning_rate, variable) * pw.rsqrt(total)
        return [slot.assign(total), variable.assign(self._step(g, variable, rate))]


class AdagradDAOptimizer(Optimizer):
    """G += g;  a += g^2;  v = -rate sign(G) max(|G| - l1 t, 0) / (l2 t rate + sqrt(a))

    t is the global step, counted from 1. Duchi, Hazan and Singer, 2011 (dual averaging).
    """

    def __init__(
        self,
        learning_rate: Any,
        global_step: Any,
        initial_gradient_squared_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        use_locking: bool = False,
        name: str = "AdagradDA",
    ) -> None:
        super().__init__(learning_rate, name, use_locking)
        self.global_step = global_step
        self.initial = _check_positive(
            "initial_gradient_squared_accumulator_value",
            initial_gradient_squared_accumulator_value,
            allow_zero=False,
        )
        self.l1, self.l2 = l1_regularization_strength, l2_regularization_strength

    def _create_slots(self, variable: Variable) -> None:
        self.slot(variable, "gradient_accumulator")
        self.slot(variable, "gradient_squared_accumulator", self.initial)

    def _update(self, g: Value, variable: Variable) -> list[Any]:
        sums = self.slot(variable, "gradient_accumulator")
        squares = self.slot(variable, "gradient_squared_accumulator", self.initial)
        step = pw.cast(convert(self.global_step), dtype=variable.dtype) + 1.0
        rate = self._like(self.learning_rate, variable)
        total, spread = sums.value() + g, squares.value() + pw.square(g)
        scale = rate * step * self.l2 + pw.sqrt(spread)
        new = -(rate * _shrunk(total, step * self.l1)) / scale
        return [sums.assign(total), squares.assign(spread), variable.assign(new)]


class FtrlOptimizer(Optimizer):
    """n' = n + g^2;  z += g - (n'^p - n^p) / rate v;  n = n', with p = -learning_rate_power;
    v = (l1 sign(z) - z) / (n^p / rate + 2 l2), or 0 where |z| <= l1

    McMahan et al., "Ad click prediction: a view from the trenches", 2013. The shrinkage adds
    2 l2_shrinkage v to the g of z.
    """

    def __init__(
        self,
        learning_rate: Any,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        use_locking: bool = False,
        name: str = "Ftrl",
        accum_name: str | None = None,
        linear_name: str | None = None,
        l2_shrinkage_regularization_strength: float = 0.0,
    ) -> None:
        del accum_name, linear_name
        super().__init__(learning_rate, name, use_locking)
        if learning_rate_power > 0:
            raise AttributeValueError(
                f"learning_rate_power is not positive, got {learning_rate_power}"
            )
        self.power = -learning_rate_power
        self.initial = _check_positive("initial_accumulator_value", initial_accumulator_value)
        self.l1 = _check_positive("l1_regularization_strength", l1_regularization_strength)
        self.l2 = _check_positive("l2_regularization_strength", l2_regularization_strength)
        self.shrinkage = _check_positive(
            "l2_shrinkage_regularization_strength", l2_shrinkage_regularization_strength
        )

    def _create_slots(self, variable: Variable) -> None:
        self.slot(variable, "accum", self.initial)
        self.slot(variable, "linear")

    def _raised(self, x: Value) -> Value:
        return pw.sqrt(x) if self.power == 0.5 else pw.pow_(x, convert(self.power, like=x.dtype))

    def _update(self, g: Value, variable: Variable) -> list[Any]:
        accum, linear = self.slot(variable, "accum", self.initial), self.slot(variable, "linear")
        v, rate = variable.value(), self._like(self.learning_rate, variable)
        n = accum.value() + pw.square(g)
        pull = g + v * (2.0 * self.shrinkage) if self.shrinkage else g
        z = linear.value() + pull - (self._raised(n) - self._raised(accum.value())) / rate * v
        new = (pw.sign(z) * self.l1 - z) / (self._raised(n) / rate + 2.0 * self.l2)
        zero = convert(0, like=variable.dtype)
        new = pw.where(pw.greater(pw.abs_(z), convert(self.l1, like=z.dtype)), new, zero)
        return [accum.assign(n), linear.assign(z), variable.assign(new)]

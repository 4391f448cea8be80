"""Optimizers: gradients, and updates of variables built from them.

The updates are plain assignments of elementwise formulas, so that the compiler makes one kernel
of them; the formulas are TensorFlow 1's. Slots are variables beside the trained ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from graphc.frontend.framework import group
from graphc.frontend.gradients import gradients, why_no_gradient
from graphc.frontend.variables import Variable, trainable_variables
from graphc.ir.errors import AttributeValueError, GradientError, ShapeError
from graphc.ir.graph import Node, Value, convert, get_default_graph
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops.movement import broadcast_to_shape

GradVar = tuple["Value | None", Variable]


class Optimizer:
    """The base: `minimize`, `compute_gradients`, `apply_gradients`, and slots.

    Hyperparameters may be numbers or scalar tensors (placeholders, schedules).
    """

    GATE_NONE, GATE_OP, GATE_GRAPH = 0, 1, 2

    def __init__(self, learning_rate: Any, name: str, use_locking: bool = False) -> None:
        del use_locking
        self.learning_rate = learning_rate
        self._name = name
        self._slots: dict[str, dict[Variable, Variable]] = {}

    def get_name(self) -> str:
        """The optimizer's name."""
        return self._name

    def minimize(
        self,
        loss: Any,
        global_step: Variable | None = None,
        var_list: Iterable[Variable] | None = None,
        gate_gradients: int = 1,
        aggregation_method: Any = None,
        colocate_gradients_with_ops: bool = False,
        name: str | None = None,
        grad_loss: Any = None,
    ) -> Node:
        """An op that changes the variables (default: all trainable ones) against the gradient."""
        del gate_gradients, aggregation_method, colocate_gradients_with_ops
        pairs = self.compute_gradients(loss, var_list, grad_loss=grad_loss)
        if all(g is None for g, _ in pairs):
            names = ", ".join(repr(v.name) for _, v in pairs) or "none"
            reason = why_no_gradient(loss, [v for _, v in pairs])
            raise GradientError(
                f"no gradient reaches any of the variables to train ({names}) from {loss!r}: "
                f"{reason}"
            )
        return self.apply_gradients(pairs, global_step, name)

    def compute_gradients(
        self,
        loss: Any,
        var_list: Iterable[Variable] | None = None,
        gate_gradients: int = 1,
        aggregation_method: Any = None,
        colocate_gradients_with_ops: bool = False,
        grad_loss: Any = None,
    ) -> list[GradVar]:
        """(gradient, variable) pairs; None where the loss does not depend on the variable."""
        del gate_gradients, aggregation_method, colocate_gradients_with_ops
        variables = list(var_list) if var_list is not None else trainable_variables()
        if not variables:
            raise GradientError("there are no variables to train")
        seeds = None if grad_loss is None else [grad_loss]
        return list(zip(gradients([loss], variables, seeds), variables, strict=True))

    def apply_gradients(
        self,
        grads_and_vars: Iterable[GradVar],
        global_step: Variable | None = None,
        name: str | None = None,
    ) -> Node:
        """An op that updates the variables by the gradients, and adds 1 to `global_step`."""
        pairs = [(convert(g), v) for g, v in grads_and_vars if g is not None]
        if not pairs:
            raise GradientError("apply_gradients was given no gradient")
        for _, variable in pairs:
            if not isinstance(variable, Variable):
                raise GradientError(f"only variables can be trained, got {variable!r}")
        graph = pairs[0][1].graph
        for _, variable in pairs:
            self._create_slots(variable)
        with graph.name_scope(name or self._name) as scope:
            self._prepare(pairs)
            updates: list[Any] = []
            for g, variable in pairs:
                with graph.name_scope(f"update_{variable.op.name.replace('/', '_')}"):
                    updates.extend(self._constrained(self._update(g, variable), variable))
            updates.extend(self._finish())
            if global_step is not None:
                updates.append(global_step.assign_add(1))
            step = group(*updates, name=scope)
        graph.add_to_collection("train_op", step)
        return step

    def _constrained(self, updates: list[Any], variable: Variable) -> list[Any]:
        """The updates, and after them what the variable's constraint asks for."""
        if variable.constraint is None:
            return updates
        with variable.graph.control_dependencies(updates):
            return [*updates, variable.assign(variable.constraint(variable.value()))]

    # -- slots

    def get_slot(self, var: Variable, name: str) -> Variable | None:
        """The slot of a variable, None when there is none."""
        return self._slots.get(name, {}).get(var)

    def get_slot_names(self) -> list[str]:
        """The names of all slots."""
        return sorted(self._slots)

    def variables(self) -> list[Variable]:
        """All slots, and the variables that belong to no one variable."""
        return [slot for slots in self._slots.values() for slot in slots.values()]

    def slot(self, variable: Variable, name: str, initial: float = 0.0) -> Variable:
        """The slot, made on first use with `initial` everywhere."""
        slots = self._slots.setdefault(name, {})
        if variable not in slots:
            graph = get_default_graph()
            with graph.absolute_scope(), graph.control_dependencies(None):
                value = broadcast_to_shape(
                    convert(initial, dtype=variable.dtype), variable.node.types[0].static_shape
                )
                slots[variable] = Variable(
                    value, trainable=False, name=f"{variable.op.name}/{self._name}"
                )
        return slots[variable]

    # -- what an optimizer says

    def _create_slots(self, variable: Variable) -> None:
        """Make the variable's slots."""

    def _prepare(self, pairs: Sequence[tuple[Value, Variable]]) -> None:
        """What is computed once for all variables."""

    def _update(self, g: Value, variable: Variable) -> list[Any]:
        """The assignments for one variable."""
        raise NotImplementedError

    def _finish(self) -> list[Any]:
        """Assignments after all variables."""
        return []

    def _like(self, x: Any, variable: Variable) -> Value:
        """A hyperparameter as a scalar of the variable's dtype."""
        x = x() if callable(x) else x
        value = convert(x, like=variable.dtype) if not isinstance(x, Value) else x
        if value.type.rank not in (0, None):
            raise ShapeError(f"{self._name}: a hyperparameter is a scalar, got {value!r}")
        return value if value.dtype is variable.dtype else pw.cast(value, dtype=variable.dtype)


class GradientDescentOptimizer(Optimizer):
    """v -= learning_rate * g"""

    def __init__(
        self, learning_rate: Any, use_locking: bool = False, name: str = "GradientDescent"
    ) -> None:
        super().__init__(learning_rate, name, use_locking)

    def _update(self, g: Value, variable: Variable) -> list[Any]:
        return [variable.assign_sub(g * self._like(self.learning_rate, variable))]


class MomentumOptimizer(Optimizer):
    """m = momentum * m + g;  v -= learning_rate * m   (Nesterov: g + momentum * m)

    Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.
    """

    def __init__(
        self,
        learning_rate: Any,
        momentum: Any,
        use_locking: bool = False,
        name: str = "Momentum",
        use_nesterov: bool = False,
    ) -> None:
        super().__init__(learning_rate, name, use_locking)
        self.momentum = momentum
        self.use_nesterov = use_nesterov

    def _create_slots(self, variable: Variable) -> None:
        self.slot(variable, "momentum")

    def _update(self, g: Value, variable: Variable) -> list[Any]:
        slot = self.slot(variable, "momentum")
        momentum, rate = (self._like(x, variable) for x in (self.momentum, self.learning_rate))
        m = slot.value() * momentum + g
        direction = g + m * momentum if self.use_nesterov else m
        return [slot.assign(m), variable.assign_sub(direction * rate)]


class AdagradOptimizer(Optimizer):
    """a += g^2;  v -= learning_rate * g / sqrt(a)   (Duchi, Hazan and Singer, 2011)"""

    def __init__(
        self,
        learning_rate: Any,
        initial_accumulator_value: float = 0.1,
        use_locking: bool = False,
        name: str = "Adagrad",
    ) -> None:
        super().__init__(learning_rate, name, use_locking)
        if initial_accumulator_value <= 0:
            raise AttributeValueError(
                f"initial_accumulator_value must be positive, got {initial_accumulator_value}"
            )
        self.initial = initial_accumulator_value

    def _create_slots(self, variable: Variable) -> None:
        self.slot(variable, "accumulator", self.initial)

    def _update(self, g: Value, variable: Variable) -> list[Any]:
        slot = self.slot(variable, "accumulator", self.initial)
        total = slot.value() + pw.square(g)
        step = g * self._like(self.learning_rate, variable) * pw.rsqrt(total)
        return [slot.assign(total), variable.assign_sub(step)]


class AdadeltaOptimizer(Optimizer):
    """a = rho a + (1 - rho) g^2;  d = g sqrt(u + eps) / sqrt(a + eps);  u = rho u + (1 - rho) d^2;
    v -= learning_rate * d   (Zeiler, 2012)"""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: Any = 0.95,
        epsilon: Any = 1e-8,
        use_locking: bool = False,
        name: str = "Adadelta",
    ) -> None:
        super().__init__(learning_rate, name, use_locking)
        self.rho, self.epsilon = rho, epsilon

    def _create_slots(self, variable: Variable) -> None:
        self.slot(variable, "accum")
        self.slot(variable, "accum_update")

    def _update(self, g: Value, variable: Variable) -> list[Any]:
        accum, accum_update = (self.slot(variable, n) for n in ("accum", "accum_update"))
        rho, eps = self._like(self.rho, variable), self._like(self.epsilon, variable)
        a = accum.value() * rho + pw.square(g) * (1.0 - rho)
        d = g * pw.sqrt(accum_update.value() + eps) * pw.rsqrt(a + eps)
        u = accum_update.value() * rho + pw.square(d) * (1.0 - rho)
        rate = self._like(self.learning_rate, variable)
        return [accum.assign(a), accum_update.assign(u), variable.assign_sub(d * rate)]


class RMSPropOptimizer(Optimizer):
    """s = decay s + (1 - decay) g^2;  m = momentum m + learning_rate g / sqrt(s + eps);  v -= m

    Centered: the running mean of g, squared, is taken from s first. (Hinton's lecture 6e, 2012;
    Graves 2013.) TensorFlow starts s at 1.
    """

    def __init__(
        self,
        learning_rate: Any,
        decay: Any = 0.9,
        momentum: Any = 0.0,
        epsilon: Any = 1e-10,
        use_locking: bool = False,
        centered: bool = False,
        name: str = "RMSProp",
    ) -> None:
        super().__init__(learning_rate, name, use_locking)
        self.decay, self.momentum, self.epsilon, self.centered = decay, momentum, epsilon, centered

    def _create_slots(self, variable: Variable) -> None:
        self.slot(variable, "rms", 1.0)
        if self.centered:
            self.slot(variable, "mg")
        self.slot(variable, "momentum")

    def _update(self, g: Value, variable: Variable) -> list[Any]:
        rms, momentum = self.slot(variable, "rms", 1.0), self.slot(variable, "momentum")
        decay, eps = self._like(self.decay, variable), self._like(self.epsilon, variable)
        s = rms.value() * decay + pw.square(g) * (1.0 - decay)
        updates: list[Any] = [rms.assign(s)]
        spread = s
        if self.centered:
            mean = self.slot(variable, "mg")
            mg = mean.value() * decay + g * (1.0 - decay)
            updates.append(mean.assign(mg))
            spread = s - pw.square(mg)
        rate = self._like(self.learning_rate, variable)
        m = momentum.value() * self._like(self.momentum, variable)
        m = m + rate * g * pw.rsqrt(spread + eps)
        return [*updates, momentum.assign(m), variable.assign_sub(m)]


class AdamOptimizer(Optimizer):
    """m = beta1 m + (1 - beta1) g;  s = beta2 s + (1 - beta2) g^2;
    v -= learning_rate sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(s) + eps)

    Kingma and Ba, 2015, in the form just before section 2.1, as TensorFlow has it.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        epsilon: Any = 1e-8,
        use_locking: bool = False,
        name: str = "Adam",
    ) -> None:
        super().__init__(learning_rate, name, use_locking)
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        self._powers: list[Variable] = []
        self._rate: Value | None = None

    def _create_slots(self, variable: Variable) -> None:
        self.slot(variable, "m")
        self.slot(variable, "v")

    def _prepare(self, pairs: Sequence[tuple[Value, Variable]]) -> None:
        first = pairs[0][1]
        if not self._powers:
            graph = get_default_graph()
            with graph.absolute_scope(), graph.control_dependencies(None):
                self._powers = [
                    Variable(self._like(beta, first), trainable=False, name=f"beta{i}_power")
                    for i, beta in ((1, self.beta1), (2, self.beta2))
                ]
        power1, power2 = (p.value() for p in self._powers)
        rate = self._like(self.learning_rate, first)
        self._rate = rate * pw.sqrt(1.0 - power2) / (1.0 - power1)

    def _update(self, g: Value, variable: Variable) -> list[Any]:
        assert self._rate is not None
        slot_m, slot_v = self.slot(variable, "m"), self.slot(variable, "v")
        beta1, beta2 = self._like(self.beta1, variable), self._like(self.beta2, variable)
        m = slot_m.value() * beta1 + g * (1.0 - beta1)
        v = slot_v.value() * beta2 + pw.square(g) * (1.0 - beta2)
        rate = self._like(self._rate, variable)
        step = m * rate / (pw.sqrt(v) + self._like(self.epsilon, variable))
        decay = self._decay(variable)
        total = step if decay is None else step + decay
        return [slot_m.assign(m), slot_v.assign(v), variable.assign_sub(total)]

    def _decay(self, variable: Variable) -> Value | None:
        del variable
        return None

    def _finish(self) -> list[Any]:
        power1, power2 = self._powers
        return [
            power1.assign(power1.value() * self._like(self.beta1, power1)),
            power2.assign(power2.value() * self._like(self.beta2, power2)),
        ]

    def variables(self) -> list[Variable]:
        """The slots and the two powers."""
        return [*super().variables(), *self._powers]


class AdamWOptimizer(AdamOptimizer):
    """Adam, and beside it v -= learning_rate * weight_decay * v (Loshchilov and Hutter, 2019)."""

    def __init__(
        self,
        weight_decay: Any = 0.01,
        learning_rate: Any = 0.001,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        epsilon: Any = 1e-8,
        use_locking: bool = False,
        name: str = "AdamW",
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, epsilon, use_locking, name)
        self.weight_decay = weight_decay

    def _decay(self, variable: Variable) -> Value | None:
        rate = self._like(self.learning_rate, variable)
        return variable.value() * (rate * self._like(self.weight_decay, variable))

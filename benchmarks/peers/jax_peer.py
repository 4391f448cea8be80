"""JAX: one jitted function per step; its state is donated, so that it is updated in place."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from benchmarks.workload import Arrays, Function, Optimizer, Runner, Training

Tree = Any


def on_device(arrays: Arrays) -> Tree:
    """The arrays as JAX's."""
    return {n: jnp.asarray(a) for n, a in arrays.items()}


def slots_of(optimizer: Optimizer, parameters: Tree) -> Tree:
    """What the optimizer remembers."""
    zeros = partial(jax.tree.map, jnp.zeros_like, parameters)
    if optimizer.name == "adam":
        return zeros(), zeros(), jnp.zeros((), jnp.float32)
    return zeros() if optimizer.name == "momentum" else ()


def updated(optimizer: Optimizer, parameters: Tree, slots: Tree, gradients: Tree) -> Tree:
    """(parameters, slots) after a step of TensorFlow 1's formulas."""
    rate = optimizer.rate
    if optimizer.name == "momentum":
        slots = gradients = jax.tree.map(lambda v, g: 0.9 * v + g, slots, gradients)
    if optimizer.name != "adam":
        return jax.tree.map(lambda p, g: p - rate * g, parameters, gradients), slots
    m, v, t = slots
    t = t + 1
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradients)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradients)
    scale = rate * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)

    def moved(p: Any, m: Any, v: Any) -> Any:
        return p - scale * m / (jnp.sqrt(v) + optimizer.epsilon)

    return jax.tree.map(moved, parameters, m, v), (m, v, t)


def training(work: Training, variant: str) -> Runner:
    """Steps of parameters and slots."""
    del variant
    batch, parameters = on_device(work.batch), on_device(work.parameters)
    loss_of, optimizer = work.losses["jax"], work.optimizer
    state = parameters, slots_of(optimizer, parameters)

    def loss(parameters: Tree, batch: Tree) -> Any:
        return loss_of(jax, parameters, batch)

    def update(state: Tree, batch: Tree) -> Tree:
        return updated(optimizer, *state, jax.grad(loss)(state[0], batch))

    jitted = jax.jit(update, donate_argnums=0)

    def step() -> None:
        nonlocal state
        state = jax.block_until_ready(jitted(state, batch))

    return Runner(step, lambda: {n: np.asarray(a) for n, a in state[0].items()})


def function(work: Function, variant: str) -> Runner:
    """Calls; weights are arguments, as JAX's users have them."""
    del variant
    weights, inputs = on_device(work.weights), on_device(work.inputs)
    outputs, names = work.outputs["jax"], work.names
    jitted = jax.jit(lambda w, x: outputs(jax, w, x))

    def step() -> Any:
        return jax.block_until_ready(jitted(weights, inputs))

    return Runner(step, lambda: {n: np.asarray(a) for n, a in zip(names, step(), strict=True)})

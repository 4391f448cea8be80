"""JAX on a GPU: one jitted function per step; its state is donated, so that it changes in place.

JAX takes memory as it needs it only with XLA_PYTHON_CLIENT_PREALLOCATE=false, which must be set
before it is imported. Its streams are its own: it is waited for by its results.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from benchmarks.gpu_peers import Manner, Steps
from benchmarks.peers import NotOffered
from benchmarks.peers.jax_peer import on_device, slots_of, updated
from benchmarks.workload import Function, Training

# JAX's names of how the operands of products are rounded.
PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "default"}


def check_device(manner: Manner) -> None:
    """NotOffered where JAX computes elsewhere than the row wants."""
    backend = jax.default_backend()
    if manner.on_gpu and backend != "gpu":
        raise NotOffered(f"JAX {jax.__version__} has no GPU here, only {backend!r}")


def _peak_bytes() -> int:
    """The most memory of the device so far; 0 where JAX keeps no account (on a CPU)."""
    found = jax.devices()[0].memory_stats() or {}
    return int(found.get("peak_bytes_in_use", 0))


def training(work: Training, manner: Manner, variant: str = "") -> Steps:
    """Steps of parameters and slots."""
    del variant
    check_device(manner)
    jax.config.update("jax_default_matmul_precision", PRECISIONS[manner.precision])
    loss_of, optimizer = work.losses["jax"], work.optimizer
    parameters = on_device(work.parameters)
    batch = work.batch if manner.fed else on_device(work.batch)
    state: Any = parameters, slots_of(optimizer, parameters)
    loss: Any = None

    def loss_on(parameters: Any, batch: Any) -> Any:
        return loss_of(jax, parameters, batch)

    def update(state: Any, batch: Any) -> Any:
        parameters, slots = state
        loss, gradients = jax.value_and_grad(loss_on)(parameters, batch)
        return updated(optimizer, parameters, slots, gradients), loss

    jitted = jax.jit(update, donate_argnums=0)

    def queue() -> None:
        nonlocal state, loss
        state, loss = jitted(state, batch)

    def value() -> list[np.ndarray]:
        queue()
        return [np.asarray(loss)]

    return Steps(queue, value, lambda: jax.block_until_ready((state, loss)), _peak_bytes)


def function(work: Function, manner: Manner, variant: str = "") -> Steps:
    """Calls; weights are arguments, as JAX's users have them."""
    del variant
    check_device(manner)
    jax.config.update("jax_default_matmul_precision", PRECISIONS[manner.precision])
    weights, outputs = on_device(work.weights), work.outputs["jax"]
    inputs = work.inputs if manner.fed else on_device(work.inputs)
    jitted = jax.jit(lambda w, x: outputs(jax, w, x))
    last: Any = None

    def queue() -> Any:
        nonlocal last
        last = jitted(weights, inputs)
        return last

    def value() -> list[np.ndarray]:
        return [np.asarray(y) for y in queue()]

    return Steps(queue, value, lambda: jax.block_until_ready(last), _peak_bytes)


__all__ = ["PRECISIONS", "check_device", "function", "training"]

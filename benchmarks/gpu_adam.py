"""Adam's update of 102 million parameters, whose gradients lie on the GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

import graphc as gc
from benchmarks import gpu_jax
from benchmarks.gpu_jax import Timed
from benchmarks.gpu_kernels import raced
from benchmarks.gpu_peers.graphc_peer import executable_of
from benchmarks.gpu_timing import Call
from benchmarks.workload import Optimizer

SHAPE, COUNT = (3200, 4000), 8
TRAFFIC = 28  # bytes per parameter: four arrays read, three written
CHECKED_STEPS = 3
RATE = 1e-3


def adam_graph(shape: tuple[int, ...], count: int) -> tuple[Any, list[Any], list[Any]]:
    """The step, the parameters (zeros) and their gradients, all of them variables."""
    parameters = [gc.Variable(gc.zeros(shape)) for _ in range(count)]
    # not near zero, where it matters that torch adds epsilon at another place
    drawn = [gc.random_uniform(shape, 0.5, 1.5, seed=i) for i in range(count)]
    gradients = [gc.Variable(g, trainable=False) for g in drawn]
    pairs = [(g.read_value(), p) for g, p in zip(gradients, parameters, strict=True)]
    return gc.train.AdamOptimizer(RATE).apply_gradients(pairs), parameters, gradients


def torch_adam(gradients: list[np.ndarray], device: str, **options: Any) -> torch.optim.Adam:
    """torch's optimizer of parameters of zeros with these gradients."""
    parameters = []
    for gradient in gradients:
        tensor = torch.from_numpy(gradient).to(device)
        parameter = nn.Parameter(torch.zeros_like(tensor))
        parameter.grad = tensor
        parameters.append(parameter)
    return torch.optim.Adam(parameters, RATE, **options)


def jax_adam(gradients: list[np.ndarray], on_gpu: bool = True) -> Timed:
    """JAX's updates of parameters of zeros; each call gives (parameters, slots)."""
    jax = gpu_jax.jax_for("float32", on_gpu)
    from benchmarks.peers.jax_peer import slots_of, updated

    optimizer = Optimizer("adam", RATE)
    given = [jax.numpy.asarray(g) for g in gradients]
    begun = [jax.numpy.zeros_like(g) for g in given]
    state: Any = begun, slots_of(optimizer, begun)

    def update(state: Any, gradients: Any) -> Any:
        parameters, slots = state
        return updated(optimizer, parameters, slots, gradients)

    jitted = jax.jit(update, donate_argnums=0)

    def run(_: int) -> Any:
        nonlocal state
        state = jitted(state, given)
        return state

    return gpu_jax.timed(jax, run)


def adam_error(session: gc.Session, step: Any, parameters: list[Any], reference: Any) -> float:
    """The largest difference after some steps of both, over the learning rate."""
    for _ in range(CHECKED_STEPS):
        session.run(step)
        reference.step()
    (group,) = reference.param_groups
    errors = [
        np.abs(session.run(p) - q.detach().cpu().numpy()).max()
        for p, q in zip(parameters, group["params"], strict=True)
    ]
    return float(max(errors)) / RATE


def adam_row() -> dict[str, Any]:
    """The figures. AssertionError where graphc's parameters are not torch's."""
    with gc.Graph().as_default(), gc.Session(device="triton") as session:
        step, parameters, gradients = adam_graph(SHAPE, COUNT)
        session.run(gc.global_variables_initializer())
        arrays = [session.run(g) for g in gradients]
        fused = torch_adam(arrays, "cuda", fused=True)
        error = adam_error(session, step, parameters, fused)
        assert error < 1e-2, f"Adam: {error} of the learning rate away from torch"
        executable = executable_of(session, step)
        plain = torch_adam(arrays, "cuda", foreach=True, capturable=True)
        compiled = torch.compile(lambda: plain.step())
        calls: dict[str, Call] = {
            "graphc": lambda _: executable.launch(),
            "torch": lambda _: fused.step(),
            "torch.compile": lambda _: compiled(),
        }
        figures = raced(calls, gpu_jax.offered(lambda: jax_adam(arrays)))
        kernels = len(executable.program.kernels)
    count = COUNT * int(np.prod(SHAPE))
    return {
        "title": f"Adam, {count / 1e6:.0f} million parameters", "precision": "float32",
        "traffic": TRAFFIC * count, "flops": 0.0, "tolerance": 1e-2, "difference": error,
        "kernels": kernels, "contenders": figures,
    }  # fmt: skip


__all__ = ["adam_error", "adam_graph", "adam_row", "jax_adam", "torch_adam"]

"""torch, eagerly and with torch.compile; optimizers are its fused ones.

torch.compile gets the loss of a training step (its gradient comes with it), and for functions
"freezing", by which weights become constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from benchmarks import fairness
from benchmarks.workload import Arrays, Function, Optimizer, Runner, Training

torch.set_num_threads(fairness.THREADS)


def _tensor(array: np.ndarray, order: tuple[int, ...] | None = None) -> Any:
    if order is None:
        return torch.from_numpy(array)
    tensor = torch.from_numpy(np.ascontiguousarray(array.transpose(order)))
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def tensors_of(arrays: Arrays, layout: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The arrays as tensors; those named in the layout permuted, images channels-last."""
    return {n: _tensor(a, layout.get(n)) for n, a in arrays.items()}


def _array(tensor: Any, order: tuple[int, ...] | None) -> np.ndarray:
    array: np.ndarray = tensor.detach().numpy()
    return array if order is None else array.transpose(np.argsort(order))


def optimizer_of(optimizer: Optimizer, parameters: list[Any]) -> Any:
    """torch's own, fused."""
    if optimizer.name == "adam":
        return torch.optim.Adam(parameters, optimizer.rate, eps=optimizer.epsilon, fused=True)
    momentum = 0.9 if optimizer.name == "momentum" else 0.0
    return torch.optim.SGD(parameters, optimizer.rate, momentum=momentum, fused=True)


def training(work: Training, variant: str) -> Runner:
    """zero_grad, loss, backward, step."""
    layout, loss_of = work.torch_layout, work.losses["torch"]
    tensors = tensors_of(work.parameters, layout)
    parameters = {n: torch.nn.Parameter(t) for n, t in tensors.items()}
    batch = tensors_of(work.batch, {})
    optimizer = optimizer_of(work.optimizer, list(parameters.values()))

    def loss(p: Any, x: Any) -> Any:
        return loss_of(torch, p, x)

    if variant == "compile":
        loss = torch.compile(loss)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(parameters, batch).backward()
        optimizer.step()

    def read() -> Arrays:
        return {n: _array(t, layout.get(n)) for n, t in parameters.items()}

    return Runner(step, read)


class Weighted(torch.nn.Module):
    """A function and its weights, as freezing wants them."""

    def __init__(self, work: Function) -> None:
        super().__init__()
        self.outputs = work.outputs["torch"]
        self.names = tuple(work.weights)
        for name, tensor in tensors_of(work.weights, work.torch_layout).items():
            self.register_buffer(f"w_{name}", tensor)

    def forward(self, inputs: Mapping[str, Any]) -> list[Any]:
        """The outputs."""
        weights = {n: getattr(self, f"w_{n}") for n in self.names}
        return self.outputs(torch, weights, inputs)


def function(work: Function, variant: str) -> Runner:
    """Calls in inference mode."""
    module: Any = Weighted(work).eval()
    inputs, names = tensors_of(work.inputs, {}), work.names
    if variant == "compile":
        import torch._inductor.config as inductor

        inductor.freezing = True
        module = torch.compile(module)

    def step() -> list[Any]:
        with torch.no_grad():
            outputs: list[Any] = module(inputs)
        return outputs

    return Runner(step, lambda: {n: t.numpy() for n, t in zip(names, step(), strict=True)})

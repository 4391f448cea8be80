"""torch on a GPU, eagerly and with torch.compile; optimizers are its fused ones.

Parameters are a module's, so that torch.compile knows that they stay where they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.gpu_peers import Manner, Steps
from benchmarks.peers.torch_peer import Weighted, optimizer_of, tensors_of
from benchmarks.workload import Arrays, Function, Training


def waiting(manner: Manner) -> Callable[[], Any]:
    """Waits for the device."""
    return torch.cuda.synchronize if manner.on_gpu else lambda: None


def memory_peak(manner: Manner) -> Callable[[], int]:
    """Gives the most bytes that torch has allocated from now on; 0 off the GPU."""
    if not manner.on_gpu:
        return lambda: 0
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return lambda: int(torch.cuda.max_memory_allocated())


def configure(manner: Manner) -> None:
    """The precision of all float32 products; cuDNN chooses its convolutions by measuring."""
    tf32 = manner.precision == "tf32"
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32


def compiled(module: Any, manner: Manner) -> Any:
    """The module by torch.compile, for the shapes of the row."""
    return torch.compile(module, mode=manner.compile_mode, dynamic=False)


class Loss(torch.nn.Module):
    """A workload's loss, with its parameters."""

    def __init__(self, work: Training) -> None:
        super().__init__()
        self.loss, self.names = work.losses["torch"], tuple(work.parameters)
        for name, tensor in tensors_of(work.parameters, work.torch_layout).items():
            self.register_parameter(f"p_{name}", torch.nn.Parameter(tensor))

    def forward(self, batch: Any) -> Any:
        """Of a batch by name."""
        return self.loss(torch, {n: getattr(self, f"p_{n}") for n in self.names}, batch)


def _taker(arrays: Arrays, manner: Manner) -> Callable[[], dict[str, Any]]:
    """Gives the arrays on the device: copied for each step, or once."""

    def taken() -> dict[str, Any]:
        return {n: torch.from_numpy(a).to(manner.place) for n, a in arrays.items()}

    if manner.fed:
        return taken
    lying = taken()
    return lambda: lying


def training(work: Training, manner: Manner, variant: str) -> Steps:
    """zero_grad, loss, backward, step."""
    configure(manner)
    module: Any = Loss(work).to(manner.place)
    optimizer = optimizer_of(work.optimizer, list(module.parameters()))
    forward = compiled(module, manner) if variant == "compile" else module
    batch = _taker(work.batch, manner)

    def queue() -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = forward(batch())
        loss.backward()
        optimizer.step()
        return loss

    def value() -> list[np.ndarray]:
        return [queue().detach().cpu().numpy()]

    return Steps(queue, value, waiting(manner), memory_peak(manner))


def function(work: Function, manner: Manner, variant: str) -> Steps:
    """Calls without gradients; torch.compile gets "freezing", by which weights are constants."""
    configure(manner)
    module: Any = Weighted(work).to(manner.place).eval()
    if variant == "compile":
        import torch._inductor.config as inductor

        inductor.freezing = True
        module = compiled(module, manner)
    inputs = _taker(work.inputs, manner)

    def queue() -> Any:
        with torch.no_grad():
            return module(inputs())

    def value() -> list[np.ndarray]:
        return [y.cpu().numpy() for y in queue()]

    return Steps(queue, value, waiting(manner), memory_peak(manner))


__all__ = ["configure", "function", "memory_peak", "training", "waiting"]

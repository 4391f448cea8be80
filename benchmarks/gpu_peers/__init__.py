"""The contenders of a GPU's rows of steps: per framework a module that builds a `Steps`.

Such a module has training(workload, manner, variant) and function(workload, manner, variant). The
workloads and their spellings are those of the CPU. A framework is imported by its own module only.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.peers import CONTENDERS, NotOffered
from benchmarks.workload import Training, Workload

# Those of benchmarks.peers that run on a GPU; graphc is on its Triton back end.
NAMES = ("graphc", "torch", "torch.compile", "jax")


@dataclass(frozen=True)
class Manner:
    """How a row is run, the same for all contenders.

    `precision` is that of float32 products: "float32" (IEEE), "tf32"; "bfloat16" says that their
    operands are cast by the workload. `fed`: every step takes its batch from the host; else the
    batch lies on the device. `compile_mode` is torch.compile's. Off the GPU (for tests) torch and
    JAX compute on the CPU, and graphc on its NumPy back end.
    """

    precision: str = "float32"
    fed: bool = True
    compile_mode: str = "default"
    on_gpu: bool = True

    @property
    def place(self) -> str:
        """torch's name of the device."""
        return "cuda" if self.on_gpu else "cpu"


@dataclass(frozen=True)
class Steps:
    """One contender's row, built.

    `queue` hands a step to the device and does not wait for it; `value` does one more and gives
    its loss, or its outputs, to the host; `wait` returns when all is done. `peak_bytes`: the most
    memory of the device that was allocated since the parameters lie there.
    """

    queue: Callable[[], Any]
    value: Callable[[], list[np.ndarray]]
    wait: Callable[[], Any]
    peak_bytes: Callable[[], int]


def build(name: str, workload: Workload, manner: Manner) -> Steps:
    """The contender's steps; ImportError where its package is missing, NotOffered without words."""
    contender = CONTENDERS[name]
    words = workload.losses if isinstance(workload, Training) else workload.outputs
    if contender.module not in words:
        raise NotOffered(f"{name} has no part in: {workload.title}")
    module = importlib.import_module(f"benchmarks.gpu_peers.{contender.module}_peer")
    make = module.training if isinstance(workload, Training) else module.function
    steps: Steps = make(workload, manner, contender.variant)
    return steps


__all__ = ["NAMES", "Manner", "Steps", "build"]

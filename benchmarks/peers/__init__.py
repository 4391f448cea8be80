"""The contenders: per framework a module that turns a workload into a `Runner`.

Such a module has training(workload, variant) and function(workload, variant). A framework is
imported by its own module only, so that a contender's process holds that framework alone.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from benchmarks.workload import Function, Runner, Training, Workload


@dataclass(frozen=True)
class Contender:
    """A module of this package, what of it, the package to import, and whether it is a peer."""

    module: str
    package: str
    variant: str = ""
    is_peer: bool = True
    keeps_compiled: bool = False  # has a cache of compiled code on disk


CONTENDERS: dict[str, Contender] = {
    "graphc": Contender("graphc", "graphc", "native", is_peer=False, keeps_compiled=True),
    "graphc-numpy": Contender("graphc", "graphc", "numpy", is_peer=False),
    "numpy": Contender("numpy", "numpy", is_peer=False),
    "torch": Contender("torch", "torch", "eager"),
    "torch.compile": Contender("torch", "torch", "compile", keeps_compiled=True),
    "jax": Contender("jax", "jax"),
    "tf1": Contender("tensorflow", "tensorflow", "session"),
    "tf.function": Contender("tensorflow", "tensorflow", "xla"),
    "onnxruntime": Contender("onnxruntime", "onnxruntime"),
}


class NotOffered(Exception):
    """The contender has no part in this row."""


def takes_part(name: str, workload: Workload) -> bool:
    """Whether the contender has this workload in its words."""
    if name == "numpy":
        return workload.by_hand is not None
    return name != "onnxruntime" or isinstance(workload, Function)


def build(name: str, workload: Workload) -> Runner:
    """The contender's runner; ImportError where its package is missing."""
    if not takes_part(name, workload):
        raise NotOffered(f"{name} has no part in: {workload.title}")
    contender = CONTENDERS[name]
    module = importlib.import_module(f"benchmarks.peers.{contender.module}_peer")
    make = module.training if isinstance(workload, Training) else module.function
    runner: Runner = make(workload, contender.variant)
    return runner


__all__ = ["CONTENDERS", "Contender", "NotOffered", "build", "takes_part"]

"""The workloads of `make bench`, one module per row; `load` makes a row's."""

from __future__ import annotations

import importlib

from benchmarks.workload import Workload

# Row: (module, arguments). Order is that of the tables.
ROWS: dict[str, tuple[str, dict[str, int]]] = {
    "W1": ("softmax_regression", {}),
    "W2": ("perceptron", {}),
    "W3": ("lenet", {}),
    "W4": ("resnet50", {"batch": 1}),
    "W4b8": ("resnet50", {"batch": 8}),
    "W5": ("lstm", {}),
    "W6": ("transformer", {}),
    "W7": ("chain", {}),
    "W8s": ("softmax", {}),
    "W8l": ("layer_norm", {}),
    "W9": ("sums", {}),
    "W10": ("dense", {}),
}


def load(row: str, tiny: bool = False) -> Workload:
    """The workload of a row; `tiny`: of sizes for tests."""
    module, arguments = ROWS[row]
    made: Workload = importlib.import_module(f"benchmarks.workloads.{module}").workload(
        tiny=tiny, **arguments
    )
    return made


__all__ = ["ROWS", "load"]

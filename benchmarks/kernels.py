"""Fused kernels of the NumPy back end against torch eager and plain NumPy: chains, rows, sums.

python -m benchmarks.kernels
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import graphc as gc
from benchmarks.measure import interleaved, save

SIZE = 4096


def chain(m: Any, x: Any, a: Any, b: Any, r: Any) -> Any:
    """gelu(x * a + b) + r * tanh(x); `m` names the functions."""
    z = x * a + b
    return 0.5 * z * (1.0 + m["erf"](z * (1 / math.sqrt(2)))) + r * m["tanh"](x)


def _numpy_erf(x: np.ndarray) -> np.ndarray:
    from graphc.ir import elementwise

    return np.asarray(elementwise.erf(x))


def _cases() -> dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any], int]]:
    """Per workload: graphc's, torch's and NumPy's way, and how many inputs it has."""

    def numpy_softmax(x: np.ndarray) -> np.ndarray:
        e = np.exp(x - x.max(1, keepdims=True))
        return np.asarray(e / e.sum(1, keepdims=True))

    def graph_sums(x: Any) -> list[Any]:
        mean = gc.reduce_mean(x)
        return [gc.reduce_sum(gc.exp(x - gc.reduce_max(x))), gc.reduce_mean(gc.square(x - mean))]

    names = {
        "gc": {"erf": gc.erf, "tanh": gc.tanh},
        "torch": {"erf": torch.erf, "tanh": torch.tanh},
    }
    numpy_names = {"erf": _numpy_erf, "tanh": np.tanh}
    return {
        "chain": (
            lambda *x: chain(names["gc"], *x), lambda *x: chain(names["torch"], *x),
            lambda *x: chain(numpy_names, *x), 4,
        ),
        "softmax": (gc.nn.softmax, lambda x: torch.softmax(x, 1), numpy_softmax, 1),
        "sums": (
            graph_sums,
            lambda x: [torch.exp(x - x.max()).sum(), torch.var(x, unbiased=False)],
            lambda x: [np.exp(x - x.max()).sum(), x.var()],
            1,
        ),
    }  # fmt: skip


def measure(rounds: int = 7) -> dict[str, dict[str, float]]:
    """Median seconds per contender and workload, on float32 [4096, 4096]."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((SIZE, SIZE)).astype(np.float32) for _ in range(4)]
    tensors = [torch.from_numpy(a) for a in arrays]
    figures = {}
    for name, (graph_way, torch_way, numpy_way, count) in _cases().items():
        with gc.Graph().as_default(), gc.Session(device="numpy") as session:
            inputs = [gc.placeholder(gc.float32, [SIZE, SIZE]) for _ in range(count)]
            call = session.make_callable(graph_way(*inputs), inputs)
            _check(call(*arrays[:count]), torch_way(*tensors[:count]))
            figures[name] = interleaved(
                {
                    "graphc": lambda c=call, n=count: c(*arrays[:n]),
                    "torch": lambda w=torch_way, n=count: w(*tensors[:n]),
                    "numpy": lambda w=numpy_way, n=count: w(*arrays[:n]),
                },
                rounds,
            )
    return figures


def _check(ours: Any, theirs: Any) -> None:
    ours, theirs = (x if isinstance(x, list) else [x] for x in (ours, theirs))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=2e-4, atol=1e-5)


def main() -> None:
    """Measure, print a table, save the figures."""
    figures = measure()
    print(f"{'float32 [4096, 4096]':22}{'graphc ms':>11}{'torch ms':>11}{'numpy ms':>11}")
    for name, seconds in figures.items():
        cells = "".join(f"{seconds[c] * 1e3:11.1f}" for c in ("graphc", "torch", "numpy"))
        print(f"{name:22}{cells}")
    print("saved", save("kernels", figures))


if __name__ == "__main__":
    main()

"""What is timed on a GPU, each once as a graph and once in torch: chains, rows, sums, products.

A workload makes its inputs in two sizes: large, beyond every cache, and tiny, on which tests
compare both spellings without a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch.nn import functional

import graphc as gc

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Input:
    """An array to feed: its shapes, large and tiny, and its dtype. Integers lie below `below`."""

    large: Shape
    tiny: Shape
    dtype: str = "float32"
    below: tuple[int, int] = (0, 0)

    def array(self, tiny: bool, seed: int) -> np.ndarray:
        """Standard normal numbers, or integers."""
        rng = np.random.default_rng(seed)
        shape = self.tiny if tiny else self.large
        if self.dtype == "int64":
            return rng.integers(0, self.below[tiny], shape)
        numbers = rng.standard_normal(shape, np.float32)
        return numbers.astype(ml_dtypes.bfloat16) if self.dtype == "bfloat16" else numbers


@dataclass(frozen=True)
class Workload:
    """A function of the inputs, as a graph and in torch.

    With `wanted`, torch's outputs are followed by the gradients of those inputs; the last input
    then weighs the output, unless the output is a scalar.
    """

    inputs: tuple[Input, ...]
    graph: Callable[..., Any]
    torch: Callable[..., Any]
    wanted: tuple[int, ...] = ()
    seeded: bool = False
    flops: float = 0.0
    kind: str = "float32"  # of the product: which limit holds
    tolerance: float = 1e-4

    def arrays(self, tiny: bool = False) -> list[np.ndarray]:
        """Its inputs."""
        return [x.array(tiny, seed) for seed, x in enumerate(self.inputs)]

    def outputs(self, placeholders: Sequence[Any]) -> list[Any]:
        """The graph's outputs."""
        result = self.graph(*placeholders)
        return list(result) if isinstance(result, (list, tuple)) else [result]

    def torch_call(self, forward: Callable[..., Any], tensors: Sequence[Any]) -> list[Any]:
        """torch's outputs and gradients; `forward` is `self.torch`, or that compiled."""
        if not self.wanted:
            return [forward(*tensors)]
        given = tensors[:-1] if self.seeded else tensors
        y = forward(*given)
        weights = tensors[-1] if self.seeded else None
        grads = torch.autograd.grad(y, [tensors[i] for i in self.wanted], weights)
        return [y.detach(), *grads]

    def tensors(self, arrays: Sequence[np.ndarray], device: Any) -> list[Any]:
        """The arrays as torch's tensors, those with wanted gradients as leaves."""
        made = [to_tensor(a).to(device) for a in arrays]
        for i in self.wanted:
            made[i].requires_grad_()
        return made


def to_tensor(array: np.ndarray) -> Any:
    """The array as a tensor; torch does not know NumPy's bfloat16."""
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


# -- chains


def _chain(m: Any, x: Any, a: Any, b: Any, r: Any) -> Any:
    z = x * a + b
    return 0.5 * z * (1.0 + m.erf(z * (1 / math.sqrt(2)))) + r * m.tanh(x)


_SQUARE = Input((4096, 8192), (7, 9))
_ROWS = Input((8192, 8192), (5, 33))
_SOME = Input((8192, 4096), (6, 24))
_PER_COLUMN = Input((4096,), (24,))
_BRAIN = Input((8192, 8192), (6, 24), "bfloat16")


def _cross_entropy(logits: Any, labels: Any) -> list[Any]:
    losses = gc.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    loss = gc.reduce_mean(losses)
    return [loss, *gc.gradients(loss, [logits])]


def _layer_norm_gradient(x: Any, scale: Any, offset: Any, dy: Any) -> list[Any]:
    y = gc.nn.layer_norm(x, scale, offset)
    return [y, *gc.gradients(y, [x, scale, offset], dy)]


def _torch_layer_norm(x: Any, scale: Any, offset: Any) -> Any:
    return functional.layer_norm(x, x.shape[-1:], scale, offset)


# -- products


def _product(dtype: str, kind: str, tolerance: float) -> Workload:
    """gelu(x @ w + b)."""
    m, k, n = (8192, 4096, 4096) if dtype == "bfloat16" else (4096, 4096, 4096)
    return Workload(
        (Input((m, k), (9, 20), dtype), Input((k, n), (20, 12), dtype), Input((n,), (12,), dtype)),
        lambda x, w, b: gc.nn.gelu(gc.matmul(x, w) / 8.0 + b),
        lambda x, w, b: functional.gelu(torch.matmul(x, w) / 8.0 + b),
        flops=2.0 * m * n * k, kind=kind, tolerance=tolerance,
    )  # fmt: skip


WORKLOADS: dict[str, Workload] = {
    "pointwise_chain": Workload(
        (_SQUARE,) * 4, lambda *x: _chain(gc, *x), lambda *x: _chain(torch, *x)
    ),
    "gelu_chain": Workload(
        (_BRAIN, Input((8192,), (24,), "bfloat16"), _BRAIN),
        lambda x, b, y: gc.nn.gelu(x + b) * y,
        lambda x, b, y: functional.gelu(x + b) * y,
        tolerance=3e-2,
    ),
    "softmax": Workload((_ROWS,), gc.nn.softmax, lambda x: torch.softmax(x, 1)),
    "layer_norm": Workload((_SOME, _PER_COLUMN, _PER_COLUMN), gc.nn.layer_norm, _torch_layer_norm),
    "layer_norm_with_gradient": Workload(
        (_SOME, _PER_COLUMN, _PER_COLUMN, _SOME), _layer_norm_gradient, _torch_layer_norm,
        wanted=(0, 1, 2), seeded=True, tolerance=1e-3,
    ),
    "cross_entropy_with_gradient": Workload(
        (_ROWS, Input((8192,), (5,), "int64", (8192, 33))), _cross_entropy,
        functional.cross_entropy, wanted=(0,),
    ),
    "sum_all": Workload((_ROWS,), gc.reduce_sum, torch.sum, tolerance=1e-3),
    "sum_rows": Workload(
        (_ROWS,), lambda x: gc.reduce_sum(x, 1), lambda x: x.sum(1), tolerance=1e-3
    ),
    "sum_columns": Workload(
        (_ROWS,), lambda x: gc.reduce_sum(x, 0), lambda x: x.sum(0), tolerance=1e-3
    ),
    "transposed_add": Workload(
        (Input((8192, 8192), (9, 9)),) * 2,
        lambda x, y: x + gc.transpose(y),
        lambda x, y: x + y.T,
    ),
    "matmul_bias_gelu_bfloat16": _product("bfloat16", "bfloat16", 3e-2),
    "matmul_bias_gelu_tf32": _product("float32", "tf32", 1e-2),
    "matmul_bias_gelu_float32": _product("float32", "float32", 1e-3),
}  # fmt: skip

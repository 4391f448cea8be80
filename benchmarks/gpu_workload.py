"""What a workload of a GPU's kernels is: its inputs, and a function of them in each framework.

A workload makes its inputs in two sizes: large, beyond every cache, and tiny, on which tests
compare the spellings without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import torch

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Input:
    """An array to feed: its shapes, large and tiny, and its dtype. Integers lie below `below`;
    of bools nine in ten are True."""

    large: Shape
    tiny: Shape
    dtype: str = "float32"
    below: tuple[int, int] = (0, 0)

    def array(self, tiny: bool, seed: int) -> np.ndarray:
        """Standard normal numbers, integers, or bools."""
        rng = np.random.default_rng(seed)
        shape = self.tiny if tiny else self.large
        if self.dtype == "int64":
            return rng.integers(0, self.below[tiny], shape)
        if self.dtype == "bool":
            return rng.random(shape, np.float32) < 0.9
        numbers = rng.standard_normal(shape, np.float32)
        return numbers.astype(ml_dtypes.bfloat16) if self.dtype == "bfloat16" else numbers


@dataclass(frozen=True)
class Workload:
    """A function of the inputs, as a graph, in torch and in JAX (of its module and the inputs).

    With `wanted`, torch's and JAX's outputs are followed by the gradients of those inputs; where
    it is `seeded`, the last input weighs the output, which is a scalar otherwise. `jax_axes` is
    the order of the axes that JAX's function wants, of numbers of as many dims.
    """

    inputs: tuple[Input, ...]
    graph: Callable[..., Any]
    torch: Callable[..., Any]
    jax: Callable[..., Any]
    wanted: tuple[int, ...] = ()
    seeded: bool = False
    flops: float = 0.0
    kind: str = "float32"  # of the product: which limit holds
    tolerance: float = 1e-4
    jax_axes: Shape = ()

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

    def jax_arrays(self, jax: Any, arrays: Sequence[np.ndarray]) -> list[Any]:
        """The arrays as JAX's."""
        return [jax.numpy.asarray(self.jax_order(a)) for a in arrays]

    def jax_order(self, array: Any) -> Any:
        """The array in the order of axes that JAX's function wants, or back from it."""
        turned = array.ndim == len(self.jax_axes) and array.dtype != bool
        return array.transpose(self.jax_axes) if turned else array

    def jax_call(self, jax: Any) -> Callable[..., list[Any]]:
        """JAX's outputs and gradients of its arrays, compiled by it."""

        def call(*given: Any) -> list[Any]:
            inputs = list(given[:-1] if self.seeded else given)
            if not self.wanted:
                return [self.jax(jax, *inputs)]

            def forward(*chosen: Any) -> Any:
                places = dict(zip(self.wanted, chosen, strict=True))
                return self.jax(jax, *(places.get(i, x) for i, x in enumerate(inputs)))

            y, pull = jax.vjp(forward, *(inputs[i] for i in self.wanted))
            return [y, *pull(given[-1] if self.seeded else jax.numpy.ones_like(y))]

        jitted: Callable[..., list[Any]] = jax.jit(call)
        return jitted


def to_tensor(array: np.ndarray) -> Any:
    """The array as a tensor; torch does not know NumPy's bfloat16."""
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


__all__ = ["Input", "Shape", "Workload", "to_tensor"]

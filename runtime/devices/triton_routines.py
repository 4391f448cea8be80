"""Ops without a kernel that torch computes on the GPU, with the same numbers at every run.

Sums go over their addends in the order of the data, as the ops mean them. What is not here, and
dtypes that torch has no arithmetic for, the host computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from graphc.ir import loop
from graphc.ir.dtypes import (
    DType,
    as_dtype,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int32,
    int64,
)
from graphc.ir.loop import Kernel, Program

Tensor = Any  # torch is imported late
Attrs = Mapping[str, Any]
_DTYPES: Final = frozenset({bool_, float16, bfloat16, float32, float64, int32, int64})


@dataclass(frozen=True, slots=True)
class Routine:
    """The outputs of an op from its inputs, over views of the program's memory."""

    compute: Callable[..., Sequence[Tensor]]
    attrs: Attrs
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def __call__(self) -> None:
        """Compute it."""
        for out, result in zip(self.outputs, self.computed(), strict=True):
            out.copy_(result.reshape(out.shape))

    def computed(self) -> Sequence[Tensor]:
        """The results in new memory; also what loads torch's kernels before a capture."""
        return self.compute(self.attrs, *self.inputs)


def routine_of(kernel: Kernel, program: Program, tensors: Mapping[str, Tensor]) -> Routine | None:
    """The kernel as a routine of torch, or None where it has none."""
    (stmt,) = kernel.body
    assert isinstance(stmt, loop.Call), stmt
    attrs = dict(stmt.attrs)
    shapes = attrs.pop("shapes")
    buffers = program.buffers
    dtypes = {buffers[n].dtype for n in (*stmt.inputs, *stmt.outputs)}
    if stmt.op not in _ROUTINES or not dtypes <= _DTYPES:
        return None
    inputs = [tensors[n].view(s) for n, s in zip(stmt.inputs, shapes, strict=True)]
    outputs = [tensors[n].view(buffers[n].shape) for n in stmt.outputs]
    if not all(math.prod(t.shape) for t in (*inputs, *outputs)):
        return None
    return Routine(_ROUTINES[stmt.op], attrs, tuple(inputs), tuple(outputs))


@contextmanager
def _in_order() -> Iterator[None]:
    """Inside, sums have one order."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _wide(x: Tensor) -> Tensor:
    """As what sums are computed in."""
    import torch

    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _within(at: Tensor, size: int) -> Tensor:
    """Flat positions; those out of range are `size`."""
    import torch

    flat = at.reshape(-1).long()
    return torch.where((flat >= 0) & (flat < size), flat, size)


def _scatter_add(attrs: Attrs, x: Tensor, at: Tensor) -> Sequence[Tensor]:
    axis, size = attrs["axis"], attrs["size"]
    lead, tail = math.prod(x.shape[:axis]), math.prod(x.shape[axis + at.dim() :])
    rows = _wide(x).reshape(lead, at.numel(), tail)
    sums = rows.new_zeros((lead, size + 1, tail))
    with _in_order():
        sums.index_add_(1, _within(at, size), rows)
    return [sums[:, :size]]


def _extremum(reduce: str, start: Callable[[DType], Any]) -> Callable[..., Sequence[Tensor]]:
    def compute(attrs: Attrs, x: Tensor, at: Tensor) -> Sequence[Tensor]:
        count = attrs["count"]
        rows = x.reshape(at.numel(), -1)
        own = as_dtype(str(x.dtype).removeprefix("torch."))
        fill = float(start(own)) if own.is_floating else int(start(own))
        result = rows.new_full((count + 1, rows.shape[1]), fill)
        index = _within(at, count)[:, None].expand(rows.shape)
        result.scatter_reduce_(0, index, rows, reduce)
        return [result[:count]]

    return compute


def _sort_pairs(attrs: Attrs, x: Tensor) -> Sequence[Tensor]:
    axis = attrs["axis"]
    order = _wide(x).sort(dim=axis, descending=attrs["descending"], stable=True).indices
    if attrs["k"] is not None:
        order = order.narrow(axis, 0, attrs["k"])
    return [x.gather(axis, order), order]


def _take_pairs(attrs: Attrs, x: Tensor, at: Tensor) -> Sequence[Tensor]:
    import torch

    return [torch.take_along_dim(x, at.long(), attrs["axis"])]


def _put_pairs(attrs: Attrs, g: Tensor, at: Tensor, x: Tensor) -> Sequence[Tensor]:
    import torch

    axis = attrs["axis"] % x.dim()
    sizes, result = at.shape, _wide(g).new_zeros(x.numel())
    flat = at.new_zeros((), dtype=torch.int64)
    for i, stride in enumerate(torch.empty(x.shape, device="meta").stride()):
        along = torch.arange(sizes[i], device=at.device).view([-1] + [1] * (at.dim() - 1 - i))
        flat = flat + stride * (at.long() if i == axis else along)
    with _in_order():
        result.index_add_(0, flat.expand(sizes).reshape(-1), _wide(g).reshape(-1))
    return [result]


def _bitcast(attrs: Attrs, x: Tensor) -> Sequence[Tensor]:
    import torch

    return [x.view(getattr(torch, attrs["dtype"].name))]


def _fourier(attrs: Attrs, x: Tensor) -> Sequence[Tensor]:
    import torch

    numbers = torch.view_as_complex(x)
    transform = torch.fft.ifft if attrs["inverse"] else torch.fft.fft
    return [torch.view_as_real(transform(numbers, dim=attrs["axis"] % numbers.dim()))]


_ROUTINES: Final[Mapping[str, Callable[..., Sequence[Tensor]]]] = {
    "scatter_add": _scatter_add,
    "unsorted_segment_max": _extremum("amax", lambda dtype: dtype.min),
    "unsorted_segment_min": _extremum("amin", lambda dtype: dtype.max),
    "sort_pairs": _sort_pairs,
    "take_pairs": _take_pairs,
    "put_pairs": _put_pairs,
    "bitcast": _bitcast,
    "fourier": _fourier,
}

__all__ = ["Routine", "routine_of"]

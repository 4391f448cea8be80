"""Convolutions by torch: on a GPU cuDNN's, with channels last, the same numbers at every run.

Sums of 16-bit floats are in float32: cuDNN's are, and elsewhere they are computed as float32.
Libraries pad both ends of an image alike. Where the places need it otherwise, a forward one
computes more places and drops some; a gradient has the image padded or cut by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from graphc.codegen.triton.convolution import DATA, FORWARD, Convolution, is_absorbed

Tensor = Any  # torch is imported late
Wanted = tuple[bool, bool, bool]  # gradients by image, filter and bias


@contextmanager
def convolution_flags(tf32: bool) -> Iterator[None]:
    """What torch's own flags say of convolutions: one routine for all runs, and the rounding."""
    import torch

    flags = torch.backends.cudnn
    before = flags.benchmark, flags.deterministic, flags.conv.fp32_precision
    precision = "tf32" if tf32 else "ieee"
    try:
        flags.benchmark, flags.deterministic, flags.conv.fp32_precision = False, True, precision
        yield
    finally:
        flags.benchmark, flags.deterministic, flags.conv.fp32_precision = before


@dataclass(frozen=True)
class Convolve:
    """A convolution over views of the program's memory, with two spatial dims or three."""

    computes: str
    image: Tensor
    filter: Tensor
    result: Tensor
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    after: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    tf32: bool

    def __call__(self) -> None:
        """Compute it."""
        if self._is_direct:
            self._compute_into(self.result)
        else:
            self.out.copy_(self._computed())

    def warm_up(self) -> None:
        """Compute it into new memory: the library chooses and loads its routine."""
        if self._is_direct:
            import torch

            self._compute_into(torch.empty_like(self.result))
        else:
            self._computed()

    @property
    def out(self) -> Tensor:
        """The view of what is computed."""
        by_name = {FORWARD: self.result, DATA: self.image}
        return by_name.get(self.computes, self.filter)

    @cached_property
    def _is_direct(self) -> bool:
        """Whether cuDNN writes where the result lies."""
        dtypes = {t.dtype for t in (self.image, self.filter, self.result)}
        dense = self.result.is_contiguous(memory_format=_channels_last(self.result))
        forward = self.computes == FORWARD and self.result.is_cuda
        return forward and dense and len(dtypes) == 1 and not any(self._uneven)

    @cached_property
    def _uneven(self) -> tuple[bool, ...]:
        """Per spatial dim, whether the same padding at both ends gives other places."""
        numbers = zip(self.padding, self.after, self.stride, strict=True)
        return tuple(not is_absorbed(*each) for each in numbers)

    def _compute_into(self, out: Tensor) -> None:
        import torch

        torch.ops.aten.cudnn_convolution.out(
            self.image, self.filter, self.padding, self.stride, self.dilation, self.groups,
            False, True, self.tf32, out=out,
        )  # fmt: skip

    def _computed(self) -> Tensor:
        """What is computed, in new memory."""
        with convolution_flags(self.tf32):
            if self.computes == FORWARD:
                return self._forward()
            return self._data() if self.computes == DATA else self._filter()

    def _forward(self) -> Tensor:
        """Places before the first, as many as pad the end, and after the last are dropped."""
        import torch

        numbers = zip(self.padding, self.after, self.stride, strict=True)
        ahead = [-(min(low - high, 0) // stride) for low, high, stride in numbers]
        padding = [p + n * s for p, n, s in zip(self.padding, ahead, self.stride, strict=True)]
        result = torch.convolution(
            self._wide(self.image), self._wide(self.filter), None, self.stride, padding,
            self.dilation, False, [0] * len(padding), self.groups,
        )  # fmt: skip
        for i, start in enumerate(ahead):
            result = result.narrow(2 + i, start, self.result.shape[2 + i])
        return result

    def _data(self) -> Tensor:
        image = self._blank(self.image, [sum(pair) for pair in self._borders])
        found = self._backward(image, self._wide(self.filter), (True, False, False))[0]
        return _padded(found, [(-low, -high) for low, high in self._borders])

    def _filter(self) -> Tensor:
        image = _padded(self._wide(self.image), self._borders)
        return self._backward(image, self._blank(self.filter), (False, True, False))[1]

    @cached_property
    def _borders(self) -> tuple[tuple[int, int], ...]:
        """Per spatial dim what the library does not pad, before the image and after it."""
        numbers = zip(self._uneven, self.padding, self.after, strict=True)
        return tuple((low, high) if uneven else (0, 0) for uneven, low, high in numbers)

    def _backward(self, image: Tensor, filter_: Tensor, wanted: Wanted) -> Sequence[Tensor]:
        """The gradients by image and filter; of what is wanted, only the layout is looked at."""
        import torch

        numbers = zip(self._uneven, self.padding, strict=True)
        padding = [0 if uneven else low for uneven, low in numbers]
        found: Sequence[Tensor] = torch.ops.aten.convolution_backward(
            self._wide(self.result), image, filter_, None, self.stride, padding, self.dilation,
            False, [0] * len(padding), self.groups, wanted,
        )  # fmt: skip
        return found

    def _blank(self, x: Tensor, more: Sequence[int] = (0, 0, 0)) -> Tensor:
        """New memory for x, so much longer along its spatial dims, as what is computed."""
        import torch

        spatial = [n + m for n, m in zip(x.shape[2:], more, strict=False)]
        return torch.empty(
            (*x.shape[:2], *spatial), dtype=self._dtype, device=x.device,
            memory_format=_channels_last(x),
        )  # fmt: skip

    def _wide(self, x: Tensor) -> Tensor:
        """As what is computed, with channels last: else a library may take another order."""
        return x.to(self._dtype).contiguous(memory_format=_channels_last(x))

    @cached_property
    def _dtype(self) -> Any:
        """What is computed; off the GPU, 16-bit floats as what they are summed in."""
        import torch

        dtype = self.out.dtype
        for x in (self.image, self.filter, self.result):
            dtype = torch.promote_types(dtype, x.dtype)
        return torch.float32 if dtype.itemsize == 2 and not self.out.is_cuda else dtype


def convolve_of(found: Convolution, views: Sequence[Tensor], tf32: bool = False) -> Convolve:
    """The call that computes the convolution in views of image, filter and result."""
    image, filter_, result = views
    numbers = found.stride, found.padding, found.after, found.dilation
    if len(found.stride) == 1:  # libraries know channels last from two spatial dims on
        image, filter_, result = (t.unsqueeze(2) for t in (image, filter_, result))
        numbers = (1, *found.stride), (0, *found.padding), (0, *found.after), (1, *found.dilation)
    return Convolve(found.computes, image, filter_, result, *numbers, found.groups, tf32)


def _channels_last(tensor: Tensor) -> Any:
    import torch

    return torch.channels_last if tensor.dim() == 4 else torch.channels_last_3d


def _padded(tensor: Tensor, borders: Sequence[tuple[int, int]]) -> Tensor:
    """With zeros before and after, per spatial dim; without elements where less than 0.

    First the zeros: more elements than a small image has may go.
    """
    import torch

    more = [max(n, 0) for pair in reversed(borders) for n in pair]
    result = torch.constant_pad_nd(tensor, more) if any(more) else tensor
    for i, (low, high) in enumerate(borders):
        size = result.shape[2 + i] + min(low, 0) + min(high, 0)
        result = result.narrow(2 + i, max(-low, 0), size)
    return result


__all__ = ["Convolve", "convolution_flags", "convolve_of"]

"""Kernels that libraries compute, by torch.

cuBLAS: products of strided matrices. cuDNN: convolutions, by triton_convolution.py. Scaled dot
product attention: of 16-bit floats, forward, where nothing reads the sums, which torch keeps to
itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from graphc.codegen.triton.attention import FORWARD
from graphc.codegen.triton.convolution import Convolution
from graphc.codegen.triton.launch import Matrix
from graphc.codegen.triton.library import LibraryCall
from graphc.ir import loop
from graphc.ir.attention import scale_of
from graphc.ir.loop import Kernel, Program
from graphc.runtime.devices.triton_convolution import Convolve, convolve_of
from graphc.runtime.devices.triton_routines import Attrs, Routine, Tensor


@contextmanager
def float32_precision(tf32: bool) -> Iterator[None]:
    """What torch's float32 products round their operands to, whatever torch's own flag says."""
    import torch

    flags = torch.backends.cuda.matmul
    before = flags.fp32_precision
    flags.fp32_precision = "tf32" if tf32 else "ieee"
    try:
        yield
    finally:
        flags.fp32_precision = before


@dataclass(frozen=True, slots=True)
class Matmul:
    """out = a @ b, over views of the program's memory."""

    a: Any
    b: Any
    out: Any
    tf32: bool

    def __call__(self) -> None:
        """Compute it."""
        import torch

        with float32_precision(self.tf32):
            torch.matmul(self.a, self.b, out=self.out)

    def warm_up(self) -> None:
        """Compute it into new memory: the library chooses and loads its routine."""
        import torch

        with float32_precision(self.tf32):
            torch.matmul(self.a, self.b)


def bound_call(call: LibraryCall, tensors: Mapping[str, Tensor], tf32: bool) -> Matmul | Convolve:
    """The call over these tensors."""
    if isinstance(call, Convolution):
        views = [_view(m, tensors) for m in (call.image, call.filter, call.result)]
        return convolve_of(call, views, tf32)
    a, b, out = (_view(m, tensors) for m in (call.a, call.b, call.out))
    return Matmul(a, b, out, tf32)


def _view(matrix: Matrix, tensors: Mapping[str, Tensor]) -> Tensor:
    """The view of its buffer's tensor."""
    tensor = tensors[matrix.buffer]
    start = tensor.storage_offset() + matrix.offset  # the buffer may lie inside an arena
    return tensor.as_strided(matrix.sizes, matrix.strides, start)


# -- attention


def _attention(attrs: Attrs, q: Tensor, k: Tensor, v: Tensor, *masks: Tensor) -> Sequence[Tensor]:
    """Of tensors of rank 4."""
    from torch.nn import functional

    mask = masks[0] if masks else None
    return [functional.scaled_dot_product_attention(q, k, v, mask, **attrs)]


def attention_of(kernel: Kernel, program: Program, tensors: Mapping[str, Tensor]) -> Routine | None:
    """The kernel as torch's attention, or None where it is something else."""
    if kernel.form != "call":
        return None
    (stmt,) = kernel.body
    assert isinstance(stmt, loop.Call), stmt
    if stmt.op != FORWARD or not _takes(stmt, program):
        return None
    import torch

    attrs = dict(stmt.attrs)
    shapes = [(1,) * (4 - len(s)) + tuple(s) for s in attrs["shapes"]]
    q, k, v, *masks = [tensors[n].view(s) for n, s in zip(stmt.inputs, shapes, strict=True)]
    masks = [m.view(torch.bool) if m.dtype == torch.int8 else m for m in masks]  # bools in memory
    out = tensors[stmt.outputs[0]].view(*shapes[0][:3], shapes[2][3])
    given = {"is_causal": attrs["causal"], "scale": scale_of(attrs, shapes[0][3])}
    return Routine(_attention, given, (q, k, v, *masks), (out,))


def _takes(stmt: loop.Call, program: Program) -> bool:
    """Whether torch's public function computes the call."""
    out, lse = stmt.outputs
    read = {n for k in program.kernels for n in k.inputs} | {*program.outputs}
    attrs = dict(stmt.attrs)
    both = attrs["causal"] and len(stmt.inputs) > 3
    small = all(len(s) <= 4 for s in attrs["shapes"])
    return small and not both and lse not in read and program.buffers[out].dtype.bits == 16

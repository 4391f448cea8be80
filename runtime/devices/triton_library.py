"""Kernels that libraries compute, by torch.

cuBLAS: a dot and its store, nothing else, over strided matrices. Scaled dot product attention:
of 16-bit floats, forward, where nothing reads the sums, which torch keeps to itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from graphc.codegen.axes import simplified
from graphc.codegen.triton.attention import FORWARD
from graphc.codegen.triton.schedule import dot_axes
from graphc.ir import loop
from graphc.ir.attention import scale_of
from graphc.ir.loop import Access, Buffer, Dot, Kernel, Load, Program, Ref, Store
from graphc.runtime.devices.triton_routines import Attrs, Routine, Tensor

_LEAST_WORK = 1 << 15  # multiplications below which a library call is no better


@dataclass(frozen=True, slots=True)
class Matrix:
    """A strided view of a flat buffer."""

    buffer: str
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    def of(self, tensors: Mapping[str, Any]) -> Any:
        """The view of the buffer's tensor."""
        tensor = tensors[self.buffer]
        start = tensor.storage_offset() + self.offset  # the buffer may lie inside an arena
        return tensor.as_strided(self.sizes, self.strides, start)


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


def matmul_of(
    kernel: Kernel, buffers: Mapping[str, Buffer], tensors: Mapping[str, Any], tf32: bool = False
) -> Matmul | None:
    """The kernel as one torch.matmul into its output, or None where it is something else."""
    found = find_matmul(kernel, buffers)
    if found is None:
        return None
    a, b, out = (m.of(tensors) for m in found)
    return Matmul(a, b, out, tf32)


def find_matmul(
    kernel: Kernel, buffers: Mapping[str, Buffer]
) -> tuple[Matrix, Matrix, Matrix] | None:
    """Both operands and the result, if the kernel is a plain product of floating matrices."""
    if kernel.form != "dot" or len(kernel.body) != 2 or kernel.space < _LEAST_WORK:
        return None
    kernel = simplified(kernel)
    dot, store = kernel.body
    if not (isinstance(dot, Dot) and isinstance(store, Store)) or not _is_stored(dot, store):
        return None
    operands = [e.pieces[0] for e in (dot.a, dot.b) if isinstance(e, Load) and e.is_plain]
    if len(operands) != 2 or not dot.a.dtype.is_floating or not store.access.is_plain:
        return None
    if dot.a.dtype is not buffers[store.access.buffer].dtype:
        return None
    rows, columns, summed, batch = dot_axes(kernel)
    if len(rows) > 1 or len(columns) > 1 or len(summed) != 1:
        return None
    row, column = _one(rows), _one(columns)
    a = _matrix(kernel, operands[0], [*batch, row, summed[0]])
    b = _matrix(kernel, operands[1], [*batch, summed[0], column])
    return a, b, _matrix(kernel, store.access, [*batch, row, column])


def _is_stored(dot: Dot, store: Store) -> bool:
    value = store.value
    if isinstance(value, loop.Apply) and value.op == "cast":
        (value,) = value.args
    return isinstance(value, Ref) and value.name == dot.name


def _one(axes: Sequence[int]) -> int | None:
    return axes[0] if axes else None


def _matrix(kernel: Kernel, access: Access, axes: Sequence[int | None]) -> Matrix:
    """The access over these axes, one dim each; None is a dim of size 1."""
    sizes = tuple(1 if i is None else kernel.axes[i].size for i in axes)
    strides = tuple(1 if i is None else access.strides[i] for i in axes)
    assert math.prod(sizes) > 0, "an empty kernel is never lowered"
    return Matrix(access.buffer, sizes, strides, access.offset)


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

"""What a library can compute of a kernel: a matrix product, or a convolution, of strided views.

Only said here; what calls the library is the loader's. A kernel whose operands are computed, or
are not one strided view each, is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from graphc.codegen.axes import simplified
from graphc.codegen.triton.contraction import dot_axes
from graphc.codegen.triton.convolution import Convolution, find_convolution
from graphc.codegen.triton.launch import Matrix
from graphc.ir.loop import Access, Dot, Kernel, Load, Store

LEAST_WORK: Final = 1 << 15  # multiplications below which a library call is no better


@dataclass(frozen=True, slots=True)
class Product:
    """out = a @ b, of matrices or of batches of them."""

    a: Matrix
    b: Matrix
    out: Matrix

    @property
    def operands(self) -> tuple[Matrix, Matrix]:
        """What is read."""
        return self.a, self.b

    def __str__(self) -> str:
        return f"{self.a} @ {self.b}"


LibraryCall: TypeAlias = Product | Convolution


def library_call(kernel: Kernel) -> LibraryCall | None:
    """What computes a kernel of a dot and the store of its result, or None."""
    dot, store = kernel.body
    assert isinstance(dot, Dot) and isinstance(store, Store), kernel.body
    if kernel.space < LEAST_WORK or not dot.a.dtype.is_floating or dot.a.dtype != dot.b.dtype:
        return None
    return find_product(kernel) or find_convolution(kernel)


def find_product(kernel: Kernel) -> Product | None:
    """The product of matrices that such a kernel is, or None."""
    kernel = simplified(kernel)
    dot, store = kernel.body
    assert isinstance(dot, Dot) and isinstance(store, Store), kernel.body
    operands = [e.pieces[0] for e in (dot.a, dot.b) if isinstance(e, Load) and e.is_plain]
    if len(operands) != 2 or not store.access.is_plain:
        return None
    if min(s for x in (*operands, store.access) for s in x.strides) < 0:  # torch has no such views
        return None
    rows, columns, summed, batch = dot_axes(kernel)
    if len(rows) > 1 or len(columns) > 1 or len(summed) != 1:
        return None
    row, column = _one(rows), _one(columns)
    a = _matrix(kernel, operands[0], [*batch, row, summed[0]])
    b = _matrix(kernel, operands[1], [*batch, summed[0], column])
    return Product(a, b, _matrix(kernel, store.access, [*batch, row, column]))


def _one(axes: Sequence[int]) -> int | None:
    return axes[0] if axes else None


def _matrix(kernel: Kernel, access: Access, axes: Sequence[int | None]) -> Matrix:
    """The access over these axes, one dim each; None is a dim of size 1."""
    sizes = tuple(1 if i is None else kernel.axes[i].size for i in axes)
    strides = tuple(1 if i is None else access.strides[i] for i in axes)
    assert math.prod(sizes) > 0, "an empty kernel is never lowered"
    return Matrix(access.buffer, sizes, strides, access.offset)


__all__ = ["LEAST_WORK", "LibraryCall", "Product", "find_product", "library_call"]

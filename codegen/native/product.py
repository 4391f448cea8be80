"""A kernel as a product of matrices: the axes of both factors, of the first and of the second.

The kernel's axes fall into those of both factors (a batch), of the first alone (rows), of the
second alone (columns), and the reduce axes (the depth). A convolution is a product like any
other: its rows are pixels, its depth is what their windows hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from graphc.ir import loop
from graphc.ir.dtypes import float32, float64
from graphc.ir.loop import Kernel

_LEAST_WORK = 1 << 12  # multiplications; below, loops are as quick


class Product(NamedTuple):
    """A kernel's one product, and the axes by what depends on them."""

    dot: loop.Dot
    before: tuple[loop.Stmt, ...]
    after: tuple[loop.Stmt, ...]
    batch: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    depth: tuple[int, ...]


def product_of(kernel: Kernel) -> Product | None:
    """The kernel as a product of matrices; None where that is not what it is, or not worth it."""
    dots = [s for s in kernel.body if isinstance(s, loop.Dot)]
    others = [s for s in kernel.body if not isinstance(s, loop.Dot)]
    if len(dots) != 1 or dots[0].dtype not in (float32, float64) or kernel.space < _LEAST_WORK:
        return None
    if not kernel.reduced:
        return None
    if any(isinstance(s, loop.Reduce) or not _is_apart(s, kernel) for s in others):
        return None
    dot = dots[0]
    at = kernel.body.index(dot)
    scope = kernel.scopes
    first, second = (loop.axes_used(x, scope) for x in (dot.a, dot.b))
    batch = [i for i in kernel.parallel if (i in first) == (i in second)]
    rows = [i for i in kernel.parallel if i in first and i not in second]
    columns = [i for i in kernel.parallel if i in second and i not in first]
    product = Product(
        dot, kernel.body[:at], kernel.body[at + 1 :], tuple(batch), tuple(rows), tuple(columns),
        kernel.reduced,
    )  # fmt: skip
    product = _turned(product, kernel)
    if extent(kernel, product.columns) < 4 or extent(kernel, product.rows) < 2:
        return None
    return product


def _is_apart(stmt: loop.Stmt, kernel: Kernel) -> bool:
    """True for lets, and for stores that do not depend on the reduce axes."""
    if isinstance(stmt, loop.Let):
        return True
    assert isinstance(stmt, loop.Store)
    used = loop.axes_used(stmt.value, kernel.scopes)
    return not (used | _moving(stmt.access)) & set(kernel.reduced)


def _moving(access: loop.Access) -> set[int]:
    return {i for i, s in enumerate(access.strides) if s}


def _turned(product: Product, kernel: Kernel) -> Product:
    """The factors in such an order that vectors run along the axis that is stored densely."""
    columns, rows = extent(kernel, product.columns), extent(kernel, product.rows)
    stores = [s.access for s in product.after if isinstance(s, loop.Store)]
    dense = {i for a in stores for i, s in enumerate(a.strides) if abs(s) == 1}
    wanted = columns < 8 <= rows if columns < 8 or rows < 8 else (
        bool(dense & set(product.rows)) and not dense & set(product.columns)
    )  # fmt: skip
    if not wanted:
        return product
    dot = loop.Dot(product.dot.name, product.dot.b, product.dot.a, product.dot.dtype)
    return Product(
        dot, product.before, product.after, product.batch, product.columns, product.rows,
        product.depth,
    )  # fmt: skip


def extent(kernel: Kernel, axes: Iterable[int]) -> int:
    return math.prod(kernel.sizes[i] for i in axes)


def second_sources(product: Product) -> frozenset[str]:
    """The buffers from which the second factor follows."""
    lets = {s.name: s.value for s in product.before if isinstance(s, loop.Let)}
    found: set[str] = set()
    stack = [product.dot.b]
    while stack:
        expr = stack.pop()
        found.update(a.buffer for a in loop.accesses(expr))
        stack += [lets[n] for n in loop.refs(expr)]
    return frozenset(found)

"""Kernels with a contraction, taken apart: their axes, their operands, the product and the rest.

Before anything is emitted: what stands before the dot becomes part of its operands, and what
stands after it can be a kernel of its own, which reads the products from memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from graphc.codegen.axes import ordered, simplified
from graphc.codegen.triton.launch import Workspace
from graphc.ir import loop
from graphc.ir.dtypes import DType
from graphc.ir.loop import Access, Axis, Buffer, Dot, Kernel, Let, Load, Reduce, Ref, Store


def dot_of(kernel: Kernel) -> Dot:
    """The kernel's contraction."""
    return next(s for s in kernel.body if isinstance(s, Dot))


def dot_axes(kernel: Kernel) -> tuple[list[int], list[int], list[int], list[int]]:
    """The axes of rows (in the first operand only), columns, the summed ones, the batch."""
    dot = dot_of(kernel)
    a, b = (loop.axes_used(e, {}) for e in (dot.a, dot.b))
    rows = [i for i in kernel.parallel if i in a and i not in b]
    columns = [i for i in kernel.parallel if i in b and i not in a]
    batch = [i for i in kernel.parallel if (i in a) == (i in b)]
    return rows, columns, list(kernel.reduced), batch


def dot_sizes(kernel: Kernel) -> tuple[int, int, int, int]:
    """How many rows, columns, summands, and products of the batch."""
    m, n, k, batch = (math.prod(kernel.axes[i].size for i in g) for g in dot_axes(kernel))
    return m, n, k, batch


def uses_tensor_dot(dtype: DType) -> bool:
    """True when `tl.dot` takes the dtype; others multiply and sum."""
    return dtype.is_floating and dtype.bits <= 32


# -- before the dot


def prepared(kernel: Kernel) -> Kernel:
    """The kernel ready for a recipe: axes in order, and as few as may be.

    Lets before the dot are substituted into it. A matrix times a vector is no dot but a row
    reduction of products: a tile would be all padding. The axes of a dot stay: they tell windows
    from channels, and a tile walks several as one where an access does.
    """
    if kernel.form == "dot":
        kernel = _with_inlined_lets(kernel)
        rows, columns = dot_axes(kernel)[:2]
        if rows and columns:
            return ordered(kernel)
        kernel = _as_reduction(kernel)
    return simplified(kernel)


def _with_inlined_lets(kernel: Kernel) -> Kernel:
    values: dict[str, loop.Expr] = {}
    body: list[loop.Stmt] = []

    def expand(expr: loop.Expr) -> loop.Expr:
        return values.get(expr.name, expr) if isinstance(expr, Ref) else expr

    for stmt in kernel.body:
        before = not any(isinstance(s, Dot) for s in body)
        if isinstance(stmt, Let) and (before or isinstance(stmt.value, Ref)):
            values[stmt.name] = loop.map_expr(stmt.value, expand)
        else:
            body.append(loop.map_stmt(stmt, expand))
    return replace(kernel, body=tuple(body))


def _as_reduction(kernel: Kernel) -> Kernel:
    def change(stmt: loop.Stmt) -> loop.Stmt:
        if not isinstance(stmt, Dot):
            return stmt
        wide = [_cast(e, stmt.dtype) for e in (stmt.a, stmt.b)]
        product = loop.Apply("multiply", tuple(wide), stmt.dtype)
        return Reduce(stmt.name, "sum", product, stmt.dtype)

    return replace(kernel, body=tuple(change(s) for s in kernel.body))


def _cast(expr: loop.Expr, dtype: DType) -> loop.Expr:
    return expr if expr.dtype is dtype else loop.Apply("cast", (expr,), dtype)


# -- after the dot


@dataclass(frozen=True, slots=True)
class Divided:
    """A kernel in two: a dot and its store, and what is computed of the sums.

        v1 = dot a, b;  y = f(v1)   ->   v1 = dot a, b;  space = v1   |   v1 = space;  y = f(v1)

    Without `space` the sums are the result, and there is no `rest`.
    """

    product: Kernel
    space: Workspace | None = None
    rest: Kernel | None = None


def divided(kernel: Kernel, buffers: Mapping[str, Buffer]) -> Divided | None:
    """The two, where the sums are stored as what the operands are; None where that would round
    them more than the kernel does."""
    dot = dot_of(kernel)
    dtype = dot.a.dtype
    alone = _stored_alone(kernel, dot)
    if alone is not None:
        if buffers[alone.buffer].dtype is not dtype:
            return None
        return Divided(replace(kernel, body=(dot, Store(alone, _ref(dot)))))
    if dtype is not dot.dtype and not _is_rounded(kernel, dot):
        return None
    strides = _dense(kernel)
    space = _space(kernel, buffers, dtype, 1)
    product = replace(kernel, body=(dot, Store(Access(space.name, strides), _ref(dot))))
    load = Load((Access(space.name, _kept(kernel, strides)),), dtype)
    return Divided(product, space, _rest(kernel, Let(dot.name, _cast(load, dot.dtype)), ()))


def divided_sums(kernel: Kernel, buffers: Mapping[str, Buffer], chunks: int) -> Divided:
    """The two, the first with one axis more, in front: each of its positions adds up one of so
    many chunks of the summed axes. The rest adds up the chunks."""
    dot, strides = dot_of(kernel), _dense(kernel)
    space = _space(kernel, buffers, dot.dtype, chunks)
    size = space.size // chunks
    moved = [[(i + 1, 1)] for i in range(len(kernel.axes))]
    (inner,) = loop.remap_axes((dot,), moved, len(moved) + 1)
    store = Store(Access(space.name, (size, *strides)), _ref(dot))
    product = replace(kernel, axes=(Axis("chunk", chunks), *kernel.axes), body=(inner, store))
    load = Load((Access(space.name, (*_kept(kernel, strides), size)),), dot.dtype)
    total = Reduce(dot.name, "sum", load, dot.dtype)
    return Divided(product, space, _rest(kernel, total, (Axis("chunk", chunks, loop.REDUCE),)))


def _ref(dot: Dot) -> Ref:
    return Ref(dot.name, dot.dtype)


def _stored_alone(kernel: Kernel, dot: Dot) -> Access | None:
    """Where the sums are stored, if that is all that happens to them."""
    if len(kernel.body) != 2 or not isinstance(kernel.body[1], Store):
        return None
    store = kernel.body[1]
    return store.access if _without_cast(store.value) == _ref(dot) else None


def _without_cast(expr: loop.Expr) -> loop.Expr:
    return expr.args[0] if isinstance(expr, loop.Apply) and expr.op == "cast" else expr


def _is_rounded(kernel: Kernel, dot: Dot) -> bool:
    """Whether everything that reads the sums rounds them first to what the operands are."""
    parts = [e for s in kernel.body for x in s.exprs for e in loop.walk(x)]
    casts = [e for e in parts if isinstance(e, loop.Apply) and _is_cast_of(e, dot)]
    return len(casts) == sum(e == _ref(dot) for e in parts)


def _is_cast_of(expr: loop.Apply, dot: Dot) -> bool:
    return expr.op == "cast" and expr.args == (_ref(dot),) and expr.dtype is dot.a.dtype


def _dense(kernel: Kernel) -> tuple[int, ...]:
    """The strides of an array over the parallel axes, in their order."""
    strides, size = [0] * len(kernel.axes), 1
    for i in reversed(kernel.parallel):
        strides[i] = size
        size *= kernel.axes[i].size
    return tuple(strides)


def _kept(kernel: Kernel, strides: Sequence[int]) -> tuple[int, ...]:
    return tuple(strides[i] for i in kernel.parallel)


def _space(kernel: Kernel, buffers: Mapping[str, Buffer], dtype: DType, chunks: int) -> Workspace:
    """Memory for the sums, under a name of its own."""
    name = f"{kernel.name}_sums"
    while name in buffers:
        name += "_"
    size = math.prod(kernel.axes[i].size for i in kernel.parallel)
    return Workspace(name, dtype, chunks * size)


def _rest(kernel: Kernel, first: Let | Reduce, more: tuple[Axis, ...]) -> Kernel:
    """What stands after the dot, over the parallel axes and some more, after a first statement."""
    kept = kernel.parallel
    matrix = [[(kept.index(i), 1)] if i in kept else [] for i in range(len(kernel.axes))]
    at = kernel.body.index(dot_of(kernel))
    body = loop.remap_axes(kernel.body[at + 1 :], matrix, len(kept) + len(more))
    axes = (*(kernel.axes[i] for i in kept), *more)
    return replace(kernel, axes=axes, body=(first, *body))


__all__ = [
    "Divided", "divided", "divided_sums", "dot_axes", "dot_of", "dot_sizes", "prepared",
    "uses_tensor_dot",
]  # fmt: skip

"""Library routines that are worth a few lines of C; the others are computed by the host.

Adding to places that data say, in the order of the data (the same sum at every run), running
sums and products, and the same bits as another type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from graphc.codegen.native.spelling import VALUE
from graphc.codegen.native.text import KernelText, Place
from graphc.ir import loop
from graphc.ir.dtypes import DType, bool_

_PART = 1 << 15  # elements that are worth handing to a thread

Shape: TypeAlias = tuple[int, ...]
Lines: TypeAlias = "tuple[list[str], int, int]"  # the function's lines, extent, part


def emit_routine(stmt: loop.Call, place: Place) -> KernelText | None:
    """The routine in C; None where it has none for these types."""
    write = _ROUTINES.get(stmt.op)
    names = (*stmt.inputs, *stmt.outputs)
    dtypes = [place.buffers[n].dtype for n in names]
    if write is None or any(d.compute is not d or d is bool_ for d in dtypes):
        return None
    attrs = dict(stmt.attrs)
    shapes: Sequence[Shape] = attrs.pop("shapes")
    lines, extent, part = write(attrs, shapes, dtypes)
    if not extent:
        return KernelText()
    pointers = []
    for i, (name, dtype) in enumerate(zip(names, dtypes, strict=True)):
        const = "const " if i < len(stmt.inputs) else ""
        what = f"x{i}" if const else "out"
        pointers.append(f"{const}{VALUE[dtype]} *{what} = b[{place.slots[name]}];")
    header = f"GC_KERNEL void {place.name}(gc_buffers b, long first, long last) {{"
    function = "\n".join([header, *("    " + line for line in (*pointers, *lines)), "}"])
    parallel = f"GC_PARALLEL({place.name}, b, {extent}, {part});"
    launch = parallel if part < extent else f"{place.name}(b, 0, {extent});"
    return KernelText([function], [launch])


def _scatter_add(attrs: Mapping[str, Any], shapes: Sequence[Shape], _: Sequence[DType]) -> Lines:
    """Threads share the numbers of a slice, or, where slices are short, the leading positions."""
    axis, size = attrs["axis"], attrs["size"]
    shape, indices = shapes
    lead, count = math.prod(shape[:axis]), math.prod(indices)
    tail = math.prod(shape[axis + len(indices) :])
    by_tail = tail >= 64
    l0, l1 = ("0", str(lead)) if by_tail else ("first", "last")
    c0, c1 = ("first", "last") if by_tail else ("0", str(tail))
    lines = [
        f"for (long l = {l0}; l < {l1}; l++) {{",
        f"    for (long r = 0; r < {size}; r++)",
        f"        for (long c = {c0}; c < {c1}; c++) out[(l * {size} + r) * {tail} + c] = 0;",
        f"    for (long i = 0; i < {count}; i++) {{",
        "        const long at = (long)x1[i];",
        f"        if ((uint64_t)at >= {size}) continue;",
        "        #pragma omp simd",
        f"        for (long c = {c0}; c < {c1}; c++)",
        f"            out[(l * {size} + at) * {tail} + c] += x0[(l * {count} + i) * {tail} + c];",
        "    }",
        "}",
    ]
    extent = tail if by_tail else lead
    per_step = max(1, (size + count) * (lead if by_tail else tail))
    part = max(16 if by_tail else 1, -(-_PART // per_step))
    return lines, extent if lead * tail else 0, part


def _running(start: int, symbol: str) -> Callable[..., Lines]:
    def write(attrs: Mapping[str, Any], shapes: Sequence[Shape], dtypes: Sequence[DType]) -> Lines:
        (shape,) = shapes
        axis = attrs["axis"] % len(shape)
        size, inner = shape[axis], math.prod(shape[axis + 1 :])
        outer = math.prod(shape[:axis])
        at = f"({size - 1} - k)" if attrs["reverse"] else "k"
        ctype = VALUE[dtypes[0]]
        first, then = f"total {symbol}= x0[at];", "out[at] = total;"
        lines = [
            "for (long s = first; s < last; s++) {",
            f"    const long from = s / {inner} * {size * inner} + s % {inner};",
            f"    {ctype} total = {start};",
            f"    for (long k = 0; k < {size}; k++) {{",
            f"        const long at = from + {inner} * {at};",
            f"        {then if attrs['exclusive'] else first}",
            f"        {first if attrs['exclusive'] else then}",
            "    }",
            "}",
        ]
        return lines, outer * inner if size else 0, max(1, -(-_PART // max(size, 1)))

    return write


def _bitcast(_: Mapping[str, Any], shapes: Sequence[Shape], dtypes: Sequence[DType]) -> Lines:
    count = math.prod(shapes[0])
    width = dtypes[0].itemsize
    line = f"memcpy(out + first, x0 + first, {width} * (size_t)(last - first));"
    return [line], count, max(count, 1)


_ROUTINES: Final[Mapping[str, Callable[..., Lines]]] = {
    "scatter_add": _scatter_add,
    "cumsum": _running(0, "+"),
    "cumprod": _running(1, "*"),
    "bitcast": _bitcast,
}

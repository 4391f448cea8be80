"""Which recipe a kernel gets and its block sizes. The body of the kernel never depends on it.

All thresholds stand here. Lanes are elements of a tile; a warp is 32 threads, and about eight
to sixteen lanes a thread keep loads wide and registers few.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from graphc.codegen.triton.contraction import divided, dot_of, dot_sizes, uses_tensor_dot
from graphc.codegen.triton.convolution import Convolution
from graphc.codegen.triton.function import blocks, pow2, stores_of
from graphc.codegen.triton.launch import Options
from graphc.codegen.triton.library import library_call
from graphc.ir import loop
from graphc.ir.dtypes import DType, float32
from graphc.ir.loop import Access, Buffer, Kernel

PERSISTENT_LANES = 8192  # the longest row kept in one tile
AHEAD_BYTES = 64 << 10  # of a fold's next step in shared memory: several programs share that
FOLD_LANES = 4096  # lanes of the rows that one step of a fold walks
ROW_LANES = 2048  # lanes of a tile of several short rows, and of one step of a looped row
SPLIT_SPACE = 1 << 16  # elements from which a reduction with few rows is split
TILED_SIDE = 32  # of a transposing tile
SPLIT_STEPS = 32  # of a product's loop from which a second launch is less than what it saves
CHUNK_STEPS = 8  # of that loop, at least, in each piece of its sums
MOST_CHUNKS = 32
# An H200's speeds of 16-bit and of exact float32 products over that of its memory; and what our
# kernels reach of the library's. The shares are estimates: `autotune` measures instead.
TENSOR_WORK_PER_BYTE, TENSOR_SHARE = 184.0, 0.85
EXACT_WORK_PER_BYTE, EXACT_SHARE = 14.0, 0.6
WINDOW_SHARE = 0.7  # of that, where windows are read through guards
_SMALL = 4096  # elements below which the order of loads does not matter


@dataclass(frozen=True, slots=True)
class Schedule:
    """A recipe and its sizes: lanes per tile along x (rows, flat, M), y (columns, N), k."""

    recipe: str
    x: int = 1
    y: int = 1
    k: int = 1
    chunks: int = 1
    num_warps: int = 4
    num_stages: int = 2
    note: str = ""  # of a measurement


def schedule(kernel: Kernel, buffers: Mapping[str, Buffer], options: Options) -> Schedule:
    """The recipe for a kernel whose axes are in order and collapsed."""
    match kernel.form:
        case "flat":
            return _flat(kernel, buffers)
        case "row":
            return _row(kernel, buffers, options)
        case "fold":
            return _fold(kernel, buffers)
        case "dot":
            return _dot(kernel, buffers, options)
    raise AssertionError(f"{kernel.form} kernels have no schedule")


# -- flat


def _flat(kernel: Kernel, buffers: Mapping[str, Buffer]) -> Schedule:
    sides = transposed_axes(kernel, buffers)
    if sides is not None:
        y, x = (kernel.axes[i].size for i in sides)
        wide, high = min(TILED_SIDE, pow2(x)), min(TILED_SIDE, pow2(y))
        wide, high = (
            min(pow2(x), TILED_SIDE * TILED_SIDE // high),
            min(pow2(y), TILED_SIDE * TILED_SIDE // wide),
        )
        return Schedule("tiled", wide, high)
    many = len({*kernel.inputs, *kernel.outputs}) > 8
    lanes = min(512 if many else 1024, pow2(kernel.space))
    return Schedule("flat", max(lanes, 32), num_warps=4 if lanes >= 512 else 1)


def transposed_axes(kernel: Kernel, buffers: Mapping[str, Buffer]) -> tuple[int, int] | None:
    """(axis along which a load is contiguous, axis along which the store is), if they differ."""
    stores = stores_of(kernel)
    if not stores or kernel.space < _SMALL:
        return None
    store = max(stores, key=lambda s: buffers[s.access.buffer].size).access
    x = _unit_axis(store)
    for access in sorted(_loads(kernel), key=lambda a: (-buffers[a.buffer].size, a.buffer)):
        y = _unit_axis(access)
        if buffers[access.buffer].size < _SMALL or x is None or y is None or x == y:
            continue
        if abs(access.strides[x]) != 1 and min(kernel.axes[i].size for i in (x, y)) >= 4:
            return y, x
    return None


def _loads(kernel: Kernel) -> Iterator[Access]:
    for stmt in kernel.body:
        for expr in stmt.exprs:
            yield from loop.accesses(expr)


def _unit_axis(access: Access) -> int | None:
    """The axis along which the access is contiguous."""
    return next((i for i, s in enumerate(access.strides) if abs(s) == 1), None)


# -- rows


def _row(kernel: Kernel, buffers: Mapping[str, Buffer], options: Options) -> Schedule:
    rows = math.prod(kernel.axes[i].size for i in kernel.parallel)
    length = math.prod(kernel.axes[i].size for i in kernel.reduced)
    x, y = _row_tile(rows, length, reads_along_rows(kernel, buffers))
    # loops carry accumulators from step to step: half as many lanes a thread there
    warps = max(1, min(16, pow2(x * y // (512 if y >= length else 256))))
    chunks = _chunks(rows, length, x, y, options)
    if chunks > 1:
        return Schedule("split", x, y, chunks=chunks, num_warps=warps)
    recipe = "row" if y >= length else "row_looped"
    return Schedule(recipe, x, y, num_warps=warps)


def _row_tile(rows: int, length: int, along: bool) -> tuple[int, int]:
    """Lanes across rows and along them. Several rows share a tile where rows are short, or where
    memory is contiguous across rows (a sum over the first axis)."""
    if not along and rows > 1:
        x = min(64, pow2(rows))
        return x, min(pow2(length), max(1, ROW_LANES // x))
    if length > PERSISTENT_LANES:
        return 1, ROW_LANES
    y = pow2(length)
    return min(pow2(rows), max(1, ROW_LANES // (2 * y))), y


def reads_along_rows(kernel: Kernel, buffers: Mapping[str, Buffer]) -> bool:
    """True when the largest load is contiguous along the reduce axes."""
    loads = [a for a in _loads(kernel) if _unit_axis(a) is not None]
    if not loads:
        return True
    largest = max(loads, key=lambda a: (buffers[a.buffer].size, sum(map(bool, a.strides))))
    return _unit_axis(largest) in kernel.reduced


def _chunks(rows: int, length: int, x: int, y: int, options: Options) -> int:
    """Into how many pieces rows are split, so that all processors have work."""
    programs = blocks(rows, x)
    steps = blocks(length, y)
    if programs * 2 > options.processors or rows * length < SPLIT_SPACE or steps < 4:
        return 1
    return min(blocks(2 * options.processors, programs), blocks(steps, 2), 512)


def _fold(kernel: Kernel, buffers: Mapping[str, Buffer]) -> Schedule:
    """Few programs, each of which walks its rows: several rows a step keep a processor busy, the
    next ones on their way where shared memory holds them."""
    rows, length = (
        math.prod(kernel.axes[i].size for i in axes) for axes in (kernel.folded, kernel.reduced)
    )
    y = pow2(length)
    x = min(pow2(rows), max(1, FOLD_LANES // y))
    loads = {a for a in kernel.loads if a.buffer not in kernel.gathered and any(a.strides)}
    step = x * y * sum(buffers[a.buffer].dtype.itemsize for a in loads)
    stages = 2 if step <= AHEAD_BYTES else 1
    return Schedule("fold", x, y, num_warps=max(1, min(16, x * y // 512)), num_stages=stages)


# -- dots


def _dot(kernel: Kernel, buffers: Mapping[str, Buffer], options: Options) -> Schedule:
    if options.libraries and _library_wins(kernel, buffers, options):
        return Schedule("library")
    tile = _dot_tile(kernel, options)
    return replace(tile, chunks=_dot_chunks(kernel, tile, options))


def _dot_tile(kernel: Kernel, options: Options) -> Schedule:
    m, n, k, batch = dot_sizes(kernel)
    dtype = dot_of(kernel).a.dtype
    if not uses_tensor_dot(dtype):
        return Schedule("dot", 16, 16, 8, num_warps=4)
    half = dtype is not float32
    for x, y in ((128, 128), (128, 64), (64, 64), (32, 64), (32, 32)):
        if not half and x > 64:
            continue
        fits = x <= 2 * m and y <= 2 * n
        if fits and batch * blocks(m, x) * blocks(n, y) * 2 >= options.processors:
            break
    else:
        x, y = 32, 32
    x, y = max(16, min(x, pow2(m))), max(16, min(y, pow2(n)))
    exact = not half and not options.tf32  # without tensor cores: a longer step spills on sm_80
    step = max(16, min(64 if half else 16 if exact else 32, pow2(k)))
    warps = 8 if x * y >= 128 * 128 else 4
    return Schedule("dot", x, y, step, num_warps=warps, num_stages=3)


def _dot_chunks(kernel: Kernel, tile: Schedule, options: Options) -> int:
    """Into how many pieces the sums are split, so that all processors have work (split-K)."""
    m, n, k, batch = dot_sizes(kernel)
    tiles, steps = batch * blocks(m, tile.x) * blocks(n, tile.y), blocks(k, tile.k)
    if tiles * 2 > options.processors or steps < SPLIT_STEPS:
        return 1
    return min(2 * options.processors // tiles, steps // CHUNK_STEPS, MOST_CHUNKS)


def _library_wins(kernel: Kernel, buffers: Mapping[str, Buffer], options: Options) -> bool:
    """Whether a library is quicker though what follows the product is a pass of its own."""
    parts = divided(kernel, buffers)
    call = parts and library_call(parts.product)
    if not parts or not call:
        return False
    if parts.space is None or not uses_tensor_dot(dot_of(kernel).a.dtype):
        return True
    m, n, k, batch = dot_sizes(kernel)
    work = 2.0 * batch * m * n * k
    per_byte, share = _speed(dot_of(kernel).a.dtype, options)
    moved = per_byte * sum(buffers[m.buffer].nbytes for m in call.operands)
    if isinstance(call, Convolution):
        share *= WINDOW_SHARE
    own = max(work / share, moved)
    return max(work, moved) + 2 * per_byte * parts.space.nbytes < own


def _speed(dtype: DType, options: Options) -> tuple[float, float]:
    """The operations that a GPU does while it moves a byte, and what share of a library's
    products our own kernels reach."""
    if dtype is float32 and not options.tf32:
        return EXACT_WORK_PER_BYTE, EXACT_SHARE
    if dtype is float32:
        return TENSOR_WORK_PER_BYTE / 2, TENSOR_SHARE
    return TENSOR_WORK_PER_BYTE, TENSOR_SHARE

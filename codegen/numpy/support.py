"""What emitted NumPy code calls besides NumPy and `graphc.ir.elementwise`: views, gathers."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np

from graphc.ir.loop import step_counter

COUNTER = "%counter"  # the key of the run's number among the buffers


class Memory:
    """The flat arrays of a program's fixed buffers, by name, and the scratch that kernels share.

    `scratches` has one block per thread, `pool` the threads besides the calling one; `programs`
    the memories of the programs inside loops and branches, by kernel.
    """

    def __init__(
        self,
        buffers: dict[str, np.ndarray],
        scratches: Sequence[np.ndarray],
        pool: Executor | None = None,
        programs: Mapping[str, Sequence[Memory]] | None = None,
    ) -> None:
        self.buffers = buffers
        self.scratches = scratches
        self.pool = pool
        self.programs = programs or {}
        self._scratch = scratches[0]

    def of_thread(self, number: int) -> Memory:
        """The same buffers with the scratch of one thread."""
        return Memory(self.buffers, self.scratches[number:], self.pool)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.buffers[name]

    @property
    def counter(self) -> np.ndarray:
        """The number of the run, of a program that reads it."""
        return self.buffers[COUNTER]

    def scratch(self, offset: int, dtype: Any, shape: Sequence[int]) -> np.ndarray:
        """An array in the scratch memory, `offset` bytes from its start."""
        dtype = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        part: np.ndarray = self._scratch[offset : offset + count * dtype.itemsize].view(dtype)
        return part.reshape(shape)


def view(flat: np.ndarray, shape: Sequence[int], strides: Sequence[int], offset: int) -> np.ndarray:
    """A strided view of a flat array; strides and offset are counted in elements."""
    size = flat.itemsize
    steps = [s * size for s in strides]
    if flat.dtype.isbuiltin == 1:
        return np.ndarray(shape, flat.dtype, flat, offset * size, steps)
    # extension dtypes (bfloat16) have no buffer protocol
    raw = flat.view(np.uint16)
    return np.ndarray(shape, raw.dtype, raw, offset * size, steps).view(flat.dtype)


def gather(
    flat: np.ndarray,
    base: np.ndarray | int,
    index: np.ndarray,
    stride: int,
    size: int,
    fill: Any,
    out: np.ndarray,
) -> None:
    """out = flat[base + stride * index]; `fill` where index is outside range(size)."""
    inside = (index >= 0) & (index < size)
    at = np.where(inside, index, 0).astype(np.int64, copy=False) * stride + base
    if out.dtype.isbuiltin == 1 and at.shape == out.shape:
        np.take(flat, at, out=out, mode="clip")
    else:
        out[...] = flat[at]
    if not inside.all():
        np.copyto(out, out.dtype.type(fill), where=~inside)


def guarded(flat: np.ndarray, index: np.ndarray, holds: np.ndarray, out: np.ndarray) -> None:
    """out = flat[index] where `holds`; both are precomputed over out's shape."""
    np.copyto(out, flat[index], where=holds)


def positions(
    sizes: Sequence[int], strides: Sequence[int], offset: int, divisor: int, guards: Any
) -> tuple[np.ndarray, np.ndarray]:
    """(index, holds) of a guarded access over all points of the axes."""
    grid = np.indices(tuple(sizes), dtype=np.int64, sparse=True)

    def linear(factors: Sequence[int], start: int) -> np.ndarray:
        total = np.full((1,) * len(sizes), start, np.int64)
        for factor, axis in zip(factors, grid, strict=True):
            if factor:
                total = total + factor * axis
        return total

    holds = np.ones((1,) * len(sizes), np.bool_)
    for factors, start, size, step in guards:
        v = linear(factors, start)
        holds = holds & (v >= 0) & (v < size * step) & (v % step == 0)
    index = np.where(holds, linear(strides, offset) // divisor, 0)
    return np.broadcast_to(index, sizes), np.broadcast_to(holds, sizes)


def arg_reduce(
    function: Callable[..., Any], x: np.ndarray, axes: tuple[int, ...], out: np.ndarray
) -> None:
    """out = the row-major position over `axes` (kept as 1) of the extremum."""
    rest = [i for i in range(x.ndim) if i not in axes]
    moved = x.transpose([*rest, *axes])
    rows = moved.reshape([x.shape[i] for i in rest] + [-1])
    np.copyto(out, function(rows, axis=-1).reshape(out.shape), casting="unsafe")


Walk = Callable[..., None]  # of the first and last position of a part, and the arrays of a run


def shared(
    share: Callable[[Memory], Sequence[Walk]], mem: Memory, extent: int, step: int, threads: int
) -> list[Walk]:
    """Launches of several walks, each over range(extent): every thread, of which there are at most
    so many, has its part of it, in multiples of `step`."""
    count = min(len(mem.scratches), threads) if mem.pool else 1
    made = zip(*(share(mem.of_thread(i)) for i in range(count)), strict=True)
    return [_side_by_side(walks, mem.pool, extent, step) for walks in made]


def _side_by_side(walks: Sequence[Walk], pool: Executor | None, extent: int, step: int) -> Walk:
    """Each walk over its part of range(extent), one per thread."""
    count, tiles = len(walks), -(-extent // step)
    if count == 1 or pool is None:
        return functools.partial(walks[0], 0, extent)
    bounds = [min(extent, tiles * i // count * step) for i in range(count + 1)]

    def launch(*arrays: np.ndarray) -> None:
        others = [
            pool.submit(_quiet, walks[i], bounds[i], bounds[i + 1], *arrays)
            for i in range(1, count)
        ]
        walks[0](bounds[0], bounds[1], *arrays)
        for other in others:
            other.result()

    return launch


def _quiet(walk: Callable[..., None], *args: Any) -> None:
    with np.errstate(all="ignore"):  # the state is a thread's own
        walk(*args)


Carried = tuple[np.ndarray, np.ndarray, "np.ndarray | None"]


def repeat(
    body: Callable[..., None],
    trips: int,
    carried: Sequence[Carried],
    scanned: Sequence[np.ndarray],
    captured: Sequence[np.ndarray],
    stacked: Sequence[np.ndarray],
    conditional: bool,
    reverse: bool,
    inner: Memory,
    counter: np.ndarray | None = None,
) -> None:
    """Run `body` step after step on flat arrays; see graphc.ir.loop.Repeat."""
    state = [initial for initial, _, _ in carried]
    targets = [(result, result if spare is None else spare) for _, result, spare in carried]
    step = np.zeros(1, np.int64)
    slices, parts = ([_slices(x, trips) for x in group] for group in (scanned, stacked))
    if conditional:
        for x in stacked:
            x[...] = 0
    order: Any = itertools.count() if trips < 0 else range(trips)
    for done, t in enumerate(reversed(order) if reverse else order):
        if conditional and not state[0][0]:
            break
        # so that the last of a known number of steps writes the results themselves
        side = (trips - 1 - done) % 2
        following = [pair[side] for pair in targets]
        step[0] = t
        if counter is not None:
            inner.counter[0] = step_counter(int(counter[0]), t)
        body(step, *state, *(x[t] for x in slices), *captured, *following, *(x[t] for x in parts))
        state = following
    for x, (_, result, _) in zip(state, carried, strict=True):
        if x is not result:
            np.copyto(result, x)


def _slices(flat: np.ndarray, trips: int) -> np.ndarray:
    return flat.reshape(max(trips, 1), -1)


def branch(
    predicate: np.ndarray,
    programs: Sequence[Memory],
    bodies: Sequence[Callable[[], None]],
    counter: np.ndarray | None = None,
) -> None:
    """Run the first body where the predicate holds, else the second."""
    number = 0 if predicate[0] else 1
    if counter is not None:
        programs[number].counter[0] = counter[0]
    bodies[number]()

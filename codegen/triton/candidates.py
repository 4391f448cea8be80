"""Schedules that may be quicker than the rule's, for measuring; and by what a choice is found.

The rule's own schedule comes first. All others compute the same: only sums are taken in another
order. Sizes stay within what the rules allow, so that nothing spills that would not.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from graphc.codegen.triton.contraction import divided, dot_of, uses_tensor_dot
from graphc.codegen.triton.function import pow2
from graphc.codegen.triton.launch import Options
from graphc.codegen.triton.library import library_call
from graphc.codegen.triton.schedule import MOST_CHUNKS, PERSISTENT_LANES, Schedule, schedule
from graphc.ir import loop
from graphc.ir.dtypes import float32
from graphc.ir.loop import Access, Buffer, Kernel
from graphc.ir.loop_text import format_kernel

_LANES_PER_THREAD: Final = (2, 4, 8, 16)
_DOT_SIDES: Final = (16, 32, 64, 128)
_MOST_LANES: Final = 1 << 14  # of a tile
_MOST_WARPS: Final = 16
_LONGEST_ROW: Final = 1 << 15


def candidates(
    kernel: Kernel, buffers: Mapping[str, Buffer], options: Options
) -> tuple[Schedule, ...]:
    """What is worth measuring, for a kernel whose axes are in order and collapsed."""
    rule = schedule(kernel, buffers, options)
    if kernel.form == "dot":
        more = _dots(kernel, buffers, options)
    else:
        more = itertools.chain(_tiles(rule), _persistent(kernel, rule))
    return tuple(dict.fromkeys([rule, *more]))


def _persistent(kernel: Kernel, rule: Schedule) -> Iterator[Schedule]:
    """A long row in one tile, which reads it once, where a processor's registers hold it."""
    lanes = pow2(math.prod(kernel.axes[i].size for i in kernel.reduced))
    if rule.recipe == "row_looped" and rule.x == 1 and lanes <= _LONGEST_ROW:
        yield replace(rule, recipe="row", y=lanes, num_warps=_MOST_WARPS)


def _tiles(rule: Schedule) -> Iterator[Schedule]:
    """Smaller and larger tiles, fewer and more lanes a thread, fewer and more chunks."""
    for plan in _sizes(rule):
        lanes = plan.x * plan.y
        for per_thread in _LANES_PER_THREAD:
            warps = lanes // (32 * per_thread)
            if 1 <= warps <= _MOST_WARPS:
                yield replace(plan, num_warps=warps)


def _sizes(rule: Schedule) -> Iterator[Schedule]:
    """Tiles of other sizes. A row that lies in one tile stays in one."""
    yield rule
    if rule.recipe == "tiled":
        for side in (16, 64):
            if min(rule.x, rule.y) * 2 >= side:
                yield replace(rule, x=side, y=side)
    elif rule.recipe in ("flat", "row", "fold"):
        for x in (rule.x // 2, rule.x * 2):
            if x >= (32 if rule.recipe == "flat" else 1) and x * rule.y <= PERSISTENT_LANES:
                yield replace(rule, x=x)
    else:
        for y in (rule.y // 2, rule.y * 2):
            if y >= 1 and rule.x * y <= PERSISTENT_LANES:
                yield replace(rule, y=y)
        if rule.chunks > 3:
            yield replace(rule, chunks=rule.chunks // 2)


def _dots(kernel: Kernel, buffers: Mapping[str, Buffer], options: Options) -> Iterator[Schedule]:
    """The library and a kernel of our own: other tiles, other chunks, other depths of the pipeline;
    those without tensor cores stay small."""
    parts = divided(kernel, buffers) if options.libraries else None
    if parts is not None and library_call(parts.product) is not None:
        yield Schedule("library")
    rule = schedule(kernel, buffers, replace(options, libraries=False))
    yield rule
    dtype = dot_of(kernel).a.dtype
    if not uses_tensor_dot(dtype):
        return
    for chunks in (rule.chunks // 2, rule.chunks * 2):
        if 1 <= chunks <= MOST_CHUNKS:
            yield replace(rule, chunks=chunks)
    exact = dtype is float32 and not options.tf32
    for x in _DOT_SIDES:
        for y in _DOT_SIDES:
            near = max(x, rule.x) <= 2 * min(x, rule.x) and max(y, rule.y) <= 2 * min(y, rule.y)
            if not near or x * y > _MOST_LANES or (exact and max(x, y) > 64):
                continue
            for stages in (2, 3, 4):
                warps = (4, 8) if x * y >= 64 * 128 else (4,)
                yield from (replace(rule, x=x, y=y, num_warps=w, num_stages=stages) for w in warps)


# -- keys


def tuning_key(kernel: Kernel, buffers: Mapping[str, Buffer], options: Options) -> str:
    """A hash of what a measurement depends on: the loops, dtypes and sizes, but no names."""
    names = {n: f"b{i}" for i, n in enumerate(dict.fromkeys((*kernel.inputs, *kernel.outputs)))}

    def renamed(access: Access) -> Access:
        return replace(access, buffer=names[access.buffer])

    body = tuple(loop.map_accesses(s, renamed, lambda i: i) for s in kernel.body)
    plain = replace(kernel, name="k", covers=(), where=(), body=body)
    types = [f"{names[n]}: {buffers[n].dtype}[{buffers[n].size}]" for n in names]
    kind = str((options.tf32, options.libraries, options.processors))
    text = "\n".join([format_kernel(plain), *types, kind])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


__all__ = ["candidates", "tuning_key"]

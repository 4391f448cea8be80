"""plan_memory: where every temporary lies in one arena.

    live intervals over the kernels  ->  offsets, largest buffer first, at the lowest free place

Greedy by size (Pisarchyk and Lee, "Efficient memory management for deep neural net inference",
2020, section 5). Offsets are multiples of 256 bytes. The lower bound is the largest sum of
bytes live at one kernel.
"""

from __future__ import annotations

from graphc.ir import loop
from graphc.ir.loop import MemoryPlan, Program
from graphc.passes.context import Context

ALIGNMENT = 256


def plan_memory(program: Program, ctx: Context) -> Program:
    """The program with a memory plan for its temporaries."""
    lives = live_intervals(program)
    sizes = {n: align(program.buffers[n].nbytes) for n in lives}
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last
    offsets: dict[str, int] = {}
    for name in sorted(lives, key=lambda n: (-sizes[n], lives[n], n)):
        first, last = lives[name]
        offset = 0
        for start, end, a, b in sorted(placed):
            if a <= last and first <= b:
                if offset + sizes[name] <= start:
                    break
                offset = max(offset, end)
        offsets[name] = offset
        placed.append((offset, offset + sizes[name], first, last))
    total = max((end for _, end, _, _ in placed), default=0)
    bound = lower_bound(lives, sizes, len(program.kernels))
    return program.replace(plan=MemoryPlan(offsets, total, bound, sum(sizes.values())))


def align(nbytes: int) -> int:
    """The next multiple of the arena's alignment."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def live_intervals(program: Program) -> dict[str, tuple[int, int]]:
    """For each temporary, the first and the last kernel that touches it."""
    lives: dict[str, tuple[int, int]] = {}
    for i, kernel in enumerate(program.kernels):
        for name in (*kernel.inputs, *kernel.outputs):
            if program.buffers[name].role == loop.TEMPORARY:
                lives[name] = (lives.get(name, (i, i))[0], i)
    return lives


def lower_bound(lives: dict[str, tuple[int, int]], sizes: dict[str, int], count: int) -> int:
    """The largest sum of bytes that are live at one kernel."""
    change = [0] * (count + 1)
    for name, (first, last) in lives.items():
        change[first] += sizes[name]
        change[last + 1] -= sizes[name]
    live = peak = 0
    for delta in change:
        live += delta
        peak = max(peak, live)
    return peak

"""plan_memory: where every temporary lies in one arena.

    live intervals over the kernels -> slots -> offsets, best of several greedy placements

A slot is one temporary, or a chain of them in which each takes the place of the one before: a
kernel's result may lie where an operand lay that dies in the kernel, if element by element the
one is computed from the other (see `may_replace`). Slots are placed one by one at the lowest
offset that is free for the whole of their lives (Pisarchyk and Lee, "Efficient memory
management for deep neural net inference", 2020, section 5), in several orders; the smallest
arena wins. Offsets are multiples of 256 bytes. The lower bound is the largest sum of slots
alive at one kernel. Movements are accesses, not buffers, so there are no aliases to track.
Cost: about n per slot, vectorized; orders are tried only until the lower bound is met.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphc.ir import loop
from graphc.ir.dtypes import bool_
from graphc.ir.in_place import may_overwrite
from graphc.ir.loop import Kernel, MemoryPlan, Program
from graphc.ir.verify import stored_count
from graphc.passes.context import Context

ALIGNMENT = 256
_CLOSE = 1.02  # of the lower bound: no more is searched for
_MOST_PLACED = 8000  # slots placed in the search for a better order


@dataclass(frozen=True, slots=True)
class Slot:
    """Memory for the named temporaries, one after the other, from kernel `first` to `last`."""

    names: tuple[str, ...]
    first: int
    last: int
    nbytes: int  # a multiple of the alignment


def plan_memory(program: Program, ctx: Context) -> Program:
    """The program with a memory plan for its temporaries."""
    slots = find_slots(program)
    bound, peak = live_peak(slots, len(program.kernels))
    places, arena = _best_placement(slots, bound, peak)
    offsets = {n: at for slot, at in zip(slots, places, strict=True) for n in slot.names}
    temporaries = (program.buffers[n].nbytes for n in offsets)
    buffers = program.buffers.values()  # no kernel writes what is empty, but one may read it
    empty = {b.name: 0 for b in buffers if b.role == loop.TEMPORARY and b.nbytes == 0}
    offsets = {**empty, **offsets}
    return program.replace(
        plan=MemoryPlan(
            offsets, arena, bound, sum(map(align, temporaries)),
            program.kernels[peak].name if slots else "", alive_at(slots, peak),
        )
    )  # fmt: skip


def align(nbytes: int) -> int:
    """The next multiple of the arena's alignment."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


# -- lives


def live_intervals(program: Program) -> dict[str, tuple[int, int]]:
    """For each temporary, the first and the last kernel that touches it."""
    lives: dict[str, tuple[int, int]] = {}
    for i, kernel in enumerate(program.kernels):
        for name in (*kernel.inputs, *kernel.outputs):
            if program.buffers[name].role == loop.TEMPORARY:
                lives[name] = (lives.get(name, (i, i))[0], i)
    return lives


def find_slots(program: Program) -> list[Slot]:
    """The temporaries' slots, in the order of their births."""
    lives = live_intervals(program)
    slots: list[Slot] = []
    holder: dict[str, int] = {}  # temporary -> its slot
    for i, kernel in enumerate(program.kernels):
        free = [n for n in kernel.inputs if n in lives and lives[n][1] == i > lives[n][0]]
        for name in kernel.outputs:
            if name not in lives or lives[name][0] != i or name in holder:
                continue
            old = next((n for n in free if may_replace(program, kernel, n, name)), None)
            if old is None:
                holder[name] = len(slots)
                slots.append(Slot((name,), *lives[name], align(program.buffers[name].nbytes)))
            else:
                free.remove(old)
                at = holder[name] = holder[old]
                names = (*slots[at].names, name)
                slots[at] = replace(slots[at], names=names, last=lives[name][1])
    return slots


def may_replace(program: Program, kernel: Kernel, old: str, new: str) -> bool:
    """True when `kernel`'s result `new` may be written where its operand `old` lies: both have
    elements of one size, and the kernel reads them as `may_overwrite` wants it."""
    a, b = program.buffers[old], program.buffers[new]
    if a.size != b.size or a.dtype.itemsize != b.dtype.itemsize or bool_ in (a.dtype, b.dtype):
        return False
    if not may_overwrite(kernel, old, new):
        return False
    (store,) = (s for s in kernel.body if isinstance(s, loop.Store) and s.access.buffer == new)
    return stored_count(store.access, kernel) == b.size


def live_bytes(slots: Sequence[Slot], kernel_count: int) -> list[int]:
    """Bytes of the slots alive at each kernel; one 0 where there is no kernel."""
    change = np.zeros(kernel_count + 1, np.int64)
    for slot in slots:
        change[slot.first] += slot.nbytes
        change[slot.last + 1] -= slot.nbytes
    live: list[int] = np.cumsum(change)[: max(kernel_count, 1)].tolist()
    return live


def live_peak(slots: Sequence[Slot], kernel_count: int) -> tuple[int, int]:
    """The largest sum of bytes alive at one kernel, and that kernel's position."""
    live = live_bytes(slots, kernel_count)
    peak = max(live)
    return peak, live.index(peak)


def peak_bytes(program: Program) -> int:
    """The lower bound of the program's arena as its kernels stand."""
    return live_peak(find_slots(program), len(program.kernels))[0]


def alive_at(slots: Iterable[Slot], kernel: int) -> tuple[str, ...]:
    """The temporaries in the slots alive at the kernel, the largest first."""
    alive = [s for s in slots if s.first <= kernel <= s.last]
    return tuple(n for s in sorted(alive, key=lambda s: -s.nbytes) for n in s.names)


# -- placement


def _best_placement(slots: list[Slot], bound: int, peak: int) -> tuple[list[int], int]:
    """An offset per slot, and the arena's size: of several greedy orders the smallest."""
    best: tuple[list[int], int] | None = None
    ranking: list[int] = []
    for key in _orders(peak):
        ranked = sorted(range(len(slots)), key=lambda i: (*key(slots[i]), slots[i].first, i))
        places, total = _place(slots, ranked)
        if best is None or total < best[1]:
            best, ranking = (places, total), ranked
        if best[1] <= bound:
            break
    assert best is not None
    return best if best[1] <= _CLOSE * bound else _improve(slots, ranking, best, bound)


def _improve(
    slots: list[Slot], ranked: list[int], best: tuple[list[int], int], bound: int
) -> tuple[list[int], int]:
    """Again and again, what came to lie at the top is placed earlier (squeaky wheel
    optimization, Joslin and Clements, JAIR 1999), while the effort is in bounds."""
    places, total = best
    rng = random.Random(0)
    for _ in range(_MOST_PLACED // max(len(slots), 1)):
        top = [i for i in ranked if slots[i].nbytes and places[i] + slots[i].nbytes == total]
        for i in top:
            at = ranked.index(i)
            ranked.insert(rng.randrange(at + 1) if at else 0, ranked.pop(at))
        places, total = _place(slots, ranked)
        if total < best[1]:
            best = places, total
        if best[1] <= _CLOSE * bound:
            break
    return best


def _orders(peak: int) -> tuple[Callable[[Slot], tuple[int, ...]], ...]:
    def length(s: Slot) -> int:
        return s.last - s.first + 1

    def away(s: Slot) -> int:
        """1 for a slot that is not alive at the peak."""
        return int(not s.first <= peak <= s.last)

    return (
        lambda s: (-s.nbytes, -length(s)),
        lambda s: (away(s), -s.nbytes, -length(s)),
        lambda s: (away(s), -length(s), -s.nbytes),
        lambda s: (-length(s), -s.nbytes),
        lambda s: (-s.nbytes * length(s),),
        lambda s: (s.first, -s.last),
        lambda s: (-s.last, s.first),
        lambda s: (abs(s.first - peak) if away(s) else 0, -length(s), -s.nbytes),
    )


def _place(slots: list[Slot], ranked: Sequence[int]) -> tuple[list[int], int]:
    """Each slot in turn at the lowest offset that is free from its first to its last kernel."""
    count = len(slots)
    first, last = (np.fromiter(x, np.int64, count) for x in _spans(slots, ranked))
    start, end = np.zeros(count, np.int64), np.zeros(count, np.int64)
    offsets = [0] * count
    for n, i in enumerate(ranked):
        size = slots[i].nbytes
        if not size:
            continue
        meets = (first[:n] <= last[n]) & (last[:n] >= first[n]) & (end[:n] > 0)
        offsets[i] = _lowest(start[:n][meets], end[:n][meets], size)
        start[n], end[n] = offsets[i], offsets[i] + size
    return offsets, int(end.max(initial=0))


def _spans(slots: list[Slot], ranked: Sequence[int]) -> tuple[list[int], list[int]]:
    return [slots[i].first for i in ranked], [slots[i].last for i in ranked]


def _lowest(start: np.ndarray, end: np.ndarray, size: int) -> int:
    """The lowest offset with `size` bytes outside all of [start, end)."""
    if not start.size:
        return 0
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    below = np.maximum.accumulate(end)  # where what lies before ends
    gaps = np.concatenate([start[:1], start[1:] - below[:-1]])
    fits = np.flatnonzero(gaps >= size)
    if not fits.size:
        return int(below[-1])
    return int(below[fits[0] - 1]) if fits[0] else 0

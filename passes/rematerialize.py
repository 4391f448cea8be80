"""rematerialize: what does not fit into `memory_budget` is computed again where it is needed.

    h = f(x); ...; use(h)   ->   h = f(x); ...; h_again = f(x); use(h_again)

Runs only with the setting, on the kernels in their final order, where bytes are exact; what
`recompute` does before fusion costs nothing and needs no budget. A value may be dropped at the
widest gap between two kernels that touch it; the kernels after it read a copy, made right
before the first of them by the part of the kernel that is needed (`remat_slices`). What that
part reads is a copy, too, where it was dropped, else it lives until then. So results keep their
bits, random numbers come from the same counters, and as all copies are made before the first
variable changes, they see what the originals saw.

What to drop is searched as in Chen, Xu, Zhang and Guestrin, "Training deep nets with sublinear
memory cost" (2016), section 4.3: candidates in the order of their births, and one kept whenever
so many bytes have been dropped, for several such sizes, among the cheap candidates or among
all. Of what fits, values are then kept again, the most seconds per byte first (`costs`), and
the cheapest outcome stays; a value that is worth many bytes and a gap later is found by a second
round over the copies. The arena is planned for the outcome, and a tighter bound tried where
placing it lost bytes. MemoryBudgetError where nothing fits. Skips loops, branches, library
calls, and what they read; programs in loops, whose temporaries are a part of the arena.
Cost: some hundred plans of lives, each linear in the kernels.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from graphc.ir import loop
from graphc.ir.errors import MemoryBudgetError
from graphc.ir.loop import MemoryPlan, Program
from graphc.passes.context import Context
from graphc.passes.costs import kernel_flops, seconds
from graphc.passes.order import lives, renumbered, schedules
from graphc.passes.plan_memory import plan_memory
from graphc.passes.remat_trial import Net, Trial

_log = logging.getLogger("graphc")
_ROUNDS = 3  # of copies of copies
_TIGHTER = 5  # times that a tighter bound is tried, where the placement loses bytes
_CHEAP = (0.02, 0.2, 1.0)  # shares of the candidates, the cheapest per byte first
_SEGMENTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # into how many the dropped bytes are divided
_PRUNED = 2  # of the selections that fit, how many are gone through for what may be kept
_MOST_SWAPS = 120  # trials in the search for a lower peak
_LISTED = 5  # buffers and values named in messages


@dataclass(frozen=True, slots=True)
class Dropped:
    """A value that is computed again: its op, the user's line, bytes, operations."""

    buffer: str
    op: str
    where: str
    nbytes: int
    flops: float


@dataclass(frozen=True, slots=True)
class Rematerialized:
    """What keeping within the budget changed: arena bytes, operations, estimated seconds."""

    budget_bytes: int
    before_bytes: int
    after_bytes: int
    extra_flops: float
    total_flops: float  # before
    extra_s: float
    values: tuple[Dropped, ...]

    def __str__(self) -> str:
        share = 100.0 * self.extra_flops / self.total_flops if self.total_flops else 0.0
        text = (
            f"memory budget {self.budget_bytes:,} bytes: arena {self.before_bytes:,} -> "
            f"{self.after_bytes:,} bytes"
        )
        if not self.values:
            return f"{text}, nothing had to be computed again"
        names = _some([f"{v.op} ({v.nbytes:,} bytes)" for v in self.values])
        return f"{text} for {self.extra_flops:,.0f} operations more (+{share:.1f}%): {names} again"


def rematerialize(program: Program, ctx: Context) -> Program:
    """The program whose arena fits into the budget; the same object without a budget."""
    budget = ctx.settings.memory_budget
    if budget is None:
        return program
    before = _arena(program, ctx)
    found = program if before <= budget else _fitting(program, budget, ctx)
    after = _arena(found, ctx) if found is not program else before
    note = _note(program, found, budget, before, after, ctx)
    ctx.notes["rematerialized"] = note
    _log.info("%s", note)
    return renumbered(found, found.kernels, ctx) if found is not program else program


def _plan(program: Program, ctx: Context) -> MemoryPlan:
    plan = plan_memory(program, ctx).plan
    assert plan is not None, "plan_memory plans"
    return plan


def _arena(program: Program, ctx: Context) -> int:
    return _plan(program, ctx).arena_bytes


def _fitting(program: Program, budget: int, ctx: Context) -> Program:
    """A program whose arena fits. MemoryBudgetError when none is found.

    The order with the lowest peak is not always the best one to start from: rather that in
    which values live shortly on average.
    """
    least = program
    for base in sorted(schedules(program).values(), key=lambda p: sum(lives(p))):
        found = _least(base, budget, ctx)
        if _arena(found, ctx) <= budget:
            return found
        least = min(least, found, key=lambda p: _arena(p, ctx))
    raise _refusal(program, least, budget, ctx)


def _least(program: Program, budget: int, ctx: Context) -> Program:
    """The cheapest program found whose arena fits, or the one with the smallest arena."""
    least = program
    for _ in range(_ROUNDS):
        net = Net(least, ctx.target.rates)
        bound = budget
        for _ in range(_TIGHTER):
            trial = _Search(net, bound).best()
            arena = _arena(trial.program, ctx)
            if arena <= budget:
                return trial.program
            if trial.peak > bound:
                break
            bound = min(trial.peak, bound * budget // arena) * 99 // 100
        lowest = _Search(net, 0).best().program
        if _arena(lowest, ctx) >= _arena(least, ctx):
            break
        least = lowest
    return least


class _Search:
    """Selections of what is dropped, tried by their peaks."""

    def __init__(self, net: Net, bound: int) -> None:
        self.net = net
        self.bound = bound

    def best(self) -> Trial:
        """The cheapest that was found to fit, or the one with the lowest peak."""
        trials = {t.dropped: t for t in self.selections()}
        fitting = [t for t in trials.values() if t.peak <= self.bound]
        if not fitting:
            lowest = self.lowered(min(trials.values(), key=lambda t: (t.peak, t.seconds)))
            if lowest.peak > self.bound:
                return lowest
            fitting = [lowest]
        fitting.sort(key=lambda t: (t.seconds, t.peak))
        pruned = [self.pruned(t) for t in fitting[:_PRUNED]]
        return min(pruned, key=lambda t: (t.seconds, t.peak))

    def selections(self) -> Iterable[Trial]:
        ranked = sorted(self.net.candidates, key=self.net.price)
        for share in _CHEAP:
            chosen = set(ranked[: max(round(share * len(ranked)), 1)])
            for segments in _SEGMENTS:
                yield self.net.trial(self.segmented(chosen, segments))

    def segmented(self, chosen: set[str], segments: int) -> frozenset[str]:
        """The chosen ones but for one after every so many bytes."""
        sizes = {n: self.net.program.buffers[n].nbytes for n in self.net.candidates if n in chosen}
        most = sum(sizes.values()) / segments
        dropped: list[str] = []
        held = 0
        for name, nbytes in sizes.items():
            held += nbytes
            if held > most:
                held = 0
            else:
                dropped.append(name)
        return frozenset(dropped)

    def pruned(self, trial: Trial) -> Trial:
        """As many values kept again as fit, the most seconds per byte first."""
        for name in sorted(trial.dropped, key=self.net.price, reverse=True):
            fewer = self.net.trial(trial.dropped - {name})
            if fewer.peak <= self.bound and fewer.seconds <= trial.seconds:
                trial = fewer
        return trial

    def lowered(self, trial: Trial) -> Trial:
        """Single values at the peak dropped or kept, as long as that lowers the peak."""
        left = _MOST_SWAPS
        better: Trial | None = trial
        while better is not None and trial.peak > self.bound:
            better = None
            for name in trial.at_peak():
                other = self.net.trial(trial.dropped ^ {name})
                left -= 1
                if (other.peak, other.excess) < (trial.peak, trial.excess):
                    better = trial = other
                    break
                if left <= 0:
                    return trial
        return trial


# -- the report


def _note(
    program: Program, found: Program, budget: int, before: int, after: int, ctx: Context
) -> Rematerialized:
    old = {n for k in program.kernels for n in k.outputs}
    new = {n for k in found.kernels for n in k.inputs} - old  # not what a copy gives besides
    flops = [sum(map(kernel_flops, p.kernels)) for p in (program, found)]
    times = [
        sum(seconds(k, p.buffers, ctx.target.rates) for k in p.kernels) for p in (program, found)
    ]
    values = []
    for kernel in found.kernels:
        again = [found.buffers[n] for n in kernel.outputs if n in new]
        share = kernel_flops(kernel) / max(len(again), 1)
        where = str(kernel.where[-1]) if kernel.where else ""
        values += [Dropped(b.name, b.source, where, b.nbytes, share) for b in again]
    return Rematerialized(
        budget, before, after, flops[1] - flops[0], flops[0], times[1] - times[0], tuple(values)
    )


def _refusal(program: Program, least: Program, budget: int, ctx: Context) -> MemoryBudgetError:
    """The error that says the least arena, and what lies in it at its peak."""
    plan = _plan(least, ctx)
    kernel = next(k for k in least.kernels if k.name == plan.peak_kernel)
    buffers = [least.buffers[n] for n in plan.peak]
    tensors = _some([f"{b.source} {b.dtype}{list(b.shape)} ({b.nbytes:,} bytes)" for b in buffers])
    line = f", {kernel.where[-1]}" if kernel.where else ""
    return MemoryBudgetError(
        f"memory_budget={budget:,} bytes is not enough: the temporaries need "
        f"{_arena(program, ctx):,} bytes as they are, and {plan.arena_bytes:,} with all computed "
        f"again that can be. The peak is at {_ops(kernel)}{line}, with {tensors}. Give a budget "
        f"of {plan.arena_bytes} bytes or more, or feed smaller batches"
    )


def _ops(kernel: loop.Kernel) -> str:
    return ", ".join(kernel.covers[-3:]) or kernel.name


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


__all__ = ["Dropped", "Rematerialized", "rematerialize"]

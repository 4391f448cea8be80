"""Trials of rematerialization: the program in which some values are computed again.

`Net` knows of an ordered program what can be dropped and at which gap; `Trial` is the outcome of
dropping some. No decisions are made here; those are `rematerialize`'s.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from graphc.ir import loop
from graphc.ir.loop import Kernel, Program
from graphc.passes.costs import seconds
from graphc.passes.plan_memory import alive_at, find_slots, live_bytes
from graphc.passes.remat_slices import can_divide, part_of, renamed
from graphc.passes.target import Rates

_LEAST_SHARE = 1 / 2000  # of the peak: what is smaller is never dropped
_MOST_KEPT = 4  # times its size, of what a value is made of and must be kept for it


@dataclass(frozen=True, slots=True)
class Gap:
    """A value's writer, and the kernels between which nothing touches it (positions)."""

    writer: int
    near: int  # the last kernel before the gap: a reader, or the writer itself
    far: int  # the first after it, which reads a copy


@dataclass(frozen=True)
class Trial:
    """A program in which `dropped` are computed again; `seconds` are those of its kernels."""

    net: Net
    dropped: frozenset[str]
    program: Program
    seconds: float
    live: tuple[int, ...]  # bytes alive at each kernel

    @cached_property
    def peak(self) -> int:
        """The most bytes that are alive at one kernel."""
        return max(self.live, default=0)

    @cached_property
    def excess(self) -> int:
        """How many kernels reach the peak or come close: to lower it, all must be lowered."""
        return sum(b >= 0.98 * self.peak for b in self.live)

    def at_peak(self) -> list[str]:
        """What could be dropped, or kept, of what is alive at the peak; the largest first."""
        alive = alive_at(find_slots(self.program), self.live.index(self.peak))
        names = [self.net.originals.get(n, n) for n in alive]
        return [n for n in dict.fromkeys(names) if n in self.net.candidates]


class Net:
    """An ordered program, and for each value that can be computed again its gap."""

    def __init__(self, program: Program, rates: Rates) -> None:
        self.program = program
        self.rates = rates
        self.buffers = dict(program.buffers)
        self.originals: dict[str, str] = {}  # copy -> what it is a copy of
        self._parts: dict[tuple[str, frozenset[str]], Kernel] = {}
        self._rests: dict[tuple[int, frozenset[str]], Kernel] = {}
        self._renamed: dict[tuple[int, frozenset[tuple[str, str]]], Kernel] = {}
        self._seconds: dict[int, tuple[Kernel, float]] = {}
        self._trials: dict[frozenset[str], Trial] = {}
        self.gaps = self._find_gaps()
        least = max(self.trial(frozenset()).peak * _LEAST_SHARE, 1)
        self.candidates = {n: g for n, g in self.gaps.items() if self._is_worth(n, least)}

    # -- what can be dropped

    def _find_gaps(self) -> dict[str, Gap]:
        touched: dict[str, list[int]] = {}
        writers: dict[str, list[int]] = {}
        self.last_touch: dict[str, int] = {}
        fixed = set(self.program.outputs)  # read by what reads the same buffers always
        for i, kernel in enumerate(self.program.kernels):
            for name in dict.fromkeys((*kernel.inputs, *kernel.outputs)):
                touched.setdefault(name, []).append(i)
                self.last_touch[name] = i
            for name in kernel.outputs:
                writers.setdefault(name, []).append(i)
            if kernel.form in ("loop", "branch"):
                fixed.update(kernel.inputs)
        gaps = {}
        for name in self.program.outputs:  # the caller's: alive to the end
            self.last_touch[name] = len(self.program.kernels)
        for name, made in writers.items():
            role = self.program.buffers[name].role
            if len(made) == 1 and name not in fixed and role == loop.TEMPORARY:
                gap = self._gap(name, made[0], touched[name])
                if gap is not None:
                    gaps[name] = gap
        return gaps

    def _gap(self, name: str, writer: int, touched: list[int]) -> Gap | None:
        kernel = self.program.kernels[writer]
        if writer >= self.program.commit or len(touched) < 2 or not can_divide(kernel):
            return None
        near, far = max(itertools.pairwise(touched), key=lambda pair: pair[1] - pair[0])
        if far - near < 2:
            return None
        return Gap(writer, near, far)

    def _is_worth(self, name: str, least: float) -> bool:
        """False for what is small against all that would have to be kept in its place."""
        nbytes, gap = self.program.buffers[name].nbytes, self.gaps[name]
        part = self.part(name, frozenset(self.gaps) - {name})
        kept = sum(
            self.program.buffers[n].nbytes for n in part.inputs
            if self.program.buffers[n].role == loop.TEMPORARY and self.last_touch[n] < gap.far
        )  # fmt: skip
        return nbytes >= max(least, kept / _MOST_KEPT)

    def price(self, name: str) -> tuple[float, str]:
        """Seconds per byte that dropping the value costs, if all it is made of is at hand."""
        part = self.part(name, frozenset(self.candidates) - {name})
        return self._time(part) / self.program.buffers[name].nbytes, name

    def part(self, name: str, dropped: frozenset[str]) -> Kernel:
        """What computes the value again, from results of the same kernel where they are known.

        The whole kernel, with all its results, where a part might give other bits.
        """
        gap = self.gaps[name]
        middle = (gap.near + gap.far) / 2
        kernel = self.program.kernels[gap.writer]
        given = frozenset(
            n for n in kernel.outputs
            if n != name and (n in dropped or self.last_touch[n] >= middle)
        )  # fmt: skip
        part = self._parts.get((name, given))
        if part is None:
            buffers = self.program.buffers
            part = part_of(kernel, {name}, given, buffers) or part_of(
                kernel, {name}, set(), buffers
            )
            part = self._parts[name, given] = part or kernel
        return part

    def rest(self, i: int, wanted: frozenset[str]) -> Kernel:
        """The kernel at `i` with some of its results only, or whole where it cannot be divided."""
        if (i, wanted) not in self._rests:
            kernel = self.program.kernels[i]
            part = part_of(kernel, wanted, frozenset(), self.program.buffers)
            self._rests[i, wanted] = part or kernel
        return self._rests[i, wanted]

    # -- trials

    def trial(self, dropped: frozenset[str]) -> Trial:
        """The program in which these are computed again."""
        found = self._trials.get(dropped)
        if found is None:
            program = _Build(self, dropped).program()
            live = tuple(live_bytes(find_slots(program), len(program.kernels)))
            found = Trial(self, dropped, program, self.seconds_of(program.kernels), live)
            self._trials[dropped] = found
        return found

    def seconds_of(self, kernels: Iterable[Kernel]) -> float:
        """About how long the kernels take."""
        return sum(map(self._time, kernels))

    def _time(self, kernel: Kernel) -> float:
        known = self._seconds.get(id(kernel))
        if known is None:  # the kernel is held, so that its id stays its own
            known = self._seconds[id(kernel)] = kernel, seconds(kernel, self.buffers, self.rates)
        return known[1]

    def renamed(self, kernel: Kernel, names: dict[str, str]) -> Kernel:
        """The kernel on other buffers; the same object when asked again."""
        if not names:
            return kernel
        key = (id(kernel), frozenset(names.items()))
        if key not in self._renamed:
            self._renamed[key] = renamed(kernel, names)
        return self._renamed[key]

    def copy_of(self, name: str, suffix: str = "_again") -> str:
        """The buffer of the value's copy."""
        copy = f"{name}{suffix}"
        while copy in self.program.buffers:
            copy += suffix
        if copy not in self.buffers:
            self.buffers[copy] = replace(self.buffers[name], name=copy)
            self.originals[copy] = name
        return copy


class _Build:
    """Puts together the program in which `dropped` are computed again."""

    def __init__(self, net: Net, dropped: frozenset[str]) -> None:
        self.net = net
        self.dropped = dropped
        self.early: list[Kernel] = []  # before the commits
        self.copies: dict[str, str] = {}

    def program(self) -> Program:
        """The kernels in their order, copies right before who reads them first."""
        source = self.net.program
        late: list[Kernel] = []
        for i, kernel in enumerate(source.kernels):
            for name in kernel.inputs:
                if self.is_gone(name, i):
                    self.make(name, i)
            names = {n: self.copies[n] for n in kernel.inputs if self.is_gone(n, i)}
            left = self.without_dropped(kernel, i)
            if left is not None:
                (self.early if i < source.commit else late).append(self.net.renamed(left, names))
        kernels = (*self.early, *late)
        used = {n for k in kernels for n in (*k.inputs, *k.outputs)}
        used |= {*source.inputs, *source.outputs, *source.variables}
        buffers = {n: b for n, b in self.net.buffers.items() if n in used}
        return source.replace(buffers=buffers, kernels=kernels, commit=len(self.early))

    def is_gone(self, name: str, now: int) -> bool:
        """True when the kernel at `now` must read a copy."""
        return name in self.dropped and now > self.net.gaps[name].near

    def make(self, name: str, now: int) -> None:
        """Make a copy, and before it copies of all that it is made of and that is gone."""
        stack = [name]
        while stack:
            current = stack[-1]
            if current in self.copies:
                stack.pop()
                continue
            part = self.net.part(current, self.dropped)
            gone = [n for n in part.inputs if self.is_gone(n, now)]
            missing = [n for n in gone if n not in self.copies]
            if missing:
                stack += missing
                continue
            names = {n: self.copies[n] for n in gone}
            names |= {n: self.result(n, current, now) for n in part.outputs}
            self.early.append(self.net.renamed(part, names))

    def result(self, name: str, current: str, now: int) -> str:
        """The buffer of one result of the kernel that is run again for the `current` one."""
        if name not in self.copies and (name == current or self.is_gone(name, now)):
            self.copies[name] = self.net.copy_of(name)
            return self.copies[name]
        return self.net.copy_of(name, f"_with_{current}")  # nobody reads it

    def without_dropped(self, kernel: Kernel, i: int) -> Kernel | None:
        """The kernel without results that nothing near reads; None when none is left."""
        unread = frozenset(
            n for n in kernel.outputs if n in self.dropped and self.net.gaps[n].near == i
        )
        if not unread:
            return kernel
        wanted = frozenset(kernel.outputs) - unread
        if not wanted:
            return None
        return self.net.rest(i, wanted)


__all__ = ["Gap", "Net", "Trial"]

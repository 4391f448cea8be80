"""order: the kernels in the order that needs the least memory, under their final names.

    a = f(x); b = g(x); use(a); use(b)   ->   a = f(x); use(a); b = g(x); use(b)

Tries fusion's order; the ready kernel that frees most first; and depth first from the results.
The order with the lowest peak stays, of equals the one in which less is alive on average, which
leaves more to `rematerialize` and to placement; then the first. The commits of variables stay last,
in their order: all else must be complete before anything changes. Cost: linear per order, but
for the heap.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace

from graphc.ir import loop
from graphc.ir.loop import Kernel, Program
from graphc.passes.context import Context
from graphc.passes.kernel_names import name_kernels
from graphc.passes.plan_memory import find_slots, live_bytes


def order(program: Program, ctx: Context) -> Program:
    """The program with the best of several orders; decisions follow the kernels' new names."""
    orders = schedules(program)
    live = {name: lives(p) for name, p in orders.items()}
    best = min(live, key=lambda name: (max(live[name]), sum(live[name])))
    ctx.notes["order"] = {"chosen": best, "peak_bytes": {n: max(b) for n, b in live.items()}}
    return renumbered(program, orders[best].kernels, ctx)


def schedules(program: Program) -> dict[str, Program]:
    """The program in several orders, by their names; the first is its own."""
    graph = KernelGraph(program)
    commits = program.kernels[program.commit :]
    orders = {
        "fusion": range(program.commit),
        "most_freed": most_freed(graph),
        "depth_first": depth_first(graph),
    }
    return {
        name: program.replace(kernels=(*(graph.kernels[i] for i in order), *commits))
        for name, order in orders.items()
    }


def lives(program: Program) -> list[int]:
    """Bytes alive at each kernel."""
    return live_bytes(find_slots(program), len(program.kernels))


def renumbered(program: Program, kernels: Sequence[Kernel], ctx: Context) -> Program:
    """The program of these kernels, under names by their positions; decisions follow."""
    named = name_kernels(kernels, program.buffers)
    names: dict[str, str] = {}
    for old, new in zip(kernels, named, strict=True):
        for k in (old, *old.parts):  # a kernel's copy comes after it and has its name
            names.setdefault(k.name, new.name)
    _rename_decisions(ctx, names)
    return program if named == program.kernels else program.replace(kernels=named)


def _rename_decisions(ctx: Context, names: dict[str, str]) -> None:
    ctx.decisions[:] = [
        replace(
            d,
            producer=names.get(d.producer, d.producer),
            consumer=names.get(d.consumer, d.consumer),
        )
        for d in ctx.decisions
    ]


class KernelGraph:
    """Who must run before whom, among the kernels before the commits."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.kernels: Sequence[Kernel] = program.kernels[: program.commit]
        self.writers: dict[str, list[int]] = {}
        self.readers: dict[str, list[int]] = {}
        for i, kernel in enumerate(self.kernels):
            for name in kernel.outputs:
                self.writers.setdefault(name, []).append(i)
            for name in kernel.inputs:
                self.readers.setdefault(name, []).append(i)
        self.before = [
            sorted({w for n in k.inputs for w in self.writers.get(n, ()) if w != i})
            for i, k in enumerate(self.kernels)
        ]
        self.after: list[list[int]] = [[] for _ in self.kernels]
        for i, earlier in enumerate(self.before):
            for w in earlier:
                self.after[w].append(i)
        late = program.kernels[program.commit :]
        self.needed_later = {n for k in late for n in k.inputs}

    def arena_bytes(self, name: str) -> int:
        """Bytes that the buffer takes in the arena."""
        b = self.program.buffers[name]
        return b.nbytes if b.role == loop.TEMPORARY else 0


def in_order(program: Program) -> list[Kernel] | None:
    """The kernels before the commits in an order in which writers come before readers, the same
    one if it is such an order; None where there is none."""
    graph = KernelGraph(program)
    waiting = [len(b) for b in graph.before]
    heap = [i for i, count in enumerate(waiting) if not count]
    done: list[Kernel] = []
    while heap:
        i = heapq.heappop(heap)
        done.append(graph.kernels[i])
        for r in graph.after[i]:
            waiting[r] -= 1
            if not waiting[r]:
                heapq.heappush(heap, r)
    return done if len(done) == len(waiting) else None


def most_freed(graph: KernelGraph) -> list[int]:
    """Of the kernels that may run, always the one after which the least is alive."""
    waiting = [len(b) for b in graph.before]
    left = {n: len(r) for n, r in graph.readers.items()}  # readers that have not run
    born: set[str] = set()

    def growth(i: int) -> int:
        kernel = graph.kernels[i]
        made = sum(graph.arena_bytes(n) for n in kernel.outputs if n not in born)
        freed = sum(
            graph.arena_bytes(n)
            for n in kernel.inputs
            if left[n] == 1 and n not in graph.needed_later
        )
        return made - freed

    heap = [(growth(i), i) for i, count in enumerate(waiting) if not count]
    heapq.heapify(heap)
    done: list[int] = []
    ran = [False] * len(waiting)
    while heap:
        cost, i = heapq.heappop(heap)
        if ran[i] or cost != growth(i):
            continue  # an entry from before its cost fell stands further down the heap
        ran[i] = True
        done.append(i)
        born.update(graph.kernels[i].outputs)
        changed: set[int] = set()
        for name in graph.kernels[i].inputs:
            left[name] -= 1
            if left[name] == 1:  # whoever reads it last frees it
                changed.update(r for r in graph.readers[name] if not ran[r] and not waiting[r])
        for name in graph.kernels[i].outputs:  # parts of one buffer: the rest costs nothing more
            changed.update(w for w in graph.writers[name] if not ran[w] and not waiting[w])
        for r in graph.after[i]:
            waiting[r] -= 1
            if not waiting[r]:
                changed.add(r)
        for r in changed:
            heapq.heappush(heap, (growth(r), r))
    return done


def depth_first(graph: KernelGraph) -> list[int]:
    """Each result's kernels in turn, producers right before who needs them."""
    done: list[int] = []
    seen = [False] * len(graph.kernels)
    for root in range(len(graph.kernels)):
        if graph.after[root] or seen[root]:
            continue
        seen[root] = True
        stack = [(root, iter(graph.before[root]))]
        while stack:
            i, rest = stack[-1]
            following = next((w for w in rest if not seen[w]), None)
            if following is None:
                done.append(i)
                stack.pop()
            else:
                seen[following] = True
                stack.append((following, iter(graph.before[following])))
    return done

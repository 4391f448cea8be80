"""fuse: every node starts as a kernel; fusion merges kernels; what remains between is memory.

    k1: t = exp(x)    k2: s = sum(t)    k3: y = t / s    ->    k: t = exp(x); s = sum(t); y = t / s

Pairs of neighbours (a producer and its reader, or two readers of one buffer) come off a heap
ordered by: arithmetic for a variable's update, a dot's epilogue, no sum over outer axes, same
iteration space, bytes saved, distance, age. So the result depends on nothing but the program.
`graphc.passes.merge` says whether a pair may be merged; a merge must also leave the kernels
acyclic, and nothing that is needed early may wait for a commit. Then cheap producers of several
readers are computed in each of them, where that moves fewer bytes. Last, sums over outer axes
that stand around one kernel become one launch. Every edge that is left gets a decision: a
reason code and its numbers.

Acyclicity is kept by a dynamic topological order (Pearce and Kelly, "A dynamic topological sort
algorithm for directed acyclic graphs", 2006): a merge searches only the kernels between the
two. Cost: one merge per kernel and a bounded search each. Skips library calls, loops, branches.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping

from graphc.ir import loop
from graphc.ir.loop import Kernel, Program
from graphc.ir.table import OPS
from graphc.passes.context import Context, Decision
from graphc.passes.inline import Limits, Refusal
from graphc.passes.kernel_names import name_kernels
from graphc.passes.merge import merge, merge_beside

_NEVER_RECOMPUTE = frozenset({"dot", "call", "loop", "branch"})  # readers of a cheap producer
Rule = Callable[
    [Kernel, Kernel, Mapping[str, loop.Buffer], Iterable[str], Limits], Kernel | Refusal
]

_MOST_SIBLINGS = 6  # readers of one buffer that are paired with one another
_MOST_READERS = 200  # readers of one buffer that are paired with their neighbours
_MOST_SEARCHED = 4000  # kernels looked at in the search for a cycle
_MOST_DUPLICATED_FLOPS = 8.0  # per element, of a producer computed in each of its readers


def fuse(program: Program, ctx: Context) -> Program:
    """Merge kernels as long as it is legal and saves memory traffic."""
    if not ctx.settings.fuse:
        return program
    fusion = _Fusion(program, ctx)
    fusion.run()
    return fusion.result()


class _Fusion:
    def __init__(self, program: Program, ctx: Context) -> None:
        self.program = program
        self.ctx = ctx
        self.limits = Limits(ctx.target.max_kernel_buffers, ctx.target.max_kernel_statements)
        self.nbytes = {name: buffer.nbytes for name, buffer in program.buffers.items()}
        self.wide = {name for name, buffer in program.buffers.items() if buffer.size > 1}
        self.kernels: dict[int, Kernel] = dict(enumerate(program.kernels))
        self.next_id = len(self.kernels)
        self.position: dict[int, int] = {i: i for i in self.kernels}
        self.first: dict[int, int] = dict(self.position)  # the oldest kernel merged into it
        self.writers: dict[str, set[int]] = {}
        self.readers: dict[str, set[int]] = {}
        self.inputs: dict[int, frozenset[str]] = {}
        self.outputs: dict[int, frozenset[str]] = {}
        self.writing: dict[int, bool] = {}  # variables
        self.outer: dict[int, bool] = {}  # sums over outer axes
        for i, kernel in self.kernels.items():
            self.register(i, kernel)
        self.after: dict[int, set[int]] = {i: set() for i in self.kernels}
        self.before: dict[int, set[int]] = {i: set() for i in self.kernels}
        self.connect()
        self.committing = self.commit_region()
        self.heap: list[tuple[object, ...]] = []
        self.seen: set[tuple[int, int]] = set()
        self.cousins: set[int] = set()  # sums joined around one kernel

    def register(self, i: int, kernel: Kernel) -> None:
        for name in kernel.outputs:
            self.writers.setdefault(name, set()).add(i)
        for name in kernel.inputs:
            self.readers.setdefault(name, set()).add(i)
        self.inputs[i], self.outputs[i] = frozenset(kernel.inputs), frozenset(kernel.outputs)
        roles = [self.program.buffers[n].role for n in kernel.outputs]
        self.writing[i] = loop.VARIABLE in roles
        self.outer[i] = reduces_outer(kernel)

    def unregister(self, i: int, kernel: Kernel) -> None:
        for name in kernel.outputs:
            self.writers[name].discard(i)
        for name in kernel.inputs:
            self.readers[name].discard(i)

    def connect(self) -> None:
        """Readers follow writers; the writer of a variable follows the variable's readers."""
        for name, writers in self.writers.items():
            is_variable = self.program.buffers[name].role == loop.VARIABLE
            for w in writers:
                for r in self.readers.get(name, ()):
                    if r != w:
                        self.edge(*((r, w) if is_variable else (w, r)))

    def edge(self, a: int, b: int) -> None:
        self.after[a].add(b)
        self.before[b].add(a)

    def commit_region(self) -> set[int]:
        """Kernels on which nothing depends but updates of variables."""
        outputs = set(self.program.outputs)
        region: set[int] = set()
        for i in sorted(self.kernels, reverse=True):
            kernel = self.kernels[i]
            roles = {self.program.buffers[n].role for n in kernel.outputs}
            followers = {r for n in kernel.outputs for r in self.readers.get(n, ())} - {i}
            if roles == {loop.VARIABLE} or (
                roles == {loop.TEMPORARY}
                and followers <= region
                and not outputs & set(kernel.outputs)
            ):
                region.add(i)
        return region

    # -- candidates

    def run(self) -> None:
        for i in self.kernels:
            self.push_pairs(i)
        self.merge_pairs()
        while self.duplicate_cheap():
            self.merge_pairs()
        for i in sorted(self.kernels, key=lambda k: self.position[k]):
            if i in self.kernels:
                self.merge_cousins(i)

    def merge_pairs(self) -> None:
        while self.heap:
            *_, a, b = heapq.heappop(self.heap)
            assert isinstance(a, int) and isinstance(b, int)
            if a in self.kernels and b in self.kernels:
                self.try_pair(a, b)

    def push_pairs(self, i: int) -> None:
        kernel = self.kernels[i]
        for name in kernel.outputs:
            for r in self.readers.get(name, ()):
                self.push(i, r)
        for name in kernel.inputs:
            for w in self.writers.get(name, ()):
                self.push(w, i)
            if name in self.wide:
                for other in self.siblings(i, name):
                    is_later = self.position[i] > self.position[other]
                    self.push(*((other, i) if is_later else (i, other)))

    def siblings(self, i: int, name: str) -> list[int]:
        """Other readers of the buffer: all where they are few, else those next to `i`."""
        others = [k for k in self.readers[name] if k != i]
        if len(others) < _MOST_SIBLINGS or len(others) > _MOST_READERS:
            return others if len(others) < _MOST_SIBLINGS else []
        own, position = self.position[i], self.position
        before = [k for k in others if position[k] < own]
        after = [k for k in others if position[k] > own]
        nearest = [max(before, key=position.__getitem__)] if before else []
        return nearest + ([min(after, key=position.__getitem__)] if after else [])

    def push(self, a: int, b: int) -> None:
        if a == b or (a, b) in self.seen or self.position[a] > self.position[b]:
            return
        self.seen.add((a, b))
        first, second = self.kernels[a], self.kernels[b]
        if first.is_whole or second.is_whole or first.form == second.form == "dot":
            return  # whatever else becomes of them, they stay apart
        epilogue = first.form == "dot" and not self.outputs[a].isdisjoint(self.inputs[b])
        same = first.sizes == second.sizes
        distance = self.first[b] - self.first[a]
        # updates first: arithmetic that only a variable's new value needs belongs to its commit
        update = first.form == "flat" and self.writing[b]
        # sums over outer axes last: what they read is stored for them anyway, as a rule, and
        # merged with them it could not join the reductions over the inner axes
        outer = self.outer[a] or self.outer[b]
        rank = (not update, not epilogue, outer, not same)
        key = (*rank, -self.saved(a, b), distance, self.first[a], self.first[b])
        heapq.heappush(self.heap, (*key, a, b))

    def saved(self, a: int, b: int) -> int:
        """Bytes neither stored nor loaded any more when the two are one."""
        passed = self.outputs[a] & self.inputs[b]
        shared = (self.inputs[a] & self.inputs[b]) - passed
        twice = [n for n in passed if not self.kept(n, a, b)]
        return sum([self.nbytes[n] for names in (passed, shared, twice) for n in names])

    def kept(self, name: str, a: int, b: int) -> bool:
        role = self.program.buffers[name].role
        return role != loop.TEMPORARY or not self.readers.get(name, set()) <= {a, b}

    def merge_cousins(self, i: int) -> None:
        """Sums over outer axes of what this kernel reads and writes, as one kernel.

        They save no traffic, but a launch each: the gradients of a layer norm's scale and shift.
        Sums that were joined around another kernel stay as they are: from layer to layer, all
        would end up in one kernel, for which everything that they read had to be kept.
        """
        kernel = self.kernels[i]
        near = {r for n in (*kernel.inputs, *kernel.outputs) for r in self.readers.get(n, ())}
        sums = [k for k in near - {i} - self.cousins if self.outer[k]]
        last: dict[tuple[int, ...], int] = {}
        for k in sorted(sums, key=lambda k: self.position[k]):
            sizes = self.kernels[k].sizes
            if sizes in last and self.try_pair(last[sizes], k, merge_beside):
                last[sizes] = self.next_id - 1
                self.cousins.add(self.next_id - 1)
            else:
                last[sizes] = k

    # -- merging

    def try_pair(self, a: int, b: int, rule: Rule = merge) -> bool:
        if self.position[a] > self.position[b]:
            a, b = b, a  # two readers of one buffer, which other merges have put the other way
        outcome = self.attempt(a, b, rule)
        if isinstance(outcome, Refusal):
            return False
        self.replace(a, b, *outcome)
        return True

    def attempt(
        self, a: int, b: int, rule: Rule = merge
    ) -> tuple[Kernel, set[int], set[int]] | Refusal:
        """One kernel for the two, and what lies between them (see `between`)."""
        first, second = self.kernels[a], self.kernels[b]
        fence = self.check_fence(a, b)
        if fence:
            return fence
        keep = [n for n in first.outputs if self.kept(n, a, b)]
        merged = rule(first, second, self.program.buffers, keep, self.limits)
        if isinstance(merged, Refusal):
            return merged
        if any([len(self.writers[n]) > 1 for n in self.outputs[a] | self.outputs[b]]):
            return Refusal("SPACE", {"why": "both store parts of one buffer"})
        between = self.between(a, b)
        if between is None:
            return Refusal("CYCLE", {"through": self.position[b] - self.position[a] - 1})
        return merged, *between

    def check_fence(self, a: int, b: int) -> Refusal | None:
        """A kernel that others need cannot become part of an update of a variable: they would have
        to wait for it, and all that waits for an update comes last."""
        if not (self.writing[a] or self.writing[b]):
            return None
        stored = [n for n in self.outputs[a] | self.outputs[b] if self.is_temporary(n)]
        others = {r for n in stored for r in self.readers.get(n, ())} - {a, b}
        together = a in self.committing and b in self.committing
        if not together or not all(self.writing[r] for r in others):
            return Refusal("FENCE", {"why": "its results are needed before variables change"})
        return None

    def is_temporary(self, name: str) -> bool:
        return self.program.buffers[name].role == loop.TEMPORARY

    def between(self, a: int, b: int) -> tuple[set[int], set[int]] | None:
        """The kernels after `a` and those before `b` that lie between; None when they meet."""
        low, high = self.position[a] + 1, self.position[b]
        forward = self.search(a, self.after, low, high, self.before[b])
        if forward is None:
            return None
        backward = self.search(b, self.before, low, high)
        return None if backward is None else (forward, backward)

    def search(
        self,
        start: int,
        edges: dict[int, set[int]],
        low: int,
        high: int,
        stop: Collection[int] = (),
    ) -> set[int] | None:
        """What is reached at positions from `low` to before `high`; None with one of `stop`."""
        position = self.position
        found: set[int] = set()
        stack = [start]
        while stack:
            for k in edges[stack.pop()]:
                if low <= position[k] < high and k not in found:
                    if k in stop:
                        return None
                    found.add(k)
                    stack.append(k)
            if len(found) > _MOST_SEARCHED:
                return None
        return found

    def replace(
        self, a: int, b: int, merged: Kernel, forward: set[int], backward: set[int]
    ) -> None:
        new, self.next_id = self.next_id, self.next_id + 1
        moved = sorted(backward, key=lambda k: self.position[k])
        later = sorted(forward, key=lambda k: self.position[k])
        slots = sorted(self.position[k] for k in (*moved, *later, a, b))
        for k, slot in zip((*moved, new), slots, strict=False):
            self.position[k] = slot
        for k, slot in zip(later, slots[len(moved) + 1 :], strict=False):
            self.position[k] = slot
        self.first[new] = min(self.first[a], self.first[b])
        if a in self.committing and b in self.committing:
            self.committing.add(new)
        self.after[new], self.before[new] = set(), set()
        for k in (self.after[a] | self.after[b]) - {a, b}:
            self.edge(new, k)
        for k in (self.before[a] | self.before[b]) - {a, b}:
            self.edge(k, new)
        self.remove(a)
        self.remove(b)
        self.kernels[new] = merged
        self.register(new, merged)
        self.push_pairs(new)

    # -- computing twice what costs less than to store and to load

    def duplicate_cheap(self) -> bool:
        """Cheap producers computed anew in each of several readers; True when there were any."""
        count = len(self.kernels)
        for i in sorted(self.kernels, key=lambda k: self.position[k]):
            readers = self.readers_to_duplicate(i) if i in self.kernels else []
            copies = [merge(self.kernels[i], self.kernels[r], self.program.buffers, (), self.limits)
                      for r in readers]  # fmt: skip
            if copies and not any(isinstance(c, Refusal) for c in copies):
                for r, copy in zip(readers, copies, strict=True):
                    assert isinstance(copy, Kernel)
                    self.put_in_place(r, copy, i)
                self.remove(i)
        return len(self.kernels) < count

    def readers_to_duplicate(self, i: int) -> list[int]:
        """The readers of a producer that is cheap and reads hardly more than it writes; or none.

        To store costs the write and one read per reader; to compute anew, its reads per reader.
        """
        kernel = self.kernels[i]
        if kernel.form != "flat" or len(kernel.outputs) != 1:
            return []
        (name,) = kernel.outputs
        buffers = self.program.buffers
        readers = sorted(self.readers.get(name, ()), key=lambda k: self.position[k])
        reads = sum(buffers[n].nbytes for n in kernel.inputs)
        if len(readers) < 2 or buffers[name].role != loop.TEMPORARY or len(self.writers[name]) > 1:
            return []
        if reads > 1.5 * buffers[name].nbytes or flops(kernel) > _MOST_DUPLICATED_FLOPS:
            return []
        changes = any(n in self.program.updates for n in kernel.inputs)
        forms = {self.kernels[r].form for r in readers}
        refuses = forms & _NEVER_RECOMPUTE or (changes and self.committing & set(readers))
        return [] if refuses else readers

    def put_in_place(self, old: int, kernel: Kernel, producer: int) -> None:
        """Another kernel at the place of `old`, which now also does the producer's work."""
        new, self.next_id = self.next_id, self.next_id + 1
        self.position[new], self.first[new] = self.position[old], self.first[old]
        if old in self.committing:
            self.committing.add(new)
        before = (self.before[old] | self.before[producer]) - {producer}
        after = set(self.after[old])
        self.remove(old)
        self.kernels[new] = kernel
        self.after[new], self.before[new] = set(), set()
        for k in before:
            self.edge(k, new)
        for k in after:
            self.edge(new, k)
        self.register(new, kernel)
        self.push_pairs(new)

    def remove(self, i: int) -> None:
        self.unregister(i, self.kernels.pop(i))
        for k in self.after.pop(i):
            self.before[k].discard(i)
        for k in self.before.pop(i):
            self.after[k].discard(i)

    # -- the outcome

    def result(self) -> Program:
        order = sorted(self.kernels, key=lambda k: self.position[k])
        # commits last: nothing but other commits waits for them
        late = {k for k in order if self.writing[k]}
        late |= self.waiting_for(late)
        early = [k for k in order if k not in late]
        order = [*early, *(k for k in order if k in late)]
        named = name_kernels((self.kernels[k] for k in order), self.program.buffers)
        self.kernels = dict(zip(order, named, strict=True))
        for i in order:
            self.explain(i)
        used = {n for k in named for n in (*k.inputs, *k.outputs)}
        used |= {*self.program.inputs, *self.program.outputs, *self.program.variables}
        buffers = {n: b for n, b in self.program.buffers.items() if n in used}
        return self.program.replace(buffers=buffers, kernels=named, commit=len(early))

    def waiting_for(self, late: Iterable[int]) -> set[int]:
        found: set[int] = set()
        stack = list(late)
        while stack:
            for k in self.after[stack.pop()]:
                if k not in found:
                    found.add(k)
                    stack.append(k)
        return found

    def explain(self, i: int) -> None:
        kernel = self.kernels[i]
        for name in kernel.outputs:
            if self.program.buffers[name].role == loop.VARIABLE:
                continue  # its readers want the value from before the run
            for r in sorted(self.readers.get(name, ()), key=lambda k: self.position[k]):
                if r == i:
                    continue
                outcome = self.attempt(i, r)
                late = Refusal("CYCLE", {"why": "too far apart when they were tried"})
                refusal = outcome if isinstance(outcome, Refusal) else late
                nbytes = self.program.buffers[name].nbytes
                self.ctx.decisions.append(
                    Decision(
                        kernel.name, self.kernels[r].name, name, refusal.reason,
                        {"bytes": nbytes, **refusal.numbers},
                    )
                )  # fmt: skip


def reduces_outer(kernel: Kernel) -> bool:
    """True for a sum down the columns: the first axis is reduced, the last is not."""
    kinds = [a.kind for a in kernel.axes if a.size > 1]
    return bool(kinds) and kinds[0] == loop.REDUCE and kinds[-1] == loop.PARALLEL


def flops(kernel: Kernel) -> float:
    """Floating point operations per point of the kernel's space, going by the op table."""
    parts = (e for s in kernel.body for x in s.exprs for e in loop.walk(x))
    costs = (OPS[e.op].flops for e in parts if isinstance(e, loop.Apply))
    return sum(1.0 if callable(cost) else cost for cost in costs)

"""recompute: cheap values that would be kept for long are computed again where they are needed.

    mask = uniform(seed) >= 0.5; ...; g * mask  ->  ...; mask' = uniform(seed) >= 0.5; g * mask'

A value lives from its first reader to its last; in training, from the forward to the backward
pass. Where its readers fall apart into near and far ones, the far ones get a copy of the
pointwise chain that makes it, provided that all the chain reads is alive there anyway
(sources, and values with later readers), that it costs few operations per element, and that
it saves at least 64 KiB. So memory only falls. Every decision is recorded, with its numbers,
in ctx.notes["recomputed"]. Skips what is fetched, and chains with reductions or products: what
costs something is computed again only to keep within a budget, by `rematerialize`.
Cost: one walk, and a bounded search per candidate. Nothing may merge equal nodes after it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from graphc.ir.computation import Computation, clone, rewrite
from graphc.ir.graph import Node, Value
from graphc.ir.table import Kind
from graphc.passes.context import Context

_LEAST_BYTES = 1 << 16
_LEAST_DISTANCE = 40  # nodes between the near readers and the far ones
_MOST_NODES = 24  # of a chain


@dataclass(frozen=True, slots=True)
class Recomputed:
    """One value that far readers compute again."""

    value: str
    saved_bytes: int
    flops_per_element: float
    distance: int
    readers: tuple[str, ...]
    chain: tuple[str, ...]


def recompute(computation: Computation, ctx: Context) -> Computation:
    """Give far readers of cheap values a copy of their own."""
    plan = _Plan(computation, ctx.target.recomputed_flops)
    for node in computation.nodes:
        plan.consider(node)
    ctx.notes["recomputed"] = plan.decisions
    return plan.apply() if plan.decisions else computation


class _Plan:
    def __init__(self, computation: Computation, most_flops: float) -> None:
        self.computation = computation
        self.most_flops = most_flops
        self.position = {n: i for i, n in enumerate(computation.nodes)}
        self.roots = frozenset(computation.roots)
        self.decisions: list[Recomputed] = []
        self.chains: dict[Node, tuple[Node, ...]] = {}
        self.far: dict[Node, dict[Value, Node]] = {}  # reader -> value -> what makes the value
        self.last = self.last_uses()
        self.read_by_copies: set[Value] = set()

    def last_uses(self) -> dict[Value, float]:
        """Until which position each value is alive; a movement is a view of its inputs."""
        last: dict[Value, float] = dict.fromkeys(self.roots, math.inf)
        for node in reversed(self.computation.nodes):
            until = self.until(node, last)
            for value in node.inputs:
                last[value] = max(last.get(value, -1), until)
        return last

    def until(self, reader: Node, last: Mapping[Value, float]) -> float:
        """Until which position the reader needs what it reads."""
        position = self.position[reader]
        if reader.kind is not Kind.MOVEMENT:
            return position
        return max(position, *(last.get(v, -1) for v in reader.outputs))

    def consider(self, node: Node) -> None:
        """Decide about one value."""
        value = node.outputs[0] if node.outputs else None
        if node.kind is not Kind.POINTWISE or value is None or value in self.roots:
            return
        if value in self.read_by_copies:
            return  # a copy of another value keeps it alive already
        readers = self.computation.users.get(value, [])
        if value.type.nbytes < _LEAST_BYTES or len(readers) < 2:
            return
        far, distance = self.far_readers(readers)
        if not far or any(n.kind is Kind.MOVEMENT for n in far):
            return
        near = max(self.until(r, self.last) for r in readers if r not in far)
        if near >= min(self.position[r] for r in far):
            return  # a view of it is read later still
        found = self.chain(node, min(self.position[r] for r in far))
        if found is not None:
            self.decide(node, far, distance, *found)

    def far_readers(self, readers: list[Node]) -> tuple[list[Node], int]:
        """The readers after the widest gap, and how wide it is; none where it is narrow."""
        ordered = sorted(set(readers), key=lambda r: self.position[r])
        places = [self.position[r] for r in ordered]
        gaps = [b - a for a, b in itertools.pairwise(places)]
        widest = max(gaps, default=0)
        if widest < _LEAST_DISTANCE:
            return [], widest
        return ordered[gaps.index(widest) + 1 :], widest

    def chain(self, node: Node, until: int) -> tuple[tuple[Node, ...], float] | None:
        """The nodes to compute again at position `until`, inputs first, and their cost."""
        chain: dict[Node, None] = {}
        flops = 0.0
        stack = [node]
        while stack:
            current = stack.pop()
            if current in chain:
                continue
            if current.kind not in (Kind.POINTWISE, Kind.MOVEMENT):
                return None
            chain[current] = None
            if current.kind is Kind.POINTWISE:
                assert not callable(current.op.flops), f"{current.op} is pointwise"
                flops += current.op.flops
            if flops > self.most_flops or len(chain) > _MOST_NODES:
                return None
            stack += [v.node for v in current.inputs if not self.is_alive(v, until)]
        ordered = tuple(sorted(chain, key=lambda n: self.position[n]))
        return ordered, flops

    def is_alive(self, value: Value, until: int) -> bool:
        return value.node.kind is Kind.SOURCE or self.last.get(value, -1) >= until

    def decide(
        self, node: Node, far: list[Node], distance: int, chain: tuple[Node, ...], flops: float
    ) -> None:
        value = node.outputs[0]
        for reader in far:
            self.far.setdefault(reader, {})[value] = node
        self.chains[node] = chain
        readers = self.computation.users[value]
        self.last[value] = max(self.until(r, self.last) for r in readers if r not in far)
        self.read_by_copies.update(v for part in chain for v in part.inputs)
        self.decisions.append(
            Recomputed(
                node.name, value.type.nbytes, flops, distance,
                tuple(r.name for r in far), tuple(n.name for n in chain),
            )
        )  # fmt: skip

    def apply(self) -> Computation:
        """The computation in which far readers read copies."""
        copies: dict[Node, Value] = {}
        mapped: dict[Value, Value] = {}

        def visit(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
            mapped.update(zip(node.inputs, inputs, strict=True))
            own = self.far.get(node)
            if own is None:
                return None
            again = []
            for old, new in zip(node.inputs, inputs, strict=True):
                source = own.get(old)
                if source is not None and source not in copies:
                    copies[source] = self.copy(self.chains[source], mapped)
                again.append(new if source is None else copies[source])
            return clone(node, tuple(again)).outputs

        return rewrite(self.computation, visit)

    def copy(self, chain: tuple[Node, ...], mapped: Mapping[Value, Value]) -> Value:
        local: dict[Value, Value] = {}
        for node in chain:
            inputs = tuple([local.get(v, mapped.get(v, v)) for v in node.inputs])
            new = clone(node, inputs)
            local.update(zip(node.outputs, new.outputs, strict=True))
        return local[chain[-1].outputs[0]]

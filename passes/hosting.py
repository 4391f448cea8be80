"""hosting: what only the host can compute is taken out of the compiled parts of a run.

    decode_jpeg(read_file(name)) * 2.0
      ->  host: image = decode_jpeg(read_file(name));   then compiled: image * 2.0, image fed

Strings, files, Python functions, and results whose size depends on values have no kernels. The
computation falls apart into parts that are run one after the other: the host's are evaluated op by
op in Python, the others compiled for the shapes that they are given. What a part computes is fed to
those after it. Loops and branches with such an op inside are evaluated by the host as a whole.

All parts see the variables as they were when the run began; all updates are in the last part, so
that whatever can fail has happened before the first variable changes. Cost: one walk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.ir.computation import Computation, clone, topological_order
from graphc.ir.graph import Node, Value, apply, detached
from graphc.ir.ops.control import trip_count
from graphc.ir.table import OPS, Kind
from graphc.passes.stages import stages


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """One step of a run: `takes` are positions among the feeds and all results before it.

    None: all of them, in their order.
    """

    computation: Computation
    takes: tuple[int, ...] | None = None
    on_host: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Division:
    """The parts of a run; `gives` are the positions of what was asked for, None: the last's."""

    parts: tuple[Part, ...]
    gives: tuple[int, ...] | None = None


def is_on_host(node: Node) -> bool:
    """True for what no kernel computes: the host's own ops, and whatever touches strings."""
    if node.kind is Kind.HOST or any(v.dtype.is_string for v in (*node.inputs, *node.outputs)):
        return node.op.name != "placeholder"
    return node.kind is Kind.CONTROL and any(
        is_on_host(inner)
        for body in node.attrs.values() if isinstance(body, Computation)
        for inner in body.nodes
    )  # fmt: skip


def divide(computation: Computation) -> Division:
    """The parts in which the computation is run."""
    strings = any(n.types[0].dtype.is_string for n in computation.inputs)
    if not strings and not any(map(is_on_host, computation.nodes)):
        return Division(tuple(Part(c) for c in stages(computation)))
    return _Divider(computation).divide()


class _Divider:
    """Even times are the host's, odd ones the device's; feeds are there from the beginning."""

    def __init__(self, computation: Computation) -> None:
        self.computation = computation
        self.times: dict[Node, int] = {}
        for node in computation.nodes:
            self.times[node] = self.time_of(node)
        self.last = max(self.times.values(), default=0) | 1  # the last part is always compiled
        self.known = {node.outputs[0]: i for i, node in enumerate(computation.inputs)}
        self.standing: dict[Value, Value] = {v: v for v in self.known}
        self.count = len(self.known)
        self.parts: list[Part] = []

    def is_on_host(self, node: Node) -> bool:
        """Also for what else is found before a part is compiled: how often a loop runs."""
        return is_on_host(node) or node.op is trip_count

    def time_of(self, node: Node) -> int:
        if node.op.name == "placeholder":
            return 0
        host = self.is_on_host(node)
        ready = [self.ready(v.node, host) for v in node.inputs]
        time = max(ready, default=0)
        return time + (time % 2 == host)

    def ready(self, node: Node, for_host: bool) -> int:
        """When a value can be read; sources are computed anew wherever they are wanted."""
        if _is_free(node):
            return int(node.op.name == "variable" and for_host)
        return self.times[node]

    def divide(self) -> Division:
        for time in range(self.last + 1):
            values = self.given_at(time)
            updates = self.computation.updates if time == self.last else ()
            if values or time == self.last:
                self.add(time, values, updates)
        gives = tuple(self.known[v] for v in self.computation.outputs)
        return Division(tuple(self.parts), gives)

    def given_at(self, time: int) -> list[Value]:
        """What a part computes for those after it, or for the caller."""
        wanted: dict[Value, None] = {}
        for node in self.computation.nodes:
            host, later = self.is_on_host(node), self.times[node] > time
            for v in node.inputs if later else ():
                if self.computed_at(v, host) == time and not (_is_free(v.node) and not host):
                    wanted[v] = None
        for v in self.computation.outputs:
            if self.computed_at(v, False) == time:
                wanted[v] = None
        for _, v in self.computation.updates if time < self.last else ():
            if not _is_free(v.node) and self.times[v.node] == time:
                wanted[v] = None
        return [v for v in wanted if v not in self.known]

    def computed_at(self, value: Value, for_host: bool) -> int:
        """When a value is computed for readers of later parts; -1: they compute it themselves."""
        node = value.node
        if not _is_free(node):
            return self.times[node]
        if node.op.name == "variable":
            return 1
        return -1 if for_host else 1

    def add(
        self, time: int, values: Sequence[Value], updates: Sequence[tuple[Node, Value]]
    ) -> None:
        """A part that gives the values; its inputs are what it reads of those before."""
        host = time % 2 == 0
        made = self.copied([*values, *(v for _, v in updates)], host)
        outputs, new = made[: len(values)], made[len(values) :]
        pairs = [(n, v) for (n, _), v in zip(updates, new, strict=True)]
        back = {stand: self.known[v] for v, stand in self.standing.items()}
        read = [n for n in topological_order(v.node for v in made) if n.outputs[0] in back]
        takes = [back[n.outputs[0]] for n in read]
        if host:
            self.parts.append(Part(Computation(read, outputs), tuple(takes), True))
            self.count += len(outputs)
        else:
            self.add_stages(Computation(read, outputs, pairs), takes)
        for i, v in enumerate(values, start=self.count - len(values)):
            self.known[v] = i
            self.standing[v] = _placeholder(v)

    def add_stages(self, computation: Computation, takes: list[int]) -> None:
        for stage in stages(computation):
            self.parts.append(Part(stage, tuple(takes)))
            takes = [*takes, *range(self.count, self.count + len(stage.outputs))]
            self.count += len(stage.outputs)

    def copied(self, values: Sequence[Value], host: bool) -> list[Value]:
        """The values as a part computes them, from what it is given."""
        mapping = dict(self.standing)
        if not host:  # a device reads variables itself
            mapping = {v: s for v, s in mapping.items() if v.node.op.name != "variable"}
        for node in self.upstream(values, mapping):
            inputs = tuple([mapping.get(v, v) for v in node.inputs])
            if inputs != node.inputs:
                new = clone(node, inputs)
                mapping.update(
                    (old, value)
                    for old, value in zip(node.outputs, new.outputs, strict=True)
                    if old not in mapping
                )
        return [mapping.get(v, v) for v in values]

    def upstream(self, values: Sequence[Value], given: dict[Value, Value]) -> list[Node]:
        """The nodes that lead from what is given to the values, inputs first."""
        seen: set[Node] = set()
        stack = [v.node for v in values if v not in given]
        while stack:
            node = stack.pop()
            if node not in seen:
                seen.add(node)
                stack.extend(v.node for v in node.inputs if v not in given)
        return [n for n in self.computation.nodes if n in seen]


def _is_free(node: Node) -> bool:
    """Sources, which cost nothing: each part that reads one has its own."""
    return node.kind is Kind.SOURCE and node.op.name != "placeholder" and not is_on_host(node)


def _placeholder(value: Value) -> Value:
    with detached(value.node):
        attrs = {"dtype": value.dtype, "shape": value.type.shape}
        return apply(OPS["placeholder"], (), attrs).outputs[0]


__all__ = ["Division", "Part", "divide", "is_on_host"]

"""Loops and branches: Loop, Scan and If. A body reads what it captures by its outer name.

A loop over slices of a known number of steps is a Scan; any other is a Loop. What a conditional
loop stacks has a slice for every step that might run: its body is an If inside of the Loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from graphc.frontend.onnx.exporting import Exporting, exporter, unsaid
from graphc.ir.computation import Computation
from graphc.ir.graph import Node, Value
from graphc.ir.loop import UNBOUNDED
from graphc.ir.ops.control import LoopView


@exporter("branch")
def _branch(e: Exporting, node: Node) -> None:
    predicate, *given = e.given(node)
    bodies = {
        f"{word}_branch": _plain_body(e, node.attrs[which], given)
        for word, which in (("then", "then"), ("else", "otherwise"))
    }
    names = [e.fresh(node.name) for _ in node.outputs]
    e.emits("If", [predicate], names, **bodies)
    e.names.update(zip(node.outputs, names, strict=True))


def _plain_body(e: Exporting, body: Computation, given: Sequence[str]) -> Any:
    """A graph without inputs: all that it reads is around it."""
    params = [n.outputs[0] for n in body.inputs]
    with e.scope(params, given), e.body() as nodes:
        results = _results(e, e.computed(body), body.outputs)
    return e.graph(nodes, [], results)


def _results(
    e: Exporting, names: Sequence[str], values: Sequence[Value | None]
) -> dict[str, Value | None]:
    """A body's outputs: each is made in it, and has a name of its own. None: a condition."""
    return {
        e.emit("Identity", [n], e.fresh("result")): v for n, v in zip(names, values, strict=True)
    }


@exporter("loop")
def _loop(e: Exporting, node: Node) -> None:
    made = _LoopExport.of(e, node)
    if made.conditional and made.stacked:
        made.choose()
    elif node.attrs["scanned"] and not made.conditional:
        made.scan()
    else:
        made.loop()


@exporter("trip_count")
def _trip_count(e: Exporting, node: Node) -> None:
    """The number itself where it is known; else a Loop over the counters that counts its steps."""
    known = e.known(node.outputs[0])
    if known is not None:
        e.names[node.outputs[0]] = e.constant(known)
        return
    condition, body, most = (node.attrs[k] for k in ("condition", "body", "most"))
    state, captured = e.given(node)[: len(body.outputs)], e.given(node)[len(body.outputs) :]
    params = [n.outputs[0] for n in body.inputs]
    names = [e.fresh(n) for n in ("iteration", "go", "count", *("param" for _ in state))]
    infos = [e.scalar_info(names[0], "int64"), e.scalar_info(names[1], "bool")]
    infos.append(e.scalar_info(names[2], "int64"))
    infos += [e.info(n, p) for n, p in zip(names[3:], params, strict=False)]
    (start,) = _inlined(e, condition, [*state, *captured])
    with e.body() as nodes:
        after = _inlined(e, body, [*names[3:], *captured])
        again = _inlined(e, condition, [*after, *captured])
        count = e.emit("Add", [names[2], e.constant(np.int64(1))])
        values = [condition.outputs[0], node.outputs[0], *body.outputs]
        results = _results(e, [*again, count, *after], values)
    bound = "" if most < 0 else e.constant(np.int64(most))
    outs = e.emits("Loop", [bound, start, e.constant(np.int64(0)), *state],
                   [e.fresh("trips") for _ in list(results)[1:]],
                   body=e.graph(nodes, infos, results))  # fmt: skip
    e.names[node.outputs[0]] = outs[0]


def _inlined(e: Exporting, body: Computation, given: Sequence[str]) -> list[str]:
    with e.scope([n.outputs[0] for n in body.inputs], given):
        return e.computed(body)


@dataclass(frozen=True)
class _LoopExport:
    """One loop, with those of its stacks that are read; `trips` is the number of steps, or ""."""

    e: Exporting
    node: Node
    view: LoopView
    stacked: tuple[int, ...]
    trips: str

    @classmethod
    def of(cls, e: Exporting, node: Node) -> _LoopExport:
        """The export of a loop."""
        carried, trips = node.attrs["carried"], node.attrs["trips"]
        stacked = [i for i, v in enumerate(node.outputs[carried:]) if v in e.live]
        if trips is None:
            name = e.name(node.inputs[0])
        else:
            name = "" if trips == UNBOUNDED else e.constant(np.int64(trips))
        return cls(e, node, LoopView(node), tuple(stacked), name)

    @property
    def conditional(self) -> bool:
        """True where the first carried value says whether a step runs."""
        return bool(self.node.attrs["conditional"])

    @property
    def reverse(self) -> bool:
        """True where the steps count down."""
        return bool(self.node.attrs["reverse"])

    # -- the three forms

    def scan(self) -> None:
        """States, the step among them where it is read, and slices."""
        e, (carried, scanned, _) = self.e, self.view.params
        step = self.view.body.inputs[0].outputs[0]
        own = [step] if any(step in n.inputs for n in self.body.nodes) else []
        own = [step] if step in self.body.outputs else own
        names = [e.fresh("param") for _ in (*own, *carried, *scanned)]
        infos = [e.info(n, v) for n, v in zip(names, (*own, *carried, *scanned), strict=True)]
        at, states = names[: len(own)], names[len(own) : len(own) + len(carried)]
        one = e.constant(np.int64(1))
        with e.body() as nodes:
            found = self.computed(at[0] if own else "", states, names[len(own) + len(carried) :])
            following = [e.emit("Sub" if self.reverse else "Add", [n, one]) for n in at]
            results = _results(e, [*following, *found], [*own, *self.body.outputs])
        start = [self.place(e.constant(np.int64(0)))] if own else []
        backward = int(self.reverse)
        outs = e.emits(
            "Scan", [*start, *self.outer(0), *self.outer(1)], self.fresh(len(results)),
            body=e.graph(nodes, infos, results), num_scan_inputs=len(scanned),
            scan_input_directions=[backward] * len(scanned),
            scan_output_directions=[backward] * len(self.stacked) or None,
        )  # fmt: skip
        self.give(outs[len(own) :])

    def loop(self) -> None:
        """A number of steps, or the first carried value as the condition, or both."""
        e, states = self.e, self.view.params[0]
        # the condition is no result of a Loop: where it is read, it is carried besides
        skipped = int(self.conditional and self.node.outputs[0] not in e.live)
        names, infos = self.parameters(states[skipped:])
        with e.body() as nodes:
            before = [names[1], *names[3 - skipped :]] if self.conditional else names[2:]
            step, slices = self.at(names[0])
            found = self.computed(step, before, slices)
            again = found[0] if self.conditional else e.constant(np.bool_(True))
            results = _results(e, [again, *found[skipped:]],
                               [None, *self.body.outputs[skipped:]])  # fmt: skip
        outer = self.outer(0)
        start = outer[0] if self.conditional else ""
        outs = e.emits("Loop", [self.trips, start, *outer[skipped:]], self.fresh(len(results) - 1),
                       body=e.graph(nodes, infos, results))  # fmt: skip
        self.give(self.turned(["", *outs] if skipped else outs))

    def choose(self) -> None:
        """Every step that might run, with an If inside; slices of those that do not are 0."""
        e, states = self.e, self.view.params[0]
        names, infos = self.parameters(states)
        with e.body() as nodes:
            step, slices = self.at(names[0])
            with e.body() as then:
                runs = _results(e, self.computed(step, names[2:], slices), self.body.outputs)
            with e.body() as otherwise:
                kept = [*names[2:], *map(self.zeros, self.body.outputs[len(states) :])]
                rests = _results(e, kept, self.body.outputs)
            found = e.emits("If", [names[2]], self.fresh(len(runs)),
                            then_branch=e.graph(then, [], runs),
                            else_branch=e.graph(otherwise, [], rests))  # fmt: skip
            results = _results(e, [e.constant(np.bool_(True)), *found],
                               [None, *self.body.outputs])  # fmt: skip
        outs = e.emits("Loop", [self.trips, "", *self.outer(0)], self.fresh(len(found)),
                       body=e.graph(nodes, infos, results))  # fmt: skip
        self.give(self.turned(outs))

    # -- their parts

    @cached_property
    def body(self) -> Computation:
        """The body without what nothing reads."""
        following, slices = self.view.results
        return self.view.body.replace(outputs=[*following, *(slices[i] for i in self.stacked)])

    def computed(self, step: str, states: Sequence[str], slices: Sequence[str]) -> list[str]:
        """One step, where these are its parameters: the next states, and slices of stacks."""
        given = [step, *states, *slices, *self.outer(2)]
        return _inlined(self.e, self.body, given)

    def outer(self, group: int) -> list[str]:
        """The names of what is carried at first (0), scanned (1), captured (2)."""
        return [self.e.name(v) for v in self.view.outer[group]]

    def fresh(self, count: int) -> list[str]:
        return [self.e.fresh(self.node.name) for _ in range(count)]

    def parameters(self, states: Sequence[Value]) -> tuple[list[str], list[Any]]:
        """The inputs of a Loop's body: number and condition, then states."""
        e = self.e
        names = [e.fresh(n) for n in ("iteration", "go", *("param" for _ in states))]
        infos = [e.scalar_info(names[0], "int64"), e.scalar_info(names[1], "bool")]
        return names, infos + [e.info(n, v) for n, v in zip(names[2:], states, strict=True)]

    def place(self, iteration: str) -> str:
        """The step, of which a loop backwards does the last first."""
        if not self.reverse:
            return iteration
        e = self.e
        last = e.emit("Sub", [self.trips, e.constant(np.int64(1))])
        return e.emit("Sub", [last, iteration])

    def at(self, iteration: str) -> tuple[str, list[str]]:
        """The step and the slices that belong to an iteration of a Loop."""
        step = self.place(iteration)
        return step, [self.e.emit("Gather", [x, step], axis=0) for x in self.outer(1)]

    def zeros(self, value: Value) -> str:
        """The slice of a step that does not run."""
        if not value.type.is_static:
            raise unsaid(self.node, "that may end early and stacks slices of unknown sizes")
        zero = np.zeros(value.type.static_shape, value.dtype.numpy)
        return self.e.constant(zero)

    def turned(self, outputs: list[str]) -> list[str]:
        """The outputs of a Loop, with the stacks of one backwards in the order of their steps."""
        carried = self.node.attrs["carried"]
        if not self.reverse:
            return outputs
        ends = [self.e.ints([n]) for n in (-1, -(1 << 60), 0, -1)]
        stacks = [self.e.emit("Slice", [x, *ends]) for x in outputs[carried:]]
        return outputs[:carried] + stacks

    def give(self, outputs: Sequence[str]) -> None:
        """Name the final states and the stacks."""
        carried = self.node.attrs["carried"]
        self.e.names.update(zip(self.node.outputs, outputs[:carried], strict=False))
        for i, name in zip(self.stacked, outputs[carried:], strict=True):
            self.e.names[self.node.outputs[carried + i]] = name

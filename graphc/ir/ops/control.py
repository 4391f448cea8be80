"""Control flow: loops and branches. Their bodies are regions: computations that are attributes.

    loop(trips, carried.., scanned.., captured..)   ->  final carried.., stacked..
    body(step, carried.., scanned.., captured..)    ->  next carried.., one slice of each stacked

A loop runs its body `trips` times. What is carried goes from step to step; of what is scanned a
step sees one slice along the first axis; what is captured is the same in all steps. What a step
gives besides is stacked along a new first axis. In a conditional loop the first carried value
says whether a step runs; slices of steps that did not run are 0. `reverse` counts down.

A loop also stacks what its gradient would want to have: the carried values before each step, and
results of products. What nothing reads is pruned before it is computed, so that inference pays
nothing for it, and training computes each product once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.ir.backward import Walk
from graphc.ir.computation import Computation, cut, topological_order
from graphc.ir.dtypes import bool_, int64
from graphc.ir.errors import DTypeError, GradientError, ShapeError, UnsupportedOp
from graphc.ir.graph import CONSTANT, Node, Value, detached
from graphc.ir.loop import UNBOUNDED
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops.contract import contract, matmul
from graphc.ir.ops.source import placeholder
from graphc.ir.table import REQUIRED, Attrs, Kind, NoGradient, Op, Types, register
from graphc.ir.types import UNKNOWN, TensorType, may_equal, merge_shapes

# -- loops


def _loop_type(types: Types, attrs: Attrs) -> Types:
    body: Computation = attrs["body"]
    carried, trips = attrs["carried"], attrs["trips"]
    own = types if trips is not None else types[1:]
    params = body.inputs[1:]
    assert len(own) == len(params), f"a loop of {len(params)} params has {len(own)} inputs"
    first = carried + attrs["scanned"]
    for i in (*range(carried), *range(first, len(own))):
        _check_param(params[i], own[i])
    for t, param in zip(own[carried:first], params[carried:first], strict=True):
        _check_param(param, t.with_shape(t.shape[1:]) if t.shape is not None else t)
        _check_trips(t, trips)
    finals = [_carried_type(p, v) for p, v in zip(params[:carried], body.outputs, strict=False)]
    lead = trips if trips is not None and trips >= 0 else UNKNOWN
    stacked = [
        v.type if v.type.shape is None else v.type.with_shape((lead, *v.type.shape))
        for v in body.outputs[carried:]
    ]
    return (*finals, *stacked)


def _check_param(param: Node, t: TensorType) -> None:
    declared = param.types[0]
    if declared.dtype is not t.dtype:
        raise DTypeError(f"the body takes {declared} as {param.name!r}, got {t}")
    merge_shapes(declared.shape, t.shape, f"the body's {param.name!r} and its value")


def _check_trips(t: TensorType, trips: int | None) -> None:
    if t.shape == ():
        raise ShapeError("a loop cannot go over the slices of a scalar")
    if trips is not None and t.shape is not None and not may_equal(t.shape[0], trips):
        raise ShapeError(f"a loop of {trips} steps cannot take {t} slice by slice")


def _carried_type(param: Node, value: Value) -> TensorType:
    before, after = param.types[0], value.type
    if before.dtype is not after.dtype:
        raise DTypeError(f"{param.name!r} is {before} before a step and {after} after it")
    try:
        return before.with_shape(merge_shapes(before.shape, after.shape, "a carried value"))
    except ShapeError:
        raise ShapeError(
            f"{param.name!r} is {before} before a step and {after} after it: "
            "what a loop carries keeps its shape"
        ) from None


@dataclass(frozen=True)
class LoopView:
    """The parts of a loop node: what goes in, the body's parameters, what the body gives."""

    node: Node

    @property
    def body(self) -> Computation:
        body: Computation = self.node.attrs["body"]
        return body

    @property
    def trips(self) -> Value | int:
        """The number of steps, or the tensor that will say it."""
        known: int | None = self.node.attrs["trips"]
        return self.node.inputs[0] if known is None else known

    @property
    def inputs(self) -> tuple[Value, ...]:
        """What the body's parameters but the step are given."""
        return self.node.inputs if self.node.attrs["trips"] is not None else self.node.inputs[1:]

    def _split(self, items: Sequence[Any]) -> tuple[Any, Any, Any]:
        carried = self.node.attrs["carried"]
        first = carried + self.node.attrs["scanned"]
        return items[:carried], items[carried:first], items[first:]

    @property
    def outer(self) -> tuple[tuple[Value, ...], tuple[Value, ...], tuple[Value, ...]]:
        """Initial carried values, scanned, captured."""
        return self._split(self.inputs)

    @property
    def params(self) -> tuple[tuple[Value, ...], tuple[Value, ...], tuple[Value, ...]]:
        """The body's parameters for them."""
        return self._split(tuple(n.outputs[0] for n in self.body.inputs[1:]))

    @property
    def results(self) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
        """The body's next carried values, and what is stacked."""
        carried = self.node.attrs["carried"]
        return self.body.outputs[:carried], self.body.outputs[carried:]

    @property
    def stacks(self) -> dict[Value, Value]:
        """For each value of the body that is stacked, the stack."""
        carried = self.node.attrs["carried"]
        return dict(zip(self.results[1], self.node.outputs[carried:], strict=True))


Pair = tuple[Value, Value]  # a parameter of the body, and what it is given


@dataclass
class LoopPlan:
    """A loop to be built: its body's parameters with what they are given, and its results."""

    step: Value
    carried: list[tuple[Value, Value, Value]]  # parameter, initial value, next value
    scanned: list[Pair]
    stacked: list[Value]
    trips: Value | int
    captured: list[Pair]
    conditional: bool = False
    reverse: bool = False
    first: int = 0  # serial of the first node of the body
    older: frozenset[Node] = frozenset()  # nodes before it that are of the body, too
    counter: int | None = None  # which carried value counts the steps, of an unbounded loop

    def build(self, name: str | None = None) -> tuple[list[Value], list[Value]]:
        """The final carried values, and the stacks."""
        self._capture_unchanged()
        results = [out for _, _, out in self.carried] + self.stacked
        params = {self.step, *(p for p, *_ in (*self.carried, *self.scanned, *self.captured))}
        varying = self._varying(results, params)
        self.captured += find_captures(results, params, varying, self.first, self.older)
        outs = results + self._worth_saving(results, varying)
        feeds = [self.step, *(p for p, *_ in (*self.carried, *self.scanned))]
        feeds += [p for p, _ in self.captured]
        body = region(outs, feeds, self.first)
        if body.updates:
            variable = body.updates[0][0]
            raise UnsupportedOp(f"a loop's body cannot assign the variable {variable.name!r}")
        given = [init for _, init, _ in self.carried]
        given += [x for _, x in (*self.scanned, *self.captured)]
        known = self.trips if isinstance(self.trips, int) else None
        if not isinstance(self.trips, int):
            given.insert(0, self.trips)
        node = loop.node(
            *given, body=body, carried=len(self.carried), scanned=len(self.scanned), trips=known,
            conditional=self.conditional, reverse=self.reverse, counter=self.counter, name=name,
        )  # fmt: skip
        finals = iter(node.outputs)
        return [final for final in self._finals(finals)], list(finals)[: len(self.stacked)]

    def _capture_unchanged(self) -> None:
        """What no step changes is not carried."""
        self._unchanged = {
            i: init for i, (p, init, out) in enumerate(self.carried)
            if out is p and not (self.conditional and i == 0)
        }  # fmt: skip
        self.captured += [(self.carried[i][0], init) for i, init in self._unchanged.items()]
        self._count = len(self.carried)
        self.carried = [c for i, c in enumerate(self.carried) if i not in self._unchanged]

    def _finals(self, outputs: Iterable[Value]) -> list[Value]:
        rest = iter(outputs)
        return [
            self._unchanged[i] if i in self._unchanged else next(rest) for i in range(self._count)
        ]

    def _varying(self, results: Sequence[Value], params: set[Value]) -> set[Node]:
        """The nodes that differ from step to step: they read a parameter, or draw numbers."""
        varying: set[Node] = set()
        for node in reached(results, params):
            own = node.serial >= self.first or node in self.older
            if (own and draws(node)) or any(v in params or v.node in varying for v in node.inputs):
                varying.add(node)
        return varying

    def _worth_saving(self, results: list[Value], varying: set[Node]) -> list[Value]:
        """What the gradient wants: carried values, and results of costly ops."""
        if self.trips == UNBOUNDED:
            return []
        values = [p for p, *_ in self.carried]
        for node in topological_order(v.node for v in results):
            if is_costly(node) and node.serial >= self.first:
                values += [v for v in node.outputs if v.dtype.is_floating]
        known = set(self.stacked)
        kept = varying | {p.node for p, *_ in self.carried}
        return [v for v in values if v not in known and v.node in kept]


def draws(node: Node) -> bool:
    """True for an op that draws random numbers: it has a generator's key."""
    return isinstance(node.attrs.get("key"), int)


def is_costly(node: Node) -> bool:
    """True for an op whose results are worth the memory to keep them."""
    kinds = (Kind.CONTRACT, Kind.OPAQUE, Kind.CONTROL)
    return node.kind in kinds or "costly" in node.op.facts


def reached(results: Sequence[Value], stops: set[Value]) -> list[Node]:
    """The nodes on which the results depend without passing through a stop, inputs first."""
    seen: set[Node] = set()
    stack = [v.node for v in results if v not in stops]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend(v.node for v in node.inputs if v not in stops)
    return [n for n in topological_order(v.node for v in results) if n in seen]


def find_captures(
    results: Sequence[Value],
    params: set[Value],
    inside: set[Node],
    first: int,
    older: frozenset[Node] = frozenset(),
) -> list[Pair]:
    """What the inside of a body reads from outside, as pairs of itself; constants are its own.

    In a loop, what does not depend on a parameter is outside: it is computed once. Of nodes in no
    graph, those are outside that are older than the body (`older` are the body's, all the same).
    """
    nodes = reached(results, params)
    reads = [v for n in nodes if n in inside for v in n.inputs] + list(results)
    outside = dict.fromkeys(v for v in reads if v.node not in inside and v not in params)
    return [
        (v, v) for v in outside
        if v.node.op is not CONSTANT and v.node not in older
        and (v.node.graph is not None or v.node.serial < first)
    ]  # fmt: skip


def region(results: Sequence[Value], feeds: Sequence[Value], first: int) -> Computation:
    """The computation from the feeds to the results; nothing older than `first` runs in it."""
    return cut(results, (), feeds, lambda node: node.serial >= first)


def _loop_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    # backward: the same steps in the opposite order; carries the gradients of what is carried and
    # the sums for what is captured
    view = LoopView(node)
    if view.trips == UNBOUNDED:
        view = _counted_again(view)
        more: list[Value | None] = [None] * (len(view.node.outputs) - len(grads))
        return _LoopBackward(view, [*grads, *more]).run()[1:]
    return _LoopBackward(view, grads).run()


def _counted_again(view: LoopView) -> LoopView:
    """An unbounded loop once more, for as many steps as it takes, with what its gradient wants.

    The number of steps is known by a run before the run (see graphc.passes.stages).
    """
    node = view.node
    if node.attrs["counter"] is None:
        raise GradientError(
            f"no gradient goes through the loop {node.name!r}, whose number of steps depends on "
            "what it computes; bound it (while_loop: maximum_iterations)"
        )
    (carried, _, captured), (initial, _, outer) = view.params, view.outer
    plan = LoopPlan(
        view.body.inputs[0].outputs[0], list(zip(carried, initial, view.results[0], strict=True)),
        [], [], node.outputs[node.attrs["counter"]], list(zip(captured, outer, strict=True)),
        older=frozenset(view.body.nodes),
    )  # fmt: skip
    made = plan.build()[0][0].node
    assert len(made.outputs) >= len(node.outputs), "an unbounded loop carries what changes"
    return LoopView(made)


class _LoopBackward:
    def __init__(self, view: LoopView, grads: Sequence[Value | None]) -> None:
        self.view = view
        self.node = view.node
        self.carried = len(view.params[0])
        self.final_grads = list(grads[: self.carried])
        self.stack_grads = list(grads[self.carried :])
        self.first = 0
        self.given: dict[Value, Value] = {}  # scanned: value inside the step -> stack outside

    def run(self) -> list[Value | None]:
        with detached(self.node):
            self.first = placeholder.node(dtype=bool_, shape=()).serial
            walk, adjoints = self.walk()
            plan = self.plan(walk, adjoints)
        # what is outside of the loop belongs where the gradient is built
        plan.carried = [(p, self.start(p, init), after) for p, init, after in plan.carried]
        finals, stacks = plan.build()
        return self.collect(finals, stacks)

    def start(self, param: Value, like: Value) -> Value:
        """A carried value's own gradient, or zeros; sums begin with zeros."""
        i = self.adjoint_of.get(param)
        grad = None if i is None else self.final_grads[i]
        return mv.zeros_like(like) if grad is None else grad

    def walk(self) -> tuple[Walk, dict[int, Value]]:
        """The walk through the body, and per carried value its gradient's parameter."""
        (next_values, slices), params = self.view.results, self.view.params
        sources = [p for group in params for p in group if p.dtype.is_floating]
        targets: list[Pair] = []
        adjoints: dict[int, Value] = {}
        for i, value in enumerate(next_values):
            if value.dtype.is_floating:
                adjoints[i] = _param(self.node.outputs[i].type)
                targets.append((value, adjoints[i]))
        for value, grad in zip(slices, self.stack_grads, strict=True):
            if grad is not None:
                param = _param(value.type)
                self.given[param] = grad
                targets.append((value, param))
        walk = Walk(None, [t for t, _ in targets], sources)
        for target, param in targets:
            walk.seed(target, param)
        walk.run()
        return walk, adjoints

    def plan(self, walk: Walk, adjoints: Mapping[int, Value]) -> LoopPlan:
        params, outer = self.view.params, self.view.outer
        carried = []
        for i, param in adjoints.items():
            after = walk.gradient(params[0][i])
            after = mv.zeros_like(param) if after is None else after
            carried.append((param, self.node.outputs[i], self.masked(after, param)))
        self.products: dict[int, list[tuple[int, int, str]]] = {}
        stacked: list[Value] = []
        self.sums: dict[int, int] = {}
        for k, param in enumerate(params[2]):
            if param.dtype.is_floating:
                parts = self.take_products(k, walk.pending.get(param, ()), stacked)
                total = walk.total(parts)
                if total is not None:
                    own = _param(param.type)
                    self.sums[k] = len(carried)
                    after = own + self.masked(total, mv.zeros_like(total))
                    carried.append((own, outer[2][k], after))
        self.scanned_at = {}
        for j, param in enumerate(params[1]):
            total = walk.gradient(param) if param.dtype.is_floating else None
            if total is not None:
                self.scanned_at[j] = len(stacked)
                stacked.append(self.masked(total, mv.zeros_like(total)))
        self.adjoint_of = {p: i for i, p in adjoints.items()}
        return self.closed(carried, stacked)

    def masked(self, value: Value, otherwise: Value) -> Value:
        """The value where the step ran."""
        if not self.view.node.attrs["conditional"]:
            return value
        return pw.where(self.view.params[0][0], value, otherwise)

    def take_products(self, k: int, parts: Sequence[Value], stacked: list[Value]) -> list[Value]:
        """Products of matrices are not summed step by step: their factors are stacked, and one
        product over all steps is made outside. Gives the parts that are left."""
        rest = []
        for part in parts:
            node = part.node
            if node.op is not matmul or any(v.type.rank != 2 for v in node.inputs):
                rest.append(part)
                continue
            a, b = node.inputs
            at = len(stacked)
            stacked += [self.masked(a, mv.zeros_like(a)), b]
            left = "tmi" if node.attrs["transpose_a"] else "tim"
            right = "tom" if node.attrs["transpose_b"] else "tmo"
            self.products.setdefault(k, []).append((at, at + 1, f"{left},{right}->io"))
        return rest

    def closed(self, carried: list[Any], stacked: list[Value]) -> LoopPlan:
        """The plan with everything that the backward body reads of the forward one."""
        view = self.view
        given = dict(self.given)
        given |= {v: s for v, s in view.stacks.items() if v not in given}
        scanned_params = dict(zip(view.params[1], view.outer[1], strict=True))
        captured_params = dict(zip(view.params[2], view.outer[2], strict=True))
        own = {p for p, *_ in carried}
        step = view.body.inputs[0].outputs[0]
        needed = _reads([out for *_, out in carried] + stacked,
                        {step, *own, *given, *scanned_params, *captured_params})  # fmt: skip
        scanned = [(v, x) for v, x in (given | scanned_params).items() if v in needed]
        return LoopPlan(
            step, carried, scanned, stacked, view.trips,
            [(v, x) for v, x in captured_params.items() if v in needed],
            reverse=not self.node.attrs["reverse"], first=self.first,
            older=frozenset(view.body.nodes),
        )  # fmt: skip

    def collect(self, finals: list[Value], stacks: list[Value]) -> list[Value | None]:
        """The gradients, one per input of the forward loop."""
        view = self.view
        carried: list[Value | None] = [None] * self.carried
        for at, i in enumerate(self.adjoint_of.values()):
            carried[i] = finals[at]
        scanned = [
            stacks[self.scanned_at[j]] if j in self.scanned_at else None
            for j in range(len(view.params[1]))
        ]
        captured = [self.captured_grad(k, finals, stacks) for k in range(len(view.params[2]))]
        lead: list[Value | None] = [None] if self.node.attrs["trips"] is None else []
        return [*lead, *carried, *scanned, *captured]

    def captured_grad(self, k: int, finals: list[Value], stacks: list[Value]) -> Value | None:
        parts = [
            contract(stacks[a], stacks[b], spec=spec) for a, b, spec in self.products.get(k, ())
        ]
        if k in self.sums:
            parts.append(finals[self.sums[k]])
        total = parts[0] if parts else None
        for part in parts[1:]:
            assert total is not None
            total = total + part
        return total


def _param(t: TensorType) -> Value:
    return placeholder(dtype=t.dtype, shape=t.shape)


def _reads(results: Sequence[Value], stops: set[Value]) -> set[Value]:
    """Which of the stops the results depend on, not through another of them."""
    found: set[Value] = set()
    seen: set[Node] = set()
    stack = list(results)
    while stack:
        value = stack.pop()
        if value in stops:
            found.add(value)
        elif value.node not in seen:
            seen.add(value.node)
            stack.extend(value.node.inputs)
    return found


loop: Op = register(
    Op(
        "loop",
        Kind.CONTROL,
        _loop_type,
        attrs={
            "body": REQUIRED, "carried": REQUIRED, "scanned": 0, "trips": None,
            "conditional": False, "reverse": False, "counter": None,
        },
        grad=_loop_grad,
        doc="The body, step after step; see the module.",
    )
)  # fmt: skip


# -- the number of steps


def _trip_count(attrs: Attrs, *arrays: np.ndarray) -> np.ndarray:
    from graphc.ir.interpret import evaluate  # it walks the table that this op is in

    condition, body = attrs["condition"], attrs["body"]
    carried = len(body.outputs)
    state, captured = list(arrays[:carried]), arrays[carried:]
    count = 0
    while attrs["most"] < 0 or count < attrs["most"]:
        given = dict(zip(condition.inputs, (*state, *captured), strict=True))
        if not evaluate(condition.outputs, given)[0]:
            break
        state = evaluate(body.outputs, dict(zip(body.inputs, (*state, *captured), strict=True)))
        count += 1
        if count > _MOST_STEPS:
            raise ShapeError(f"a loop over counters does not end within {_MOST_STEPS:,} steps")
    return np.asarray(count, np.int64)


_MOST_STEPS = 10_000_000  # counted on the host


trip_count: Op = register(
    Op(
        "trip_count",
        Kind.CONTROL,
        lambda types, attrs: TensorType(int64, ()),
        numpy=_trip_count,
        attrs={"condition": REQUIRED, "body": REQUIRED, "most": UNBOUNDED},
        grad=NoGradient("it is an integer", zero=True),
        doc="How often a loop runs whose condition depends on counters alone; host only.",
    )
)


# -- branches


def _branch_type(types: Types, attrs: Attrs) -> Types:
    predicate, *given = types
    if predicate.dtype is not bool_ or predicate.shape not in ((), None):
        raise DTypeError(f"a branch needs a bool scalar as its condition, got {predicate}")
    for body in (attrs["then"], attrs["otherwise"]):
        for t, param in zip(given, body.inputs, strict=True):
            _check_param(param, t)
    pairs = zip(attrs["then"].outputs, attrs["otherwise"].outputs, strict=True)
    return tuple(_common_type(i, a, b) for i, (a, b) in enumerate(pairs))


def _common_type(i: int, a: Value, b: Value) -> TensorType:
    if a.dtype is not b.dtype:
        raise DTypeError(f"the branches give {a.type} and {b.type} as result {i}")
    one, two = a.type.shape, b.type.shape
    if one is None or two is None or len(one) != len(two):
        return a.type.with_shape(one if one == two else None)
    # what differs is known when the program is specialized, or it is an error then
    return a.type.with_shape(tuple(x if x == y else UNKNOWN for x, y in zip(one, two, strict=True)))


@dataclass(frozen=True)
class BranchPlan:
    """One body of a branch to be built: its results, the ops that it runs besides, and the
    serial of its first node. All that was built in it, it computes itself: it may not run."""

    results: Sequence[Value]
    nodes: Sequence[Node]
    first: int

    def captures(self) -> list[Value]:
        """What the body reads from outside; constants are its own."""
        found: dict[Value, None] = dict.fromkeys(v for v in self.results if self.is_outside(v))
        seen: set[Node] = set()
        stack = [v.node for v in self.results if v not in found] + list(self.nodes)
        while stack:
            node = stack.pop()
            if node.serial >= self.first and node not in seen:
                seen.add(node)
                found.update(dict.fromkeys(v for v in node.inputs if self.is_outside(v)))
                stack += [*(v.node for v in node.inputs), *node.control]
        return sorted(found, key=lambda v: (v.node.serial, v.index))

    def is_outside(self, value: Value) -> bool:
        return value.node.serial < self.first and value.node.op is not CONSTANT

    def body(self, feeds: Sequence[Value]) -> Computation:
        """The computation of the results, and of the variables' new values as its updates."""
        return cut(self.results, self.nodes, feeds, lambda node: node.serial >= self.first)


def build_branch(
    predicate: Value, plans: tuple[BranchPlan, BranchPlan], name: str | None = None
) -> tuple[tuple[Value, ...], list[tuple[Node, Value]]]:
    """The results, and the new values of variables that either body changes."""
    given = list(dict.fromkeys(v for plan in plans for v in plan.captures()))
    bodies = [plan.body(given) for plan in plans]
    changed = list(dict.fromkeys(n for body in bodies for n, _ in body.updates))
    given = list(dict.fromkeys([*given, *(n.outputs[0] for n in changed)]))
    then, otherwise = (_with_updates(plan.body(given), changed, given) for plan in plans)
    outputs = branch.outputs(predicate, *given, then=then, otherwise=otherwise, name=name)
    count = len(plans[0].results)
    return outputs[:count], list(zip(changed, outputs[count:], strict=True))


def _with_updates(
    body: Computation, changed: Sequence[Node], given: Sequence[Value]
) -> Computation:
    """New values of variables as further results; what the body leaves alone keeps its value."""
    new = dict(body.updates)
    kept = {v.node: n.outputs[0] for v, n in zip(given, body.inputs, strict=True)}
    outputs = [*body.outputs, *(new.get(n, kept[n]) for n in changed)]
    return body.replace(outputs=outputs, updates=())


def _branch_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    # backward: the gradient of the branch that ran, which is computed again there
    predicate, *given = node.inputs
    arrived = [(i, g) for i, g in enumerate(grads) if g is not None]
    with detached(node):
        seeds = [_param(node.outputs[i].type) for i, _ in arrived]
        wanted = [k for k, v in enumerate(given) if v.dtype.is_floating]
        bodies = [
            _branch_backward(node.attrs[which], [i for i, _ in arrived], seeds, wanted, node)
            for which in ("then", "otherwise")
        ]
    outputs = branch.outputs(
        predicate, *given, *(g for _, g in arrived), then=bodies[0], otherwise=bodies[1]
    )
    result: list[Value | None] = [None] * len(node.inputs)
    for k, value in zip(wanted, outputs, strict=True):
        result[k + 1] = value
    return result


def _branch_backward(
    body: Computation, targets: list[int], seeds: list[Value], wanted: list[int], node: Node
) -> Computation:
    params = [n.outputs[0] for n in body.inputs]
    walk = Walk(None, [body.outputs[i] for i in targets], [params[k] for k in wanted])
    for i, seed in zip(targets, seeds, strict=True):
        walk.seed(body.outputs[i], seed)
    walk.run()
    totals = [walk.gradient(params[k]) for k in wanted]
    results = [
        mv.zeros_like(params[k]) if g is None else g for k, g in zip(wanted, totals, strict=True)
    ]
    return region(results, [*params, *seeds], 0)


branch: Op = register(
    Op(
        "branch",
        Kind.CONTROL,
        _branch_type,
        attrs={"then": REQUIRED, "otherwise": REQUIRED},
        grad=_branch_grad,
        doc="One of two computations, by a condition; the other is not run.",
    )
)

__all__ = [
    "UNBOUNDED",
    "BranchPlan",
    "LoopPlan",
    "LoopView",
    "branch",
    "build_branch",
    "draws",
    "find_captures",
    "loop",
    "region",
    "trip_count",
]  # fmt: skip

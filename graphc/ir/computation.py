"""The unit of compilation: outputs, and updates of variables, cut out of a user's graph.

`Computation` is immutable. `rewrite` is the one primitive by which passes change it; it carries
name, line and origin over by itself, so that no pass can lose them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, TypeAlias

from graphc.ir.errors import GraphError
from graphc.ir.graph import Kind, Node, Value, apply, detached
from graphc.ir.table import OPS, Types
from graphc.ir.types import TensorType

Visit: TypeAlias = Callable[[Node, tuple[Value, ...]], "Sequence[Value] | None"]


class Computation:
    """What a run computes.

    `inputs` are the placeholders fed, in the order in which feeds are given to the executable;
    `outputs` the values fetched; `updates` the variables' new values, committed when the run
    ends. Every read of a variable inside sees the value at the start of the run.
    """

    def __init__(
        self,
        inputs: Sequence[Node],
        outputs: Sequence[Value],
        updates: Sequence[tuple[Node, Value]] = (),
        stage: str = "user",
    ) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.updates = tuple(updates)
        self.stage = stage

    @property
    def roots(self) -> tuple[Value, ...]:
        """Everything that must be computed: outputs, then new values of variables."""
        return self.outputs + tuple(value for _, value in self.updates)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes reached from the roots, every node after its inputs; deterministic."""
        return tuple(topological_order(v.node for v in self.roots))

    @cached_property
    def variables(self) -> tuple[Node, ...]:
        """The variables read or updated, in the order of their making."""
        found = {n for n in self.nodes if n.op.name == "variable"}
        found |= {variable for variable, _ in self.updates}
        return tuple(sorted(found, key=lambda n: n.serial))

    @cached_property
    def variables_read(self) -> frozenset[Node]:
        """The variables whose value at the start of the run is needed."""
        return frozenset(n for n in self.nodes if n.op.name == "variable")

    @cached_property
    def users(self) -> dict[Value, list[Node]]:
        """For each value, the nodes that read it (once per reading input)."""
        result: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in node.inputs:
                result.setdefault(value, []).append(node)
        return result

    def replace(
        self,
        inputs: Sequence[Node] | None = None,
        outputs: Sequence[Value] | None = None,
        updates: Sequence[tuple[Node, Value]] | None = None,
        stage: str | None = None,
    ) -> Computation:
        """A copy with some fields changed."""
        return Computation(
            self.inputs if inputs is None else inputs,
            self.outputs if outputs is None else outputs,
            self.updates if updates is None else updates,
            stage or self.stage,
        )


def topological_order(roots: Iterable[Node]) -> list[Node]:
    """Nodes reachable from `roots`, inputs first, without recursion: graphs may be deep."""
    order: list[Node] = []
    seen: set[Node] = set()
    for root in roots:
        if root in seen:
            continue
        seen.add(root)
        stack = [(root, iter(root.inputs))]
        while stack:
            node, rest = stack[-1]
            for value in rest:
                if value.node not in seen:
                    seen.add(value.node)
                    stack.append((value.node, iter(value.node.inputs)))
                    break
            else:
                order.append(node)
                stack.pop()
    return order


def clone(node: Node, inputs: tuple[Value, ...]) -> Node:
    """The same op on other inputs; its types are inferred anew where theirs are other ones.

    Of what the host computes, users say more by set_shape than the rule knows.
    """
    types: TensorType | Types = node.types
    same = all([new.type == old.type for new, old in zip(inputs, node.inputs, strict=True)])
    if not same and node.kind is not Kind.HOST:
        types = node.op.type_rule(tuple([v.type for v in inputs]), node.attrs)
    types = (types,) if isinstance(types, TensorType) else types
    return Node(node.op, inputs, node.attrs, types, node.name, node.where, node.origin)


def rewrite(computation: Computation, visit: Visit) -> Computation:
    """Offer every node to `visit(node, new inputs)`, in topological order.

    It gives the values that replace the node's outputs, or None to keep the node (on its new
    inputs). Nodes that `visit` builds take name, line and origin from the one they replace.
    Gives the same object when nothing changed.
    """
    mapping: dict[Value, Value] = {}
    with detached() as origin:
        for node in computation.nodes:
            inputs = node.inputs
            if not mapping.keys().isdisjoint(inputs):
                inputs = tuple([mapping.get(v, v) for v in inputs])
            origin.turn(node)
            outputs = visit(node, inputs)
            if outputs is None:
                outputs = node.outputs if inputs == node.inputs else clone(node, inputs).outputs
            assert len(outputs) == len(node.outputs), f"{node} lost outputs in a rewrite"
            if outputs is not node.outputs:
                mapping.update(zip(node.outputs, outputs, strict=True))
    return substitute(computation, mapping)


def substitute(computation: Computation, mapping: dict[Value, Value]) -> Computation:
    """The computation with roots (and placeholders) replaced; the same object if none is."""
    if not mapping:
        return computation

    def new(value: Value) -> Value:
        return mapping.get(value, value)

    inputs = [new(node.outputs[0]).node for node in computation.inputs]
    updates = [
        (new(variable.outputs[0]).node, new(value)) for variable, value in computation.updates
    ]
    return computation.replace(inputs, [new(v) for v in computation.outputs], updates)


def cut(
    outputs: Sequence[Value],
    nodes: Sequence[Node] = (),
    feeds: Sequence[Value] = (),
    runs: Callable[[Node], bool] = lambda node: True,
) -> Computation:
    """The computation that fetching `outputs` and running `nodes`, given `feeds`, means.

    Of control inputs, those are run of which `runs` is true.

    State ops are resolved here: reads see the variables as they were at the start; updates of
    one variable apply in the order in which they were built, each to the result of the one
    before; control dependencies only say what else must run.
    """
    fed = {value: _placeholder_for(value) for value in feeds}
    mapping: dict[Value, Value] = {v: node.outputs[0] for v, node in fed.items()}
    updates: dict[Node, Value] = {}
    for node in sorted(_reach(outputs, nodes, set(fed), runs), key=lambda n: n.serial):
        if all(v in mapping for v in node.outputs) and node.outputs:
            continue
        inputs = tuple([mapping.get(v, v) for v in node.inputs])
        if node.kind is Kind.STATE:
            _apply_update(node, inputs, mapping, updates)
        elif inputs != node.inputs:
            new = clone(node, inputs)
            mapping.update(
                (old, value)
                for old, value in zip(node.outputs, new.outputs, strict=True)
                if old not in fed
            )
    placeholders = [fed[v] for v in feeds]
    return Computation(placeholders, [mapping.get(v, v) for v in outputs], tuple(updates.items()))


def _apply_update(
    node: Node,
    inputs: tuple[Value, ...],
    mapping: dict[Value, Value],
    updates: dict[Node, Value],
) -> None:
    variable = node.inputs[0].node
    if variable.op.name != "variable":
        raise GraphError(f"{node.op.name} {node.name!r} updates {variable.name!r}, no variable")
    current = updates.get(variable, inputs[0])
    assert node.op.decompose is not None, f"{node.op} does not say what it assigns"
    with detached(node):
        temporary = apply(node.op, (current, *inputs[1:]), node.attrs)
        new = node.op.decompose(temporary)
    assert isinstance(new, Value), f"{node.op} gives one new value"
    updates[variable] = new
    if node.outputs[0] not in mapping:
        mapping[node.outputs[0]] = new


def _placeholder_for(value: Value) -> Node:
    """The placeholder itself, or one that stands for a fed intermediate tensor."""
    if value.node.op.name == "placeholder":
        return value.node
    with detached(value.node):
        attrs = {"dtype": value.type.dtype, "shape": value.type.shape}
        return apply(OPS["placeholder"], (), attrs)


def _reach(
    outputs: Sequence[Value],
    nodes: Sequence[Node],
    fed: set[Value],
    runs: Callable[[Node], bool],
) -> set[Node]:
    """The nodes that must run: through data and control inputs, not past fed values."""
    seen: set[Node] = set()
    stack: list[Node] = [v.node for v in outputs if v not in fed] + list(nodes)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        stack.extend(v.node for v in node.inputs if v not in fed)
        stack.extend(filter(runs, node.control))
    return seen


def describe(value: Value) -> str:
    """Name, type and line of a value, for messages."""
    where: Any = value.node.where
    return f"{value.node.name!r} {value.type}" + (f" ({where})" if where else "")

"""Reverse-mode differentiation: gradients as ops in the same graph.

Walks back from `ys` over the nodes that lie between `xs` and `ys`, once each, and adds up what
the ops' gradient rules give. The result is a graph like any other, so it can be differentiated
again. (Griewank and Walther, "Evaluating Derivatives", 2008, chapter 3.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from graphc.frontend.arguments import as_sequence
from graphc.frontend.variables import Variable
from graphc.ir.computation import topological_order
from graphc.ir.errors import AttributeValueError, GradientError
from graphc.ir.graph import Graph, Node, Value, convert
from graphc.ir.ops.movement import ones_like, zeros_like
from graphc.ir.table import NoGradient
from graphc.ir.types import merge_shapes


def gradients(
    ys: Any,
    xs: Any,
    grad_ys: Any = None,
    name: str = "gradients",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: Any = None,
    stop_gradients: Any = None,
    unconnected_gradients: str = "none",
) -> list[Value | None]:
    """d sum(ys) / dx for each x in `xs`, as tensors of the xs' shapes.

    `grad_ys` weighs the ys (default: ones). `stop_gradients` are tensors taken as constants. An
    x on which no y depends has None, or zeros with `unconnected_gradients="zero"`. For a
    variable, every reading counts. GradientError when a path from an x to a y goes through an op
    that has no gradient; it names the op, the reason and its line.
    """
    del colocate_gradients_with_ops, gate_gradients, aggregation_method
    if unconnected_gradients not in ("none", "zero"):
        raise AttributeValueError(
            f'unconnected_gradients is "none" or "zero", got {unconnected_gradients!r}'
        )
    targets = [convert(y) for y in as_sequence(ys)]
    if not targets:
        raise GradientError("gradients() needs at least one y")
    sources = [_readings(x) for x in as_sequence(xs)]
    stops = {v for x in as_sequence(stop_gradients or []) for v in _readings(x)}
    graph = targets[0].graph
    with graph.as_default(), graph.name_scope(name):
        walk = _Walk(graph, targets, sources, stops)
        walk.seed(targets, grad_ys)
        walk.run()
        results = [walk.total([g for v in x for g in walk.pending.get(v, ())]) for x in sources]
        if unconnected_gradients == "zero":
            pairs = zip(results, sources, strict=True)
            return [zeros_like(x[0]) if g is None else g for g, x in pairs]
    return results


def _readings(x: Any) -> tuple[Value, ...]:
    """The values that are x: of a variable, all its readings."""
    return x.aliases if isinstance(x, Variable) else (convert(x),)


class _Walk:
    """One walk from the ys back to the xs; `pending` holds the gradients that arrived."""

    def __init__(
        self,
        graph: Graph,
        targets: Sequence[Value],
        sources: Iterable[Iterable[Value]],
        stops: set[Value],
    ) -> None:
        self.graph = graph
        self.pending: dict[Value, list[Value]] = {}
        self._placed: set[Node] = set()
        self._first = 0  # serial of the first node that the walk made
        wanted = [v for x in sources for v in x]
        # readings of one variable end the walk: what was assigned is not what is asked for
        ends = stops | {v for v in wanted if v.node.op.name in ("variable", *_ASSIGNS)}
        self._reached, self._between = _between(targets, wanted, ends)

    def seed(self, targets: Sequence[Value], grad_ys: Any) -> None:
        """Start with the ys' own gradients: `grad_ys`, or ones."""
        given = [None] * len(targets) if grad_ys is None else as_sequence(grad_ys)
        if len(given) != len(targets):
            raise GradientError(f"{len(targets)} ys need as many grad_ys, got {len(given)}")
        for y, g in zip(targets, given, strict=True):
            if not y.dtype.is_floating:
                raise GradientError(
                    f"{y!r} has no gradient: its dtype is {y.dtype}; cast it to a float"
                )
            start = ones_like(y) if g is None else convert(g, dtype=y.dtype)
            merge_shapes(start.type.shape, y.type.shape, f"grad_ys of {y.name!r}")
            self._first = self._first or start.node.serial
            self.pending.setdefault(y, []).append(start)

    def run(self) -> None:
        """Visit the nodes between, last first, and apply each one's rule."""
        for node in reversed(self._between):
            if not any(v in self.pending for v in node.outputs):
                continue
            with self.graph.name_scope(f"{node.name}_grad"):
                grads = [self._settled(v) for v in node.outputs]
                made = [g for g in grads if g is not None]
                if not isinstance(node.op.grad, NoGradient):
                    made += self._apply(node, grads)
                elif not node.op.grad.zero:
                    raise GradientError(
                        f"{_blocked(node, node.op.grad.reason)}; "
                        "use stop_gradient() where its output is to count as a constant"
                    )
            self._place(made, node)

    def _settled(self, value: Value) -> Value | None:
        """The whole gradient of a value: all its readers have been visited."""
        total = self.total(self.pending.get(value, []))
        if total is not None:
            self.pending[value] = [total]
        return total

    def total(self, parts: Sequence[Value]) -> Value | None:
        """The sum of the parts; None of nothing."""
        result = parts[0] if parts else None
        for part in parts[1:]:
            result = part if result is None else result + part
        return result

    def _apply(self, node: Node, grads: Sequence[Value | None]) -> list[Value]:
        rule = node.op.grad
        assert not isinstance(rule, NoGradient)
        parts = rule(node, grads)
        assert len(parts) == len(node.inputs), f"{node.op} gives {len(parts)} gradients"
        given = []
        for x, part in zip(node.inputs, parts, strict=True):
            if part is not None and x in self._reached and x.dtype.is_floating:
                self.pending.setdefault(x, []).append(part)
                given.append(part)
        return given

    def _place(self, values: Iterable[Value], forward: Node) -> None:
        """Nodes just made carry the line of the forward op: there the user can do something."""
        stack = [v.node for v in values]
        while stack:
            node = stack.pop()
            if node in self._placed or node.serial < self._first:
                continue
            self._placed.add(node)
            node.where = forward.where
            stack.extend(v.node for v in node.inputs)


def why_no_gradient(y: Value, xs: Iterable[Any]) -> str:
    """Why no gradient flows from y to any of the xs: the ops that let none through, or no path."""
    wanted = [v for x in xs for v in _readings(x)]
    nodes = _between([y], wanted, set())[1]
    blocks = [n for n in nodes if isinstance(n.op.grad, NoGradient)]
    if not blocks:
        return "it does not depend on them"
    return "; ".join(_blocked(n, n.op.grad.reason) for n in blocks[:3])  # type: ignore[union-attr]


_ASSIGNS = ("assign", "assign_add", "assign_sub")


def _between(
    targets: Sequence[Value], wanted: Iterable[Value], ends: set[Value]
) -> tuple[set[Value], list[Node]]:
    """The values from which a wanted one is reached, and the nodes between, inputs first."""
    reached = set(wanted)
    nodes = []
    for node in topological_order(v.node for v in targets):
        if any(v in reached for v in node.inputs):
            onward = [v for v in node.outputs if v not in ends]
            reached.update(onward)
            if onward:
                nodes.append(node)
    return reached, nodes


def _blocked(node: Node, reason: str) -> str:
    where = f" ({node.where})" if node.where else ""
    return f"no gradient goes through op {node.name!r} of type {node.op.name!r}{where}: {reason}"

"""Reverse-mode differentiation: gradients as ops, in a user's graph or in a region of one.

Walks back from the targets over the nodes that lie between them and the sources, once each, and
adds up what the ops' gradient rules give. The result is a graph like any other, so it can be
differentiated again. (Griewank and Walther, "Evaluating Derivatives", 2008, chapter 3.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

from graphc.ir.computation import topological_order
from graphc.ir.errors import GradientError
from graphc.ir.graph import Graph, Node, Value, detached
from graphc.ir.table import NoGradient


class Walk:
    """One walk from the targets back to the sources; `pending` holds the gradients that arrived.

    `graph` is where the new nodes go; None: they belong to no graph, as inside a region.
    """

    def __init__(
        self,
        graph: Graph | None,
        targets: Sequence[Value],
        sources: Iterable[Value],
        stops: set[Value] | None = None,
    ) -> None:
        self.graph = graph
        self.pending: dict[Value, list[Value]] = {}
        self._placed: set[Node] = set()
        self._first = 0  # serial of the first node that the walk made
        wanted = list(sources)
        stops = stops or set()
        # readings of one variable end the walk: what was assigned is not what is asked for
        ends = stops | {v for v in wanted if v.node.op.name in ("variable", *_ASSIGNS)}
        self._reached, self._between = _between(targets, wanted, ends)

    def seed(self, target: Value, gradient: Value) -> None:
        """The gradient with which a target starts."""
        self._first = self._first or gradient.node.serial
        self.pending.setdefault(target, []).append(gradient)

    def gradient(self, source: Value) -> Value | None:
        """What has arrived at the source, after the run; None where nothing has."""
        return self.total(self.pending.get(source, ()))

    @contextlib.contextmanager
    def _scope(self, node: Node) -> Iterator[None]:
        if self.graph is None:
            with detached(node):
                yield
        else:
            with self.graph.name_scope(f"{node.name}_grad"):
                yield

    def run(self) -> None:
        """Visit the nodes between, last first, and apply each one's rule."""
        for node in reversed(self._between):
            if not any(v in self.pending for v in node.outputs):
                continue
            with self._scope(node):
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


def why_no_gradient(y: Value, wanted: Sequence[Value]) -> str:
    """Why no gradient flows from y to what is wanted: ops that let none through, or no path."""
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

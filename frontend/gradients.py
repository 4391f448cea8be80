"""Reverse-mode differentiation: gradients as ops in the same graph.

Walks back from `ys` over the nodes that lie between `xs` and `ys`, once each, and adds up what
the ops' gradient rules give. The result is a graph like any other, so it can be differentiated
again. (Griewank and Walther, "Evaluating Derivatives", 2008, chapter 3.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from graphc.ir.computation import topological_order
from graphc.ir.errors import GradientError
from graphc.ir.graph import Graph, Node, Value, convert
from graphc.ir.ops.movement import ones_like
from graphc.ir.table import NoGradient


def as_values(x: Any) -> list[Value]:
    """One tensor or variable, or a sequence of them, as a list of values."""
    items = x if isinstance(x, (list, tuple)) else [x]
    return [convert(item) for item in items]


def gradients(
    ys: Any,
    xs: Any,
    grad_ys: Any = None,
    name: str = "gradients",
    stop_gradients: Any = None,
) -> list[Value | None]:
    """d sum(ys) / dx for each x in `xs`, as tensors of the xs' shapes.

    `grad_ys` weighs the ys (default: ones). None for an x on which no y depends. GradientError
    when every path from an x is blocked by an op without a gradient; it names the op.
    """
    targets, sources = as_values(ys), as_values(xs)
    stops = set(as_values(stop_gradients or []))
    graph = targets[0].graph
    between = _between(targets, sources, stops)
    with graph.name_scope(name):
        pending = _seed(targets, grad_ys)
        blocked: dict[Node, str] = {}
        _propagate(graph, targets, between, pending, blocked)
        results = [_total(pending.get(x, [])) for x in sources]
    _check_blocked(sources, results, between, blocked)
    return results


def _seed(targets: Sequence[Value], grad_ys: Any) -> dict[Value, list[Value]]:
    seeds = [None] * len(targets) if grad_ys is None else list(_as_list(grad_ys))
    if len(seeds) != len(targets):
        raise GradientError(f"{len(targets)} ys need as many grad_ys, got {len(seeds)}")
    pending: dict[Value, list[Value]] = {}
    for y, seed in zip(targets, seeds, strict=True):
        if not y.dtype.is_floating:
            raise GradientError(f"{y!r} has no gradient: its dtype is {y.dtype}; cast it to a float")
        g = ones_like(y) if seed is None else convert(seed, like=y.dtype)
        pending.setdefault(y, []).append(g)
    return pending


def _as_list(x: Any) -> Iterable[Any]:
    return x if isinstance(x, (list, tuple)) else [x]


def _between(
    targets: Sequence[Value], sources: Sequence[Value], stops: set[Value]
) -> list[Node]:
    """The nodes on a path from a source to a target, inputs first."""
    reached = {v for v in sources if v not in stops}
    source_nodes = {v.node for v in reached}
    nodes = []
    for node in topological_order(v.node for v in targets):
        depends = any(v in reached for v in node.inputs)
        if depends:
            reached.update(v for v in node.outputs if v not in stops)
        if depends or node in source_nodes:
            nodes.append(node)
    return nodes


def _propagate(
    graph: Graph,
    targets: Sequence[Value],
    between: Sequence[Node],
    pending: dict[Value, list[Value]],
    blocked: dict[Node, str],
) -> None:
    reached = {v for node in between for v in node.outputs}
    for node in reversed(between):
        if not any(v in reached for v in node.inputs) and not node.inputs:
            continue
        grads = [_total(pending.get(v, [])) for v in node.outputs]
        if all(g is None for g in grads):
            continue
        for v, g in zip(node.outputs, grads, strict=True):
            if g is not None:
                pending[v] = [g]
        if isinstance(node.op.grad, NoGradient):
            if not node.op.grad.zero:
                blocked[node] = node.op.grad.reason
            continue
        _apply_rule(graph, node, grads, reached, pending)


def _apply_rule(
    graph: Graph,
    node: Node,
    grads: Sequence[Value | None],
    reached: set[Value],
    pending: dict[Value, list[Value]],
) -> None:
    rule = node.op.grad
    assert not isinstance(rule, NoGradient)
    with graph.name_scope(f"{node.name.rsplit('/', 1)[-1]}_grad"):
        parts = rule(node, grads)
    assert len(parts) == len(node.inputs), f"{node.op} gives {len(parts)} gradients"
    for x, part in zip(node.inputs, parts, strict=True):
        if part is not None and x.dtype.is_floating:
            pending.setdefault(x, []).append(part)


def _total(parts: Sequence[Value]) -> Value | None:
    if not parts:
        return None
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _check_blocked(
    sources: Sequence[Value],
    results: Sequence[Value | None],
    between: Sequence[Node],
    blocked: dict[Node, str],
) -> None:
    """An x that reaches the ys only through blocked ops is an error, not a silent None."""
    for x, result in zip(sources, results, strict=True):
        if result is not None or not blocked:
            continue
        reached = {x}
        for node in between:
            if any(v in reached for v in node.inputs):
                if node in blocked:
                    where = f" ({node.where})" if node.where else ""
                    raise GradientError(
                        f"no gradient reaches {x.name!r}: op {node.name!r} ({node.op.name}) blocks "
                        f"it{where}: {blocked[node]}. Use stop_gradient() if that is meant"
                    )
                reached.update(node.outputs)

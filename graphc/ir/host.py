"""What the host does around a run: values that it supplies, and acts that follow.

An input pipeline's elements are placeholders that no user feeds: before a run that needs them,
the session asks their source for the next ones. An iterator's initializer is a node without
outputs: when a run has reached it, the session calls what stands for it here. Ops of which no
kernel exists (strings, files, Python functions) are evaluated between compiled parts: see
`graphc.passes.hosting`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from graphc.ir.errors import ShapeError
from graphc.ir.table import EFFECT, Kind
from graphc.ir.types import format_shape, may_equal

if TYPE_CHECKING:
    from graphc.ir.graph import Graph, Node, Value

# sessions are handed through: who supplies or acts may keep a state per session
Pull: TypeAlias = Callable[..., Sequence[np.ndarray]]
Act: TypeAlias = Callable[[Any, Sequence[np.ndarray]], None]


@dataclass(frozen=True, eq=False, slots=True)
class HostSource:
    """Placeholders to which each run that needs one is given what `pull` returns.

    It is called with the session and the values of `needs`, which are constants or fed.
    """

    values: tuple[Value, ...]
    pull: Pull
    needs: tuple[Value, ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class HostAction:
    """`act(session, values of needs)`, called when a run that reached the node has ended."""

    needs: tuple[Value, ...]
    act: Act


def host_parts(
    graph: Graph, values: Iterable[Value], nodes: Iterable[Node], fed: Iterable[Value]
) -> tuple[list[HostSource], list[HostAction]]:
    """The sources and actions that fetching the values and running the nodes reaches."""
    if not graph.host_sources and not graph.host_actions:
        return [], []
    reached = _reached(values, nodes, set(fed))
    sources = dict.fromkeys(graph.host_sources[n] for n in reached if n in graph.host_sources)
    return list(sources), [graph.host_actions[n] for n in reached if n in graph.host_actions]


def effects(values: Iterable[Value], nodes: Iterable[Node], fed: Iterable[Value]) -> list[Value]:
    """Outputs of the ops that must be run though nothing reads them: they act, or check."""
    values, given = list(values), set(fed)
    everything = _reached(values, nodes, given)
    if not any(EFFECT in n.op.facts for n in everything):
        return []
    # what is read by what is fetched, or by an update, is computed in any case
    roots = [v for n in everything if n.kind is Kind.STATE for v in n.inputs]
    read, stack = set[Any](), [v for v in (*values, *roots) if v not in given]
    while stack:
        node = stack.pop().node
        if node not in read:
            read.add(node)
            stack.extend(v for v in node.inputs if v not in given)
    return [n.outputs[0] for n in everything if EFFECT in n.op.facts and n not in read]


def check_result(value: Value, array: np.ndarray) -> None:
    """ShapeError unless what the host computed has the shape that the graph declares."""
    shape = value.type.shape
    fits = shape is None or (len(shape) == array.ndim and all(map(may_equal, shape, array.shape)))
    if not fits:
        raise ShapeError(
            f"op {value.node.name!r} was declared to give {value.type}, and gave the shape "
            f"{format_shape(array.shape)}" + (f" ({value.node.where})" if value.node.where else "")
        )


def _reached(values: Iterable[Value], nodes: Iterable[Node], fed: set[Value]) -> list[Node]:
    """Nodes through data and control inputs, not past fed values; in the order of building."""
    stack = [v.node for v in values if v not in fed] + list(nodes)
    seen: set[Node] = set()
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend(v.node for v in node.inputs if v not in fed)
            stack.extend(node.control)
    return sorted(seen, key=lambda n: n.serial)

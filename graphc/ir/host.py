"""What the host does around a run: values that it supplies, and acts that follow.

An input pipeline's elements are placeholders that no user feeds: before a run that needs them,
the session asks their source for the next ones. An iterator's initializer is a node without
outputs: when a run has reached it, the session calls what stands for it here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from graphc.ir.graph import Graph, Node, Value

# sessions are handed through: who supplies or acts may keep a state per session
Pull: TypeAlias = Callable[[Any], Sequence[np.ndarray]]
Act: TypeAlias = Callable[[Any, Sequence[np.ndarray]], None]


@dataclass(frozen=True, eq=False, slots=True)
class HostSource:
    """Placeholders to which each run that needs one is given what `pull(session)` returns."""

    values: tuple[Value, ...]
    pull: Pull


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

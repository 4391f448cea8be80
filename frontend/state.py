"""What the frontend keeps per graph: variables by name, the variable scope, values assigned.

It lives in the graph's collections under a private name, as TensorFlow keeps its variable store
there: so it goes when the graph goes, and there is no state in any module.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from graphc.ir.graph import Graph, Kind, Node, Value

if TYPE_CHECKING:
    from graphc.frontend.variables import Variable

_KEY: Final = "__frontend_state__"


class FrontendState:
    """The variables that get_variable made, and what helps to find names and readings."""

    def __init__(self) -> None:
        self.variables: dict[str, Variable] = {}
        self.scope_counts: dict[str, int] = {}
        self.thread: Any = threading.local()  # .scope: the variable scope, per thread
        self._assigned: dict[tuple[Node, ...], dict[Node, Value]] = {}

    def assigned(self, control: tuple[Node, ...]) -> dict[Node, Value]:
        """The values that variables have once the control inputs have run; found once each."""
        known = self._assigned.get(control)
        if known is None:
            known = self._assigned[control] = newest_assignments(control)
        return known


def state_of(graph: Graph) -> FrontendState:
    """The graph's frontend state, made when first asked for."""
    items = graph.get_collection_ref(_KEY)
    if not items:
        items.append(FrontendState())
    state = items[0]
    assert isinstance(state, FrontendState)
    return state


def newest_assignments(control: tuple[Node, ...]) -> dict[Node, Value]:
    """Per variable, the output of the newest state op that must run before; others are absent."""
    newest: dict[Node, Node] = {}
    seen: set[Node] = set(control)
    stack = list(control)
    while stack:
        node = stack.pop()
        if node.kind is Kind.STATE:
            variable = node.inputs[0].node
            if variable not in newest or newest[variable].serial < node.serial:
                newest[variable] = node
        for before in (*(v.node for v in node.inputs), *node.control):
            if before not in seen:
                seen.add(before)
                stack.append(before)
    return {variable: node.outputs[0] for variable, node in newest.items()}

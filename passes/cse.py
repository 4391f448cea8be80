"""cse: equal computations are done once.

    a = exp(x); b = exp(x); a + b  ->  a = exp(x); a + a

Two nodes are equal when op, inputs and attributes are; operands of commutative ops count in any
order. Constants are compared by content, random ops by their key. Placeholders and variables
are themselves. The first of the equal nodes stays, with its name and line. Cost: one walk.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from graphc.ir.computation import Computation, clone, rewrite
from graphc.ir.graph import Node, Value
from graphc.ir.table import EFFECT, Kind
from graphc.passes.context import Context

_OF_THEIR_OWN = ("placeholder", "variable")


def cse(computation: Computation, ctx: Context) -> Computation:
    """Merge equal nodes."""
    known: dict[Hashable, tuple[Value, ...]] = {}

    def visit(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        own = node.op.name in _OF_THEIR_OWN or EFFECT in node.op.facts
        if own or node.kind is Kind.STATE:
            return None
        key = node_key(node, inputs)
        found = known.get(key)
        if found is None:
            new = node if inputs == node.inputs else clone(node, inputs)
            known[key] = found = new.outputs
        return None if found is node.outputs else found

    return rewrite(computation, visit)


def node_key(node: Node, inputs: tuple[Value, ...]) -> Hashable:
    """What makes two nodes equal."""
    if "commutative" in node.op.facts and len(inputs) == 2:
        inputs = tuple(sorted(inputs, key=lambda v: (v.node.serial, v.index)))
    attrs = tuple([(name, attr_key(value)) for name, value in node.attrs.items()])
    return node.op, inputs, attrs


def attr_key(value: Any) -> Hashable:
    """A key under which 0, 0.0, -0.0 and False differ, and NaN equals NaN."""
    if isinstance(value, tuple):
        return tuple([attr_key(v) for v in value])
    if isinstance(value, (bool, int, float)):
        return type(value), repr(value)
    hashable: Hashable = value
    return hashable

"""specialize: every unknown dim becomes a number.

    placeholder float32[x.0, 784]  ->  placeholder float32[100, 784]     (the feed's shape)
    reshape(x, shape tensor)       ->  reshape(x){shape=(100, 28, 28)}   (computed on the host)

Everything below this pass is static. A shape, axis or count given as a tensor is evaluated in
NumPy; when it depends on fed values, the feeds are noted, and the executable is keyed by them.
Cost: one walk, plus what the host evaluates.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphc.ir.computation import Computation, clone, rewrite, topological_order
from graphc.ir.errors import FeedError, ShapeError
from graphc.ir.graph import Node, Value, apply
from graphc.ir.interpret import MissingValue, evaluate
from graphc.ir.ops.deferred import deferred, deferred_grad, expand
from graphc.ir.table import Kind, freeze
from graphc.passes.context import Context
from graphc.passes.regions import specialize_control


def specialize(computation: Computation, ctx: Context) -> Computation:
    """Fix all shapes by those of the feeds; ShapeError where one stays unknown."""
    placeholders: dict[Node, Node] = {}
    fed = set(computation.inputs)

    def visit(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        if node.op.name == "placeholder":
            if node not in fed:
                raise FeedError(f"placeholder {node.name!r} of type {node.types[0]} needs a feed")
            new = _static_placeholder(node, ctx)
            placeholders[new] = node
            return None if new is node else new.outputs
        if node.op.name == "variable":
            if not node.types[0].is_static:
                raise ShapeError(f"variable {node.name!r} has the unknown shape {node.types[0]}")
            return None
        if "of_type" in node.op.facts:  # known from the input's type, whatever it depends on
            assert node.op.decompose is not None
            result = node.op.decompose(clone(node, inputs))
            return (result,) if isinstance(result, Value) else tuple(result)
        if node.kind is Kind.CONTROL:
            values = specialize_control(node, inputs, host_of(node), specialize, ctx)
            return None if values is None else tuple(values)
        if node.op in (deferred, deferred_grad):
            return tuple(expand(node, inputs, host_of(node)))
        if any(i < len(inputs) for i in node.op.host_inputs):
            return _resolve_host_inputs(node, inputs, placeholders, ctx)
        return None

    def host_of(node: Node) -> Callable[[Value], np.ndarray]:
        return lambda value: _host_value(value, node, placeholders, ctx)

    # placeholders that nothing reads still are inputs
    result = rewrite(computation, visit)
    inputs = [_static_placeholder(n, ctx) if n in computation.inputs else n for n in result.inputs]
    return result.replace(inputs=inputs, stage="static")


def _static_placeholder(node: Node, ctx: Context) -> Node:
    shape = ctx.feed_shapes.get(node)
    if shape is None:
        if node.types[0].is_static:
            return node
        raise FeedError(f"placeholder {node.name!r} of type {node.types[0]} needs a feed")
    if shape == node.types[0].shape:
        return node
    return apply(node.op, (), {**node.attrs, "shape": shape}, node.name)


def _resolve_host_inputs(
    node: Node, inputs: tuple[Value, ...], placeholders: dict[Node, Node], ctx: Context
) -> tuple[Value, ...]:
    attrs = dict(node.attrs)
    data = [v for i, v in enumerate(inputs) if i not in node.op.host_inputs]
    for position, name in node.op.host_inputs.items():
        if position < len(inputs):
            attrs[name] = freeze(_host_value(inputs[position], node, placeholders, ctx).tolist())
    return apply(node.op, data, attrs, node.name).outputs


def _host_value(
    value: Value, reader: Node, placeholders: dict[Node, Node], ctx: Context
) -> np.ndarray:
    """The value, by the NumPy evaluator over the part of the graph that leads to it."""
    given = {}
    for node in topological_order([value.node]):
        old = placeholders.get(node)
        if old is not None and old in ctx.feed_values:
            given[node] = ctx.feed_values[old]
            ctx.value_inputs.add(old)
        elif old is not None and old in ctx.outer_values:
            given[node] = ctx.outer_values[old]()
    try:
        return evaluate([value], given)[0]
    except MissingValue as error:
        raise ShapeError(
            f"op {reader.name!r} needs the value of {value.node.name!r} to know its shape, and "
            f"that depends on {error.node.op.name} {error.node.name!r}"
            + (f" ({reader.where})" if reader.where else "")
            + _remedy(error.node, reader)
        ) from None


def _remedy(source: Node, reader: Node) -> str:
    """What to do where a size depends on what a loop or branch computes, or on a variable."""
    if reader.kind is Kind.CONTROL:
        return "; inside a loop or branch a loop must be bounded (while_loop: maximum_iterations)"
    if source.op.name == "placeholder":
        return (
            "; inside a loop or branch sizes cannot depend on what it computes: use where(mask, x, "
            "0), multiply by a mask, or choose elements outside (explain() needs values fed)"
        )
    return "; a session finds it by a run before the run, but explain() and loops cannot"

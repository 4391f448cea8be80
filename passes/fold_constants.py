"""fold_constants: what depends on constants alone is computed now, in NumPy.

    constant 2 * constant 3  ->  constant 6
    broadcast(2) + broadcast(3)  ->  broadcast(5)

Copies of one element stay a broadcast scalar, so folding never materializes a fill. Skipped:
random numbers and what reads variables or feeds (they are no constants), a broadcast that
would only grow, results above `settings.fold_bytes`, and, once the budget of estimated
operations is spent, everything: the budget counts work rather than seconds, so that a graph
compiles to the same program on every machine. Cost: one walk and what is computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.ir.computation import Computation, clone, rewrite
from graphc.ir.graph import CONSTANT, Node, Value
from graphc.ir.literal import Literal
from graphc.ir.table import Kind
from graphc.passes.context import Context
from graphc.passes.rules import scalar_of, single_source, splat
from graphc.passes.rules_movement import uniform_constant

_BUDGET_OPERATIONS = 2e8  # about half a second of NumPy
_KINDS = (Kind.POINTWISE, Kind.MOVEMENT, Kind.REDUCE, Kind.CONTRACT, Kind.INDEX)


def fold_constants(computation: Computation, ctx: Context) -> Computation:
    """Replace nodes whose inputs are constants by constants."""
    folding = _Folding(ctx)
    with np.errstate(all="ignore"):
        result = rewrite(computation, folding.visit)
    ctx.notes["folded"] = {"nodes": folding.count, "operations": folding.spent}
    return result


class _Folding:
    def __init__(self, ctx: Context) -> None:
        self.most_bytes = ctx.settings.fold_bytes
        self.spent = 0.0
        self.count = 0

    def visit(self, node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        if node.kind not in _KINDS or node.op.numpy is None or not inputs:
            return None
        if len(node.outputs) != 1 or not all(map(_is_known, inputs)):
            return None
        current = node if inputs == node.inputs else clone(node, inputs)
        value = self.fold(current)
        return None if value is None else (value,)

    def fold(self, node: Node) -> Value | None:
        """The constant that the node gives, or None where it is not worth it."""
        scalars = [scalar_of(v) for v in node.inputs]
        if node.kind is Kind.POINTWISE and all(s is not None for s in scalars):
            return self.keep(splat(_compute(node, [np.asarray(s) for s in scalars]), node.types[0]))
        if not all(v.node.op is CONSTANT for v in node.inputs):
            return None
        size = max(node.types[0].size, *(v.type.size for v in node.inputs))
        grows = node.types[0].size > sum(v.type.size for v in node.inputs)
        flops = node.op.flops(node) if callable(node.op.flops) else node.op.flops * size
        if node.types[0].nbytes > self.most_bytes or self.spent + flops > _BUDGET_OPERATIONS:
            return None
        if grows and node.kind is Kind.MOVEMENT:
            return None
        self.spent += flops
        inputs = [v.node.attrs["value"].array for v in node.inputs]
        return self.keep(_constant(_compute(node, inputs), node, inputs))

    def keep(self, value: Value) -> Value:
        self.count += 1
        return value


def _is_known(value: Value) -> bool:
    return value.node.op is CONSTANT or single_source(value).node.op is CONSTANT


def _is_part(array: np.ndarray, inputs: Sequence[np.ndarray]) -> bool:
    """Whether it is a part of something larger, which it should not keep in memory."""
    if array.base is None:
        return False
    # an input may itself lie in a block of many constants
    whole = next((x for x in inputs if np.may_share_memory(x, array)), array.base)
    return getattr(whole, "nbytes", 0) != array.nbytes


def _compute(node: Node, arrays: list[np.ndarray]) -> np.ndarray:
    assert node.op.numpy is not None, f"{node.op} has no meaning in NumPy"
    return np.asarray(node.op.numpy(node.attrs, *arrays))


def _constant(array: np.ndarray, node: Node, inputs: Sequence[np.ndarray]) -> Value:
    dense = array.astype(node.types[0].dtype.numpy, copy=False)
    value = CONSTANT(value=Literal(dense, copy=_is_part(dense, inputs)))
    fill = uniform_constant(value.node)
    return fill if isinstance(fill, Value) else value

"""decompose: composites become primitives.

    softmax(x)  ->  e = exp(x - max(x)); e / sum(e)

Skips everything that is no composite. Runs until none is left; cost: one walk per nesting level.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir.computation import Computation, clone, rewrite
from graphc.ir.graph import Node, Value
from graphc.ir.table import Kind
from graphc.passes.context import Context


def decompose(computation: Computation, ctx: Context) -> Computation:
    """Replace every composite by its decomposition, innermost ones too."""
    while any(n.kind is Kind.COMPOSITE for n in computation.nodes):
        computation = rewrite(computation, _expand)
    return computation.replace(stage="primitive")


def _expand(node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
    if node.kind is not Kind.COMPOSITE:
        return None
    assert node.op.decompose is not None
    result = node.op.decompose(node if inputs == node.inputs else clone(node, inputs))
    values = (result,) if isinstance(result, Value) else tuple(result)
    for new, old in zip(values, node.outputs, strict=True):
        assert new.type == old.type or not old.type.is_static, (
            f"{node} decomposed to {new.type}, not {old.type}"
        )
    return values

"""stages: what decides sizes is computed by a run of its own, and fed to the run proper.

    y = positions(mask, sum(mask))   ->   first: n = sum(mask);  then: positions(mask, n), n fed

All sizes are fixed when a program is compiled. A number that follows from constants, shapes and
fed values is found by `specialize` on the host. One that depends on variables or on random
numbers is found here: the computation falls apart into a first one, which gives the number, and
the one that was asked for, to which it is fed. Ops whose number is a count over data go that way
always, so that their programs are kept by the count and not by the data.

Both runs see the variables as they were when the whole began, and draw the same random numbers.
Inside loops and branches nothing is taken apart. Cost: a walk upstream per such number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from graphc.ir.computation import Computation, clone, rewrite, topological_order
from graphc.ir.graph import Node, Value, apply, detached
from graphc.ir.ops.choosing import COUNTED
from graphc.ir.ops.control import draws, loop
from graphc.ir.table import OPS


def stages(computation: Computation) -> list[Computation]:
    """The computations to run one after the other; the last gives what was asked for.

    What one but the last gives are further inputs of those after it.
    """
    done = []
    while values := _next_values(computation):
        done.append(Computation(computation.inputs, values))
        computation = _fed(computation, values)
    return [*done, computation]


def _next_values(computation: Computation) -> list[Value]:
    """Numbers that need a run of their own, and depend on no other such number."""
    wanted = {node: [v for v in _sizes(node) if _needs_run(node, v)] for node in computation.nodes}
    wanted = {node: values for node, values in wanted.items() if values}
    if not wanted:
        return []
    values = dict.fromkeys(v for found in wanted.values() for v in found)
    return [v for v in values if not any(n in wanted for n in topological_order([v.node]))]


def _sizes(node: Node) -> Iterable[Value]:
    """The inputs of a node that are known when it is compiled."""
    if node.op is loop:
        return node.inputs[:1] if node.attrs["trips"] is None else ()
    return [node.inputs[i] for i in node.op.host_inputs if i < len(node.inputs)]


def _needs_run(node: Node, value: Value) -> bool:
    if value.node.op.name == "placeholder":
        return False
    sources = _sources([value])
    # loops that end by what they compute are no work for the host
    if any(n.op.name == "variable" or n.op is loop or draws(n) for n in sources):
        return True
    return COUNTED in node.op.facts and any(n.op.name == "placeholder" for n in sources)


def _sources(values: Sequence[Value]) -> set[Node]:
    """The nodes on whose values these depend; what follows from a type has none."""
    seen: set[Node] = set()
    stack = [v.node for v in values]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            if "of_type" not in node.op.facts:
                stack.extend(v.node for v in node.inputs)
    return seen


def _fed(computation: Computation, values: Sequence[Value]) -> Computation:
    """The computation to which the values are given."""
    fed: dict[Value, Node] = {}
    for value in values:
        with detached(value.node):
            attrs = {"dtype": value.dtype, "shape": value.type.shape}
            fed[value] = apply(OPS["placeholder"], (), attrs)

    def visit(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        if not any(v in fed for v in node.outputs):
            return None
        kept = node.outputs if inputs == node.inputs else clone(node, inputs).outputs
        pairs = zip(node.outputs, kept, strict=True)
        return tuple(fed[old].outputs[0] if old in fed else new for old, new in pairs)

    result = rewrite(computation, visit)
    return result.replace(inputs=[*computation.inputs, *fed.values()])


__all__ = ["stages"]

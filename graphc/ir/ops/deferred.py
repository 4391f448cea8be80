"""Ops whose meaning depends on values or sizes that are not known while the graph is built.

A format such as ONNX feeds shapes, axes and counts as tensors. Where such a thing is known only
when the program is specialized, the importer leaves a `deferred` op: a payload, and the name of
the function that will build the graph of it then, from inputs with static shapes.

    deferred(x, starts, ends){payload}  ->  slice(x){start=.., size=..}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import numpy as np

from graphc.ir.backward import Walk
from graphc.ir.computation import clone
from graphc.ir.dtypes import as_dtype
from graphc.ir.errors import UnsupportedOp
from graphc.ir.graph import Node, Value, detached
from graphc.ir.ops.movement import zeros_like
from graphc.ir.ops.source import placeholder
from graphc.ir.table import REQUIRED, STRINGS, Attrs, Kind, Op, Types, register
from graphc.ir.types import TensorType

Host: TypeAlias = Callable[[Value], np.ndarray]
# (payload, inputs with static shapes, what gives the value of an input) -> outputs
Expansion: TypeAlias = Callable[[str, Sequence[Value], Host], Sequence[Value]]

EXPANSIONS: Final[dict[str, Expansion]] = {}  # filled by who makes deferred ops


def _declared(types: Types, attrs: Attrs) -> Types:
    return tuple(TensorType(as_dtype(d), s) for d, s in attrs["outputs"])


def expand(node: Node, inputs: Sequence[Value], host: Host) -> list[Value]:
    """What the op stands for, on inputs with static shapes; for passes and the evaluator."""
    if node.op is deferred_grad:
        return _expanded_grad(node, inputs, host)
    expansion = EXPANSIONS.get(node.attrs["expansion"])
    if expansion is None:
        raise UnsupportedOp(f"op {node.name!r} needs {node.attrs['expansion']}: import it first")
    return list(expansion(node.attrs["payload"], inputs, host))


def _grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    # the gradient is deferred, too: forward is expanded again in it, and merged by cse
    given = [g for g in grads if g is not None]
    wanted = tuple(i for i, v in enumerate(node.inputs) if v.dtype.is_floating)
    outputs = tuple((v.dtype.name, v.type.shape) for v in (node.inputs[i] for i in wanted))
    positions = tuple(i for i, g in enumerate(grads) if g is not None)
    made = deferred_grad.outputs(
        *node.inputs, *given, **{**node.attrs, "outputs": outputs}, positions=positions,
        wanted=wanted,
    )  # fmt: skip
    result: list[Value | None] = [None] * len(node.inputs)
    for i, value in zip(wanted, made, strict=True):
        result[i] = value
    return result


def _expanded_grad(node: Node, inputs: Sequence[Value], host: Host) -> list[Value]:
    count = len(inputs) - len(node.attrs["positions"])
    given, grads = inputs[:count], inputs[count:]
    # parameters of its own, for an input may be another's output inside the expansion
    expansion = EXPANSIONS[node.attrs["expansion"]]
    with detached(node):
        params = [placeholder(dtype=v.dtype, shape=v.type.static_shape) for v in given]
        outer = dict(zip(params, given, strict=True))
        outputs = expansion(node.attrs["payload"], params, lambda v: host(outer.get(v, v)))
        walk = Walk(None, outputs, [params[i] for i in node.attrs["wanted"]])
        for i, g in zip(node.attrs["positions"], grads, strict=True):
            walk.seed(outputs[i], g)
        walk.run()
        totals = [walk.gradient(params[i]) for i in node.attrs["wanted"]]
        pairs = zip(totals, node.attrs["wanted"], strict=True)
        results = [zeros_like(params[i]) if g is None else g for g, i in pairs]
    return substituted(results, outer)


def substituted(results: Sequence[Value], mapping: dict[Value, Value]) -> list[Value]:
    """The results with some values replaced by others."""
    from graphc.ir.computation import topological_order

    known = dict(mapping)
    for node in topological_order(v.node for v in results):
        if node.outputs and node.outputs[0] not in known:
            inputs = tuple([known.get(v, v) for v in node.inputs])
            if inputs != node.inputs:
                new = clone(node, inputs)
                known.update(zip(node.outputs, new.outputs, strict=True))
    return [known.get(v, v) for v in results]


def _too_early(node: Node) -> list[Value]:
    """`specialize` expands deferred ops, before anything is decomposed."""
    raise UnsupportedOp(f"op {node.name!r} was not expanded by specialize")


_ATTRS = {"expansion": REQUIRED, "payload": REQUIRED, "outputs": REQUIRED}

deferred: Op = register(
    Op(
        "deferred", Kind.COMPOSITE, _declared, attrs=_ATTRS, grad=_grad,
        decompose=_too_early, facts=frozenset({STRINGS}),
        doc="What the named expansion makes of the payload, once shapes are static.",
    )
)  # fmt: skip

deferred_grad: Op = register(
    Op(
        "deferred_grad", Kind.COMPOSITE, _declared,
        attrs={**_ATTRS, "positions": REQUIRED, "wanted": REQUIRED}, grad=_grad,
        decompose=_too_early,
        doc="The gradient of a deferred op: (its inputs, gradients of some outputs).",
    )
)  # fmt: skip

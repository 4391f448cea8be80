"""Rules of reductions, contractions and composites."""

from __future__ import annotations

import math
from typing import Final

from graphc.ir.graph import Node, Value
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops.contract import parse_spec
from graphc.ir.ops.reduce import reduce_kind
from graphc.ir.table import OPS, Kind, Op
from graphc.ir.types import normalize_axes
from graphc.passes.rules import (
    Outcome,
    Refused,
    Rule,
    named,
    of_kind,
    producer,
    scalar_constant,
    splat,
)
from graphc.passes.rules_movement import permutation

_ROUNDING: Final = ("sum", "prod")  # reductions whose order matters to floats


def _axes(node: Node) -> tuple[int, ...]:
    return normalize_axes(node.attrs["axis"], len(node.inputs[0].type.static_shape))


def _is_combining(op: Op) -> bool:
    return op.kind is Kind.REDUCE and not reduce_kind(op).startswith("arg")


def reduce_of_units(node: Node) -> Outcome:
    """reduce(x) over dims of size 1 -> reshape(x); argmax along one -> 0."""
    x = node.inputs[0]
    shape = x.type.static_shape
    axes = _axes(node)
    kept = tuple(a for a in axes if shape[a] != 1)
    if kept == axes and axes:
        return None
    target = node.types[0].static_shape
    if not _is_combining(node.op):
        return None if kept else splat(0, node.types[0])
    if not kept:
        return mv.reshape_to(x, target)
    return mv.reshape_to(node.op(x, axis=kept, keepdims=node.attrs["keepdims"]), target)


def reduce_of_reduce(node: Node) -> Outcome:
    """reduce(reduce(x)) -> reduce(x), of one kind. Refused for sums of floats: they round."""
    inner = node.inputs[0].node
    if inner.op is not node.op or not _is_combining(node.op):
        return None
    if node.types[0].dtype.is_floating and reduce_kind(node.op) in _ROUNDING:
        return Refused("floats round")
    x, first, second = inner.inputs[0], _axes(inner), _axes(node)
    rank = len(x.type.static_shape)
    rest = [a for a in range(rank) if inner.attrs["keepdims"] or a not in first]
    axes = tuple(sorted({*first, *(rest[a] for a in second)}))
    return mv.reshape_to(node.op(x, axis=axes), node.types[0].static_shape)


def reshape_of_reduce(node: Node) -> Outcome:
    """reshape(reduce(x)) -> reduce(x){keepdims}, where it only adds or takes the reduced dims."""
    inner = node.inputs[0].node
    if inner.kind is not Kind.REDUCE:
        return None
    keepdims = not inner.attrs["keepdims"]
    other = inner.op(*inner.inputs, **{**inner.attrs, "keepdims": keepdims})
    return other if other.type == node.types[0] else None


def reduce_of_broadcast(node: Node) -> Outcome:
    """sum(broadcast(x)) -> sum(x) * n; max(broadcast(x)) -> max(x), and so for min, any, all.

    n * x is nearer to the true sum than adding n times. Refused where n is no number of the
    dtype, and for products.
    """
    inner = producer(node.inputs[0], "broadcast_to")
    if inner is None or not _is_combining(node.op) or inner.types[0].size == 0:
        return None
    x, shape = inner.inputs[0], inner.types[0].static_shape
    source = (1,) * (len(shape) - len(x.type.static_shape)) + x.type.static_shape
    axes = _axes(node)
    spread = [a for a in axes if source[a] == 1 and shape[a] != 1]
    if not spread:
        return None
    if reduce_kind(node.op) == "prod":
        return Refused("a power")
    count = math.prod(shape[a] for a in spread)
    scale = scalar_constant(count, x)
    if int(scale.node.attrs["value"].array) != count:
        return Refused("the count is no number of the dtype")
    part = tuple(1 if a in spread else d for a, d in enumerate(shape))
    narrow = mv.broadcast_to_shape(mv.reshape_to(x, source), part)
    rest = tuple(a for a in axes if a not in spread)
    less = node.op(narrow, axis=rest, keepdims=True) if rest else narrow
    scaled = pw.multiply(less, scale) if reduce_kind(node.op) == "sum" else less
    return mv.reshape_to(scaled, node.types[0].static_shape)


def sum_of_negative(node: Node) -> Outcome:
    """sum(-x) -> -sum(x)."""
    inner = producer(node.inputs[0], "negative")
    return pw.negative(node.op(inner.inputs[0], **node.attrs)) if inner else None


# -- contractions


def contract_of_transpose(node: Node) -> Outcome:
    """contract(transpose(x), y) -> contract(x, y), with the labels in x's order."""
    a, b, out = parse_spec(node.attrs["spec"])
    labels = [a, b]
    inputs: list[Value] = list(node.inputs)
    for i, value in enumerate(node.inputs):
        inner = producer(value, "transpose")
        if inner:
            perm = permutation(inner)
            labels[i] = "".join(labels[i][perm.index(d)] for d in range(len(perm)))
            inputs[i] = inner.inputs[0]
    if inputs == list(node.inputs):
        return None
    return node.op(*inputs, spec=f"{labels[0]},{labels[1]}->{out}")


def transpose_of_contract(node: Node) -> Outcome:
    """transpose(contract(x, y)) -> contract(x, y), with the result's labels in that order."""
    inner = producer(node.inputs[0], "contract")
    if inner is None:
        return None
    a, b, out = parse_spec(inner.attrs["spec"])
    order = "".join(out[p] for p in permutation(node))
    return inner.op(*inner.inputs, spec=f"{a},{b}->{order}")


def contract_of_negative(node: Node) -> Outcome:
    """contract(-x, -y) -> contract(x, y)."""
    x, y = (producer(v, "negative") for v in node.inputs)
    return node.op(x.inputs[0], y.inputs[0], **node.attrs) if x and y else None


def contract_with_unit_label(node: Node) -> Outcome:
    """contract "ab,bc->ac" -> "a,c->ac", where b has size 1: a product, which fuses."""
    a, b, out = parse_spec(node.attrs["spec"])
    x, y = node.inputs
    sizes = dict(zip(a + b, x.type.static_shape + y.type.static_shape, strict=True))
    gone = [c for c in sizes if sizes[c] == 1 and c not in out]
    if not gone:
        return None
    values = []
    for labels, value in ((a, x), (b, y)):
        shape = tuple(sizes[c] for c in labels if c not in gone)
        values.append(mv.reshape_to(value, shape))
    left, right = ("".join(c for c in part if c not in gone) for part in (a, b))
    return node.op(*values, spec=f"{left},{right}->{out}")


# -- composites: before they are decomposed


def log_of_softmax(node: Node) -> Outcome:
    """log(softmax(x)) -> log_softmax(x). More than exact: finite where the softmax is 0."""
    inner = producer(node.inputs[0], "softmax")
    return OPS["log_softmax"](*inner.inputs, **inner.attrs) if inner else None


def exp_of_log_softmax(node: Node) -> Outcome:
    """exp(log_softmax(x)) -> softmax(x), to rounding."""
    inner = producer(node.inputs[0], "log_softmax")
    return OPS["softmax"](*inner.inputs, **inner.attrs) if inner else None


def relu_of_relu(node: Node) -> Outcome:
    """relu(relu(x)) -> relu(x)."""
    return node.inputs[0] if producer(node.inputs[0], "relu") else None


def matmul_of_transpose(node: Node) -> Outcome:
    """matmul(transpose(x), y) -> matmul(x, y, transpose_a), where it swaps the last two dims."""
    flags = {k: node.attrs[k] for k in ("transpose_a", "transpose_b")}
    inputs: list[Value] = list(node.inputs)
    for i, key in enumerate(flags):
        inner = producer(inputs[i], "transpose")
        rank = len(inputs[i].type.static_shape)
        swap = (*range(rank - 2), rank - 1, rank - 2)
        if inner and permutation(inner) == swap:
            inputs[i], flags[key] = inner.inputs[0], not flags[key]
    return None if inputs == list(node.inputs) else node.op(*inputs, **{**node.attrs, **flags})


def like_of_static(node: Node) -> Outcome:
    """sum_to_like(x, y), broadcast_like, reshape_like -> x, where x has y's shape already."""
    x = node.inputs[0]
    return x if x.type == node.types[0] else None


def like_of_value(node: Node) -> Outcome:
    """zeros_like(x) -> broadcast(0), ones_like(x) -> broadcast(1)."""
    return splat(node.op.name == "ones_like", node.types[0])


RULES: Final = (
    Rule(reduce_of_units, of_kind(Kind.REDUCE)),
    Rule(reduce_of_reduce, of_kind(Kind.REDUCE), alone=True),
    Rule(reduce_of_broadcast, of_kind(Kind.REDUCE)),
    Rule(reshape_of_reduce, named("reshape"), alone=True),
    Rule(sum_of_negative, named("reduce_sum"), alone=True),
    Rule(contract_of_transpose, named("contract")),
    Rule(transpose_of_contract, named("transpose"), alone=True),
    Rule(contract_of_negative, named("contract")),
    Rule(contract_with_unit_label, named("contract")),
    Rule(log_of_softmax, named("log")),
    Rule(exp_of_log_softmax, named("exp")),
    Rule(relu_of_relu, named("relu")),
    Rule(matmul_of_transpose, named("matmul")),
    Rule(like_of_static, named("sum_to_like", "broadcast_like", "reshape_like")),
    Rule(like_of_value, named("zeros_like", "ones_like")),
)

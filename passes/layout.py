"""layout: images with channels first are computed with channels last.

    convolution{NCHW}(x, w) -> transpose(convolution{NHWC}(transpose(x), w))
    relu(transpose(x))     ->  transpose(relu(x))
    transpose(transpose(x)) -> x

The channels are what a convolution sums and what its results have in common: last, they lie
side by side in memory. Between convolutions and poolings the transposes sink through whatever
works element by element, meet their inverse and cancel; those left at the ends are views.
Runs before decompose, where a convolution is still one op. Skips graphs without NCHW; an
elementwise op with another large operand in the old order keeps it. Cost: a few walks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from graphc.ir.computation import Computation, topological_order
from graphc.ir.graph import CONSTANT, Node, Value
from graphc.ir.ops import movement as mv
from graphc.ir.ops.reduce import reduce_kind
from graphc.ir.table import OPS, Kind, Op
from graphc.ir.types import normalize_axes
from graphc.passes.context import Context
from graphc.passes.rules import Outcome, Rewriter, Rule, named, of_kind, producer
from graphc.passes.rules_movement import permutation, same_shape, transpose_of_transpose

# The formats with channels first, and their counterparts.
_LAST: Final = {"NCW": "NWC", "NCHW": "NHWC", "NCDHW": "NDHWC"}
# Which inputs are filters, and whether the result is one; all others of the rank are images.
_FILTERS: Final = {
    "convolution": ({1}, False), "convolution_input_grad": ({0}, False),
    "convolution_filter_grad": ({2}, True), "convolution_transpose": ({1}, False),
}  # fmt: skip
_SMALL: Final = 4  # an operand that is so many times smaller than the result may be transposed


def to_last(rank: int) -> tuple[int, ...]:
    """NCHW -> NHWC"""
    return (0, *range(2, rank), 1)


def to_first(rank: int) -> tuple[int, ...]:
    """NHWC -> NCHW"""
    return (0, rank - 1, *range(1, rank - 1))


def layout(computation: Computation, ctx: Context, limit: int | None = None) -> Computation:
    """Rewrite NCHW ops to NHWC; `limit` stops after so many rewrites, to find a wrong one."""
    if not any(n.attrs.get("data_format") in _LAST for n in computation.nodes):
        return computation
    return Rewriter(RULES, ctx.notes, limit).run(computation)


def channels_last(node: Node) -> Outcome:
    """f{NCHW}(image) -> transpose(f{NHWC}(transpose(image))), for convolutions and poolings."""
    last = _LAST.get(node.attrs["data_format"])
    rank = node.inputs[0].type.rank
    if last is None or rank != len(last):
        return None
    filters, gives_filter = _FILTERS.get(node.op.name, (set(), False))
    inputs = [
        v if i in filters or v.type.rank != rank else mv.transpose(v, perm=to_last(rank))
        for i, v in enumerate(node.inputs)
    ]
    result = node.op(*inputs, **{**node.attrs, "data_format": last})
    return result if gives_filter else mv.transpose(result, perm=to_first(rank))


def sink_transpose(node: Node) -> Outcome:
    """f(transpose(x), small) -> transpose(f(x, small')), where f works element by element."""
    if not any(map(_is_first, node.inputs)) or not is_elementwise(node):
        return None
    inputs = [_last(v, node) for v in node.inputs]
    if any(v is None for v in inputs):
        return None
    return mv.transpose(
        node.op(*inputs, **node.attrs), perm=to_first(len(node.types[0].static_shape))
    )


def sink_through_reduce(node: Node) -> Outcome:
    """reduce(transpose(x)) -> transpose(reduce(x)), or reduce(x) where that keeps the order."""
    if not _is_first(node.inputs[0]) or reduce_kind(node.op).startswith("arg"):
        return None
    x = node.inputs[0].node.inputs[0]
    rank = len(x.type.static_shape)
    first = to_first(rank)
    axes = normalize_axes(node.attrs["axis"], rank)
    inside = tuple(sorted(first[a] for a in axes))
    result = node.op(x, axis=inside, keepdims=node.attrs["keepdims"])
    if node.attrs["keepdims"]:
        return mv.transpose(result, perm=first)
    kept = [a for a in range(rank) if a not in inside]
    order = tuple(kept.index(first[a]) for a in range(rank) if a not in axes)
    return mv.transpose(result, perm=order) if order != tuple(sorted(order)) else result


def _is_first(value: Value) -> bool:
    inner, rank = producer(value, "transpose"), value.type.rank
    return inner is not None and rank in (3, 4, 5) and permutation(inner) == to_first(rank)


def _last(value: Value, node: Node) -> Value | None:
    """The operand with channels last; None where that would copy much."""
    if _is_first(value):
        return value.node.inputs[0]
    if value.type.size == 1:
        return value
    if value.type.size * _SMALL > node.types[0].size:
        return None
    rank = len(node.types[0].static_shape)
    shape = (1,) * (rank - len(value.type.static_shape)) + value.type.static_shape
    return mv.transpose(mv.reshape_to(value, shape), perm=to_last(rank))


def is_elementwise(node: Node) -> bool:
    """True for pointwise ops and for composites that are made of them and of scalars alone."""
    if node.kind is Kind.POINTWISE:
        return True
    if node.kind is not Kind.COMPOSITE or len(node.outputs) != 1:
        return False
    decompose = node.op.decompose
    rank = node.types[0].rank
    same = rank in (3, 4, 5) and all(v.type.rank in (0, rank) for v in node.inputs)
    if decompose is None or not same or node.op.host_inputs or "axis" in node.attrs:
        return False
    stand_ins = [_stand_in(v) for v in node.inputs]
    trial = node.op.node(*stand_ins, **node.attrs)
    parts = decompose(trial)
    values: Sequence[Value] = (parts,) if isinstance(parts, Value) else parts
    nodes = topological_order(v.node for v in values)
    return all(_is_elementwise_part(n, stand_ins) for n in nodes)


def _stand_in(value: Value) -> Value:
    return OPS["placeholder"](dtype=value.type.dtype, shape=value.type.shape)


def _is_elementwise_part(node: Node, inputs: list[Value]) -> bool:
    if node.outputs[0] in inputs or node.kind is Kind.POINTWISE:
        return True
    if node.op is CONSTANT:
        return node.types[0].size == 1
    return node.kind is Kind.COMPOSITE and is_elementwise(node)


def _has_format(op: Op) -> bool:
    return "data_format" in op.attrs and op.kind is Kind.COMPOSITE


def _may_work_elementwise(op: Op) -> bool:
    return op.kind is Kind.POINTWISE or (op.kind is Kind.COMPOSITE and not _has_format(op))


RULES: Final = (
    Rule(channels_last, _has_format),
    Rule(sink_transpose, _may_work_elementwise),
    Rule(sink_through_reduce, of_kind(Kind.REDUCE)),
    Rule(same_shape, named("transpose")),
    Rule(transpose_of_transpose, named("transpose")),
)

"""layout: images with channels first are computed with channels last.

    conv2d{NCHW}(x, w)     ->  transpose(conv2d{NHWC}(transpose(x), w))
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

TO_LAST: Final = (0, 2, 3, 1)  # NCHW -> NHWC
TO_FIRST: Final = (0, 3, 1, 2)  # NHWC -> NCHW
# Which inputs are filters, and whether the result is one; all others of rank 4 are images.
_FILTERS: Final = {
    "conv2d": ({1}, False), "conv2d_input_grad": ({0}, False), "conv2d_filter_grad": ({2}, True),
}  # fmt: skip
_SMALL: Final = 4  # an operand that is so many times smaller than the result may be transposed


def layout(computation: Computation, ctx: Context, limit: int | None = None) -> Computation:
    """Rewrite NCHW ops to NHWC; `limit` stops after so many rewrites, to find a wrong one."""
    if not any(n.attrs.get("data_format") == "NCHW" for n in computation.nodes):
        return computation
    return Rewriter(RULES, ctx.notes, limit).run(computation)


def channels_last(node: Node) -> Outcome:
    """f{NCHW}(image) -> transpose(f{NHWC}(transpose(image))), for convolutions and poolings."""
    if node.attrs["data_format"] != "NCHW" or node.inputs[0].type.rank != 4:
        return None
    filters, gives_filter = _FILTERS.get(node.op.name, (set(), False))
    inputs = [
        v if i in filters or v.type.rank != 4 else mv.transpose(v, perm=TO_LAST)
        for i, v in enumerate(node.inputs)
    ]
    result = node.op(*inputs, **{**node.attrs, "data_format": "NHWC"})
    return result if gives_filter else mv.transpose(result, perm=TO_FIRST)


def sink_transpose(node: Node) -> Outcome:
    """f(transpose(x), small) -> transpose(f(x, small')), where f works element by element."""
    if not any(map(_is_first, node.inputs)) or not is_elementwise(node):
        return None
    inputs = [_last(v, node) for v in node.inputs]
    if any(v is None for v in inputs):
        return None
    return mv.transpose(node.op(*inputs, **node.attrs), perm=TO_FIRST)


def sink_through_reduce(node: Node) -> Outcome:
    """reduce(transpose(x)) -> transpose(reduce(x)), or reduce(x) where that keeps the order."""
    if not _is_first(node.inputs[0]) or reduce_kind(node.op).startswith("arg"):
        return None
    axes = normalize_axes(node.attrs["axis"], 4)
    x = node.inputs[0].node.inputs[0]
    inside = tuple(sorted(TO_FIRST[a] for a in axes))
    result = node.op(x, axis=inside, keepdims=node.attrs["keepdims"])
    if node.attrs["keepdims"]:
        return mv.transpose(result, perm=TO_FIRST)
    kept = [a for a in range(4) if a not in inside]
    order = tuple(kept.index(TO_FIRST[a]) for a in range(4) if a not in axes)
    return mv.transpose(result, perm=order) if order != tuple(sorted(order)) else result


def _is_first(value: Value) -> bool:
    inner = producer(value, "transpose")
    return inner is not None and value.type.rank == 4 and permutation(inner) == TO_FIRST


def _last(value: Value, node: Node) -> Value | None:
    """The operand with channels last; None where that would copy much."""
    if _is_first(value):
        return value.node.inputs[0]
    if value.type.size == 1:
        return value
    if value.type.size * _SMALL > node.types[0].size:
        return None
    shape = (1,) * (4 - len(value.type.static_shape)) + value.type.static_shape
    return mv.transpose(mv.reshape_to(value, shape), perm=TO_LAST)


def is_elementwise(node: Node) -> bool:
    """True for pointwise ops and for composites that are made of them and of scalars alone."""
    if node.kind is Kind.POINTWISE:
        return True
    if node.kind is not Kind.COMPOSITE or len(node.outputs) != 1:
        return False
    decompose = node.op.decompose
    same = all(v.type.rank in (0, 4) for v in node.inputs) and node.types[0].rank == 4
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

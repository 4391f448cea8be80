"""Rules of movement: transposes, reshapes, broadcasts, slices, padding, concatenation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from graphc.ir.graph import CONSTANT, Node, Value
from graphc.ir.ops import movement as mv
from graphc.ir.ops import slicing
from graphc.ir.table import Kind
from graphc.ir.types import normalize_axis
from graphc.passes.rules import (
    Outcome,
    Refused,
    Rule,
    named,
    of_kind,
    producer,
    scalar_constant,
    shaped,
    single_source,
    splat,
)

_MAY_STAND_STILL: Final = (
    "reshape", "broadcast_to", "transpose", "slice", "pad", "identity", "stop_gradient",
)  # fmt: skip
_FROM_ONE: Final = ("reshape", "transpose", "slice", "unfold", "broadcast_to")


def permutation(node: Node) -> tuple[int, ...]:
    """The axes of a transpose's input, in the order of its output."""
    rank = len(node.types[0].static_shape)
    perm = node.attrs["perm"]
    if perm is None:
        return tuple(reversed(range(rank)))
    return tuple(normalize_axis(p, rank) for p in perm)


def copies_of_one(node: Node) -> Outcome:
    """reshape, transpose, slice(broadcast(s)) -> broadcast(s), where s has one element."""
    source = single_source(node.outputs[0])
    if source is node.outputs[0] or node.types[0].size == 1:
        return None
    plain = node.op.name == "broadcast_to" and node.inputs[0] is source
    if plain and source.type.shape == ():
        return None
    return shaped(mv.reshape_to(source, ()), node)


def uniform_constant(node: Node) -> Outcome:
    """constant [c, c, c] -> broadcast(c): what is copied needs no memory."""
    array: np.ndarray = node.attrs["value"].array
    if array.size <= 1 or not node.attrs["value"].is_uniform:
        return None
    return shaped(scalar_constant(array.reshape(-1)[0], node.outputs[0]), node)


def same_shape(node: Node) -> Outcome:
    """reshape, broadcast, slice, pad, transpose(x) -> x, where nothing moves; identity(x) -> x."""
    x = node.inputs[0]
    if x.type != node.types[0]:
        return None
    match node.op.name:
        case "reshape" | "broadcast_to" | "identity" | "stop_gradient":
            return x
        case "transpose":
            return x if permutation(node) == tuple(range(len(permutation(node)))) else None
        case "slice":
            moves = [
                n > 1 and step != 1
                for n, step in zip(node.attrs["size"], node.attrs["step"], strict=True)
            ]
            return None if any(moves) else x
    attrs = node.attrs
    none = not any((*attrs["low"], *attrs["high"], *attrs["interior"]))
    return x if none else None


def reshape_of_reshape(node: Node) -> Outcome:
    """reshape(reshape(x)) -> reshape(x)."""
    inner = producer(node.inputs[0], "reshape")
    return mv.reshape_to(inner.inputs[0], node.types[0].static_shape) if inner else None


def transpose_of_transpose(node: Node) -> Outcome:
    """transpose(transpose(x, p), q) -> transpose(x, p[q])."""
    inner = producer(node.inputs[0], "transpose")
    if inner is None:
        return None
    first, second = permutation(inner), permutation(node)
    return mv.transpose(inner.inputs[0], perm=tuple(first[i] for i in second))


def transpose_of_units(node: Node) -> Outcome:
    """transpose(x) -> reshape(x), where only dims of size 1 change places."""
    x = node.inputs[0]
    shape = x.type.static_shape
    moved = [p for p in permutation(node) if shape[p] != 1]
    return mv.reshape_to(x, node.types[0].static_shape) if moved == sorted(moved) else None


def broadcast_of_broadcast(node: Node) -> Outcome:
    """broadcast(broadcast(x)) -> broadcast(x)."""
    inner = producer(node.inputs[0], "broadcast_to")
    return shaped(inner.inputs[0], node) if inner else None


def broadcast_of_units(node: Node) -> Outcome:
    """broadcast(x) -> reshape(x), where it only puts dims of size 1 before."""
    x = node.inputs[0]
    if x.type.size != node.types[0].size or x.type.size == 0:
        return None
    return mv.reshape_to(x, node.types[0].static_shape)


def pointwise_of_broadcasts(node: Node) -> Outcome:
    """f(broadcast(x), y) -> f(x, y), or broadcast(f(x, y)) where y is no larger than x.

    Pointwise ops broadcast by themselves; and what is equal is computed once.
    """
    parts = [v.node.inputs[0] if producer(v, "broadcast_to") else v for v in node.inputs]
    if all(new is old for new, old in zip(parts, node.inputs, strict=True)):
        return None
    return shaped(node.op(*parts, **node.attrs), node)


def slice_of_slice(node: Node) -> Outcome:
    """slice(slice(x)) -> slice(x)."""
    inner = producer(node.inputs[0], "slice")
    if inner is None or node.types[0].size == 0:
        return None
    a, b = inner.attrs, node.attrs
    start = tuple(s + t * u for s, t, u in zip(a["start"], a["step"], b["start"], strict=True))
    step = tuple(t * u for t, u in zip(a["step"], b["step"], strict=True))
    return slicing.slice_(inner.inputs[0], start=start, size=b["size"], step=step)


def slice_of_concat(node: Node) -> Outcome:
    """slice(concat(x, y)) -> slice(x), where it lies inside x."""
    inner = producer(node.inputs[0], "concat")
    if inner is None or node.types[0].size == 0:
        return None
    axis = normalize_axis(inner.attrs["axis"], len(node.types[0].static_shape))
    starts, size, step = node.attrs["start"], node.attrs["size"][axis], node.attrs["step"][axis]
    ends = starts[axis], starts[axis] + (size - 1) * step
    first = 0
    for part in inner.inputs:
        last = first + part.type.static_shape[axis]
        if first <= min(ends) and max(ends) < last:
            start = tuple(s - first if i == axis else s for i, s in enumerate(starts))
            return slicing.slice_(part, **{**node.attrs, "start": start})
        first = last
    return None


def slice_of_pad(node: Node) -> Outcome:
    """slice(pad(x)) -> slice(x), where it takes no element of the padding."""
    inner = producer(node.inputs[0], "pad")
    if inner is None or node.types[0].size == 0:
        return None
    if any(inner.attrs["interior"]) or any(p < 0 for p in inner.attrs["low"]):
        return Refused("the padding is inside or negative")
    x, attrs = inner.inputs[0], node.attrs
    start = tuple(s - low for s, low in zip(attrs["start"], inner.attrs["low"], strict=True))
    columns = zip(start, attrs["size"], attrs["step"], x.type.static_shape, strict=True)
    inside = all(0 <= s < d and 0 <= s + (n - 1) * t < d for s, n, t, d in columns)
    return slicing.slice_(x, **{**attrs, "start": start}) if inside else None


def pad_of_pad(node: Node) -> Outcome:
    """pad(pad(x)) -> pad(x), for equal fills. Refused where one cuts or stretches."""
    inner = producer(node.inputs[0], "pad")
    if inner is None:
        return None
    a, b = inner.attrs, node.attrs
    parts = (*a["low"], *a["high"], *b["low"], *b["high"])
    if any((*a["interior"], *b["interior"])) or any(p < 0 for p in parts):
        return Refused("it cuts or stretches")
    if repr(a["fill"]) != repr(b["fill"]):
        return Refused("the fills differ")
    low, high = (_sums(a[side], b[side]) for side in ("low", "high"))
    return slicing.pad(inner.inputs[0], **{**b, "low": low, "high": high})


def _sums(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def pad_of_nothing(node: Node) -> Outcome:
    """pad(x) -> broadcast(fill), where x has no elements."""
    empty = node.inputs[0].type.size == 0
    return splat(node.attrs["fill"], node.types[0]) if empty else None


def concat_of_parts(node: Node) -> Outcome:
    """concat(x) -> x; empty parts go; concat(concat(x, y), z) -> concat(x, y, z)."""
    axis = normalize_axis(node.attrs["axis"], len(node.types[0].static_shape))
    parts: list[Value] = []
    for value in node.inputs:
        inner = producer(value, "concat")
        same = inner and normalize_axis(inner.attrs["axis"], len(value.type.static_shape)) == axis
        parts.extend(inner.inputs if inner and same else [value])
    filled = [v for v in parts if v.type.static_shape[axis]] or parts[:1]
    if len(filled) == 1:
        return filled[0]
    return None if filled == list(node.inputs) else slicing.concat(*filled, axis=axis)


def concat_of_slices(node: Node) -> Outcome:
    """concat(x[:3], x[3:5], y) -> concat(x[:5], y): neighbours become one slice again."""
    axis = normalize_axis(node.attrs["axis"], len(node.types[0].static_shape))
    parts = list(node.inputs[:1])
    for value in node.inputs[1:]:
        both = _joined(parts[-1], value, axis)
        parts[-1:] = [both] if both is not None else [parts[-1], value]
    if len(parts) == len(node.inputs):
        return None
    return parts[0] if len(parts) == 1 else slicing.concat(*parts, axis=axis)


def _joined(a: Value, b: Value, axis: int) -> Value | None:
    first, second = producer(a, "slice"), producer(b, "slice")
    if first is None or second is None or first.inputs[0] is not second.inputs[0]:
        return None
    p, q = first.attrs, second.attrs
    others = [i for i in range(len(p["start"])) if i != axis]
    aligned = all(p[k][i] == q[k][i] for k in ("start", "size", "step") for i in others)
    step, count = p["step"][axis], p["size"][axis]
    follows = q["step"][axis] == step and q["start"][axis] == p["start"][axis] + count * step
    if not (aligned and follows):
        return None
    size = tuple(s + q["size"][axis] if i == axis else s for i, s in enumerate(p["size"]))
    return slicing.slice_(first.inputs[0], start=p["start"], size=size, step=p["step"])


def empty_movement(node: Node) -> Outcome:
    """A movement that gives no elements at all -> broadcast(0)."""
    empty = math.prod(node.types[0].static_shape) == 0
    if not empty or (node.op.name == "broadcast_to" and node.inputs[0].node.op is CONSTANT):
        return None
    return shaped(scalar_constant(0, node.outputs[0]), node)


RULES: Final = (
    Rule(uniform_constant, lambda op: op is CONSTANT),
    Rule(empty_movement, of_kind(Kind.MOVEMENT)),
    Rule(same_shape, named(*_MAY_STAND_STILL)),
    Rule(copies_of_one, named(*_FROM_ONE)),
    Rule(reshape_of_reshape, named("reshape")),
    Rule(transpose_of_transpose, named("transpose")),
    Rule(transpose_of_units, named("transpose")),
    Rule(broadcast_of_broadcast, named("broadcast_to")),
    Rule(broadcast_of_units, named("broadcast_to")),
    Rule(slice_of_slice, named("slice")),
    Rule(slice_of_concat, named("slice")),
    Rule(slice_of_pad, named("slice")),
    Rule(pad_of_pad, named("pad")),
    Rule(pad_of_nothing, named("pad")),
    Rule(concat_of_parts, named("concat")),
    Rule(concat_of_slices, named("concat")),
    Rule(pointwise_of_broadcasts, of_kind(Kind.POINTWISE)),
)

"""Attention over keys and values; re-exported by `nn`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.frontend.arguments import as_value, same_dtype
from graphc.ir.errors import ShapeError
from graphc.ir.graph import Value, convert
from graphc.ir.ops import movement as mv
from graphc.ir.ops.attention import scaled_dot_product_attention as _attention
from graphc.ir.types import Dim, broadcast_shapes, may_equal


def scaled_dot_product_attention(
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    causal: bool = False,
    scale: float | None = None,
    name: str | None = None,
) -> Value:
    """softmax(scale q k^T + mask) v, without ever holding the matrix of scores.

    q: [..., n, d], k: [..., m, d], v: [..., m, e] -> [..., n, e]; leading dims broadcast where
    they are known. `mask` broadcasts to [..., n, m]: bool, True where a key takes part, or
    numbers that are added to the scores. `causal`: row i takes the keys 0..i. `scale` is
    1 / sqrt(d) unless given. A row from which all keys are excluded gives 0. ShapeError,
    DTypeError or AttributeValueError where the arguments do not fit. (Vaswani et al., "Attention
    Is All You Need", 2017.)
    """
    values = _with_equal_leads(same_dtype([q, k, v]))
    masks = [] if mask is None else [_as_mask(mask, values[0])]
    name = name or "scaled_dot_product_attention"
    given = None if scale is None else float(scale)
    return _attention(*values, *masks, scale=given, causal=bool(causal), name=name)


def _as_mask(mask: Any, q: Value) -> Value:
    value = as_value(mask)
    return value if isinstance(mask, Value) or value.dtype.is_bool else convert(mask, like=q.dtype)


def _with_equal_leads(values: list[Value]) -> list[Value]:
    """With the leading dims of all, broadcast where they differ."""
    shapes = [x.type.shape for x in values]
    if any(s is None or len(s) < 2 for s in shapes):
        return values  # the op says what is wrong
    leads = [s[:-2] for s in shapes if s is not None]
    if all(_may_equal(lead, other) for lead in leads for other in leads):
        return values  # unknown sizes are taken to be equal, and checked when they are known
    lead = broadcast_shapes(leads)
    assert lead is not None, "all ranks are known"
    return [_broadcast(x, lead) for x in values]


def _may_equal(a: Sequence[Dim], b: Sequence[Dim]) -> bool:
    return len(a) == len(b) and all(map(may_equal, a, b))


def _broadcast(x: Value, lead: tuple[Dim, ...]) -> Value:
    assert x.type.shape is not None
    target = (*lead, *x.type.shape[-2:])
    if x.type.shape == target:
        return x
    if not all(isinstance(d, int) for d in target):
        raise ShapeError(
            f"attention broadcasts leading dims of known sizes only, not those of {x!r} to "
            f"{list(lead)}; broadcast_to() them"
        )
    return mv.broadcast_to(x, shape=target)


__all__ = ["scaled_dot_product_attention"]

"""Attention in C: a plan of sizes and slots, which c/attention.c computes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from graphc.codegen.native.text import KernelText, Place
from graphc.ir import loop
from graphc.ir.attention import scale_of
from graphc.ir.dtypes import DType, bfloat16, bool_, float16, float32

_DTYPES: Final[Mapping[DType, str]] = {
    float32: "GC_FLOAT32", bfloat16: "GC_BFLOAT16", float16: "GC_FLOAT16",
}  # fmt: skip
# per op: the function, and the slots in the order of its inputs and outputs; a mask comes last
_FORMS: Final[Mapping[str, tuple[str, str, str]]] = {
    "scaled_dot_product_attention": ("GC_ATTEND", "q k v", "out lse"),
    "scaled_dot_product_attention_grad": ("GC_ATTEND_BACKWARD", "q k v g lse delta", "dq dk dv"),
}


def emit_attention(stmt: loop.Call, place: Place) -> KernelText | None:
    """The launch with its plan; None for another routine, or a dtype that C does not take."""
    dtype = place.buffers[stmt.inputs[0]].dtype
    if stmt.op not in _FORMS or dtype not in _DTYPES:
        return None
    function, reads, writes = _FORMS[stmt.op]
    attrs = dict(stmt.attrs)
    shapes: Sequence[tuple[int, ...]] = attrs["shapes"]
    q, k, v = shapes[:3]
    names = [*zip(reads.split(), stmt.inputs, strict=False)]
    names += zip(writes.split(), stmt.outputs, strict=True)
    fields: dict[str, Any] = {
        "heads": math.prod(q[:-2]), "n": q[-2], "m": k[-2], "d": q[-1], "e": v[-1],
        "causal": int(attrs["causal"]), "dtype": _DTYPES[dtype],
        "scale": f"{scale_of(attrs, q[-1])!r}f", "flops": float(stmt.flops),
        **{what: place.slots[name] for what, name in names},
    }  # fmt: skip
    lines: list[str] = []
    if len(stmt.inputs) > len(reads.split()):
        fields["mask"] = place.slots[stmt.inputs[-1]]
        kept = place.buffers[stmt.inputs[-1]].dtype is bool_
        fields["mask_kind"] = "GC_KEEPING" if kept else "GC_ADDED"
        lines, more = _mask(shapes[-1], (*q[:-1], k[-2]))
        fields |= more
    plan = ", ".join(f".{name} = {value}" for name, value in fields.items())
    lines += [f"static const gc_attention plan = {{{plan}}};", f"{function}(&plan, b);"]
    header = f"static void {place.name}(gc_buffers b) {{"
    body = "\n".join([header, *("    " + line for line in lines), "}"])
    return KernelText([body], [f"{place.name}(b);"])


def _mask(shape: Sequence[int], scores: Sequence[int]) -> tuple[list[str], dict[str, Any]]:
    """Lines and fields that say where its elements are."""
    full = (1,) * (len(scores) - len(shape)) + tuple(shape)
    strides = [0 if d == 1 else math.prod(full[i + 1 :]) for i, d in enumerate(full)]
    lead, fields = len(full) - 2, {"mask_row": strides[-2], "mask_key": strides[-1]}
    if not any(strides[:lead]):
        return [], fields
    lines = [
        f"static const long {name}[] = {{{', '.join(map(str, values))}}};"
        for name, values in (("dims", scores[:lead]), ("strides", strides[:lead]))
    ]
    return lines, fields | {"mask_rank": lead, "mask_dims": "dims", "mask_strides": "strides"}


__all__ = ["emit_attention"]

"""Attention: softmax(scale q k^T + mask) v, as routines that never hold the matrix of scores.

    scaled_dot_product_attention        the result, and per row the logarithm of the sum
    scaled_dot_product_attention_grad   what q, k and v get, the probabilities computed again
    attention_scores_grad               what the scores get, for masks that are learned

The sums of exponentials are carried from block to block (Milakov and Gimelshein, 2018), and the
gradient computes the probabilities of a block again from the rows' sums (Dao et al.,
"FlashAttention", 2022). Where a target has no such routine, the ops mean their decomposition.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from graphc.ir.attention import Heads, attention, attention_grad, scale_of
from graphc.ir.dtypes import DType, bool_, int32
from graphc.ir.errors import AttributeValueError, DTypeError, ShapeError
from graphc.ir.graph import Node, Value, convert
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import reduce as red
from graphc.ir.ops import source
from graphc.ir.ops.contract import matmul
from graphc.ir.table import OPS, Attrs, Kind, NoGradient, Op, Sample, Types, register
from graphc.ir.types import Shape, TensorType, broadcast_shapes, merge_dims, merge_shapes

_ATTRS: Attrs = {"scale": None, "causal": False}

# -- types


def _check_attrs(attrs: Attrs) -> None:
    scale, causal = attrs["scale"], attrs["causal"]
    number = isinstance(scale, (int, float)) and not isinstance(scale, bool)
    if scale is not None and not (number and math.isfinite(scale)):
        raise AttributeValueError(f"scale is a number, or None for 1 / sqrt(d), got {scale!r}")
    if not isinstance(causal, bool):
        raise AttributeValueError(f"causal is True or False, got {causal!r}")


def _scores_shape(types: Types, attrs: Attrs) -> Shape | None:
    """[..., n, m] of q, k, v (and a mask); None where a rank is unknown."""
    _check_attrs(attrs)
    q, k, v = types[:3]
    pw.check_category((q, k, v), "float")
    pw.check_same_dtype((q, k, v))
    if q.shape is None or k.shape is None or v.shape is None:
        return None
    if min(len(t.shape or ()) for t in (q, k, v)) < 2:
        raise ShapeError(f"attention needs matrices (rank 2 or more), got {q}, {k} and {v}")
    what = f"attention of q={q}, k={k}, v={v}"
    lead = merge_shapes(q.shape[:-2], k.shape[:-2], f"{what}: the leading dims of q and k")
    lead = merge_shapes(lead, v.shape[:-2], f"{what}: the leading dims of v")
    assert lead is not None
    merge_dims(q.shape[-1], k.shape[-1], f"{what}: the last dims of q and k")
    keys = merge_dims(k.shape[-2], v.shape[-2], f"{what}: the keys of k and v")
    shape = (*lead, q.shape[-2], keys)
    if len(types) > 3:
        _check_mask(types[3], q.dtype, shape)
    return shape


def _check_mask(mask: TensorType, dtype: DType, scores: Shape) -> None:
    if mask.dtype is not bool_ and mask.dtype is not dtype:
        raise DTypeError(f"a mask is bool, or added to scores of {dtype}; got {mask.dtype}")
    both = broadcast_shapes([mask.shape, scores])
    if both is not None and len(both) != len(scores):
        raise ShapeError(f"the mask {mask} does not broadcast to the scores {list(scores)}")
    for a, b in zip(both or (), scores, strict=False):
        merge_dims(a, b, f"the mask {mask} broadcasts to the scores {list(scores)}")


def _type(types: Types, attrs: Attrs) -> Types:
    shape, q, v = _scores_shape(types, attrs), types[0], types[2]
    wide = q.dtype.compute
    if shape is None:
        return TensorType(q.dtype, None), TensorType(wide, None)
    assert v.shape is not None
    return TensorType(q.dtype, (*shape[:-1], v.shape[-1])), TensorType(wide, shape[:-1])


def _forward_types(types: Types) -> Types:
    """Those of q, k, v (and the mask) among the inputs of a gradient's op."""
    return (*types[:3], *types[6:])


def _grad_type(types: Types, attrs: Attrs) -> Types:
    out, lse = _type(_forward_types(types), attrs)
    for given, want in zip(types[3:6], (out, lse, lse), strict=True):
        if given.dtype is not want.dtype:
            raise DTypeError(f"the gradient of attention needs {want.dtype}, got {given.dtype}")
        merge_shapes(given.shape, want.shape, "the gradient of attention")
    return types[:3]


def _scores_grad_type(types: Types, attrs: Attrs) -> TensorType:
    _grad_type(types, attrs)
    shape = _scores_shape(_forward_types(types), attrs)
    return TensorType(types[0].dtype.compute, shape)


# -- the definition, in simpler ops


def _wide(x: Value) -> Value:
    wide = x.dtype.compute
    return x if x.dtype is wide else OPS["cast"](x, dtype=wide)


def _narrow(x: Value, like: Value) -> Value:
    return x if x.dtype is like.dtype else OPS["cast"](x, dtype=like.dtype)


def _column(x: Value) -> Value:
    """[..., n] as [..., n, 1]"""
    return mv.reshape_to(x, (*x.type.static_shape, 1))


def _scores(q: Value, k: Value, masks: Sequence[Value], attrs: Attrs) -> Value:
    """scale q k^T + mask, -inf where excluded."""
    s = matmul(_wide(q), _wide(k), transpose_b=True)
    s = s * convert(scale_of(attrs, q.type.static_shape[-1]), like=s.dtype)
    excluded = convert(-math.inf, like=s.dtype)
    for mask in masks:
        s = pw.where(mask, s, excluded) if mask.dtype is bool_ else s + _wide(mask)
    if attrs["causal"]:
        shape = s.type.static_shape[-2:]
        rows, keys = (source.iota(shape=shape, axis=axis, dtype=int32) for axis in (0, 1))
        s = pw.where(keys <= rows, s, excluded)
    return s


def _decompose(node: Node) -> tuple[Value, Value]:
    q, k, v, *masks = node.inputs
    s = _scores(q, k, masks, node.attrs)
    zero, one = (convert(number, like=s.dtype) for number in (0, 1))
    top = red.reduce_max(s, axis=(-1,), keepdims=True)
    top = pw.where(pw.equal(top, convert(-math.inf, like=s.dtype)), zero, top)
    e = pw.exp(s - top)
    total = red.reduce_sum(e, axis=(-1,), keepdims=True)
    p = e / pw.where(pw.equal(total, zero), one, total)
    lse = mv.reshape_to(top + pw.log(total), node.types[1].static_shape)
    return _narrow(matmul(p, _wide(v)), q), lse


def _probabilities(node: Node) -> Value:
    q, k, _, _, lse, _, *masks = node.inputs
    never = pw.equal(lse, convert(-math.inf, like=lse.dtype))
    known = pw.where(never, convert(math.inf, like=lse.dtype), lse)
    return pw.exp(_scores(q, k, masks, node.attrs) - _column(known))


def _decompose_scores_grad(node: Node) -> Value:
    return _scores_grad_of(node, _probabilities(node))


def _scores_grad_of(node: Node, p: Value) -> Value:
    v, g, delta = node.inputs[2], node.inputs[3], node.inputs[5]
    return p * (matmul(_wide(g), _wide(v), transpose_b=True) - _column(delta))


def _decompose_grad(node: Node) -> tuple[Value, Value, Value]:
    q, k, v, g = node.inputs[:4]
    p = _probabilities(node)
    ds = _scores_grad_of(node, p)
    ds = ds * convert(scale_of(node.attrs, q.type.static_shape[-1]), like=ds.dtype)
    dq = matmul(ds, _wide(k))
    dk = matmul(ds, _wide(q), transpose_a=True)
    return _narrow(dq, q), _narrow(dk, k), _narrow(matmul(p, _wide(g), transpose_a=True), v)


def _grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    """dq, dk, dv from p (g v^T - delta), where delta = sum(g out) - what the sums get."""
    inputs, masks = node.inputs[:3], node.inputs[3:]
    (out, lse), (g, g_lse) = node.outputs, grads
    if g is None:
        g = mv.zeros_like(out)
    delta = red.reduce_sum(_wide(g) * _wide(out), axis=(-1,))
    if g_lse is not None:
        delta = delta - g_lse
    given = (*inputs, g, lse, delta, *masks)
    result: list[Value | None] = [*attention_gradient.outputs(*given, **node.attrs)]
    for mask in masks:
        learned = mask.dtype is not bool_
        ds = attention_scores_grad(*given, **node.attrs) if learned else None
        result.append(None if ds is None else pw.sum_to(_narrow(ds, mask), mask))
    return result


# -- cost and samples


def _score_count(node: Node) -> float:
    *lead, n, _ = node.inputs[0].type.static_shape
    m = node.inputs[1].type.static_shape[-2]
    return math.prod(lead) * n * m * (0.5 if node.attrs["causal"] else 1.0)


def _depths(node: Node) -> tuple[int, int]:
    return node.inputs[0].type.static_shape[-1], node.inputs[2].type.static_shape[-1]


def _flops(node: Node) -> float:
    d, e = _depths(node)
    return 2.0 * _score_count(node) * (d + e)


def _grad_flops(node: Node) -> float:
    d, e = _depths(node)
    return 2.0 * _score_count(node) * (3 * d + 2 * e)


def _arrays(rng: np.random.Generator, *shapes: Sequence[int]) -> list[np.ndarray]:
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def _samples() -> Iterable[Sample]:
    rng = np.random.default_rng(101)
    for lead, n, m, d, e in (
        ((2, 3), 5, 7, 4, 3), ((2,), 6, 6, 8, 8), ((), 3, 4, 1, 2), ((1, 1), 1, 1, 1, 1),
        ((2,), 0, 3, 4, 2), ((0,), 2, 3, 4, 2),
    ):  # fmt: skip
        q, k, v = _arrays(rng, (*lead, n, d), (*lead, m, d), (*lead, m, e))
        yield Sample((q, k, v))
        yield Sample((q, k, v), {"causal": True, "scale": 0.3})
        if min(n, m) < 3:
            continue
        (bias,) = _arrays(rng, (*(1 for _ in lead), n, m))
        yield Sample((q, k, v, bias))
        keep = rng.random((n, m)) < 0.7
        keep[1] = False  # nothing is left of a row
        yield Sample((q, k, v, keep))
        yield Sample((q, k, v, np.where(keep, 0, -np.inf).astype(np.float32)), {"causal": True},
                     (0, 1, 2))  # fmt: skip


def _grad_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(103)
    for sample in _samples():
        q, k, v, *mask = sample.inputs
        if not q.size:  # sums of nothing: tests/frontend/test_attention.py
            continue
        out, lse = attention({**_ATTRS, **sample.attrs}, q, k, v, *mask)
        (g,) = _arrays(rng, out.shape)
        yield Sample((q, k, v, g, lse, (g * out).sum(-1), *mask), sample.attrs, ())


# -- the entries

scaled_dot_product_attention: Op = register(
    Op(
        "scaled_dot_product_attention", Kind.OPAQUE, _type, numpy=attention, attrs=_ATTRS,
        grad=_grad, decompose=_decompose, flops=_flops, samples=_samples,
        doc="""softmax(scale q k^T + mask) v and, per row, the log of the sum of exponentials.

        q: [..., n, d], k: [..., m, d], v: [..., m, e], with equal leading dims; a fourth input is
        a mask that broadcasts to [..., n, m]: bool (True takes part), or numbers that are added.
        `causal`: row i takes keys 0..i. `scale` is 1 / sqrt(d) unless given. A row from which all
        keys are excluded is 0, as torch's, its gradient too, and its log -inf. 16-bit floats are
        computed in float32, which is the log's type. Where a key is excluded, v must be finite:
        whether it is read and weighed with 0, or skipped, is not said.""",
    )
)  # fmt: skip

attention_gradient: Op = register(
    Op(
        "scaled_dot_product_attention_grad", Kind.OPAQUE, _grad_type, numpy=attention_grad,
        attrs=_ATTRS, grad=NoGradient("second derivatives of attention: write it as products"),
        decompose=_decompose_grad, flops=_grad_flops, samples=_grad_samples,
        doc="""The gradients of q, k and v from (q, k, v, g, lse, delta[, mask]).

        g is the result's gradient, delta [..., n] the sum of g times the result along each row,
        less the gradient of `lse`. The same numbers with any number of threads.""",
    )
)  # fmt: skip


def _scores_grad_numpy(attrs: Attrs, *arrays: Any) -> np.ndarray:
    q, k, v, g, lse, delta, *mask = arrays
    heads = Heads(attrs, q, k, v, *mask)
    count, n, m = len(heads.places), q.shape[-2], k.shape[-2]
    g, lse, delta = heads.flat(g), lse.reshape(count, n), delta.reshape(count, n)
    result = np.zeros((count, n, m), heads.q.dtype)
    for head in range(count):
        for first, last in heads.blocks():
            p = heads.probabilities(head, first, last, lse)
            rows = slice(first, last)
            result[head, rows, : p.shape[1]] = heads.scores_grad(
                head, p, g[head, rows], delta[head, rows]
            )
    return result.reshape(*q.shape[:-1], m)


attention_scores_grad: Op = register(
    Op(
        "attention_scores_grad", Kind.COMPOSITE, _scores_grad_type, numpy=_scores_grad_numpy,
        attrs=_ATTRS, grad=attention_gradient.grad, decompose=_decompose_scores_grad,
        samples=_grad_samples,
        doc="""What the scores get, [..., n, m] in the type that computes; inputs as of the
        gradient of q, k and v. It is as large as a mask that is learned for each of them.""",
    )
)  # fmt: skip

__all__ = [
    "attention_gradient", "attention_scores_grad", "scaled_dot_product_attention",
]  # fmt: skip

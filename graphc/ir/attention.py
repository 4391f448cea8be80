"""Attention in NumPy: what its ops mean, one block of rows after the other.

A row of the result follows from one row of the scores, so the plain definition is applied to as
many rows at a time as have some hundred thousand scores: no matrix of n x m is ever in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from graphc.ir.dtypes import as_dtype

_BLOCK: Final = 1 << 18  # scores that are computed at a time
_MINUS_INF: Final = -math.inf


def scale_of(attrs: Mapping[str, Any], depth: int) -> float:
    """What products are multiplied with: the attribute, or 1 / sqrt(d)."""
    scale = attrs["scale"]
    return float(scale) if scale is not None else 1.0 / math.sqrt(max(depth, 1))


class Heads:
    """q [..., n, d], k [..., m, d], v [..., m, e] with all leading dims as one, and the mask.

    16-bit floats are widened to float32, in which all is computed.
    """

    def __init__(
        self,
        attrs: Mapping[str, Any],
        q: np.ndarray,
        k: np.ndarray,
        v: np.ndarray,
        mask: np.ndarray | None = None,
    ) -> None:
        self.places = list(np.ndindex(*q.shape[:-2]))
        self.q, self.k, self.v = (self.flat(x) for x in (q, k, v))
        self.rows, self.keys = q.shape[-2], k.shape[-2]
        self.scale = self.q.dtype.type(scale_of(attrs, q.shape[-1]))
        self.causal = bool(attrs["causal"])
        shape = (*q.shape[:-2], self.rows, self.keys)
        self.mask = None if mask is None else np.broadcast_to(mask, shape)

    def flat(self, x: np.ndarray) -> np.ndarray:
        """[..., a, b] as [heads, a, b], in the type that computes."""
        wide = x.astype(as_dtype(x.dtype).compute.numpy, copy=False)
        return wide.reshape(len(self.places), *x.shape[-2:])

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Which rows are computed together, in order: the same whoever computes them."""
        step = max(1, _BLOCK // max(self.keys, 1))
        for first in range(0, self.rows, step):
            yield first, min(first + step, self.rows)

    def scores(self, head: int, first: int, last: int) -> np.ndarray:
        """scale q k^T + mask of some rows, -inf where excluded; without keys excluded for all."""
        keys = min(self.keys, last) if self.causal else self.keys
        s: np.ndarray = self.q[head, first:last] @ self.k[head, :keys].T
        s *= self.scale
        if self.mask is not None:
            part = self.mask[self.places[head]][first:last, :keys]
            if part.dtype == np.bool_:
                s[~part] = _MINUS_INF
            else:
                s += part.astype(s.dtype, copy=False)
        if self.causal:
            s[np.arange(keys) > np.arange(first, last)[:, None]] = _MINUS_INF
        return s

    def attend(self, head: int, first: int, last: int, out: np.ndarray, lse: np.ndarray) -> None:
        """Some rows of the result, and the logarithms of their sums of exponentials."""
        p = self.scores(head, first, last)
        top = p.max(-1, keepdims=True, initial=_MINUS_INF)
        top[top == _MINUS_INF] = 0  # a row that is excluded as a whole
        p -= top
        np.exp(p, out=p)
        total = p.sum(-1, keepdims=True)
        with np.errstate(divide="ignore"):
            lse[head, first:last] = (top + np.log(total))[:, 0]
        total[total == 0] = 1
        out[head, first:last] = p @ self.v[head, : p.shape[1]] / total

    def probabilities(self, head: int, first: int, last: int, lse: np.ndarray) -> np.ndarray:
        """Those of some rows, from their `lse`: 0 where a row is excluded as a whole."""
        p = self.scores(head, first, last)
        known = lse[head, first:last, None]
        p -= np.where(known == _MINUS_INF, np.inf, known).astype(p.dtype, copy=False)
        np.exp(p, out=p)
        return p

    def scores_grad(self, head: int, p: np.ndarray, g: np.ndarray, delta: np.ndarray) -> np.ndarray:
        """p (g v^T - delta), for some rows' p, g and delta."""
        ds: np.ndarray = g @ self.v[head, : p.shape[1]].T
        ds -= delta[:, None]
        ds *= p
        return ds

    def attend_grad(
        self, head: int, g: np.ndarray, lse: np.ndarray, delta: np.ndarray,
        dq: np.ndarray, dk: np.ndarray, dv: np.ndarray,
    ) -> None:  # fmt: skip
        """One head's gradients; those of k and v are summed in the order of the blocks."""
        wide_k, wide_v = np.zeros_like(self.k[head]), np.zeros_like(self.v[head])
        for first, last in self.blocks():
            rows = g[head, first:last]
            p = self.probabilities(head, first, last, lse)
            keys = p.shape[1]
            wide_v[:keys] += p.T @ rows
            ds = self.scores_grad(head, p, rows, delta[head, first:last])
            ds *= self.scale
            dq[head, first:last] = ds @ self.k[head, :keys]
            wide_k[:keys] += ds.T @ self.q[head, first:last]
        dk[head], dv[head] = wide_k, wide_v


Arrays = tuple[np.ndarray, ...]


def attention(attrs: Mapping[str, Any], q: Any, k: Any, v: Any, mask: Any = None) -> Arrays:
    """(result [..., n, e], lse [..., n]); see `graphc.ir.ops.attention`."""
    heads = Heads(attrs, q, k, v, mask)
    out = np.empty((len(heads.places), q.shape[-2], v.shape[-1]), heads.q.dtype)
    lse = np.empty(out.shape[:2], out.dtype)
    for head in range(len(heads.places)):
        for first, last in heads.blocks():
            heads.attend(head, first, last, out, lse)
    shape = (*q.shape[:-1], v.shape[-1])
    return out.reshape(shape).astype(q.dtype, copy=False), lse.reshape(shape[:-1])


def attention_grad(
    attrs: Mapping[str, Any], q: Any, k: Any, v: Any, g: Any, lse: Any, delta: Any, mask: Any = None
) -> Arrays:
    """The gradients of q, k and v."""
    heads = Heads(attrs, q, k, v, mask)
    grads = tuple(np.empty(x.shape, x.dtype) for x in (heads.q, heads.k, heads.v))
    count = len(heads.places)
    rows = heads.flat(g), lse.reshape(count, heads.rows), delta.reshape(count, heads.rows)
    for head in range(count):
        heads.attend_grad(head, *rows, *grads)
    pairs = zip(grads, (q, k, v), strict=True)
    return tuple(d.reshape(x.shape).astype(x.dtype, copy=False) for d, x in pairs)


__all__ = ["Heads", "attention", "attention_grad", "scale_of"]

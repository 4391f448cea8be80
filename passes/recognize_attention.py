"""recognize_attention: attention written as products becomes the op that keeps no matrix of scores.

    matmul(softmax(matmul(q, k^T) * scale + mask), v)
        -> scaled_dot_product_attention(q, k, v, mask) {scale}

    attention that is small, or that the target's routine does not take  ->  its products

The products are matmuls or contractions (einsum), whose leading dims come in any order; a mask is
added, or `where(mask, scores, -inf)`; a constant one that is a triangle becomes `causal`. To
rounding; and 0, where softmax gives NaN because a row excludes every key. Refused, with the reason
in `ctx.notes["rules"]`, where the scores or the probabilities have other readers (a hand-written
gradient, a fetch), where products are as quick (small matrices, few rows), where the target has
no such routine, and where the mask alone is what would have to be kept in memory. Runs while
softmax is one op. Cost: one walk; a constant mask is read.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from graphc.ir.computation import Computation, clone, rewrite
from graphc.ir.dtypes import bool_
from graphc.ir.graph import CONSTANT, Node, Value
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops.attention import attention_gradient, scaled_dot_product_attention
from graphc.ir.ops.contract import parse_spec
from graphc.ir.table import Kind
from graphc.ir.types import normalize_axis
from graphc.passes.context import Context
from graphc.passes.rules import Refused, RuleRecord, scalar_of
from graphc.passes.target import AttentionRoutine

RULE: Final = "attention_of_products"
_SUMS: Final = 4  # which input of the gradient the rows' sums are
_FEWEST_ROWS: Final = 32  # below, packing the keys takes longer than multiplying them


def recognize_attention(computation: Computation, ctx: Context) -> Computation:
    """Replace what is attention; the same object where nothing is."""
    routine = ctx.target.attention
    if routine is None:
        return computation
    if any(map(_is_softmax, computation.nodes)):
        record = ctx.notes.setdefault("rules", {}).setdefault(RULE, RuleRecord())
        computation = rewrite(computation, _Recognition(computation, routine, record).visit)
    gradients = [n for n in computation.nodes if n.op is attention_gradient]
    trained = {*gradients, *(n.inputs[_SUMS].node for n in gradients)}
    return rewrite(computation, functools.partial(_as_products, routine, trained))


def _as_products(
    routine: AttentionRoutine, trained: Set[Node], node: Node, inputs: tuple[Value, ...]
) -> Sequence[Value] | None:
    if node.op not in (scaled_dot_product_attention, attention_gradient):
        return None
    q, _, v = node.inputs[:3]
    (rows, depth), (keys, features) = (x.type.static_shape[-2:] for x in (q, v))
    least = routine.trains if node in trained else routine.keeps
    large = rows * keys >= least and (rows >= _FEWEST_ROWS or not least)
    if large and q.dtype in routine.taken and max(depth, features) <= routine.most_features:
        return None
    assert node.op.decompose is not None
    result = node.op.decompose(clone(node, inputs))
    return [result] if isinstance(result, Value) else result


def _is_softmax(node: Node) -> bool:
    return node.op.name == "softmax"


@dataclass(frozen=True, slots=True)
class _Product:
    """A sum of products over shared labels: a[left] * b[right] -> [out]."""

    a: Value
    b: Value
    left: str
    right: str
    out: str

    @property
    def turned(self) -> _Product:
        """The same with the factors exchanged."""
        return _Product(self.b, self.a, self.right, self.left, self.out)


def _product_of(node: Node) -> _Product | None:
    """The matmul or contraction as labels; None for others, and where dims are broadcast."""
    if node.kind is Kind.CONTRACT:
        a, b = node.inputs
        return _Product(a, b, *parse_spec(node.attrs["spec"]))
    if node.op.name != "matmul":
        return None
    a, b = node.inputs
    if a.type.static_shape[:-2] != b.type.static_shape[:-2]:
        return None
    lead = "abcdefghij"[: len(a.type.static_shape) - 2]
    left = "km" if node.attrs["transpose_a"] else "mk"
    right = "nk" if node.attrs["transpose_b"] else "kn"
    return _Product(a, b, lead + left, lead + right, lead + "mn")


@dataclass(frozen=True, slots=True)
class _Scores:
    """scale * (q k^T) + mask: [batch, rows, keys] by label."""

    product: _Product  # q first
    batch: str
    rows: str
    keys: str
    scale: float = 1.0
    mask: Value | None = None
    inverted: bool = False  # True in the mask excludes
    causal: bool = False


@dataclass(frozen=True, slots=True)
class _Attention:
    """What was found: q k^T, and v with its labels in those of the scores."""

    scores: _Scores
    v: Value
    labels: str  # of v
    features: str
    out: str


class _Recognition:
    """One walk; `now` has what became of the values of the computation as it was."""

    def __init__(
        self, computation: Computation, routine: AttentionRoutine, record: RuleRecord
    ) -> None:
        self.routine = routine
        self.record = record
        self.now: dict[Value, Value] = {}
        self.uses = Counter(v for n in computation.nodes for v in n.inputs)
        self.uses.update(computation.roots)

    def visit(self, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        """Offered every node; see `rewrite`."""
        self.now.update(zip(node.inputs, inputs, strict=True))
        found = self.match(node)
        if found is None:
            return None
        self.record.tried += 1
        if isinstance(found, Refused):
            self.record.declined[found.reason] += 1
            return None
        self.record.fired += 1
        return [self.built(found)]

    # -- before

    def match(self, node: Node) -> _Attention | Refused | None:
        """What a product with the probabilities is, if it is attention."""
        outer = _product_of(node)
        if outer is not None and not _is_softmax(outer.a.node):
            outer = outer.turned
        if outer is None or not _is_softmax(outer.a.node):
            return None
        softmax = outer.a.node
        rank = len(softmax.types[0].static_shape)
        if normalize_axis(softmax.attrs["axis"], rank) != rank - 1:
            return Refused("softmax along another axis than the last")
        if self.uses[outer.a] > 1:
            return Refused("the probabilities are read elsewhere")
        scores = self.scores(softmax.inputs[0])
        if not isinstance(scores, _Scores):
            return scores
        names = dict(zip(outer.left, scores.batch + scores.rows + scores.keys, strict=True))
        spare = iter(c for c in "zyxwvutsr" if c not in scores.batch + scores.rows + scores.keys)
        for label in outer.right:
            names[label] = names[label] if label in names else next(spare)
        labels, out = ("".join(names[c] for c in part) for part in (outer.right, outer.out))
        features = [c for c in labels if c not in scores.batch + scores.keys]
        wanted = {*scores.batch, scores.rows, *features}
        if len(features) != 1 or scores.rows in features or {*out} != wanted or (
            {*labels} != {*scores.batch, scores.keys, *features}
        ):  # fmt: skip
            return Refused("other dims than those of attention")
        return self.refusal(scores) or _Attention(scores, outer.b, labels, features[0], out)

    def refusal(self, scores: _Scores) -> Refused | None:
        """Why attention that is there is left as it is."""
        q, k = scores.product.a, scores.product.b
        rows = q.type.static_shape[scores.product.left.index(scores.rows)]
        keys = k.type.static_shape[scores.product.right.index(scores.keys)]
        if q.dtype not in self.routine.dtypes:
            return Refused(f"no routine for {q.dtype}")
        if rows * keys < self.routine.replaces or rows < _FEWEST_ROWS:
            return Refused("products are as quick at this size")
        mask, size = scores.mask, rows * keys * math.prod(_sizes(scores.product, scores.batch))
        if mask is not None and mask.node.kind is not Kind.SOURCE and 2 * mask.type.size > size:
            return Refused("the mask would be kept in memory instead of the scores")
        return None

    def scores(self, value: Value) -> _Scores | Refused | None:
        """The product under scale and mask, from the softmax's input inwards."""
        node, product = value.node, _product_of(value.node)
        steps: Mapping[str, Callable[[Node], _Scores | Refused | None]] = {
            "multiply": self.scaled, "truediv": self.scaled, "add": self.added, "where": self.kept,
        }  # fmt: skip
        if product is not None:
            found: _Scores | Refused | None = _plain_scores(product)
        else:
            found = steps[node.op.name](node) if node.op.name in steps else None
        if isinstance(found, _Scores) and self.uses[value] > 1:
            return Refused("the scores are read elsewhere")
        return found

    def scaled(self, node: Node) -> _Scores | Refused | None:
        """scores * c, c * scores, scores / c"""
        for i in (0, 1) if node.op.name == "multiply" else (1,):
            factor = scalar_of(node.inputs[i])
            if factor is None:
                continue
            inner = self.scores(node.inputs[1 - i])
            if not isinstance(inner, _Scores):
                return inner
            number = float(factor) if node.op.name == "multiply" else 1.0 / float(factor or np.nan)
            added = inner.mask is not None and inner.mask.dtype is not bool_
            if not math.isfinite(number) or number <= 0 or added:
                return Refused("a mask is scaled, or the scale is not positive")
            return replace(inner, scale=inner.scale * number)
        return None

    def added(self, node: Node) -> _Scores | Refused | None:
        """scores + mask, mask + scores"""
        for i in (0, 1):
            if node.inputs[i].type != node.types[0]:
                continue
            inner = self.scores(node.inputs[i])
            if isinstance(inner, _Scores):
                return _masked(inner, node.inputs[1 - i], inverted=False)
            if isinstance(inner, Refused):
                return inner
        return None

    def kept(self, node: Node) -> _Scores | Refused | None:
        """where(mask, scores, -inf), where(mask, -inf, scores)"""
        mask, *branches = node.inputs
        for i in (0, 1):
            other = scalar_of(branches[1 - i])
            if other is None or branches[i].type != node.types[0]:
                continue
            inner = self.scores(branches[i])
            if not isinstance(inner, _Scores):
                return inner
            if other != -np.inf:
                return Refused("what is excluded has a finite score")
            return _masked(inner, mask, inverted=i == 1)
        return None

    # -- after

    def built(self, found: _Attention) -> Value:
        scores = found.scores
        product, batch, rows = scores.product, scores.batch, scores.rows
        depth = next(c for c in product.left if c not in batch + rows)
        q = self.ordered(product.a, product.left, batch + rows + depth)
        k = self.ordered(product.b, product.right, batch + scores.keys + depth)
        v = self.ordered(found.v, found.labels, batch + scores.keys + found.features)
        masks = []
        if scores.mask is not None and not scores.causal:
            mask = self.now.get(scores.mask, scores.mask)
            masks = [pw.logical_not(mask) if scores.inverted else mask]
        result = scaled_dot_product_attention(
            q, k, v, *masks, scale=scores.scale, causal=scores.causal
        )
        return _transposed(result, batch + rows + found.features, found.out)

    def ordered(self, value: Value, labels: str, wanted: str) -> Value:
        return _transposed(self.now.get(value, value), labels, wanted)


def _transposed(value: Value, labels: str, wanted: str) -> Value:
    perm = tuple(labels.index(c) for c in wanted)
    return value if labels == wanted else mv.transpose(value, perm=perm)


def _sizes(product: _Product, labels: str) -> list[int]:
    return [product.a.type.static_shape[product.left.index(c)] for c in labels]


def _plain_scores(product: _Product) -> _Scores | Refused:
    """q k^T over [batch, rows, keys]: each factor has the batch, its own dim, and the depth."""
    if len(product.out) < 2:
        return Refused("other dims than those of attention")
    batch, rows, keys = product.out[:-2], product.out[-2], product.out[-1]
    if keys in product.left:
        product = product.turned
    q, k = {*product.left} - {*batch}, {*product.right} - {*batch}
    depth = q & k
    whole = {*batch} <= {*product.left} & {*product.right}
    if not whole or len(depth) != 1 or q - depth != {rows} or k - depth != {keys}:
        return Refused("other dims than those of attention")
    return _Scores(product, batch, rows, keys)


def _masked(scores: _Scores, mask: Value, inverted: bool) -> _Scores | Refused:
    if scores.mask is not None:
        return Refused("more masks than one")
    product = scores.product
    rows = product.a.type.static_shape[product.left.index(scores.rows)]
    keys = product.b.type.static_shape[product.right.index(scores.keys)]
    causal = mask.node.op is CONSTANT and _is_triangle(
        mask.node.attrs["value"].array, rows, keys, inverted
    )
    return replace(scores, mask=mask, inverted=inverted, causal=causal)


def _is_triangle(mask: np.ndarray, rows: int, keys: int, inverted: bool) -> bool:
    """Whether row i takes the keys 0..i: a bool mask, or numbers that are 0 and -inf."""
    if mask.size != rows * keys or mask.shape[-2:] != (rows, keys):
        return False
    lower = np.tri(rows, keys, dtype=np.bool_)
    matrix = mask.reshape(rows, keys)
    if mask.dtype == np.bool_:
        return bool((matrix != lower).all() if inverted else (matrix == lower).all())
    return bool((matrix == np.where(lower, 0, -np.inf)).all())


__all__ = ["RULE", "recognize_attention"]

"""Losses: composites of logits and labels, one number per example.

    softmax_cross_entropy(labels, logits)         -sum(labels * log_softmax(logits))
    sparse_softmax_cross_entropy(labels, logits)  the same for labels that are class numbers

They are phrased so that a loss and its gradient fuse into one kernel over the rows.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from graphc.ir.dtypes import bool_, int32, int64
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Value, convert
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import reduce as red
from graphc.ir.ops import source
from graphc.ir.ops.nn import composite, log_softmax, softmax, softplus, zero_like
from graphc.ir.table import REQUIRED, Attrs, NoGradient, Sample, Types
from graphc.ir.types import TensorType, broadcast_shapes, merge_shapes

# -- over classes


def _cross_entropy_type(types: Types, _: Attrs) -> TensorType:
    pw.check_category(types, "float")
    dtype = pw.check_same_dtype(types)
    shape = merge_shapes(types[0].shape, types[1].shape, "labels and logits need one shape")
    if shape == ():
        raise ShapeError("softmax cross entropy needs a dim of classes, got scalars")
    return TensorType(dtype, None if shape is None else shape[:-1])


def _cross_entropy(labels: Value, logits: Value) -> Value:
    return -red.reduce_sum(labels * log_softmax(logits, axis=-1), axis=(-1,))


def _cross_entropy_grad(g: Value, _: Value, labels: Value, logits: Value) -> tuple[Value, Value]:
    wide = mv.expand_dims(g, axis=-1)
    total = red.reduce_sum(labels, axis=(-1,), keepdims=True)
    d_logits = wide * (softmax(logits, axis=-1) * total - labels)
    return -(wide * log_softmax(logits, axis=-1)), d_logits


def _cross_entropy_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(19)
    for shape in ((3, 5), (2, 3, 4), (6,), (0, 3), (4, 1)):
        labels = rng.dirichlet(np.ones(shape[-1]), shape[:-1]).astype(np.float32)
        yield Sample((labels, rng.standard_normal(shape).astype(np.float32)))
    far = np.array([[1e4, -1e4, 0], [np.nan, 0, 1], [-200, 100, 90]], np.float32)
    yield Sample((np.full((3, 3), 1 / 3, np.float32), far), differentiable=(), name="special")


softmax_cross_entropy = composite(
    "softmax_cross_entropy", _cross_entropy, arity=2, grad=_cross_entropy_grad,
    type_rule=_cross_entropy_type, samples=_cross_entropy_samples,
    doc="-sum(labels * log_softmax(logits)) along the last dim; labels, logits: [..., classes]",
)  # fmt: skip


def _check_classes(types: Types, what: str) -> TensorType:
    """The logits' type without the classes; labels must be integers of that shape."""
    labels, logits = types[:2]
    pw.check_category((labels,), "int uint")
    pw.check_category((logits,), "float")
    if logits.shape == ():
        raise ShapeError(f"{what} needs a dim of classes, got a scalar")
    rows = None if logits.shape is None else logits.shape[:-1]
    shape = merge_shapes(labels.shape, rows, f"{what} needs one label per row of the logits")
    return TensorType(logits.dtype, shape)


def _targets_type(types: Types, _: Attrs) -> TensorType:
    _check_classes(types, "class_targets")
    return types[1]


def _class_numbers(labels: Value) -> Value:
    # wide enough that no class number wraps around
    small = labels.dtype.bits < 32 or labels.dtype is int32
    return labels if labels.dtype is int64 else pw.cast(labels, dtype=int32 if small else int64)


def _is_class(number: Value, count: int) -> Value:
    return pw.logical_and(number >= 0, number < count)


def _class_hits(number: Value, shape: tuple[int, ...]) -> Value:
    """Where, in [..., classes], the class is the row's number."""
    classes = source.iota(shape=shape, axis=len(shape) - 1, dtype=number.dtype)
    return pw.equal(classes, mv.expand_dims(number, axis=-1))


def _class_targets(labels: Value, logits: Value) -> Value:
    shape = logits.type.static_shape
    number = _class_numbers(labels)
    one_hot = pw.cast(_class_hits(number, shape), dtype=logits.dtype)
    inside = mv.expand_dims(_is_class(number, shape[-1]), axis=-1)
    return pw.where(inside, one_hot, convert(float("nan"), dtype=logits.dtype))


def _sparse_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(37)
    for shape, dtype in (
        ((3, 5), "int32"), ((2, 3, 4), "int64"), ((6,), "int32"), ((0, 3), "int64"),
    ):  # fmt: skip
        labels = np.asarray(rng.integers(0, shape[-1], shape[:-1]), dtype)
        yield Sample((labels, rng.standard_normal(shape).astype(np.float32)))
    outside = np.array([-1, 0, 3, 2], np.int32)
    logits = rng.standard_normal((4, 3)).astype(np.float32)
    yield Sample((outside, logits), differentiable=(), name="outside")


class_targets = composite(
    "class_targets", _class_targets, arity=2,
    grad=NoGradient("labels are integers, and of the logits only the shape counts", zero=True),
    type_rule=_targets_type, samples=_sparse_samples,
    doc="One-hot rows of labels in the logits' shape; all NaN where a label is no class.",
)  # fmt: skip


def _sparse_cross_entropy(labels: Value, logits: Value) -> Value:
    targets = class_targets(labels, logits)
    # selected, not multiplied: another class's logit may be -inf
    chosen = pw.where(
        pw.equal(targets, zero_like(targets)),
        zero_like(logits),
        targets * log_softmax(logits, axis=-1),
    )
    return -red.reduce_sum(chosen, axis=(-1,))


def _sparse_grad(g: Value, _: Value, labels: Value, logits: Value) -> tuple[None, Value]:
    wide = mv.expand_dims(g, axis=-1)
    return None, wide * (softmax(logits, axis=-1) - class_targets(labels, logits))


sparse_softmax_cross_entropy = composite(
    "sparse_softmax_cross_entropy", _sparse_cross_entropy, arity=2, grad=_sparse_grad,
    type_rule=lambda types, _: _check_classes(types, "sparse softmax cross entropy"),
    samples=_sparse_samples,
    doc="""-log_softmax(logits) at the label: labels [...], integers; logits [..., classes].

    A label that is no class gives NaN, in the loss and in its gradient, as TensorFlow on GPUs.""",
)  # fmt: skip


def _top_k_type(types: Types, attrs: Attrs) -> TensorType:
    predictions, targets = types
    k = attrs["k"]
    if isinstance(k, bool) or not isinstance(k, int):
        raise AttributeValueError(f"in_top_k's k is an integer, got {k!r}")
    if predictions.rank not in (2, None):
        raise ShapeError(f"in_top_k needs predictions [batch, classes], got {predictions}")
    return _check_classes((targets, predictions), "in_top_k").with_dtype(bool_)


def _in_top_k(predictions: Value, targets: Value, k: int) -> Value:
    shape = predictions.type.static_shape
    number = _class_numbers(targets)
    hits = _class_hits(number, shape)
    own = red.reduce_sum(
        pw.where(hits, predictions, zero_like(predictions)), axis=(-1,), keepdims=True
    )
    better = red.reduce_sum(pw.cast(predictions > own, dtype=int32), axis=(-1,))
    known = pw.logical_and(
        red.reduce_all(pw.is_finite(predictions), axis=(-1,)), _is_class(number, shape[-1])
    )
    return pw.logical_and(better < k, known)


def _top_k_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(41)
    ties = rng.integers(0, 4, (9, 5)).astype(np.float32)
    ties[0, 1], ties[1, 2] = np.nan, np.inf
    targets = np.array([0, 1, 2, 3, 4, 0, 1, -1, 5], np.int32)
    for k in (0, 1, 3, 9):
        yield Sample((ties, targets), {"k": k})
    yield Sample((ties[:0], targets[:0]), {"k": 1})


in_top_k = composite(
    "in_top_k", _in_top_k, arity=2, attrs={"k": REQUIRED}, type_rule=_top_k_type,
    grad=NoGradient("it gives truth values", zero=True), samples=_top_k_samples,
    doc="""Whether fewer than k classes are better than the target: predictions [batch, classes].

    Ties count as in. A target that is no class, or a row with NaN or inf, gives False.""",
)  # fmt: skip

# -- elementwise


def _pair_type(types: Types, _: Attrs) -> TensorType:
    pw.check_category(types, "float")
    dtype = pw.check_same_dtype(types)
    shape = merge_shapes(types[0].shape, types[1].shape, "labels and logits need one shape")
    if len(types) == 3:  # the weight is broadcast over the two
        both = broadcast_shapes([shape, types[2].shape])
        merge_shapes(shape, both, f"a weight {types[2]} must be broadcast to the logits")
    return TensorType(dtype, shape)


def _far_pairs(arity: int) -> Iterable[Sample]:
    rng = np.random.default_rng(43)
    for shape in ((3, 5), (), (0, 3)):
        labels = np.asarray(rng.uniform(0, 1, shape), np.float32)
        logits = np.asarray(rng.uniform(-3, 3, shape), np.float32)
        yield Sample((labels, logits, np.asarray(2.5, np.float32))[:arity])
    far = np.array([-1e4, -90, 90, 1e4, np.nan, np.inf], np.float32)
    half = np.full(6, 0.5, np.float32)
    yield Sample((half, far, half)[:arity], differentiable=(), name="far")


sigmoid_cross_entropy = composite(
    "sigmoid_cross_entropy",
    # max(x, 0) - x z + log(1 + exp(-|x|)), so that nothing overflows
    lambda labels, logits: softplus(logits) - logits * labels,
    arity=2,
    grad=lambda g, y, labels, logits: (-(g * logits), g * (pw.sigmoid(logits) - labels)),
    type_rule=_pair_type,
    samples=lambda: _far_pairs(2),
    doc="-z log(sigmoid(x)) - (1 - z) log(1 - sigmoid(x)) for labels z and logits x",
)


def _weighted_grad(
    g: Value, _: Value, labels: Value, logits: Value, pos_weight: Value
) -> tuple[Value, Value, Value]:
    tail = softplus(-logits)
    weight = labels * (pos_weight - 1.0) + 1.0
    return (
        g * (tail * (pos_weight - 1.0) - logits),
        g * (1.0 - labels - weight * pw.sigmoid(-logits)),
        pw.sum_to(g * labels * tail, pos_weight),
    )


weighted_cross_entropy = composite(
    "weighted_cross_entropy",
    lambda labels, logits, pos_weight: (
        (1.0 - labels) * logits + (labels * (pos_weight - 1.0) + 1.0) * softplus(-logits)
    ),
    arity=3,
    grad=_weighted_grad,
    type_rule=_pair_type,
    samples=lambda: _far_pairs(3),
    doc="sigmoid_cross_entropy with the term of positive labels multiplied by the third input",
)


def _huber(labels: Value, predictions: Value, delta: float) -> Value:
    size = pw.abs_(predictions - labels)
    near = pw.minimum(size, convert(delta, like=size.dtype))
    # delta (|e| - delta / 2) where |e| > delta, else e^2 / 2
    return near * (size - near * 0.5)


def _huber_grad(
    g: Value, _: Value, labels: Value, predictions: Value, delta: float
) -> tuple[Value, Value]:
    error = predictions - labels
    low, high = (convert(d, like=error.dtype) for d in (-delta, delta))
    slope = g * pw.minimum(pw.maximum(error, low), high)
    return -slope, slope


huber = composite(
    "huber", _huber, arity=2, attrs={"delta": 1.0}, grad=_huber_grad, type_rule=_pair_type,
    samples=lambda: _far_pairs(2),
    doc="e^2 / 2 for |e| <= delta, else delta |e| - delta^2 / 2; e = predictions - labels",
)  # fmt: skip

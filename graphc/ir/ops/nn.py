"""Ops of neural networks: all of them composites, which the general machinery fuses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from graphc.ir.errors import ShapeError
from graphc.ir.graph import Node, Value, convert
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import reduce as red
from graphc.ir.table import Attrs, Kind, Op, Sample, Types, register
from graphc.ir.types import TensorType, merge_shapes


def composite(
    name: str,
    decompose: Callable[..., Any],
    *,
    arity: int = 1,
    attrs: Attrs | None = None,
    grad: Callable[..., Any],
    type_rule: Any = None,
    samples: Callable[[], Iterable[Sample]] | None = None,
    doc: str = "",
) -> Op:
    """Enter a composite: `decompose(*inputs, **attrs)`; `grad(g, y, *inputs, **attrs)`."""

    def default_type(types: Types, _: Attrs) -> TensorType:
        pw.check_category(types, "float")
        pw.check_same_dtype(types)
        return types[0]

    def grad_rule(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
        result = grad(grads[0], node.outputs[0], *node.inputs, **node.attrs)
        return result if isinstance(result, tuple) else (result,)

    return register(
        Op(
            name,
            Kind.COMPOSITE,
            type_rule or default_type,
            attrs=attrs or {},
            grad=grad_rule,
            decompose=lambda node: decompose(*node.inputs, **node.attrs),
            samples=samples or (lambda: pw.default_samples(arity, "float")),
            doc=doc,
        )
    )


relu = composite(
    "relu",
    lambda x: pw.maximum(x, convert(0, like=x.dtype)),
    grad=lambda g, y, x: pw.where(y > 0, g, convert(0, like=g.dtype)),
    doc="max(x, 0)",
)


def _softmax(x: Value, axis: int) -> Value:
    shifted = pw.exp(x - red.reduce_max(x, axis=(axis,), keepdims=True))
    return shifted / red.reduce_sum(shifted, axis=(axis,), keepdims=True)


def _softmax_grad(g: Value, y: Value, x: Value, axis: int) -> Value:
    return y * (g - red.reduce_sum(g * y, axis=(axis,), keepdims=True))


def _row_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(17)
    for shape in ((3, 5), (1,), (2, 3, 7), (4, 0), (0, 3)):
        yield Sample((rng.standard_normal(shape).astype(np.float32) * 3,), {"axis": -1})
    yield Sample((rng.standard_normal((3, 4, 2)).astype(np.float32),), {"axis": 1})
    yield Sample((np.array([[1, np.nan], [1e4, -1e4]], np.float32),), {}, (), "special")


softmax = composite(
    "softmax", _softmax, attrs={"axis": -1}, grad=_softmax_grad, samples=_row_samples,
    doc="exp(x - max) / sum(exp(x - max)) along an axis",
)  # fmt: skip


def _log_softmax(x: Value, axis: int) -> Value:
    shifted = x - red.reduce_max(x, axis=(axis,), keepdims=True)
    return shifted - pw.log(red.reduce_sum(pw.exp(shifted), axis=(axis,), keepdims=True))


def _log_softmax_grad(g: Value, y: Value, x: Value, axis: int) -> Value:
    return g - pw.exp(y) * red.reduce_sum(g, axis=(axis,), keepdims=True)


log_softmax = composite(
    "log_softmax", _log_softmax, attrs={"axis": -1}, grad=_log_softmax_grad, samples=_row_samples,
    doc="log(softmax(x)) along an axis, without overflow",
)  # fmt: skip


def _cross_entropy_type(types: Types, _: Attrs) -> TensorType:
    pw.check_category(types, "float")
    dtype = pw.check_same_dtype(types)
    shape = merge_shapes(types[0].shape, types[1].shape, "labels and logits need one shape")
    if shape == ():
        raise ShapeError("softmax cross entropy needs a dim of classes, got scalars")
    return TensorType(dtype, None if shape is None else shape[:-1])


def _cross_entropy(labels: Value, logits: Value) -> Value:
    return -red.reduce_sum(labels * log_softmax(logits, axis=-1), axis=(-1,))


def _cross_entropy_grad(
    g: Value, _: Value, labels: Value, logits: Value
) -> tuple[Value, Value]:
    from graphc.ir.ops.movement import expand_dims

    wide = expand_dims(g, axis=-1)
    total = red.reduce_sum(labels, axis=(-1,), keepdims=True)
    d_logits = wide * (softmax(logits, axis=-1) * total - labels)
    return -(wide * log_softmax(logits, axis=-1)), d_logits


def _cross_entropy_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(19)
    for shape in ((3, 5), (2, 3, 4), (6,)):
        labels = rng.dirichlet(np.ones(shape[-1]), shape[:-1]).astype(np.float32)
        yield Sample((labels, rng.standard_normal(shape).astype(np.float32)))


softmax_cross_entropy = composite(
    "softmax_cross_entropy", _cross_entropy, arity=2, grad=_cross_entropy_grad,
    type_rule=_cross_entropy_type, samples=_cross_entropy_samples,
    doc="-sum(labels * log_softmax(logits)) along the last dim; labels, logits: [..., classes]",
)  # fmt: skip

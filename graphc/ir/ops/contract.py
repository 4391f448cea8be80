"""Contractions: sums of products over shared labels, in the letters of einsum.

`contract` is the one primitive; matmul is a composite of it. Its gradient is a contraction
again. Inputs of 16-bit floats accumulate in float32, integers in their own type.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

import numpy as np

from graphc.ir.dtypes import as_dtype
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Node, Value
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops.movement import reshape_to, transpose
from graphc.ir.table import OPS, REQUIRED, Attrs, Kind, Op, Sample, Types, register
from graphc.ir.types import Dim, TensorType, broadcast_shapes, format_shape, merge_dims


@functools.lru_cache(maxsize=256)
def parse_spec(spec: str) -> tuple[str, str, str]:
    """`"ab,bc->ac"` as its three label strings; each label once per string."""
    left, arrow, out = spec.partition("->")
    a, comma, b = left.partition(",")
    distinct = all(len(set(part)) == len(part) for part in (a, b, out))
    if not arrow or not comma or not distinct or not set(out) <= set(a) | set(b):
        raise AttributeValueError(f"{spec!r} is no contraction of two inputs like 'ab,bc->ac'")
    return a, b, out


def _contract_type(types: Types, attrs: Attrs) -> TensorType:
    return _contracted(types, attrs["spec"])


@functools.lru_cache(maxsize=256)  # asked again when the node is put in place, and verified
def _contracted(types: Types, spec: str) -> TensorType:
    dtype = pw.check_same_dtype(types)
    pw.check_category(types, pw.NUMERIC)
    labels = parse_spec(spec)
    sizes: dict[str, Dim] = {}
    for part, t in zip(labels, types, strict=False):
        if t.shape is None or len(t.shape) != len(part):
            raise ShapeError(f"contract {spec!r} cannot take {t} as {part!r}")
        for label, dim in zip(part, t.shape, strict=True):
            text = f"contract {spec!r}, label {label!r}"
            sizes[label] = merge_dims(sizes[label], dim, text) if label in sizes else dim
    return TensorType(dtype, tuple(sizes[label] for label in labels[2]))


def _contract_numpy(attrs: Attrs, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    wide = as_dtype(a.dtype).compute.numpy
    result = np.einsum(attrs["spec"], a.astype(wide), b.astype(wide), optimize=True)
    return np.asarray(result).astype(a.dtype, copy=False)


def _contract_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    # da[a] = sum over labels of g and b that a lacks; labels only in a are spread
    (x, y), g = node.inputs, grads[0]
    assert g is not None
    a, b, out = parse_spec(node.attrs["spec"])
    return [_one_grad(g, y, out, b, a, x), _one_grad(g, x, out, a, b, y)]


def _one_grad(g: Value, other: Value, out: str, labels: str, target: str, like: Value) -> Value:
    shared = "".join(c for c in target if c in out or c in labels)
    grad = contract(g, other, spec=f"{out},{labels}->{shared}")
    if shared == target:
        return grad
    axes = tuple(i for i, c in enumerate(target) if c not in shared)
    return OPS["broadcast_like"](OPS["expand_dims"](grad, axis=axes), like)


def _contract_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(11)
    for spec, a, b in (
        ("ab,bc->ac", (3, 5), (5, 4)), ("ba,bc->ac", (5, 3), (5, 4)), ("ab,cb->ac", (3, 5), (4, 5)),
        ("xab,xbc->xac", (2, 3, 5), (2, 5, 4)), ("a,a->", (7,), (7,)), ("a,b->ab", (3,), (2,)),
        ("ab,bc->ca", (3, 5), (5, 1)), ("ab,bc->ac", (3, 0), (0, 4)),
    ):  # fmt: skip
        arrays = (rng.standard_normal(s).astype(np.float32) for s in (a, b))
        yield Sample(tuple(arrays), {"spec": spec})


contract = register(
    Op(
        "contract",
        Kind.CONTRACT,
        _contract_type,
        numpy=_contract_numpy,
        attrs={"spec": REQUIRED},
        grad=_contract_grad,
        flops=lambda node: 2.0 * _spec_size(node),
        samples=_contract_samples,
        doc="The sum of products that an einsum of two inputs means.",
    )
)


def _spec_size(node: Node) -> float:
    a, b, _ = parse_spec(node.attrs["spec"])
    sizes: dict[str, int] = {}
    for labels, value in zip((a, b), node.inputs, strict=True):
        sizes.update(zip(labels, value.type.static_shape, strict=True))
    return float(np.prod([float(s) for s in sizes.values()]))


# -- matmul


def _matrix_dims(t: TensorType, swap: bool) -> tuple[Dim, Dim]:
    assert t.shape is not None
    rows, columns = t.shape[-2:]
    return (columns, rows) if swap else (rows, columns)


def _matmul_type(types: Types, attrs: Attrs) -> TensorType:
    dtype = pw.check_same_dtype(types)
    pw.check_category(types, pw.NUMERIC)
    a, b = types
    if a.shape is None or b.shape is None:
        return TensorType(dtype, None)
    if len(a.shape) < 2 or len(b.shape) < 2:
        raise ShapeError(f"matmul needs matrices (rank 2 or more), got {a} and {b}")
    (m, inner), (k, n) = (
        _matrix_dims(a, attrs["transpose_a"]),
        _matrix_dims(b, attrs["transpose_b"]),
    )
    if isinstance(inner, int) and isinstance(k, int) and inner != k:
        raise ShapeError(_mismatch(a, b, attrs))
    batch = broadcast_shapes([a.shape[:-2], b.shape[:-2]])
    assert batch is not None
    return TensorType(dtype, (*batch, m, n))


def _mismatch(a: TensorType, b: TensorType, attrs: Attrs) -> str:
    sides = ("-2" if attrs["transpose_a"] else "-1", "-1" if attrs["transpose_b"] else "-2")
    text = (
        f"matmul needs x.shape[{sides[0]}] == y.shape[{sides[1]}], got "
        f"x={format_shape(a.shape)} and y={format_shape(b.shape)}"
    )
    for name in ("transpose_b", "transpose_a"):
        flipped = {**attrs, name: not attrs[name]}
        inner = _matrix_dims(a, flipped["transpose_a"])[1]
        if inner == _matrix_dims(b, flipped["transpose_b"])[0]:
            return f"{text}. Did you mean {name}={flipped[name]}?"
    return text


def _matmul(node: Node) -> Value:
    a, b = node.inputs
    batch = node.types[0].static_shape[:-2]
    x, left = _batched(a, batch, "mk", node.attrs["transpose_a"])
    y, right = _batched(b, batch, "kn", node.attrs["transpose_b"])
    return contract(x, y, spec=f"{left},{right}->{_letters(len(batch))}mn")


def _letters(count: int) -> str:
    return "abcdefghij"[:count]


def _batched(x: Value, batch: Sequence[int], labels: str, swap: bool) -> tuple[Value, str]:
    """The operand with its own batch labels; a batch dim of size 1 that is spread is dropped."""
    shape = x.type.static_shape
    lead = len(batch) - (len(shape) - 2)
    kept = [i for i in range(lead, len(batch)) if shape[i - lead] == batch[i]]
    x = reshape_to(x, [*(batch[i] for i in kept), *shape[-2:]])
    return x, "".join(_letters(len(batch))[i] for i in kept) + (labels[::-1] if swap else labels)


def _matmul_numpy(attrs: Attrs, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    wide = as_dtype(a.dtype).compute.numpy
    x = np.swapaxes(a, -1, -2) if attrs["transpose_a"] else a
    y = np.swapaxes(b, -1, -2) if attrs["transpose_b"] else b
    return np.asarray(np.matmul(x.astype(wide), y.astype(wide))).astype(a.dtype, copy=False)


def _matmul_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    (a, b), g = node.inputs, grads[0]
    assert g is not None
    ta, tb = node.attrs["transpose_a"], node.attrs["transpose_b"]
    da = (
        matmul(b, g, transpose_a=tb, transpose_b=True) if ta
        else matmul(g, b, transpose_b=not tb)
    )  # fmt: skip
    db = (
        matmul(g, a, transpose_a=True, transpose_b=ta) if tb
        else matmul(a, g, transpose_a=not ta)
    )  # fmt: skip
    return [pw.sum_to(da, a), pw.sum_to(db, b)]


def _matmul_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(13)
    for a, b, attrs in (
        ((3, 5), (5, 4), {}), ((5, 3), (5, 4), {"transpose_a": True}),
        ((3, 5), (4, 5), {"transpose_b": True}),
        ((5, 3), (4, 5), {"transpose_a": True, "transpose_b": True}),
        ((2, 3, 5), (2, 5, 4), {}), ((2, 3, 5), (5, 4), {}), ((3, 1, 2, 5), (2, 5, 4), {}),
        ((1, 1), (1, 1), {}), ((0, 3), (3, 2), {}),
    ):  # fmt: skip
        arrays = (rng.standard_normal(s).astype(np.float32) for s in (a, b))
        yield Sample(tuple(arrays), attrs)


matmul = register(
    Op(
        "matmul",
        Kind.COMPOSITE,
        _matmul_type,
        numpy=_matmul_numpy,
        attrs={"transpose_a": False, "transpose_b": False},
        grad=_matmul_grad,
        decompose=_matmul,
        facts=frozenset({"costly"}),
        samples=_matmul_samples,
        doc="The matrix product of the last two dims; the dims before broadcast.",
    )
)

__all__ = ["contract", "matmul", "parse_spec", "transpose"]

"""Elements of a tensor replaced, or combined with others, at positions given as data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from graphc.ir.errors import AttributeValueError, DTypeError, GradientError, ShapeError
from graphc.ir.graph import Node, Value
from graphc.ir.table import OPS, Attrs, Kind, Op, Sample, Types, register
from graphc.ir.types import TensorType

_COMBINE = {"none": None, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _type(types: Types, attrs: Attrs) -> TensorType:
    x, positions, updates = types
    if attrs["reduction"] not in _COMBINE:
        raise AttributeValueError(f"reduction is one of {', '.join(_COMBINE)}, got {attrs}")
    if not positions.dtype.is_integer or x.dtype is not updates.dtype:
        raise DTypeError(f"scatter of {updates} at {positions} into {x}")
    if positions.shape is not None and len(positions.shape) != 2:
        raise ShapeError(f"positions are [count, depth], got {positions}")
    return x


def _numpy(attrs: Attrs, x: np.ndarray, positions: np.ndarray, updates: np.ndarray) -> np.ndarray:
    result = x.copy()
    sizes = np.array(x.shape[: positions.shape[1]], np.int64)
    inside = ((positions >= 0) & (positions < sizes)).all(axis=1)  # others are left out
    at = tuple(positions[inside].T)
    combine = _COMBINE[attrs["reduction"]]
    if combine is None:
        for index, update in zip(zip(*at, strict=True), updates[inside], strict=True):
            result[index] = update  # in order: of equal positions the last stays
    else:
        combine.at(result, at, updates[inside])
    return result


def _grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    # x keeps its gradient where nothing is written; an update has it where it was written
    (_, positions, updates), g = node.inputs, grads[0]
    assert g is not None
    at = OPS["gather_nd"](g, positions)
    if node.attrs["reduction"] == "add":
        return [g, None, at]
    if node.attrs["reduction"] != "none":
        raise GradientError(f"scatter with reduction {node.attrs['reduction']!r} has no gradient")
    zeros = OPS["zeros_like"](updates)
    left = scatter_update_nd(g, positions, zeros, reduction="none")
    return [left, None, at]


def _samples() -> Iterable[Sample]:
    rng = np.random.default_rng(29)
    x = rng.standard_normal((4, 3)).astype(np.float32)
    whole = np.array([[0, 1], [3, 2], [2, 0]])
    rows = np.array([[2], [0]])
    yield Sample((x, whole, rng.standard_normal(3).astype(np.float32)))
    yield Sample((x, rows, rng.standard_normal((2, 3)).astype(np.float32)), {"reduction": "add"})
    yield Sample((x, np.array([[1], [-1], [4]]), rng.standard_normal((3, 3)).astype(np.float32)))
    yield Sample((x, np.zeros((0, 2), np.int64), np.zeros(0, np.float32)), {"reduction": "add"})


scatter_update_nd: Op = register(
    Op(
        "scatter_update_nd", Kind.OPAQUE, _type, numpy=_numpy, attrs={"reduction": "none"},
        grad=_grad, samples=_samples,
        doc="x with updates [count, ...] at positions [count, depth]; those outside are left out.",
    )
)  # fmt: skip

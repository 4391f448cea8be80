"""Diagonals of matrices as movements (strided slices of the flat matrix, zeros between), bands."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from graphc.ir.dtypes import int32
from graphc.ir.errors import ShapeError
from graphc.ir.graph import Node, Value, convert
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import slicing, source
from graphc.ir.ops.movement import movement, sample_array
from graphc.ir.table import REQUIRED, Attrs, Kind, Op, Sample, Types, register
from graphc.ir.types import UNKNOWN, TensorType


def _diagonal_type(types: Types, _: Attrs) -> TensorType:
    shape = types[0].shape
    if shape is None:
        return types[0]
    if len(shape) < 2:
        raise ShapeError(f"a diagonal is taken of matrices, got {types[0]}")
    m, n = shape[-2:]
    size = min(m, n) if isinstance(m, int) and isinstance(n, int) else m if m == n else UNKNOWN
    return types[0].with_shape((*shape[:-2], size))


def _diagonal(node: Node) -> Value:
    x = node.inputs[0]
    *lead, m, n = x.type.static_shape
    flat = mv.reshape(x, shape=(math.prod(lead), m * n))
    size = (math.prod(lead), min(m, n))
    picked = slicing.slice_(flat, start=(0, 0), size=size, step=(1, n + 1))
    return mv.reshape(picked, shape=node.types[0].static_shape)


def _spread(d: Value, shape: Sequence[int]) -> Value:
    """The diagonal in a matrix of zeros of the shape."""
    *lead, m, n = shape
    k = min(m, n)
    rows = mv.reshape(d, shape=(math.prod(lead), k))
    high = m * n - ((k - 1) * (n + 1) + 1) if k else m * n
    flat = slicing.pad(rows, low=(0, 0), high=(0, high), interior=(0, n))
    return mv.reshape(flat, shape=tuple(shape))


def _diag_numpy(x: np.ndarray) -> np.ndarray:
    out = np.zeros((*x.shape, x.shape[-1]), x.dtype)
    at = np.arange(x.shape[-1])
    out[..., at, at] = x
    return out


def _diag_type(types: Types, _: Attrs) -> TensorType:
    shape = types[0].shape
    if shape == ():
        raise ShapeError("a scalar is no diagonal")
    return types[0] if shape is None else types[0].with_shape((*shape, shape[-1]))


diagonal: Op = movement(
    "diagonal", _diagonal_type,
    lambda attrs, x: np.diagonal(x, axis1=-2, axis2=-1).copy(), None,
    lambda g, x, attrs: [_spread(g, x[0].type.static_shape)], attrs={}, decompose=_diagonal,
    samples=lambda: [
        Sample((sample_array(4, 4),)), Sample((sample_array(2, 3, 5),)),
        Sample((sample_array(2, 5, 3),)), Sample((sample_array(1, 1),)),
        Sample((sample_array(0, 3),)),
    ],
    doc="The diagonals of the last two dims. [..., m, n] -> [..., min(m, n)]",
)  # fmt: skip
matrix_diag: Op = movement(
    "matrix_diag", _diag_type, lambda attrs, x: _diag_numpy(x), None,
    lambda g, x, attrs: [diagonal(g)], attrs={},
    decompose=lambda node: _spread(node.inputs[0], node.types[0].static_shape),
    samples=lambda: [
        Sample((sample_array(4),)), Sample((sample_array(2, 3),)), Sample((sample_array(2, 0),)),
    ],
    doc="Matrices of zeros with these diagonals. [..., n] -> [..., n, n]",
)  # fmt: skip


# -- bands


def _band_type(types: Types, attrs: Attrs) -> TensorType:
    if types[0].shape is not None and len(types[0].shape) < 2:
        raise ShapeError(f"a band is taken of matrices, got {types[0]}")
    return types[0]


def _band(node: Node) -> Value:
    x = node.inputs[0]
    shape = x.type.static_shape[-2:]
    rows, columns = (source.iota(shape=shape, axis=axis, dtype=int32) for axis in (0, 1))
    inside: Value | None = None
    for count, distance in ((node.attrs["lower"], rows - columns),
                            (node.attrs["upper"], columns - rows)):  # fmt: skip
        if count >= 0:
            near = distance <= count
            inside = near if inside is None else pw.logical_and(inside, near)
    return x if inside is None else pw.where(inside, x, convert(0, like=x.dtype))


def _band_samples() -> Iterable[Sample]:
    for shape in ((4, 4), (2, 3, 5), (0, 2)):
        for lower, upper in ((0, 0), (-1, 0), (0, -1), (1, 2), (-1, -1)):
            yield Sample((sample_array(*shape),), {"lower": lower, "upper": upper})


matrix_band: Op = register(
    Op(
        "matrix_band", Kind.COMPOSITE, _band_type, attrs={"lower": REQUIRED, "upper": REQUIRED},
        grad=lambda node, grads: [matrix_band(grads[0], **node.attrs)], decompose=_band,
        samples=_band_samples,
        doc="""The elements at most `lower` below and `upper` above the diagonal, zeros elsewhere.

        -1: all of that side.""",
    )
)  # fmt: skip

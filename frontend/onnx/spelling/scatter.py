"""Elements put or added at positions that are data.

ONNX does not say what a position out of range means. graphc leaves such elements out: they are
put into a place behind the last, which is cut off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from graphc.frontend.onnx.exporting import Exporting, exporter, unsaid
from graphc.frontend.onnx.spelling.arrays import inside
from graphc.ir.dtypes import DType
from graphc.ir.graph import Node
from graphc.ir.types import Shape


def _sizes(node: Node, shape: Shape | None) -> list[int]:
    if shape is None or not all(isinstance(d, int) for d in shape):
        raise unsaid(node, "with sizes that are unknown")
    return [int(d) for d in shape]


def _filled(e: Exporting, sizes: Sequence[int], value: int | float, dtype: DType) -> str:
    """A constant everywhere."""
    proto = e.onnx.numpy_helper.from_array(np.full(1, value, dtype.numpy))
    return e.emit("ConstantOfShape", [e.ints(sizes)], value=proto)


def _scatter_rows(e: Exporting, node: Node, g: str, size: int, tail: list[int], **how: str) -> str:
    """The slices g [positions..., tail...] combined in an array [size, tail...]."""
    start = _neutral(how["reduction"], node.types[0].dtype)
    wide = _filled(e, [size + 1, *tail], start, node.types[0].dtype)
    at = inside(e, e.name(node.inputs[1]), e.constant(np.int64(size)))
    at = e.emit("Unsqueeze", [at, e.ints([-1])])
    made = e.emit("ScatterND", [wide, at, g], **how)
    return e.emit("Slice", [made, e.ints([0]), e.ints([size]), e.ints([0])])


def _neutral(reduction: str, dtype: DType) -> int | float:
    """What combined with any finite number gives that number."""
    if reduction in ("add", "mul"):
        return 0 if reduction == "add" else 1
    info = np.iinfo(dtype.numpy) if dtype.is_integer else np.finfo(dtype.numpy)
    return info.max if reduction == "min" else info.min


@exporter("scatter_add")
def _scatter_add(e: Exporting, node: Node) -> None:
    axis, size, depth = node.attrs["axis"], node.attrs["size"], node.inputs[1].type.rank
    shape = _sizes(node, node.types[0].shape)
    assert depth is not None, "the shape of what it gives follows from that of the indices"
    rest = len(shape) - 1
    order = [*range(axis, axis + depth), *range(axis), *range(axis + depth, rest + depth)]
    first = e.emit("Transpose", [e.name(node.inputs[0])], perm=order)
    tail = shape[:axis] + shape[axis + 1 :]
    made = _scatter_rows(e, node, first, size, tail, reduction="add")
    back = [*range(1, axis + 1), 0, *range(axis + 1, rest + 1)]
    e.define(node, "Transpose", [made], perm=back)


_SEGMENTS: Final[Mapping[str, str]] = {
    "unsorted_segment_max": "max", "unsorted_segment_min": "min", "unsorted_segment_prod": "mul",
}  # fmt: skip


@exporter(*_SEGMENTS)
def _segments(e: Exporting, node: Node) -> None:
    size, *tail = _sizes(node, node.types[0].shape)
    how = _SEGMENTS[node.op.name]
    made = _scatter_rows(e, node, e.name(node.inputs[0]), size, tail, reduction=how)
    e.names[node.outputs[0]] = made


@exporter("scatter_update_nd")
def _scatter_update_nd(e: Exporting, node: Node) -> None:
    x, positions, updates = e.given(node)
    sizes = _sizes(node, node.types[0].shape)
    (depth,) = _sizes(node, (node.inputs[1].type.shape or (None, "?"))[1:])
    ends = [1] * depth + [0] * (len(sizes) - depth)
    wide = e.emit("Pad", [x, e.ints([0] * len(sizes) + ends)])
    reduction = node.attrs["reduction"]
    at = inside(e, positions, e.ints(sizes[:depth]))
    made = e.emit("ScatterND", [wide, at, updates],
                  reduction=None if reduction == "none" else reduction)  # fmt: skip
    axes = range(len(sizes))
    e.define(node, "Slice", [made, e.ints([0] * len(sizes)), e.ints(sizes), e.ints(axes)])


@exporter("take_pairs")
def _take_pairs(e: Exporting, node: Node) -> None:
    e.define(node, "GatherElements", e.given(node), axis=int(node.attrs["axis"]))


@exporter("put_pairs")
def _put_pairs(e: Exporting, node: Node) -> None:
    g, at, x = e.given(node)
    zero = e.onnx.numpy_helper.from_array(np.zeros(1, node.types[0].dtype.numpy))
    wide = e.emit("ConstantOfShape", [e.emit("Shape", [x])], value=zero)
    e.define(node, "ScatterElements", [wide, at, g], axis=int(node.attrs["axis"]), reduction="add")

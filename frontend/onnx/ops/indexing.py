"""Elements by indices: gather and scatter, sorting, one-hot."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.frontend import array as ar
from graphc.frontend import math as m
from graphc.frontend.onnx.registry import Call, converter
from graphc.ir.dtypes import int64
from graphc.ir.graph import Value, convert
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.table import OPS
from graphc.ir.types import normalize_axis


def _positive(indices: Value, size: int) -> Value:
    """Indices from the end as indices from the start."""
    return pw.where(indices < 0, indices + size, indices)


@converter("Gather")
def gather(call: Call) -> Value:
    """Slices along an axis."""
    x, indices = call.x(0), call.x(1)
    axis = normalize_axis(call.attr("axis", 0), call.rank(x))
    size = (x.type.shape or ())[axis]
    if not isinstance(size, int):
        size = call.dims(x)[axis]
    return OPS["gather"](x, _positive(indices, size), axis=axis)


def _positions(call: Call, x: Value, indices: Value, axis: int) -> Value:
    """For each index its whole position in x, as gather_nd wants it."""
    dims, shape = call.dims(x), call.dims(indices)
    wide = m.cast(indices, int64)
    parts = []
    for i in range(len(dims)):
        if i == axis:
            parts.append(_positive(wide, dims[axis]))
        else:
            along = np.arange(shape[i]).reshape([-1 if j == i else 1 for j in range(len(shape))])
            parts.append(convert(np.broadcast_to(along, shape).astype(np.int64)))
    return OPS["stack"](*parts, axis=len(dims))


@converter("GatherElements")
def gather_elements(call: Call) -> Value:
    """Element by element along an axis."""
    x, indices = call.x(0), call.x(1)
    axis = normalize_axis(call.attr("axis", 0), call.rank(x))
    return ar.gather_nd(x, _positions(call, x, indices, axis))


@converter("GatherND")
def gather_nd(call: Call) -> Value:
    """Slices by whole positions, after some batch dims."""
    x, indices = call.x(0), call.x(1)
    batch = call.attr("batch_dims", 0)
    dims, shape = call.dims(x), call.dims(indices)
    sizes = np.array(dims[batch : batch + shape[-1]], np.int64)
    wide = m.cast(indices, int64)
    wide = pw.where(wide < 0, wide + convert(sizes), wide)
    if batch:
        lead = np.indices(shape[:-1])[:batch]
        own = convert(np.ascontiguousarray(np.moveaxis(lead, 0, -1)).astype(np.int64))
        wide = OPS["concat"](own, wide, axis=len(shape) - 1)
    return ar.gather_nd(x, wide)


@converter("ScatterElements", "Scatter")
def scatter_elements(call: Call) -> Value:
    """x with elements replaced, or combined, along an axis."""
    x, indices, updates = call.x(0), call.x(1), call.x(2)
    axis = normalize_axis(call.attr("axis", 0), call.rank(x))
    positions = _positions(call, x, indices, axis)
    count = int(np.prod(call.dims(indices)))
    depth = call.rank(x)
    return _scattered(call, x, mv.reshape(positions, shape=(count, depth)),
                      mv.reshape(updates, shape=(count,)))  # fmt: skip


@converter("ScatterND")
def scatter_nd(call: Call) -> Value:
    """x with slices replaced, or combined, at whole positions."""
    x, indices, updates = call.x(0), m.cast(call.x(1), int64), call.x(2)
    dims, shape = call.dims(x), call.dims(indices)
    sizes = convert(np.array(dims[: shape[-1]], np.int64))
    indices = pw.where(indices < 0, indices + sizes, indices)
    count, depth = int(np.prod(shape[:-1])), shape[-1]
    flat = mv.reshape(updates, shape=(count, *dims[depth:]))
    return _scattered(call, x, mv.reshape(indices, shape=(count, depth)), flat)


def _scattered(call: Call, x: Value, positions: Value, updates: Value) -> Value:
    """Updates one after the other, the last of equal positions winning where they replace."""
    return OPS["scatter_update_nd"](x, positions, updates, reduction=call.attr("reduction", "none"))


@converter("OneHot")
def one_hot(call: Call) -> Value:
    """On and off values by class."""
    depth = call.value(1)
    count = int(depth.ravel()[0])
    call.check_table(count)
    indices, values = call.x(0), call.x(2)
    classes = m.cast(indices, int64)
    rank = call.rank(indices) + 1
    axis = normalize_axis(call.attr("axis", -1), rank)
    spread = OPS["expand_dims"](_positive(classes, count), axis=(axis,))
    along = np.arange(count).reshape([-1 if i == axis else 1 for i in range(rank)])
    return pw.where(m.equal(spread, convert(along)), values[1], values[0])


@converter("TopK")
def top_k(call: Call) -> list[Value]:
    """The k greatest (or smallest) along an axis, and where they are."""
    x = call.x()
    k = call.ints("k", 1)[0]
    rank = call.rank(x)
    axis = normalize_axis(call.attr("axis", -1), rank)
    largest = bool(call.attr("largest", 1))
    values, positions = OPS["sort_pairs"].outputs(x, axis=axis, descending=largest)
    key = tuple(slice(0, k) if i == axis else slice(None) for i in range(rank))
    return [values[key], m.cast(positions[key], int64)]


@converter("Compress")
def compress(call: Call) -> Value:
    """The slices whose condition holds; it must be known before the run."""
    x = call.x()
    condition = call.value(1)
    positions = np.flatnonzero(condition)
    axis = call.attr("axis")
    if axis is None:
        x, axis = mv.reshape(x, shape=(-1,)), 0
    return OPS["gather"](x, convert(positions), axis=normalize_axis(axis, call.rank(x)))


@converter("NonZero", "Unique")
def data_dependent(call: Call) -> Any:
    """Results whose size depends on values: these must be known before the run."""
    x = call.value(0)
    if call.op == "NonZero":
        return convert(np.array(np.nonzero(x), np.int64).reshape(x.ndim, -1))
    axis, is_sorted = call.attr("axis"), call.attr("sorted", 1)
    y, first, inverse, counts = np.unique(
        x, return_index=True, return_inverse=True, return_counts=True, axis=axis
    )
    if not is_sorted:
        order = np.argsort(first, kind="stable")
        y = np.take(y, order, axis=axis or 0)
        back = np.argsort(order, kind="stable")
        first, inverse, counts = first[order], back[inverse.ravel()], counts[order]
    made = [y, *(np.asarray(a, np.int64).ravel() for a in (first, inverse, counts))]
    return [convert(np.asarray(a)) for a in made[: call.output_count]]


@converter("NonMaxSuppression")
def non_max_suppression(call: Call) -> Value:
    """Boxes that overlap less than a share with better ones (greedily, class by class)."""
    boxes, scores = call.value(0), call.value(1)
    limits = [call.static(i) for i in (2, 3, 4)]
    most, share, least = (None if v is None else v.ravel()[0] for v in limits)
    chosen = []
    for n in range(scores.shape[0]):
        corners = _corners(boxes[n], call.attr("center_point_box", 0))
        for c in range(scores.shape[1]):
            kept = _suppressed(corners, scores[n, c], 0 if most is None else int(most),
                               0.0 if share is None else float(share), least)  # fmt: skip
            chosen += [[n, c, i] for i in kept]
    return convert(np.array(chosen, np.int64).reshape(-1, 3))


def _corners(boxes: np.ndarray, centered: int) -> np.ndarray:
    """(y1, x1, y2, x2) with y1 <= y2, x1 <= x2."""
    if centered:
        x, y, w, h = boxes.T
        return np.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], 1)
    y1, x1, y2, x2 = boxes.T
    return np.stack([np.minimum(y1, y2), np.minimum(x1, x2), np.maximum(y1, y2),
                     np.maximum(x1, x2)], 1)  # fmt: skip


def _suppressed(
    boxes: np.ndarray, scores: np.ndarray, most: int, share: float, least: Any
) -> list[int]:
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if len(kept) == most or (least is not None and scores[i] <= least):
            break
        if all(_overlap(boxes[i], boxes[j]) <= share for j in kept):
            kept.append(int(i))
    return kept


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union."""
    height = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    width = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    both = height * width
    return float(both / (sum(areas) - both)) if both else 0.0


@converter("TensorScatter")
def tensor_scatter(call: Call) -> Value:
    """Updates written into a cache, batch by batch from a start on (linear or circular)."""
    x, updates = call.x(0), call.x(1)
    starts = call.static(2)
    rank, dims = call.rank(x), call.dims(x)
    axis = normalize_axis(call.attr("axis", -2), rank)
    count, total = call.dims(updates)[axis], dims[axis]
    at = np.zeros(dims[0], np.int64) if starts is None else starts
    steps = at[:, None] + np.arange(count)
    steps = steps % total if call.attr("mode", "linear") == "circular" else steps
    source = np.full((dims[0], total), -1)
    for n, row in enumerate(steps):
        source[n, row] = np.arange(count)
    grid = list(np.indices(dims))
    written = source[grid[0], grid[axis]]
    grid[axis] = np.maximum(written, 0)
    index = convert(np.ascontiguousarray(np.stack(grid, -1)).astype(np.int64))
    return pw.where(convert(written >= 0), ar.gather_nd(updates, index), x)

"""Windows of images as rows, and the choice among overlapping boxes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from graphc.ir.dtypes import as_dtype, int32
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Value
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import slicing
from graphc.ir.ops.geometry import check_window, output_size, window_of, windows
from graphc.ir.ops.movement import movement
from graphc.ir.ops.windows import fold
from graphc.ir.table import REQUIRED, Attrs, Kind, NoGradient, Op, Sample, Types, register
from graphc.ir.types import UNKNOWN, TensorType, merge_dims

_ATTRS: Final[Attrs] = {
    "window": REQUIRED, "strides": None, "dilations": None, "padding": "VALID",
    "data_format": "NHWC",
}  # fmt: skip


def _patches_type(types: Types, attrs: Attrs) -> TensorType:
    check_window(attrs, attrs["window"])
    x = types[0]
    if x.shape is None:
        return x.with_shape((UNKNOWN,) * 4)
    if len(x.shape) != 4:
        raise ShapeError(f"patches are taken from images [n, h, w, c], got {x}")
    counts = [output_size(x.shape[i + 1], attrs["window"][i], attrs, i) for i in (0, 1)]
    channels = x.shape[3]
    depth = math.prod(attrs["window"]) * channels if isinstance(channels, int) else UNKNOWN
    return x.with_shape((x.shape[0], *counts, depth))


def _patches(x: Value, attrs: Attrs) -> Value:
    window = window_of(x.type.static_shape, attrs["window"], attrs)
    view = windows(x, window, "NHWC")  # [n, p, q, c, i, j]
    n, p, q, c, i, j = view.type.static_shape
    return mv.reshape(mv.transpose(view, perm=(0, 1, 2, 4, 5, 3)), shape=(n, p, q, i * j * c))


def _patches_adjoint(g: Value, x: tuple[Value, ...], attrs: Attrs) -> list[Value | None]:
    n, h, w, c = x[0].type.static_shape
    window = window_of((n, h, w, c), attrs["window"], attrs)
    split = mv.reshape(g, shape=(*g.type.static_shape[:3], *attrs["window"], c))
    view = mv.transpose(split, perm=(0, 1, 2, 5, 3, 4))
    low, high = window.low, window.high
    padded = (n, h + low[0] + high[0], w + low[1] + high[1], c)
    total = fold(view, shape=padded, axes=(1, 2), **window.attrs)
    start = (0, *low, 0)
    return [slicing.slice_(total, start=start, size=(n, h, w, c), step=(1,) * 4)]


def _patches_numpy(attrs: Attrs, x: np.ndarray) -> np.ndarray:
    window = window_of(x.shape, attrs["window"], attrs)
    pads = [(0, 0), *zip(window.low, window.high, strict=True), (0, 0)]
    padded = np.pad(x, pads)
    n, p, q, depth = _patches_type((TensorType(as_dtype(x.dtype), x.shape),), attrs).static_shape
    out = np.zeros((n, p, q, *window.size, x.shape[3]), x.dtype)
    (sy, sx), (dy, dx) = window.stride, window.dilation
    for i, j in np.ndindex(*window.size):
        rows = slice(i * dy, i * dy + (p - 1) * sy + 1, sy)
        out[:, :, :, i, j] = padded[:, rows, j * dx : j * dx + (q - 1) * sx + 1 : sx]
    return out.reshape(n, p, q, depth)


def _patches_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(47)
    for shape, attrs in (
        ((2, 5, 6, 3), {"window": (3, 2), "strides": (2, 1)}),
        ((1, 7, 5, 2), {"window": (2, 2), "dilations": (2, 3), "padding": "SAME"}),
        ((1, 4, 4, 1), {"window": (2, 2), "strides": (2, 2), "padding": "SAME"}),
    ):
        yield Sample((rng.standard_normal(shape).astype(np.float32),), attrs)


image_patches: Op = movement(
    "image_patches", _patches_type, _patches_numpy, None, _patches_adjoint, attrs=_ATTRS,
    samples=_patches_samples, decompose=lambda node: _patches(node.inputs[0], node.attrs),
    doc="The windows of images [n, h, w, c] as [n, p, q, i * j * c].",
)  # fmt: skip


# -- boxes


def _boxes_type(types: Types, attrs: Attrs) -> Types:
    boxes, scores = types
    pw.check_category(types, "float")
    if (boxes.shape is not None and len(boxes.shape) != 2) or (
        scores.shape is not None and len(scores.shape) != 1
    ):
        raise ShapeError(f"boxes are [boxes, 4] and scores [boxes], got {boxes} and {scores}")
    if boxes.shape is not None and scores.shape is not None:
        merge_dims(boxes.shape[0], scores.shape[0], "one score per box")
        merge_dims(boxes.shape[1], 4, "a box is (y1, x1, y2, x2)")
    count = attrs["count"]
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise AttributeValueError(f"the number of boxes to choose is not negative, got {count!r}")
    if not 0 <= attrs["iou_threshold"] <= 1:
        raise AttributeValueError(f"iou_threshold is in [0, 1], got {attrs['iou_threshold']}")
    return TensorType(int32, (count,)), TensorType(int32, ())


def _suppress(attrs: Attrs, boxes: np.ndarray, scores: np.ndarray) -> tuple[Any, Any]:
    y1, x1 = np.minimum(boxes[:, 0], boxes[:, 2]), np.minimum(boxes[:, 1], boxes[:, 3])
    y2, x2 = np.maximum(boxes[:, 0], boxes[:, 2]), np.maximum(boxes[:, 1], boxes[:, 3])
    area = (y2 - y1) * (x2 - x1)
    chosen: list[int] = []
    least = attrs["score_threshold"]
    for i in np.argsort(-scores, kind="stable").tolist():
        if len(chosen) == attrs["count"] or (least is not None and not scores[i] > least):
            break
        high = np.minimum(y2[i], y2[chosen]) - np.maximum(y1[i], y1[chosen])
        wide = np.minimum(x2[i], x2[chosen]) - np.maximum(x1[i], x1[chosen])
        shared = np.maximum(high, 0) * np.maximum(wide, 0)
        total = area[i] + area[chosen] - shared
        with np.errstate(all="ignore"):
            overlap = np.where((area[i] > 0) & (area[chosen] > 0), shared / total, 0)
        if not (overlap > attrs["iou_threshold"]).any():
            chosen.append(i)
    result = np.zeros(attrs["count"], np.int32)
    result[: len(chosen)] = chosen
    return result, np.asarray(len(chosen), np.int32)


def _boxes_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(53)
    corners = rng.uniform(0, 1, (12, 4)).astype(np.float32)
    scores = rng.permutation(12).astype(np.float32) / 12
    for count, iou, least in ((5, 0.3, None), (12, 0.1, 0.4), (0, 0.5, 0.0)):
        attrs = {"count": count, "iou_threshold": iou, "score_threshold": least}
        yield Sample((corners, scores), attrs, ())


suppress_boxes: Op = register(
    Op(
        "suppress_boxes", Kind.OPAQUE, _boxes_type, numpy=_suppress, samples=_boxes_samples,
        attrs={"count": REQUIRED, "iou_threshold": 0.5, "score_threshold": None},
        grad=NoGradient("indices are integers", zero=True),
        doc="""The best boxes none of which overlaps a better one by more than the threshold.

        (boxes [n, 4] of two corners each, scores [n]) -> indices, 0 behind the last; their count.
        Overlap: the shared area by that of the union.""",
    )
)  # fmt: skip

"""Convolution, pooling and windows, in ONNX's layout: channels first."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from graphc.frontend.onnx.exporting import Exporting, exporter, types_of, unsaid
from graphc.ir.graph import Node
from graphc.ir.ops.geometry import is_same, per_dim, spatial_axes, window_of
from graphc.ir.ops.windows import window_count

_LAST: Final = {3: "NWC", 4: "NHWC", 5: "NDHWC"}


def _first(e: Exporting, name: str, node: Node) -> tuple[str, list[int] | None]:
    """The image with channels first, and how to bring the result back."""
    rank = node.inputs[0].type.rank or 4
    if node.attrs["data_format"] != _LAST[rank]:
        return name, None
    order = [0, rank - 1, *range(1, rank - 1)]
    return e.emit("Transpose", [name], perm=order), [0, *range(2, rank), 1]


def _back(e: Exporting, node: Node, result: str, back: list[int] | None) -> None:
    op = "Identity" if back is None else "Transpose"
    e.define(node, op, [result], perm=back)


def _listed(node: Node, name: str) -> list[int] | None:
    value = node.attrs[name]
    return None if value is None else [int(v) for v in value]


def _padding_attrs(node: Node, window: tuple[int, ...]) -> dict[str, Any]:
    padding = node.attrs["padding"]
    if is_same(padding) and set(per_dim(node.attrs, "dilations")) == {1}:
        return {"auto_pad": "SAME_LOWER" if padding == "SAME_LOWER" else "SAME_UPPER"}
    if is_same(padding):  # onnxruntime has it not with dilations
        if not node.inputs[0].type.is_static:
            raise unsaid(node, "with padding by sizes that are unknown")
        found = window_of(node.inputs[0].type.static_shape, window, node.attrs)
        return {"pads": [*found.low, *found.high]}
    if padding == "VALID":
        return {"auto_pad": "VALID"}
    return {"pads": [p[i] for i in (0, 1) for p in padding]}


def _filter_size(node: Node, which: int) -> tuple[int, ...]:
    shape = node.inputs[which].type.shape
    if shape is None or not all(isinstance(d, int) for d in shape[:-2]):
        raise unsaid(node, "with a filter of unknown size")
    return tuple(int(d) for d in shape[:-2])


@exporter("convolution")
def _convolution(e: Exporting, node: Node) -> None:
    image, back = _first(e, e.name(node.inputs[0]), node)
    rank = node.inputs[1].type.rank or 4
    w = e.emit("Transpose", [e.name(node.inputs[1])], perm=[rank - 1, rank - 2, *range(rank - 2)])
    result = e.emit(
        "Conv", [image, w], strides=_listed(node, "strides"), group=node.attrs["groups"],
        dilations=_listed(node, "dilations"), **_padding_attrs(node, _filter_size(node, 1)),
    )  # fmt: skip
    _back(e, node, result, back)


@exporter("convolution_transpose")
def _convolution_transpose(e: Exporting, node: Node) -> None:
    """The padding is that of the convolution that leads back; the rest is output_padding."""
    size, axes = _filter_size(node, 1), spatial_axes(node.attrs["data_format"])
    before, after = node.inputs[0].type.shape, node.types[0].shape
    if not all(s and all(isinstance(s[i], int) for i in axes) for s in (before, after)):
        raise unsaid(node, "with sizes that are unknown")
    assert before is not None and after is not None
    window = window_of([0 if isinstance(d, str) else d for d in after], size, node.attrs)
    rest = []
    for i, axis in enumerate(axes):
        reach = (size[i] - 1) * window.dilation[i] + 1
        full = (int(before[axis]) - 1) * window.stride[i] + reach
        rest.append(int(after[axis]) - (full - window.low[i] - window.high[i]))
    if any(not 0 <= r < max(s, d) for r, s, d in
           zip(rest, window.stride, window.dilation, strict=True)):  # fmt: skip
        e.decomposed(node)
        return
    image, back = _first(e, e.name(node.inputs[0]), node)
    rank = len(size) + 2
    w = e.emit("Transpose", [e.name(node.inputs[1])], perm=[rank - 1, rank - 2, *range(rank - 2)])
    result = e.emit(
        "ConvTranspose", [image, w], strides=list(window.stride), dilations=list(window.dilation),
        group=node.attrs["groups"], pads=[*window.low, *window.high], output_padding=rest,
    )  # fmt: skip
    _back(e, node, result, back)


@exporter("max_pool", "avg_pool")
def _pool(e: Exporting, node: Node) -> None:
    a = node.attrs
    average = node.op.name == "avg_pool"
    dilated = set(per_dim(a, "dilations")) != {1}
    if average and (dilated or a["divisor"] != "pixels" or a["ceil_mode"]):
        e.decomposed(node)
        return
    image, back = _first(e, e.name(node.inputs[0]), node)
    result = e.emit(
        "AveragePool" if average else "MaxPool", [image],
        kernel_shape=list(a["window"]), strides=_listed(node, "strides"),
        dilations=_listed(node, "dilations") if dilated else None,
        ceil_mode=int(a["ceil_mode"]) or None, **_padding_attrs(node, a["window"]),
    )  # fmt: skip
    _back(e, node, result, back)


# -- windows themselves: elements are picked by positions that are known


def _turned(order: list[int]) -> list[int]:
    """The permutation that undoes this one."""
    return [order.index(i) for i in range(len(order))]


@exporter("unfold")
def _unfold(e: Exporting, node: Node) -> None:
    """Along each axis, the elements of all windows; their insides go to the end."""
    name, shape = e.name(node.inputs[0]), node.inputs[0].type.shape
    if shape is None:
        raise unsaid(node, "with sizes that are unknown")
    rank = len(shape)
    for axis, window, stride, dilation in _columns(node):
        size = shape[axis]
        if not isinstance(size, int):
            raise unsaid(node, "with sizes that are unknown")
        count = window_count(size, window, stride, dilation)
        at = np.arange(count)[:, None] * stride + np.arange(window) * dilation
        picked = e.emit("Gather", [name, e.constant(at)], axis=axis)
        rank += 1
        order = [i for i in range(rank) if i != axis + 1] + [axis + 1]
        name = e.emit("Transpose", [picked], perm=order)
    e.names[node.outputs[0]] = name


@exporter("window_spread")
def _window_spread(e: Exporting, node: Node) -> None:
    """Along each axis, from windows and offsets to positions; the last window is one of zeros."""
    g, name = node.inputs[0], e.name(node.inputs[0])
    if not all(t.is_static for t in types_of(node)):
        raise unsaid(node, "with sizes that are unknown")
    sizes, outer = list(g.type.static_shape), len(node.attrs["shape"])
    for i, (axis, window, stride, dilation) in enumerate(_columns(node)):
        count, size = sizes[axis], node.attrs["shape"][axis]
        from_first = np.arange(size)[:, None] - np.arange(window) * dilation
        p = from_first // stride
        known = (from_first % stride == 0) & (p >= 0) & (p < count)
        at = np.where(known, p, count) * window + np.arange(window)
        order = [axis, outer + i]
        order += [k for k in range(len(sizes)) if k not in order]
        first = e.emit("Transpose", [name], perm=order)
        padded = e.emit("Pad", [first, e.ints([0] * len(sizes) + [1] + [0] * (len(sizes) - 1))])
        rest = [sizes[k] for k in order[2:]]
        flat = e.emit("Reshape", [padded, e.ints([(count + 1) * window, *rest])], allowzero=1)
        picked = e.emit("Gather", [flat, e.constant(at)], axis=0)
        name = e.emit("Transpose", [picked], perm=_turned(order))
        sizes[axis] = size
    e.names[node.outputs[0]] = name


def _columns(node: Node) -> list[tuple[int, int, int, int]]:
    names = ("axes", "window", "stride", "dilation")
    return list(zip(*(node.attrs[name] for name in names), strict=True))

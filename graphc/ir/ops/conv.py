"""Convolutions in two dims and their gradients: windows as a movement, then a contraction.

    conv2d(x, w) = contract(unfold(pad(x)), w)

so that the dot's kernel reads the windows through strides and guards and nothing is copied.
Filters are [height, width, inputs / groups, outputs]; images NHWC or NCHW. The gradients are
linear in each of their inputs, so their gradients are convolutions again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.ir.dtypes import float32
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Node, Value
from graphc.ir.ops import movement as mv
from graphc.ir.ops import slicing
from graphc.ir.ops.contract import contract
from graphc.ir.ops.pointwise import check_category, check_same_dtype
from graphc.ir.ops.windows import unfold, window_spread
from graphc.ir.table import Attrs, Kind, Op, Sample, Types, register
from graphc.ir.types import UNKNOWN, Dim, TensorType, merge_shapes

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Window:
    """How windows lie over an image: sizes, strides, dilations, and padding before and after."""

    size: Pair
    stride: Pair
    dilation: Pair
    low: Pair
    high: Pair

    @property
    def attrs(self) -> dict[str, Any]:
        """The attributes of `unfold`, without the axes."""
        return {"window": self.size, "stride": self.stride, "dilation": self.dilation}


def spatial_axes(data_format: str) -> Pair:
    """The axes of height and width."""
    if data_format not in ("NHWC", "NCHW"):
        raise AttributeValueError(f"data_format is 'NHWC' or 'NCHW', got {data_format!r}")
    return (1, 2) if data_format == "NHWC" else (2, 3)


def channel_axis(data_format: str) -> int:
    """The axis of the channels."""
    return 3 if data_format == "NHWC" else 1


def padding_of(
    padding: Any,
    size: Sequence[int],
    window: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> tuple[Pair, Pair]:
    """(before, after) per spatial dim. SAME: as many windows as strides fit, odd rest after."""
    if padding == "VALID":
        return (0, 0), (0, 0)
    if isinstance(padding, tuple):
        (top, bottom), (left, right) = padding
        return (top, left), (bottom, right)
    low, high = [], []
    for n, k, s, d in zip(size, window, stride, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        low.append(total // 2)
        high.append(total - total // 2)
    return (low[0], low[1]), (high[0], high[1])


def _is_pair(value: Any, least: int) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and all(isinstance(v, str) or (isinstance(v, int) and v >= least) for v in value)
    )


def check_window(attrs: Attrs, window: Any) -> None:
    """AttributeValueError unless window, strides, dilations and padding are what they can be."""
    padding = attrs["padding"]
    explicit = isinstance(padding, tuple) and len(padding) == 2
    if padding not in ("SAME", "VALID") and not (explicit and all(_is_pair(p, 0) for p in padding)):
        raise AttributeValueError(
            f"padding is 'SAME', 'VALID' or ((top, bottom), (left, right)), got {padding!r}"
        )
    for name in ("strides", "dilations"):
        if not _is_pair(attrs.get(name, (1, 1)), 1):
            raise AttributeValueError(f"{name} are two positive numbers, got {attrs[name]!r}")
    if not _is_pair(window, 1):
        raise AttributeValueError(f"a window has two positive sizes, got {window!r}")


def output_size(size: Dim, window: Dim, attrs: Attrs, which: int) -> Dim:
    """The number of windows along a spatial dim; ShapeError when the window does not fit."""
    stride: int = attrs["strides"][which]
    if isinstance(size, str) or isinstance(window, str):
        return size if attrs["padding"] == "SAME" and stride == 1 else UNKNOWN
    if attrs["padding"] == "SAME":
        return -(-size // stride)
    extra: int = sum(attrs["padding"][which]) if isinstance(attrs["padding"], tuple) else 0
    dilation: int = attrs.get("dilations", (1, 1))[which]
    reach = (window - 1) * dilation + 1
    if size + extra < reach:
        raise ShapeError(f"a window of {reach} does not fit a padded size of {size + extra}")
    return (size + extra - reach) // stride + 1


def window_of(shape: Sequence[int], size: Pair, attrs: Attrs) -> Window:
    """The windows over an image of the static shape."""
    h, w = spatial_axes(attrs["data_format"])
    stride, dilation = attrs["strides"], attrs.get("dilations", (1, 1))
    low, high = padding_of(attrs["padding"], (shape[h], shape[w]), size, stride, dilation)
    return Window(size, stride, dilation, low, high)


def windows(x: Value, window: Window, data_format: str, fill: float = 0) -> Value:
    """All windows of the padded image: [n, p, q, c, i, j], or [n, c, p, q, i, j] for NCHW."""
    axes = spatial_axes(data_format)
    padded = pad_image(x, window, axes, fill)
    return unfold(padded, axes=axes, **window.attrs)


def pad_image(x: Value, window: Window, axes: Pair, fill: float = 0) -> Value:
    """The image with its padding."""
    low, high = ([0] * 4, [0] * 4)
    for i, axis in enumerate(axes):
        low[axis], high[axis] = window.low[i], window.high[i]
    if not any(low) and not any(high):
        return x
    return slicing.pad(x, low=tuple(low), high=tuple(high), interior=(0,) * 4, fill=fill)


def spread_windows(g: Value, window: Window, shape: Sequence[int], data_format: str) -> Value:
    """What each image position has in each window that covers it, at [..., i, j]; elsewhere 0.

    g: one value per window, [n, p, q, c] or [n, c, p, q]; shape: the image's, without padding
    and with g's channels.
    """
    axes = spatial_axes(data_format)
    padded = list(shape)
    for i, axis in enumerate(axes):
        padded[axis] += window.low[i] + window.high[i]
    counts = g.type.static_shape
    wide = mv.reshape(g, shape=(*counts, 1, 1))
    wide = mv.broadcast_to_shape(wide, (*counts, *window.size))
    spread = window_spread(wide, axes=axes, shape=tuple(padded), **window.attrs)
    start = [0] * 6
    for i, axis in enumerate(axes):
        start[axis] = window.low[i]
    if not any(start) and list(shape) == padded:
        return spread
    size = (*shape, *window.size)
    return slicing.slice_(spread, start=tuple(start), size=size, step=(1,) * 6)


# -- convolution


_ATTRS: Attrs = {
    "strides": (1, 1), "padding": "VALID", "dilations": (1, 1), "data_format": "NHWC", "groups": 1,
}  # fmt: skip


def _conv_type(types: Types, attrs: Attrs) -> TensorType:
    dtype = check_same_dtype(types)
    check_category(types, "float")
    x, w = types
    h, wide = spatial_axes(attrs["data_format"])
    c = channel_axis(attrs["data_format"])
    if x.shape is None or w.shape is None:
        return TensorType(dtype, (UNKNOWN,) * 4)
    if len(x.shape) != 4 or len(w.shape) != 4:
        raise ShapeError(f"conv2d needs an image and a filter of rank 4, got {x} and {w}")
    check_window(attrs, w.shape[:2])
    _check_channels(x, w, x.shape[c], attrs["groups"])
    dims = list(x.shape)
    dims[h] = output_size(x.shape[h], w.shape[0], attrs, 0)
    dims[wide] = output_size(x.shape[wide], w.shape[1], attrs, 1)
    dims[c] = w.shape[3]
    return TensorType(dtype, tuple(dims))


def _check_channels(x: TensorType, w: TensorType, channels: Dim, groups: int) -> None:
    assert w.shape is not None
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise AttributeValueError(f"groups is a positive number, got {groups!r}")
    inputs, outputs = w.shape[2:]
    wrong = isinstance(channels, int) and isinstance(inputs, int) and channels != inputs * groups
    if wrong or (isinstance(outputs, int) and outputs % groups):
        raise ShapeError(
            f"a filter {w} in {groups} groups takes images of {inputs} x {groups} channels and "
            f"has outputs divisible by {groups}; got an image {x} with {channels} channels"
        )


def _split_channels(x: Value, axis: int, groups: int) -> Value:
    """The channels as [groups, channels / groups]."""
    shape = list(x.type.static_shape)
    shape[axis : axis + 1] = [groups, shape[axis] // groups]
    return mv.reshape_to(x, shape)


def _split_filter(w: Value, groups: int) -> Value:
    i, j, c, o = w.type.static_shape
    return mv.reshape_to(w, (i, j, c, groups, o // groups))


def _labels(data_format: str, groups: int) -> tuple[str, str, str]:
    """einsum labels of windows, filter and result."""
    if groups == 1:
        if data_format == "NHWC":
            return "npqcij", "ijco", "npqo"
        return "ncpqij", "ijco", "nopq"
    if data_format == "NHWC":
        return "npqgcij", "ijcgo", "npqgo"
    return "ngcpqij", "ijcgo", "ngopq"


def _conv(node: Node) -> Value:
    x, w = node.inputs
    attrs = node.attrs
    groups, data_format = attrs["groups"], attrs["data_format"]
    kernel = w.type.static_shape[:2]
    view = windows(x, window_of(x.type.static_shape, (kernel[0], kernel[1]), attrs), data_format)
    left, right, out = _labels(data_format, groups)
    if groups > 1:
        view = _split_channels(view, channel_axis(data_format), groups)
        w = _split_filter(w, groups)
    result = contract(view, w, spec=f"{left},{right}->{out}")
    return mv.reshape_to(result, node.types[0].static_shape)


def _conv_input_grad(node: Node) -> Value:
    w, g, like = node.inputs
    attrs = node.attrs
    groups, data_format = attrs["groups"], attrs["data_format"]
    image = like.type.static_shape
    i, j, _, outputs = w.type.static_shape
    window = window_of(image, (i, j), attrs)
    c = channel_axis(data_format)
    shape = tuple(outputs if axis == c else d for axis, d in enumerate(image))
    spread = spread_windows(g, window, shape, data_format)
    left, right, out = _labels(data_format, groups)
    if groups > 1:
        spread = _split_channels(spread, c, groups)
        w = _split_filter(w, groups)
    # the sum runs over the outputs, and the channels come out
    given, target = left.replace("c", "o"), out.replace("o", "c")
    result = contract(spread, w, spec=f"{given},{right}->{target}")
    return mv.reshape_to(result, image)


def _conv_filter_grad(node: Node) -> Value:
    x, g, like = node.inputs
    attrs = node.attrs
    groups, data_format = attrs["groups"], attrs["data_format"]
    i, j, _, _ = like.type.static_shape
    view = windows(x, window_of(x.type.static_shape, (i, j), attrs), data_format)
    left, right, out = _labels(data_format, groups)
    if groups > 1:
        view = _split_channels(view, channel_axis(data_format), groups)
        g = _split_channels(g, channel_axis(data_format), groups)
    result = contract(view, g, spec=f"{left},{out}->{right}")
    return mv.reshape_to(result, like.type.static_shape)


def _input_grad_type(types: Types, attrs: Attrs) -> TensorType:
    w, g, x = types
    _check_gradient(g, _conv_type((x, w), attrs))
    return x


def _filter_grad_type(types: Types, attrs: Attrs) -> TensorType:
    x, g, w = types
    _check_gradient(g, _conv_type((x, w), attrs))
    return w


def _check_gradient(g: TensorType, result: TensorType) -> None:
    check_same_dtype((g, result))
    merge_shapes(g.shape, result.shape, "the gradient needs the shape of the convolution's result")


def _conv_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    (x, w), g = node.inputs, grads[0]
    return [conv2d_input_grad(w, g, x, **node.attrs), conv2d_filter_grad(x, g, w, **node.attrs)]


def _input_grad_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    (w, g, _), h = node.inputs, grads[0]
    return [conv2d_filter_grad(h, g, w, **node.attrs), conv2d(h, w, **node.attrs), None]


def _filter_grad_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    (x, g, _), h = node.inputs, grads[0]
    return [conv2d_input_grad(h, g, x, **node.attrs), conv2d(x, h, **node.attrs), None]


_CASES: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ((2, 5, 6, 3), (3, 3, 3, 4), {"padding": "SAME"}),
    ((1, 7, 5, 2), (3, 2, 2, 3), {"padding": "VALID", "strides": (2, 1)}),
    ((2, 6, 7, 2), (3, 3, 2, 2), {"padding": "SAME", "strides": (2, 3)}),
    ((1, 8, 8, 1), (3, 3, 1, 2), {"padding": "SAME", "dilations": (2, 2)}),
    ((2, 3, 5, 6), (2, 3, 3, 2), {"padding": "SAME", "data_format": "NCHW"}),
    ((1, 5, 5, 4), (3, 3, 2, 6), {"padding": "SAME", "groups": 2}),
    ((1, 4, 4, 2), (3, 3, 2, 1), {"padding": ((1, 0), (2, 1))}),
)


def _samples(make: Any) -> Any:
    def samples() -> Iterable[Sample]:
        rng = np.random.default_rng(23)
        for image, kernel, attrs in _CASES:
            arrays = [rng.standard_normal(s).astype(np.float32) for s in (image, kernel)]
            yield make(rng, *arrays, attrs)

    return samples


def _forward_sample(rng: np.random.Generator, x: Any, w: Any, attrs: Any) -> Sample:
    return Sample((x, w), attrs)


def _result_shape(x: Any, w: Any, attrs: Any) -> tuple[int, ...]:
    types = tuple(TensorType(float32, a.shape) for a in (x, w))
    return _conv_type(types, {**_ATTRS, **attrs}).static_shape


def _input_sample(rng: np.random.Generator, x: Any, w: Any, attrs: Any) -> Sample:
    g = rng.standard_normal(_result_shape(x, w, attrs)).astype(np.float32)
    return Sample((w, g, x), attrs, (0, 1))


def _filter_sample(rng: np.random.Generator, x: Any, w: Any, attrs: Any) -> Sample:
    g = rng.standard_normal(_result_shape(x, w, attrs)).astype(np.float32)
    return Sample((x, g, w), attrs, (0, 1))


def _register(name: str, type_rule: Any, decompose: Any, grad: Any, samples: Any, doc: str) -> Op:
    return register(
        Op(
            name, Kind.COMPOSITE, type_rule, attrs=_ATTRS, grad=grad, decompose=decompose,
            samples=samples, doc=doc,
        )
    )  # fmt: skip


conv2d: Op = _register(
    "conv2d", _conv_type, _conv, _conv_grad, _samples(_forward_sample),
    "Cross-correlation of an image [n, h, w, c] with a filter [i, j, c / groups, o].",
)  # fmt: skip
conv2d_input_grad: Op = _register(
    "conv2d_input_grad", _input_grad_type, _conv_input_grad, _input_grad_grad,
    _samples(_input_sample),
    "The gradient of conv2d for its image: (filter, gradient, image for its shape).",
)  # fmt: skip
conv2d_filter_grad: Op = _register(
    "conv2d_filter_grad", _filter_grad_type, _conv_filter_grad, _filter_grad_grad,
    _samples(_filter_sample),
    "The gradient of conv2d for its filter: (image, gradient, filter for its shape).",
)  # fmt: skip


def depthwise_conv2d(
    x: Value, w: Value, *, strides: Pair = (1, 1), padding: Any = "VALID",
    dilations: Pair = (1, 1), data_format: str = "NHWC", name: str | None = None,
) -> Value:  # fmt: skip
    """Each channel with its own filters: a conv2d with as many groups as channels.

    w: [i, j, channels, multiplier], all known; output channel c * multiplier + m is input
    channel c with the filter w[:, :, c, m].
    """
    if not w.type.is_static or len(w.type.static_shape) != 4:
        raise ShapeError(f"depthwise_conv2d needs a filter of rank 4 and known sizes, got {w.type}")
    i, j, channels, multiplier = w.type.static_shape
    return conv2d(
        x, mv.reshape_to(w, (i, j, 1, channels * multiplier)), strides=strides, padding=padding,
        dilations=dilations, data_format=data_format, groups=channels, name=name,
    )  # fmt: skip

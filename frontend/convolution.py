"""Convolution and pooling over images, in TensorFlow's arguments; re-exported by `nn`."""

from __future__ import annotations

from typing import Any

from graphc.frontend.arguments import as_value, static_int
from graphc.frontend.sources import zeros
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Value
from graphc.ir.ops import conv, pool
from graphc.ir.table import OPS


def _pair(value: Any, data_format: str, what: str) -> tuple[int, int]:
    """Height's and width's entries of a list of four, or of two, or of one number."""
    items = [value] if isinstance(value, int) else list(value)
    if len(items) == 4:
        h, w = conv.spatial_axes(data_format)
        rest = [v for i, v in enumerate(items) if i not in (h, w)]
        if any(v != 1 for v in rest):
            raise AttributeValueError(
                f"{what} of the batch and channel dims must be 1, got {items} for {data_format}"
            )
        return int(items[h]), int(items[w])
    if len(items) == 2:
        return int(items[0]), int(items[1])
    if len(items) == 1:
        return int(items[0]), int(items[0])
    raise AttributeValueError(f"{what} are one, two or four numbers, got {value!r}")


def _padding(padding: Any, data_format: str) -> Any:
    """ "SAME", "VALID", or the four dims' explicit paddings cut to height and width."""
    if isinstance(padding, str):
        return padding.upper()
    pairs = [tuple(int(v) for v in p) for p in padding]
    if len(pairs) == 4:
        h, w = conv.spatial_axes(data_format)
        pairs = [pairs[h], pairs[w]]
    return tuple(pairs)


def conv2d(
    input: Any,
    filter: Any = None,
    strides: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool = True,
    data_format: str = "NHWC",
    dilations: Any = (1, 1, 1, 1),
    name: str | None = None,
    filters: Any = None,
) -> Value:
    """Cross-correlation of images with filters.

    input: [n, h, w, c] (NCHW: [n, c, h, w]); filter: [i, j, c, o] -> [n, p, q, o]. padding:
    "SAME", "VALID", or (before, after) pairs. Float dtypes.
    """
    del use_cudnn_on_gpu
    return conv.conv2d(
        input,
        filter if filter is not None else filters,
        strides=_pair(strides if strides is not None else 1, data_format, "strides"),
        padding=_padding(padding, data_format),
        dilations=_pair(dilations, data_format, "dilations"),
        data_format=data_format,
        name=name,
    )


def conv2d_transpose(
    value: Any,
    filter: Any,
    output_shape: Any,
    strides: Any = 1,
    padding: Any = "SAME",
    data_format: str = "NHWC",
    name: str | None = None,
) -> Value:
    """The gradient of conv2d as an op of its own: images grow by the strides.

    value: [n, p, q, o]; filter: [i, j, c, o]; output_shape: [n, h, w, c].
    """
    x = as_value(value)
    like = zeros(output_shape, x.dtype)
    return conv.conv2d_input_grad(
        filter,
        x,
        like,
        strides=_pair(strides, data_format, "strides"),
        padding=_padding(padding, data_format),
        data_format=data_format,
        name=name,
    )


def max_pool(
    value: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NHWC",
    name: str | None = None,
    input: Any = None,
) -> Value:
    """The maximum of each window; padding never wins."""
    return pool.max_pool(
        value if value is not None else input,
        name=name,
        **_window(ksize, strides, padding, data_format),
    )


def avg_pool(
    value: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NHWC",
    name: str | None = None,
    input: Any = None,
) -> Value:
    """The mean of each window; padding does not count."""
    return pool.avg_pool(
        value if value is not None else input,
        name=name,
        **_window(ksize, strides, padding, data_format),
    )


def _window(ksize: Any, strides: Any, padding: Any, data_format: str) -> dict[str, Any]:
    return {
        "window": _pair(ksize, data_format, "ksize"),
        "strides": _pair(strides, data_format, "strides"),
        "padding": _padding(padding, data_format),
        "data_format": data_format,
    }


def atrous_conv2d(
    value: Any, filters: Any, rate: Any, padding: Any, name: str | None = None
) -> Value:
    """conv2d whose filter is spread: `rate` is the distance between its elements."""
    return conv2d(value, filters, 1, padding, dilations=rate, name=name)


def depthwise_conv2d(
    input: Any,
    filter: Any,
    strides: Any,
    padding: Any,
    rate: Any = None,
    name: str | None = None,
    data_format: str | None = None,
) -> Value:
    """Each channel with m filters of its own. [n, h, w, c], [i, j, c, m] -> [n, h', w', c * m]."""
    w, layout = as_value(filter), data_format or "NHWC"
    if w.type.rank != 4 or not w.type.is_static:
        raise ShapeError(f"a depthwise filter has four known dims, got {w!r}")
    i, j, channels, multiplier = w.type.static_shape
    return conv.conv2d(
        input,
        OPS["reshape"](w, shape=(i, j, 1, channels * multiplier)),
        strides=_pair(strides, layout, "strides"),
        padding=_padding(padding, layout),
        dilations=_pair(1 if rate is None else rate, layout, "rate"),
        data_format=layout,
        groups=channels,
        name=name,
    )


def separable_conv2d(
    input: Any,
    depthwise_filter: Any,
    pointwise_filter: Any,
    strides: Any,
    padding: Any,
    rate: Any = None,
    name: str | None = None,
    data_format: str | None = None,
) -> Value:
    """A depthwise convolution, then one with filters of size 1 (Chollet, 2017)."""
    layout = data_format or "NHWC"
    x = depthwise_conv2d(input, depthwise_filter, strides, padding, rate, data_format=layout)
    return conv2d(x, pointwise_filter, 1, "VALID", data_format=layout, name=name)


def conv1d(
    value: Any = None,
    filters: Any = None,
    stride: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool = True,
    data_format: str | None = None,
    name: str | None = None,
    input: Any = None,
) -> Value:
    """conv2d of one spatial dim. [n, w, c], [i, c, o] -> [n, w', o]; "NCW": [n, c, w]."""
    del use_cudnn_on_gpu
    if data_format not in (None, "NWC", "NHWC", "NCW", "NCHW"):
        raise AttributeValueError(f"data_format is 'NWC' or 'NCW', got {data_format!r}")
    layout, axis = ("NCHW", 2) if (data_format or "NWC").startswith("NC") else ("NHWC", 1)
    step = static_int(1 if stride is None else stride, "stride")
    image = OPS["expand_dims"](value if value is not None else input, axis=axis)
    wide = OPS["expand_dims"](filters, axis=0)
    result = conv2d(image, wide, [1, step], padding, data_format=layout)
    return OPS["squeeze"](result, axis=(axis,), name=name)

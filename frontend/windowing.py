"""Convolution and pooling in TensorFlow 1's names and arguments; re-exported by `nn`."""

from __future__ import annotations

from typing import Any

from graphc.frontend import convolution as cv
from graphc.frontend.arguments import as_value, either
from graphc.frontend.array import shape
from graphc.frontend.math import cast
from graphc.frontend.sources import range as range_
from graphc.frontend.sources import zeros
from graphc.ir.dtypes import as_dtype, int64
from graphc.ir.errors import AttributeValueError, DTypeError, ShapeError
from graphc.ir.graph import Value
from graphc.ir.ops import conv, source
from graphc.ir.ops.geometry import layout_of
from graphc.ir.table import OPS


def convolution(
    input: Any,
    filter: Any = None,
    padding: Any = None,
    strides: Any = None,
    dilation_rate: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    filters: Any = None,
    dilations: Any = None,
) -> Value:
    """Cross-correlation in as many dims as the image has. [n, ..., c] -> [n, ..., o]."""
    return cv.convolution(
        input, either("filter", filter, "filters", filters), strides=strides, padding=padding,
        dilations=either("dilation_rate", dilation_rate, "dilations", dilations),
        data_format=data_format, name=name or "convolution",
    )  # fmt: skip


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
    return cv.convolution(
        input, either("filter", filter, "filters", filters), strides=strides, padding=padding,
        dilations=dilations, data_format=data_format or "NHWC", name=name or "Conv2D",
    )  # fmt: skip


def conv1d(
    value: Any = None,
    filters: Any = None,
    stride: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool = True,
    data_format: str | None = None,
    name: str | None = None,
    input: Any = None,
    dilations: Any = None,
) -> Value:
    """conv2d of one spatial dim. [n, w, c], [i, c, o] -> [n, w', o]; "NCW": [n, c, w]."""
    del use_cudnn_on_gpu
    if data_format not in (None, "NWC", "NHWC", "NCW", "NCHW"):
        raise AttributeValueError(f"data_format is 'NWC' or 'NCW', got {data_format!r}")
    first = (data_format or "NWC").startswith("NC")
    return cv.convolution(
        either("value", value, "input", input), filters, strides=stride, padding=padding,
        dilations=dilations, data_format=layout_of(1, first), name=name or "conv1d",
    )  # fmt: skip


def conv3d(
    input: Any,
    filter: Any = None,
    strides: Any = None,
    padding: Any = None,
    data_format: str = "NDHWC",
    dilations: Any = (1, 1, 1, 1, 1),
    name: str | None = None,
    filters: Any = None,
) -> Value:
    """Cross-correlation in three dims. [n, d, h, w, c], [k, i, j, c, o] -> [n, r, p, q, o]."""
    return cv.convolution(
        input, either("filter", filter, "filters", filters), strides=strides, padding=padding,
        dilations=dilations, data_format=data_format or "NDHWC", name=name or "Conv3D",
    )  # fmt: skip


def atrous_conv2d(
    value: Any, filters: Any, rate: Any, padding: Any, name: str | None = None
) -> Value:
    """conv2d whose filter is spread: `rate` is the distance between its elements."""
    return conv2d(value, filters, 1, padding, dilations=rate, name=name or "convolution")


def atrous_conv2d_transpose(
    value: Any, filters: Any, output_shape: Any, rate: Any, padding: Any, name: str | None = None
) -> Value:
    """conv2d_transpose whose filter is spread: the adjoint of atrous_conv2d."""
    return conv2d_transpose(value, filters, output_shape, 1, padding, name=name, dilations=rate)


def conv2d_transpose(
    value: Any = None,
    filter: Any = None,
    output_shape: Any = None,
    strides: Any = None,
    padding: Any = "SAME",
    data_format: str = "NHWC",
    name: str | None = None,
    input: Any = None,
    filters: Any = None,
    dilations: Any = None,
) -> Value:
    """The gradient of conv2d as an op of its own: images grow by the strides.

    value: [n, p, q, o]; filter: [i, j, c, o]; output_shape: [n, h, w, c].
    """
    return _transposed(
        either("value", value, "input", input), either("filter", filter, "filters", filters),
        output_shape, strides, padding, data_format or "NHWC", dilations,
        name or "conv2d_transpose",
    )  # fmt: skip


def conv1d_transpose(
    input: Any,
    filters: Any,
    output_shape: Any,
    strides: Any,
    padding: Any = "SAME",
    data_format: str = "NWC",
    dilations: Any = None,
    name: str | None = None,
) -> Value:
    """conv2d_transpose of one spatial dim. [n, p, o], [i, c, o] -> [n, w, c]."""
    return _transposed(
        input, filters, output_shape, strides, padding, data_format or "NWC", dilations,
        name or "conv1d_transpose",
    )  # fmt: skip


def conv3d_transpose(
    value: Any = None,
    filter: Any = None,
    output_shape: Any = None,
    strides: Any = None,
    padding: Any = "SAME",
    data_format: str = "NDHWC",
    name: str | None = None,
    input: Any = None,
    filters: Any = None,
    dilations: Any = None,
) -> Value:
    """conv2d_transpose of three spatial dims."""
    return _transposed(
        either("value", value, "input", input), either("filter", filter, "filters", filters),
        output_shape, strides, padding, data_format or "NDHWC", dilations,
        name or "conv3d_transpose",
    )  # fmt: skip


def _transposed(
    x: Any, w: Any, output_shape: Any, strides: Any, padding: Any, layout: str, dilations: Any,
    name: str,
) -> Value:  # fmt: skip
    return cv.conv_transpose(
        x, w, strides=strides, padding=padding, dilations=dilations, output_shape=output_shape,
        data_format=layout, name=name,
    )  # fmt: skip


def _gradient_attrs(strides: Any, padding: Any, data_format: str, dilations: Any) -> dict[str, Any]:
    return {
        "strides": cv.spatial(strides, data_format, "strides"),
        "padding": cv.padding_argument(padding, data_format),
        "dilations": cv.spatial(dilations, data_format, "dilations"),
        "data_format": data_format,
    }


def conv2d_backprop_input(
    input_sizes: Any,
    filter: Any = None,
    out_backprop: Any = None,
    strides: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool = True,
    data_format: str = "NHWC",
    dilations: Any = (1, 1, 1, 1),
    name: str | None = None,
) -> Value:
    """The gradient of conv2d for an input of shape `input_sizes`."""
    del use_cudnn_on_gpu
    g = as_value(out_backprop)
    attrs = _gradient_attrs(strides, padding, data_format, dilations)
    like = zeros(input_sizes, g.dtype)
    return conv.convolution_input_grad(filter, g, like, name=name or "Conv2DBackpropInput", **attrs)


def conv2d_backprop_filter(
    input: Any,
    filter_sizes: Any = None,
    out_backprop: Any = None,
    strides: Any = None,
    padding: Any = None,
    use_cudnn_on_gpu: bool = True,
    data_format: str = "NHWC",
    dilations: Any = (1, 1, 1, 1),
    name: str | None = None,
) -> Value:
    """The gradient of conv2d for a filter of shape `filter_sizes`."""
    del use_cudnn_on_gpu
    x = as_value(input)
    attrs = _gradient_attrs(strides, padding, data_format, dilations)
    like = zeros(filter_sizes, x.dtype)
    return conv.convolution_filter_grad(
        x, out_backprop, like, name=name or "Conv2DBackpropFilter", **attrs
    )


def depthwise_conv2d(
    input: Any,
    filter: Any,
    strides: Any,
    padding: Any,
    rate: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    dilations: Any = None,
) -> Value:
    """Each channel with m filters of its own. [n, h, w, c], [i, j, c, m] -> [n, h', w', c * m]."""
    return cv.depthwise(
        input, filter, strides=strides, padding=padding,
        dilations=either("rate", rate, "dilations", dilations),
        data_format=data_format or "NHWC", name=name or "depthwise",
    )  # fmt: skip


def depthwise_conv2d_native(
    input: Any,
    filter: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NHWC",
    dilations: Any = None,
    name: str | None = None,
) -> Value:
    """depthwise_conv2d, its arguments in another order."""
    return depthwise_conv2d(input, filter, strides, padding, dilations, name, data_format)


def separable_conv2d(
    input: Any,
    depthwise_filter: Any,
    pointwise_filter: Any,
    strides: Any,
    padding: Any,
    rate: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    dilations: Any = None,
) -> Value:
    """A depthwise convolution, then one with filters of size 1 (Chollet, 2017)."""
    layout = data_format or "NHWC"
    x = depthwise_conv2d(input, depthwise_filter, strides, padding, rate, None, layout, dilations)
    return conv2d(x, pointwise_filter, 1, "VALID", data_format=layout, name=name)


# -- pooling


def max_pool(
    value: Any = None,
    ksize: Any = None,
    strides: Any = None,
    padding: Any = None,
    data_format: str = "NHWC",
    name: str | None = None,
    input: Any = None,
) -> Value:
    """The maximum of each window; padding never wins."""
    x = either("value", value, "input", input)
    return _pool(x, "max", ksize, strides, padding, data_format or "NHWC", name or "MaxPool")


def avg_pool(
    value: Any = None,
    ksize: Any = None,
    strides: Any = None,
    padding: Any = None,
    data_format: str = "NHWC",
    name: str | None = None,
    input: Any = None,
) -> Value:
    """The mean of each window; padding does not count."""
    x = either("value", value, "input", input)
    return _pool(x, "avg", ksize, strides, padding, data_format or "NHWC", name or "AvgPool")


def max_pool3d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NDHWC",
    name: str | None = None,
) -> Value:
    """The maximum of each window in three dims. [n, d, h, w, c]"""
    return _pool(input, "max", ksize, strides, padding, data_format or "NDHWC", name or "MaxPool3D")


def avg_pool3d(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NDHWC",
    name: str | None = None,
) -> Value:
    """The mean of each window in three dims. [n, d, h, w, c]"""
    return _pool(input, "avg", ksize, strides, padding, data_format or "NDHWC", name or "AvgPool3D")


def _pool(
    x: Any, kind: str, ksize: Any, strides: Any, padding: Any, layout: str, name: str
) -> Value:
    if ksize is None or strides is None:
        raise AttributeValueError("pooling needs ksize and strides")
    return cv.pool(
        x, ksize, kind=kind, strides=strides, padding=padding, data_format=layout, name=name
    )


def pool(
    input: Any,
    window_shape: Any,
    pooling_type: str,
    padding: Any,
    dilation_rate: Any = None,
    strides: Any = None,
    name: str | None = None,
    data_format: str | None = None,
    dilations: Any = None,
) -> Value:
    """The "MAX" or "AVG" of each window, in as many dims as the image has."""
    if pooling_type not in ("MAX", "AVG"):
        raise AttributeValueError(f"pooling_type is 'MAX' or 'AVG', got {pooling_type!r}")
    return cv.pool(
        input, window_shape, kind=pooling_type.lower(), strides=strides, padding=padding,
        dilations=either("dilation_rate", dilation_rate, "dilations", dilations),
        data_format=data_format, name=name or f"{pooling_type.lower()}_pool",
    )  # fmt: skip


def max_pool_with_argmax(
    input: Any,
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str = "NHWC",
    Targmax: Any = int64,
    name: str | None = None,
    output_dtype: Any = None,
    include_batch_in_index: bool = False,
) -> tuple[Value, Value]:
    """The maxima of an image [n, h, w, c] and their places (y * w + x) * c + channel.

    `include_batch_in_index`: ((batch * h + y) * w + x) * c + channel. The first of equal maxima.
    """
    if data_format != "NHWC":
        raise AttributeValueError(f"max_pool_with_argmax takes NHWC images, got {data_format!r}")
    x, dtype = as_value(input), as_dtype(output_dtype or Targmax)
    if not dtype.is_integer:
        raise DTypeError(f"positions are integers, not {dtype}")
    y, place = cv.max_pool_positions(
        x, ksize, strides=strides, padding=padding, data_format="NHWC",
        name=name or "MaxPoolWithArgmax",
    )  # fmt: skip
    dims = x.type.shape
    if dims is None or any(isinstance(d, str) for d in dims[1:]):
        raise ShapeError(f"max_pool_with_argmax needs to know height, width, channels: {x!r}")
    height, width, channels = (int(d) for d in dims[1:])
    flat = place * channels + source.iota(shape=(channels,), axis=0, dtype=int64)
    if include_batch_in_index:
        flat = flat + _batch_index(x) * (height * width * channels)
    return y, cast(flat, dtype)


def _batch_index(x: Value) -> Value:
    """[n, 1, 1, 1]: each image's number, of a batch whose size may be unknown."""
    return OPS["reshape"](range_(shape(x)[0], dtype=int64), shape=(-1, 1, 1, 1))


__all__ = [
    "atrous_conv2d", "atrous_conv2d_transpose", "avg_pool", "avg_pool3d", "conv1d",
    "conv1d_transpose", "conv2d", "conv2d_backprop_filter", "conv2d_backprop_input",
    "conv2d_transpose", "conv3d", "conv3d_transpose", "convolution", "depthwise_conv2d",
    "depthwise_conv2d_native", "max_pool", "max_pool3d", "max_pool_with_argmax", "pool",
    "separable_conv2d",
]  # fmt: skip

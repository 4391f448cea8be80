"""Convolution and pooling in one, two and three dims; the TF1 spellings are in `windowing`.

Arguments are one number per spatial dim, or one for all. `data_format` is TensorFlow's: "NWC",
"NHWC", "NDHWC", or channels first: "NCW", "NCHW", "NCDHW"; None: channels last. Padding is "SAME"
(also "SAME_UPPER": the odd rest after the image), "SAME_LOWER", "VALID", or (before, after) pairs.
"""

from __future__ import annotations

import math
from typing import Any

from graphc.frontend.arguments import as_value, static_ints
from graphc.frontend.sources import zeros
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Value
from graphc.ir.ops import conv, slicing
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import pool as pools
from graphc.ir.ops.geometry import is_same, layout_of, spatial_axes
from graphc.ir.table import OPS


def layout_for(x: Value, data_format: str | None) -> str:
    """The data format, by default channels last in as many dims as the image has."""
    if data_format is not None:
        spatial_axes(data_format)
        return data_format
    if x.type.rank is None:
        raise ShapeError(f"an image of unknown rank needs data_format, got {x!r}")
    return layout_of(x.type.rank - 2, channels_first=False)


def spatial(value: Any, layout: str, what: str) -> tuple[int, ...]:
    """One number per spatial dim: of a list for all dims, for the spatial ones, or one number."""
    axes = spatial_axes(layout)
    items = list(static_ints(1 if value is None else value, what))
    if len(items) == len(axes) + 2:
        if any(v != 1 for i, v in enumerate(items) if i not in axes):
            raise AttributeValueError(
                f"{what} of the batch and channel dims must be 1, got {items} for {layout}"
            )
        return tuple(items[a] for a in axes)
    if len(items) in (1, len(axes)):
        return tuple(items * len(axes) if len(items) == 1 else items)
    raise AttributeValueError(
        f"{what} are 1, {len(axes)} or {len(axes) + 2} numbers for {layout}, got {value!r}"
    )


def padding_argument(padding: Any, layout: str) -> Any:
    """A name of a rule in capitals, or pairs of the spatial dims (also of all dims, or one)."""
    if isinstance(padding, str):
        name = padding.upper()
        return "SAME" if name == "SAME_UPPER" else name
    axes = spatial_axes(layout)
    if padding is None:
        raise AttributeValueError("padding is missing: 'SAME', 'VALID' or (before, after) pairs")
    if isinstance(padding, int):
        return ((padding, padding),) * len(axes)
    pairs = [tuple(static_ints(p, "padding")) for p in padding]
    if len(pairs) == len(axes) + 2:
        pairs = [pairs[a] for a in axes]
    return tuple(p * 2 if len(p) == 1 else p for p in pairs)


def convolution(
    x: Any,
    filter: Any,
    *,
    strides: Any = 1,
    padding: Any = "VALID",
    dilations: Any = 1,
    groups: int = 1,
    data_format: str | None = None,
    name: str | None = None,
) -> Value:
    """Cross-correlation of images with filters, in one, two or three dims.

    x: [n, h, w, c]; filter: [i, j, c / groups, o] -> [n, p, q, o]. Float dtypes.
    """
    image = as_value(x)
    layout = layout_for(image, data_format)
    return conv.convolution(
        image, filter, groups=groups, name=name,
        **_convolution_attrs(strides, padding, dilations, layout),
    )  # fmt: skip


def _convolution_attrs(strides: Any, padding: Any, dilations: Any, layout: str) -> dict[str, Any]:
    return {
        "strides": spatial(strides, layout, "strides"),
        "padding": padding_argument(padding, layout),
        "dilations": spatial(dilations, layout, "dilations"),
        "data_format": layout,
    }


def depthwise(
    x: Any,
    filter: Any,
    *,
    strides: Any = 1,
    padding: Any = "VALID",
    dilations: Any = 1,
    data_format: str | None = None,
    name: str | None = None,
) -> Value:
    """Each channel with m filters of its own. [n, h, w, c], [i, j, c, m] -> [n, h', w', c * m]."""
    image, w = as_value(x), as_value(filter)
    layout = layout_for(image, data_format)
    attrs = _convolution_attrs(strides, padding, dilations, layout)
    return conv.depthwise_convolution(image, w, name=name, **attrs)


def conv_transpose(
    x: Any,
    filter: Any,
    *,
    strides: Any = 1,
    padding: Any = "VALID",
    dilations: Any = 1,
    groups: int = 1,
    output_padding: Any = 0,
    output_shape: Any = None,
    data_format: str | None = None,
    name: str | None = None,
) -> Value:
    """The convolution's image gradient as an op of its own: images grow by the strides.

    x: [n, p, q, o]; filter: [i, j, c / groups, o] -> [n, h, w, c]. "SAME": h = p * stride, else
    h = (p - 1) * stride + dilation * (i - 1) + 1 - padding + output_padding. `output_shape`, all
    dims of the result, instead of output_padding: one of those of which the convolution makes x.
    """
    image, w = as_value(x), as_value(filter)
    layout = layout_for(image, data_format)
    attrs = _convolution_attrs(strides, padding, dilations, layout)
    more = _output_padding(output_padding, layout)
    if output_shape is not None:
        if any(more):
            raise AttributeValueError("give output_shape or output_padding, not both")
        like = zeros(output_shape, image.dtype)
        return conv.convolution_input_grad(w, image, like, groups=groups, name=name, **attrs)
    image, more = _more_images(image, more, attrs)
    return conv.convolution_transpose(
        image, w, groups=groups, output_padding=more, name=name, **attrs
    )


def _output_padding(value: Any, layout: str) -> tuple[int, ...]:
    count = len(spatial_axes(layout))
    items = static_ints(value, "output_padding")
    if len(items) not in (1, count) or any(i < 0 for i in items):
        raise AttributeValueError(
            f"output_padding is {count} numbers, not negative, for {layout}; got {value!r}"
        )
    return items * count if len(items) == 1 else items


def _more_images(
    x: Value, more: tuple[int, ...], attrs: dict[str, Any]
) -> tuple[Value, tuple[int, ...]]:
    """Output padding of whole strides as zeros behind the input, and the rest."""
    strides = attrs["strides"]
    if is_same(attrs["padding"]) and any(more):
        raise AttributeValueError("output_padding has no meaning with padding='SAME'")
    if all(m < s for m, s in zip(more, strides, strict=True)):
        return x, more
    rank = len(strides) + 2
    high = [0] * rank
    for axis, m, s in zip(spatial_axes(attrs["data_format"]), more, strides, strict=True):
        high[axis] = m // s
    zero = (0,) * rank
    wide = slicing.pad(x, low=zero, high=tuple(high), interior=zero)
    return wide, tuple(m % s for m, s in zip(more, strides, strict=True))


def pool(
    x: Any,
    window: Any,
    *,
    kind: str = "max",
    strides: Any = 1,
    padding: Any = "VALID",
    dilations: Any = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    p: float = 2,
    data_format: str | None = None,
    name: str | None = None,
) -> Value:
    """ "max", "avg", "sum" or "lp" ((sum of |x|^p)^(1/p); "l2": p = 2) of every window.

    `ceil_mode`: a last window may reach beyond the padding. `count_include_pad`: an average
    counts the padding as zeros.
    """
    image = as_value(x)
    attrs = _pool_attrs(image, window, strides, padding, dilations, ceil_mode, data_format)
    match kind:
        case "max":
            return pools.max_pool(image, name=name, **attrs)
        case "avg":
            divisor = "window" if count_include_pad else "pixels"
            return pools.avg_pool(image, divisor=divisor, name=name, **attrs)
        case "sum":
            return pools.avg_pool(image, divisor="one", name=name, **attrs)
        case "lp" | "l2":
            return _lp_pool(image, float(p if kind == "lp" else 2), attrs, name)
    raise AttributeValueError(f"kind is 'max', 'avg', 'sum', 'lp' or 'l2', got {kind!r}")


def _lp_pool(x: Value, p: float, attrs: dict[str, Any], name: str | None) -> Value:
    if not p > 0 or math.isinf(p):
        raise AttributeValueError(f"p is a positive number, got {p}")
    powers = {1.0: pw.abs_, 2.0: pw.square}
    power = powers[p](x) if p in powers else pw.pow_(pw.abs_(x), p)
    total = pools.avg_pool(power, divisor="one", **attrs)
    if p == 1.0:
        return OPS["identity"](total, name=name)
    return pw.sqrt(total, name=name) if p == 2.0 else pw.pow_(total, 1.0 / p, name=name)


def _pool_attrs(
    x: Value, window: Any, strides: Any, padding: Any, dilations: Any, ceil_mode: bool,
    data_format: str | None,
) -> dict[str, Any]:  # fmt: skip
    layout = layout_for(x, data_format)
    return {
        "window": spatial(window, layout, "the window"),
        "ceil_mode": bool(ceil_mode),
        **_convolution_attrs(strides, padding, dilations, layout),
    }


def max_pool_positions(
    x: Any,
    window: Any,
    *,
    strides: Any = 1,
    padding: Any = "VALID",
    dilations: Any = 1,
    ceil_mode: bool = False,
    data_format: str | None = None,
    name: str | None = None,
) -> tuple[Value, Value]:
    """The maximum of every window, and where its first one lies.

    Positions are int64, row-major over the spatial dims of x without padding.
    """
    image = as_value(x)
    attrs = _pool_attrs(image, window, strides, padding, dilations, ceil_mode, data_format)
    y = pools.max_pool(image, name=name, **attrs)
    return y, pools.max_pool_positions(image, y, **attrs)


__all__ = [
    "conv_transpose", "convolution", "depthwise", "layout_for", "max_pool_positions",
    "padding_argument", "pool", "spatial",
]  # fmt: skip

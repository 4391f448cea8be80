"""How windows lie over an image: layouts, padding, counts, for one, two and three dims.

Shared by convolution and pooling. A layout is TensorFlow's `data_format`; everything else is one
number per spatial dim: window sizes, strides, dilations, and padding before and after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Value
from graphc.ir.ops import movement as mv
from graphc.ir.ops import slicing
from graphc.ir.ops.windows import unfold, window_spread
from graphc.ir.table import Attrs
from graphc.ir.types import UNKNOWN, Dim

Sizes = tuple[int, ...]

_SPATIAL: Final[Mapping[str, Sizes]] = {
    "NWC": (1,), "NCW": (2,), "NHWC": (1, 2), "NCHW": (2, 3), "NDHWC": (1, 2, 3),
    "NCDHW": (2, 3, 4),
}  # fmt: skip
_SAME: Final = ("SAME", "SAME_UPPER", "SAME_LOWER")


@dataclass(frozen=True, slots=True)
class Window:
    """Windows over an image of known size; `extra` is the part of `high` that ceil_mode added."""

    size: Sizes
    stride: Sizes
    dilation: Sizes
    low: Sizes
    high: Sizes
    extra: Sizes

    @property
    def attrs(self) -> dict[str, Any]:
        """The attributes of `unfold`, without the axes."""
        return {"window": self.size, "stride": self.stride, "dilation": self.dilation}


def spatial_axes(data_format: str) -> Sizes:
    """The axes of depth, height and width, as many as the layout has."""
    try:
        return _SPATIAL[data_format]
    except (KeyError, TypeError):
        raise AttributeValueError(
            f"data_format is one of {', '.join(_SPATIAL)}, got {data_format!r}"
        ) from None


def channel_axis(data_format: str) -> int:
    """The axis of the channels."""
    return 1 if data_format[1] == "C" else len(data_format) - 1


def layout_of(rank: int, channels_first: bool) -> str:
    """The layout with so many spatial dims; AttributeValueError beyond three."""
    if not 1 <= rank <= 3:
        raise AttributeValueError(f"images have one, two or three spatial dims, got {rank}")
    letters = "DHW"[3 - rank :]
    return f"NC{letters}" if channels_first else f"N{letters}C"


def is_same(padding: Any) -> bool:
    """True when the padding follows from the strides."""
    return padding in _SAME


def per_dim(attrs: Attrs, name: str) -> Sizes:
    """The attribute per spatial dim; ones where it is None or the op has none."""
    given = attrs.get(name)
    return (1,) * len(spatial_axes(attrs["data_format"])) if given is None else tuple(given)


def _are_sizes(value: Any, count: int, least: int) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == count
        and all(isinstance(v, str) or (isinstance(v, int) and v >= least) for v in value)
    )


def check_window(attrs: Attrs, window: Any) -> None:
    """AttributeValueError unless window, strides, dilations and padding are what they can be."""
    rank = len(spatial_axes(attrs["data_format"]))
    padding = attrs["padding"]
    explicit = isinstance(padding, tuple) and len(padding) == rank
    pairs = explicit and all(_are_sizes(p, 2, 0) for p in padding)
    if not pairs and padding != "VALID" and not is_same(padding):
        raise AttributeValueError(
            f"padding is 'SAME', 'VALID', 'SAME_LOWER' or {rank} pairs (before, after), "
            f"got {padding!r}"
        )
    for name in ("strides", "dilations"):
        if attrs.get(name) is not None and not _are_sizes(attrs[name], rank, 1):
            raise AttributeValueError(
                f"{name} are {rank} positive numbers for {attrs['data_format']}, "
                f"got {attrs[name]!r}"
            )
    if not _are_sizes(window, rank, 1):
        raise AttributeValueError(f"a window has {rank} positive sizes, got {window!r}")


def _same_padding(n: int, reach: int, stride: int, lower: bool) -> tuple[int, int]:
    """As many windows as strides fit; the odd rest after, or before for SAME_LOWER."""
    total = max((-(-n // stride) - 1) * stride + reach - n, 0)
    less, more = total // 2, total - total // 2
    return (more, less) if lower else (less, more)


def _count(size: int, reach: int, stride: int, pair: Sequence[int], ceil: bool) -> int:
    """The number of windows over a size with padding (before, after).

    `ceil`: also a last one that reaches beyond the padding, if it begins before the padding
    after the image; torch's rule, and ONNX's.
    """
    room = size + pair[0] + pair[1] - reach
    if not ceil:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= size + pair[0] else count


def output_size(size: Dim, window: Dim, attrs: Attrs, which: int) -> Dim:
    """The number of windows along a spatial dim; ShapeError when the window does not fit."""
    stride = per_dim(attrs, "strides")[which]
    same = is_same(attrs["padding"])
    if isinstance(size, str) or isinstance(window, str):
        return size if same and stride == 1 else UNKNOWN
    if same:
        return -(-size // stride)
    reach = (window - 1) * per_dim(attrs, "dilations")[which] + 1
    pair = _explicit(attrs["padding"], which)
    count = _count(size, reach, stride, pair, attrs.get("ceil_mode", False))
    if count < 1:
        raise ShapeError(f"a window of {reach} does not fit a padded size of {size + sum(pair)}")
    return count


def _explicit(padding: Any, which: int) -> tuple[int, int]:
    if padding == "VALID":
        return 0, 0
    low, high = padding[which]
    return low, high


def window_of(shape: Sequence[int], size: Sizes, attrs: Attrs) -> Window:
    """The windows over an image of the static shape."""
    stride, dilation = per_dim(attrs, "strides"), per_dim(attrs, "dilations")
    columns = []
    for i, axis in enumerate(spatial_axes(attrs["data_format"])):
        reach = (size[i] - 1) * dilation[i] + 1
        columns.append(_padding_along(shape[axis], reach, stride[i], attrs, i))
    low, high, extra = zip(*columns, strict=True)
    return Window(size, stride, dilation, low, high, extra)


def _padding_along(
    size: int, reach: int, stride: int, attrs: Attrs, which: int
) -> tuple[int, int, int]:
    """Padding before and after, and the part of the latter that is ceil_mode's."""
    padding = attrs["padding"]
    if is_same(padding):
        return (*_same_padding(size, reach, stride, padding == "SAME_LOWER"), 0)
    low, high = _explicit(padding, which)
    if not attrs.get("ceil_mode"):
        return low, high, 0
    count = _count(size, reach, stride, (low, high), True)
    extra = max((count - 1) * stride + reach - size - low - high, -high)
    return low, high + extra, extra


def pad_image(x: Value, window: Window, axes: Sizes, fill: float = 0) -> Value:
    """The image with its padding."""
    rank = len(x.type.static_shape)
    low, high = ([0] * rank, [0] * rank)
    for i, axis in enumerate(axes):
        low[axis], high[axis] = window.low[i], window.high[i]
    if not any(low) and not any(high):
        return x
    return slicing.pad(x, low=tuple(low), high=tuple(high), interior=(0,) * rank, fill=fill)


def windows(x: Value, window: Window, data_format: str, fill: float = 0) -> Value:
    """All windows of the padded image: [n, p, q, c, i, j], or [n, c, p, q, i, j] for NCHW."""
    axes = spatial_axes(data_format)
    return unfold(pad_image(x, window, axes, fill), axes=axes, **window.attrs)


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
    wide = mv.reshape(g, shape=(*counts, *(1,) * len(axes)))
    wide = mv.broadcast_to_shape(wide, (*counts, *window.size))
    spread = window_spread(wide, axes=axes, shape=tuple(padded), **window.attrs)
    rank = len(counts) + len(axes)
    start = [0] * rank
    for i, axis in enumerate(axes):
        start[axis] = window.low[i]
    if not any(start) and list(shape) == padded:
        return spread
    size = (*shape, *window.size)
    return slicing.slice_(spread, start=tuple(start), size=size, step=(1,) * rank)

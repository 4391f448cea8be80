"""Pooling over windows of an image in one, two and three dims, and its gradients.

The maximum's gradient goes to the first maximum of the window, row by row; that position is
found again in the backward pass from the windows themselves, and no index is kept.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from graphc.ir.dtypes import DType, int32, int64
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Node, Value, constant, convert
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import reduce as red
from graphc.ir.ops import source
from graphc.ir.ops.geometry import (
    Sizes,
    Window,
    check_window,
    output_size,
    spatial_axes,
    spread_windows,
    window_of,
    windows,
)
from graphc.ir.ops.windows import window_count
from graphc.ir.table import REQUIRED, Attrs, Kind, NoGradient, Op, Sample, Types, register
from graphc.ir.types import UNKNOWN, TensorType

_ATTRS: Final[Attrs] = {
    "window": REQUIRED, "strides": None, "padding": "VALID", "dilations": None,
    "data_format": "NHWC", "ceil_mode": False,
}  # fmt: skip
# what an average divides by: the pixels in the window, those and the padding, or nothing
_DIVISORS: Final = ("pixels", "window", "one")
_AVG_ATTRS: Final[Attrs] = {**_ATTRS, "divisor": "pixels"}


def _pool_type(types: Types, attrs: Attrs) -> TensorType:
    axes = spatial_axes(attrs["data_format"])
    check_window(attrs, attrs["window"])
    shape = types[0].shape
    if shape is None:
        return types[0].with_shape((UNKNOWN,) * (len(axes) + 2))
    if len(shape) != len(axes) + 2:
        raise ShapeError(
            f"pooling in {len(axes)} dims needs images of rank {len(axes) + 2}, got {types[0]}"
        )
    dims = list(shape)
    for i, axis in enumerate(axes):
        dims[axis] = output_size(shape[axis], attrs["window"][i], attrs, i)
    return types[0].with_shape(tuple(dims))


def _max_type(types: Types, attrs: Attrs) -> TensorType:
    pw.check_category(types, pw.NUMERIC)
    return _pool_type(types, attrs)


def _avg_type(types: Types, attrs: Attrs) -> TensorType:
    pw.check_category(types, "float")
    if attrs["divisor"] not in _DIVISORS:
        raise AttributeValueError(f"divisor is one of {_DIVISORS}, got {attrs['divisor']!r}")
    return _pool_type(types, attrs)


def _window(x: Value, attrs: Attrs) -> Window:
    return window_of(x.type.static_shape, attrs["window"], attrs)


@dataclass(frozen=True, slots=True)
class _View:
    """An image as its windows: the value, and the axes that lie inside a window."""

    value: Value
    inside: Sizes

    @property
    def sizes(self) -> Sizes:
        """The window's sizes."""
        return tuple(self.value.type.static_shape[a] for a in self.inside)


def _view(x: Value, attrs: Attrs, fill: float) -> _View:
    """The windows; where they tile the image, only a reshape of it: [n, p, i, q, j, c]."""
    if _tiles(x, attrs):
        return _View(mv.reshape(x, shape=_tiled_shape(x, attrs)), _tiled_axes(attrs))
    return _View(windows(x, _window(x, attrs), attrs["data_format"], fill), _last_axes(attrs))


def _last_axes(attrs: Attrs) -> Sizes:
    """The axes inside a window where windows overlap: the last ones."""
    rank = len(attrs["window"])
    return tuple(range(rank + 2, 2 * rank + 2))


def _tiles(x: Value, attrs: Attrs) -> bool:
    """True when every pixel lies in exactly one window."""
    window = _window(x, attrs)
    sizes = [x.type.static_shape[axis] for axis in spatial_axes(attrs["data_format"])]
    whole = all(n % k == 0 for n, k in zip(sizes, window.size, strict=True))
    dense = all(d == 1 or k == 1 for d, k in zip(window.dilation, window.size, strict=True))
    return whole and dense and window.size == window.stride and not any(window.low + window.high)


def _tiled_axes(attrs: Attrs) -> Sizes:
    return tuple(axis + i + 1 for i, axis in enumerate(spatial_axes(attrs["data_format"])))


def _tiled_shape(x: Value, attrs: Attrs) -> Sizes:
    axes, shape = spatial_axes(attrs["data_format"]), x.type.static_shape
    parts = {a: (shape[a] // k, k) for a, k in zip(axes, attrs["window"], strict=True)}
    return tuple(d for axis, n in enumerate(shape) for d in parts.get(axis, (n,)))


# -- the maximum


def _least(dtype: DType) -> float:
    """What padding holds, so that it never wins."""
    return float("-inf") if dtype.is_floating else int(np.iinfo(dtype.numpy).min)


def _max_pool(node: Node) -> Value:
    x = node.inputs[0]
    view = _view(x, node.attrs, _least(x.dtype))
    return red.reduce_max(view.value, axis=view.inside)


def _ranges(shape: Sequence[int], axes: Sizes, steps: Sequence[int], dtype: DType) -> Value:
    """The sum of position * step over the axes, in the shape."""
    parts = []
    for axis, step in zip(axes, steps, strict=True):
        line = source.iota(shape=tuple(shape), axis=axis, dtype=dtype)
        parts.append(line if step == 1 else line * step)
    return functools.reduce(pw.add, parts)


def _offsets(view: _View, shape: Sequence[int]) -> Value:
    """The row-major position inside its window, so that it broadcasts to `shape`."""
    size = tuple(shape[a] for a in view.inside)
    if view.inside == tuple(range(len(shape) - len(size), len(shape))):
        # the last dims: one range over all, which needs no arithmetic
        return mv.reshape(source.iota(shape=(math.prod(size),), dtype=int32), shape=size)
    steps = [math.prod(size[i + 1 :]) for i in range(len(size))]
    return _ranges(shape, view.inside, steps, int32)


def _is_top(view: _View, y: Value) -> Value:
    """Where a window has its maximum, or NaN."""
    top = mv.expand_dims(y, axis=view.inside)
    hit = pw.equal(view.value, top)
    return pw.logical_or(hit, pw.is_nan(view.value)) if y.dtype.is_floating else hit


def _first(view: _View, y: Value) -> Value:
    """The position of the window's first maximum, or NaN, with the inner axes kept as 1."""
    none = convert(math.prod(view.sizes), dtype=int32)
    ranked = pw.where(_is_top(view, y), _offsets(view, view.value.type.static_shape), none)
    return red.reduce_min(ranked, axis=view.inside, keepdims=True)


def _max_pool_grad(node: Node) -> Value:
    x, y, g = node.inputs
    attrs = node.attrs
    view = _view(x, attrs, float("-inf"))
    first = _first(view, y)
    zero = convert(0, like=g.dtype)
    if _tiles(x, attrs):
        own = pw.equal(first, _offsets(view, view.value.type.static_shape))
        chosen = pw.where(own, mv.expand_dims(g, axis=view.inside), zero)
        return mv.reshape(chosen, shape=x.type.static_shape)
    window, image = _window(x, attrs), x.type.static_shape
    flat = mv.reshape(first, shape=y.type.static_shape)
    position = spread_windows(flat, window, image, attrs["data_format"])
    spread = spread_windows(g, window, image, attrs["data_format"])
    own = pw.equal(position, _offsets(view, position.type.static_shape))
    return red.reduce_sum(pw.where(own, spread, zero), axis=_last_axes(attrs))


def _max_pool_pick(node: Node) -> Value:
    x, y, h = node.inputs
    view = _view(x, node.attrs, float("-inf"))
    first = _first(view, y)
    own = pw.equal(first, _offsets(view, view.value.type.static_shape))
    given = _view(h, node.attrs, 0).value
    return red.reduce_sum(pw.where(own, given, convert(0, like=h.dtype)), axis=view.inside)


def _positions(node: Node) -> Value:
    """Row-major positions in the image grow with those in a window: the first is the least."""
    x, y = node.inputs
    attrs = node.attrs
    window = _window(x, attrs)
    axes = spatial_axes(attrs["data_format"])
    view = _View(windows(x, window, attrs["data_format"], _least(x.dtype)), _last_axes(attrs))
    shape = view.value.type.static_shape
    sizes = [x.type.static_shape[a] for a in axes]
    pitch = [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
    steps = [s * p for s, p in zip(window.stride, pitch, strict=True)]
    inner = [d * p for d, p in zip(window.dilation, pitch, strict=True)]
    place = _ranges(shape, (*axes, *view.inside), (*steps, *inner), int64)
    place = place - sum(low * p for low, p in zip(window.low, pitch, strict=True))
    none = convert(math.prod(sizes), dtype=int64)
    hit = pw.logical_and(_is_top(view, y), _in_image(view, window, sizes, axes))
    return red.reduce_min(pw.where(hit, place, none), axis=view.inside)


def _in_image(view: _View, window: Window, sizes: Sequence[int], axes: Sizes) -> Value:
    """Where a window's element is no padding, which may hold the maximum too when that is -inf."""
    tests: list[Value] = []
    shape = view.value.type.static_shape
    for i, axis in enumerate(axes):
        steps = (window.stride[i], window.dilation[i])
        at = _ranges(shape, (axis, view.inside[i]), steps, int32) - window.low[i]
        tests += [at >= 0] if window.low[i] else []
        tests += [at < sizes[i]] if window.high[i] > 0 else []
    return functools.reduce(pw.logical_and, tests) if tests else convert(True)


# -- the mean


def _weights(x: Value, attrs: Attrs) -> np.ndarray:
    """One over what each window's sum is divided by, one dim per spatial dim."""
    window = _window(x, attrs)
    sizes = [x.type.static_shape[axis] for axis in spatial_axes(attrs["data_format"])]
    along = [_counts(window, i, n, attrs["divisor"] == "window") for i, n in enumerate(sizes)]
    if attrs["divisor"] == "one":
        along = [np.ones_like(a) for a in along]
    weights: np.ndarray = 1.0 / functools.reduce(np.multiply.outer, along)
    return weights


def _counts(window: Window, which: int, size: int, with_padding: bool) -> np.ndarray:
    """How many elements of each window along a dim count; at least 1."""
    low, high = window.low[which], window.high[which]
    stride, dilation, k = (v[which] for v in (window.stride, window.dilation, window.size))
    count = window_count(size + low + high, k, stride, dilation)
    at = (np.arange(count) * stride - low)[:, None] + np.arange(k) * dilation
    first, last = (-low, size + high - window.extra[which]) if with_padding else (0, size)
    inside: np.ndarray = ((at >= first) & (at < last)).sum(1)
    least: np.ndarray = np.maximum(inside, 1)
    return least


def _weights_value(x: Value, attrs: Attrs) -> Value:
    """The weights as a constant that broadcasts over the pooled image; a scalar when all agree."""
    weights = _weights(x, attrs)
    if weights.size and (weights == weights.flat[0]).all():
        weights = weights.reshape(-1)[0]
    elif attrs["data_format"][1] != "C":
        weights = weights[..., None]
    return constant(np.asarray(weights, x.dtype.numpy), dtype=x.dtype)


def _avg_pool(node: Node) -> Value:
    x = node.inputs[0]
    view = _view(x, node.attrs, 0)
    total = red.reduce_sum(view.value, axis=view.inside)
    return total if node.attrs["divisor"] == "one" else total * _weights_value(x, node.attrs)


def _avg_pool_grad(node: Node) -> Value:
    x, g = node.inputs
    attrs = node.attrs
    weights = _weights_value(x, attrs)
    if _tiles(x, attrs):
        wide = mv.expand_dims(g * weights, axis=_tiled_axes(attrs))
        spread = mv.broadcast_to_shape(wide, _tiled_shape(x, attrs))
        return mv.reshape(spread, shape=x.type.static_shape)
    window, image = _window(x, attrs), x.type.static_shape
    spread = spread_windows(g, window, image, attrs["data_format"])
    inside = _last_axes(attrs)
    if weights.type.shape == ():
        return red.reduce_sum(spread, axis=inside) * weights
    # weighted behind the movement: before it, the product would have to be stored
    all_weights = mv.broadcast_to_shape(weights, g.type.static_shape)
    spread_weights = spread_windows(all_weights, window, image, attrs["data_format"])
    return red.reduce_sum(spread * spread_weights, axis=inside)


# -- samples and entries

_CASES: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
    ((2, 4, 6, 3), {"window": (2, 2), "strides": (2, 2)}),
    ((1, 5, 7, 2), {"window": (3, 2), "strides": (2, 2), "padding": "SAME"}),
    ((2, 3, 5, 5), {"window": (3, 3), "strides": (1, 2), "padding": "SAME", "data_format": "NCHW"}),
    ((1, 6, 5, 1), {"window": (2, 3), "strides": (1, 1)}),
    ((1, 7, 6, 1), {"window": (3, 2), "strides": (3, 2), "dilations": (2, 3), "ceil_mode": True,
                    "padding": ((1, 1), (0, 1))}),
    ((2, 7, 3), {"window": (3,), "strides": (2,), "padding": "SAME_LOWER", "data_format": "NWC"}),
    ((1, 2, 4, 3, 5), {"window": (2, 1, 2), "data_format": "NCDHW", "strides": (2, 1, 2),
                       "ceil_mode": True}),
    ((1, 4, 2, 6, 1), {"window": (2, 2, 3), "data_format": "NDHWC", "strides": (2, 2, 3)}),
)  # fmt: skip


def _samples(
    attrs: Attrs | None = None,
    output: bool = False,
    gradient: bool = False,
    image: bool = False,
) -> Any:
    """Inputs: the image, and what else the op takes; the last one is differentiable."""

    def samples() -> Iterable[Sample]:
        rng = np.random.default_rng(29)
        for shape, case in _CASES:
            # distinct values: at a tie the maximum has no derivative
            x = rng.permutation(int(np.prod(shape))).reshape(shape).astype(np.float32) / 8
            inputs = [x]
            y = _pooled(x, case)
            if output:
                inputs.append(y)
            if gradient:
                inputs.append(rng.standard_normal(y.shape).astype(np.float32))
            if image:
                inputs.append(rng.standard_normal(shape).astype(np.float32))
            last = len(inputs) - 1
            yield Sample(tuple(inputs), {**case, **(attrs or {})}, (last,) if last else None)

    return samples


def _avg_samples(gradient: bool = False) -> Any:
    def samples() -> Iterable[Sample]:
        for divisor in _DIVISORS:
            yield from _samples({"divisor": divisor}, gradient=gradient)()

    return samples


def _pooled(x: np.ndarray, attrs: dict[str, Any]) -> np.ndarray:
    from graphc.ir.interpret import evaluate

    return evaluate([max_pool(x, **attrs)])[0]


max_pool: Op = register(
    Op(
        "max_pool", Kind.COMPOSITE, _max_type, attrs=_ATTRS,
        grad=lambda node, grads: [
            max_pool_grad(node.inputs[0], node.outputs[0], grads[0], **node.attrs)
        ],
        decompose=_max_pool, samples=_samples(),
        doc="""The maximum of each window; NaN when it holds one. Padding never wins.

        `ceil_mode`: a last window may reach beyond the padding.""",
    )
)  # fmt: skip
max_pool_grad: Op = register(
    Op(
        "max_pool_grad", Kind.COMPOSITE, lambda types, _: types[0], attrs=_ATTRS,
        grad=lambda node, grads: [
            None, None, max_pool_pick(*node.inputs[:2], grads[0], **node.attrs)
        ],
        decompose=_max_pool_grad, samples=_samples(output=True, gradient=True),
        doc="The gradient of max_pool: (image, pooled, gradient) to the first maximum.",
    )
)  # fmt: skip
max_pool_pick: Op = register(
    Op(
        "max_pool_pick", Kind.COMPOSITE, lambda types, _: types[1], attrs=_ATTRS,
        grad=lambda node, grads: [
            None, None, max_pool_grad(*node.inputs[:2], grads[0], **node.attrs)
        ],
        decompose=_max_pool_pick, samples=_samples(output=True, image=True),
        doc="What the third input, an image, has at each window's first maximum of the first.",
    )
)  # fmt: skip
max_pool_positions: Op = register(
    Op(
        "max_pool_positions", Kind.COMPOSITE, lambda types, _: types[1].with_dtype(int64),
        attrs=_ATTRS, grad=NoGradient("positions are integers", zero=True), decompose=_positions,
        samples=_samples(output=True),
        doc="""Where each window's first maximum lies: (image, pooled) -> int64 positions.

        Row-major over the spatial dims of the image without padding, whatever its layout.""",
    )
)  # fmt: skip
avg_pool: Op = register(
    Op(
        "avg_pool", Kind.COMPOSITE, _avg_type, attrs=_AVG_ATTRS,
        grad=lambda node, grads: [avg_pool_grad(node.inputs[0], grads[0], **node.attrs)],
        decompose=_avg_pool, samples=_avg_samples(),
        doc="""The mean of each window; padding does not count.

        `divisor` "window": padding counts (what ceil_mode adds does not); "one": the sum.""",
    )
)  # fmt: skip
avg_pool_grad: Op = register(
    Op(
        "avg_pool_grad", Kind.COMPOSITE, lambda types, _: types[0], attrs=_AVG_ATTRS,
        grad=lambda node, grads: [None, avg_pool(grads[0], **node.attrs)],
        decompose=_avg_pool_grad, samples=_avg_samples(gradient=True),
        doc="The gradient of avg_pool: (image for its shape, gradient).",
    )
)  # fmt: skip

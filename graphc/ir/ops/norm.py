"""Normalization: composites of means, variances and what they scale.

    moments(x)             mean and variance along axes
    layer_norm             along the last dims, with gamma and beta of their shape
    batch_normalization    with a mean and variance that are given (broadcast)
    fused_batch_norm       over all dims but the channels, with the batch's own moments
    bias_add, l2_normalize, l2_loss, local_response_normalization

Variances are those of the whole (divided by n). Gradients are built from means over the same
axes, so they work with unknown sizes and can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Node, Value, convert
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import reduce as red
from graphc.ir.ops import slicing, windows
from graphc.ir.ops.nn import composite, zero_like
from graphc.ir.table import Attrs, Kind, Op, Sample, Types, register
from graphc.ir.types import Shape, TensorType, broadcast_shapes, may_equal, merge_dims, merge_shapes

# -- channels


def channel_axis_of(shape: Shape, data_format: str) -> int:
    """The channels' axis: 1 for "NC...", the last for "N...C"."""
    if data_format not in ("NHWC", "NCHW", "NWC", "NCW", "NDHWC", "NCDHW"):
        raise AttributeValueError(f"data_format is 'NHWC' or 'NCHW', got {data_format!r}")
    if len(shape) < 2:
        raise ShapeError(f"an image has at least the dims batch and channels, got {shape}")
    return 1 if data_format.startswith("NC") else len(shape) - 1


def _other_axes(x: Value, data_format: str) -> tuple[int, ...]:
    assert x.type.shape is not None, "the type rule has asked for a known rank"
    channel = channel_axis_of(x.type.shape, data_format)
    return tuple(i for i in range(len(x.type.shape)) if i != channel)


def per_channel(x: Value, like: Value, data_format: str) -> Value:
    """A vector of channels so that it broadcasts over the image `like`."""
    assert like.type.shape is not None
    behind = len(like.type.shape) - 1 - channel_axis_of(like.type.shape, data_format)
    return mv.reshape(x, shape=(-1,) + (1,) * behind) if behind else x


def _check_channels(types: Types, attrs: Attrs, names: Sequence[str]) -> TensorType:
    """The image's type; the other inputs are vectors of its channels."""
    x = types[0]
    pw.check_category(types, "float")
    if x.shape is None:
        raise ShapeError("the image's rank must be known: give its placeholder a shape")
    channels = x.shape[channel_axis_of(x.shape, attrs["data_format"])]
    for name, t in zip(names, types[1:], strict=True):
        if t.shape is None:
            continue
        if len(t.shape) != 1 or not may_equal(t.shape[0], channels):
            raise ShapeError(
                f"{name} needs one number per channel ({channels} in {x}, {attrs['data_format']}), "
                f"got {t}"
            )
    return x


def _bias_type(types: Types, attrs: Attrs) -> TensorType:
    pw.check_same_dtype(types)
    return _check_channels(types, attrs, ("bias",))


def _bias_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(47)
    for shape, c, data_format in (
        ((3, 5), 5, "NHWC"), ((2, 3, 4, 5), 5, "NHWC"), ((2, 3, 4, 5), 3, "NCHW"),
        ((2, 3), 3, "NCHW"), ((0, 3, 2), 2, "NHWC"), ((1, 1, 1, 1), 1, "NCHW"),
    ):  # fmt: skip
        arrays = (rng.standard_normal(s).astype(np.float32) for s in (shape, (c,)))
        yield Sample(tuple(arrays), {"data_format": data_format})


bias_add = composite(
    "bias_add",
    lambda x, bias, data_format: x + per_channel(bias, x, data_format),
    arity=2,
    attrs={"data_format": "NHWC"},
    grad=lambda g, y, x, bias, data_format: (
        g, red.reduce_sum(g, axis=_other_axes(x, data_format)),
    ),
    type_rule=_bias_type,
    samples=_bias_samples,
    doc="The image plus one number per channel.",
)  # fmt: skip

# -- moments


def _moments_type(types: Types, attrs: Attrs) -> Types:
    pw.check_category(types, "float")
    shape = red.reduced_shape(types[0].shape, attrs["axis"], attrs["keepdims"])
    return (types[0].with_shape(shape),) * 2


def _moments(node: Node) -> tuple[Value, Value]:
    x, attrs = node.inputs[0], node.attrs
    center = red.reduce_mean(x, axis=attrs["axis"], keepdims=True)
    variance = red.reduce_mean(pw.square(x - center), **attrs)
    same = attrs["keepdims"]
    return center if same else mv.reshape_to(center, variance.type.static_shape), variance


def _moments_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    # mean: g / n; variance: 2 (x - mean) g / n, for the mean's own part is a sum of zeros
    x, attrs = node.inputs[0], node.attrs
    parts = []
    if grads[0] is not None:
        parts.append(red.mean_spread(grads[0], x, **attrs))
    if grads[1] is not None:
        center = red.reduce_mean(x, axis=attrs["axis"], keepdims=True)
        parts.append(red.mean_spread(grads[1], x, **attrs) * (x - center) * 2.0)
    return [parts[0] + parts[1] if len(parts) == 2 else parts[0]]


def _moments_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(53)
    for shape, axis, keepdims in (
        ((3, 5), None, False), ((3, 5), (1,), True), ((2, 3, 4, 5), (0, 1, 2), False),
        ((4,), (0,), False), ((3, 1), (1,), False), ((0, 3), (1,), False),
    ):  # fmt: skip
        x = rng.standard_normal(shape).astype(np.float32) + 3
        yield Sample((x,), {"axis": axis, "keepdims": keepdims})


moments = register(
    Op(
        "moments", Kind.COMPOSITE, _moments_type, attrs={"axis": None, "keepdims": False},
        grad=_moments_grad, decompose=_moments, samples=_moments_samples,
        doc="Mean and variance (divided by n) along the axes, in two passes for accuracy.",
    )
)  # fmt: skip

# -- what all normalizations share


def _standardized(x: Value, axes: Any, epsilon: float) -> tuple[Value, Value]:
    """(x - mean) / sqrt(variance + epsilon), and one over that root."""
    centered = x - red.reduce_mean(x, axis=axes, keepdims=True)
    variance = red.reduce_mean(pw.square(centered), axis=axes, keepdims=True)
    inverse = pw.rsqrt(variance + epsilon)
    return centered * inverse, inverse


def _standardized_grad(g: Value, unit: Value, inverse: Value, axes: Any) -> Value:
    """Backward of unit = (x - mean) * inverse: inverse * (g - mean(g) - unit * mean(g unit))."""
    along = red.reduce_mean(g * unit, axis=axes, keepdims=True)
    return inverse * (g - red.reduce_mean(g, axis=axes, keepdims=True) - unit * along)


# -- layer norm


def _layer_norm_axes(x: Value, gamma: Value) -> tuple[int, ...]:
    rank = gamma.type.rank
    assert rank is not None, "the type rule has asked for a known rank"
    return tuple(range(-rank, 0))


def _layer_norm_type(types: Types, _: Attrs) -> TensorType:
    pw.check_category(types, "float")
    pw.check_same_dtype(types)
    x, gamma, beta = types
    shape = merge_shapes(gamma.shape, beta.shape, "layer_norm's gamma and beta need one shape")
    if shape is None or shape == ():
        raise ShapeError(f"layer_norm's gamma has the shape of x's last dims, got {gamma}")
    if x.shape is None:
        return x
    if len(shape) > len(x.shape):
        raise ShapeError(f"layer_norm's gamma {gamma} has more dims than x {x}")
    lead = len(x.shape) - len(shape)
    text = f"layer_norm needs gamma in the shape of x's last dims, got x {x} and gamma {gamma}"
    last = (merge_dims(a, b, text) for a, b in zip(x.shape[lead:], shape, strict=True))
    return x.with_shape((*x.shape[:lead], *last))


def _layer_norm(x: Value, gamma: Value, beta: Value, epsilon: float) -> Value:
    unit, _ = _standardized(x, _layer_norm_axes(x, gamma), epsilon)
    return unit * gamma + beta


def _layer_norm_grad(
    g: Value, _: Value, x: Value, gamma: Value, beta: Value, epsilon: float
) -> tuple[Value, Value, Value]:
    axes = _layer_norm_axes(x, gamma)
    unit, inverse = _standardized(x, axes, epsilon)
    dx = _standardized_grad(g * gamma, unit, inverse, axes)
    return dx, pw.sum_to(g * unit, gamma), pw.sum_to(g, beta)


def _layer_norm_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(59)
    for shape, rank in (((3, 5), 1), ((2, 3, 7), 1), ((2, 3, 4), 2), ((5,), 1), ((0, 3), 1)):
        x, gamma, beta = (
            rng.standard_normal(s).astype(np.float32) for s in (shape, shape[-rank:], shape[-rank:])
        )
        yield Sample((x * 2 + 1, gamma, beta), {"epsilon": 1e-3})
    special = np.array([[1, np.nan, 2], [np.inf, 0, 1], [5, 5, 5]], np.float32)
    ones = np.ones(3, np.float32)
    yield Sample((special, ones, ones), differentiable=(), name="special")


layer_norm = composite(
    "layer_norm", _layer_norm, arity=3, attrs={"epsilon": 1e-5}, grad=_layer_norm_grad,
    type_rule=_layer_norm_type, samples=_layer_norm_samples,
    doc="""gamma (x - mean) / sqrt(variance + epsilon) + beta over the last dims, gamma's dims.

    Ba, Kiros, Hinton, "Layer Normalization", 2016.""",
)  # fmt: skip

# -- batch norm (Ioffe and Szegedy, "Batch Normalization", 2015)


def _given_type(types: Types, _: Attrs) -> TensorType:
    pw.check_category(types, "float")
    pw.check_same_dtype(types)
    shape = broadcast_shapes([t.shape for t in types])
    text = "batch_normalization: mean, variance, offset and scale must broadcast to x"
    return types[0].with_shape(merge_shapes(types[0].shape, shape, text))


def _given(
    x: Value, mean: Value, variance: Value, offset: Value, scale: Value, variance_epsilon: float
) -> Value:
    factor = pw.rsqrt(variance + variance_epsilon) * scale
    return x * factor + (offset - mean * factor)


def _given_grad(
    g: Value, _: Value, x: Value, mean: Value, variance: Value, offset: Value, scale: Value,
    variance_epsilon: float,
) -> tuple[Value, ...]:  # fmt: skip
    inverse = pw.rsqrt(variance + variance_epsilon)
    dx = g * (scale * inverse)
    unit = (x - mean) * inverse
    return (
        dx,
        pw.sum_to(-dx, mean),
        pw.sum_to(dx * unit * (inverse * -0.5), variance),
        pw.sum_to(g, offset),
        pw.sum_to(g * unit, scale),
    )


def _given_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(61)
    for shape, small in (
        ((2, 3, 4), (4,)), ((3, 5), (1, 5)), ((2, 3, 2, 2), (3, 1, 1)), ((4,), ()),
    ):  # fmt: skip
        x, mean, offset, scale = (
            np.asarray(rng.standard_normal(s), np.float32) for s in (shape, small, small, small)
        )
        variance = np.asarray(rng.uniform(0.5, 2, small), np.float32)
        yield Sample((x, mean, variance, offset, scale), {"variance_epsilon": 1e-3})


batch_normalization = composite(
    "batch_normalization", _given, arity=5, attrs={"variance_epsilon": 1e-3}, grad=_given_grad,
    type_rule=_given_type, samples=_given_samples,
    doc="""scale (x - mean) / sqrt(variance + epsilon) + offset with moments that are given.

    Inputs: x, mean, variance, offset, scale, the last four broadcast to x.""",
)  # fmt: skip


def _training_type(types: Types, attrs: Attrs) -> Types:
    x = _check_channels(types, attrs, ("scale", "offset"))
    vector = TensorType(pw.check_same_dtype(types[1:]), types[1].shape)
    return x, vector, vector


def _training(node: Node) -> tuple[Value, ...]:
    x, scale, offset = node.inputs
    data_format = node.attrs["data_format"]
    axes = _other_axes(x, data_format)
    wide = _in_dtype(x, scale)
    center = red.reduce_mean(wide, axis=axes, keepdims=True)
    centered = wide - center
    variance = red.reduce_mean(pw.square(centered), axis=axes, keepdims=True)
    unit = centered * pw.rsqrt(variance + node.attrs["epsilon"])
    y = unit * per_channel(scale, x, data_format) + per_channel(offset, x, data_format)
    count = int(np.prod([x.type.static_shape[a] for a in axes]))
    unbiased = variance * (count / max(count - 1, 1))
    vectors = (mv.reshape_to(v, scale.type.static_shape) for v in (center, unbiased))
    return _in_dtype(y, x), *vectors


def _in_dtype(x: Value, like: Value) -> Value:
    return x if x.dtype is like.dtype else pw.cast(x, dtype=like.dtype)


def _training_grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    # as TensorFlow's: the batch's moments, which feed running averages, count as constants
    x, scale = node.inputs[:2]
    if grads[0] is None:
        return [None, None, None]
    data_format = node.attrs["data_format"]
    axes = _other_axes(x, data_format)
    g = _in_dtype(grads[0], scale)
    unit, inverse = _standardized(_in_dtype(x, scale), axes, node.attrs["epsilon"])
    dx = _standardized_grad(g * per_channel(scale, x, data_format), unit, inverse, axes)
    sums = red.reduce_sum(g * unit, axis=axes), red.reduce_sum(g, axis=axes)
    return [_in_dtype(dx, x), *sums]


def _training_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(67)
    for shape, c, data_format in (
        ((2, 3, 5, 4), 4, "NHWC"), ((3, 2, 4, 3), 2, "NCHW"), ((7, 3), 3, "NHWC"),
        ((1, 1, 1, 2), 2, "NHWC"),
    ):  # fmt: skip
        x = (rng.standard_normal(shape) * 2 + 1).astype(np.float32)
        scale, offset = rng.standard_normal((2, c)).astype(np.float32)
        yield Sample((x, scale, offset), {"data_format": data_format, "epsilon": 1e-2})


fused_batch_norm = register(
    Op(
        "fused_batch_norm", Kind.COMPOSITE, _training_type,
        attrs={"epsilon": 1e-3, "data_format": "NHWC"}, grad=_training_grad,
        decompose=_training, samples=_training_samples,
        doc="""(y, mean, variance) of x, scale, offset: normalized by the batch's own moments.

        The variance that comes out is divided by n - 1, for running averages, as TensorFlow's;
        x is normalized by the one divided by n. 16-bit images may have float32 vectors.""",
    )
)  # fmt: skip


def fused_batch_norm_inference(
    x: Value, scale: Value, offset: Value, mean: Value, variance: Value,
    epsilon: float = 1e-3, data_format: str = "NHWC", name: str | None = None,
) -> Value:  # fmt: skip
    """batch_normalization with one mean, variance, scale and offset per channel."""
    types = tuple(v.type for v in (x, scale, offset, mean, variance))
    names = ("scale", "offset", "mean", "variance")
    _check_channels(types, {"data_format": data_format}, names)
    wide = _in_dtype(x, scale)
    vectors = (per_channel(v, x, data_format) for v in (mean, variance, offset, scale))
    y = batch_normalization(wide, *vectors, variance_epsilon=epsilon, name=name)
    return _in_dtype(y, x)


# -- l2


def _l2_loss_type(types: Types, _: Attrs) -> TensorType:
    pw.check_category(types, "float")
    return types[0].with_shape(())


l2_loss = composite(
    "l2_loss",
    lambda x: red.reduce_sum(pw.square(x)) * 0.5,
    grad=lambda g, y, x: g * x,
    type_rule=_l2_loss_type,
    doc="sum(x^2) / 2, a scalar",
)


def _square_sum(x: Value, axis: Any) -> Value:
    return red.reduce_sum(pw.square(x), axis=axis, keepdims=True)


def _l2_normalize_grad(g: Value, y: Value, x: Value, axis: Any, epsilon: float) -> Value:
    total = _square_sum(x, axis)
    floor = convert(epsilon, like=x.dtype)
    inverse = pw.rsqrt(pw.maximum(total, floor))
    # below the floor the length is a constant
    along = y * red.reduce_sum(g * y, axis=axis, keepdims=True)
    return inverse * (g - pw.where(total >= floor, along, zero_like(x)))


def _l2_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(71)
    for shape, axis in (((3, 5), (1,)), ((2, 3, 4), (0, 2)), ((4,), None), ((0, 3), (1,))):
        yield Sample((rng.standard_normal(shape).astype(np.float32),), {"axis": axis})
    small = np.array([[1e-8, 2e-8], [3, 4], [0, 0]], np.float32)
    yield Sample((small,), {"axis": (1,), "epsilon": 1e-3})


l2_normalize = composite(
    "l2_normalize",
    lambda x, axis, epsilon: (
        x * pw.rsqrt(pw.maximum(_square_sum(x, axis), convert(epsilon, like=x.dtype)))
    ),
    attrs={"axis": None, "epsilon": 1e-12},
    grad=_l2_normalize_grad,
    samples=_l2_samples,
    doc="x / sqrt(max(sum(x^2), epsilon)) along the axes (None: all)",
)

# -- local response normalization (Krizhevsky, Sutskever, Hinton, 2012, section 3.3)


def _neighbours(x: Value, radius: int) -> Value:
    """The 2 radius + 1 channels around each, as one more dim; 0 beyond the ends."""
    side = (0, 0, 0, radius)
    padded = slicing.pad(x, low=side, high=side, interior=(0,) * 4)
    return windows.unfold(padded, axes=(3,), window=(2 * radius + 1,), stride=(1,), dilation=(1,))


def _image_type(types: Types, attrs: Attrs) -> TensorType:
    pw.check_category(types, "float")
    x, radius = types[0], attrs["depth_radius"]
    if x.rank not in (4, None):
        raise ShapeError(f"local response normalization needs [n, h, w, c], got {x}")
    if isinstance(radius, bool) or not isinstance(radius, int) or radius < 0:
        raise AttributeValueError(f"depth_radius is a number of channels, got {radius!r}")
    return x


channel_window_sum: Op = composite(
    "channel_window_sum",
    lambda x, depth_radius: red.reduce_sum(_neighbours(x, depth_radius), axis=(4,)),
    attrs={"depth_radius": 1},
    grad=lambda g, y, x, depth_radius: channel_window_sum(g, depth_radius=depth_radius),
    type_rule=_image_type,
    samples=lambda: (Sample(s.inputs, {"depth_radius": 2}) for s in _lrn_samples()),
    doc="The sum of each channel and the depth_radius channels to either side; its own adjoint.",
)


channel_square_sum: Op = composite(
    "channel_square_sum",
    lambda x, depth_radius: red.reduce_sum(pw.square(_neighbours(x, depth_radius)), axis=(4,)),
    attrs={"depth_radius": 1},
    grad=lambda g, y, x, depth_radius: x * channel_window_sum(g, depth_radius=depth_radius) * 2.0,
    type_rule=_image_type,
    samples=lambda: (Sample(s.inputs, {"depth_radius": 2}) for s in _lrn_samples()),
    doc="channel_window_sum of the squares: squared inside the windows.",
)


def _lrn(x: Value, depth_radius: int, bias: float, alpha: float, beta: float) -> Value:
    base = channel_square_sum(x, depth_radius=depth_radius) * alpha + bias
    return x * pw.pow_(base, convert(-beta, like=x.dtype))


def _lrn_grad(
    g: Value, y: Value, x: Value, depth_radius: int, bias: float, alpha: float, beta: float
) -> Value:
    base = channel_square_sum(x, depth_radius=depth_radius) * alpha + bias
    spread = channel_window_sum(g * y / base, depth_radius=depth_radius)
    return g * pw.pow_(base, convert(-beta, like=x.dtype)) - x * spread * (2 * alpha * beta)


def _lrn_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(73)
    for shape in ((2, 3, 2, 7), (1, 2, 2, 1), (0, 1, 1, 3)):
        attrs = {"depth_radius": 2, "bias": 1.5, "alpha": 0.3, "beta": 0.6}
        yield Sample((rng.standard_normal(shape).astype(np.float32),), attrs)


local_response_normalization = composite(
    "local_response_normalization",
    _lrn,
    attrs={"depth_radius": 5, "bias": 1.0, "alpha": 1.0, "beta": 0.5},
    grad=_lrn_grad,
    type_rule=_image_type,
    samples=_lrn_samples,
    doc="x / (bias + alpha * sum of squares of the 2 depth_radius + 1 nearest channels)^beta",
)

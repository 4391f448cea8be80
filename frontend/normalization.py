"""Normalization and biases in TensorFlow's arguments; re-exported by `nn`."""

from __future__ import annotations

from typing import Any

from graphc.frontend.arguments import as_value, axes_argument, either, same_dtype
from graphc.frontend.framework import name_scope
from graphc.frontend.math import cast
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Value, convert
from graphc.ir.ops import norm


def bias_add(
    value: Any, bias: Any, data_format: str | None = None, name: str | None = None
) -> Value:
    """value + bias along the channels: the last dim, or the second of "NCHW" ("NC...")."""
    x, b = same_dtype([value, bias])
    if b.type.rank not in (1, None):
        raise ShapeError(f"a bias is a vector, got {b!r}")
    return norm.bias_add(x, b, data_format=data_format or "NHWC", name=name or "BiasAdd")


def moments(
    x: Any,
    axes: Any,
    shift: Any = None,
    name: str | None = None,
    keep_dims: Any = None,
    keepdims: Any = None,
) -> tuple[Value, Value]:
    """Mean and variance (divided by n) along the axes, in float32 for the 16-bit floats."""
    del shift
    keep = bool(either("keepdims", keepdims, "keep_dims", keep_dims, False))
    with name_scope(name, "moments"):
        value = as_value(x)
        wide = cast(value, value.dtype.compute)
        mean, variance = norm.moments.outputs(wide, axis=axes_argument(axes), keepdims=keep)
        return cast(mean, value.dtype), cast(variance, value.dtype)


def batch_normalization(
    x: Any,
    mean: Any,
    variance: Any,
    offset: Any,
    scale: Any,
    variance_epsilon: float,
    name: str | None = None,
) -> Value:
    """(x - mean) / sqrt(variance + epsilon) * scale + offset; scale and offset may be None.

    The vectors are broadcast to x. (Ioffe & Szegedy, 2015.)
    """
    value = as_value(x)
    parts = [convert(p, like=value.dtype) for p in (mean, variance)]
    parts.append(convert(0.0 if offset is None else offset, like=value.dtype))
    parts.append(convert(1.0 if scale is None else scale, like=value.dtype))
    epsilon = float(variance_epsilon)
    return norm.batch_normalization(
        value, *parts, variance_epsilon=epsilon, name=name or "batchnorm"
    )


def batch_norm_with_global_normalization(
    t: Any,
    m: Any,
    v: Any,
    beta: Any,
    gamma: Any,
    variance_epsilon: float,
    scale_after_normalization: bool,
    name: str | None = None,
) -> Value:
    """batch_normalization, its arguments in another order; gamma only if it is to scale."""
    scale = gamma if scale_after_normalization else None
    return batch_normalization(t, m, v, beta, scale, variance_epsilon, name)


def fused_batch_norm(
    x: Any,
    scale: Any,
    offset: Any,
    mean: Any = None,
    variance: Any = None,
    epsilon: float = 1e-3,
    data_format: str = "NHWC",
    is_training: bool = True,
    name: str | None = None,
) -> tuple[Value, Value, Value]:
    """(y, mean, variance) of an image x; scale, offset, mean, variance: [channels].

    In training by the batch's own moments, which it returns (the variance divided by n - 1),
    else by the ones given.
    """
    image, name = as_value(x), name or "FusedBatchNorm"
    if is_training:
        given = (image, scale, offset)
        y, center, spread = norm.fused_batch_norm.outputs(
            *given, epsilon=float(epsilon), data_format=data_format, name=name
        )
        return y, center, spread
    if mean is None or variance is None:
        raise AttributeValueError("fused_batch_norm outside training needs mean and variance")
    vectors = [as_value(v) for v in (mean, variance, offset, scale)]
    wide = [_along_channels(v, image, data_format) for v in vectors]
    image_wide = cast(image, vectors[0].dtype)
    y = norm.batch_normalization(image_wide, *wide, variance_epsilon=float(epsilon), name=name)
    return cast(y, image.dtype), vectors[0], vectors[1]


def _along_channels(vector: Value, image: Value, data_format: str) -> Value:
    if image.type.shape is None:
        raise ShapeError(f"fused_batch_norm needs an image of known rank, got {image!r}")
    return norm.per_channel(vector, image, data_format)


def layer_norm(
    x: Any, scale: Any, offset: Any, epsilon: float = 1e-5, name: str | None = None
) -> Value:
    """scale (x - mean) / sqrt(variance + epsilon) + offset over the last dims.

    scale, offset: the sizes of these dims. (Ba, Kiros & Hinton, 2016.)
    """
    values = same_dtype([x, scale, offset])
    return norm.layer_norm(*values, epsilon=float(epsilon), name=name or "LayerNorm")


def local_response_normalization(
    input: Any,
    depth_radius: int = 5,
    bias: float = 1.0,
    alpha: float = 1.0,
    beta: float = 0.5,
    name: str | None = None,
) -> Value:
    """x / (bias + alpha * sum of squares of the 2 depth_radius + 1 nearest channels)^beta.

    input: [n, h, w, c]. (Krizhevsky, Sutskever & Hinton, 2012, section 3.3.)
    """
    numbers = {"bias": float(bias), "alpha": float(alpha), "beta": float(beta)}
    return norm.local_response_normalization(
        input, depth_radius=depth_radius, **numbers, name=name or "LRN"
    )


lrn = local_response_normalization


def l2_normalize(
    x: Any, axis: Any = None, epsilon: float = 1e-12, name: str | None = None, dim: Any = None
) -> Value:
    """x / sqrt(max(sum(x^2), epsilon)) along the axes."""
    axes = axes_argument(either("axis", axis, "dim", dim))
    return norm.l2_normalize(x, axis=axes, epsilon=float(epsilon), name=name or "l2_normalize")


__all__ = [
    "batch_norm_with_global_normalization", "batch_normalization", "bias_add", "fused_batch_norm",
    "l2_normalize", "layer_norm",
    "local_response_normalization", "lrn", "moments",
]  # fmt: skip

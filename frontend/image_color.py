"""Colors and brightness of images [..., c], re-exported by `image`; as in TensorFlow 1.15."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from graphc.frontend.arguments import as_value
from graphc.frontend.framework import name_scope
from graphc.frontend.linalg import tensordot
from graphc.frontend.math import cast, saturate_cast
from graphc.frontend.random import random_uniform
from graphc.ir.dtypes import DType, as_dtype, float32
from graphc.ir.errors import AttributeValueError, DTypeError, ShapeError
from graphc.ir.graph import Value, constant, convert
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import reduce as red
from graphc.ir.ops import slicing
from graphc.ir.table import OPS

Convert = Callable[[Any, Any], Value]

# -- dtypes


def convert_image_dtype(
    image: Any, dtype: Any, saturate: bool = False, name: str | None = None
) -> Value:
    """The image in another dtype, its numbers scaled: 0 to 1 for floats, 0 to the greatest integer.

    `saturate` cuts what lies outside before it is cast.
    """
    x, target = as_value(image), as_dtype(dtype)
    if x.dtype is target:
        return OPS["identity"](x, name=name or "convert_image")
    if not all(d.is_floating or d.is_integer for d in (x.dtype, target)):
        raise DTypeError(f"images are floats or integers, not {x.dtype} and {target}")
    with name_scope(name, "convert_image"):
        convert_: Convert = saturate_cast if saturate else cast
        if x.dtype.is_integer and target.is_integer:
            return _between_integers(x, target, convert_)
        if x.dtype.is_integer:
            scaled: Value = cast(x, target) * (1.0 / x.dtype.max)
            return scaled
        if target.is_floating:
            return cast(x, target)
        return convert_(x * (target.max + 0.5), target)


def _between_integers(x: Value, target: DType, convert_: Convert) -> Value:
    if x.dtype.max > target.max:
        scale = (x.dtype.max + 1) // (target.max + 1)
        return convert_(pw.floordiv(x, convert(scale, like=x.dtype)), target)
    wide = convert_(x, target)
    return pw.multiply(wide, convert((target.max + 1) // (x.dtype.max + 1), like=target))


def _as_float(image: Any) -> tuple[Value, DType]:
    """The image in floats of 0 to 1, and its own dtype."""
    x = as_value(image)
    return (x if x.dtype.is_floating else convert_image_dtype(x, float32)), x.dtype


def _back(x: Value, dtype: DType, saturate: bool = True) -> Value:
    return x if x.dtype is dtype else convert_image_dtype(x, dtype, saturate=saturate)


# -- brightness and contrast


def adjust_brightness(image: Any, delta: Any) -> Value:
    """image + delta, where the image's numbers are 0 to 1."""
    x, dtype = _as_float(image)
    return _back(x + convert(delta, like=x.dtype), dtype)


def adjust_contrast(images: Any, contrast_factor: Any) -> Value:
    """(x - mean) * factor + mean, for the mean of each channel of each image."""
    x, dtype = _as_float(images)
    if x.type.rank is not None and x.type.rank < 3:
        raise ShapeError(f"adjust_contrast takes images [..., h, w, c], got {x!r}")
    mean = red.reduce_mean(x, axis=(-3, -2), keepdims=True)
    return _back((x - mean) * convert(contrast_factor, like=x.dtype) + mean, dtype)


def adjust_gamma(image: Any, gamma: Any = 1, gain: Any = 1) -> Value:
    """gain * image^gamma, where the image's numbers are 0 to 1."""
    x, dtype = _as_float(image)
    power = pw.pow_(x, convert(float(gamma), like=x.dtype))
    return _back(power * convert(float(gain), like=x.dtype), dtype)


def random_brightness(image: Any, max_delta: float, seed: int | None = None) -> Value:
    """adjust_brightness by a random delta in [-max_delta, max_delta)."""
    if max_delta < 0:
        raise AttributeValueError(f"max_delta is not negative, got {max_delta}")
    return adjust_brightness(image, random_uniform([], -max_delta, max_delta, seed=seed))


def random_contrast(image: Any, lower: float, upper: float, seed: int | None = None) -> Value:
    """adjust_contrast by a random factor in [lower, upper)."""
    _check_bounds(lower, upper)
    return adjust_contrast(image, random_uniform([], lower, upper, seed=seed))


def _check_bounds(lower: float, upper: float) -> None:
    if not 0 <= lower < upper:
        raise AttributeValueError(f"bounds are 0 <= lower < upper, got {lower} and {upper}")


def per_image_standardization(image: Any) -> Value:
    """(x - mean) / max(standard deviation, 1 / sqrt(pixels)) of each image [h, w, c]. -> float32"""
    x = as_value(image)
    with name_scope(None, "per_image_standardization"):
        dims = x.type.shape
        if dims is None or len(dims) < 3 or any(isinstance(d, str) for d in dims[-3:]):
            raise ShapeError(f"per_image_standardization needs known [..., h, w, c], got {x!r}")
        count = float(np.prod([float(d) for d in dims[-3:]]))
        wide = cast(x, float32)
        axes = (-3, -2, -1)
        mean = red.reduce_mean(wide, axis=axes, keepdims=True)
        spread = red.reduce_mean(pw.square(wide), axis=axes, keepdims=True) - pw.square(mean)
        deviation = pw.sqrt(pw.maximum(spread, convert(0.0, like=float32)))
        least = convert(1.0 / np.sqrt(count), like=float32)
        return (wide - mean) / pw.maximum(deviation, least)


# -- color spaces


def _channels(image: Any, count: int, what: str) -> Value:
    x = as_value(image)
    if x.type.shape is not None and x.type.shape[-1:] not in ((count,), ("?",)):
        raise ShapeError(f"{what} takes {count} channels in the last dim, got {x!r}")
    return x


def rgb_to_grayscale(images: Any, name: str | None = None) -> Value:
    """0.2989 red + 0.587 green + 0.114 blue. [..., 3] -> [..., 1]"""
    with name_scope(name, "rgb_to_grayscale"):
        x, dtype = _as_float(_channels(images, 3, "rgb_to_grayscale"))
        weights = constant(np.array([0.2989, 0.587, 0.114]), x.dtype)
        return _back(red.reduce_sum(x * weights, axis=(-1,), keepdims=True), dtype, False)


def grayscale_to_rgb(images: Any, name: str | None = None) -> Value:
    """The gray three times. [..., 1] -> [..., 3]"""
    x = _channels(images, 1, "grayscale_to_rgb")
    return slicing.concat(x, x, x, axis=-1, name=name or "grayscale_to_rgb")


def _split(x: Value) -> tuple[Value, Value, Value]:
    return x[..., 0], x[..., 1], x[..., 2]


def rgb_to_hsv(images: Any, name: str | None = None) -> Value:
    """Hue, saturation, value, all 0 to 1, of floats 0 to 1. [..., 3]"""
    with name_scope(name, "RGBToHSV"):
        r, g, b = _split(_channels(images, 3, "rgb_to_hsv"))
        value = pw.maximum(r, pw.maximum(g, b))
        spread = value - pw.minimum(r, pw.minimum(g, b))
        zero = convert(0.0, like=value.dtype)
        colored = spread > 0.0
        saturation = pw.where(value > 0.0, spread / value, zero)
        sixth = 1.0 / (spread * 6.0)
        hue = pw.where(pw.equal(g, value), sixth * (b - r) + 2.0 / 6, sixth * (r - g) + 4.0 / 6)
        hue = pw.where(pw.equal(r, value), sixth * (g - b), hue)
        hue = pw.where(colored, hue, zero)
        hue = pw.where(hue < 0.0, hue + 1.0, hue)
        return slicing.stack(hue, saturation, value, axis=-1)


def hsv_to_rgb(images: Any, name: str | None = None) -> Value:
    """Red, green, blue of hue, saturation, value, all 0 to 1. [..., 3]"""
    with name_scope(name, "HSVToRGB"):
        h, s, v = _split(_channels(images, 3, "hsv_to_rgb"))
        six = h * 6.0
        parts = (pw.abs_(six - 3.0) - 1.0, 2.0 - pw.abs_(six - 2.0), 2.0 - pw.abs_(six - 4.0))
        one, zero = convert(1.0, like=h.dtype), convert(0.0, like=h.dtype)
        colors = [pw.minimum(pw.maximum(p, zero), one) for p in parts]
        return slicing.stack(*(((1.0 - s) + s * c) * v for c in colors), axis=-1)


def adjust_hue(image: Any, delta: Any, name: str | None = None) -> Value:
    """The hue moved by delta around the circle of colors, which is 1 long."""
    with name_scope(name, "adjust_hue"):
        x, dtype = _as_float(_channels(image, 3, "adjust_hue"))
        h, s, v = _split(rgb_to_hsv(x))
        one = convert(1.0, like=x.dtype)
        h = pw.floormod(h + (convert(delta, like=x.dtype) + 1.0), one)
        return _back(hsv_to_rgb(slicing.stack(h, s, v, axis=-1)), dtype)


def adjust_saturation(image: Any, saturation_factor: Any, name: str | None = None) -> Value:
    """The saturation multiplied, and cut to 0 to 1."""
    with name_scope(name, "adjust_saturation"):
        x, dtype = _as_float(_channels(image, 3, "adjust_saturation"))
        h, s, v = _split(rgb_to_hsv(x))
        zero, one = convert(0.0, like=x.dtype), convert(1.0, like=x.dtype)
        s = pw.minimum(pw.maximum(s * convert(saturation_factor, like=x.dtype), zero), one)
        return _back(hsv_to_rgb(slicing.stack(h, s, v, axis=-1)), dtype)


def random_hue(image: Any, max_delta: float, seed: int | None = None) -> Value:
    """adjust_hue by a random delta in [-max_delta, max_delta); max_delta is at most 0.5."""
    if not 0 <= max_delta <= 0.5:
        raise AttributeValueError(f"max_delta is in [0, 0.5], got {max_delta}")
    return adjust_hue(image, random_uniform([], -max_delta, max_delta, seed=seed))


def random_saturation(image: Any, lower: float, upper: float, seed: int | None = None) -> Value:
    """adjust_saturation by a random factor in [lower, upper)."""
    _check_bounds(lower, upper)
    return adjust_saturation(image, random_uniform([], lower, upper, seed=seed))


_YIQ: Final = [[0.299, 0.59590059, 0.2115], [0.587, -0.27455667, -0.52273617],
               [0.114, -0.32134392, 0.31119955]]  # fmt: skip
_YIQ_BACK: Final = [[1, 1, 1], [0.95598634, -0.27201283, -1.10674021],
                    [0.6208248, -0.64720424, 1.70423049]]  # fmt: skip
_YUV: Final = [[0.299, -0.14714119, 0.61497538], [0.587, -0.28886916, -0.51496512],
               [0.114, 0.43601035, -0.10001026]]  # fmt: skip
_YUV_BACK: Final = [[1, 1, 1], [0, -0.394642334, 2.03206185], [1.13988303, -0.58062185, 0]]


def _by_matrix(images: Any, matrix: Any, what: str) -> Value:
    x = _channels(images, 3, what)
    return tensordot(x, constant(np.array(matrix, np.float64), x.dtype), 1)


def rgb_to_yiq(images: Any) -> Value:
    """NTSC's luma and two chromas of floats 0 to 1. [..., 3]"""
    return _by_matrix(images, _YIQ, "rgb_to_yiq")


def yiq_to_rgb(images: Any) -> Value:
    """The inverse of rgb_to_yiq. [..., 3]"""
    return _by_matrix(images, _YIQ_BACK, "yiq_to_rgb")


def rgb_to_yuv(images: Any) -> Value:
    """PAL's luma and two chromas of floats 0 to 1. [..., 3]"""
    return _by_matrix(images, _YUV, "rgb_to_yuv")


def yuv_to_rgb(images: Any) -> Value:
    """The inverse of rgb_to_yuv. [..., 3]"""
    return _by_matrix(images, _YUV_BACK, "yuv_to_rgb")

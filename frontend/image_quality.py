"""Differences inside and between images; re-exported by `image`. Values are TensorFlow 1.15's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.frontend import convolution as cv
from graphc.frontend.arguments import as_value
from graphc.frontend.framework import name_scope
from graphc.frontend.image_color import convert_image_dtype
from graphc.ir.dtypes import float32
from graphc.ir.errors import ShapeError
from graphc.ir.graph import Value, constant
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import reduce as red
from graphc.ir.ops import slicing


def total_variation(images: Any, name: str | None = None) -> Value:
    """The sum of the absolute differences of neighbours. [h, w, c] -> [], [n, h, w, c] -> [n]"""
    with name_scope(name, "total_variation"):
        x = as_value(images)
        if x.type.rank not in (3, 4):
            raise ShapeError(f"total_variation takes images of rank 3 or 4, got {x!r}")
        down = x[..., 1:, :, :] - x[..., :-1, :, :]
        right = x[..., 1:, :] - x[..., :-1, :]
        axes = (-3, -2, -1)
        return red.reduce_sum(pw.abs_(down), axis=axes) + red.reduce_sum(pw.abs_(right), axis=axes)


def image_gradients(image: Any) -> tuple[Value, Value]:
    """(dy, dx): differences to the next row and column, 0 behind the last. image: [n, h, w, c]"""
    x = as_value(image)
    if x.type.rank != 4:
        raise ShapeError(f"image_gradients takes images [n, h, w, c], got {x!r}")
    none = (0,) * 4
    down = slicing.pad(x[:, 1:] - x[:, :-1], low=none, high=(0, 1, 0, 0), interior=none)
    right = slicing.pad(x[:, :, 1:] - x[:, :, :-1], low=none, high=(0, 0, 1, 0), interior=none)
    return down, right


def sobel_edges(image: Any) -> Value:
    """Sobel's filters along height and width, the edges mirrored. -> [n, h, w, c, 2]"""
    from graphc.frontend.array import pad

    x = as_value(image)
    if x.type.rank != 4 or not isinstance(x.type.shape[-1] if x.type.shape else None, int):
        raise ShapeError(f"sobel_edges takes images [n, h, w, c] of known channels, got {x!r}")
    assert x.type.shape is not None
    channels = int(x.type.shape[-1])
    down = np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]], np.float64)
    both = np.stack([down, down.T], -1)[:, :, None]
    kernel = constant(np.tile(both, (1, 1, channels, 1)), x.dtype)
    padded = pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT")
    y = cv.depthwise(padded, kernel)
    pairs = [y[..., i::2] for i in (0, 1)]
    return slicing.stack(*pairs, axis=-1)


def psnr(a: Any, b: Any, max_val: float, name: str | None = None) -> Value:
    """The peak signal-to-noise ratio in decibels: 10 log10(max_val^2 / mean squared difference)."""
    with name_scope(name, "PSNR"):
        top = _unit(max_val, as_value(a))
        x, y = (convert_image_dtype(v, float32) for v in (a, b))
        error = red.reduce_mean(pw.square(x - y), axis=(-3, -2, -1))
        return 20 * math.log10(top) - pw.log(error) * (10 / math.log(10))


def _unit(max_val: float, image: Value) -> float:
    """max_val in the scale to which convert_image_dtype brings the image."""
    return max_val / image.dtype.max if image.dtype.is_integer else float(max_val)


def ssim(
    img1: Any,
    img2: Any,
    max_val: float,
    filter_size: int = 11,
    filter_sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
) -> Value:
    """The structural similarity, 1 for equal images (Wang, Bovik, Sheikh & Simoncelli, 2004).

    [n, h, w, c] -> [n]; images of filter_size pixels or more.
    """
    with name_scope(None, "SSIM"):
        top = _unit(max_val, as_value(img1))
        x, y = (convert_image_dtype(v, float32) for v in (img1, img2))
        means = _Gaussian(x, filter_size, filter_sigma)
        c1, c2 = (k1 * top) ** 2, (k2 * top) ** 2
        mean_x, mean_y = means(x), means(y)
        product, squares = mean_x * mean_y * 2.0, pw.square(mean_x) + pw.square(mean_y)
        luminance = (product + c1) / (squares + c1)
        both, own = means(x * y) * 2.0, means(pw.square(x) + pw.square(y))
        contrast = (both - product + c2) / (own - squares + c2)
        per_channel = red.reduce_mean(luminance * contrast, axis=(-3, -2))
        return red.reduce_mean(per_channel, axis=(-1,))


class _Gaussian:
    """Local means, weighted by the distance from the window's middle."""

    def __init__(self, x: Value, size: int, sigma: float) -> None:
        if x.type.rank != 4 or not isinstance(x.type.shape[-1] if x.type.shape else None, int):
            raise ShapeError(f"ssim takes images [n, h, w, c] of known channels, got {x!r}")
        assert x.type.shape is not None
        at = np.arange(size) - (size - 1) / 2
        weight = np.exp(-(at**2) / (2 * sigma**2))
        square = np.outer(weight, weight)
        wide = np.tile((square / square.sum())[:, :, None, None], (1, 1, int(x.type.shape[-1]), 1))
        self.kernel = constant(wide, x.dtype)

    def __call__(self, x: Value) -> Value:
        return cv.depthwise(x, self.kernel)

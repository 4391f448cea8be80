"""`image`: sizes, crops, flips and patches of images [n, h, w, c] or [h, w, c].

Colors are in `image_color`, measures in `image_quality`; both are re-exported here. Numbers and
rounding are TensorFlow 1.15's.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from graphc.frontend.arguments import as_value, constant_value, static_int, static_ints
from graphc.frontend.array import reverse, shape, transpose
from graphc.frontend.framework import name_scope
from graphc.frontend.image_color import (
    adjust_brightness,
    adjust_contrast,
    adjust_gamma,
    adjust_hue,
    adjust_saturation,
    convert_image_dtype,
    grayscale_to_rgb,
    hsv_to_rgb,
    per_image_standardization,
    random_brightness,
    random_contrast,
    random_hue,
    random_saturation,
    rgb_to_grayscale,
    rgb_to_hsv,
    rgb_to_yiq,
    rgb_to_yuv,
    yiq_to_rgb,
    yuv_to_rgb,
)
from graphc.frontend.image_files import (
    decode_bmp,
    decode_gif,
    decode_image,
    decode_jpeg,
    decode_png,
    encode_jpeg,
    encode_png,
)
from graphc.frontend.image_quality import image_gradients, psnr, sobel_edges, ssim, total_variation
from graphc.frontend.math import cast
from graphc.frontend.random import random_uniform
from graphc.ir.dtypes import float32, int32
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Value, convert
from graphc.ir.ops import patches, resample, slicing, source
from graphc.ir.ops import pointwise as pw
from graphc.ir.table import OPS


class ResizeMethod:
    """How resize_images computes pixels between pixels."""

    BILINEAR: Final = 0
    NEAREST_NEIGHBOR: Final = 1
    BICUBIC: Final = 2
    AREA: Final = 3


_METHODS: Final = {
    0: "bilinear", 1: "nearest", 2: "bicubic", 3: "area", "bilinear": "bilinear",
    "nearest": "nearest", "bicubic": "bicubic", "area": "area",
}  # fmt: skip


def image_of(images: Any, what: str) -> tuple[Value, bool]:
    """The images with a batch dim, and whether they had one."""
    x = as_value(images)
    if x.type.rank not in (3, 4):
        raise ShapeError(f"{what} takes images [h, w, c] or [n, h, w, c], got {x!r}")
    batched = x.type.rank == 4
    return (x if batched else OPS["expand_dims"](x, axis=0)), batched


def _finished(x: Value, batched: bool, name: str | None = None) -> Value:
    if not batched:
        return OPS["squeeze"](x, axis=(0,), name=name)
    return x if name is None else OPS["identity"](x, name=name)


def known_size(x: Value, what: str) -> tuple[int, int]:
    """Height and width of images [n, h, w, c]; ShapeError where a run fixes them."""
    dims = x.type.shape
    if dims is None or isinstance(dims[1], str) or isinstance(dims[2], str):
        raise ShapeError(f"{what} needs to know the image's height and width, got {x!r}")
    return dims[1], dims[2]


# -- sizes


def resize_images(
    images: Any,
    size: Any,
    method: Any = ResizeMethod.BILINEAR,
    align_corners: bool = False,
    preserve_aspect_ratio: bool = False,
    name: str | None = None,
) -> Value:
    """Images in the size (height, width), float32 unless the size or the method keeps the dtype.

    Without align_corners, pixel i of the result lies at i * old / new of the image, as in TF 1.
    """
    if method not in _METHODS:
        raise AttributeValueError(f"method is one of ResizeMethod's, got {method!r}")
    x, batched = image_of(images, "resize_images")
    known = constant_value(size)
    if preserve_aspect_ratio:
        known = np.array(_fitting(known_size(x, "preserve_aspect_ratio"), size))
    if known is not None and x.type.shape is not None and x.type.shape[1:3] == tuple(known):
        return OPS["identity"](images, name=name)
    given: Any = size if known is None else [int(n) for n in known]
    y = _resized(x, given, _METHODS[method], align_corners, False, name or "resize")
    return _finished(y, batched)


resize = resize_images


def _fitting(old: tuple[int, int], size: Any) -> list[int]:
    """The largest size of the image's aspect ratio inside the size."""
    new = static_ints(size, "size")
    scale = min(n / o for n, o in zip(new, old, strict=True))
    return [round(scale * o) for o in old]


def _resized(x: Value, size: Any, method: str, align: bool, half: bool, name: str) -> Value:
    attrs = {"method": method, "align_corners": bool(align), "half_pixel_centers": bool(half)}
    known = constant_value(size)
    if known is not None:
        return resample.resize(x, size=static_ints(size, "size"), name=name, **attrs)
    return resample.resize(x, size, name=name, **attrs)


def resize_bilinear(
    images: Any,
    size: Any,
    align_corners: bool = False,
    name: str | None = None,
    half_pixel_centers: bool = False,
) -> Value:
    """Images [n, h, w, c] in another size, between four pixels. -> float32"""
    return _resized(
        _floating(images), size, "bilinear", align_corners, half_pixel_centers,
        name or "ResizeBilinear",
    )  # fmt: skip


def resize_bicubic(
    images: Any,
    size: Any,
    align_corners: bool = False,
    name: str | None = None,
    half_pixel_centers: bool = False,
) -> Value:
    """Images [n, h, w, c] in another size, between sixteen pixels (Keys, 1981). -> float32"""
    return _resized(
        _floating(images), size, "bicubic", align_corners, half_pixel_centers,
        name or "ResizeBicubic",
    )  # fmt: skip


def resize_nearest_neighbor(
    images: Any,
    size: Any,
    align_corners: bool = False,
    name: str | None = None,
    half_pixel_centers: bool = False,
) -> Value:
    """Images [n, h, w, c] in another size, each pixel one of the old ones."""
    return _resized(
        as_value(images), size, "nearest", align_corners, half_pixel_centers,
        name or "ResizeNearestNeighbor",
    )  # fmt: skip


def resize_area(
    images: Any, size: Any, align_corners: bool = False, name: str | None = None
) -> Value:
    """Images [n, h, w, c] in another size, each pixel the mean of what it covers. -> float32"""
    return _resized(_floating(images), size, "area", align_corners, False, name or "ResizeArea")


def _floating(images: Any) -> Value:
    x = as_value(images)
    return x if x.dtype.is_floating else cast(x, float32)


# -- crops and borders


def crop_to_bounding_box(
    image: Any, offset_height: Any, offset_width: Any, target_height: Any, target_width: Any
) -> Value:
    """target_height x target_width pixels, from a corner at (offset_height, offset_width) on."""
    x, batched = image_of(image, "crop_to_bounding_box")
    top, left, high, wide = _four(offset_height, offset_width, target_height, target_width)
    size = known_size(x, "crop_to_bounding_box")
    if top < 0 or left < 0 or top + high > size[0] or left + wide > size[1]:
        raise ShapeError(f"a crop of {high} x {wide} from ({top}, {left}) on leaves {x!r}")
    return _finished(x[:, top : top + high, left : left + wide], batched)


def pad_to_bounding_box(
    image: Any, offset_height: Any, offset_width: Any, target_height: Any, target_width: Any
) -> Value:
    """target_height x target_width pixels: the image at the offsets, zeros around."""
    x, batched = image_of(image, "pad_to_bounding_box")
    top, left, high, wide = _four(offset_height, offset_width, target_height, target_width)
    height, width = known_size(x, "pad_to_bounding_box")
    after = high - top - height, wide - left - width
    if min(top, left, *after) < 0:
        raise ShapeError(f"{x!r} at ({top}, {left}) does not fit into {high} x {wide}")
    padded = slicing.pad(x, low=(0, top, left, 0), high=(0, *after, 0), interior=(0,) * 4)
    return _finished(padded, batched)


def _four(*numbers: Any) -> tuple[int, ...]:
    return tuple(static_int(n, "a box's offset or size") for n in numbers)


def resize_image_with_crop_or_pad(image: Any, target_height: Any, target_width: Any) -> Value:
    """The middle of the image, or the image in the middle of zeros, per dim."""
    x, batched = image_of(image, "resize_image_with_crop_or_pad")
    target = _four(target_height, target_width)
    size = known_size(x, "resize_image_with_crop_or_pad")
    gaps = [t - s for t, s in zip(target, size, strict=True)]
    cut = [max(-g // 2, 0) for g in gaps]
    kept = [min(t, s) for t, s in zip(target, size, strict=True)]
    x = crop_to_bounding_box(x, *cut, *kept)
    return _finished(pad_to_bounding_box(x, *(max(g // 2, 0) for g in gaps), *target), batched)


resize_with_crop_or_pad = resize_image_with_crop_or_pad


def central_crop(image: Any, central_fraction: float) -> Value:
    """The middle of the image: that fraction of its height and of its width."""
    if not 0 < central_fraction <= 1:
        raise AttributeValueError(f"central_fraction is in (0, 1], got {central_fraction}")
    x, batched = image_of(image, "central_crop")
    first = [int((n - n * central_fraction) / 2) for n in known_size(x, "central_crop")]
    kept = [n - 2 * f for n, f in zip(known_size(x, "central_crop"), first, strict=True)]
    return _finished(crop_to_bounding_box(x, *first, *kept), batched)


def random_crop(value: Any, size: Any, seed: int | None = None, name: str | None = None) -> Value:
    """A part of that size, anywhere in the tensor, of any rank; -1 keeps a dim."""
    with name_scope(name, "random_crop"):
        x = as_value(value)
        sizes = static_ints(size, "size")
        if not x.type.is_static or len(sizes) != x.type.rank:
            raise ShapeError(f"random_crop needs known dims and one size for each: {x!r}, {size!r}")
        dims = x.type.static_shape
        sizes = tuple(d if s == -1 else s for s, d in zip(sizes, dims, strict=True))
        if any(s > d for s, d in zip(sizes, dims, strict=True)):
            raise ShapeError(f"a crop of {sizes} does not fit into {x!r}")
        unit = random_uniform([len(sizes)], seed=seed)
        for axis, (kept, dim) in enumerate(zip(sizes, dims, strict=True)):
            if kept < dim:
                first = cast(unit[axis] * float(dim - kept + 1), int32)
                first = pw.minimum(first, convert(dim - kept, dtype=int32))
                places = source.iota(shape=(kept,), axis=0, dtype=int32) + first
                x = OPS["gather"](x, places, axis=axis)
        return x


# -- flips and turns


def flip_left_right(image: Any) -> Value:
    """The image mirrored along its width."""
    x, batched = image_of(image, "flip_left_right")
    return _finished(reverse(x, [2]), batched)


def flip_up_down(image: Any) -> Value:
    """The image mirrored along its height."""
    x, batched = image_of(image, "flip_up_down")
    return _finished(reverse(x, [1]), batched)


def random_flip_left_right(image: Any, seed: int | None = None) -> Value:
    """Each image mirrored along its width, or not, with the same probability."""
    return _random_flip(image, 2, seed)


def random_flip_up_down(image: Any, seed: int | None = None) -> Value:
    """Each image mirrored along its height, or not, with the same probability."""
    return _random_flip(image, 1, seed)


def _random_flip(image: Any, axis: int, seed: int | None) -> Value:
    x, batched = image_of(image, "random_flip")
    draws = random_uniform([shape(x)[0], 1, 1, 1] if batched else [1, 1, 1, 1], seed=seed)
    return _finished(pw.where(draws < 0.5, reverse(x, [axis]), x), batched)


def transpose_image(image: Any) -> Value:
    """Height and width exchanged."""
    x, batched = image_of(image, "transpose_image")
    return _finished(transpose(x, [0, 2, 1, 3]), batched)


def rot90(image: Any, k: Any = 1, name: str | None = None) -> Value:
    """The image turned by k quarter turns, counter-clockwise."""
    x, batched = image_of(image, "rot90")
    turns = static_int(k, "k") % 4
    if turns == 1:
        x = reverse(transpose(x, [0, 2, 1, 3]), [1])
    elif turns == 2:
        x = reverse(x, [1, 2])
    elif turns == 3:
        x = transpose(reverse(x, [1]), [0, 2, 1, 3])
    return _finished(x, batched, name)


# -- patches and boxes


def extract_image_patches(
    images: Any,
    ksizes: Any = None,
    strides: Any = None,
    rates: Any = None,
    padding: Any = None,
    name: str | None = None,
    sizes: Any = None,
) -> Value:
    """All windows, flat: [n, h, w, c] -> [n, p, q, ksize_h * ksize_w * c]."""
    from graphc.frontend.convolution import padding_argument, spatial

    window = ksizes if ksizes is not None else sizes
    return patches.image_patches(
        as_value(images), window=spatial(window, "NHWC", "ksizes"),
        strides=spatial(strides, "NHWC", "strides"), dilations=spatial(rates, "NHWC", "rates"),
        padding=padding_argument(padding, "NHWC"), name=name or "ExtractImagePatches",
    )  # fmt: skip


extract_patches = extract_image_patches


def crop_and_resize(
    image: Any,
    boxes: Any,
    box_ind: Any = None,
    crop_size: Any = None,
    method: str = "bilinear",
    extrapolation_value: float = 0.0,
    name: str | None = None,
    box_indices: Any = None,
) -> Value:
    """The boxes' parts of the images, all in one size. -> [boxes, height, width, c], float32

    boxes: [boxes, (y1, x1, y2, x2)], where 0 and 1 are the first and last row or column;
    box_ind: [boxes], which image each is of. No gradient reaches the boxes.
    """
    if method not in ("bilinear", "nearest"):
        raise AttributeValueError(f"crop_and_resize knows bilinear and nearest, not {method!r}")
    x, _ = image_of(image, "crop_and_resize")
    size = static_ints(crop_size, "crop_size")
    which = as_value(box_ind if box_ind is not None else box_indices)
    limits = known_size(x, "crop_and_resize")
    corners = OPS["stop_gradient"](as_value(boxes))
    with name_scope(name, "CropAndResize"):
        ys, xs = (
            _box_positions(corners[:, i], corners[:, i + 2], size[i], limits[i]) for i in (0, 1)
        )
        wide = cast(x, float32)
        values = _between(wide, which, ys, xs, limits, method)
        inside = pw.logical_and(
            OPS["expand_dims"](_inside(ys, limits[0]), axis=(2, 3)),
            OPS["expand_dims"](_inside(xs, limits[1]), axis=(1, 3)),
        )
        return pw.where(inside, values, convert(float(extrapolation_value), like=float32))


def _box_positions(first: Value, last: Value, count: int, size: int) -> Value:
    """[boxes, count]: where a box's rows or columns lie."""
    if count == 1:
        return OPS["expand_dims"]((first + last) * (0.5 * (size - 1)), axis=1)
    steps = cast(source.iota(shape=(count,), axis=0, dtype=int32), float32)
    pitch = (last - first) * ((size - 1) / (count - 1))
    return OPS["expand_dims"](first * float(size - 1), axis=1) + (
        OPS["expand_dims"](pitch, axis=1) * steps
    )


def _inside(at: Value, size: int) -> Value:
    return pw.logical_and(at >= 0.0, at <= float(size - 1))


def _between(
    x: Value, which: Value, ys: Value, xs: Value, limits: tuple[int, int], method: str
) -> Value:
    """[boxes, count y, count x, c]: the images at the positions."""
    if method == "nearest":
        return _pixels(x, which, pw.floor(ys + 0.5), pw.floor(xs + 0.5), limits)
    top, left = pw.floor(ys), pw.floor(xs)
    bottom, right = pw.ceil(ys), pw.ceil(xs)
    dy = OPS["expand_dims"](ys - top, axis=(2, 3))
    dx = OPS["expand_dims"](xs - left, axis=(1, 3))
    rows = []
    for y in (top, bottom):
        a, b = (_pixels(x, which, y, at, limits) for at in (left, right))
        rows.append(a + (b - a) * dx)
    return rows[0] + (rows[1] - rows[0]) * dy


def _pixels(x: Value, which: Value, ys: Value, xs: Value, limits: tuple[int, int]) -> Value:
    """x[which, ys, xs], positions cut to the image."""
    height, width = limits
    rows, columns = (
        pw.minimum(pw.maximum(cast(v, int32), convert(0, dtype=int32)), convert(n - 1, dtype=int32))
        for v, n in ((ys, height), (xs, width))
    )
    place = OPS["expand_dims"](cast(which, int32), axis=(1, 2)) * (height * width)
    place = place + OPS["expand_dims"](rows, axis=2) * width + OPS["expand_dims"](columns, axis=1)
    channels = x.type.shape[-1] if x.type.shape else None
    if not isinstance(channels, int):
        raise ShapeError(f"crop_and_resize needs to know the image's channels, got {x!r}")
    return OPS["gather"](OPS["reshape"](x, shape=(-1, channels)), place, axis=0)


def non_max_suppression_padded(
    boxes: Any,
    scores: Any,
    max_output_size: Any,
    iou_threshold: float = 0.5,
    score_threshold: float = -math.inf,
    pad_to_max_output_size: bool = True,
    name: str | None = None,
) -> tuple[Value, Value]:
    """The best boxes that overlap no better one: (indices [max_output_size], how many count).

    boxes: [boxes, (y1, x1, y2, x2)], scores: [boxes]. Indices behind the count are 0, or left
    out without `pad_to_max_output_size`.
    """
    chosen, count = patches.suppress_boxes.outputs(
        as_value(boxes), as_value(scores), count=static_int(max_output_size, "max_output_size"),
        iou_threshold=float(iou_threshold),
        score_threshold=None if score_threshold == -math.inf else float(score_threshold),
        name=name or "NonMaxSuppression",
    )  # fmt: skip
    return (chosen if pad_to_max_output_size else chosen[:count]), count


def non_max_suppression(
    boxes: Any,
    scores: Any,
    max_output_size: Any,
    iou_threshold: float = 0.5,
    score_threshold: float = -math.inf,
    name: str | None = None,
) -> Value:
    """The indices of the best boxes that overlap no better one, the best first."""
    return non_max_suppression_padded(
        boxes, scores, max_output_size, iou_threshold, score_threshold, False, name
    )[0]


__all__ = [
    "ResizeMethod", "adjust_brightness", "adjust_contrast", "adjust_gamma", "adjust_hue",
    "adjust_saturation", "central_crop", "convert_image_dtype", "crop_and_resize",
    "crop_to_bounding_box", "decode_bmp", "decode_gif", "decode_image", "decode_jpeg",
    "decode_png", "encode_jpeg", "encode_png", "extract_image_patches", "extract_patches",
    "flip_left_right", "flip_up_down", "grayscale_to_rgb", "hsv_to_rgb", "image_gradients",
    "non_max_suppression", "non_max_suppression_padded", "pad_to_bounding_box",
    "per_image_standardization", "psnr", "random_brightness", "random_contrast", "random_crop",
    "random_flip_left_right", "random_flip_up_down", "random_hue", "random_saturation",
    "resize", "resize_area", "resize_bicubic", "resize_bilinear",
    "resize_image_with_crop_or_pad", "resize_images", "resize_nearest_neighbor",
    "resize_with_crop_or_pad", "rgb_to_grayscale", "rgb_to_hsv", "rgb_to_yiq", "rgb_to_yuv",
    "rot90", "sobel_edges", "ssim", "total_variation", "transpose_image", "yiq_to_rgb",
    "yuv_to_rgb",
]  # fmt: skip

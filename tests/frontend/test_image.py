"""Images: TensorFlow 1.15's numbers, from its tests or by its formulas; torch and colorsys."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import graphc as gc
from graphc.ir.graph import Graph
from tests.ir.nn_checks import check_differences

RNG = np.random.default_rng(3)
IMAGE = RNG.uniform(0, 1, (2, 5, 6, 3)).astype(np.float32)
BYTES = RNG.integers(0, 256, (2, 5, 6, 3)).astype(np.uint8)


@pytest.fixture(autouse=True)
def session() -> Iterator[gc.Session]:
    with Graph().as_default(), gc.Session(device="numpy") as session:
        yield session


def run(x: Any) -> Any:
    return gc.get_default_session().run(x)


# -- resizing


# tensorflow/python/ops/image_ops_test.py (r1.15), testResizeUp and testResizeUpAlignCornersTrue
SMALL = np.array([64, 32, 32, 64, 50, 100], np.uint8).reshape(1, 3, 2, 1)
UP = {
    ("bilinear", False): [64, 48, 32, 32, 48, 48, 48, 48, 32, 48, 64, 64, 41, 61.5, 82, 82, 50, 75,
                          100, 100, 50, 75, 100, 100],
    ("nearest", False): [64, 64, 32, 32, 64, 64, 32, 32, 32, 32, 64, 64, 32, 32, 64, 64, 50, 50,
                         100, 100, 50, 50, 100, 100],
    ("area", False): [64, 64, 32, 32, 64, 64, 32, 32, 32, 32, 64, 64, 32, 32, 64, 64, 50, 50, 100,
                      100, 50, 50, 100, 100],
}  # fmt: skip


@pytest.mark.parametrize("method", ["bilinear", "nearest", "area"])
def test_resize_up_as_tensorflows_test(method: str) -> None:
    number = {"bilinear": 0, "nearest": 1, "area": 3}[method]
    want = np.array(UP[method, False]).reshape(1, 6, 4, 1)
    for how in (method, number):
        got = run(gc.image.resize_images(SMALL, [6, 4], how))
        np.testing.assert_allclose(got, want, atol=1e-4)
    assert got.dtype == (np.uint8 if method == "nearest" else np.float32)


def test_resize_up_with_aligned_corners() -> None:
    data = np.array([6, 3, 3, 6, 6, 9], np.uint8).reshape(1, 3, 2, 1)
    # testResizeUpAlignCornersTrue: 3 x 2 to 5 x 4
    bilinear = [6, 5, 4, 3, 4.5, 4.5, 4.5, 4.5, 3, 4, 5, 6, 4.5, 5.5, 6.5, 7.5, 6, 7, 8, 9]
    nearest = [6, 6, 3, 3, 3, 3, 6, 6, 3, 3, 6, 6, 6, 6, 9, 9, 6, 6, 9, 9]
    for method, want in ((0, bilinear), (1, nearest)):
        got = run(gc.image.resize_images(data, [5, 4], method, align_corners=True))
        np.testing.assert_allclose(got.ravel(), want, atol=1e-5)


def test_resize_down_by_area_as_tensorflows_test() -> None:
    # testResizeDownArea
    data = [128, 64, 32, 16, 8, 4, 4, 8, 16, 32, 64, 128, 128, 64, 32, 16, 8, 4, 5, 10, 15, 20, 25,
            30, 30, 25, 20, 15, 10, 5, 5, 10, 15, 20, 25, 30]  # fmt: skip
    x = np.array(data, np.uint8).reshape(1, 6, 6, 1)
    got = run(gc.image.resize_images(x, [4, 4], gc.image.ResizeMethod.AREA))
    want = [73, 33, 23, 39, 73, 33, 23, 39, 14, 16, 19, 21, 14, 16, 19, 21]
    np.testing.assert_allclose(got.ravel(), want, atol=1)


def test_resize_up_bicubic_as_tensorflows_test() -> None:
    # testResizeUpBicubic, the first two rows; there compared to 1 for the rounding to uint8
    x = np.tile(np.array([128, 128, 64, 64, 128, 128, 64, 64], np.float32), 8).reshape(1, 8, 8, 1)
    got = run(gc.image.resize_bicubic(x, [8, 16]))[0, 0, :, 0]
    np.testing.assert_allclose(got[:8:2], [128, 128, 64, 64])
    a = -0.75  # halfway: (9 / 16 and -1 / 16 for a = -0.5); in general 0.5 - a / 8 and a / 8
    near, far = 0.5 - a / 8, a / 8
    np.testing.assert_allclose(got[3], near * (128 + 64) + far * (128 + 64), rtol=1e-6)
    np.testing.assert_allclose(got[1], near * 256 + far * (128 + 64), rtol=1e-6)


@pytest.mark.parametrize("size", [(7, 3), (5, 13), (1, 1), (11, 6)])
@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_resize_against_torch(method: str, size: tuple[int, int]) -> None:
    x = torch.tensor(IMAGE).permute(0, 3, 1, 2)
    function = {"bilinear": gc.image.resize_bilinear, "bicubic": gc.image.resize_bicubic}[method]
    if min(size) > 1:
        want = F.interpolate(x, size, mode=method, align_corners=True).permute(0, 2, 3, 1)
        tolerance = 1e-5 if method == "bilinear" else 2e-3  # TensorFlow's table of 1024 parts
        np.testing.assert_allclose(run(function(IMAGE, size, True)), want, atol=tolerance)
    if method == "bilinear":
        want = F.interpolate(x, size, mode=method, align_corners=False).permute(0, 2, 3, 1)
        got = run(function(IMAGE, size, half_pixel_centers=True))
        np.testing.assert_allclose(got, want, atol=1e-5)
        exact = F.interpolate(x, size, mode="nearest-exact").permute(0, 2, 3, 1)
        near = gc.image.resize_nearest_neighbor(IMAGE, size, half_pixel_centers=True)
        np.testing.assert_array_equal(run(near), exact)
        plain = F.interpolate(x, size, mode="nearest").permute(0, 2, 3, 1)
        np.testing.assert_array_equal(run(gc.image.resize_nearest_neighbor(IMAGE, size)), plain)


def test_resize_by_area_of_whole_factors_is_a_mean() -> None:
    x = RNG.standard_normal((1, 6, 8, 2)).astype(np.float32)
    got = run(gc.image.resize_area(x, [2, 4]))
    np.testing.assert_allclose(got, x.reshape(1, 2, 3, 4, 2, 2).mean((2, 4)), rtol=1e-5, atol=1e-6)


def test_resize_keeps_infinities_to_their_neighbours() -> None:
    x = np.ones((1, 4, 1, 1), np.float32)
    x[0, 2] = np.inf
    got = run(gc.image.resize_bilinear(x, [8, 1])).ravel()
    assert got[:3].tolist() == [1, 1, 1] and np.isinf(got[3:6]).all() and got[6:].tolist() == [1, 1]


@pytest.mark.parametrize("method", [0, 1, 2, 3])
def test_resize_gradients(method: int) -> None:
    x = RNG.standard_normal((2, 4, 5, 1)).astype(np.float32)
    check_differences(lambda v: gc.image.resize_images(v, [7, 3], method) ** 2.0, (x,), order=2)


def test_resize_of_unknown_sizes_and_to_a_fed_size(session: gc.Session) -> None:
    x, size = gc.placeholder(gc.float32, [None, None, None, 3]), gc.placeholder(gc.int32, [2])
    y = gc.image.resize_bilinear(x, size)
    for new in ((3, 4), (9, 2)):
        got = session.run(y, {x: IMAGE, size: new})
        np.testing.assert_array_equal(got, run(gc.image.resize_bilinear(IMAGE, new)))


def test_resize_that_changes_nothing_keeps_the_dtype() -> None:
    same = gc.image.resize_images(BYTES, [5, 6])
    assert same.dtype is gc.uint8
    np.testing.assert_array_equal(run(same), BYTES)
    assert gc.image.resize_images(BYTES[0], [10, 20], preserve_aspect_ratio=True).shape == (
        10,
        12,
        3,
    )


# -- crops, flips, turns


def test_crops_and_borders() -> None:
    x = IMAGE
    np.testing.assert_array_equal(run(gc.image.crop_to_bounding_box(x, 1, 2, 3, 4)), x[:, 1:4, 2:6])
    padded = run(gc.image.pad_to_bounding_box(x[0], 2, 1, 9, 8))
    np.testing.assert_array_equal(padded, np.pad(x[0], ((2, 2), (1, 1), (0, 0))))
    np.testing.assert_array_equal(run(gc.image.central_crop(x, 0.5)), x[:, 1:4, 1:5])
    # TensorFlow: an odd rest is cut at the end (5 to 2: from row 1 on) and padded at the end
    both = run(gc.image.resize_image_with_crop_or_pad(x, 2, 9))
    np.testing.assert_array_equal(both, np.pad(x[:, 1:3], ((0, 0), (0, 0), (1, 2), (0, 0))))


def test_flips_and_turns() -> None:
    np.testing.assert_array_equal(run(gc.image.flip_left_right(IMAGE)), IMAGE[:, :, ::-1])
    np.testing.assert_array_equal(run(gc.image.flip_up_down(IMAGE[0])), IMAGE[0, ::-1])
    np.testing.assert_array_equal(
        run(gc.image.transpose_image(IMAGE[0])), IMAGE[0].transpose(1, 0, 2)
    )
    for k in range(-1, 5):
        got = run(gc.image.rot90(IMAGE, k))
        np.testing.assert_array_equal(got, np.rot90(IMAGE, k, (1, 2)))


def test_random_flips_and_crops(session: gc.Session) -> None:
    x = np.arange(64 * 4, dtype=np.float32).reshape(64, 1, 4, 1)
    got = run(gc.image.random_flip_left_right(x, seed=4))
    flipped = [bool((a == b[:, ::-1]).all()) for a, b in zip(got, x, strict=True)]
    kept = [bool((a == b).all()) for a, b in zip(got, x, strict=True)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True)) and 15 < sum(flipped) < 50
    y = gc.random_crop(np.arange(30).reshape(5, 6), [2, -1], seed=3)
    starts = set()
    for _ in range(60):
        crop = session.run(y)
        starts.add(int(crop[0, 0]))
        np.testing.assert_array_equal(crop, crop[0, 0] + np.arange(12).reshape(2, 6))
    assert starts == {0, 6, 12, 18}
    up = run(gc.image.random_flip_up_down(IMAGE[0], seed=1))
    assert (up == IMAGE[0]).all() or (up == IMAGE[0, ::-1]).all()


def test_patches() -> None:
    got = run(
        gc.image.extract_image_patches(IMAGE, [1, 3, 2, 1], [1, 2, 1, 1], [1, 1, 2, 1], "VALID")
    )
    assert got.shape == (2, 2, 4, 18)
    np.testing.assert_array_equal(got[1, 1, 2], IMAGE[1, 2:5, 2:5:2].ravel())


# -- colors


def test_hsv_against_colorsys() -> None:
    x = np.concatenate([IMAGE.reshape(-1, 3), [[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.2]]])
    x = x.astype(np.float32)
    hsv = run(gc.image.rgb_to_hsv(x))
    want = [colorsys.rgb_to_hsv(*map(float, p)) for p in x]
    np.testing.assert_allclose(hsv, want, atol=1e-5)
    np.testing.assert_allclose(run(gc.image.hsv_to_rgb(hsv)), x, atol=1e-5)


def test_gray() -> None:
    gray = run(gc.image.rgb_to_grayscale(IMAGE))
    np.testing.assert_allclose(gray[..., 0], IMAGE @ [0.2989, 0.587, 0.114], rtol=1e-5)
    np.testing.assert_array_equal(run(gc.image.grayscale_to_rgb(gray)), np.repeat(gray, 3, -1))
    assert run(gc.image.rgb_to_grayscale(BYTES)).dtype == np.uint8


@pytest.mark.parametrize(("there", "back"), [("rgb_to_yiq", "yiq_to_rgb"),
                                             ("rgb_to_yuv", "yuv_to_rgb")])  # fmt: skip
def test_television_colors(there: str, back: str) -> None:
    other = getattr(gc.image, there)(IMAGE)
    # TensorFlow's matrices are each other's inverses to 4 digits
    np.testing.assert_allclose(run(getattr(gc.image, back)(other)), IMAGE, atol=2e-4)
    luma = run(other)[..., 0]
    np.testing.assert_allclose(luma, IMAGE @ [0.299, 0.587, 0.114], rtol=1e-5)


def test_adjustments() -> None:
    np.testing.assert_allclose(
        run(gc.image.adjust_brightness(IMAGE, 0.25)), IMAGE + 0.25, rtol=1e-6
    )
    mean = IMAGE.mean((1, 2), keepdims=True)
    got = run(gc.image.adjust_contrast(IMAGE, 2.0))
    np.testing.assert_allclose(got, (IMAGE - mean) * 2 + mean, atol=1e-5)
    np.testing.assert_allclose(run(gc.image.adjust_gamma(IMAGE, 2, 3)), 3 * IMAGE**2, rtol=1e-5)
    pixels = IMAGE.reshape(-1, 3)
    hue, saturation = run(
        [gc.image.adjust_hue(pixels, 0.3), gc.image.adjust_saturation(pixels, 0.5)]
    )
    for p, h, s in zip(pixels, hue, saturation, strict=True):
        own = colorsys.rgb_to_hsv(*map(float, p))
        np.testing.assert_allclose(h, colorsys.hsv_to_rgb((own[0] + 0.3) % 1, *own[1:]), atol=1e-5)
        np.testing.assert_allclose(s, colorsys.hsv_to_rgb(own[0], own[1] / 2, own[2]), atol=1e-5)
    # testPositiveDeltaUint8 of TensorFlow: 10 more, and cut at 255
    x = np.array([0, 5, 13, 54, 135, 226, 37, 8, 234, 90, 255, 1], np.uint8).reshape(1, 2, 2, 3)
    got = run(gc.image.adjust_brightness(x, 10.0 / 255))
    want = np.minimum(x.astype(int) + 10, 255)
    np.testing.assert_array_equal(got, want)


def test_random_adjustments_stay_in_their_bounds(session: gc.Session) -> None:
    x = np.full((3, 3, 3), 0.5, np.float32)
    y = gc.image.random_brightness(x, 0.2)
    values = {float(session.run(y)[0, 0, 0]) for _ in range(20)}
    assert len(values) > 10 and min(values) >= 0.3 and max(values) <= 0.7
    shapes = [gc.image.random_contrast(x, 0.5, 2.0), gc.image.random_hue(x, 0.1),
              gc.image.random_saturation(x, 0.5, 1.5)]  # fmt: skip
    for value in session.run(shapes):
        np.testing.assert_allclose(value, x, atol=1e-5)  # gray has no contrast, hue, saturation


def test_convert_image_dtype() -> None:
    convert = gc.image.convert_image_dtype
    np.testing.assert_allclose(run(convert(BYTES, gc.float32)), BYTES / np.float32(255), rtol=1e-6)
    np.testing.assert_array_equal(run(convert(convert(BYTES, gc.float32), gc.uint8)), BYTES)
    np.testing.assert_array_equal(run(convert(BYTES, gc.int16)), BYTES.astype(np.int16) * 128)
    wide = run(convert(np.array([0, 300, 32767], np.int16), gc.uint8))
    assert wide.tolist() == [0, 2, 255]
    cut = run(convert(np.array([-1.0, 2.0], np.float32), gc.uint8, saturate=True))
    assert cut.tolist() == [0, 255]


def test_standardization() -> None:
    got = run(gc.image.per_image_standardization(IMAGE))
    mean, std = IMAGE.mean((1, 2, 3), keepdims=True), IMAGE.std((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(got, (IMAGE - mean) / std, atol=1e-4)
    flat = run(gc.image.per_image_standardization(np.full((2, 2, 1), 7, np.uint8)))
    np.testing.assert_array_equal(flat, np.zeros((2, 2, 1)))


# -- measures


def test_variation_and_edges() -> None:
    want = np.abs(np.diff(IMAGE, axis=1)).sum((1, 2, 3)) + np.abs(np.diff(IMAGE, axis=2)).sum(
        (1, 2, 3)
    )
    np.testing.assert_allclose(run(gc.image.total_variation(IMAGE)), want, rtol=1e-5)
    dy, dx = run(list(gc.image.image_gradients(IMAGE)))
    np.testing.assert_allclose(dy[:, :-1], np.diff(IMAGE, axis=1), atol=1e-6)
    np.testing.assert_allclose(dx[:, :, :-1], np.diff(IMAGE, axis=2), atol=1e-6)
    assert not dy[:, -1].any() and not dx[:, :, -1].any()
    edges = run(gc.image.sobel_edges(IMAGE))
    p = np.pad(IMAGE, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    smooth = p[:, :, :-2] + 2 * p[:, :, 1:-1] + p[:, :, 2:]
    np.testing.assert_allclose(edges[..., 0], smooth[:, 2:] - smooth[:, :-2], atol=1e-5)
    smooth = p[:, :-2] + 2 * p[:, 1:-1] + p[:, 2:]
    np.testing.assert_allclose(edges[..., 1], smooth[:, :, 2:] - smooth[:, :, :-2], atol=1e-5)


def test_psnr_and_ssim() -> None:
    a = RNG.integers(0, 256, (2, 16, 14, 3)).astype(np.uint8)
    b = np.clip(a.astype(int) + RNG.integers(-20, 20, a.shape), 0, 255).astype(np.uint8)
    error = ((a.astype(np.float64) - b) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(
        run(gc.image.psnr(a, b, 255)), 10 * np.log10(255**2 / error), rtol=1e-4
    )
    same, other = run([gc.image.ssim(a, a, 255), gc.image.ssim(a, b, 255)])
    np.testing.assert_allclose(same, [1, 1], rtol=1e-5)
    np.testing.assert_allclose(other, [_ssim(x / 255, y / 255) for x, y in zip(a, b, strict=True)],
                               rtol=1e-4)  # fmt: skip


def _ssim(x: np.ndarray, y: np.ndarray) -> float:
    """By the definition: for each window and channel, then the mean."""
    at = np.arange(11) - 5
    w = np.exp(-(at[:, None] ** 2 + at[None] ** 2) / (2 * 1.5**2))
    w = (w / w.sum())[..., None]
    values = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            p, q = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            mp, mq = (w * p).sum((0, 1)), (w * q).sum((0, 1))
            vp, vq = (w * (p - mp) ** 2).sum((0, 1)), (w * (q - mq) ** 2).sum((0, 1))
            cov = (w * (p - mp) * (q - mq)).sum((0, 1))
            c1, c2 = 0.01**2, 0.03**2
            values.append((2 * mp * mq + c1) * (2 * cov + c2)
                          / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))  # fmt: skip
    return float(np.mean(values))


# -- boxes


def test_crop_and_resize() -> None:
    x = np.arange(12, dtype=np.float32).reshape(1, 3, 4, 1)
    boxes = np.array([[0, 0, 1, 1], [1, 1, 0, 0], [0.5, 0, 0.5, 1], [0, 0, 2, 1]], np.float32)
    which = np.zeros(4, np.int32)
    got = run(gc.image.crop_and_resize(x, boxes, which, [3, 4], extrapolation_value=-1))
    np.testing.assert_allclose(got[0], x[0], atol=1e-5)
    np.testing.assert_allclose(got[1], x[0, ::-1, ::-1], atol=1e-5)
    np.testing.assert_allclose(got[2, :, :, 0], np.tile(x[0, 1, :, 0], (3, 1)), atol=1e-5)
    np.testing.assert_allclose(got[3, :2, :, 0], x[0, ::2, :, 0], atol=1e-5)
    assert (got[3, 2] == -1).all()
    one = run(gc.image.crop_and_resize(x, boxes[:1], which[:1], [1, 1], "nearest"))
    assert one.ravel().tolist() == [6.0]  # (1, 1.5) is nearest to (1, 2)
    # linear in the image: <crop(v), g> = <v, gradient>
    v, g = gc.placeholder(gc.float32, x.shape), RNG.standard_normal((2, 2, 5, 1)).astype(np.float32)
    y = gc.image.crop_and_resize(v, boxes[:2], which[:2], [2, 5])
    (slope,) = gc.gradients(y, [v], [gc.constant(g)])
    value, slopes = gc.get_default_session().run([y, slope], {v: x})
    np.testing.assert_allclose((value * g).sum(), (slopes * x).sum(), rtol=1e-4)


def test_non_max_suppression() -> None:
    # tensorflow/core/kernels/non_max_suppression_op_test.cc, TestSelectFromThreeClusters
    boxes = np.array([[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, -0.1, 1, 0.9], [0, 10, 1, 11],
                      [0, 10.1, 1, 11.1], [0, 100, 1, 101]], np.float32)  # fmt: skip
    scores = np.array([0.9, 0.75, 0.6, 0.95, 0.5, 0.3], np.float32)
    suppress = gc.image.non_max_suppression_padded
    for count, want in ((3, [3, 0, 5]), (2, [3, 0]), (30, [3, 0, 5] + [0] * 27)):
        got, valid = run(list(suppress(boxes, scores, count, 0.5)))
        assert got.tolist() == want and valid == min(count, 3)
    flipped = boxes[:, [2, 3, 0, 1]]
    assert run(suppress(flipped, scores, 3, 0.5)[0]).tolist() == [3, 0, 5]
    got, valid = run(list(suppress(boxes, scores, 3, 0.5, score_threshold=0.4)))
    assert got.tolist() == [3, 0, 0] and valid == 2


WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "rank": (lambda: gc.image.flip_up_down(IMAGE[0, 0]), gc.errors.ShapeError, "flip_up_down"),
    "method": (
        lambda: gc.image.resize_images(IMAGE, [2, 2], 4), gc.errors.AttributeValueError, "got 4",
    ),
    "size": (
        lambda: gc.image.resize_bilinear(IMAGE, [0, 2]), gc.errors.AttributeValueError, "positive",
    ),
    "both": (
        lambda: gc.image.resize_bilinear(IMAGE, [2, 2], True, None, True),
        gc.errors.AttributeValueError, "exclude",
    ),
    "empty": (
        lambda: gc.image.resize_bilinear(IMAGE[:, :0], [2, 2]), gc.errors.ShapeError, "pixels",
    ),
    "crop": (
        lambda: gc.image.crop_to_bounding_box(IMAGE, 3, 0, 3, 2), gc.errors.ShapeError, "leaves",
    ),
    "pad": (
        lambda: gc.image.pad_to_bounding_box(IMAGE, 0, 0, 3, 9), gc.errors.ShapeError, "not fit",
    ),
    "fraction": (
        lambda: gc.image.central_crop(IMAGE, 1.5), gc.errors.AttributeValueError, "1.5",
    ),
    "random_crop": (
        lambda: gc.random_crop(IMAGE, [2, 6, 6, 3]), gc.errors.ShapeError, "does not fit",
    ),
    "channels": (lambda: gc.image.rgb_to_hsv(IMAGE[..., :2]), gc.errors.ShapeError, "3 channels"),
    "gray": (lambda: gc.image.grayscale_to_rgb(IMAGE), gc.errors.ShapeError, "1 channels"),
    "hue": (lambda: gc.image.random_hue(IMAGE, 0.6), gc.errors.AttributeValueError, "0.6"),
    "contrast": (
        lambda: gc.image.random_contrast(IMAGE, 2, 1), gc.errors.AttributeValueError, "2 and 1",
    ),
    "bools": (
        lambda: gc.image.convert_image_dtype(IMAGE > 0, gc.float32), gc.errors.DTypeError, "bool",
    ),
    "scores": (
        lambda: gc.image.non_max_suppression_padded(
            np.zeros((3, 4), np.float32), np.zeros(2, np.float32), 2
        ),
        gc.errors.ShapeError, "one score",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_errors(name: str) -> None:
    make, error, text = WRONG[name]
    with pytest.raises(error, match=text):
        make()

"""Convolutions, their transposes and pools in one to three dims, by random cases against torch."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import graphc as gc
from graphc.frontend import convolution as cv
from graphc.ir import errors
from graphc.ir.graph import Graph, Value
from graphc.ir.ops import conv
from graphc.ir.table import OPS
from tests.ir.nn_checks import check, check_differences, gradients
from tests.passes.program_checks import check_values, kernel_forms

Attrs = dict[str, Any]
CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVG = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
LAYOUTS = {1: ("NWC", "NCW"), 2: ("NHWC", "NCHW"), 3: ("NDHWC", "NCDHW")}


@pytest.fixture(autouse=True)
def _fresh() -> Any:
    with Graph().as_default():
        yield


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def distinct(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.permutation(int(np.prod(shape))).reshape(shape) / 8 - 2).astype(np.float32)


def first(x: torch.Tensor, layout: str) -> torch.Tensor:
    """Channels first, as torch has them."""
    return x if layout[1] == "C" else x.movedim(-1, 1)


def back(x: torch.Tensor, layout: str) -> torch.Tensor:
    return x if layout[1] == "C" else x.movedim(1, -1)


def torch_filter(w: torch.Tensor) -> torch.Tensor:
    """[window..., c, o] -> [o, c, window...]"""
    return w.permute(w.ndim - 1, w.ndim - 2, *range(w.ndim - 2))


def draw(seed: int, rank: int) -> dict[str, Any]:
    """A random case: window, strides, dilations, padding, groups, and an image that they fit."""
    rng = np.random.default_rng(seed)
    window = tuple(int(v) for v in rng.integers(1, 4, rank))
    case: dict[str, Any] = {
        "window": window,
        "strides": tuple(int(v) for v in rng.integers(1, 4, rank)),
        "dilations": tuple(int(v) for v in rng.integers(1, 3, rank)),
        "padding": tuple(tuple(int(v) for v in rng.integers(0, 3, 2)) for _ in range(rank)),
        "groups": int(rng.integers(1, 4)),
        "layout": LAYOUTS[rank][int(rng.integers(2))],
    }
    reach = [(k - 1) * d + 1 for k, d in zip(window, case["dilations"], strict=True)]
    case["size"] = tuple(int(r + rng.integers(0, 5)) for r in reach)
    case["channels"] = case["groups"] * int(rng.integers(1, 3))
    case["outputs"] = case["groups"] * int(rng.integers(1, 4))
    return case


def image_shape(case: Attrs, channels: int) -> tuple[int, ...]:
    if case["layout"][1] == "C":
        return (2, channels, *case["size"])
    return (2, *case["size"], channels)


def torch_padded(x: torch.Tensor, padding: Any, fill: float = 0) -> torch.Tensor:
    flat = [p for pair in reversed(padding) for p in pair]
    return F.pad(x, flat, value=fill)


CASES = [(rank, seed) for rank in (1, 2, 3) for seed in range(6)]


@pytest.mark.parametrize(("rank", "seed"), CASES)
def test_convolution(rank: int, seed: int) -> None:
    case, rng = draw(seed, rank), np.random.default_rng(seed + 100)
    x = normal(rng, *image_shape(case, case["channels"]))
    w = normal(rng, *case["window"], case["channels"] // case["groups"], case["outputs"])

    def build(x: Value, w: Value) -> Value:
        return cv.convolution(
            x, w, strides=case["strides"], padding=case["padding"], dilations=case["dilations"],
            groups=case["groups"], data_format=case["layout"],
        )  # fmt: skip

    def reference(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y = CONV[rank](
            torch_padded(first(x, case["layout"]), case["padding"]), torch_filter(w), None,
            case["strides"], 0, case["dilations"], case["groups"],
        )  # fmt: skip
        return back(y, case["layout"])

    check(build, reference, (x, w), atol=5e-5)
    if seed == 0:
        check_differences(build, (x, w), order=3)


@pytest.mark.parametrize(("rank", "seed"), CASES)
def test_conv_transpose(rank: int, seed: int) -> None:
    case, rng = draw(seed + 50, rank), np.random.default_rng(seed + 200)
    pads = tuple((p[0], p[0]) for p in case["padding"])  # torch's are symmetric
    limits = zip(case["window"], case["dilations"], pads, strict=True)
    pads = tuple((min(p, (k - 1) * d),) * 2 for k, d, (p, _) in limits)
    # torch allows what is less than the stride or the dilation
    more = tuple(max(s, d) - 1 for s, d in zip(case["strides"], case["dilations"], strict=True))
    x = normal(rng, *image_shape(case, case["outputs"]))
    w = normal(rng, *case["window"], case["channels"] // case["groups"], case["outputs"])

    def build(x: Value, w: Value) -> Value:
        return cv.conv_transpose(
            x, w, strides=case["strides"], padding=pads, dilations=case["dilations"],
            groups=case["groups"], data_format=case["layout"], output_padding=more,
        )  # fmt: skip

    def reference(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y = CONV_TRANSPOSE[rank](
            first(x, case["layout"]), torch_filter(w), None, case["strides"],
            tuple(p for p, _ in pads), more, case["groups"], case["dilations"],
        )  # fmt: skip
        return back(y, case["layout"])

    check(build, reference, (x, w), atol=5e-5)
    if seed == 0:
        check_differences(build, (x, w), order=2)


def test_conv_transpose_of_same_and_of_a_shape_agree() -> None:
    rng = np.random.default_rng(0)
    x, w = gc.constant(normal(rng, 2, 3, 4, 2)), gc.constant(normal(rng, 3, 5, 4, 2))
    by_rule = cv.conv_transpose(x, w, strides=(2, 3), padding="SAME")
    by_shape = cv.conv_transpose(x, w, strides=(2, 3), padding="SAME", output_shape=[2, 6, 12, 4])
    assert by_rule.shape == (2, 6, 12, 4)
    full = cv.conv_transpose(x, w, strides=(2, 3))
    with gc.Session(device="numpy") as session:
        a, b, c = session.run([by_rule, by_shape, full])
    np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(a, c[:, :6, 1:13], 1e-5, 1e-6)  # SAME takes (0, 1) and (1, 1)


def test_conv_transpose_of_unknown_sizes() -> None:
    x = OPS["placeholder"](dtype=gc.float32, shape=("n", "h", 2), name="x")
    w = OPS["placeholder"](dtype=gc.float32, shape=(3, 1, 2), name="w")
    y = cv.conv_transpose(x, w, strides=2, padding=((1, 0),), output_padding=1)
    assert y.type.shape == ("n", "?", 1)
    with gc.Session(device="numpy") as session:
        for size in (1, 4):
            given = {x: np.ones((2, size, 2), np.float32), w: np.ones((3, 1, 2), np.float32)}
            values = session.run([y, *gradients(y, [x, w])], given)
            assert values[0].shape == (2, 2 * size + 1, 1)
            assert values[1].shape == (2, size, 2) and values[2].shape == (3, 1, 2)


@pytest.mark.parametrize("layout", ["NWC", "NCHW", "NDHWC"])
def test_same_lower_has_the_odd_rest_before(layout: str) -> None:
    rank = len(layout) - 2
    rng = np.random.default_rng(1)
    shape = (1, 2, *(5,) * rank) if layout[1] == "C" else (1, *(5,) * rank, 2)
    x, w = normal(rng, *shape), normal(rng, *(2,) * rank, 2, 3)
    for padding, pair in (("SAME_LOWER", (1, 0)), ("SAME_UPPER", (0, 1))):
        check(
            lambda x, w, padding=padding: cv.convolution(x, w, padding=padding, data_format=layout),
            lambda x, w, pair=pair: back(
                CONV[rank](torch_padded(first(x, layout), (pair,) * rank), torch_filter(w)), layout
            ),
            (x, w),
        )


# -- pools


@pytest.mark.parametrize(("rank", "seed"), CASES)
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_max_pool(rank: int, seed: int, ceil_mode: bool) -> None:
    case, rng = draw(seed + 80, rank), np.random.default_rng(seed)
    pads = tuple(min(p[0], k // 2) for p, k in zip(case["padding"], case["window"], strict=True))
    x = distinct(rng, *image_shape(case, 2))

    def build(x: Value) -> Value:
        return cv.pool(
            x, case["window"], kind="max", strides=case["strides"], dilations=case["dilations"],
            padding=tuple((p, p) for p in pads), data_format=case["layout"], ceil_mode=ceil_mode,
        )  # fmt: skip

    def reference(x: torch.Tensor) -> torch.Tensor:
        y = MAX[rank](
            first(x, case["layout"]), case["window"], case["strides"], pads, case["dilations"],
            ceil_mode,
        )  # fmt: skip
        return back(y, case["layout"])

    check(build, reference, (x,))
    if seed == 0:
        check_differences(lambda v: build(v) ** 2.0, (x,), order=2)
    _check_positions(case, x, pads, ceil_mode)


def _check_positions(case: Attrs, x: np.ndarray, pads: tuple[int, ...], ceil_mode: bool) -> None:
    rank = len(pads)
    values = cv.max_pool_positions(
        x, case["window"], strides=case["strides"], dilations=case["dilations"],
        padding=tuple((p, p) for p in pads), data_format=case["layout"], ceil_mode=ceil_mode,
    )  # fmt: skip
    with gc.Session(device="numpy") as session:
        got = session.run(list(values))
    flat = MAX[rank](
        first(torch.tensor(x), case["layout"]), case["window"], case["strides"], pads,
        case["dilations"], ceil_mode, return_indices=True,
    )  # fmt: skip
    for g, want in zip(got, flat, strict=True):
        np.testing.assert_array_equal(g, back(want, case["layout"]).numpy())


@pytest.mark.parametrize(("rank", "seed"), CASES)
@pytest.mark.parametrize(("ceil_mode", "include"), list(itertools.product([False, True], repeat=2)))
def test_avg_pool(rank: int, seed: int, ceil_mode: bool, include: bool) -> None:
    case, rng = draw(seed + 90, rank), np.random.default_rng(seed)
    pads = tuple(min(p[0], k // 2) for p, k in zip(case["padding"], case["window"], strict=True))
    size = tuple(max(n, k) for n, k in zip(case["size"], case["window"], strict=True))
    x = normal(rng, *image_shape({**case, "size": size}, 2))

    def build(x: Value) -> Value:
        return cv.pool(
            x, case["window"], kind="avg", strides=case["strides"], count_include_pad=include,
            padding=tuple((p, p) for p in pads), data_format=case["layout"], ceil_mode=ceil_mode,
        )  # fmt: skip

    def reference(x: torch.Tensor) -> torch.Tensor:
        y = AVG[rank](
            first(x, case["layout"]), case["window"], case["strides"], pads, ceil_mode, include
        )
        return back(y, case["layout"])

    check(build, reference, (x,))
    if seed == 0 and include:
        check_differences(build, (x,))


@pytest.mark.parametrize("p", [1, 2, 3])
def test_lp_pool(p: float) -> None:
    x = np.random.default_rng(0).uniform(0.5, 2, (2, 5, 7, 3)).astype(np.float32)
    check(
        lambda x: cv.pool(x, (2, 3), kind="lp", p=p, strides=(2, 1)),
        lambda x: F.lp_pool2d(x.permute(0, 3, 1, 2), p, (2, 3), (2, 1)).permute(0, 2, 3, 1),
        (x,),
    )
    with gc.Session(device="numpy") as session:
        total = session.run(cv.pool(gc.constant(x), (2, 3), kind="sum"))
    np.testing.assert_allclose(total[1, 2, 4], x[1, 2:4, 4:7].sum((0, 1)), 1e-5)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.float16])
def test_max_pool_of_other_dtypes(dtype: Any) -> None:
    info = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else np.finfo(dtype)
    x = np.array([info.min, info.min, 3, info.max, info.min], dtype).reshape(1, 5, 1)
    y, at = cv.max_pool_positions(gc.constant(x), 2, strides=2, padding=((1, 0),))
    with gc.Session(device="numpy") as session:
        values, places = session.run([y, at])
    assert values.dtype == dtype and values.ravel().tolist() == [info.min, 3, info.max]
    assert places.ravel().tolist() == [0, 2, 3]  # not the padding, which is no less


# -- what the kernels look like


def test_grouped_convolutions_are_one_dot_with_a_batch_axis() -> None:
    x = OPS["placeholder"](dtype=gc.float32, shape=(2, 6, 7, 8), name="x")
    w = OPS["placeholder"](dtype=gc.float32, shape=(3, 3, 4, 6), name="w")
    y = cv.convolution(x, w, groups=2, padding="SAME", strides=2)
    g = OPS["placeholder"](dtype=gc.float32, shape=y.type.shape, name="g")
    rng = np.random.default_rng(0)
    given = {v.node: normal(rng, *v.type.static_shape) for v in (x, w, g)}
    program, _ = check_values([y, *gradients(y, [x, w], g)], given, atol=5e-5)
    assert kernel_forms(program) == {"dot": 3}
    assert not [b for b in program.buffers.values() if b.role == "temporary"]


@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_convolutions_are_one_kernel_without_a_dot(multiplier: int) -> None:
    x = OPS["placeholder"](dtype=gc.float32, shape=(2, 6, 7, 5), name="x")
    w = OPS["placeholder"](dtype=gc.float32, shape=(3, 3, 5, multiplier), name="w")
    b = OPS["placeholder"](dtype=gc.float32, shape=(5 * multiplier,), name="b")
    y = gc.nn.relu(conv.depthwise_convolution(x, w, padding="SAME") + b)
    rng = np.random.default_rng(0)
    given = {v.node: normal(rng, *v.type.static_shape) for v in (x, w, b)}
    program, _ = check_values([y], given)
    assert len(program.kernels) == 1 and kernel_forms(program) == {"flat": 1}


# -- refusals

WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "rank": (lambda x, w: cv.convolution(x, w, data_format="NHWC"), errors.ShapeError, "rank 4"),
    "layout": (
        lambda x, w: cv.convolution(x, w, data_format="WNC"), errors.AttributeValueError, "WNC",
    ),
    "rank_4": (
        lambda x, w: cv.convolution(np.zeros((1,) * 6, np.float32), w),
        errors.AttributeValueError, "one, two or three",
    ),
    "strides": (
        lambda x, w: cv.convolution(x, w, strides=(1, 2)), errors.AttributeValueError, r"\(1, 2\)",
    ),
    "no_padding": (
        lambda x, w: cv.convolution(x, w, padding=None), errors.AttributeValueError, "missing",
    ),
    "transposed_channels": (
        lambda x, w: cv.conv_transpose(x, w), errors.ShapeError, "transposed.*3 is not 4",
    ),
    "output_padding_same": (
        lambda x, w: cv.conv_transpose(x[:, :, :2], w[:, :, :2], padding="SAME", output_padding=1),
        errors.AttributeValueError, "no meaning",
    ),
    "output_padding_negative": (
        lambda x, w: cv.conv_transpose(x, w, output_padding=-1), errors.AttributeValueError, "-1",
    ),
    "both": (
        lambda x, w: cv.conv_transpose(x, w, output_padding=1, output_shape=[1, 2, 3]),
        errors.AttributeValueError, "not both",
    ),
    "output_shape": (
        lambda x, w: cv.conv_transpose(x, w[:, :, :3], strides=2, output_shape=[2, 5, 3]),
        errors.ShapeError, r"result",
    ),
    "kind": (lambda x, w: cv.pool(x, 2, kind="min"), errors.AttributeValueError, "min"),
    "p": (lambda x, w: cv.pool(x, 2, kind="lp", p=0), errors.AttributeValueError, "positive"),
    "ceil_too_large": (
        lambda x, w: cv.pool(x, 9, strides=2, ceil_mode=True), errors.ShapeError, "9.*6",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_errors_have_the_values(name: str) -> None:
    make, error, text = WRONG[name]
    x = OPS["placeholder"](dtype=gc.float32, shape=(2, 6, 3), name="x")
    w = OPS["placeholder"](dtype=gc.float32, shape=(2, 3, 4), name="w")
    with pytest.raises(error, match=text):
        make(x, w)

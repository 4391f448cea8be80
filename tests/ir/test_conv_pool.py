"""Convolutions and pooling: against torch, finite differences, programs and sessions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import graphc as gc
from graphc.ir import errors
from graphc.ir.graph import Graph, Value
from graphc.ir.ops import conv, nn, norm, pool
from graphc.ir.ops.conv import convolution
from graphc.ir.table import OPS
from tests.ir.nn_checks import check, check_differences, gradients
from tests.passes.program_checks import check_values, kernel_forms, only_kernel

Attrs = dict[str, Any]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def distinct(*shape: int) -> np.ndarray:
    """No two elements are equal: maxima have derivatives."""
    rng = np.random.default_rng(3)
    return (rng.permutation(int(np.prod(shape))).reshape(shape) / 8 - 2).astype(np.float32)


def placeholder(*shape: Any, name: str = "x") -> Value:
    return OPS["placeholder"](dtype=gc.float32, shape=shape, name=name)


@pytest.fixture(autouse=True)
def _fresh() -> Any:
    with Graph().as_default():
        yield


# -- the references: torch on padded NCHW images


def to_nchw(x: torch.Tensor, data_format: str) -> torch.Tensor:
    return x.permute(0, 3, 1, 2) if data_format == "NHWC" else x


def from_nchw(x: torch.Tensor, data_format: str) -> torch.Tensor:
    return x.permute(0, 2, 3, 1) if data_format == "NHWC" else x


def same_padding(n: int, k: int, s: int, d: int) -> tuple[int, int]:
    """TensorFlow's documented rule, written a second time."""
    reach = (k - 1) * d + 1
    total = max(reach - s, 0) if n % s == 0 else max(reach - n % s, 0)
    return total // 2, total - total // 2


def padded(x: torch.Tensor, window: Any, attrs: Attrs, fill: float) -> torch.Tensor:
    """x (NCHW) with the padding that the attributes ask for."""
    padding, stride = attrs.get("padding", "VALID"), attrs.get("strides", (1, 1))
    dilation = attrs.get("dilations", (1, 1))
    if padding == "VALID":
        return x
    if padding == "SAME":
        padding = [
            same_padding(x.shape[2 + i], window[i], stride[i], dilation[i]) for i in range(2)
        ]
    (top, bottom), (left, right) = padding
    return F.pad(x, (left, right, top, bottom), value=fill)


def torch_conv(x: torch.Tensor, w: torch.Tensor, attrs: Attrs) -> torch.Tensor:
    data_format = attrs.get("data_format", "NHWC")
    image = padded(to_nchw(x, data_format), w.shape[:2], attrs, 0)
    y = F.conv2d(
        image, w.permute(3, 2, 0, 1), stride=attrs.get("strides", (1, 1)),
        dilation=attrs.get("dilations", (1, 1)), groups=attrs.get("groups", 1),
    )  # fmt: skip
    return from_nchw(y, data_format)


def torch_max(x: torch.Tensor, attrs: Attrs) -> torch.Tensor:
    data_format = attrs.get("data_format", "NHWC")
    image = padded(to_nchw(x, data_format), attrs["window"], attrs, float("-inf"))
    return from_nchw(F.max_pool2d(image, attrs["window"], attrs["strides"]), data_format)


def torch_avg(x: torch.Tensor, attrs: Attrs) -> torch.Tensor:
    data_format = attrs.get("data_format", "NHWC")
    image = to_nchw(x, data_format)
    size = attrs["window"][0] * attrs["window"][1]

    def sums(part: torch.Tensor) -> torch.Tensor:
        filled = padded(part, attrs["window"], attrs, 0)
        return F.avg_pool2d(filled, attrs["window"], attrs["strides"]) * size

    return from_nchw(sums(image) / sums(torch.ones_like(image)), data_format)


CONVOLUTIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...], Attrs]] = {
    "valid": ((2, 5, 7, 3), (3, 2, 3, 4), {}),
    "one_by_one": ((3, 4, 5, 6), (1, 1, 6, 2), {}),
    "same": ((2, 5, 7, 3), (3, 3, 3, 4), {"padding": "SAME"}),
    "same_even_window": ((1, 5, 4, 2), (2, 4, 2, 3), {"padding": "SAME"}),
    "same_strided": ((2, 7, 6, 2), (3, 3, 2, 2), {"padding": "SAME", "strides": (2, 3)}),
    "valid_strided": ((2, 9, 8, 2), (3, 2, 2, 3), {"strides": (2, 3)}),
    "stride_over_window": ((1, 7, 8, 2), (1, 2, 2, 2), {"padding": "SAME", "strides": (3, 3)}),
    "dilated": ((2, 9, 7, 2), (3, 2, 2, 2), {"dilations": (2, 3)}),
    "dilated_same": ((1, 6, 7, 2), (3, 3, 2, 2), {"padding": "SAME", "dilations": (2, 2)}),
    "explicit": ((2, 4, 5, 2), (3, 3, 2, 2), {"padding": ((1, 0), (2, 3)), "strides": (2, 1)}),
    "nchw": ((2, 3, 6, 5), (3, 2, 3, 4), {"data_format": "NCHW"}),
    "nchw_same_strided": (
        (2, 3, 5, 7), (3, 3, 3, 2), {"data_format": "NCHW", "padding": "SAME", "strides": (2, 2)},
    ),
    "groups": ((2, 5, 5, 6), (3, 3, 2, 9), {"groups": 3, "padding": "SAME"}),
    "groups_nchw": (
        (2, 4, 5, 6), (2, 3, 2, 6), {"groups": 2, "data_format": "NCHW", "strides": (2, 2)},
    ),
    "single_pixel": ((1, 1, 1, 1), (3, 3, 1, 1), {"padding": "SAME"}),
    "empty_batch": ((0, 4, 4, 2), (3, 3, 2, 3), {"padding": "SAME"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_conv2d(name: str) -> None:
    image, kernel, attrs = CONVOLUTIONS[name]
    arrays = normal(*image), normal(*kernel, seed=1)
    check(
        lambda x, w: conv.convolution(x, w, **attrs), lambda x, w: torch_conv(x, w, attrs), arrays
    )


@pytest.mark.parametrize("name", ["same_strided", "dilated", "explicit", "groups_nchw", "groups"])
def test_conv2d_differences(name: str) -> None:
    """Gradients of the gradients are convolutions again: three orders."""
    image, kernel, attrs = CONVOLUTIONS[name]
    arrays = normal(*image), normal(*kernel, seed=1)
    check_differences(lambda x, w: conv.convolution(x, w, **attrs), arrays, order=3)


def test_conv2d_nan_stays_in_its_windows() -> None:
    x = normal(1, 5, 5, 1)
    x[0, 0, 0, 0], x[0, 4, 4, 0] = np.nan, np.inf
    w = np.abs(normal(2, 2, 1, 1)) + 1
    attrs: Attrs = {"padding": "SAME"}
    check(
        lambda a, b: conv.convolution(a, b, **attrs),
        lambda a, b: torch_conv(a, b, attrs),
        (x, w),
        (),
    )


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_conv2d(data_format: str, multiplier: int) -> None:
    attrs: Attrs = {"padding": "SAME", "data_format": data_format, "strides": (2, 1)}
    image = (2, 5, 4, 3) if data_format == "NHWC" else (2, 3, 5, 4)

    def reference(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch_conv(x, w.reshape(3, 2, 1, 3 * multiplier), {**attrs, "groups": 3})

    def build(x: Value, w: Value) -> Value:
        w = OPS["reshape"](w, shape=(3, 2, 3, multiplier))  # its first dim is not known
        return conv.depthwise_convolution(x, w, **attrs)

    check(build, reference, (normal(*image), normal(3, 2, 3, multiplier, seed=1)))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_conv2d_input_grad_is_a_transposed_convolution(padding: str) -> None:
    size = 7 if padding == "VALID" else 6
    like = np.zeros((2, size, size, 4), np.float32)

    def build(g: Value, w: Value, x: Value) -> Value:
        return conv.convolution_input_grad(w, g, x, strides=(2, 2), padding=padding)

    def reference(g: torch.Tensor, w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        y = F.conv_transpose2d(g.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1), stride=2)
        return y.permute(0, 2, 3, 1)[:, :size, :size]  # SAME: 0 before, 1 after

    check(build, reference, (normal(2, 3, 3, 2), normal(3, 3, 4, 2, seed=1), like), (0, 1))


POOLS: dict[str, tuple[tuple[int, ...], Attrs]] = {
    "tiles": ((2, 4, 6, 3), {"window": (2, 3), "strides": (2, 3)}),
    "tiles_nchw": ((2, 3, 4, 6), {"window": (2, 2), "strides": (2, 2), "data_format": "NCHW"}),
    "rest_left": ((2, 5, 7, 2), {"window": (2, 2), "strides": (2, 2)}),
    "overlapping": ((2, 7, 6, 2), {"window": (3, 2), "strides": (2, 1)}),
    "same": ((1, 5, 7, 2), {"window": (3, 3), "strides": (2, 2), "padding": "SAME"}),
    "same_dense": ((2, 5, 4, 2), {"window": (3, 3), "strides": (1, 1), "padding": "SAME"}),
    "same_gaps": ((1, 7, 5, 2), {"window": (1, 2), "strides": (3, 3), "padding": "SAME"}),
    "same_nchw": (
        (2, 3, 5, 4),
        {"window": (2, 3), "strides": (2, 2), "padding": "SAME", "data_format": "NCHW"},
    ),
    "explicit": ((1, 5, 4, 2), {"window": (3, 2), "strides": (2, 2), "padding": ((1, 0), (0, 1))}),
    "whole": ((2, 3, 4, 2), {"window": (3, 4), "strides": (1, 1)}),
    "empty_batch": ((0, 4, 4, 2), {"window": (2, 2), "strides": (2, 2)}),
}


@pytest.mark.parametrize("name", POOLS)
def test_max_pool(name: str) -> None:
    shape, attrs = POOLS[name]
    x = distinct(*shape)
    check(lambda v: pool.max_pool(v, **attrs), lambda v: torch_max(v, attrs), (x,))
    if x.size:
        check_differences(lambda v: pool.max_pool(v, **attrs) ** 2.0, (x,), order=2)


@pytest.mark.parametrize("name", POOLS)
def test_avg_pool(name: str) -> None:
    shape, attrs = POOLS[name]
    x = normal(*shape)
    check(lambda v: pool.avg_pool(v, **attrs), lambda v: torch_avg(v, attrs), (x,))
    check_differences(lambda v: pool.avg_pool(v, **attrs), (x,))


@pytest.mark.parametrize("name", ["tiles", "tiles_nchw", "same_dense", "overlapping"])
def test_max_pool_ties_go_to_the_first(name: str) -> None:
    shape, attrs = POOLS[name]
    x = np.random.default_rng(2).integers(0, 3, shape).astype(np.float32)
    check(lambda v: pool.max_pool(v, **attrs), lambda v: torch_max(v, attrs), (x,))


@pytest.mark.parametrize("name", ["tiles", "same"])
def test_pools_hand_on_nan_and_inf(name: str) -> None:
    shape, attrs = POOLS[name]
    x = distinct(*shape)
    x.flat[3], x.flat[11], x.flat[17] = np.nan, np.inf, -np.inf
    check(lambda v: pool.max_pool(v, **attrs), lambda v: torch_max(v, attrs), (x,), ())
    check(lambda v: pool.avg_pool(v, **attrs), lambda v: torch_avg(v, attrs), (x,), ())
    pooled = gc.Session(device="numpy").run(pool.max_pool(gc.constant(x), **attrs))
    assert np.isnan(pooled).sum() >= 1


def test_max_pool_gradient_of_a_nan_goes_to_the_first_nan() -> None:
    x = np.array([1, np.nan, np.nan, 2], np.float32).reshape(1, 2, 2, 1)
    v = gc.constant(x)
    (g,) = gradients(pool.max_pool(v, window=(2, 2), strides=(2, 2)), [v])
    assert gc.Session(device="numpy").run(g).ravel().tolist() == [0, 1, 0, 0]


# -- what the kernels look like


def test_convolution_bias_relu_is_one_dot() -> None:
    x, w, b = placeholder(2, 7, 6, 3), placeholder(3, 3, 3, 4, name="w"), placeholder(4, name="b")
    for attrs in ({"padding": "SAME", "strides": (2, 1)}, {"dilations": (2, 1)}):
        y = nn.relu(norm.bias_add(conv.convolution(x, w, **attrs), b))
        given = {v.node: normal(*v.type.static_shape) for v in (x, w, b)}
        program, _ = check_values([y], given, atol=2e-5)
        assert only_kernel(program).form == "dot"
        assert not [b for b in program.buffers.values() if b.role == "temporary"]


@pytest.mark.parametrize("name", ["same_strided", "valid", "dilated", "nchw", "groups"])
def test_gradients_are_one_dot_each_and_nothing_is_copied(name: str) -> None:
    image, kernel, attrs = CONVOLUTIONS[name]
    x, w = placeholder(*image), placeholder(*kernel, name="w")
    y = conv.convolution(x, w, **attrs)
    g = placeholder(*y.type.static_shape, name="g")
    given = {v.node: normal(*v.type.static_shape) for v in (x, w, g)}
    program, ctx = check_values(gradients(y, [x, w], g), given, atol=5e-5)
    assert kernel_forms(program) == {"dot": 2}
    assert not [b for b in program.buffers.values() if b.role == "temporary"]
    assert ctx.decisions == []


@pytest.mark.parametrize("op", [pool.max_pool, pool.avg_pool])
def test_pool_kernels(op: Any) -> None:
    """Forward one kernel; backward one, but for overlapping maxima, whose positions are kept."""
    for name in ("tiles", "same", "same_dense", "overlapping"):
        shape, attrs = POOLS[name]
        x = placeholder(*shape)
        y = op(x, **attrs)
        g = placeholder(*y.type.static_shape, name="g")
        given = {x.node: distinct(*shape), g.node: normal(*y.type.static_shape)}
        assert len(check_values([y], {x.node: given[x.node]})[0].kernels) == 1
        program, _ = check_values(gradients(y, [x], g), given)
        kept = [b.nbytes for b in program.buffers.values() if b.role == "temporary"]
        overlap = op is pool.max_pool and name != "tiles"
        assert len(program.kernels) == (2 if overlap else 1)
        assert kept == ([y.type.nbytes] if overlap else [])


# -- types


def test_types_with_unknown_dims() -> None:
    x, w = placeholder("n", "h", 7, 3), placeholder(3, 3, 3, 4, name="w")
    assert conv.convolution(x, w, padding="SAME").type.shape == ("n", "h", 7, 4)
    assert conv.convolution(x, w, padding="SAME", strides=(2, 2)).type.shape == ("n", "?", 4, 4)
    assert conv.convolution(x, w).type.shape == ("n", "?", 5, 4)
    pooled = pool.max_pool(x, window=(2, 2), strides=(2, 2), padding="SAME")
    assert pooled.type.shape == ("n", "?", 4, 3)
    unknown = OPS["placeholder"](dtype=gc.float32, shape=None)
    assert conv.convolution(unknown, w).type.rank == 4
    assert pool.avg_pool(unknown, window=(2, 2), strides=(1, 1)).type.rank == 4


def test_unknown_image_sizes_run() -> None:
    x, w = placeholder("n", "h", "w", 2), placeholder(3, 3, 2, 3, name="w")
    y = pool.max_pool(
        conv.convolution(x, w, padding="SAME", strides=(2, 1)),
        window=(2, 2), strides=(2, 2), padding="SAME",
    )  # fmt: skip
    fetches = [y, *gradients(y, [x, w])]
    with gc.Session(device="numpy") as session:
        for h, wide in ((5, 7), (8, 3)):
            values = session.run(fetches, {x: normal(2, h, wide, 2), w: normal(3, 3, 2, 3, seed=1)})
            assert values[0].shape == (2, (h + 3) // 4, (wide + 1) // 2, 3)
            assert values[1].shape == (2, h, wide, 2)


WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "rank": (lambda x, w: convolution(w, x[0]), errors.ShapeError, r"rank 4.*\[6, 7, 3\]"),
    "channels": (lambda x, w: convolution(x, w[:, :, :2]), errors.ShapeError, "3 channels"),
    "groups": (lambda x, w: convolution(x, w, groups=2), errors.ShapeError, "2 groups"),
    "groups_outputs": (
        lambda x, w: convolution(x, w[:, :, :1], groups=3), errors.ShapeError, "divisible by 3",
    ),
    "groups_zero": (lambda x, w: convolution(x, w, groups=0), errors.AttributeValueError, "0"),
    "padding": (lambda x, w: convolution(x, w, padding="FULL"), errors.AttributeValueError, "FULL"),
    "padding_pairs": (
        lambda x, w: convolution(x, w, padding=((1, -1), (0, 0))), errors.AttributeValueError, "-1",
    ),
    "stride": (
        lambda x, w: convolution(x, w, strides=(0, 1)), errors.AttributeValueError, r"\(0, 1\)",
    ),
    "strides_count": (
        lambda x, w: convolution(x, w, strides=2), errors.AttributeValueError, "strides.*2",
    ),
    "dilation": (
        lambda x, w: convolution(x, w, dilations=(1, 0)), errors.AttributeValueError, r"\(1, 0\)",
    ),
    "data_format": (
        lambda x, w: convolution(x, w, data_format="HWC"), errors.AttributeValueError, "HWC",
    ),
    "too_large": (
        lambda x, w: convolution(x, w, dilations=(3, 1)), errors.ShapeError, "7.*6",
    ),
    "dtype": (
        lambda x, w: convolution(x, gc.cast(w, gc.float64)), errors.DTypeError, "float64",
    ),
    "gradient_shape": (
        lambda x, w: conv.convolution_input_grad(w, x, x), errors.ShapeError, r"\[2, 6, 7, 3\]",
    ),
    "filter_gradient_shape": (
        lambda x, w: conv.convolution_filter_grad(x, x, w), errors.ShapeError, r"\[2, 6, 7, 3\]",
    ),
    "depthwise_rank": (
        lambda x, w: conv.depthwise_convolution(x, w[0]), errors.ShapeError, r"\[3, 3, 4\]",
    ),
    "depthwise_channels": (
        lambda x, w: conv.depthwise_convolution(x, w[:, :, :2]), errors.ShapeError, "3 channels",
    ),
    "pool_rank": (
        lambda x, w: pool.max_pool(x[0], window=(2, 2), strides=(1, 1)),
        errors.ShapeError, "rank 4",
    ),
    "pool_window": (
        lambda x, w: pool.avg_pool(x, window=(2, 0), strides=(1, 1)),
        errors.AttributeValueError, r"\(2, 0\)",
    ),
    "pool_window_count": (
        lambda x, w: pool.max_pool(x, window=(2,), strides=(1, 1)),
        errors.AttributeValueError, r"\(2,\)",
    ),
    "pool_stride": (
        lambda x, w: pool.max_pool(x, window=(2, 2), strides=(1, 0)),
        errors.AttributeValueError, r"\(1, 0\)",
    ),
    "pool_too_large": (
        lambda x, w: pool.max_pool(x, window=(7, 1), strides=(1, 1)), errors.ShapeError, "7.*6",
    ),
    "pool_dtype": (
        lambda x, w: pool.avg_pool(gc.cast(x, gc.int32), window=(2, 2), strides=(1, 1)),
        errors.DTypeError, "int32",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_errors_have_the_values(name: str) -> None:
    make, error, text = WRONG[name]
    x, w = placeholder(2, 6, 7, 3), placeholder(3, 3, 3, 4, name="w")
    with pytest.raises(error, match=text):
        make(x, w)

"""Winograd's convolutions in C: against the definition, and where they must not be chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.codegen.axes import simplified
from graphc.codegen.native.product import product_of
from graphc.codegen.native.winograd import Images, images_of

RNG = np.random.default_rng(11)


def _array(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def _chosen(*fetches: Any) -> list[Images]:
    """What the kernels of the fetches are taken for."""
    program = gc.explain(list(fetches), device="native").program
    found = []
    for kernel in map(simplified, program.kernels):
        product = product_of(kernel) if kernel.form == "dot" else None
        images = images_of(kernel, product, program.buffers) if product else None
        found += [images] if images else []
    return found


def _convolve(x: Any, w: Any, padding: str = "SAME") -> Any:
    return gc.nn.conv2d(x, w, strides=[1, 1, 1, 1], padding=padding)


def _windows(x: np.ndarray, w: np.ndarray, padding: str) -> np.ndarray:
    """A convolution by its definition: the sum over each window."""
    window = w.shape[0]
    if padding == "SAME":
        around = (window // 2, window // 2)
        x = np.pad(x, ((0, 0), around, around, (0, 0)))
    high, wide = (s - window + 1 for s in x.shape[1:3])
    y = np.zeros((x.shape[0], high, wide, w.shape[3]), x.dtype)
    with np.errstate(all="ignore"):
        for i in range(window):
            for j in range(window):
                y += x[:, i : i + high, j : j + wide] @ w[i, j]
    return y


SHAPES = [
    (1, 14, 14, 64, 64), (2, 9, 11, 16, 20), (1, 5, 7, 32, 100), (3, 5, 6, 16, 16),
    (1, 30, 45, 16, 70), (5, 7, 7, 48, 33),
]  # fmt: skip


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("window", [3, 5])
def test_results(window: int, shape: tuple[int, ...], padding: str) -> None:
    """Filters that are constant, fed, and variable; one thread and two give the same bits."""
    n, high, wide, channels, columns = shape
    x, r = _array(n, high, wide, channels), _array(columns)
    w = _array(window, window, channels, columns)
    w2 = _array(*w.shape)
    want = _windows(x.astype(np.float64), w.astype(np.float64), padding)
    with gc.Graph().as_default():
        image, filters = gc.placeholder(gc.float32, x.shape), gc.placeholder(gc.float32, w.shape)
        variable = gc.Variable(w)
        kept, fed, moving = (
            _convolve(image, f, padding) for f in (gc.constant(w), filters, variable)
        )
        after = gc.nn.relu(fed * 0.5 + gc.constant(r))
        less = window - 1 if padding == "VALID" else 0
        images = Images(n, high - less, wide - less, channels, window, False)
        assert _chosen(kept) == ([images] if images.pay() else [])
        results = []
        for threads in (1, 2):
            with gc.Session(device="native", threads=threads, winograd="always") as session:
                session.run(gc.global_variables_initializer())
                for _ in range(2):
                    results.append(session.run([kept, fed, moving, after], {image: x, filters: w}))
                session.run(variable.assign(w2))
                changed = session.run(moving, {image: x})
    atol = 1e-5 * float(np.abs(want).max())
    for one, two, three, four in results:
        for got in (one, two, three):
            np.testing.assert_allclose(got, want, rtol=0, atol=atol)
        np.testing.assert_allclose(four, np.maximum(want * 0.5 + r, 0), rtol=0, atol=atol)
        for got, first in zip((one, two, three, four), results[0], strict=True):
            np.testing.assert_array_equal(got, first)
    want = _windows(x.astype(np.float64), w2.astype(np.float64), padding)
    np.testing.assert_allclose(changed, want, rtol=0, atol=atol * 2)


@pytest.mark.parametrize("window", [3, 5])
def test_as_accurate_as_sums(window: int) -> None:
    """Against float64, with as many channels as networks have: about twice the error of adding
    up (root mean square)."""
    x, w = _array(1, 12, 12, 512), _array(window, window, 512, 64)
    want = _windows(x.astype(np.float64), w.astype(np.float64), "SAME")
    errors = []
    with gc.Graph().as_default():
        image = gc.placeholder(gc.float32, x.shape)
        y = _convolve(image, gc.constant(w))
        assert _chosen(y)
        for winograd in ("off", "inference"):
            with gc.Session(device="native", winograd=winograd) as session:
                errors.append(np.square(session.run(y, {image: x}) - want).mean() ** 0.5)
    assert errors[1] < 2.5 * errors[0]


@pytest.mark.parametrize("where", ["image", "filter", "overflow"])
@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan, 3e38])
def test_what_is_not_finite_stays_where_it_is(where: str, number: float) -> None:
    x, w = _array(2, 13, 10, 16), _array(3, 3, 16, 20)
    if where == "image":
        x[0, 3, 4, 5] = x[1, 12, 9, 0] = number
    elif where == "filter":
        w[0, 2, 3, 4] = number
    else:  # only what patches add up overflows; no result does
        x[0, 3:5, 3:7] = np.float32(1e38) if np.isfinite(number) else number
        w *= np.float32(1e-3)
    want = _windows(x.astype(np.float64), w.astype(np.float64), "SAME")
    with np.errstate(over="ignore"):
        want = want.astype(np.float32)
    with gc.Graph().as_default(), gc.Session(device="native") as session:
        image = gc.placeholder(gc.float32, x.shape)
        y = _convolve(image, gc.constant(w))
        assert _chosen(y)
        got = session.run(y, {image: x})
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(want))
    if where == "overflow":  # small results beside large ones have errors of the large ones
        return
    finite = np.isfinite(want)
    np.testing.assert_allclose(got[finite], want[finite], rtol=1e-3, atol=1e-3)


def test_the_setting_computes_sums_as_they_are() -> None:
    """A large pixel leaves no trace in windows that do not see it; with Winograd's it does."""
    x, w = _array(1, 12, 12, 32), _array(3, 3, 32, 32)
    x[0, 0, 0] = 1e8
    want = _windows(x.astype(np.float64), w.astype(np.float64), "SAME")
    far = (slice(None), slice(2, None), slice(2, None))
    errors = []
    with gc.Graph().as_default():
        image = gc.placeholder(gc.float32, x.shape)
        y = _convolve(image, gc.constant(w))
        for winograd in ("off", "inference"):
            with gc.Session(device="native", winograd=winograd) as session:
                got = session.run(y, {image: x})
            errors.append(np.abs(got - want)[far].max() / np.abs(want[far]).max())
    assert errors[0] < 1e-5 < errors[1]


def test_training_keeps_zeros() -> None:
    """Filters that a run changes are multiplied directly, unless that is asked for."""
    x, w = _array(1, 12, 12, 32), _array(3, 3, 32, 32)
    x[0, :, :6] = 0
    with gc.Graph().as_default():
        image, filters = gc.placeholder(gc.float32, x.shape), gc.placeholder(gc.float32, w.shape)
        y = _convolve(image, filters)
        zeros = []
        for winograd in ("inference", "always"):
            with gc.Session(device="native", winograd=winograd) as session:
                zeros.append(not session.run(y, {image: x, filters: w})[0, :, :5].any())
    assert zeros == [True, False]


@pytest.mark.parametrize("window", [3, 5])
def test_gradients(window: int) -> None:
    """By the images: the same convolution with windows that run backwards."""
    x, w, g = _array(2, 12, 14, 32), _array(window, window, 32, 48), _array(2, 12, 14, 48)
    with gc.Graph().as_default():
        image, filters = gc.placeholder(gc.float32, x.shape), gc.placeholder(gc.float32, w.shape)
        fetches = gc.gradients(_convolve(image, filters), [image, filters], grad_ys=gc.constant(g))
        assert [i.flipped for i in _chosen(fetches[0])] == [True]
        results = []
        for device in ("native", "numpy"):
            with gc.Session(device=device, winograd="always") as session:
                results.append(session.run(fetches, {image: x, filters: w}))
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max())


def _strided(x: Any, w: Any) -> Any:
    return gc.nn.conv2d(x, w, strides=[1, 2, 2, 1], padding="SAME")


def _dilated(x: Any, w: Any) -> Any:
    return gc.nn.conv2d(x, w, strides=[1, 1, 1, 1], padding="SAME", dilations=[1, 2, 2, 1])


@pytest.mark.parametrize(
    ("image", "filters", "build"),
    [
        ((2, 14, 14, 32), (3, 3, 32, 32), _strided),
        ((2, 14, 14, 32), (3, 3, 32, 32), _dilated),
        ((2, 14, 14, 32), (7, 7, 32, 32), _convolve),
        ((2, 14, 14, 32), (5, 3, 32, 32), _convolve),
        ((2, 14, 14, 32), (3, 1, 32, 32), _convolve),
        ((2, 14, 14, 3), (3, 3, 3, 32), _convolve),  # too few channels
        ((2, 14, 14, 20), (3, 3, 20, 32), _convolve),  # no whole vectors of them
        ((2, 14, 14, 32), (3, 3, 32, 8), _convolve),  # too few columns
        ((1, 6, 4, 32), (3, 3, 32, 32), _convolve),  # too few tiles
        ((9, 1, 14, 32), (3, 3, 32, 32), _convolve),  # tiles that are mostly outside
        ((2, 14, 14, 32), (3, 3, 32, 32), lambda x, w: _convolve(gc.sqrt(x) + 1.0, w)),
    ],
)  # fmt: skip
def test_refusals(
    image: tuple[int, ...], filters: tuple[int, ...], build: Callable[..., Any]
) -> None:
    with gc.Graph().as_default():
        y = build(gc.placeholder(gc.float32, image), gc.constant(_array(*filters)))
        computed = gc.explain(y, device="native").program.kernels
        assert not _chosen(y) or len(computed) > 1  # a prologue may be a kernel of its own
        double = build(
            gc.placeholder(gc.float64, image), gc.constant(_array(*filters).astype(np.float64))
        )
        assert not _chosen(double)

"""Reductions along rows in C: lanes, runs, rows fetched early and stored past the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.codegen.native import kernel
from graphc.codegen.native.emit import emit
from graphc.ir.computation import Computation, cut
from graphc.ir.interpret import evaluate
from graphc.ir.settings import Settings
from graphc.passes.context import Context
from graphc.passes.pipeline import compile_program
from graphc.runtime.devices.native import NativeDevice

Array = np.ndarray
Build = Callable[[Any], Any]


def _both(build: Build, x: Array, threads: int = 2) -> tuple[list[Array], list[Array], str]:
    """What a function of one array gives in C and by definition, and the C text."""
    with gc.Graph().as_default():
        given = gc.placeholder(gc.as_dtype(x.dtype), x.shape)
        outputs = build(given)
        outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        computation: Computation = cut(outputs, [], [given])
    device, settings = NativeDevice(), Settings(threads=threads)
    program = compile_program(
        computation, Context(settings, device.target, {given.node: x.shape}, {})
    )
    got = device.load(program, {}, settings).run([x], 0)
    with np.errstate(all="ignore"):
        want = evaluate(computation.outputs, {given.node: x})
    return got, [np.asarray(a) for a in want], emit(program).text


def _numbers(shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
    rng = np.random.default_rng(sum(shape))
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0, 100, shape).astype(dtype)
    if dtype is np.bool_:
        return rng.integers(0, 2, shape).astype(bool)
    return rng.standard_normal(shape).astype(dtype)


def _agree(got: list[Array], want: list[Array], tolerance: float = 2e-5) -> None:
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def _several(x: Any) -> list[Any]:
    top = gc.reduce_max(x, 1, keepdims=True)
    return [gc.reduce_sum(gc.exp(x - top), 1), gc.reduce_min(x, 1), gc.reduce_mean(x * x, 1)]


@pytest.mark.parametrize("size", [1, 127, 128, 511, 512, 513, 639, 640, 1000, 1003, 4096])
def test_sizes(size: int) -> None:
    got, want, text = _both(_several, _numbers((7, size)))
    _agree(got, want)
    assert ("lanes_" in text) == (size >= 512)


REDUCTIONS: dict[str, tuple[Build, Any]] = {
    "max": (lambda x: gc.reduce_max(x, 1), np.float32),
    "product": (lambda x: gc.reduce_prod(1.0 + 1e-3 * x, 1), np.float32),
    "float64": (lambda x: [gc.reduce_sum(x, 1), gc.reduce_min(x, 1)], np.float64),
    "float16": (lambda x: gc.reduce_max(x, 1), np.float16),
    "int32": (lambda x: [gc.reduce_sum(x, 1), gc.reduce_max(x, 1)], np.int32),
    "uint8": (lambda x: [gc.reduce_max(x, 1), gc.reduce_min(x, 1)], np.uint8),
    "any": (lambda x: [gc.reduce_any(x, 1), gc.reduce_all(x, 1)], np.bool_),
}


@pytest.mark.parametrize("size", [768, 1001])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name: str, size: int) -> None:
    build, dtype = REDUCTIONS[name]
    got, want, text = _both(build, _numbers((5, size), dtype))
    _agree(got, want)
    assert "lanes_" in text


@pytest.mark.parametrize("place", [0, 127, 128, 700, 1000])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_special_values_travel(value: float, place: int) -> None:
    x = _numbers((3, 1001))
    x[1, place] = value
    got, want, _ = _both(lambda x: [gc.reduce_max(x, 1), *_several(x), gc.nn.softmax(x)], x)
    _agree(got, want)


def test_a_row_of_least_numbers() -> None:
    got, want, _ = _both(_several, np.full((2, 600), -np.inf, np.float32))
    _agree(got, want)


def test_several_axes() -> None:
    """The axes of the sum lie apart in memory, so that they stay two."""
    x = _numbers((6, 5, 3, 600))
    got, want, text = _both(lambda x: [gc.reduce_sum(x, [1, 3]), gc.reduce_max(x, [1, 3])], x)
    _agree(got, want, 1e-4)
    assert "lanes_" in text


@pytest.mark.parametrize("size", [40_000, 40_003])
def test_runs_of_lanes(size: int) -> None:
    """A long sum is added up in runs, and stays near to the exact one."""
    x = np.full((70, size), 0.1, np.float32)
    (got,), _, text = _both(lambda x: gc.reduce_sum(gc.sqrt(x), 1), x)
    assert "start +=" in text and "lanes_" in text
    exact = size * float(np.sqrt(np.float32(0.1)))
    np.testing.assert_allclose(got, exact, rtol=2e-6)


@pytest.mark.parametrize("size", [1 << 18, 200_003])
def test_parts_have_lanes(size: int) -> None:
    """A reduction to one number is split, and each part is added up by lanes."""
    x = _numbers((size,))
    got, want, text = _both(
        lambda x: [gc.reduce_sum(gc.exp(x - gc.reduce_max(x))), gc.reduce_min(x)], x
    )
    _agree(got, want, 1e-4)
    assert "part < last" in text and "lanes_" in text


def test_positions_have_no_lanes() -> None:
    got, want, text = _both(lambda x: [gc.argmax(x, 1), gc.reduce_max(x, 1)], _numbers((4, 900)))
    _agree(got, want)
    assert "lanes_" not in text


def test_the_number_of_threads_changes_nothing() -> None:
    x = _numbers((300, 1003))
    one, two = (_both(_several, x, threads)[0] for threads in (1, 2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shape", [(5, 128), (9, 512), (9, 1000), (3, 4, 576)])
def test_large_buffers(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """As if they did not fit into the cache: the last dimension is a multiple of 8."""
    monkeypatch.setattr(kernel, "_LARGE_BYTES", 0)
    got, want, text = _both(gc.nn.softmax, _numbers(shape))
    _agree(got, want)
    assert "gc_stream(" in text and "gc_stream_end(" in text
    assert ("gc_fetch(" in text) == (shape[-1] >= 512)


@pytest.mark.parametrize("shape", [(5, 56), (9, 1003), (9, 513)])
def test_rows_that_are_not_stored_past_the_cache(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short ones, and those that start in the middle of what is stored at once."""
    monkeypatch.setattr(kernel, "_LARGE_BYTES", 0)
    got, want, text = _both(gc.nn.softmax, _numbers(shape))
    _agree(got, want)
    assert "gc_stream(" not in text


def test_small_buffers_are_left_to_the_cache() -> None:
    _, _, text = _both(gc.nn.softmax, _numbers((9, 1024)))
    assert "gc_stream(" not in text and "gc_fetch(" not in text


def test_what_is_read_in_one_phase_is_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_LARGE_BYTES", 0)
    got, want, text = _both(lambda x: gc.reduce_sum(x, 1), _numbers((9, 1024)))
    _agree(got, want)
    assert "gc_fetch(" not in text


@pytest.mark.parametrize(("size", "kept"), [(40_003, True), (70_001, False)])
def test_expensive_values_are_kept_while_they_fit(size: int, kept: bool) -> None:
    got, want, text = _both(gc.nn.softmax, _numbers((2, size)))
    _agree(got, want)
    assert (f"float row_1[{size}];" in text) == kept
    assert text.count("gc_exp_below_f32(") == (1 if kept else 2)


BELOW: dict[str, Build] = {
    "softmax": lambda x: [gc.nn.softmax(x)],
    "reductions": lambda x: [gc.reduce_sum(gc.exp(x - gc.reduce_max(x, 1, True)), 1)],
    "a_computed_value": lambda x: [gc.exp(x * 0.3 - gc.reduce_max(x * 0.3, 1, True))],
    "log_softmax": lambda x: [gc.nn.log_softmax(x)],
    "a_square": lambda x: [gc.exp(-gc.square(x))],
    "a_magnitude": lambda x: [gc.exp(-gc.abs(x))],
}
ANYWHERE: dict[str, Build] = {
    "another_value": lambda x: [gc.exp(x * 2.0 - gc.reduce_max(x, 1, True))],
    "the_least": lambda x: [gc.exp(x - gc.reduce_min(x, 1, True))],
    "the_other_way_round": lambda x: [gc.exp(gc.reduce_max(x, 1, True) - x)],
    "a_square_itself": lambda x: [gc.exp(gc.square(x))],
    "a_negative": lambda x: [gc.exp(-x)],
    "a_mean": lambda x: [gc.exp(x - gc.reduce_mean(x, 1, True))],
}


@pytest.mark.parametrize("name", [*BELOW, *ANYWHERE])
def test_what_is_at_most_zero_has_a_shorter_exp(name: str) -> None:
    build = {**BELOW, **ANYWHERE}[name]
    x = 30 * _numbers((7, 70))
    x[1, 3], x[2, 5], x[3], x[4, 69], x[5, 0] = np.inf, np.nan, -np.inf, -np.inf, 3e38
    got, want, text = _both(build, x)
    assert ("gc_exp_below_f32(" in text) == (name in BELOW)
    assert ("gc_exp_f32(" in text) == (name in ANYWHERE)
    _agree(got, want)


@pytest.mark.parametrize("size", [1.0, 1e6, 1e10, 1e20, 1e37])
def test_products_are_rounded_before_they_are_compared(size: float) -> None:
    """Rounded at once with the difference, large values would be above their maximum."""
    x = (size * np.abs(_numbers((9, 700)))).astype(np.float32)
    got, want, _ = _both(lambda x: [gc.nn.softmax(x * 0.3)], x)
    _agree(got, want, 1e-6)

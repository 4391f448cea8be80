"""Every schedule of the NumPy back end against the graph evaluator: whole, tiled, phases, dots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.codegen.numpy.emit import emit
from graphc.codegen.numpy.schedule import LONG_ROW, TILE
from graphc.ir.computation import cut
from graphc.ir.interpret import evaluate
from graphc.ir.settings import Settings
from graphc.passes.context import Context
from graphc.passes.pipeline import compile_program
from graphc.runtime.devices.numpy import NumPyDevice


def layer_norm(x: Any, scale: Any) -> Any:
    mean = gc.reduce_mean(x, axis=1, keepdims=True)
    centred = x - mean
    spread = gc.reduce_mean(gc.square(centred), axis=1, keepdims=True)
    return centred * gc.rsqrt(spread + 1e-5) * scale


def moments(x: Any) -> list[Any]:
    mean = gc.reduce_mean(x)
    return [gc.reduce_sum(gc.exp(x - gc.reduce_max(x))), gc.reduce_mean(gc.square(x - mean))]


def normalized(x: Any) -> Any:
    mean = gc.reduce_mean(x, axis=[0, 1, 2], keepdims=True)
    spread = gc.reduce_mean(gc.square(x - mean), axis=[0, 1, 2], keepdims=True)
    return (x - mean) * gc.rsqrt(spread + 1e-3)


# name: (function, input shapes, what its text must show)
CASES: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]], str]] = {
    "whole": (lambda x: gc.tanh(x) * 2.0, [(7, 5)], "np.tanh("),
    "flat tiles with a rest": (lambda x, y: gc.exp(x) - y, [(70001,), (70001,)], "range(first"),
    "row tiles": (lambda x: gc.nn.softmax(x), [(301, 517)], "range(first"),
    "row tiles, two inputs": (layer_norm, [(301, 517), (517,)], "range(first"),
    "broadcast in outer loops": (
        lambda x, y: gc.exp(x) * y, [(3, 1, 40001), (3, 2, 40001)], "for p",
    ),
    "middle axis": (lambda x: gc.nn.softmax(x, axis=1), [(9, 129, 77)], "range("),
    "columns in phases": (lambda x: gc.reduce_sum(gc.exp(x), axis=0), [(1301, 67)], ".fill(0.0)"),
    "levels of phases": (moments, [(600, 1001)], ".fill(-np.inf)"),
    "phases with stores": (normalized, [(16, 14, 14, 33)], ".fill(0.0)"),
    "transposed store": (lambda x: gc.transpose(gc.exp(x)), [(311, 300)], "range(first"),
    "concatenation": (
        lambda x, y: gc.exp(gc.concat([x, y], axis=1)), [(301, 200), (301, 117)], "np.exp(",
    ),
    "padding and flip": (
        lambda x: gc.pad(x, [[1, 2], [3, 0]])[::-1, ::2] + 1.0, [(301, 400)], "np.add(",
    ),
    "dot with epilogue": (
        lambda x, w, b: gc.nn.relu(gc.matmul(x, w) + b), [(65, 30), (30, 43), (43,)], "np.matmul(",
    ),
    "dot, both transposed": (
        lambda x, w: gc.matmul(x, w, transpose_a=True, transpose_b=True), [(30, 65), (43, 30)],
        "np.matmul(",
    ),
    "batched dot": (lambda x, w: gc.matmul(x, w) * 2.0, [(3, 4, 33, 20), (20, 35)], "np.matmul("),
    "outer product and sum": (
        lambda x, y: gc.einsum("ab,cb->ac", x, y), [(5, 1), (7, 1)], "np.multiply(",
    ),
    "convolution": (
        lambda x, w: gc.nn.conv2d(x, w, 2, "SAME"), [(3, 13, 11, 4), (3, 3, 4, 6)], "np.matmul(",
    ),
    "argmax": (lambda x: gc.argmax(x, 1), [(301, 517)], "arg_reduce(np.argmax"),
    "gather": (
        lambda x: gc.gather(x, gc.constant([3, 0, 99, 3])), [(5, 7)], "s.gather(",
    ),
    "random bits": (lambda x: x + gc.random_uniform([300, 401], seed=2), [(300, 401)], "k.philox("),
}  # fmt: skip


def _computation(name: str) -> Any:
    function, shapes, _ = CASES[name]
    inputs = [gc.placeholder(gc.float32, list(s)) for s in shapes]
    outputs = function(*inputs)
    return cut(outputs if isinstance(outputs, list) else [outputs], [], inputs)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", CASES)
def test_schedule(name: str, threads: int) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in CASES[name][1]]
    with gc.Graph().as_default():
        computation = _computation(name)
        program = compile_program(computation, Context())
    assert CASES[name][2] in emit(program).text
    executable = NumPyDevice().load(program, {}, Settings(threads=threads))
    wanted = evaluate(computation.outputs, dict(zip(computation.inputs, arrays, strict=True)))
    for _ in range(2):  # a second run finds used scratch memory
        for got, want in zip(executable.run(arrays, 0), wanted, strict=True):
            assert got.dtype == want.dtype
            np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["row tiles", "flat tiles with a rest", "levels of phases"])
def test_nan_and_inf_travel(name: str) -> None:
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in CASES[name][1]]
    arrays[0].flat[[5, 40000]] = [np.nan, np.inf]
    with gc.Graph().as_default():
        computation = _computation(name)
        program = compile_program(computation, Context())
    results = NumPyDevice().load(program, {}, Settings(threads=2)).run(arrays, 0)
    wanted = evaluate(computation.outputs, dict(zip(computation.inputs, arrays, strict=True)))
    for got, want in zip(results, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5)


def test_the_cases_are_large_enough() -> None:
    sizes = [np.prod(CASES[n][1][0]) for n in CASES if "tiles" in n or "phases" in n]
    assert min(sizes) > TILE and max(sizes) > LONG_ROW


@pytest.mark.parametrize("dtype", [gc.float16, gc.bfloat16])
def test_sixteen_bit_floats_compute_in_float32(dtype: Any) -> None:
    data = (np.arange(12).reshape(3, 4) / 7).astype(dtype.numpy)
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        x = gc.placeholder(dtype, [3, 4])
        got = session.run(
            [gc.exp(x), gc.matmul(x, x, transpose_b=True), gc.reduce_sum(x)], {x: data}
        )
    wide = data.astype(np.float32)
    for value, want in zip(got, (np.exp(wide), wide @ wide.T, wide.sum()), strict=True):
        assert value.dtype == dtype.numpy
        np.testing.assert_allclose(np.asarray(value, np.float32), want, rtol=1e-2)


def test_where_on_truth_values_may_reuse_the_condition() -> None:
    rng = np.random.default_rng(2)
    a, b, c = (rng.integers(0, 2, 1000).astype(bool) for _ in range(3))
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        x, y, z = (gc.placeholder(gc.bool, [1000]) for _ in range(3))
        picked = gc.where(gc.logical_not(x), gc.logical_or(y, z), gc.logical_and(y, z))
        got = session.run(gc.logical_not(picked), {x: a, y: b, z: c})
    np.testing.assert_array_equal(got, ~np.where(~a, b | c, b & c))

"""Products by a library or by kernels, whole or in pieces: what the rules choose, and refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.codegen.triton import Options, emit
from graphc.codegen.triton.candidates import candidates, tuning_key
from graphc.codegen.triton.contraction import divided, divided_sums, dot_of, prepared
from graphc.codegen.triton.convolution import Convolution
from graphc.codegen.triton.library import Product, library_call
from graphc.codegen.triton.schedule import MOST_CHUNKS, SPLIT_STEPS, schedule
from graphc.codegen.triton.traffic import CACHE_BYTES, traffic
from graphc.ir import loop
from graphc.ir.dtypes import float16, float32, float64, int32
from graphc.ir.interpret import run_program
from graphc.ir.loop import Apply, Buffer, Kernel, Program, Ref
from graphc.runtime.roofline import roofline

LIBRARIES = Options(libraries=True)


def product(
    rows: int,
    columns: int,
    summed: int,
    dtype: Any = float32,
    after: Any = None,
    before: Any = None,
) -> tuple[Kernel, dict[str, Buffer]]:
    """The kernel of a product, ready for a recipe, and its buffers."""
    with gc.Graph().as_default():
        a, b = (gc.placeholder(dtype, s) for s in ((rows, summed), (summed, columns)))
        y = gc.matmul(before(a) if before else a, b)
        program = gc.explain(after(y) if after else y, device="sm_90").program
    (kernel,) = program.kernels
    return prepared(kernel), dict(program.buffers)


def relu(x: Any) -> Any:
    return gc.nn.relu(x + 1.0)


@pytest.mark.parametrize("dtype", [float16, float32, float64])
def test_a_product_alone_is_the_librarys(dtype: Any) -> None:
    kernel, buffers = product(64, 48, 40, dtype)
    assert schedule(kernel, buffers, LIBRARIES).recipe == "library"
    assert schedule(kernel, buffers, Options()).recipe == "dot"
    parts = divided(kernel, buffers)
    assert parts is not None and parts.rest is None and parts.space is None
    call = library_call(parts.product)
    assert isinstance(call, Product) and call.a.sizes == (64, 40) and call.b.sizes == (40, 48)


def test_what_follows_a_product_decides() -> None:
    """A pass of its own costs bytes, a kernel of our own operations: many summands favour the
    library, fewer where tensor cores multiply."""
    for dtype, few, many in ((float16, 1024, 4096), (float32, 32, 256)):
        chosen = [
            schedule(*product(4096, 4096, k, dtype, after=relu), LIBRARIES).recipe
            for k in (few, many)
        ]
        assert chosen == ["dot", "library"], dtype
    assert (
        schedule(*product(2048, 2048, 256, after=relu), replace(LIBRARIES, tf32=True)).recipe
        == "dot"
    )
    # where memory is what takes the time, a kernel of our own is as quick and saves the pass
    assert schedule(*product(16, 4096, 4096, float16, after=relu), LIBRARIES).recipe != "library"
    assert schedule(*product(64, 64, 64, float64, after=relu), LIBRARIES).recipe == "library"


@pytest.mark.parametrize(
    ("dtype", "sizes", "before"),
    [
        (int32, (64, 64, 64), None),  # no arithmetic of a library's
        (float32, (16, 16, 16), None),  # too little work
        (float32, (64, 64, 64), gc.exp),  # an operand that is computed
    ],
)
def test_no_library_takes(dtype: Any, sizes: tuple[int, int, int], before: Any) -> None:
    kernel, buffers = product(*sizes, dtype, before=before)
    assert schedule(kernel, buffers, LIBRARIES).recipe in ("dot", "split_dot")
    parts = divided(kernel, buffers)
    assert parts is None or library_call(parts.product) is None


def test_no_library_walks_backwards() -> None:
    kernel, buffers = product(64, 64, 64, before=lambda x: gc.reverse(x, axis=[1]))
    assert not any(a.guards for a in kernel.loads) and dot_of(kernel)
    assert schedule(kernel, buffers, LIBRARIES).recipe == "dot"


@pytest.mark.parametrize("strides", [1, 2])
def test_a_convolution_with_what_follows_it_is_the_librarys(strides: int) -> None:
    with gc.Graph().as_default():
        x, w = (gc.placeholder(float32, s) for s in ((8, 28, 28, 32), (3, 3, 32, 64)))
        y = gc.nn.relu(gc.nn.conv2d(x, w, strides=strides, padding="SAME"))
        program = gc.explain([y, *gc.gradients(y, [x, w])], device="sm_90").program
    dots = [prepared(k) for k in program.kernels if k.form == "dot"]
    assert len(dots) == 3
    found = []
    for kernel in dots:
        assert schedule(kernel, program.buffers, LIBRARIES).recipe == "library"
        assert schedule(kernel, program.buffers, Options()).recipe in ("dot", "split_dot")
        parts = divided(kernel, program.buffers)
        call = parts and library_call(parts.product)
        assert isinstance(call, Convolution) and call.stride == (strides, strides)
        found.append(call.computes)
    assert sorted(found) == ["data", "filter", "forward"]
    text = "".join(emit(program, LIBRARIES).kernels.values())
    assert "library: forward of convolution(" in text and "_rest(" in text


def test_sums_that_are_not_rounded_stay_in_the_kernel() -> None:
    """A library gives 16-bit sums; a kernel that reads wider ones cannot be divided there."""
    kernel, buffers = product(64, 64, 4096, float16, after=relu)
    assert divided(kernel, buffers) is not None
    dot = dot_of(kernel)
    wide = Ref(dot.name, dot.dtype)

    def unrounded(expr: loop.Expr) -> loop.Expr:
        rounded = isinstance(expr, Apply) and expr.op == "cast" and expr.args == (wide,)
        return Apply("negative", (wide,), dot.dtype) if rounded else expr

    body = tuple(s if s is dot else loop.map_stmt(s, unrounded) for s in kernel.body)
    other = replace(kernel, body=body)
    assert divided(other, buffers) is None
    assert schedule(other, buffers, LIBRARIES).recipe == "dot"
    alone, given = product(64, 64, 64, float16)
    (name,) = alone.outputs
    assert divided(alone, {**given, name: replace(given[name], dtype=float32)}) is None


# -- pieces of the sums


def test_few_results_of_many_summands_are_split() -> None:
    chunks = [schedule(*product(m, 64, k), Options()).chunks for m, k in ((64, 4096), (4096, 4096))]
    assert chunks[0] > 1 and chunks[1] == 1
    short = SPLIT_STEPS * 16 - 16
    assert schedule(*product(64, 64, short), Options()).chunks == 1
    assert schedule(*product(64, 64, short + 16), Options()).chunks > 1
    assert schedule(*product(16, 16, 1 << 20), Options()).chunks == MOST_CHUNKS


@pytest.mark.parametrize("chunks", [1, 2, 5])
def test_a_divided_kernel_means_the_same(chunks: int) -> None:
    """Both kernels by the evaluator; the pieces of the sums as a recipe would add them up."""
    kernel, buffers = product(33, 35, 34, after=relu)
    rng = np.random.default_rng(0)
    arrays = {n: rng.standard_normal(buffers[n].size).astype("f") for n in kernel.inputs}
    (name,) = kernel.outputs
    want = run(kernel, buffers, arrays)[name]
    parts = divided(kernel, buffers) if chunks == 1 else divided_sums(kernel, buffers, chunks)
    assert parts is not None and parts.space is not None and parts.rest is not None
    assert parts.space.size == chunks * 33 * 35
    space = Buffer(parts.space.name, parts.space.dtype, (parts.space.size,), loop.OUTPUT)
    known = {**buffers, space.name: space}
    sums = run(parts.product, known, arrays)[space.name]
    if chunks > 1:  # every piece is the whole sum here: its recipe is what cuts the range
        sums = sums / chunks
    got = run(parts.rest, known, {**arrays, space.name: sums})[name]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def run(
    kernel: Kernel, buffers: dict[str, Buffer], arrays: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """All buffers after the kernel."""
    state = {n: np.zeros(b.size, b.dtype.numpy) for n, b in buffers.items()}
    state |= {n: a.copy() for n, a in arrays.items()}
    run_program(Program(buffers, (kernel,), (), (), (), (), 0), state)
    return state


def test_the_name_of_the_sums_is_their_own() -> None:
    kernel, buffers = product(64, 64, 256, after=relu)
    first = divided(kernel, buffers)
    assert first is not None and first.space is not None
    taken = Buffer(first.space.name, float32, (1,), loop.INPUT)
    second = divided(kernel, {**buffers, taken.name: taken})
    assert second is not None and second.space is not None
    assert second.space.name not in {*buffers, taken.name}


def test_sums_that_no_cache_holds_are_counted() -> None:
    kernel, buffers = product(4096, 4096, 1024, after=relu)
    own, other = (traffic(kernel, buffers, o) for o in (Options(), LIBRARIES))
    sums = 4096 * 4096 * 4
    assert sums > CACHE_BYTES and other.moved == other.least + 2 * sums
    assert own.least == other.least
    small = traffic(*product(64, 64, 4096, after=relu), Options())
    assert small.moved == small.least


def test_a_call_counts_as_a_launch() -> None:
    with gc.Graph().as_default():
        a, b = (gc.placeholder(float32, s) for s in ((512, 512), (512, 512)))
        program = gc.explain(gc.nn.relu(gc.matmul(a, b)), device="sm_90").program
    assert [roofline(program, o).launches for o in (Options(), LIBRARIES)] == [1, 2]


def test_the_text_says_what_a_library_computes() -> None:
    with gc.Graph().as_default():
        a, b = (
            gc.placeholder(float32, s, name=n) for n, s in (("a", (512, 512)), ("b", (512, 512)))
        )
        program = gc.explain(gc.nn.relu(gc.matmul(a, b)), device="sm_90").program
    (text,) = emit(program, LIBRARIES).kernels.values()
    assert "library: a[512, 512] @ b[512, 512]" in text and "_rest(" in text


# -- measuring


def test_the_library_is_measured_against_kernels() -> None:
    for kernel, buffers in (product(512, 512, 512), product(1024, 1024, 128, float16, after=relu)):
        recipes = {p.recipe for p in candidates(kernel, buffers, LIBRARIES)}
        assert recipes == {"library", "dot"}
        assert {p.recipe for p in candidates(kernel, buffers, Options())} == {"dot"}
        keys = {tuning_key(kernel, buffers, o) for o in (Options(), LIBRARIES)}
        assert len(keys) == 2, "what was measured without libraries is no choice among them"
    found = {p.chunks for p in candidates(*product(64, 64, 4096), Options())}
    assert found == {MOST_CHUNKS, MOST_CHUNKS // 2}

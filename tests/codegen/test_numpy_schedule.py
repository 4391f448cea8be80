"""How the NumPy back end walks kernels: plans, what they refuse, and every plan carried out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.codegen import phases
from graphc.codegen.axes import simplified
from graphc.codegen.numpy import boxes, schedule
from graphc.codegen.numpy.dots import merged_stride
from graphc.codegen.numpy.emit import dynamic_buffers
from graphc.codegen.numpy.frame import Frame
from graphc.codegen.numpy.kernel import emit_kernel
from graphc.codegen.numpy.registers import Registers
from graphc.codegen.numpy.schedule import LONG_COLUMN, LONG_ROW, MOST_CHUNKS, TILE, Phases, Tiles
from graphc.ir import loop
from graphc.ir.computation import Computation, cut
from graphc.ir.dtypes import float32, float64
from graphc.ir.interpret import evaluate
from graphc.ir.loop import Access, Kernel, Program
from graphc.ir.settings import Settings
from graphc.passes.context import Context
from graphc.passes.pipeline import compile_program
from graphc.runtime.devices.numpy import NumPyDevice
from tests.random_graphs import chooser, random_graph

Build = Callable[..., Any]


def compiled(function: Build, *shapes: Sequence[int]) -> tuple[Computation, Program]:
    """What the function of float32 placeholders of these shapes compiles to."""
    with gc.Graph().as_default():
        inputs = [gc.placeholder(gc.float32, list(s)) for s in shapes]
        outputs = function(*inputs)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        computation = cut(outputs, [], inputs)
        return computation, compile_program(computation, Context())


def only_kernel(function: Build, *shapes: Sequence[int]) -> Kernel:
    (kernel,) = compiled(function, *shapes)[1].kernels
    return simplified(kernel)


def spread(x: Any) -> Any:
    """A total of the whole, which needs a total of the whole first."""
    return gc.reduce_sum(gc.exp(x - gc.reduce_max(x)))


# -- which way a kernel is walked


def test_small_kernels_and_dots_are_walked_whole() -> None:
    assert schedule.schedule(only_kernel(gc.tanh, (TILE,))) is None
    assert schedule.schedule(only_kernel(gc.nn.softmax, (2, TILE // 2))) is None
    assert schedule.schedule(only_kernel(gc.matmul, (300, 300), (300, 300))) is None


def test_one_element_more_than_a_tile_is_tiled() -> None:
    assert schedule.schedule(only_kernel(gc.tanh, (TILE + 1,))) == Tiles((), 0, TILE)


def test_tiles_are_of_the_inner_axes_that_fit() -> None:
    plan = schedule.schedule(only_kernel(gc.nn.softmax, (3000, 517)))
    assert plan == Tiles((), 0, TILE // 517)
    outer = schedule.schedule(
        only_kernel(lambda x, y: gc.exp(x) * y, (3, 1, TILE + 1), (3, 2, TILE + 1))
    )
    assert outer == Tiles((0, 1), 2, TILE)


def test_threads_share_the_outermost_loop() -> None:
    assert Tiles((), 0, 7).shared((100, 3)) == (100, 7, 15)
    assert Tiles((1,), 0, 7).shared((100, 3)) == (3, 1, 3)


@pytest.mark.parametrize(
    ("function", "shape", "phased"),
    [
        (spread, (LONG_ROW,), False),
        (spread, (LONG_ROW + 1,), True),
        (lambda x: gc.argmax(x, 0), (LONG_ROW + 1,), False),  # positions count from the row's start
        (lambda x: gc.reduce_max(x, axis=0), (1301, 67), True),  # down columns, of any length
        (lambda x: gc.reduce_max(x, axis=1), (1301, 67), False),
        (lambda x: gc.exp(x), (LONG_ROW + 1,), False),  # reduces nothing
    ],
)
def test_phases_are_for_long_rows_and_for_columns(
    function: Build, shape: tuple[int, ...], phased: bool
) -> None:
    assert isinstance(schedule.schedule(only_kernel(function, shape)), Phases) == phased


@pytest.mark.parametrize(
    ("shape", "threads"), [((LONG_ROW + 1,), 2), ((40 * TILE + 3,), 20), ((1301, 67), 1)]
)
def test_chunks_are_whole_tiles_of_the_row(shape: tuple[int, ...], threads: int) -> None:
    kernel = only_kernel(spread if len(shape) == 1 else lambda x: gc.reduce_max(x, axis=0), shape)
    phases = schedule.schedule(kernel)
    assert isinstance(phases, Phases)
    number, size, most = phases.chunks(kernel)
    extent = kernel.sizes[phases.tiles.axis]
    assert 1 <= number <= MOST_CHUNKS and size % phases.tiles.size == 0
    assert (number - 1) * size < extent <= number * size
    assert most == threads  # one where there is little to do


@pytest.mark.parametrize(
    ("function", "shape"),
    [(spread, (5 * TILE + 7,)), (lambda x: gc.reduce_sum(gc.tanh(x), axis=0), (40_001, 9))],
)
def test_totals_do_not_depend_on_the_threads(function: Build, shape: tuple[int, ...]) -> None:
    program = compiled(function, shape)[1]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    alone, *others = (
        NumPyDevice().load(program, {}, Settings(threads=n)).run([x], 0)[0] for n in (1, 2, 3)
    )
    assert all(np.array_equal(alone, other) for other in others)


@pytest.mark.parametrize(
    ("function", "shape", "in_parts"),
    [
        (lambda x: gc.reduce_sum(x, axis=0), (LONG_COLUMN + 1, 3), True),
        (lambda x: gc.reduce_sum(x, axis=0), (LONG_COLUMN, 3), False),
        (lambda x: gc.reduce_max(x, axis=0), (LONG_COLUMN + 1, 3), False),  # exact in any order
        (lambda x: gc.reduce_sum(x, axis=1), (3, LONG_COLUMN + 1), False),  # NumPy adds pairwise
    ],
)
def test_sums_down_long_columns_are_added_in_parts(
    function: Build, shape: tuple[int, ...], in_parts: bool
) -> None:
    kernel = only_kernel(function, shape)
    assert schedule.adds_long_columns(kernel) == in_parts
    plan = schedule.schedule(kernel)
    assert isinstance(plan, Phases) == in_parts
    if isinstance(plan, Phases):
        assert plan.tiles.size <= LONG_COLUMN


# -- phases


def names(stmts: Sequence[loop.Stmt]) -> list[str]:
    return [type(s).__name__ if isinstance(s, loop.Store) else s.name for s in stmts]


def a_row(*body: loop.Stmt, parallel: int = 4, row: int = 6) -> Kernel:
    """A kernel over axis 0, and along the row of axis 1."""
    axes = (loop.Axis("i", parallel), loop.Axis("j", row, loop.REDUCE))
    return Kernel("k", axes, body)


def ref(name: str) -> loop.Ref:
    return loop.Ref(name, float64)


def apply(op: str, *args: loop.Expr) -> loop.Apply:
    return loop.Apply(op, args, float64)


ROW = loop.Load((Access("x", (6, 1)),), float64)
SCALE = loop.Load((Access("scale", (1, 0)),), float64)


def test_a_phase_per_level_and_what_comes_between() -> None:
    kernel = a_row(
        loop.Let("scaled", apply("multiply", ROW, SCALE)),
        loop.Reduce("total", "sum", ref("scaled"), float64),
        loop.Let("mean", apply("divide", ref("total"), loop.Const(6, float64))),
        loop.Let("centred", apply("subtract", ref("scaled"), ref("mean"))),
        loop.Reduce("spread", "max", ref("centred"), float64),
        loop.Let("scale2", apply("exp", ref("spread"))),
        loop.Store(Access("y", (6, 1)), apply("multiply", ref("centred"), ref("scale2"))),
        loop.Store(Access("z", (1, 0)), ref("mean")),
    )
    assert kernel.levels == (0, 0, 1, 1, 1, 2, 2, 1)
    first, second, third = phases.plan_phases(kernel)
    assert names(first.inside) == ["scaled", "total"] and names(first.after) == ["mean"]
    # the row is computed again; the mean, which is kept, is not
    assert names(second.inside) == ["scaled", "centred", "spread"]
    assert names(second.after) == ["scale2", "Store"]
    assert names(third.inside) == ["scaled", "centred", "Store"]
    assert names(third.after) == []


def test_a_let_without_the_row_is_known_before_the_second_phase() -> None:
    kernel = a_row(
        loop.Let("factor", apply("exp", SCALE)),
        loop.Reduce("total", "sum", apply("multiply", ROW, ref("factor")), float64),
        loop.Store(Access("y", (6, 1)), apply("subtract", ROW, ref("factor"))),
        loop.Store(Access("z", (1, 0)), apply("multiply", ref("total"), ref("factor"))),
    )
    first, second = phases.plan_phases(kernel)
    assert names(first.inside) == ["factor", "total", "Store"]
    assert names(first.after) == ["factor"]
    assert names(second.inside) == [] and names(second.after) == ["Store"]


def test_every_statement_is_in_some_phase() -> None:
    for seed in range(40):
        outputs, feeds = random_graph(chooser(seed), steps=20, backward=True)
        program = compile_program(cut(outputs, (), [n.outputs[0] for n in feeds]), Context())
        for kernel in (simplified(k) for k in program.kernels if k.reduced and k.form == "row"):
            found = [s for p in phases.plan_phases(kernel) for s in (*p.inside, *p.after)]
            wanted = [s for s in kernel.body if not isinstance(s, loop.Let)]
            # once each: a total that is added up twice is wrong, a store is a waste
            assert sorted(map(str, wanted)) == sorted(
                str(s) for s in found if not isinstance(s, loop.Let)
            )


# -- registers


@pytest.fixture
def frame() -> Frame:
    _, program = compiled(lambda x: gc.exp(x), (5, 70))
    return Frame(simplified(program.kernels[0]), program, frozenset())


def test_a_register_is_taken_again_only_when_it_is_free(frame: Frame) -> None:
    registers = Registers(frame)
    both = frozenset(range(len(frame.sizes)))
    first = registers.take(float32, both)
    assert registers.take(float32, both).slot != first.slot
    registers.drop(first)
    assert registers.take(float64, both).slot != first.slot  # another dtype
    assert registers.take(float32, frozenset()).slot != first.slot  # another shape
    assert registers.take(float32, both).slot == first.slot


def test_a_pinned_register_is_never_free(frame: Frame) -> None:
    registers = Registers(frame)
    pinned = registers.pin(registers.take(float32, frozenset()))
    registers.drop(pinned)
    assert registers.take(float32, frozenset()).slot != pinned.slot


def test_registers_start_at_cache_lines(frame: Frame) -> None:
    registers = Registers(frame)
    registers.take_shape(float32, (3,), frozenset())
    assert registers.nbytes == 64
    registers.take_shape(float32, (17,), frozenset())
    assert registers.nbytes == 192
    assert 'mem.scratch(64, "float32", (17,))' in frame.bound[1]


# -- dots


@pytest.mark.parametrize(
    ("strides", "axes", "wanted"),
    [
        ((35, 7, 1), (1, 2), 1),
        ((35, 7, 1), (0, 1), 7),
        ((35, 7, 1), (0,), 35),
        ((35, 7, 1), (0, 2), None),  # rows with a gap
        ((35, 1, 5), (1, 2), None),  # transposed
        ((0, 0, 0), (0, 1, 2), 0),  # the same element everywhere
        ((35, 7, 1), (), 0),
    ],
)
def test_merged_stride(strides: tuple[int, ...], axes: tuple[int, ...], wanted: int | None) -> None:
    assert merged_stride(Access("x", strides), axes, (4, 5, 7)) == wanted


def product_text(function: Build, *shapes: Sequence[int]) -> tuple[list[str], list[str]]:
    """The lines that run once and those of the launch, of a kernel with a dot."""
    program = compiled(function, *shapes)[1]
    kernel = next(k for k in program.kernels if k.form == "dot")
    text = emit_kernel(simplified(kernel), program, dynamic_buffers(program))
    return text.bound, text.lines


def test_a_product_that_is_only_stored_goes_straight_to_its_buffer() -> None:
    bound, lines = product_text(gc.matmul, (5, 6), (6, 7))
    assert bound == [] and len([s for s in lines if "np.matmul(" in s]) == 1
    assert not any("[...]" in s for s in lines)


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda x, w: gc.matmul(x, w) + 1.0, [(5, 6), (6, 7)]),  # read by an epilogue
        (lambda x, w: gc.transpose(gc.reshape(gc.matmul(x, w), [5, 2, 3]), [1, 0, 2]),
         [(5, 6), (6, 6)]),  # columns lie apart
        (lambda x, w: gc.cast(gc.matmul(x, w), gc.float64), [(5, 6), (6, 7)]),  # another dtype
    ],
)  # fmt: skip
def test_a_product_is_kept_when_it_cannot_be_stored_as_it_is(
    function: Build, shapes: Sequence[Sequence[int]]
) -> None:
    bound, _ = product_text(function, *shapes)
    assert any("mem.scratch(" in s for s in bound)


def test_operands_are_copied_where_strides_do_not_allow_a_view() -> None:
    _, lines = product_text(lambda x, w: gc.nn.conv2d(x, w, 1, "VALID"), (2, 6, 6, 3), (3, 3, 3, 4))
    assert any("[...] = " in s for s in lines)


# -- every plan carried out


def padded_total(x: Any) -> Any:
    padded = gc.pad(x, [[1, 2], [0, 3]])
    return gc.reduce_sum(gc.abs(padded) * padded)


def test_a_padded_whole_that_is_larger_than_a_tile() -> None:
    shape = (300, 301)
    kernel = only_kernel(padded_total, shape)
    assert kernel.space > TILE and schedule.schedule(kernel) is None
    computation, program = compiled(padded_total, shape)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    (got,) = NumPyDevice().load(program, {}, Settings()).run([x], 0)
    np.testing.assert_allclose(got, (np.abs(x) * x).sum(dtype=np.float64), rtol=1e-4)
    assert evaluate(computation.outputs, {computation.inputs[0]: x})[0].shape == got.shape


LIMITS = [(16, 64, 8, 1024), (4, 8, 2, 1), (40, 9, 1000, 1)]


@pytest.mark.parametrize("limits", LIMITS)
def test_random_graphs_in_small_tiles(
    limits: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in zip(("TILE", "LONG_ROW", "LONG_COLUMN"), limits[:3], strict=True):
        monkeypatch.setattr(schedule, name, value)
    monkeypatch.setattr(boxes, "_MOST_BOXES", limits[3])
    walked = set()
    for seed in range(60):
        outputs, feeds = random_graph(chooser(seed), steps=20, backward=seed % 2 == 1)
        computation = cut(outputs, (), [n.outputs[0] for n in feeds])
        program = compile_program(computation, Context())
        walked |= {type(schedule.schedule(simplified(k))) for k in program.kernels if not k.parts}
        executable = NumPyDevice().load(program, {}, Settings(threads=1 + seed % 3))
        got = executable.run([feeds[n] for n in computation.inputs], 0)
        # the gradient of an extremum divides among its ties, so that exact ends there
        rtol = 1e-9 if seed % 2 else 0.0
        for a, b in zip(got, evaluate(computation.outputs, feeds), strict=True):
            np.testing.assert_allclose(a, b, rtol, rtol, err_msg=f"seed {seed}")
    assert walked >= {Tiles, Phases}

"""Kernels written by hand, in which a guard of the NumPy back end must act, against the oracle.

What passes make of graphs rarely comes near these corners; the loop language permits them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from graphc.codegen import phases
from graphc.codegen.numpy import schedule
from graphc.codegen.numpy.frame import Frame
from graphc.codegen.numpy.kernel import KernelText, emit_kernel
from graphc.ir import loop
from graphc.ir.dtypes import DType, as_dtype, bfloat16, float32, float64, int32, int64
from graphc.ir.interpret import run_program
from graphc.ir.loop import (
    Access,
    Apply,
    Axis,
    Buffer,
    Const,
    Dot,
    Guard,
    Index,
    Kernel,
    Let,
    Linear,
    Load,
    MemoryPlan,
    Program,
    Reduce,
    Ref,
    Store,
)
from graphc.ir.settings import Settings
from graphc.runtime.devices.numpy import NumPyDevice

ROLES = {"x": loop.INPUT, "w": loop.INPUT, "v": loop.VARIABLE, "t": loop.TEMPORARY}


def apply(op: str, *args: loop.Expr, dtype: DType = float64) -> Apply:
    return Apply(op, args, dtype)


def ref(name: str, dtype: DType = float64) -> Ref:
    return Ref(name, dtype)


def load(buffer: str, *strides: int, dtype: DType = float64) -> Load:
    return Load((Access(buffer, strides),), dtype)


def to(buffer: str, *strides: int) -> Access:
    return Access(buffer, strides)


def one(value: float = 1.0, dtype: DType = float64) -> Const:
    return Const(value, dtype)


def program_of(
    kernel: Kernel,
    shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, DType] | None = None,
) -> Program:
    """A program of one kernel; buffers' roles go by the first letter of their names."""
    given = dtypes or {}
    buffers = {
        n: Buffer(n, given.get(n, float64), shape, ROLES.get(n[0], loop.OUTPUT))
        for n, shape in shapes.items()
    }

    def of(role: str) -> tuple[str, ...]:
        return tuple(n for n, b in buffers.items() if b.role == role)

    changed = tuple(n for n in of(loop.VARIABLE) if n in kernel.outputs)
    return Program(
        buffers, (kernel,), of(loop.INPUT), of(loop.OUTPUT), of(loop.VARIABLE), changed,
        commit=1, plan=MemoryPlan(),
    )  # fmt: skip


def check(program: Program) -> None:
    """The NumPy back end's outputs and variables are the oracle's, on random arrays."""
    rng = np.random.default_rng(0)
    arrays = {
        n: (rng.standard_normal(b.size) * 4).astype(b.dtype.numpy)
        for n, b in program.buffers.items()
        if b.role in (loop.INPUT, loop.VARIABLE)
    }
    wanted = {n: a.copy() for n, a in arrays.items()}
    run_program(program, wanted)
    variables = {n: arrays[n].copy() for n in program.variables}
    executable = NumPyDevice().load(program, variables, Settings(threads=2))
    got = executable.run([arrays[n].reshape(program.buffers[n].shape) for n in program.inputs], 0)
    for name, array in zip(program.outputs, got, strict=True):
        np.testing.assert_allclose(array.ravel(), wanted[name], 1e-12, 1e-12, err_msg=name)
    for name in program.variables:
        np.testing.assert_allclose(variables[name], wanted[name], 1e-12, 1e-12, err_msg=name)


def text_of(program: Program) -> KernelText:
    return emit_kernel(program.kernels[0], program, ())


def flat(*body: loop.Stmt, size: int = 9) -> Kernel:
    return Kernel("kernel", (Axis("i", size),), body)


def rows(*body: loop.Stmt, count: int = 4, row: int = 6) -> Kernel:
    return Kernel("kernel", (Axis("i", count), Axis("j", row, loop.REDUCE)), body)


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 16 elements, rows of 64 and columns of 8 that count as long."""
    for name, value in (("TILE", 16), ("LONG_ROW", 64), ("LONG_COLUMN", 8)):
        monkeypatch.setattr(schedule, name, value)


# -- names, and the memory behind them


def test_a_second_name_keeps_the_register_of_the_first() -> None:
    kernel = flat(
        Let("a", apply("exp", load("x", 1))),
        Let("b", ref("a")),
        Let("c", apply("add", ref("a"), one())),  # the last that reads `a`, not `b`
        Let("d", apply("multiply", ref("c"), ref("c"))),
        Store(to("y", 1), ref("b")),
        Store(to("z", 1), apply("add", ref("d"), ref("c"))),
    )
    check(program_of(kernel, {"x": (9,), "y": (9,), "z": (9,)}))


def overwriting(*between: loop.Stmt, read: str = "old") -> Kernel:
    """`v` is overwritten, then a name for what it held is read."""
    return flat(
        Let("old", load("v", 1)),
        *between,
        Let("new", apply("exp", ref("old"))),
        Store(to("v", 1), ref("new")),
        Store(to("y", 1), apply("multiply", ref(read), one(2.0))),
    )


def early() -> Kernel:
    """The same, but the store comes last: only `new` may be computed right into `v`."""
    return flat(
        Let("old", load("v", 1)),
        Let("new", apply("exp", ref("old"))),
        Let("twice", apply("multiply", ref("old"), one(2.0))),
        Store(to("v", 1), ref("new")),
        Store(to("y", 1), ref("twice")),
    )


@pytest.mark.parametrize(
    "kernel", [overwriting(), overwriting(Let("also", ref("old")), read="also"), early()]
)
def test_a_name_for_a_variable_keeps_the_value_from_before_the_store(kernel: Kernel) -> None:
    check(program_of(kernel, {"v": (9,), "y": (9,)}))


def test_a_name_for_a_variable_read_before_the_store_is_a_view() -> None:
    kernel = flat(
        Let("old", load("v", 1)),
        Store(to("y", 1), apply("exp", ref("old"))),
        Store(to("v", 1), apply("add", ref("old"), one())),
    )
    program = program_of(kernel, {"v": (9,), "y": (9,)})
    check(program)
    assert not any("mem.scratch(" in line for line in text_of(program).bound)


def shared(offsets: Mapping[str, int]) -> Program:
    """`t1` is read after a value is named that is stored to `t2`; they lie at these offsets."""
    kernel = flat(
        Let("a", apply("exp", load("t1", 1))),
        Let("b", apply("add", load("t1", 1), ref("a"))),
        Store(to("t2", 1), ref("a")),
        Store(to("y", 1), ref("b")),
    )
    program = program_of(kernel, {"t1": (9,), "t2": (9,), "y": (9,)})
    return program.replace(plan=MemoryPlan(offsets, 256))


@pytest.mark.parametrize(
    ("offsets", "direct"),
    [
        ({"t1": 0, "t2": 72}, True),  # one after the other, without a gap
        ({"t1": 72, "t2": 0}, True),
        ({"t1": 0, "t2": 0}, False),
        ({"t1": 0, "t2": 64}, False),
        ({"t1": 64, "t2": 0}, False),
        ({}, True),  # of other memory than the arena
    ],
)
def test_values_go_straight_to_buffers_that_share_no_memory_with_what_is_read(
    offsets: dict[str, int], direct: bool
) -> None:
    program = shared(offsets)
    text = text_of(program)
    assert ("[...]" not in "".join(text.lines)) == direct
    frame = Frame(program.kernels[0], program, frozenset())
    assert frame.overlap("t1", "t2") == frame.overlap("t2", "t1") == (not direct)
    assert frame.overlap("t1", "t1")


# -- stores


def test_a_stored_value_takes_the_dtype_of_the_buffer() -> None:
    kernel = flat(
        Let("a", apply("multiply", load("x", 1), load("x", 1))),
        Store(to("y", 1), ref("a")),
        Store(to("z", 1), apply("add", ref("a"), ref("a"))),
    )
    program = program_of(kernel, dict.fromkeys("xyz", (9,)), {"y": int32, "z": int64})
    check(program)  # NumPy refuses to compute into integers right away


def test_what_is_stored_broadcast_is_computed_once() -> None:
    kernel = rows(
        Let("a", load("x", 1, 0)),
        Store(to("y", 6, 1), apply("exp", ref("a"))),
    )
    program = program_of(kernel, {"x": (4,), "y": (4, 6)})
    check(program)
    assert [s for s in text_of(program).bound if "mem.scratch(" in s and "(4, 1)" in s]


@pytest.mark.parametrize(("dtype", "direct"), [(float64, True), (int32, False)])
def test_a_total_goes_straight_to_a_buffer_of_its_dtype(dtype: DType, direct: bool) -> None:
    kernel = rows(
        Reduce("total", "sum", load("x", 6, 1), float64), Store(to("y", 1, 0), ref("total"))
    )
    program = program_of(kernel, {"x": (4, 6), "y": (4,)}, {"y": dtype})
    check(program)
    assert any("mem.scratch(" in line for line in text_of(program).bound) != direct


def test_a_name_for_a_variable_keeps_the_value_from_before_a_total() -> None:
    kernel = rows(
        Let("old", load("v", 1, 0)),
        Reduce("total", "sum", load("x", 6, 1), float64),  # may be computed right into `v`
        Let("twice", apply("multiply", ref("old"), one(2.0))),
        Store(to("v", 1, 0), ref("total")),
        Store(to("y", 1, 0), ref("twice")),
    )
    check(program_of(kernel, {"x": (4, 6), "v": (4,), "y": (4,)}))


# -- reductions of what does not vary along the row


@pytest.mark.parametrize("count", [4, 5, 7, 40])
@pytest.mark.parametrize("row", [5, 6, 70])
@pytest.mark.parametrize("value", [load("w", 1, 0), one(0.5), load("w", 0, 0)])
@pytest.mark.usefixtures("small_limits")
def test_a_sum_counts_each_element_of_the_row(value: loop.Expr, row: int, count: int) -> None:
    kernel = rows(
        Reduce("first", "max", load("x", row, 1), float64),
        Reduce("total", "sum", apply("add", value, one()), float64),
        Reduce("plain", "sum", value, float64),
        Store(to("y", 1, 0), ref("total")),
        Store(to("z", 1, 0), apply("add", ref("plain"), ref("first"))),
        count=count, row=row,
    )  # fmt: skip
    shapes = {"x": (count, row), "w": (count,), "y": (count,), "z": (count,)}
    check(program_of(kernel, shapes))


# -- phases


def phased(*more: loop.Stmt) -> Kernel:
    """Two sums, the second of what needs the first, over rows of 70."""
    x = load("x", 70, 1)
    return rows(
        Let("a", apply("exp", x)),
        Reduce("r", "sum", ref("a"), float64),
        Let("b", apply("subtract", ref("a"), ref("r"))),
        Reduce("s", "max", ref("b"), float64),
        *more,
        Store(to("y", 1, 0), ref("s")),
        row=70,
    )


def test_a_value_along_the_row_is_stored_in_its_loop() -> None:
    wide = Store(to("z", 70, 1), ref("r"))  # the same along the row
    (_, second, _) = phases.plan_phases(phased(wide))
    assert wide in second.inside and wide not in second.after


@pytest.mark.usefixtures("small_limits")
def test_registers_of_one_phase_serve_the_next() -> None:
    kernel = phased()
    program = program_of(kernel, {"x": (4, 70), "y": (4,)})
    check(program)
    tiles = [line for line in text_of(program).own if "mem.scratch(" in line and "(4, 4)" in line]
    assert len(tiles) == 1


def guarded(buffer: str, size: int, *strides: int, offset: int = 0) -> Load:
    """The buffer shifted by `offset`, 7 outside of range(size)."""
    guard = Guard(Linear(strides, offset), size)
    return Load((Access(buffer, strides, offset, (guard,)),), float64, 7.0)


@pytest.mark.usefixtures("small_limits")
def test_a_copy_made_before_the_loops_lasts_until_the_kernel_ends() -> None:
    scale = guarded("w", 4, 1, 0, offset=-1)
    kernel = rows(
        Let("a", apply("multiply", load("x", 70, 1), scale)),
        Reduce("r", "sum", ref("a"), float64),
        Let("m", apply("multiply", ref("r"), scale)),
        Let("n", apply("exp", apply("multiply", ref("m"), one(0.01)))),
        Let("b", apply("add", apply("multiply", scale, load("x", 70, 1)), ref("n"))),
        Reduce("s", "sum", ref("b"), float64),
        Store(to("y", 1, 0), apply("add", ref("s"), apply("add", ref("m"), scale))),
        row=70,
    )
    check(program_of(kernel, {"x": (4, 70), "w": (4,), "y": (4,)}))


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.usefixtures("small_limits")
def test_copies_are_made_before_the_threads_share_the_loop(shift: int) -> None:
    value = guarded("x", 40, 1, offset=-1) if shift else load("x", 1)
    program = program_of(
        flat(Store(to("y", 1), apply("exp", value)), size=40), {"x": (40,), "y": (40,)}
    )
    check(program)
    text = text_of(program)
    assert text.shared == (40, 16, 3)
    assert any("[...] = " in line for line in text.lines) == bool(shift)
    assert not any("[...] = " in line for walk in text.walks for line in walk)


# -- loads and scalars


def test_of_two_pieces_that_hold_the_first_counts() -> None:
    first = guarded("x", 5, 1).pieces[0]
    second = guarded("w", 9, 1, offset=-2).pieces[0]
    kernel = flat(Store(to("y", 1), apply("exp", Load((first, second), float64))))
    check(program_of(kernel, {"x": (5,), "w": (9,), "y": (9,)}))


@pytest.mark.parametrize("strides", [(0, 0), (3, 0), (0, 2), (10, 1)])
def test_an_index_starts_at_its_offset(strides: tuple[int, int]) -> None:
    value = apply("cast", Index(Linear(strides, 5)))
    kernel = Kernel("kernel", (Axis("i", 4), Axis("j", 6)), (Store(to("y", 6, 1), value),))
    check(program_of(kernel, {"x": (1,), "y": (4, 6)}))


@pytest.mark.parametrize(
    "value",
    [
        apply("exp", one(0.25)),
        apply("add", one(0.25), one(2.0)),
        apply("cast", Const(3, int32)),
        apply("cast", Const(1.5, bfloat16)),  # no dtype of NumPy's own
        apply("add", apply("cast", Const(True, as_dtype("bool"))), load("x", 1)),
    ],
)
def test_functions_of_constants(value: loop.Expr) -> None:
    check(program_of(flat(Store(to("y", 1), value)), {"x": (9,), "y": (9,)}))


def test_a_function_of_constants_computes_in_their_dtype() -> None:
    value = apply("floordiv", Const(7, int32), Const(2, int32), dtype=int32)
    wide = apply("cast", apply("exp", one(0.1, float32), dtype=float32))
    kernel = flat(Store(to("y", 1), value), Store(to("z", 1), wide))
    program = program_of(kernel, {"x": (9,), "y": (9,), "z": (9,)}, {"y": int32})
    check(program)
    assert "np.asarray(0.1, np.float32)" in "".join(text_of(program).lines)


# -- dots


def product(store: Access, *, rows_count: int = 3, spread: int = 1) -> Kernel:
    """x [3, 5] times w [5, 4], for each of `spread` copies."""
    axes = (
        Axis("c", spread), Axis("i", rows_count), Axis("j", 4), Axis("k", 5, loop.REDUCE),
    )  # fmt: skip
    return Kernel("kernel", axes, (
        Dot("p", load("x", 0, 5, 0, 1), load("w", 0, 0, 1, 4), float64),
        Store(store, ref("p")),
    ))  # fmt: skip


def dot_program(kernel: Kernel, y: tuple[int, ...], dtype: Any = float64) -> Program:
    return program_of(kernel, {"x": (3, 5), "w": (5, 4), "y": y}, {"y": dtype})


@pytest.mark.parametrize(
    ("store", "shape", "spread", "dtype", "direct"),
    [
        (to("y", 0, 4, 1, 0), (3, 4), 1, float64, True),
        (to("y", 0, 1, 3, 0), (4, 3), 1, float64, True),  # transposed
        (to("y", 0, 4, 1, 0), (3, 4), 1, int64, False),  # another dtype
        (to("y", 12, 4, 1, 0), (2, 3, 4), 2, float64, False),  # along an axis of neither operand
    ],
)
def test_a_product_goes_straight_to_its_buffer_where_it_can(
    store: Access, shape: tuple[int, ...], spread: int, dtype: DType, direct: bool
) -> None:
    program = dot_program(product(store, spread=spread), shape, dtype)
    check(program)
    assert ("mem.scratch(" not in "".join(text_of(program).bound)) == direct


@pytest.mark.parametrize(("start", "direct"), [(0, False), (64, False), (256, True)])
def test_a_product_is_not_written_over_its_operands(start: int, direct: bool) -> None:
    kernel = Kernel("kernel", (Axis("i", 4), Axis("j", 4), Axis("k", 4, loop.REDUCE)), (
        Dot("p", load("t1", 4, 0, 1), load("x", 0, 1, 4), float64),
        Store(to("t2", 4, 1, 0), ref("p")),
    ))  # fmt: skip
    program = program_of(kernel, {"t1": (4, 4), "x": (4, 4), "t2": (4, 4)})
    program = program.replace(plan=MemoryPlan({"t1": 0, "t2": start}, 512))
    assert ("mem.scratch(" not in "".join(text_of(program).bound)) == direct

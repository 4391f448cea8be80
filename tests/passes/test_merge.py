"""merge and inline on kernels written by hand: before -> after, and each refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from graphc.ir.dtypes import DType, bfloat16, float64
from graphc.ir.interpret import run_kernel
from graphc.ir.loop import (
    CONSTANT,
    INPUT,
    OUTPUT,
    REDUCE,
    TEMPORARY,
    VARIABLE,
    Access,
    Apply,
    Axis,
    Buffer,
    Call,
    Const,
    Dot,
    Expr,
    Gather,
    Guard,
    Index,
    Kernel,
    Let,
    Linear,
    Load,
    Reduce,
    Ref,
    Store,
)
from graphc.ir.loop_text import format_kernel
from graphc.passes.inline import Limits, Refusal, inline_producer, positions
from graphc.passes.merge import merge, merge_beside

F = float64
LIMITS = Limits()


def at(buffer: str, *strides: int, offset: int = 0) -> Access:
    return Access(buffer, strides, offset)


def load(buffer: str, *strides: int, offset: int = 0) -> Load:
    return Load((at(buffer, *strides, offset=offset),), F)


def apply(op: str, *args: Expr, dtype: DType = F) -> Apply:
    return Apply(op, args, dtype)


def axes(*sizes: int, reduced: int = 0) -> tuple[Axis, ...]:
    """Axes of these sizes; the last `reduced` of them are reduced."""
    first = len(sizes) - reduced
    return tuple(
        Axis(f"i{i}", n, REDUCE if i >= first else "parallel") for i, n in enumerate(sizes)
    )


def flat(name: str, value: Expr, target: Access, *sizes: int) -> Kernel:
    body = (Let(f"{name}_v", value), Store(target, Ref(f"{name}_v", F)))
    return Kernel(name, axes(*sizes), body, (name,))


def total(name: str, value: Expr, target: Access, *sizes: int, reduced: int = 1) -> Kernel:
    body = (Reduce(f"{name}_v", "sum", value, F), Store(target, Ref(f"{name}_v", F)))
    return Kernel(name, axes(*sizes, reduced=reduced), body, (name,))


def buffers(**shapes: tuple[int, ...]) -> dict[str, Buffer]:
    """x..: inputs, y..: outputs, v..: variables, c..: constants, all else temporary."""
    roles = {"x": INPUT, "y": OUTPUT, "v": VARIABLE, "c": CONSTANT}
    return {n: Buffer(n, F, s, roles.get(n[0], TEMPORARY)) for n, s in shapes.items()}


def run(kernels: Sequence[Kernel], made: Mapping[str, Buffer]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {n: rng.standard_normal(b.size) for n, b in made.items()}
    for kernel in kernels:
        run_kernel(kernel, arrays)
    return arrays


def merged(a: Kernel, b: Kernel, made: Mapping[str, Buffer], keep: Sequence[str] = ()) -> Kernel:
    """The merged kernel, which gives what the two give."""
    result = merge(a, b, made, keep, LIMITS)
    assert isinstance(result, Kernel), result
    want, got = run([a, b], made), run([result], made)
    kept = {n for n, b in made.items() if b.role != TEMPORARY} | set(keep)
    for name in kept:
        np.testing.assert_allclose(got[name], want[name], 1e-12, err_msg=name)
    gone = set(a.outputs) - kept
    assert not gone & {*result.inputs, *result.outputs}
    assert result.covers == tuple(dict.fromkeys((*a.covers, *b.covers)))
    return result


def refusal(a: Kernel, b: Kernel, made: Mapping[str, Buffer], keep: Sequence[str] = (),
            limits: Limits = LIMITS) -> str:  # fmt: skip
    result = merge(a, b, made, keep, limits)
    assert isinstance(result, Refusal), format_kernel(result)
    return result.reason


EXP = apply("exp", load("x", 5, 1))


def test_before_and_after() -> None:
    a = flat("a", EXP, at("t", 5, 1), 3, 5)
    b = flat("b", apply("add", load("t", 5, 1), Const(1.0, F)), at("y", 5, 1), 3, 5)
    result = merged(a, b, buffers(x=(3, 5), t=(3, 5), y=(3, 5)))
    assert format_kernel(result).splitlines() == [
        "kernel b(i0:3, i1:5)  # a, b",
        "  a_v = exp(x[5*i0 + i1])",
        "  b_v = add(a_v, 1.0)",
        "  y[5*i0 + i1] = b_v",
    ]


def test_value_that_another_kernel_reads_stays_stored() -> None:
    a = flat("a", EXP, at("t", 5, 1), 3, 5)
    b = flat("b", apply("tanh", load("t", 5, 1)), at("y", 5, 1), 3, 5)
    result = merged(a, b, buffers(x=(3, 5), t=(3, 5), y=(3, 5)), keep=["t"])
    assert result.outputs == ("t", "y")


def test_axes_are_matched_by_what_they_read() -> None:
    made = buffers(x=(3, 5), t=(3, 5), y=(5, 3))
    a = flat("a", EXP, at("t", 5, 1), 3, 5)
    transposed = flat("b", apply("tanh", load("t", 1, 5)), at("y", 3, 1), 5, 3)
    assert merged(a, transposed, made).sizes == (3, 5)


def test_axis_is_split_where_the_other_kernel_has_two() -> None:
    made = buffers(x=(3, 10), t=(3, 10), y=(3, 2, 5))
    a = flat("a", apply("exp", load("x", 10, 1)), at("t", 10, 1), 3, 10)
    b = flat("b", apply("tanh", load("t", 10, 5, 1)), at("y", 10, 5, 1), 3, 2, 5)
    assert merged(a, b, made).sizes == (3, 2, 5)
    assert merged(
        flat("b", apply("exp", load("x", 10, 5, 1)), at("t", 10, 5, 1), 3, 2, 5),
        flat("a", apply("tanh", load("t", 10, 1)), at("y", 10, 1), 3, 10), made,
    ).sizes == (3, 2, 5)  # fmt: skip


def test_axes_that_cannot_be_split_alike() -> None:
    made = buffers(x=(4, 6), t=(4, 6), y=(6, 4))
    a = flat("a", apply("exp", load("x", 1, 4)), at("t", 6, 1), 4, 6)
    b = flat("b", apply("tanh", load("t", 4, 1)), at("y", 4, 1), 6, 4)
    assert refusal(a, b, made) == "SPACE"


def test_rows_join_producers_and_consumers() -> None:
    made = buffers(x=(3, 5), t=(3, 5), s=(3,), y=(3, 5))
    a = flat("a", EXP, at("t", 5, 1), 3, 5)
    sums = total("s", load("t", 5, 1), at("s", 1, 0), 3, 5)
    row = merged(a, sums, made, keep=["t", "s"])
    assert row.form == "row"
    last = flat("b", apply("truediv", load("t", 5, 1), load("s", 1, 0)), at("y", 5, 1), 3, 5)
    whole = merged(row, last, made)
    assert (whole.form, whole.inputs, whole.outputs) == ("row", ("x",), ("y",))


def test_producer_of_row_values_is_stored_once_a_row() -> None:
    made = buffers(x=(3, 5), x2=(3,), t=(3,), y=(3,))
    a = flat("a", apply("exp", load("x2", 1)), at("t", 1), 3)
    b = total("b", apply("multiply", load("x", 5, 1), load("t", 1, 0)), at("y", 1, 0), 3, 5)
    assert merged(a, b, made, keep=["t"]).outputs == ("t", "y")


def test_reductions_over_other_axes_stay_apart() -> None:
    made = buffers(x=(3, 5), s=(3,), y=(5,))
    rows = total("a", load("x", 5, 1), at("s", 1, 0), 3, 5)
    columns = total("b", load("x", 1, 5), at("y", 1, 0), 5, 3)
    assert refusal(rows, columns, made) == "SPACE"


def test_siblings_meet_in_what_both_read() -> None:
    made = buffers(x=(3, 5), y=(3, 5), y2=(5, 3))
    a = flat("a", EXP, at("y", 5, 1), 3, 5)
    b = flat("b", apply("tanh", load("x", 1, 5)), at("y2", 3, 1), 5, 3)
    assert merged(a, b, made).outputs == ("y", "y2")


def test_strangers_have_nothing_to_save() -> None:
    made = buffers(x=(4,), x2=(4,), y=(4,), y2=(4,))
    a = flat("a", apply("exp", load("x", 1)), at("y", 1), 4)
    b = flat("b", apply("exp", load("x2", 1)), at("y2", 1), 4)
    assert refusal(a, b, made) == "NO_SAVING"


def test_broadcast_recomputes_only_what_is_cheap() -> None:
    made = buffers(x=(5,), t=(5,), y=(3, 5))
    b = flat("b", apply("tanh", load("t", 0, 1)), at("y", 5, 1), 3, 5)
    value: Expr = load("x", 1)
    for _ in range(LIMITS.broadcast_ops):
        value = apply("tanh", value)
    assert merged(flat("a", value, at("t", 1), 5), b, made).sizes == (5, 3)
    costly = flat("a", apply("exp", value), at("t", 1), 5)
    assert refusal(costly, b, made) == "RECOMPUTE"
    assert refusal(flat("a", load("x", 1), at("t", 1), 5), b, made, keep=["t"]) == "RECOMPUTE"


# -- dots


def dot(name: str, a: Expr, b: Expr, target: Access, *sizes: int) -> Kernel:
    body = (Dot(f"{name}_v", a, b, F), Store(target, Ref(f"{name}_v", F)))
    return Kernel(name, axes(*sizes, reduced=1), body, (name,))


def product(a: str = "x", target: str = "t") -> Kernel:
    """target[3, 5] = a[3, 4] @ x2[4, 5]"""
    return dot("d", load(a, 4, 0, 1), load("x2", 0, 1, 5), at(target, 5, 1, 0), 3, 5, 4)


DOTS = buffers(x=(3, 4), x2=(4, 5), x3=(5,), t=(3, 5), p=(3, 4), y=(3, 5), y2=(3,))


def test_epilogue_joins_the_dot() -> None:
    value = apply("tanh", apply("add", load("t", 5, 1), load("x3", 0, 1)))
    result = merged(product(), flat("b", value, at("y", 5, 1), 3, 5), DOTS)
    assert result.form == "dot" and result.inputs == ("x", "x2", "x3")


def test_what_reads_along_the_summed_axis_stays_out_of_the_dot() -> None:
    square = buffers(x=(4, 4), x2=(4, 4), t=(4, 4), y=(4, 4), s=(4,))
    sums = dot("d", load("x", 4, 1), load("x2", 4, 1), at("s", 1, 0), 4, 4)
    b = flat("b", apply("add", load("s", 1, 0), load("x", 4, 1)), at("y", 4, 1), 4, 4)
    assert refusal(sums, b, square) in ("SPACE", "RECOMPUTE")


def test_dots_and_rows_after_dots_stay_apart() -> None:
    second = dot("e", load("t", 5, 0, 1), load("x2", 0, 5, 1), at("y", 4, 1, 0), 3, 4, 5)
    assert refusal(product(), second, DOTS) == "TWO_DOTS"
    assert refusal(product(), total("s", load("t", 5, 1), at("y2", 1, 0), 3, 5), DOTS) == (
        "REDUCE_AFTER_DOT"
    )


def test_cheap_producer_of_one_operand_joins_the_dot() -> None:
    a = flat("a", apply("tanh", load("x", 4, 1)), at("p", 4, 1), 3, 4)
    result = merged(a, product("p", "y"), DOTS)
    assert result.form == "dot" and len(result.body) == 2


def test_prologues_that_are_refused() -> None:
    tanh = apply("tanh", load("x", 4, 1))
    a = flat("a", tanh, at("p", 4, 1), 3, 4)
    assert refusal(a, product("p", "y"), DOTS, keep=["p"]) == "PROLOGUE"
    long: Expr = tanh
    for _ in range(LIMITS.prologue_ops):
        long = apply("exp", long)
    assert refusal(flat("a", long, at("p", 4, 1), 3, 4), product("p", "y"), DOTS) == "PROLOGUE"
    wide = apply("add", load("x", 4, 1), load("x4", 4, 1))
    made = DOTS | buffers(x4=(3, 4))
    assert refusal(flat("a", wide, at("p", 4, 1), 3, 4), product("p", "y"), made) == "PROLOGUE"
    gram = dot("g", load("p", 4, 0, 1), load("p", 0, 4, 1), at("y", 3, 1, 0), 3, 3, 4)
    assert refusal(a, gram, DOTS) == "PROLOGUE"
    rows = total("a", load("x", 4, 0, 1), at("p", 4, 1, 0), 3, 4, 1)
    assert refusal(rows, product("p", "y"), DOTS) == "PROLOGUE"


def after_sums(read: Expr) -> Kernel:
    """y[3, 5] = x[3, 4] @ x2[4, 5] + read"""
    kernel = product("x", "y")
    value = apply("add", Ref("d_v", F), read)
    return Kernel("d", kernel.axes, (kernel.body[0], Store(at("y", 5, 1, 0), value)), ("d",))


def test_what_follows_the_sums_computes_a_cheap_value_of_each_element() -> None:
    made = DOTS | buffers(x4=(3, 5), q=(3, 5))
    tanh = flat("a", apply("tanh", load("x4", 5, 1)), at("q", 5, 1), 3, 5)
    result = merged(tanh, after_sums(load("q", 5, 1, 0)), made)
    assert result.form == "dot" and result.inputs == ("x", "x2", "x4") and result.outputs == ("y",)
    assert refusal(tanh, after_sums(load("q", 5, 1, 0)), made, keep=["q"]) == "PROLOGUE"


def test_what_follows_the_sums_repeats_casts_only() -> None:
    made = DOTS | buffers(h=(5,), q=(5,))
    made["h"] = replace(made["h"], dtype=bfloat16)
    cast = apply("cast", Load((at("h", 1),), bfloat16))
    read = load("q", 0, 1, 0)
    result = merged(flat("a", cast, at("q", 1), 5), after_sums(read), made)
    assert result.form == "dot" and "h" in result.inputs
    tanh = flat("a", apply("tanh", load("x3", 1)), at("q", 1), 5)
    assert refusal(tanh, after_sums(read), made) == "PROLOGUE"


def test_windows_are_not_computed_inside_a_dot() -> None:
    made = buffers(x=(9,), p=(9,), x2=(3, 2), y=(7, 2))
    a = flat("a", apply("tanh", load("x", 1)), at("p", 1), 9)
    b = dot("d", load("p", 1, 0, 1), load("x2", 0, 1, 2), at("y", 2, 1, 0), 7, 2, 3)
    assert refusal(a, b, made) == "PROLOGUE"


# -- variables


def test_update_in_place() -> None:
    made = buffers(x=(4,), v=(4,), t=(4,))
    a = flat("a", apply("add", load("v", 1), load("x", 1)), at("t", 1), 4)
    b = flat("b", load("t", 1), at("v", 1), 4)
    assert merged(a, b, made).outputs == ("v",)


def test_updates_that_are_refused() -> None:
    made = buffers(x=(4, 4), v=(4, 4), t=(4, 4), s=(4,), v2=(4,))
    turned = flat("a", apply("exp", load("v", 1, 4)), at("t", 4, 1), 4, 4)
    b = flat("b", load("t", 4, 1), at("v", 4, 1), 4, 4)
    assert refusal(turned, b, made) == "HAZARD"
    sums = total("a", load("x", 4, 1), at("s", 1, 0), 4, 4)
    assert refusal(sums, flat("b", load("s", 1), at("v2", 1), 4), made) == "UPDATE"


# -- calls, conditions, sizes


def test_library_calls_are_opaque() -> None:
    call = Kernel("c", (), (Call("sort", ("x",), ("t",)),))
    b = flat("b", apply("exp", load("t", 5, 1)), at("y", 5, 1), 3, 5)
    assert refusal(call, b, buffers(x=(3, 5), t=(3, 5), y=(3, 5))) == "OPAQUE"


def test_guarded_reads_and_gathers_are_not_affine() -> None:
    made = buffers(x=(4,), t=(4,), y=(6,))
    a = flat("a", apply("exp", load("x", 1)), at("t", 1), 4)
    guard = Guard(Linear((1,), -1), 4)
    padded = Load((Access("t", (1,), -1, (guard,)),), F, 0.0)
    assert refusal(a, flat("b", padded, at("y", 1), 6), made) == "NON_AFFINE"
    index = apply("cast", load("x", 1), dtype=F)
    taken = Gather(at("t", 0), index, 1, 4, F)
    kernel = flat("b", taken, at("t2", 1), 4)
    result = merge(a, kernel, made | buffers(t2=(4,)), (), LIMITS)
    assert isinstance(result, Refusal)


def test_too_big() -> None:
    made = buffers(x=(3, 5), t=(3, 5), y=(3, 5))
    a = flat("a", EXP, at("t", 5, 1), 3, 5)
    b = flat("b", apply("tanh", load("t", 5, 1)), at("y", 5, 1), 3, 5)
    assert refusal(a, b, made, limits=Limits(buffers=1)) == "TOO_BIG"
    assert refusal(a, b, made, limits=Limits(statements=2)) == "TOO_BIG"


def test_store_of_every_element_once() -> None:
    """A consumer with fewer axes cannot share the nest of one that has more."""
    made = buffers(x=(3, 5), c=(5,), y=(3, 5), y2=(5,))
    a = flat("a", apply("add", load("x", 5, 1), load("c", 0, 1)), at("y", 5, 1), 3, 5)
    b = flat("b", apply("exp", load("c", 1)), at("y2", 1), 5)
    assert refusal(a, b, made) == "SPACE"


# -- inlining where the consumer reads another part


SLICES: dict[str, tuple[Access, tuple[int, ...]]] = {
    "rows": (at("t", 7, 1, offset=14), (3, 7)),
    "columns": (at("t", 7, 1, offset=2), (5, 4)),
    "steps": (at("t", 14, 3), (3, 3)),
    "reversed": (at("t", -7, 1, offset=28), (5, 7)),
    "reversed_columns": (at("t", 7, -2, offset=6), (5, 4)),
    "diagonal": (at("t", 8), (5,)),
    "one_row_for_all": (at("t", 0, 1, offset=7), (4, 7)),
    "corner": (at("t"), ()),
}


@pytest.mark.parametrize("name", SLICES)
def test_slices_of_a_producer(name: str) -> None:
    access, sizes = SLICES[name]
    made = buffers(x=(7, 5), x2=(5,), t=(5, 7), y=sizes)
    value = apply("add", load("x", 1, 5), apply("exp", load("x2", 1, 0)))
    index = apply("multiply", value, apply("cast", Index(Linear((1, 2), 3))))
    a = flat("a", index, at("t", 7, 1), 5, 7)
    strides = tuple(int(np.prod(sizes[i + 1 :])) for i in range(len(sizes)))
    b = flat("b", apply("tanh", Load((access,), F)), at("y", *strides), *sizes)
    assert merged(a, b, made).sizes == sizes


def test_shifted_reads_compute_the_producer_twice() -> None:
    made = buffers(x=(9,), t=(9,), y=(8,))
    a = flat("a", apply("exp", load("x", 1)), at("t", 1), 9)
    both = apply("subtract", load("t", 1, offset=1), load("t", 1))
    result = merged(a, flat("b", both, at("y", 1), 8), made)
    assert len([s for s in result.body if isinstance(s, Let)]) == 3


def test_inlining_that_is_refused() -> None:
    made = buffers(x=(9,), t=(9,), y=(7,), y2=(8,))
    value: Expr = load("x", 1)
    for _ in range(LIMITS.broadcast_ops + 1):
        value = apply("exp", value)
    a = flat("a", value, at("t", 1), 9)
    three = apply("add", load("t", 1), apply("add", load("t", 1, offset=1), load("t", 1, offset=2)))
    b = flat("b", three, at("y", 1), 7)
    assert refusal(a, b, made) == "SPACE"
    result = inline_producer(a, b, made, set(), LIMITS)
    assert isinstance(result, Refusal) and result.reason == "RECOMPUTE"
    shifted = flat("b", load("t", 1, offset=1), at("y2", 1), 8)
    assert refusal(a, shifted, made, keep=["t"]) == "SPACE"
    half = flat("h", value, at("t", 2), 4)
    result = inline_producer(half, shifted, made, set(), LIMITS)
    assert isinstance(result, Refusal) and result.numbers["why"] == "it is stored in parts"


def test_positions_are_digits_that_stay_in_range() -> None:
    a = flat("a", load("x", 7, 1), at("t", 7, 1), 5, 7)
    store = at("t", 7, 1)
    b = flat("b", load("t", 5, 1), at("y", 5, 1), 7, 5)
    assert positions(at("t", 5, 1), a, b, store) is None  # a row of 7 read 5 by 5
    inner = flat("b", load("t", 7, 1), at("y", 3, 1), 4, 3)
    found = positions(at("t", 7, 2, offset=8), a, inner, store)
    assert found == (Linear((1, 0), 1), Linear((0, 2), 1))
    assert positions(at("t", 7, 2, offset=10), a, inner, store) is None  # leaves the row


def test_kernels_over_equal_axes_may_stand_beside_each_other() -> None:
    made = buffers(x=(3, 5), x2=(3, 5), y=(3,), y2=(3,), y3=(5,))
    a = total("a", load("x", 5, 1), at("y", 1, 0), 3, 5)
    b = total("b", load("x2", 5, 1), at("y2", 1, 0), 3, 5)
    assert refusal(a, b, made) == "NO_SAVING"
    both = merge_beside(a, b, made, (), LIMITS)
    assert isinstance(both, Kernel)
    want, got = run([a, b], made), run([both], made)
    for name in ("y", "y2"):
        np.testing.assert_array_equal(got[name], want[name])


def test_kernels_over_other_axes_may_not() -> None:
    made = buffers(x=(3, 5), x2=(3, 5), y=(3,), y2=(5,))
    a = total("a", load("x", 5, 1), at("y", 1, 0), 3, 5)
    columns = total("b", load("x2", 1, 5), at("y2", 1, 0), 5, 3)
    result = merge_beside(a, columns, made, (), LIMITS)
    assert isinstance(result, Refusal)
    assert result.reason == "SPACE"


def test_a_gather_of_one_element_is_not_affine_either() -> None:
    """Its access looks like that of the store, for an axis of one element has no stride."""
    made = buffers(x=(4, 1), t=(4, 1), y=(4, 1))
    a = flat("a", apply("exp", load("x", 1)), at("t", 1), 4)
    taken = Gather(at("t", 1), Const(0, F), 0, 1, F)
    assert refusal(a, flat("b", taken, at("y", 1), 4), made) == "NON_AFFINE"

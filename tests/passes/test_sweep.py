"""sweep: column sums taken by the kernel that walks the rows; before -> after, and each refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.ir.computation import cut
from graphc.ir.interpret import evaluate
from graphc.ir.loop import (
    FOLD,
    OUTPUT,
    PARALLEL,
    REDUCE,
    VARIABLE,
    Axis,
    Buffer,
    Gather,
    Index,
    Kernel,
    Let,
    Linear,
    Reduce,
    Ref,
    Store,
    map_accesses,
)
from graphc.ir.loop_json import Decoder, Encoder
from graphc.ir.loop_text import format_kernel
from graphc.ir.settings import Settings
from graphc.ir.verify import verify_program
from graphc.passes.context import Context
from graphc.passes.fold_sums import Folded, fold_sums
from graphc.passes.inline import Limits, Refusal
from graphc.passes.pipeline import compile_program
from graphc.passes.target import NUMPY, Folding, Target
from graphc.runtime.devices.native import NativeDevice
from graphc.runtime.devices.numpy import NumPyDevice
from tests.passes.program_checks import check
from tests.passes.test_merge import F, apply, at, buffers, load, run
from tests.random_graphs import chooser, random_graph, random_program

LIMITS = Limits()
FEW = Folding(parts=4, rows=2)
EAGER = Folding(parts=2, rows=1, least_bytes=-(1 << 40))  # folds whatever is legal
R, C = 12, 5
MADE = buffers(x0=(R, C), t=(R, C), y0=(R, C), y1=(C,), y2=(C,))


def rows(*more: Any, axes: Sequence[Axis] = (Axis("i0", R), Axis("i1", C, REDUCE))) -> Kernel:
    """t = x / sum of x along the rows."""
    body = (
        Reduce("s", "sum", load("x0", C, 1), F),
        Let("q", apply("truediv", load("x0", C, 1), Ref("s", F))),
        Store(at("t", C, 1), Ref("q", F)),
    )
    return Kernel("rows", tuple(axes), (*body, *more), ("rows",))


def sums(value: Any = None, *more: Any, axes: Sequence[Axis] | None = None) -> Kernel:
    """y1 = sum of t * t down the columns."""
    axes = axes or (Axis("i0", R, REDUCE), Axis("i1", C))
    value = value or apply("multiply", load("t", C, 1), load("t", C, 1))
    body = (Let("w", value), Reduce("u", "sum", Ref("w", F), F))
    return Kernel(
        "sums", tuple(axes), (*body, *more, Store(at("y1", 0, 1), Ref("u", F))), ("sums",)
    )


def folded(
    a: Kernel, b: Kernel, made: Mapping[str, Buffer] = MADE, keep: Sequence[str] = (),
    folding: Folding = FEW,
) -> Folded:  # fmt: skip
    """The two kernels that give what `a` and `b` give."""
    result = fold_sums(a, b, made, set(keep), LIMITS, folding)
    assert isinstance(result, Folded), result
    wider = {**made, **{p.name: p for p in result.parts}}
    want, got = run([a, b], made), run([result.rows, result.sums], wider)
    for name in {n for n, x in made.items() if x.role == OUTPUT} | {*keep}:
        np.testing.assert_allclose(got[name], want[name], 1e-12, err_msg=name)
    return result


def refusal(a: Kernel, b: Kernel, made: Mapping[str, Buffer] = MADE, folding: Folding = FEW) -> Any:
    result = fold_sums(a, b, made, set(), LIMITS, folding)
    assert isinstance(result, Refusal), format_kernel(result.rows)
    return result


def test_before_and_after() -> None:
    result = folded(rows(), sums())
    assert format_kernel(result.rows).splitlines() == [
        "kernel rows(i0:4, i1:3~, i2:5+)  # rows, sums",
        "  s = reduce sum x0[15*i0 + 5*i1 + i2]",
        "  q = truediv(x0[15*i0 + 5*i1 + i2], s)",
        "  w = multiply(q, q)",
        "  u = fold sum w",
        "  y1_parts[5*i0 + i2] = u",
    ]
    assert format_kernel(result.sums).splitlines() == [
        "kernel sums(i0:4+, i1:5)  # sums",
        "  u = reduce sum y1_parts[5*i0 + i1]",
        "  y1[i1] = u",
    ]


def test_what_others_read_stays_stored() -> None:
    assert "t" in folded(rows(), sums(), keep=["t"]).rows.outputs
    assert "t" not in folded(rows(), sums()).rows.outputs


def test_what_follows_from_the_sums_stays_with_them() -> None:
    root = Let("root", apply("exp", Ref("u", F)))
    after = Store(at("y2", 0, 1), apply("add", Ref("root", F), load("y1x", 0, 1)))
    made = MADE | buffers(y1x=(C,))
    result = folded(rows(), sums(None, root, after), made)
    assert result.sums.outputs == ("y2", "y1") and "y1x" in result.sums.inputs


def test_stores_of_rows_go_with_the_rows() -> None:
    result = folded(rows(), sums(None, Store(at("y0", C, 1), Ref("w", F))))
    assert "y0" in result.rows.outputs and result.sums.outputs == ("y1",)


def test_a_second_kernel_with_sums_joins_the_first() -> None:
    first = folded(rows(), sums(), keep=["t"])
    made = MADE | {p.name: p for p in first.parts}
    other = replace(sums(apply("exp", load("t", C, 1))), name="others")
    body = tuple(Store(at("y2", 0, 1), s.value) if isinstance(s, Store) else s for s in other.body)
    result = folded(first.rows, replace(other, body=body), made, ["y1_parts"])
    assert len(result.rows.fold_stores) == 2 and result.rows.sizes == (4, 3, 5)


def test_a_value_is_computed_once() -> None:
    """The sums want the quotient that the rows compute, under another name and the same one."""
    quotient = apply("truediv", load("x0", C, 1), load("y2", C, 0))
    a = Kernel(
        "a", (Axis("i0", R), Axis("i1", C, REDUCE)),
        (Let("w", quotient), Reduce("s", "max", Ref("w", F), F),
         Store(at("y3", 1, 0), Ref("s", F))),
    )  # fmt: skip
    made = MADE | buffers(y2=(R, C), y3=(R,))
    result = folded(a, sums(quotient), made)
    assert sum(isinstance(s, Let) for s in result.rows.body) == 1
    other = folded(a, sums(apply("exp", load("x0", C, 1))), made)
    assert {s.name for s in other.rows.body if isinstance(s, Let)} == {"w", "w_"}


def test_rows_of_several_axes() -> None:
    """Whole outer axes become parts, then a divisor of the next one."""
    made = buffers(x0=(3, 8, 5), t=(3, 8, 5), y1=(5,))
    a = Kernel(
        "a", (Axis("i0", 3), Axis("i1", 8), Axis("i2", 5, REDUCE)),
        (Reduce("s", "max", load("x0", 40, 5, 1), F),
         Store(at("t", 40, 5, 1), apply("subtract", load("x0", 40, 5, 1), Ref("s", F)))),
    )  # fmt: skip
    b = Kernel(
        "b", (Axis("i0", 3, REDUCE), Axis("i1", 8, REDUCE), Axis("i2", 5)),
        (Reduce("u", "min", load("t", 40, 5, 1), F), Store(at("y1", 0, 0, 1), Ref("u", F))),
    )  # fmt: skip
    result = folded(a, b, made, folding=Folding(parts=6, rows=2))
    kinds = [(x.size, x.kind) for x in result.rows.axes]
    assert kinds == [(3, PARALLEL), (2, PARALLEL), (4, FOLD), (5, REDUCE)]
    flat = Kernel("b", (Axis("i0", 24, REDUCE), Axis("i1", 5)), (
        Reduce("u", "min", load("t", 5, 1), F), Store(at("y1", 0, 1), Ref("u", F))))  # fmt: skip
    assert folded(a, flat, made, folding=Folding(parts=6, rows=2)).rows.sizes == (3, 2, 4, 5)


def test_more_parts_where_sums_would_be_long() -> None:
    made = buffers(x0=(4096, 2), t=(4096, 2), y1=(2,))
    a = replace(rows(), axes=(Axis("i0", 4096), Axis("i1", 2, REDUCE)))
    two = [replace(k, body=tuple(_narrow(s) for s in k.body)) for k in (a, sums())]
    b = replace(two[1], axes=(Axis("i0", 4096, REDUCE), Axis("i1", 2)))
    assert folded(two[0], b, made, folding=Folding(parts=2)).rows.sizes == (8, 512, 2)


def _narrow(stmt: Any) -> Any:
    """The statement for rows of 2 elements."""
    change = {(C, 1): (2, 1), (0, 1): (0, 1)}
    return map_accesses(stmt, lambda a: replace(a, strides=change[a.strides]), lambda i: i)


# -- refusals


def test_other_axes_are_refused() -> None:
    """Sums along the rows themselves; sums over rows and columns."""
    along = sums(axes=(Axis("i0", R), Axis("i1", C, REDUCE)))
    along = replace(along, body=(*along.body[:2], Store(at("y3", 1, 0), Ref("u", F))))
    made = MADE | buffers(y3=(R,))
    assert refusal(rows(), along, made).reason == "SPACE"
    every = sums(axes=(Axis("i0", R, REDUCE), Axis("i1", C, REDUCE)))
    every = replace(every, body=(*every.body[:2], Store(at("y4", 0, 0), Ref("u", F))))
    assert refusal(rows(), every, MADE | buffers(y4=())).reason == "SPACE"


@pytest.mark.parametrize("folding", [Folding(parts=400, rows=2), Folding(parts=16, rows=13)])
def test_too_few_rows_are_refused(folding: Folding) -> None:
    result = refusal(rows(), sums(), folding=folding)
    assert result.reason == "SPACE" and "too few parts" in result.numbers["why"]


def test_rows_that_do_not_divide_are_refused() -> None:
    prime, made = 13, buffers(x0=(13, C), t=(13, C), y1=(C,))
    a = rows(axes=(Axis("i0", prime), Axis("i1", C, REDUCE)))
    b = sums(axes=(Axis("i0", prime, REDUCE), Axis("i1", C)))
    result = refusal(a, b, made, Folding(parts=17, rows=2))
    assert (result.reason, result.numbers["parts"]) == ("SPACE", 1)


def test_long_rows_are_refused() -> None:
    assert refusal(rows(), sums(), folding=replace(FEW, columns=4)).reason == "TOO_BIG"


def test_updates_are_refused() -> None:
    """A row kernel that stores to a variable runs too late."""
    made = MADE | {"t": replace(MADE["t"], role=VARIABLE)}
    assert refusal(rows(), sums(), made).reason == "UPDATE"


def test_rows_that_need_the_sums_are_refused() -> None:
    needing = rows(Store(at("y0", C, 1), apply("add", Ref("q", F), load("y1", 0, 1))))
    assert refusal(needing, sums(load("x0", C, 1))).reason == "CYCLE"


def test_rows_that_are_walked_again_are_refused() -> None:
    again = Store(at("y0", C, 1), apply("subtract", load("t", C, 1), Ref("u", F)))
    result = refusal(rows(), sums(None, again))
    assert result.reason == "SPACE" and "walked again" in result.numbers["why"]


def test_other_orders_are_refused() -> None:
    """A part of what the rows store is read at another place too."""
    value = apply("multiply", load("t", C, 1), load("t", C, -1, offset=C - 1))
    result = refusal(rows(), sums(value))
    assert (result.reason, result.numbers["why"]) == ("SPACE", "read in another order")


def test_gathered_rows_are_refused() -> None:
    place = Gather(at("t", C, 0), Index(Linear((0, 1))), 1, C, F)
    assert refusal(rows(), sums(place)).reason == "NON_AFFINE"


def test_no_shared_buffer_is_refused() -> None:
    made = MADE | buffers(x9=(R, C))
    assert refusal(rows(), sums(load("x9", C, 1)), made).reason == "NO_SAVING"


def test_large_kernels_are_refused() -> None:
    result = fold_sums(rows(), sums(), MADE, set(), Limits(statements=4), FEW)
    assert isinstance(result, Refusal) and result.reason == "TOO_BIG"


# -- whole programs


def layer_norm_step(batch: int, width: int) -> tuple[Any, Any]:
    """The gradients of a layer norm by x, scale and shift; the feeds."""
    rng = np.random.default_rng(0)
    shapes = ((batch, width), (width,), (width,), (batch, width))
    arrays = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    x, scale, shift, dy = (gc.placeholder(gc.float32, s) for s in shapes)
    y = gc.nn.layer_norm(x, scale, shift)
    return gc.gradients(y, [x, scale, shift], dy), dict(
        zip((x, scale, shift, dy), arrays, strict=True)
    )


def test_the_backward_of_a_layer_norm_reads_its_input_once() -> None:
    with gc.Graph().as_default():
        fetches, _ = layer_norm_step(4096, 256)
        report = gc.explain(fetches, device="numpy")
    assert [k.form for k in report.kernels] == ["fold", "row"]
    least = 3 * 4096 * 256 * 4
    moved = sum(k.reads_bytes + k.writes_bytes for k in report.kernels)
    assert least < moved < 1.2 * least
    assert {(u.reason, u.numbers["why"]) for u in report.unfused} == {
        ("SPACE", "sums of parts become one")
    }


def test_little_saving_is_refused() -> None:
    with gc.Graph().as_default():
        fetches, _ = layer_norm_step(64, 12)
        report = gc.explain(fetches, device="native")
    assert [k.form for k in report.kernels] == ["row", "row"]
    assert {u.reason for u in report.unfused} == {"NO_SAVING"}


@pytest.mark.parametrize("device", ["numpy", "native"])
@pytest.mark.parametrize(("batch", "width"), [(4096, 33), (1000, 70), (512, 4099), (704, 256)])
def test_gradients_agree_with_the_definition(device: str, batch: int, width: int) -> None:
    with gc.Graph().as_default(), gc.Session(device=device, threads=2) as session:
        fetches, feeds = layer_norm_step(batch, width)
        assert "fold" in {k.form for k in gc.explain(fetches, device=device).kernels}
        got = session.run(fetches, feeds)
    x, scale, _, dy = (a.astype(np.float64) for a in feeds.values())
    deviation = np.sqrt(x.var(1, keepdims=True) + 1e-5)
    hat, inner = (x - x.mean(1, keepdims=True)) / deviation, dy * scale
    dx = inner - inner.mean(1, keepdims=True) - hat * (inner * hat).mean(1, keepdims=True)
    for g, w in zip(got, (dx / deviation, (dy * hat).sum(0), dy.sum(0)), strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-4 * np.abs(w).max())


@pytest.mark.parametrize("device", ["numpy", "native"])
def test_threads_change_no_bit(device: str) -> None:
    results = []
    for threads in (1, 2):
        with gc.Graph().as_default(), gc.Session(device=device, threads=threads) as session:
            results.append(session.run(*layer_norm_step(2048, 65)))
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("device", ["numpy", "native"])
def test_nan_and_infinity_stay_in_their_columns(device: str) -> None:
    with gc.Graph().as_default(), gc.Session(device=device) as session:
        x = gc.placeholder(gc.float32, [2048, 40])
        along, down = gc.reduce_max(x, 1), [gc.reduce_sum(x, 0), gc.reduce_max(x, 0)]
        array = np.random.default_rng(1).standard_normal((2048, 40)).astype(np.float32)
        array[5, 3], array[2000, 7], array[9, 9] = np.nan, np.inf, -np.inf
        assert "fold" in {k.form for k in gc.explain([along, *down], device=device).kernels}
        got = session.run([along, *down], {x: array})
    with np.errstate(all="ignore"):
        want = [array.max(1), array.sum(0, dtype=np.float64), array.max(0)]
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, 1e-4, 1e-4)


def test_updates_follow_from_the_sums() -> None:
    """The variable's update stays in the commit region; its gradient is taken on the way."""
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        scale = gc.get_variable("scale", [48], gc.float32, initializer=gc.ones_initializer())
        x = gc.placeholder(gc.float32, [2048, 48])
        y = x * gc.rsqrt(gc.reduce_mean(gc.square(x), 1, keepdims=True)) * scale
        array = np.random.default_rng(1).standard_normal((2048, 48)).astype(np.float32)
        (dx,) = gc.gradients(gc.square(y), [x])
        step = gc.train.GradientDescentOptimizer(0.5).minimize(gc.reduce_sum(gc.square(y)) / 2048)
        report = gc.explain([dx, step], device="numpy")
        session.run(gc.global_variables_initializer())
        session.run([dx, step], {x: array})
        got = session.run(scale)
    assert "fold" in {k.form for k in report.kernels}
    unit = array / np.sqrt((array.astype(np.float64) ** 2).mean(1, keepdims=True))
    np.testing.assert_allclose(got, 1 - (unit**2).sum(0) / 2048, 1e-4, 1e-5)


# -- whatever is legal


def eager(target: Target) -> Target:
    return replace(target, folding=EAGER)


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_with_all_folds(seed: int) -> None:
    outputs, feeds = random_graph(chooser(seed), steps=24, backward=seed % 2 == 1)
    computation = cut(outputs, (), [n.outputs[0] for n in feeds])
    check(computation, feeds, 1e-9, 1e-9, target=eager(NUMPY))


@pytest.mark.parametrize("seed", range(12))
def test_random_updates_with_all_folds(seed: int) -> None:
    computation, arrays = random_program(chooser(seed), steps=16)
    check(computation, arrays, target=eager(NUMPY))


def column_sums(seed: int) -> tuple[list[Any], dict[Any, np.ndarray]]:
    """Rows and columns of one array summed up in several ways, with NaN and infinities in it."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 9, int(rng.integers(2, 5))))
    array = rng.standard_normal(shape)
    array.flat[rng.integers(0, array.size)] = rng.choice([np.nan, np.inf, 1.0])
    x = gc.placeholder(gc.float64, shape)
    axes = list(range(1, len(shape)))
    along = x - gc.reduce_max(x, axes, keepdims=True)
    kinds = (gc.reduce_sum, gc.reduce_max, gc.reduce_min, gc.reduce_prod)
    down = [kinds[int(rng.integers(4))](v, 0) for v in (x, along, gc.square(along))]
    return [along, *down, gc.reduce_any(along > 0, 0)], {x.node: array}


@pytest.mark.parametrize("make", [NumPyDevice, NativeDevice])
def test_back_ends_fold_alike(make: Any) -> None:
    device, settings, folds = make(), Settings(threads=2), 0
    for seed in range(25):
        with gc.Graph().as_default():
            outputs, given = column_sums(seed)
            computation = cut(outputs, (), [n.outputs[0] for n in given])
            program = compile_program(computation, Context(settings, eager(device.target)))
        verify_program(program)
        folds += any(k.form == "fold" for k in program.kernels)
        got = device.load(program, {}, settings).run(list(given.values()), 0)
        for g, w in zip(got, evaluate(computation.outputs, given), strict=True):
            np.testing.assert_allclose(g, w, 1e-9, 1e-9)
    assert folds > 12


def test_folds_in_files() -> None:
    """The loop IR with a fold, as JSON and back."""
    kernel = folded(rows(), sums()).rows
    assert Decoder({}).decode(Encoder().encode(kernel)).body == kernel.body

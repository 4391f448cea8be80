"""plan_memory and order: nothing alive shares bytes, results replace operands only where safe."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.ir import loop
from graphc.ir.computation import Computation, cut
from graphc.ir.dtypes import DType, bool_, float32, float64, int32, int64
from graphc.ir.errors import VerificationError
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.interpret import evaluate
from graphc.ir.loop import (
    Access,
    Apply,
    Axis,
    Buffer,
    Dot,
    Kernel,
    Let,
    Load,
    MemoryPlan,
    Program,
    Reduce,
    Ref,
    Store,
)
from graphc.ir.settings import Settings
from graphc.ir.table import OPS
from graphc.ir.verify import verify_plan, verify_program
from graphc.passes.context import Context
from graphc.passes.fuse import fuse
from graphc.passes.group_updates import group_updates
from graphc.passes.lower import lower
from graphc.passes.order import KernelGraph, depth_first, lives, most_freed, order
from graphc.passes.pipeline import Bodies, compile_program
from graphc.passes.plan_memory import (
    ALIGNMENT,
    find_slots,
    may_replace,
    peak_bytes,
    plan_memory,
)
from graphc.runtime.devices.native import NativeDevice
from graphc.runtime.devices.numpy import NumPyDevice
from tests.passes.program_checks import check, compiled
from tests.random_graphs import backward, chooser, random_graph

SIZE = 128


@pytest.fixture(autouse=True)
def fresh_graph() -> Iterator[None]:
    with Graph().as_default():
        yield


def load(buffer: str, stride: int = 1, offset: int = 0, dtype: DType = float32) -> Load:
    return Load((Access(buffer, (stride,), offset),), dtype)


def step(name: str, source: str, target: str, op: str = "exp", size: int = SIZE) -> Kernel:
    """target[i] = op(source[i])"""
    value = Apply(op, (load(source),), float32)
    body = (Let("v", value), Store(Access(target, (1,)), Ref("v", float32)))
    return Kernel(name, (Axis("i", size),), body)


def program_of(kernels: list[Kernel], sizes: dict[str, int] | None = None) -> Program:
    """Buffers by their names: x is the input, y the output, all else temporary."""
    names = dict.fromkeys(n for k in kernels for n in (*k.inputs, *k.outputs))
    roles = {"x": loop.INPUT, "y": loop.OUTPUT}
    buffers = {
        n: Buffer(n, float32, ((sizes or {}).get(n, SIZE),), roles.get(n, loop.TEMPORARY))
        for n in names
    }
    return Program(buffers, tuple(kernels), ("x",), ("y",), (), (), len(kernels))


def planned(program: Program) -> tuple[Program, MemoryPlan]:
    program = plan_memory(program, Context())
    assert program.plan is not None
    verify_plan(program)
    return program, program.plan


# -- in place


def test_chain_of_pointwise_kernels_needs_one_place() -> None:
    kernels = [step("a", "x", "t0"), step("b", "t0", "t1"), step("c", "t1", "t2"),
               step("d", "t2", "y")]  # fmt: skip
    _, plan = planned(program_of(kernels))
    assert plan.arena_bytes == plan.lower_bound == 512
    assert plan.naive_bytes == 3 * 512
    assert set(plan.offsets.values()) == {0}


def test_operand_read_later_keeps_its_place() -> None:
    kernels = [step("a", "x", "t0"), step("b", "t0", "t1"), step("c", "t1", "t2"),
               two_operands("d", "t0", "t2", "y")]  # fmt: skip
    _, plan = planned(program_of(kernels))
    assert plan.offsets["t0"] != plan.offsets["t1"] == plan.offsets["t2"]


def two_operands(name: str, a: str, b: str, target: str) -> Kernel:
    value = Apply("add", (load(a), load(b)), float32)
    body = (Let("v", value), Store(Access(target, (1,)), Ref("v", float32)))
    return Kernel(name, (Axis("i", SIZE),), body)


def replaces(body: list[loop.Stmt], axes: tuple[Axis, ...] = (Axis("i", SIZE),),
             new: DType = float32, old: DType = float32, size: int = SIZE) -> bool:  # fmt: skip
    kernel = Kernel("k", axes, tuple(body))
    buffers = {
        "t": Buffer("t", old, (size,), loop.TEMPORARY),
        "n": Buffer("n", new, (SIZE,), loop.TEMPORARY),
        "m": Buffer("m", float32, (SIZE,), loop.TEMPORARY),
        "a": Buffer("a", float32, (SIZE,), loop.INPUT),
    }
    return may_replace(Program(buffers, (kernel,), (), (), ()), kernel, "t", "n")


def put(buffer: str = "n", name: str = "v", stride: int = 1, offset: int = 0) -> Store:
    return Store(Access(buffer, (stride,), offset), Ref(name, float32))


def let(name: str, op: str, *args: loop.Expr, dtype: DType = float32) -> Let:
    return Let(name, Apply(op, args, dtype))


def test_result_may_replace_an_operand_read_at_its_own_places() -> None:
    assert replaces([let("v", "exp", load("t")), put()])
    assert replaces([let("w", "exp", load("t")), let("v", "exp", Ref("w", float32)), put()])
    assert replaces([let("v", "add", load("t"), load("t")), put()])
    assert replaces([Store(Access("n", (1,)), Apply("exp", (load("t"),), float32))])


NESTED = Apply("exp", (load("t"),), float32)
UNSAFE: dict[str, list[loop.Stmt]] = {
    "another order": [let("v", "exp", load("t", -1, SIZE - 1)), put()],
    "one element for all": [let("v", "exp", load("t", 0)), put()],
    "read after the result": [let("v", "exp", load("t")), put(), let("w", "tanh", load("t")),
                              put("m", "w")],
    "read after the let that may write": [
        let("v", "exp", load("a")), let("w", "tanh", load("t")), put(), put("m", "w"),
    ],
    "read twice in one expression": [let("v", "add", NESTED, load("t")), put()],
    "an alias of the operand": [Let("w", load("t")), let("v", "exp", load("a")), put(),
                                put("m", "w")],
    "stored in another order": [let("v", "exp", load("t")), put(stride=-1, offset=SIZE - 1)],
    "gathered": [
        Let("v", loop.Gather(Access("t", (0,)), Apply("cast", (load("a"),), int32), 1, SIZE,
                             float32)),
        put(),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", UNSAFE)
def test_result_may_not_replace(name: str) -> None:
    assert not replaces(UNSAFE[name])


def test_result_replaces_only_its_like() -> None:
    body: list[loop.Stmt] = [let("v", "exp", load("t")), put()]
    assert not replaces(body, size=SIZE + 1)
    assert not replaces(body, old=float64)
    assert not replaces(body, old=bool_, new=bool_)
    assert replaces(body, old=int32)


def test_operands_of_dots_are_left_alone() -> None:
    axes = (Axis("i", SIZE), Axis("k", 4, loop.REDUCE))

    def at(buffer: str, k: int = 0) -> Load:
        return Load((Access(buffer, (1, k)),), float32)

    store = Store(Access("n", (1, 0)), Ref("v", float32))
    dot = Dot("s", at("a", 1), at("a", 1), float32)
    assert replaces([dot, let("v", "add", Ref("s", float32), at("t")), store], axes)
    operand = Dot("s", at("a", 1), at("t"), float32)
    assert not replaces([operand, let("v", "exp", Ref("s", float32)), store], axes)


# -- in place along rows

ROW = (Axis("i", SIZE // 4), Axis("k", 4, loop.REDUCE))


def cell(buffer: str, i: int = 4, k: int = 1, offset: int = 0) -> Load:
    return Load((Access(buffer, (i, k), offset),), float32)


def cells(buffer: str = "n", name: str = "v") -> Store:
    return Store(Access(buffer, (4, 1)), Ref(name, float32))


TOTAL = Reduce("s", "sum", cell("t"), float32)
SHARE = let("v", "truediv", cell("t"), Ref("s", float32))


def test_a_row_replaces_the_row_that_it_is_computed_from() -> None:
    assert replaces([TOTAL, SHARE, cells()], ROW)
    # another result of the last walk, and a sum in it
    more = Reduce("m", "max", Ref("w", float32), float32)
    assert replaces([TOTAL, let("w", "exp", cell("t")), more, SHARE, cells(),
                     Store(Access("m", (1, 0)), Ref("m", float32))], ROW)  # fmt: skip
    fold = (Axis("p", 4), Axis("r", SIZE // 16, loop.FOLD), Axis("k", 4, loop.REDUCE))
    at, done = Load((Access("t", (32, 4, 1)),), float32), Access("n", (32, 4, 1))
    body: list[loop.Stmt] = [
        Reduce("s", "sum", at, float32), loop.Fold("f", "sum", at, float32),
        let("v", "truediv", at, Ref("s", float32)), Store(done, Ref("v", float32)),
        Store(Access("m", (4, 0, 1)), Ref("f", float32)),
    ]  # fmt: skip
    assert replaces(body, fold)
    body.insert(3, body.pop(1))  # the fold after the let that may write
    assert not replaces(body, fold)


UNSAFE_ROWS: dict[str, list[loop.Stmt]] = {
    "read by a later phase": [
        let("v", "exp", cell("t")), Reduce("s", "sum", Ref("v", float32), float32), cells(),
        let("w", "multiply", Ref("v", float32), Ref("s", float32)), cells("m", "w"),
    ],
    "read by a later sum, through a let": [
        Reduce("s", "sum", cell("a"), float32), let("w", "exp", cell("t")),
        let("v", "add", cell("a"), Ref("s", float32)), cells(),
        let("u", "multiply", Ref("w", float32), Ref("v", float32)),
        Reduce("q", "sum", Ref("u", float32), float32), let("z", "exp", Ref("q", float32)),
        let("last", "add", Ref("z", float32), Ref("w", float32)), cells("m", "last"),
    ],
    "read after the result": [
        TOTAL, SHARE, cells(), let("w", "multiply", cell("t"), Ref("s", float32)), cells("m", "w"),
    ],
    "another row": [
        TOTAL, let("v", "truediv", cell("t", -4, 1, SIZE - 4), Ref("s", float32)), cells(),
    ],
    "the first of the row": [TOTAL, let("v", "truediv", cell("t", 4, 0), Ref("s", float32)),
                             cells()],
    "turned round": [TOTAL, let("v", "truediv", cell("t", 4, -1, 3), Ref("s", float32)), cells()],
}  # fmt: skip


@pytest.mark.parametrize("name", UNSAFE_ROWS)
def test_a_row_may_not_replace(name: str) -> None:
    assert not replaces(UNSAFE_ROWS[name], ROW)


def test_what_is_stored_once_a_row_replaces_nothing() -> None:
    """Others that walk the same row may still read it."""
    per_row = Load((Access("t", (1, 0)),), float32)
    body = [Reduce("s", "sum", cell("a"), float32), let("v", "add", Ref("s", float32), per_row),
            Store(Access("n", (1, 0)), Ref("v", float32))]  # fmt: skip
    assert not replaces(body, (Axis("i", SIZE), Axis("k", 4, loop.REDUCE)))


def test_the_checker_knows_rows() -> None:
    """It takes a plan in which a row lies in its operand's place, but none of the unsafe ones."""

    def shared(body: list[loop.Stmt]) -> Program:
        made = [step("a", "x", "t"), Kernel("k", ROW, tuple(body)), step("b", "n", "y")]
        program = program_of([step("m", "x", "m"), *made, step("c", "m", "z")], {"a": SIZE})
        return program.replace(
            plan=MemoryPlan({"t": 0, "n": 0, "m": 512, "a": 1024, "z": 1536}, 2048)
        )

    verify_plan(shared([TOTAL, SHARE, cells()]))
    for body in UNSAFE_ROWS.values():
        with pytest.raises(VerificationError, match="share memory"):
            verify_plan(shared(body))


# -- in place on back ends


def gradient_of_cross_entropy(
    rows: int, classes: int
) -> tuple[list[Value], dict[Node, np.ndarray]]:
    """The gradient of a mean cross entropy by a weight; logits are a temporary, twice as long."""
    rng = np.random.default_rng(rows)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in ((rows, 7), (7, classes))]
    labels = rng.integers(0, classes, rows)
    x, w = (OPS["placeholder"](dtype=float32, shape=a.shape) for a in arrays)
    y = OPS["placeholder"](dtype=int64, shape=labels.shape)
    losses = OPS["sparse_softmax_cross_entropy"](y, OPS["matmul"](x, w))
    (gradient,) = backward(OPS["reduce_mean"](losses), [w])
    given = dict(zip((x.node, w.node, y.node), (*arrays, labels), strict=True))
    return [gradient], given


@pytest.mark.parametrize("make", [NumPyDevice, NativeDevice])
@pytest.mark.parametrize(("rows", "classes"), [(9, 5), (300, 33), (64, 5000), (3, 70000)])
def test_the_gradient_of_logits_lies_where_they_lay(make: Any, rows: int, classes: int) -> None:
    outputs, given = gradient_of_cross_entropy(rows, classes)
    computation = cut(outputs, (), [n.outputs[0] for n in given])
    device, settings = make(), Settings(threads=2)
    program = compile_program(computation, Context(settings, device.target))
    verify_program(program)
    assert program.plan is not None
    logits = rows * classes * 4
    assert logits <= program.plan.arena_bytes < 1.5 * logits + 4096
    want = evaluate(outputs, given)[0]
    executable = device.load(program, {}, settings)
    for _ in range(2):
        (got,) = executable.run([given[n] for n in computation.inputs], 0)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_explain_says_what_lies_in_whose_place() -> None:
    with gc.Graph().as_default():
        x, y = gc.placeholder(gc.float32, [64, 8]), gc.placeholder(gc.int64, [64])
        w = gc.get_variable("w", [8, 1000], gc.float32)
        losses = gc.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=gc.matmul(x, w))
        report = gc.explain(gc.gradients(gc.reduce_mean(losses), w), device="numpy")
    places = [b.place_of for b in report.peak if b.nbytes == 64 * 1000 * 4]
    assert places == ["", "MatMul"]
    assert "in the place of MatMul" in str(report)


# -- placement


def test_plan_checker_finds_an_overlap() -> None:
    kernels = [step("a", "x", "t0"), step("b", "x", "t1"), two_operands("c", "t0", "t1", "y")]
    program, plan = planned(program_of(kernels))
    broken = dataclasses.replace(plan, offsets=dict.fromkeys(plan.offsets, 0))
    with pytest.raises(VerificationError, match="share memory"):
        verify_plan(program.replace(plan=broken))
    outside = dataclasses.replace(plan, arena_bytes=plan.arena_bytes - 1)
    with pytest.raises(VerificationError, match="outside the arena"):
        verify_plan(program.replace(plan=outside))


def test_empty_buffers_and_programs_without_temporaries() -> None:
    kernels = [step("a", "x", "t0", size=0), step("b", "t0", "y", size=0)]
    _, plan = planned(program_of(kernels, {"t0": 0}))
    assert plan.arena_bytes == plan.lower_bound == 0
    _, plan = planned(program_of([step("a", "x", "y")]))
    assert plan == MemoryPlan({}, 0, 0, 0)


@pytest.mark.parametrize("seed", range(30))
def test_random_lives_are_placed_near_the_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kernels, made, sizes = [], ["x"], {"x": 7}
    for i in range(60):
        target = f"t{i}"
        sizes[target] = int(rng.integers(1, 40)) * 64
        sources = rng.choice(made[-12:], 2)
        kernels.append(reading(f"k{i}", [str(s) for s in sources], target, sizes))
        made.append(target)
    kernels.append(reading("last", [made[-1]], "y", {**sizes, "y": 1}))
    _, plan = planned(program_of(kernels, sizes))
    assert plan.lower_bound <= plan.arena_bytes <= 1.1 * plan.lower_bound
    assert all(at % ALIGNMENT == 0 for at in plan.offsets.values())


def reading(name: str, sources: list[str], target: str, sizes: dict[str, int]) -> Kernel:
    """target[i] = the sum of the sources' first elements"""
    value: loop.Expr = load(sources[0], 0)
    for source in sources[1:]:
        value = Apply("add", (value, load(source, 0)), float32)
    body = (Let("v", value), Store(Access(target, (1,)), Ref("v", float32)))
    return Kernel(name, (Axis("i", sizes.get(target, SIZE)),), body)


def test_peak_is_recorded() -> None:
    kernels = [step("a", "x", "t0"), step("b", "x", "t1"), two_operands("c", "t0", "t1", "y")]
    _, plan = planned(program_of(kernels))
    assert plan.peak_kernel in ("b", "c") and set(plan.peak) == {"t0", "t1"}


# -- order


def training(layers: int, width: int = 16) -> tuple[Computation, dict[Node, np.ndarray]]:
    x = OPS["placeholder"](dtype=float32, shape=(9, width), name="x")
    weights: list[Value] = []
    h = x
    for i in range(layers):
        shape = (width, width + 16 * (i % 3))
        w = OPS["variable"](dtype=float32, shape=(h.type.static_shape[1], shape[1]), name=f"w{i}")
        b = OPS["variable"](dtype=float32, shape=(shape[1],), name=f"b{i}")
        weights += [w, b]
        h = OPS["tanh"](OPS["matmul"](h, w) + b)
    loss = OPS["reduce_mean"](OPS["softmax"](h) * h)
    updates = [OPS["assign_sub"].node(v, g * 0.1)
               for v, g in zip(weights, backward(loss, weights), strict=True)]  # fmt: skip
    rng = np.random.default_rng(0)
    given = {
        v.node: rng.uniform(-0.3, 0.3, v.type.static_shape).astype(np.float32)
        for v in (x, *weights)
    }
    return cut([loss], updates, [x]), given


@pytest.mark.parametrize("layers", [1, 4, 12])
def test_training_graphs_stay_near_the_bound(layers: int) -> None:
    computation, given = training(layers)
    program, _ = check(computation, given, 1e-5, 1e-6)
    plan = program.plan
    assert plan is not None
    assert plan.lower_bound <= plan.arena_bytes <= 1.1 * plan.lower_bound
    assert plan.arena_bytes < plan.naive_bytes or layers == 1


def fused(computation: Computation) -> tuple[Program, Context]:
    ctx = Context(Settings(), pipeline=Bodies())
    return group_updates(fuse(lower(computation, ctx), ctx), ctx), ctx


def primitive(computation: Computation) -> Computation:
    from graphc.passes.decompose import decompose
    from graphc.passes.regions import regions
    from graphc.passes.specialize import specialize

    ctx = Context(pipeline=Bodies())
    return decompose(regions(specialize(computation, ctx), ctx), ctx)


def test_every_schedule_respects_what_must_come_first() -> None:
    program, _ = fused(primitive(training(5)[0]))
    graph = KernelGraph(program)
    for schedule in (most_freed(graph), depth_first(graph)):
        assert sorted(schedule) == list(range(program.commit))
        place = {k: i for i, k in enumerate(schedule)}
        assert all(place[w] < place[i] for i in schedule for w in graph.before[i])


def test_order_takes_the_lowest_peak() -> None:
    wide = [step(f"a{i}", "x", f"t{i}") for i in range(6)]
    narrow = [one_element(f"b{i}", f"t{i}", f"s{i}") for i in range(6)]
    last = reading("last", [f"s{i}" for i in range(6)], "y", {})
    program = program_of([*wide, *narrow, last], {f"s{i}": 1 for i in range(6)})
    ordered = order(program, Context())
    assert peak_bytes(program) == 6 * 512 + 256
    assert peak_bytes(ordered) == 512 + 6 * 256
    assert [k.name[:3] for k in ordered.kernels] == [f"k{i:02d}" for i in range(13)]


def one_element(name: str, source: str, target: str) -> Kernel:
    body = (Reduce("v", "sum", load(source), float32), Store(Access(target, (0,)),
            Ref("v", float32)))  # fmt: skip
    return Kernel(name, (Axis("i", SIZE, loop.REDUCE),), body)


@pytest.mark.parametrize("seed", range(25))
def test_order_never_raises_the_peak(seed: int) -> None:
    outputs, feeds = random_graph(chooser(seed), steps=25, backward=True)
    computation = primitive(cut(outputs, (), [n.outputs[0] for n in feeds]))
    program, ctx = fused(computation)
    assert peak_bytes(order(program, ctx)) <= peak_bytes(program)


def test_order_takes_of_equal_peaks_the_one_with_short_lives() -> None:
    # t1 is read at once or late: the peak, at which c writes t3, is the same
    sizes = {"t1": 64, "t2": 64, "t3": 640, "s": 1}
    kernels = [step("a", "x", "t1", size=64), step("b", "x", "t2", size=64),
               one_element("d", "t1", "s"), reading("c", ["t2"], "t3", sizes),
               reading("last", ["s", "t3"], "y", {})]  # fmt: skip
    late = [kernels[i] for i in (0, 1, 3, 2, 4)]
    program = order(program_of(late, sizes), Context())
    assert sum(lives(program)) <= sum(lives(program_of(kernels, sizes)))
    assert sum(lives(program)) < sum(lives(program_of(late, sizes)))


def test_sums_of_many_layers_stay_apart() -> None:
    program, _ = compiled(training(8)[0])  # the gradients of eight biases
    sums = [k for k in program.kernels if k.form == "row" and "sum_to_like" in k.name]
    assert sums and all(len(k.outputs) <= 2 for k in sums)


def test_decisions_follow_the_kernels_names() -> None:
    program, ctx = compiled(training(4)[0])
    names = {k.name for k in program.kernels}
    assert ctx.decisions
    assert {n for d in ctx.decisions for n in (d.producer, d.consumer)} <= names
    assert len(names) == len(program.kernels)


def test_slots_of_in_place_chains_are_one() -> None:
    kernels = [step("a", "x", "t0"), step("b", "t0", "t1"), step("c", "t1", "y")]
    (slot,) = find_slots(program_of(kernels))
    assert (slot.names, slot.first, slot.last) == (("t0", "t1"), 0, 2)

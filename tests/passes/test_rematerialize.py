"""rematerialize: programs fit into a budget, say what it costs, and give the same bits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import graphc as gc
from graphc.ir import loop
from graphc.ir.computation import Computation, cut
from graphc.ir.dtypes import bfloat16, float32
from graphc.ir.errors import MemoryBudgetError, SettingError
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.loop import Access, Apply, Axis, Buffer, Dot, Kernel, Let, Load, Program, Reduce
from graphc.ir.loop_text import format_kernel, format_program
from graphc.ir.settings import Settings
from graphc.passes.context import Context
from graphc.passes.manager import run_passes
from graphc.passes.pipeline import PIPELINE, Bodies
from graphc.passes.remat_slices import part_of
from graphc.passes.rematerialize import Rematerialized, rematerialize
from tests.passes.program_checks import Given, run
from tests.random_graphs import chooser, random_graph, random_program


@pytest.fixture(autouse=True)
def fresh_graph() -> Iterator[None]:
    with Graph().as_default():
        yield


# -- parts of kernels

N, K = 8, 5
BUFFERS = {
    n: Buffer(n, float32, shape, loop.TEMPORARY)
    for n, shape in {"x": (N, K), "w": (K,), "t": (N,), "u": (N,), "e": (N, K)}.items()
}
ROWS = (Axis("i", N), Axis("k", K, loop.REDUCE))


def at(buffer: str, *strides: int) -> Load:
    return Load((Access(buffer, strides),), float32)


def ref(name: str) -> loop.Ref:
    return loop.Ref(name, float32)


def let(name: str, op: str, *args: loop.Expr) -> Let:
    return Let(name, Apply(op, args, float32))


def store(buffer: str, name: str, *strides: int) -> loop.Store:
    return loop.Store(Access(buffer, strides), ref(name))


DENSE = Kernel(
    "k", ROWS,
    (
        Dot("d", at("x", K, 1), at("w", 0, 1), float32), store("t", "d", 1, 0),
        let("v", "tanh", ref("d")), store("u", "v", 1, 0),
    ),
)  # fmt: skip


def test_part_is_made_of_another_result() -> None:
    part = part_of(DENSE, {"u"}, {"t"}, BUFFERS)
    assert part is not None
    assert format_kernel(part).splitlines()[1:] == ["  v = tanh(t[i])", "  u[i] = v"]
    assert part.form == "flat" and part.sizes == (N,)


def test_part_is_made_of_the_inputs() -> None:
    part = part_of(DENSE, {"t"}, set(), BUFFERS)
    assert part is not None
    assert part.inputs == ("x", "w") and part.outputs == ("t",) and part.axes == ROWS
    assert part_of(DENSE, {"t", "u"}, set(), BUFFERS) is DENSE


def test_part_is_not_made_of_what_was_rounded_when_stored() -> None:
    rounded = {**BUFFERS, "t": Buffer("t", bfloat16, (N,), loop.TEMPORARY)}
    part = part_of(DENSE, {"u"}, {"t"}, rounded)
    assert part is not None and part.inputs == ("x", "w")


def test_rows_without_their_sum_are_parallel() -> None:
    softmax = Kernel(
        "k", ROWS,
        (
            let("v", "exp", at("x", K, 1)), store("e", "v", K, 1),
            Reduce("s", "sum", ref("v"), float32), store("t", "s", 1, 0),
        ),
    )  # fmt: skip
    part = part_of(softmax, {"e"}, set(), BUFFERS)
    assert part is not None
    assert [a.kind for a in part.axes] == [loop.PARALLEL, loop.PARALLEL]
    both = part_of(softmax, {"t"}, {"e"}, BUFFERS)
    assert both is not None and both.inputs == ("e",) and both.axes == ROWS


def test_part_of_sums_over_outer_axes_is_refused() -> None:
    axes = (Axis("k", K, loop.REDUCE), Axis("i", N))
    body = (
        Reduce("s", "sum", at("x", 1, K), float32), store("t", "s", 0, 1),
        let("v", "tanh", ref("s")), store("u", "v", 0, 1),
    )  # fmt: skip
    kernel = Kernel("k", axes, body)
    assert part_of(kernel, {"t"}, set(), BUFFERS) is None
    assert part_of(kernel, {"t", "u"}, set(), BUFFERS) is kernel
    part = part_of(kernel, {"u"}, {"t"}, BUFFERS)  # no sum is left in it
    assert part is not None and part.sizes == (N,)


def derivative(*stores: loop.Store) -> Kernel:
    """s = p * p, which goes into a sum (w = 1 - s) and elsewhere (v = exp(s))."""
    body = (
        let("s", "square", at("t", 1)), let("v", "exp", ref("s")),
        let("w", "subtract", loop.Const(1.0, float32), ref("s")), *stores,
    )  # fmt: skip
    return Kernel("k", (Axis("i", N),), body)


def test_part_in_which_a_product_could_be_contracted_is_refused() -> None:
    kernel = derivative(store("u", "v", 1), store("x", "w", 1))
    assert part_of(kernel, {"x"}, set(), BUFFERS) is None  # there is only 1 - s left
    part = part_of(kernel, {"u"}, set(), BUFFERS)  # exp(s) is no sum
    assert part is not None and part.outputs == ("u",)
    assert part_of(kernel, {"u", "x"}, set(), BUFFERS) is kernel
    stored = derivative(store("u", "s", 1), store("x", "w", 1))
    assert part_of(stored, {"x"}, set(), BUFFERS) is None
    given = part_of(stored, {"x"}, {"u"}, BUFFERS)
    assert given is not None and given.inputs == ("u",)


# -- the same bits within the budget


def compiled(
    computation: Computation, budget: int | None = None, fuse: bool = True
) -> tuple[Program, Context]:
    ctx = Context(Settings(memory_budget=budget, fuse=fuse), pipeline=Bodies())
    program = run_passes(PIPELINE, computation, ctx)
    assert isinstance(program, Program)
    return program, ctx


def arena(program: Program) -> int:
    assert program.plan is not None
    return program.plan.arena_bytes


def check_budgets(computation: Computation, given: Given, fuse: bool) -> int:
    """Results are the same bits under all budgets; how many of them fit."""
    free, _ = compiled(computation, fuse=fuse)
    expected = run(free, computation, given)
    fitted = 0
    for share in (0.9, 0.7, 0.5):
        budget = int(share * arena(free))
        try:
            program, _ = compiled(computation, max(budget, 1), fuse)
        except MemoryBudgetError:
            continue
        assert arena(program) <= budget
        for got, want in zip(run(program, computation, given), expected, strict=True):
            np.testing.assert_array_equal(got, want)
        fitted += arena(program) < arena(free)
    return fitted


@pytest.mark.parametrize("fuse", [True, False])
def test_random_graphs_forward_and_backward(fuse: bool) -> None:
    fitted = 0
    for seed in range(45):
        outputs, given = random_graph(chooser(seed), steps=14, exact=False, backward=True)
        computation = cut(outputs, (), [n.outputs[0] for n in given])
        with np.errstate(all="ignore"):
            fitted += check_budgets(computation, given, fuse)
    assert fitted >= 5  # or nothing was tested


def test_random_graphs_on_back_ends() -> None:
    for device, seeds in (("numpy", range(40)), ("native", (3, 19))):
        fitted = 0
        for seed in seeds:
            outputs, given = random_graph(chooser(seed), steps=16, exact=False, backward=True)
            fitted += check_on_device(outputs, {n.outputs[0]: a for n, a in given.items()}, device)
        assert fitted or device == "native"


def check_on_device(outputs: list[Value], feeds: dict, device: str) -> int:
    graph = outputs[0].node.graph
    try:
        free = gc.explain(outputs, feeds, device, graph)
    except gc.errors.DeviceError:
        return 0  # no compiler here
    results = []
    for budget in (None, max(free.arena_bytes * 9 // 10, 1)):
        with gc.Session(graph=graph, device=device, memory_budget=budget) as session:
            try:
                with np.errstate(all="ignore"):
                    results.append(session.run(outputs, feeds))
            except MemoryBudgetError:
                return 0
    for got, want in zip(results[1], results[0], strict=True):
        np.testing.assert_array_equal(got, want)
    return 1


@pytest.mark.parametrize("fuse", [True, False])
def test_random_programs_with_updates(fuse: bool) -> None:
    fitted = 0
    for seed in range(30):
        computation, given = random_program(chooser(seed), steps=14)
        with np.errstate(all="ignore"):
            fitted += check_budgets(computation, given, fuse)
    assert fitted >= 1


# -- training steps


def perceptron(depth: int = 8, width: int = 48, batch: int = 256) -> tuple[Value, Node, dict]:
    x = gc.placeholder(gc.float32, [batch, width], name="x")
    rng = np.random.default_rng(0)
    h = x
    for i in range(depth):
        w = gc.Variable(rng.normal(0, 0.2, (width, width)).astype(np.float32), name=f"w{i}")
        h = gc.nn.relu(gc.matmul(h, w) + gc.Variable(np.zeros(width, np.float32)))
        h = gc.nn.dropout(h, keep_prob=0.8)
    return trained(gc.reduce_mean(gc.square(h)), x, rng)


def network(blocks: int = 8, batch: int = 4) -> tuple[Value, Node, dict]:
    x = gc.placeholder(gc.float32, [batch, 12, 12, 8], name="x")
    rng = np.random.default_rng(0)
    h = x
    for i in range(blocks):
        w = gc.Variable(rng.normal(0, 0.1, (3, 3, 8, 8)).astype(np.float32), name=f"w{i}")
        h = gc.layers.batch_normalization(gc.nn.conv2d(h, w, 1, "SAME"), training=True)
        h = gc.nn.relu(h)
    return trained(gc.reduce_mean(gc.square(h)), x, rng)


def trained(loss: Value, x: Value, rng: np.random.Generator) -> tuple[Value, Node, dict]:
    step = gc.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
    return loss, step, {x: rng.normal(0, 1, x.shape.as_list()).astype(np.float32)}


def losses(
    loss: Value, step: Node, feeds: dict, budget: int | None, device: str
) -> list[np.ndarray]:
    with gc.Session(device=device, memory_budget=budget) as session:
        session.run(gc.global_variables_initializer())
        return [session.run([loss, step], feeds)[0] for _ in range(3)]


MODELS: dict[str, Callable[[], tuple[Value, Node, dict]]] = {
    "perceptron": perceptron, "network": network,
}  # fmt: skip


@pytest.mark.parametrize("device", ["numpy", "native"])
@pytest.mark.parametrize("model", MODELS)
def test_training_step_fits_into_half_of_its_arena(model: str, device: str) -> None:
    gc.set_random_seed(1)
    loss, step, feeds = MODELS[model]()
    free = gc.explain([loss, step], feeds, device)
    assert free.rematerialized is None
    budget = free.arena_bytes // 2
    report = gc.explain([loss, step], feeds, device, memory_budget=budget)
    assert report.arena_bytes <= budget
    cost = report.rematerialized
    assert isinstance(cost, Rematerialized)
    assert (cost.before_bytes, cost.after_bytes) == (free.arena_bytes, report.arena_bytes)
    assert 0 <= cost.extra_flops <= 0.6 * cost.total_flops
    assert cost.values and all(v.nbytes and v.op and "test_rematerialize" in v.where
                               for v in cost.values)  # fmt: skip
    assert f"arena {free.arena_bytes:,} -> {report.arena_bytes:,} bytes" in str(report)
    expected = losses(loss, step, feeds, None, device)
    assert losses(loss, step, feeds, budget, device) == expected
    assert len({float(v) for v in expected}) == 3


def test_passes_are_checked_under_a_budget() -> None:
    loss, step, feeds = perceptron(depth=4, width=8, batch=64)
    free = gc.explain([loss, step], feeds, "numpy")
    gc.explain([loss, step], feeds, "numpy", check_passes=True,
               memory_budget=free.arena_bytes * 7 // 10)  # fmt: skip


def test_less_is_computed_again_for_a_larger_budget() -> None:
    loss, step, feeds = perceptron()
    free = gc.explain([loss, step], feeds, "numpy")
    times = []
    for share in (90, 70, 50):
        budget = free.arena_bytes * share // 100
        cost = gc.explain([loss, step], feeds, "numpy", memory_budget=budget).rematerialized
        assert cost is not None
        times.append(cost.extra_s)
    assert times == sorted(times) and times[0] < times[2] / 2


def test_budget_that_is_met_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    loss, step, feeds = perceptron(depth=3)
    free = gc.explain([loss, step], feeds, "numpy")
    with caplog.at_level(logging.INFO, "graphc"):
        report = gc.explain([loss, step], feeds, "numpy", memory_budget=free.arena_bytes)
    assert format_program(report.program) == format_program(free.program)
    assert report.rematerialized is not None and not report.rematerialized.values
    assert "nothing had to be computed again" in caplog.text
    program = free.program
    assert rematerialize(program, Context()) is program


def test_cost_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    loss, step, feeds = perceptron(depth=4)
    free = gc.explain([loss, step], feeds, "numpy")
    with caplog.at_level(logging.INFO, "graphc"):
        losses(loss, step, feeds, free.arena_bytes * 3 // 4, "numpy")
    assert f"arena {free.arena_bytes:,} -> " in caplog.text and "operations more" in caplog.text


def test_budget_that_cannot_be_met_is_refused_with_the_least_one() -> None:
    loss, step, feeds = perceptron()
    with pytest.raises(MemoryBudgetError) as refusal:
        losses(loss, step, feeds, 1000, "numpy")
    text = str(refusal.value)
    assert "memory_budget=1,000 bytes" in text and "test_rematerialize.py:" in text
    assert "float32[256, 48] (49,152 bytes)" in text
    least = int(text.split("Give a budget of ")[1].split()[0])
    report = gc.explain([loss, step], feeds, "numpy", memory_budget=least)
    assert report.arena_bytes <= least
    with pytest.raises(MemoryBudgetError):
        gc.explain([loss, step], feeds, "numpy", memory_budget=least // 2)


def test_loops_keep_what_they_read() -> None:
    x = gc.placeholder(gc.float32, [6, 64], name="x")
    w = gc.Variable(np.eye(64, dtype=np.float32) * 0.5)
    rows = gc.exp(gc.sin(x))
    last = gc.scan(lambda h, row: gc.tanh(gc.matmul(h, w) + row), rows, gc.zeros([1, 64]))
    loss = gc.reduce_sum(last * gc.reduce_sum(rows))
    (grad,) = gc.gradients(loss, [w])
    feeds = {x: np.linspace(-1, 1, 6 * 64, dtype=np.float32).reshape(6, 64)}
    free = gc.explain([loss, grad], feeds, "numpy")
    budgets = [free.arena_bytes * share // 100 for share in (95, 80, 60)]
    results = []
    for budget in (None, *budgets):
        with gc.Session(device="numpy", memory_budget=budget) as session:
            session.run(gc.global_variables_initializer())
            try:
                results.append(session.run([loss, grad], feeds))
            except MemoryBudgetError as refusal:
                assert "is not enough" in refusal.message
    for got in results[1:]:
        np.testing.assert_array_equal(got[0], results[0][0])
        np.testing.assert_array_equal(got[1], results[0][1])


# -- the setting


def test_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().memory_budget is None
    monkeypatch.setenv("GRAPHC_MEMORY_BUDGET", "4096")
    assert Settings.from_environment().memory_budget == 4096
    monkeypatch.setenv("GRAPHC_MEMORY_BUDGET", "0")
    with pytest.raises(SettingError, match="GRAPHC_MEMORY_BUDGET"):
        Settings.from_environment()
    for wrong in (0, -1, "1 GB", 1.5, True):
        with pytest.raises(SettingError, match="memory_budget"):
            Settings(memory_budget=wrong)  # type: ignore[arg-type]


# -- where the memory goes


def test_report_names_the_peak_with_ops_and_lines() -> None:
    loss, step, feeds = perceptron(depth=4)
    report = gc.explain([loss, step], feeds, "numpy")
    assert report.peak_kernel in {k.name for k in report.kernels}
    assert sum(b.nbytes for b in report.peak) >= report.arena_lower_bound
    sizes = [b.nbytes for b in report.peak]
    assert sizes == sorted(sizes, reverse=True)
    largest = report.peak[0]
    assert largest.shape == "float32[256, 48]" and "test_rematerialize.py:" in largest.where
    text = str(report)
    assert f"fullest at {report.peak_kernel}, with" in text and str(largest) in text

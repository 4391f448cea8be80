"""fuse: what must become one kernel, and for every reason a case in which it must refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphc.ir import loop
from graphc.ir.computation import cut
from graphc.ir.dtypes import float32
from graphc.ir.graph import Graph, Node, Value, convert
from graphc.ir.loop import Program
from graphc.ir.loop_text import format_program
from graphc.ir.ops.pointwise import where
from graphc.ir.table import OPS, Kind, NoGradient, Op, register
from graphc.passes.context import Context
from graphc.passes.manager import run_passes
from graphc.passes.pipeline import PIPELINE
from graphc.passes.target import NUMPY
from tests.passes.program_checks import (
    check,
    check_values,
    compiled,
    kernel_forms,
    only_kernel,
    reasons,
)
from tests.random_graphs import backward

exp, tanh, total, mean = OPS["exp"], OPS["tanh"], OPS["reduce_sum"], OPS["reduce_mean"]


@pytest.fixture(autouse=True)
def fresh_graph() -> Iterator[None]:
    with Graph().as_default():
        yield


def placeholder(*shape: int, name: str = "x") -> Value:
    return OPS["placeholder"](dtype=float32, shape=shape, name=name)


def variable(*shape: int, name: str = "v") -> Value:
    return OPS["variable"](dtype=float32, shape=shape, name=name)


def arrays_for(values: Sequence[Value], seed: int = 0) -> dict[Node, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {v.node: np.asarray(rng.uniform(-1, 1, v.type.static_shape), np.float32) for v in values}


Make = Callable[..., "Value | list[Value]"]


def layer_norm(x: Value, scale: Value, shift: Value) -> Value:
    centred = x - mean(x, axis=(1,), keepdims=True)
    variance = mean(centred * centred, axis=(1,), keepdims=True)
    return centred * OPS["rsqrt"](variance + 1e-5) * scale + shift


def loss_and_gradient(x: Value, y: Value) -> list[Value]:
    loss = OPS["softmax_cross_entropy"](x, y)
    return [loss, *backward(mean(loss), [x])]


def batch_norm(x: Value) -> Value:
    centred = x - mean(x, axis=(0, 1, 2), keepdims=True)
    variance = mean(centred * centred, axis=(0, 1, 2), keepdims=True)
    return centred * OPS["rsqrt"](variance + 1e-3)


def stencil(x: Value) -> Value:
    y = x * 2.0 + 1.0
    return y[1:] + y[:-1]


def heads(x: Value, bias: Value) -> list[Value]:
    y = x + bias
    return [tanh(y[:, :3]), exp(y[:, 3:])]


ONE_KERNEL: dict[str, tuple[Make, list[tuple[int, ...]], str]] = {
    "softmax": (lambda x: OPS["softmax"](x), [(7, 5)], "row"),
    "softmax_of_columns": (lambda x: OPS["softmax"](x, axis=0), [(7, 5)], "row"),
    "layer_norm": (layer_norm, [(7, 5), (5,), (5,)], "row"),
    "cross_entropy_with_gradient": (loss_and_gradient, [(7, 5), (7, 5)], "row"),
    "chain": (lambda x, b: exp(tanh(x) + b) * 2.0, [(7, 5), (5,)], "flat"),
    "transposes": (
        lambda x, y: OPS["transpose"](exp(x)) + tanh(OPS["transpose"](y) * 2.0),
        [(7, 5), (7, 5)], "flat",
    ),
    "reshape_between": (
        lambda x: exp(OPS["reshape"](tanh(x), shape=(5, 4, 3))), [(5, 12)], "flat",
    ),
    "reshape_that_joins": (
        lambda x: exp(OPS["reshape"](tanh(x), shape=(-1,))), [(5, 4, 3)], "flat",
    ),
    "row_with_producers_and_consumers": (
        lambda x, s: total(exp(x * s), axis=(1,)) * 2.0 + 1.0, [(7, 5), (7, 1)], "row",
    ),
    "producer_that_broadcasts_along_the_row": (
        lambda x, s: [total(x * exp(s), axis=(1,)), exp(s)], [(7, 5), (7, 1)], "row",
    ),
    "column_sums": (lambda x: total(exp(x), axis=(0,)), [(7, 5)], "row"),
    "batch_norm": (batch_norm, [(4, 3, 3, 5)], "row"),
    "full_reduction": (
        lambda x: OPS["sqrt"](total(x * x) * 0.5 + 1.0), [(4, 3, 5)], "row",
    ),
    "siblings": (lambda x: [exp(x), tanh(x) * 2.0, total(x, axis=(1,))], [(7, 5)], "row"),
    "bias_and_activation": (
        lambda x, w, b: OPS["relu"](OPS["matmul"](x, w) + b), [(7, 5), (5, 3), (3,)], "dot",
    ),
    "epilogue_with_two_results": (
        lambda x, w: (lambda y: [y, tanh(y)])(OPS["matmul"](x, w)), [(7, 5), (5, 3)], "dot",
    ),
    "prologue": (lambda x, w: OPS["matmul"](tanh(x), w), [(7, 5), (5, 3)], "dot"),
    "prologue_through_a_transpose": (
        lambda x, w: OPS["matmul"](OPS["transpose"](tanh(x)), w), [(5, 7), (5, 3)], "dot",
    ),
    "prologue_of_a_slice": (
        lambda x, w: OPS["matmul"](tanh(x)[:, 1:6], w), [(4, 7), (5, 3)], "dot",
    ),
    "slice_of_a_producer": (lambda x: tanh(exp(x)[1:, ::2]), [(7, 5)], "flat"),
    "flip_of_a_producer": (lambda x: tanh(exp(x)[::-1]), [(7, 5)], "flat"),
    "stencil": (stencil, [(9,)], "flat"),
    "sum_of_a_slice": (lambda x: total(exp(x)[2:], axis=(1,)), [(7, 5)], "row"),
    "concatenation_read_in_place": (
        lambda x, y: exp(OPS["concat"](x, y, axis=1)) + 1.0, [(3, 4), (3, 2)], "flat",
    ),
    "scalars": (lambda x, y: exp(x) * y + total(x), [(), ()], "flat"),
    "one_element": (
        lambda x: OPS["softmax"](x) + total(x, axis=(1,), keepdims=True), [(1, 1)], "flat",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ONE_KERNEL)
def test_one_kernel(name: str) -> None:
    make, shapes, form = ONE_KERNEL[name]
    inputs = [placeholder(*s, name=f"in{i}") for i, s in enumerate(shapes)]
    made = make(*inputs)
    outputs = made if isinstance(made, list) else [made]
    program, ctx = check_values(outputs, arrays_for(inputs))
    assert only_kernel(program).form == form
    assert [d for d in ctx.decisions if d.buffer] == []
    assert program.plan is not None and program.plan.arena_bytes == 0


def test_nan_and_infinities_pass_through_fused_rows() -> None:
    x = placeholder(4, 3)
    array = np.array([[1, np.nan, 2], [np.inf, 0, 1], [-np.inf, 1, 2], [-np.inf] * 3], np.float32)
    outputs = [OPS["softmax"](x), OPS["reduce_max"](x, axis=(1,)), OPS["maximum"](x, exp(x))]
    program, _ = check_values(outputs, {x.node: array})
    only_kernel(program)


def test_empty_tensors() -> None:
    x = placeholder(0, 3)
    outputs = [exp(x) + 1.0, total(exp(x), axis=(0,)), total(x, axis=(1,))]
    outputs += [OPS["matmul"](x, OPS["transpose"](x)), OPS["matmul"](OPS["transpose"](x), x)]
    check_values(outputs, {x.node: np.zeros((0, 3), np.float32)})


def test_cheap_producer_is_computed_in_each_reader() -> None:
    x, bias = placeholder(6, 8), placeholder(8, name="b")
    program, _ = check_values(heads(x, bias), arrays_for([x, bias]))
    assert len(program.kernels) == 2
    assert all(b.role != loop.TEMPORARY for b in program.buffers.values())


def test_costly_producer_is_stored_once() -> None:
    x = placeholder(6, 8)
    y = tanh(exp(x) * OPS["sin"](x))
    program, ctx = check_values([tanh(y[:, :3]), exp(y[:, 3:])], arrays_for([x]))
    assert len(program.kernels) == 3 and reasons(ctx) == {"SPACE"}


# -- refusals


def needs_both(x: Value, w: Value) -> Value:
    """exp(x) feeds a dot, on which its second reader waits."""
    y = exp(x)
    return OPS["softmax"](OPS["matmul"](y, w)) * y


def too_long(x: Value, *others: Value) -> Value:
    for other in others:
        x = x + tanh(other)
    return x


def rows_then_columns(x: Value) -> Value:
    rows = exp(x) / total(exp(x), axis=(1,), keepdims=True)
    return total(rows, axis=(0,))


REFUSED: dict[str, tuple[Make, list[tuple[int, ...]]]] = {
    "CYCLE": (needs_both, [(4, 4), (4, 4)]),
    "SPACE": (rows_then_columns, [(7, 5)]),
    "NON_AFFINE": (
        lambda x: OPS["pad"](exp(x), low=(1,), high=(0,), interior=(0,)) * 2.0, [(7,)],
    ),
    "TWO_DOTS": (
        lambda x, w: OPS["matmul"](OPS["matmul"](x, w), w), [(7, 5), (5, 5)],
    ),
    "REDUCE_AFTER_DOT": (lambda x, w: OPS["softmax"](OPS["matmul"](x, w)), [(7, 5), (5, 3)]),
    "TOO_BIG": (too_long, [(5,)] * 40),
    "RECOMPUTE": (
        lambda x, y: tanh(total(x, axis=(1,), keepdims=True)) * OPS["reshape"](y, shape=(1, -1)),
        [(7, 5), (9,)],
    ),
    "PROLOGUE": (
        lambda x, w: OPS["matmul"](tanh(exp(x) * OPS["sin"](x) + OPS["cos"](x) * 3.0), w),
        [(7, 5), (5, 3)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_refused(reason: str) -> None:
    make, shapes = REFUSED[reason]
    inputs = [placeholder(*s, name=f"in{i}") for i, s in enumerate(shapes)]
    made = make(*inputs)
    program, ctx = check_values(made if isinstance(made, list) else [made], arrays_for(inputs))
    assert len(program.kernels) > 1
    assert reason in reasons(ctx), ctx.decisions
    names = {k.name for k in program.kernels}
    for decision in ctx.decisions:
        assert decision.producer in names and decision.consumer in names
        assert decision.numbers["bytes"] == program.buffers[decision.buffer].nbytes


def test_two_operands_from_one_producer_is_refused() -> None:
    x = placeholder(4, 4)
    y = tanh(x)
    _, ctx = check_values([OPS["matmul"](y, y)], arrays_for([x]))
    assert [d.reason for d in ctx.decisions] == ["PROLOGUE"]


def test_limits_are_the_targets() -> None:
    x = placeholder(5)
    computation = cut([tanh(exp(tanh(exp(x))))], (), [x])
    ctx = Context(target=replace(NUMPY, max_kernel_statements=3))
    program = run_passes(PIPELINE, computation, ctx)
    assert len(program.kernels) > 1 and reasons(ctx) == {"TOO_BIG"}


def _reversed_type(types: Any, attrs: Any) -> Any:
    return types[0]


def test_library_call_is_refused() -> None:
    name = "reversed_for_test_fuse"
    op = OPS.get(name) or register(
        Op(name, Kind.OPAQUE, _reversed_type, numpy=lambda attrs, x: np.flip(x).copy(),
           grad=NoGradient("a test")),
    )  # fmt: skip
    try:
        x = placeholder(3, 5)
        program, ctx = check_values([tanh(op(exp(x)))], arrays_for([x]))
        assert kernel_forms(program) == {"flat": 2, "call": 1}
        assert reasons(ctx) == {"OPAQUE"}
    finally:
        del OPS[name]


# -- updates of variables


def assign(target: Value, value: Value) -> Node:
    return OPS["assign"].node(target, value)


def commits(program: Program) -> tuple[loop.Kernel, ...]:
    return program.kernels[program.commit :]


def sgd(v: Value, g: Value) -> list[Node]:
    return [OPS["assign_sub"].node(v, g * 0.1)]


def momentum(v: Value, g: Value) -> list[Node]:
    m = variable(*v.type.static_shape, name="m_" + v.node.name)
    new = m * 0.9 + g
    return [assign(m, new), assign(v, v - new * 0.1)]


def adam(v: Value, g: Value) -> list[Node]:
    m, s = (variable(*v.type.static_shape, name=n + v.node.name) for n in ("m_", "s_"))
    m_new, s_new = m * 0.9 + g * 0.1, s * 0.999 + g * g * 0.001
    step = m_new / (OPS["sqrt"](OPS["abs"](s_new)) + 1e-8)
    return [assign(m, m_new), assign(s, s_new), assign(v, v - step * 1e-3)]


@pytest.mark.parametrize("rule", [sgd, momentum, adam])
def test_updates_commit_in_one_kernel(rule: Callable[[Value, Value], list[Node]]) -> None:
    x = placeholder(8, 5)
    variables = [variable(5, 4, name="w1"), variable(4, 3, name="w2")]
    y = tanh(OPS["matmul"](tanh(OPS["matmul"](x, variables[0])), variables[1]))
    loss = mean(y * y)
    updates = [u for v, g in zip(variables, backward(loss, variables), strict=True)
               for u in rule(v, g)]  # fmt: skip
    computation = cut([loss], updates, [x])
    program, _ = check(computation, arrays_for([n.outputs[0] for n in computation.variables]
                       + [x]), 2e-5, 1e-6)  # fmt: skip
    (group,) = commits(program)
    assert group.form == "group" and len(group.parts) == 2
    assert set(group.outputs) == set(program.updates)
    for part in group.parts:
        stores = {s.access.buffer: s.access for s in part.body if isinstance(s, loop.Store)}
        assert set(stores) <= set(part.inputs), "updated in place"


def test_groups_have_a_bounded_number_of_parts() -> None:
    variables = [variable(3, name=f"w{i}") for i in range(70)]
    computation = cut([], [assign(v, v * 0.5) for v in variables])
    program, _ = check(computation, arrays_for(variables))
    assert [len(k.parts) for k in program.kernels] == [32, 32, 6]


def test_dependent_updates_are_not_parts_of_one_group() -> None:
    a, b, c = (variable(4, 4, name=n) for n in "abc")
    updates = [assign(a, OPS["transpose"](b)), assign(b, b * 2.0), assign(c, c + 1.0)]
    program, _ = check(cut([], updates), arrays_for([a, b, c]))
    for kernel in commits(program):
        for part in kernel.parts:
            others = [p for p in kernel.parts if p is not part]
            assert not any(set(part.outputs) & {*p.inputs, *p.outputs} for p in others)


def test_fence_keeps_what_is_needed_early_out_of_commits() -> None:
    v = variable(6, 5)
    x = placeholder(6, 5)
    g = tanh(x) * 0.1
    program, ctx = check(cut([g, total(g)], [assign(v, v - g)], [x]), arrays_for([v, x]), 1e-6)
    assert len(commits(program)) == 1
    assert "FENCE" in reasons(ctx)


def test_what_reads_a_variable_for_others_stays_out_of_its_update() -> None:
    """Together they would pass over the variable once, but all products would wait for it."""
    v, u, x = variable(5, 5, name="v"), variable(5, 5, name="u"), placeholder(5, 5)
    t, matmul = tanh(v), OPS["matmul"]
    updates = [assign(v, v - x * 0.1), assign(u, u - (matmul(x, t) + matmul(t, x)))]
    program, _ = check(cut([], updates, [x]), arrays_for([v, u, x]), 1e-5)
    late = program.kernels[program.commit :]
    assert sum(k.form == "dot" for k in program.kernels[: program.commit]) == 2
    assert {n for k in late for n in k.outputs} == set(program.updates)


def test_update_after_a_reduction_stays_apart() -> None:
    v, x = variable(5), placeholder(6, 5)
    program, ctx = check(cut([], [assign(v, v - total(x, axis=(0,)))], [x]),
                         arrays_for([v, x]), 1e-6)  # fmt: skip
    assert [k.form for k in program.kernels] == ["row", "flat"]
    assert reasons(ctx) == {"UPDATE"}


def test_hazard_of_a_transposed_read() -> None:
    v = variable(4, 4)
    program, ctx = check(cut([], [assign(v, tanh(OPS["transpose"](v)))]), arrays_for([v]))
    assert len(program.kernels) == 2 and reasons(ctx) == {"HAZARD"}


def test_scalars_for_all_updates_stay_in_a_kernel_of_their_own() -> None:
    t = variable(name="t")
    variables = [variable(5, name=f"w{i}") for i in range(3)]
    rate = OPS["sqrt"](OPS["pow"](convert(0.9, float32), t)) * 0.1
    updates = [assign(v, v * rate) for v in variables] + [assign(t, t + 1.0)]
    program, _ = check(cut([], updates), arrays_for([*variables, t]), 1e-6)
    assert any(k.space == 1 and rate.node.name in k.covers for k in program.kernels)


# -- the record


def test_result_does_not_depend_on_anything_but_the_program() -> None:
    def build() -> str:
        with Graph().as_default():
            x, y = placeholder(7, 5), placeholder(7, 5, name="y")
            outputs = loss_and_gradient(where(OPS["less"](x, y), x, y), y)
            return format_program(compiled(cut(outputs, (), [x, y]))[0])

    assert build() == build()


def test_kernels_are_named_after_position_and_ops() -> None:
    x, w = placeholder(7, 5), placeholder(5, 3, name="w")
    y = OPS["matmul"](x, w, name="dense/matmul")
    z = OPS["softmax"](y + 1.0, name="answer")
    program, _ = compiled(cut([z], (), [x, w]))
    assert [k.name for k in program.kernels] == ["k00_dense_matmul_add", "k01_answer"]


def test_many_readers_of_one_value() -> None:
    x = placeholder(5, 3)
    y = tanh(x)
    outputs = [y * float(i) + total(y) for i in range(40)]
    program, _ = check_values(outputs, arrays_for([x]))
    assert len(program.kernels) <= 6

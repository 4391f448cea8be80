"""condense: fewer bytes stored for others; before -> after, each refusal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import graphc as gc
from graphc.ir.dtypes import bfloat16, float32
from graphc.ir.loop import REDUCE, VARIABLE, Axis, Dot, Kernel, Let, Program, Ref, Store
from graphc.ir.settings import Settings
from graphc.passes.condense import condense
from graphc.passes.context import Context, Decision
from graphc.passes.target import CPU, GPU, NUMPY, Target
from tests.passes.program_checks import check_same_bits, count_changed
from tests.passes.test_merge import F, apply, at, buffers, load
from tests.passes.test_sink import FLAT, PRODUCT, K, M, N, cell, point, program, text

MADE = buffers(
    x0=(M, K), x1=(K, N), x2=(M, N), x3=(N,), t=(M, N), u=(M, N), w=(M, N), y1=(M, N), y2=(M, N)
)  # fmt: skip
T, U = Store(at("t", N, 1, 0), Ref("e", F)), Store(at("u", N, 1, 0), Ref("q", F))


def first(*body: Any) -> Kernel:
    """z = x0 @ x1 + x3, and what is made of it."""
    axes = (*FLAT, Axis("i2", K, REDUCE))
    added = Let("z", apply("add", Ref("v", F), load("x3", 0, 1, 0)))
    return Kernel("first", axes, (PRODUCT, added, *body), ("first",))


def activation(function: str = "exp") -> Kernel:
    """t = exp(z), u = z * x2, y1 = z - 1."""
    return first(
        Let("e", apply(function, Ref("z", F))), T,
        Let("q", apply("multiply", Ref("z", F), load("x2", N, 1, 0))), U,
        Store(at("y1", N, 1, 0), apply("add", Ref("z", F), Ref("z", F))),
    )  # fmt: skip


BOTH = apply("add", apply("multiply", cell("t"), cell("u")), cell("x2"))


def of(*kernels: Kernel, made: Any = None, **changes: Any) -> Program:
    return program(*kernels, made=made or MADE, **changes)


def condensed(before: Program, target: Target = GPU, ctx: Context | None = None) -> Program:
    """The program after the pass, which gives the same bits."""
    after = condense(before, ctx or Context(target=target))
    check_same_bits(before, after)
    return after


def test_one_value_in_the_place_of_several() -> None:
    after = condensed(of(activation(), point(BOTH, "y2")))
    assert text(after, 0) == [
        "v = dot x0[4*i0 + i2], x1[i1 + 8*i2]",
        "z = add(v, x3[i1])",
        "t_from[8*i0 + i1] = z",
        "y1[8*i0 + i1] = add(z, z)",
    ]
    assert text(after, 1)[:2] == [
        "q = multiply(t_from[8*i0 + i1], x2[8*i0 + i1])", "e = exp(t_from[8*i0 + i1])",
    ]  # fmt: skip
    assert not {"t", "u"} & set(after.buffers) and after.buffers["t_from"].shape == (M, N)


def test_the_last_of_the_values_that_serve() -> None:
    """s = z * z is what both are made of: z would leave more to compute again."""
    square = Let("s", apply("multiply", Ref("z", F), Ref("z", F)))
    body = (
        square, Let("e", apply("exp", Ref("s", F))), T,
        Let("q", apply("negative", Ref("s", F))), U,
        Store(at("y1", N, 1, 0), Ref("z", F)),
    )  # fmt: skip
    after = condensed(of(first(*body), point(BOTH, "y2")))
    assert "t_from[8*i0 + i1] = s" in text(after, 0)


def test_a_narrow_value_in_the_place_of_a_wide_one() -> None:
    made = {n: replace(b, dtype=float32) for n, b in MADE.items()}

    def wide(name: str, *strides: int) -> Any:
        return replace(load(name, *strides), dtype=float32)

    half = apply("cast", Ref("v", float32), dtype=bfloat16)
    body = (
        Dot("v", wide("x0", K, 0, 1), wide("x1", 0, 1, N), float32),
        Let("e", apply("cast", half, dtype=float32)),
        Store(at("t", N, 1, 0), Ref("e", float32)),
    )  # fmt: skip
    kernel = Kernel("first", (*FLAT, Axis("i2", K, REDUCE)), body, ("first",))
    value = apply("add", wide("t", N, 1), wide("x2", N, 1), dtype=float32)
    last = Kernel("last", FLAT, (Store(at("y2", N, 1), value),), ("last",))
    for target in (CPU, GPU, NUMPY):
        after = condensed(of(kernel, last, made=made), target)
        assert after.buffers["t_from"].dtype is bfloat16 and "t" not in after.buffers
        assert text(after, 1)[0] == "e = cast<float32>(t_from[8*i0 + i1])"


def test_twins_are_stored_once() -> None:
    """A product may take them as operands: nothing is computed again."""
    again = Let("q", apply("exp", Ref("z", F)))
    twins = first(Let("e", apply("exp", Ref("z", F))), T, again, U)
    axes = (Axis("i0", M), Axis("i1", M), Axis("i2", N, REDUCE))
    gram = Dot("r", load("t", N, 0, 1), load("u", 0, N, 1), F)
    reader = Kernel("reader", axes, (gram, Store(at("y3", M, 1, 0), Ref("r", F))))
    after = condensed(of(twins, reader, made=MADE | buffers(y3=(M, M))))
    assert after.kernels[0].outputs == ("t",) and after.kernels[1].inputs == ("t",)
    assert len(after.kernels[0].body) == 4


def test_decisions_follow() -> None:
    ctx = Context(target=GPU)
    ctx.decisions.append(Decision("first", "point", "t", "SPACE", {"bytes": 1}))
    after = condensed(of(activation(), point(BOTH, "y2")), ctx=ctx)
    (found,) = ctx.decisions
    assert found.buffer == "t_from" and found.numbers["bytes"] == M * N * 8
    assert (found.producer, found.consumer) == tuple(k.name for k in after.kernels)


# -- refusals


def refused(before: Program, target: Target = GPU) -> None:
    assert condensed(before, target) is before


def two(function: str) -> Program:
    """t = f(z), u = f(-z)."""
    turned = apply(function, apply("negative", Ref("z", F)))
    made = first(Let("e", apply(function, Ref("z", F))), T, Let("q", turned), U)
    return of(made, point(apply("subtract", cell("t"), cell("u")), "y2"))


def test_what_costs_more_than_its_bytes_stays() -> None:
    refused(two("erf"), CPU)
    assert condensed(two("erf"), GPU).kernels[0].outputs == ("t_from",)
    assert condensed(two("abs"), CPU).kernels[0].outputs == ("t_from",)


def test_what_the_target_does_not_compute_again_stays() -> None:
    refused(two("erf"), replace(GPU, recomputed_flops=10.0))
    refused(two("erf"), NUMPY)


def test_one_value_of_equal_width_stays() -> None:
    body = Let("e", apply("exp", Ref("z", F))), T
    refused(of(first(*body), point(apply("add", cell("t"), cell("x2")), "y2")))


def test_operands_of_products_stay() -> None:
    axes = (Axis("i0", M), Axis("i1", M), Axis("i2", N, REDUCE))
    gram = Dot("r", load("t", N, 0, 1), load("u", 0, N, 1), F)
    reader = Kernel("reader", axes, (gram, Store(at("y3", M, 1, 0), Ref("r", F))))
    before = of(activation(), reader, made=MADE | buffers(y3=(M, M)))
    refused(before)


def test_outputs_and_what_commits_read_stay() -> None:
    kernels = activation(), point(BOTH, "y2")
    fetched = of(*kernels)
    refused(fetched.replace(outputs=("t", "u", *fetched.outputs)))
    late = of(*kernels, commit=1)
    assert condense(late, Context(target=GPU)) is late


def test_variables_stay() -> None:
    made = dict(MADE)
    for name in ("t", "u"):
        made[name] = replace(made[name], role=VARIABLE)
    before = of(activation(), point(BOTH, "y2"), made=made, commit=2)
    assert condense(before, Context(target=GPU)) is before


def test_twins_that_are_fetched_stay() -> None:
    twins = first(Let("e", apply("exp", Ref("z", F))), T, Let("q", apply("exp", Ref("z", F))), U)
    before = of(twins, point(cell("t"), "y1"), point(cell("u"), "y2", "other"))
    assert condensed(before).kernels[0].outputs == ("t",)
    before = before.replace(outputs=(*before.outputs, "t", "u"))
    assert condense(before, Context(target=GPU)) is before


def test_a_part_of_a_buffer_is_no_twin_of_a_whole_one() -> None:
    """A routine takes all of a buffer: u, and not what lies in t after it."""
    whole = first(Let("e", apply("exp", Ref("z", F))), T, Store(at("u", N, 1, 0), Ref("e", F)))
    rest = Kernel("rest", FLAT, (Store(at("t", N, 1, offset=M * N), cell("x2")),), ("rest",))
    lower = Store(at("y1", N, 1), load("t", N, 1, offset=M * N))
    last = Kernel("last", FLAT, (lower,), ("last",))
    made = MADE | buffers(t=(2 * M, N))
    before = of(whole, rest, last, point(cell("u"), "y2"), point(cell("t"), "y3", "other"),
                made=made | buffers(y3=(M, N)))  # fmt: skip
    refused(before)


def test_no_fusion_no_condensing() -> None:
    before = of(activation(), point(BOTH, "y2"))
    assert condense(before, Context(Settings(fuse=False), GPU)) is before


# -- whole programs


def test_products_of_bfloat16_are_kept_as_such() -> None:
    """A loss in float32 of their results, and its gradient, read them as they are."""
    with gc.Graph().as_default():
        x, w = (gc.placeholder(gc.bfloat16, [256, 256]) for _ in range(2))
        labels = gc.placeholder(gc.int64, [256])
        logits = gc.cast(gc.matmul(x, w), gc.float32)
        losses = gc.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        loss = gc.reduce_mean(losses)
        report = gc.explain([loss, *gc.gradients(loss, [w])], device="sm_90")
    products = [k for k in report.program.kernels if k.form == "dot"]
    types = [report.program.buffers[n].dtype for k in products for n in k.outputs]
    assert types == [bfloat16] * 2


def test_random_graphs_condense() -> None:
    """What `test_random_programs` compares takes part in this."""
    assert count_changed("condense", range(1, 60, 2)) > 3

"""sink: values computed by their readers instead of being stored; before -> after, each refusal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import graphc as gc
from graphc.ir.dtypes import bfloat16
from graphc.ir.loop import (
    REDUCE,
    VARIABLE,
    Axis,
    Dot,
    Guard,
    Kernel,
    Let,
    Linear,
    Load,
    Program,
    Reduce,
    Ref,
    Store,
)
from graphc.ir.loop_text import format_kernel
from graphc.ir.settings import Settings
from graphc.passes.context import Context, Decision
from graphc.passes.sink import sink
from tests.passes.program_checks import check_same_bits, count_changed
from tests.passes.test_merge import F, apply, at, buffers, load

M, N, K = 6, 8, 4
MADE = buffers(
    x0=(M, K), x1=(K, N), x2=(M, N), x3=(N,), d=(M, N), t=(M, N), y0=(M,), y1=(M, N), y2=(M, N)
)
FLAT = (Axis("i0", M), Axis("i1", N))
PRODUCT = Dot("v", load("x0", K, 0, 1), load("x1", 0, 1, N), F)


def cell(name: str) -> Load:
    return load(name, N, 1)


def dot(*more: Any) -> Kernel:
    """d = x0 @ x1; t = d * x2."""
    axes = (*FLAT, Axis("i2", K, REDUCE))
    body = (
        PRODUCT, Store(at("d", N, 1, 0), Ref("v", F)),
        Let("w", apply("multiply", Ref("v", F), load("x2", N, 1, 0))),
        Store(at("t", N, 1, 0), Ref("w", F)), *more,
    )  # fmt: skip
    return Kernel("dot", axes, body, ("dot",))


def total(value: Any) -> Kernel:
    """y0 = the sums of a value along the rows."""
    axes = (FLAT[0], replace(FLAT[1], kind=REDUCE))
    body = (Reduce("s", "sum", value, F), Store(at("y0", 1, 0), Ref("s", F)))
    return Kernel("total", axes, body, ("total",))


def point(value: Any, target: str = "y1", name: str = "point") -> Kernel:
    body = (Let(f"{name}_v", value), Store(at(target, N, 1), Ref(f"{name}_v", F)))
    return Kernel(name, FLAT, body, (name,))


def program(*kernels: Kernel, made: Any = None, **changes: Any) -> Program:
    made = made or MADE
    used = {n for k in kernels for n in (*k.inputs, *k.outputs)}
    own = {n: b for n, b in made.items() if n in used}
    inputs = tuple(n for n in own if n.startswith("x"))
    outputs = tuple(n for n in own if n.startswith("y"))
    return Program(own, kernels, inputs, outputs, (), (), len(kernels)).replace(**changes)


def sunk(before: Program, ctx: Context | None = None) -> Program:
    """The program after the pass, which gives the same bits."""
    after = sink(before, ctx or Context())
    check_same_bits(before, after)
    return after


def text(p: Program, position: int) -> list[str]:
    return [line.strip() for line in format_kernel(p.kernels[position]).splitlines()[1:]]


def test_before_and_after() -> None:
    value = apply("add", cell("t"), cell("x2"))
    after = sunk(program(dot(), total(value), point(cell("d"))))
    assert text(after, 0)[-1] == "d[8*i0 + i1] = v" and len(text(after, 0)) == 2
    assert text(after, 1) == [
        "w = multiply(d[8*i0 + i1], x2[8*i0 + i1])",
        "s = reduce sum add(w, x2[8*i0 + i1])",
        "y0[i0] = s",
    ]
    assert "t" not in after.buffers


def test_what_is_made_of_what_sinks_sinks_too() -> None:
    """u = t * x2 is made of t, and t of d: the readers get both."""
    square = Let("z", apply("multiply", Ref("w", F), load("x2", N, 1, 0)))
    made = MADE | buffers(u=(M, N))
    first = dot(square, Store(at("u", N, 1, 0), Ref("z", F)))
    value = apply("add", apply("add", cell("t"), cell("u")), cell("x2"))
    after = sunk(program(first, total(value), point(cell("d")), made=made))
    assert after.kernels[0].outputs == ("d",) and set(after.kernels[1].inputs) == {"d", "x2"}


def test_names_that_a_reader_has_are_not_taken_again() -> None:
    axes = (FLAT[0], replace(FLAT[1], kind=REDUCE))
    body = (
        Let("w", apply("exp", cell("x2"))),
        Reduce("s", "sum", apply("add", Ref("w", F), cell("t")), F),
        Store(at("y0", 1, 0), Ref("s", F)),
    )  # fmt: skip
    after = sunk(program(dot(), Kernel("total", axes, body), point(cell("d"))))
    assert [s.name for s in after.kernels[1].body if isinstance(s, Let)] == ["w_", "w"]


def test_a_value_is_computed_behind_the_readers_product() -> None:
    """It is none of its operands."""
    axes = (*FLAT, Axis("i2", K, REDUCE))
    reader = Kernel("reader", axes, (
        PRODUCT, Let("r", apply("add", Ref("v", F), apply("add", load("t", N, 1, 0),
                                                          load("x2", N, 1, 0)))),
        Store(at("y1", N, 1, 0), Ref("r", F)),
    ))  # fmt: skip
    after = sunk(program(dot(), reader, point(cell("d"), "y2")))
    kinds = [type(s) for s in after.kernels[1].body]
    assert kinds == [Dot, Let, Let, Store]


def test_decisions_follow() -> None:
    ctx = Context()
    ctx.decisions.append(Decision("dot", "total", "t", "REDUCE_AFTER_DOT", {"bytes": 1}))
    value = apply("add", cell("t"), cell("x2"))
    after = sunk(program(dot(), total(value), point(cell("d"))), ctx)
    (found,) = [d for d in ctx.decisions if d.consumer == after.kernels[1].name]
    assert (found.producer, found.buffer) == (after.kernels[0].name, "d")
    assert found.reason == "REDUCE_AFTER_DOT" and found.numbers["bytes"] == M * N * 8


# -- refusals

USES_BOTH = apply("add", cell("t"), cell("x2"))


def refused(before: Program) -> None:
    assert sunk(before) is before


def test_no_bytes_saved() -> None:
    """The reader would read d and x2 in the place of t, and the product's kernel reads x2 still."""
    more = Let("e", apply("exp", load("x2", N, 1, 0))), Store(at("y2", N, 1, 0), Ref("e", F))
    refused(program(dot(*more), total(cell("t")), point(cell("d"))))
    sunk_into_one = program(dot(*more), total(USES_BOTH), point(cell("d")))
    assert sunk(sunk_into_one) is not sunk_into_one


def test_what_is_not_stored_is_not_computed_again() -> None:
    """t = v * x2, where the product v itself is not stored."""
    first = dot()
    body = (*first.body[:1], Store(at("d", N, 1, 0), apply("exp", Ref("v", F))), *first.body[2:])
    refused(program(replace(first, body=body), total(USES_BOTH), point(cell("d"))))


def test_costly_values_stay() -> None:
    first = dot()
    body = (*first.body[:2], Let("w", apply("erf", apply("erf", Ref("v", F)))), first.body[3])
    costly = replace(first, body=body)
    refused(program(costly, total(apply("add", cell("t"), cell("d"))), point(cell("d"))))


def test_operands_of_products_stay() -> None:
    axes = (Axis("i0", M), Axis("i1", N), Axis("i2", N, REDUCE))
    square = Dot("r", load("t", N, 0, 1), load("x5", 0, 1, N), F)
    reader = Kernel("reader", axes, (square, Store(at("y1", N, 1, 0), Ref("r", F))))
    made = MADE | buffers(x5=(N, N))
    before = program(dot(), reader, point(apply("add", cell("d"), cell("x2")), "y2"), made=made)
    assert sink(before, Context()) is before


def test_values_read_at_more_points_stay() -> None:
    """A row of n elements, which a reader of all rows would compute for each row."""
    made = buffers(x3=(N,), x2=(M, N), e=(N,), t=(N,), y1=(M, N), y3=(N,))
    first = Kernel("first", (Axis("i0", N),), (
        Let("a", apply("exp", load("x3", 1))), Store(at("e", 1), Ref("a", F)),
        Let("w", apply("negative", Ref("a", F))), Store(at("t", 1), Ref("w", F)),
    ))  # fmt: skip
    value = apply("add", apply("add", load("t", 0, 1), load("e", 0, 1)), cell("x2"))
    reader = Kernel("reader", FLAT, (Let("r", value), Store(at("y1", N, 1), Ref("r", F))))
    last = Kernel("last", (Axis("i0", N),), (
        Let("z", apply("exp", load("e", 1))), Store(at("y3", 1), Ref("z", F))))  # fmt: skip
    before = program(first, reader, last, made=made)
    assert sink(before, Context()) is before


def test_outputs_and_what_commits_read_stay() -> None:
    kernels = dot(), total(USES_BOTH), point(cell("d"))
    assert sunk(program(*kernels)).kernels[0].outputs == ("d",)
    fetched = program(*kernels)
    fetched = fetched.replace(outputs=("t", *fetched.outputs))
    assert sink(fetched, Context()) is fetched
    late = program(*kernels, commit=1)
    assert sink(late, Context()) is late


def test_guarded_operands_stay() -> None:
    piece = replace(at("x2", N, 1, 0), guards=(Guard(Linear((1, 0, 0)), M - 1),))
    first = dot()
    value = apply("multiply", Ref("v", F), Load((piece,), F))
    body = (*first.body[:2], Let("w", value), first.body[3])
    refused(program(replace(first, body=body), total(USES_BOTH), point(cell("d"))))


def test_values_stored_in_fewer_bits_stay() -> None:
    """Read back they are not what they were computed as."""
    made = dict(MADE)
    made["t"] = replace(made["t"], dtype=bfloat16)
    before = program(dot(), total(USES_BOTH), point(cell("d")), made=made)
    assert sink(before, Context()) is before


def test_variables_and_only_results_stay() -> None:
    made = dict(MADE)
    made["d"] = replace(made["d"], role=VARIABLE)
    alone = program(dot(), total(USES_BOTH), made=made, commit=2)
    assert sink(alone, Context()) is alone
    first = dot()
    one = replace(first, body=(first.body[0], *first.body[2:]))
    refused(program(one, total(USES_BOTH)))


def test_no_fusion_no_sinking() -> None:
    before = program(dot(), total(USES_BOTH), point(cell("d")))
    assert sink(before, Context(Settings(fuse=False))) is before


# -- whole programs


def test_the_backward_of_a_block_stores_its_product_once() -> None:
    """Of dy = g @ w the backward of a norm wants dy * scale and dy * x, too."""
    with gc.Graph().as_default():
        x, w = (gc.placeholder(gc.float32, [256, 128]) for _ in range(2))
        scale, shift = (gc.placeholder(gc.float32, [128]) for _ in range(2))
        product = gc.matmul(gc.nn.layer_norm(x, scale, shift), w, transpose_b=True)
        loss = gc.reduce_sum(gc.square(product))
        report = gc.explain(gc.gradients(loss, [x, scale, shift]), device="sm_90")
    dots = [k for k in report.program.kernels if k.form == "dot"]
    assert dots and all(len(k.outputs) == 1 for k in dots)


def test_random_graphs_sink() -> None:
    """What `test_random_programs` compares takes part in this."""
    assert count_changed("sink", range(1, 40, 2)) > 3

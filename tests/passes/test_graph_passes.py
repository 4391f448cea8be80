"""The graph passes: text before and after, what each must leave alone, and golden dumps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import graphc.ir.ops  # noqa: F401  (fills the op table)
from graphc.ir.computation import Computation, cut
from graphc.ir.dtypes import float32, int32
from graphc.ir.errors import FeedError
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.interpret import evaluate
from graphc.ir.literal import Literal
from graphc.ir.settings import Settings
from graphc.ir.table import OPS, Kind
from graphc.ir.text import parse, print_computation
from graphc.ir.verify import verify_computation
from graphc.passes.canonicalize import canonicalize
from graphc.passes.context import Context
from graphc.passes.cse import cse
from graphc.passes.dce import dce
from graphc.passes.decompose import decompose
from graphc.passes.fold_constants import fold_constants
from graphc.passes.layout import is_elementwise, layout
from graphc.passes.lower import lower
from graphc.passes.manager import run_passes
from graphc.passes.pipeline import PIPELINE, compile_program
from graphc.passes.recompute import recompute
from graphc.passes.specialize import specialize
from graphc.passes.target import GPU, NUMPY, Target

GRAPH_PASSES = PIPELINE[: PIPELINE.index(lower)]


def after(pass_: Callable[..., Computation], text: str, **settings: Any) -> str:
    """The text of what the pass makes of a computation in short notation."""
    computation = parse(_long(text))
    result = pass_(computation, Context(settings=Settings(**settings)))
    verify_computation(result)
    return _short(result)


def _long(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines()]
    return "computation primitive\n  inputs %0\n" + "".join(f"  {line}\n" for line in lines)


def _short(computation: Computation) -> str:
    lines = print_computation(computation, locations=False).splitlines()[2:]
    return "\n".join(line.strip().partition("  #")[0] for line in lines)


def same(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())


X = "%0 = placeholder() {dtype=float32, shape=(2, 3)} : float32[2, 3]"


def constant(*values: float) -> str:
    shape = f"[{len(values)}]" if len(values) > 1 else "[]"
    return f"constant() {{value=float32{shape}({', '.join(map(repr, values))})}} : float32{shape}"


# -- cse


def test_cse_merges_equal_nodes_and_exchanged_operands() -> None:
    text = f"""{X}
        %1 = {constant(2.0)}
        %2 = {constant(2.0)}
        %3 = multiply(%0, %1) : float32[2, 3]
        %4 = multiply(%2, %0) : float32[2, 3]
        %5 = subtract(%3, %4) : float32[2, 3]
        outputs %5"""
    assert after(cse, text) == same(f"""{X}
        %1 = {constant(2.0)}
        %2 = multiply(%0, %1) : float32[2, 3]
        %3 = subtract(%2, %2) : float32[2, 3]
        outputs %3""")


def test_cse_keeps_what_differs() -> None:
    text = f"""{X}
        %1 = {constant(0.0)}
        %2 = {constant(-0.0)}
        %3 = pad(%0) {{low=(1, 0), high=(0, 0), interior=(0, 0)}} : float32[3, 3]
        %4 = pad(%0) {{low=(1, 0), high=(0, 0), interior=(0, 0), fill=-0.0}} : float32[3, 3]
        %5 = subtract(%0, %1) : float32[2, 3]
        %6 = subtract(%1, %0) : float32[2, 3]
        %7 = subtract(%0, %2) : float32[2, 3]
        %8 = variable() {{dtype=float32, shape=()}} : float32[]
        %9 = variable() {{dtype=float32, shape=()}} : float32[]
        outputs %3, %4, %5, %6, %7, %8, %9"""
    computation = parse(_long(text))
    assert cse(computation, Context()) is computation


def test_cse_merges_random_ops_by_key() -> None:
    def unit(key: int) -> Value:
        return OPS["random_unit"](shape=(5,), dtype=float32, key=key)

    with Graph().as_default():
        computation = cut([unit(1), unit(1), unit(2)], [], [])
    computation = decompose(computation, Context())
    first, second, third = cse(computation, Context()).outputs
    assert first is second and first is not third


# -- dce


def test_dce_drops_updates_that_change_nothing() -> None:
    text = f"""{X}
        %1 = variable() {{dtype=float32, shape=(2, 3)}} : float32[2, 3]
        %2 = variable() {{dtype=float32, shape=(2, 3)}} : float32[2, 3]
        %3 = add(%2, %0) : float32[2, 3]
        outputs %3
        update %1 <- %1
        update %2 <- %3"""
    result = after(dce, text)
    assert "update" in result and result.count("update") == 1
    only = parse(_long(text.replace("update %1 <- %1\n", "")))
    assert dce(only, Context()) is only


def test_inputs_stay_though_nothing_reads_them() -> None:
    computation = parse(_long(f"{X}\n%1 = {constant(1.0)}\noutputs %1"))
    result = run_passes(GRAPH_PASSES, computation, Context())
    assert [n.name for n in result.inputs] == [n.name for n in computation.inputs]


# -- fold_constants


def test_folds_what_depends_on_constants_alone() -> None:
    text = f"""{X}
        %1 = {constant(1.0, 2.0, 3.0)}
        %2 = {constant(2.0)}
        %3 = multiply(%1, %2) : float32[3]
        %4 = exp(%0) : float32[2, 3]
        %5 = add(%4, %3) : float32[2, 3]
        outputs %5"""
    assert after(fold_constants, text) == same(f"""{X}
        %1 = exp(%0) : float32[2, 3]
        %2 = {constant(2.0, 4.0, 6.0)}
        %3 = add(%1, %2) : float32[2, 3]
        outputs %3""")


def test_fills_fold_as_scalars_and_are_not_materialized() -> None:
    fill = "broadcast_to({}) {{shape=(4000, 4000)}} : float32[4000, 4000]"
    text = f"""{X}
        %1 = {constant(2.0)}
        %2 = {constant(3.0)}
        %3 = {fill.format("%1")}
        %4 = {fill.format("%2")}
        %5 = add(%3, %4) : float32[4000, 4000]
        outputs %5"""
    assert after(fold_constants, text) == same(f"""
        %0 = {constant(5.0)}
        %1 = {fill.format("%0")}
        {X.replace("%0", "%2")}
        outputs %1""")


@pytest.mark.parametrize("most", [11, 12])
def test_the_byte_budget(most: int) -> None:
    text = f"""{X}
        %1 = {constant(1.0, 2.0, 3.0)}
        %2 = exp(%1) : float32[3]
        outputs %2"""
    assert ("exp" in after(fold_constants, text, fold_bytes=most)) == (most == 11)


def test_the_budget_of_operations() -> None:
    with Graph().as_default():
        rng = np.random.default_rng(0)
        a, b = (OPS["constant"](value=Literal(rng.standard_normal((700, 700)))) for _ in range(2))
        computation = cut([OPS["contract"](a, b, spec="ab,bc->ac")], [], [])
    assert fold_constants(computation, Context()) is computation
    ctx = Context()
    fold_constants(computation, ctx)
    assert ctx.notes["folded"] == {"nodes": 0, "operations": 0.0}


def test_random_numbers_feeds_and_variables_are_not_folded() -> None:
    with Graph().as_default():
        x = OPS["placeholder"](dtype=float32, shape=(), name="x")
        w = OPS["variable"](dtype=float32, shape=(), name="w")
        unit = OPS["random_unit"](shape=(5,), dtype=float32, key=3)
        computation = cut([OPS["exp"](x), OPS["exp"](w), OPS["exp"](unit)], [], [x])
    result = run_passes(GRAPH_PASSES, computation, Context())
    assert [v.node.op.name for v in result.outputs] == ["exp"] * 3
    assert any(n.op.name == "philox" for n in result.nodes)


def test_folding_keeps_nan_inf_and_zero_division() -> None:
    text = f"""{X}
        %1 = {constant(0.0, float("nan"), float("inf"))}
        %2 = {constant(0.0)}
        %3 = truediv(%1, %2) : float32[3]
        outputs %3"""
    result = fold_constants(parse(_long(text)), Context())
    array = result.outputs[0].node.attrs["value"].array
    np.testing.assert_array_equal(array, np.array([np.nan, np.nan, np.inf], np.float32))


# -- specialize, decompose


def test_a_placeholder_that_is_not_fed_is_the_users_mistake() -> None:
    with Graph().as_default():
        x = OPS["placeholder"](dtype=float32, shape=(2,), name="x")
        computation = cut([OPS["exp"](x)], [], [])
    with pytest.raises(FeedError, match=r"placeholder 'x' of type float32\[2\] needs a feed"):
        specialize(computation, Context())


def test_specialize_fixes_all_and_decompose_leaves_no_composite() -> None:
    computation, shapes = _classifier()
    static = specialize(computation, Context(feed_shapes=shapes))
    assert all(v.type.is_static for n in static.nodes for v in n.outputs)
    primitive = decompose(static, Context())
    assert all(n.kind is not Kind.COMPOSITE for n in primitive.nodes)
    assert any(n.kind is Kind.COMPOSITE for n in static.nodes)


# -- layout


def _images(data_format: str = "NCHW", residual: bool = False) -> tuple[Computation, list[Value]]:
    with Graph().as_default():
        x = OPS["placeholder"](dtype=float32, shape=(2, 3, 9, 9), name="x")
        w = OPS["placeholder"](dtype=float32, shape=(3, 3, 3, 6), name="w")
        v = OPS["placeholder"](dtype=float32, shape=(3, 3, 6, 4), name="v")
        b = OPS["placeholder"](dtype=float32, shape=(6, 1, 1), name="b")
        h = OPS["convolution"](x, w, data_format=data_format, padding="SAME")
        h = OPS["relu"](OPS["add"](h, b))
        if residual:
            other = OPS["placeholder"](dtype=float32, shape=(2, 6, 9, 9), name="other")
            h = OPS["add"](h, other)
        h = OPS["max_pool"](h, window=(2, 2), strides=(2, 2), data_format=data_format)
        y = OPS["convolution"](h, v, data_format=data_format)
        total = OPS["reduce_sum"](OPS["square"](y), axis=(2, 3))
        feeds = [x, w, v, b, *([other] if residual else [])]
        return cut([total, y], [], feeds), feeds


def _transposes(computation: Computation) -> list[str]:
    return [n.inputs[0].node.op.name for n in computation.nodes if n.op.name == "transpose"]


def test_layout_moves_transposes_to_the_ends() -> None:
    computation, _ = _images()
    result = layout(computation.replace(stage="static"), Context())
    verify_computation(result)
    assert all(n.attrs.get("data_format") != "NCHW" for n in result.nodes)
    assert sorted(_transposes(result)) == ["convolution", "placeholder", "reshape"]  # y, x and b


def test_layout_leaves_a_large_operand_in_its_order() -> None:
    computation, _ = _images(residual=True)
    result = layout(computation.replace(stage="static"), Context())
    verify_computation(result)
    assert sorted(_transposes(result)) == ["add", "convolution", "placeholder", "relu", "reshape"]


def test_layout_skips_graphs_that_have_channels_last() -> None:
    with Graph().as_default():
        x = OPS["placeholder"](dtype=float32, shape=(1, 5, 5, 2), name="x")
        w = OPS["placeholder"](dtype=float32, shape=(3, 3, 2, 2), name="w")
        computation = cut([OPS["convolution"](x, w)], [], [x, w])
    assert layout(computation, Context()) is computation


@pytest.mark.parametrize("residual", [False, True])
def test_layout_keeps_the_values(residual: bool) -> None:
    computation, _ = _images(residual=residual)
    result = layout(computation.replace(stage="static"), Context())
    _assert_same_results(computation, result)


@pytest.mark.parametrize("name", ["convolution_input_grad", "convolution_filter_grad"])
def test_layout_of_gradients(name: str) -> None:
    for sample in OPS[name].samples():
        if sample.attrs.get("data_format") != "NCHW":
            continue
        with Graph().as_default():
            inputs = [
                OPS["placeholder"](dtype=float32, shape=a.shape, name=f"x{i}")
                for i, a in enumerate(sample.inputs)
            ]
            computation = cut([OPS[name](*inputs, **sample.attrs)], [], inputs)
        result = layout(computation.replace(stage="static"), Context())
        assert result is not computation and result.outputs[0].node.op.name in ("transpose", name)
        _assert_same_results(computation, result)


@pytest.mark.parametrize(
    ("op", "attrs", "expected"),
    [("relu", {}, True), ("exp", {}, True), ("softmax", {"axis": 1}, False),
     ("zeros_like", {}, False), ("reduce_mean", {}, False)],
)  # fmt: skip
def test_what_works_element_by_element(op: str, attrs: dict[str, Any], expected: bool) -> None:
    with Graph().as_default():
        x = OPS["placeholder"](dtype=float32, shape=(2, 3, 4, 5), name="x")
        node = OPS[op](x, **attrs).node
        assert is_elementwise(node) is expected


def test_reductions_between_images_keep_their_axes() -> None:
    for axis, keepdims in (((1,), False), ((1,), True), ((0, 2), False), ((3, 1), True)):
        with Graph().as_default():
            x = OPS["placeholder"](dtype=float32, shape=(2, 3, 5, 7), name="x")
            w = OPS["placeholder"](dtype=float32, shape=(1, 1, 3, 4), name="w")
            y = OPS["convolution"](x, w, data_format="NCHW")
            total = OPS["reduce_max"](y, axis=axis, keepdims=keepdims)
            computation = cut([total], [], [x, w])
        _assert_same_results(computation, layout(computation.replace(stage="static"), Context()))


# -- recompute


def _dropout(depth: int = 50, fetch_mask: bool = False, size: int = 256) -> Computation:
    with Graph().as_default():
        x = OPS["placeholder"](dtype=float32, shape=(size, size), name="x")
        unit = OPS["random_unit"](shape=(size, size), dtype=float32, key=5)
        mask = OPS["greater_equal"](unit, 0.5, name="mask")
        zero = OPS["zeros_like"](x)
        h = OPS["where"](mask, x, zero)
        for _ in range(depth):
            h = OPS["tanh"](h)
        y = OPS["where"](mask, h, zero, name="late")
        return cut([y, mask] if fetch_mask else [y], [], [x])


_UNTIL_RECOMPUTE = GRAPH_PASSES[: GRAPH_PASSES.index(recompute)]


def _recompute(computation: Computation, target: Target = GPU) -> tuple[Context, Computation]:
    ctx = Context(target=target)
    before = run_passes(_UNTIL_RECOMPUTE, computation, ctx)
    result = recompute(before, ctx)
    verify_computation(result)
    assert (result is before) == (not ctx.notes["recomputed"])
    return ctx, result


def test_far_readers_of_a_mask_compute_it_again() -> None:
    computation = _dropout()
    ctx, result = _recompute(computation)
    (decision,) = ctx.notes["recomputed"]
    assert decision.value == "mask" and decision.readers == ("late",)
    assert decision.saved_bytes == 256 * 256 and decision.distance >= 50
    assert decision.chain[-1] == "mask" and decision.flops_per_element > 80
    assert sum(n.name == "mask" for n in result.nodes) == 2
    _assert_same_results(computation, result)


@pytest.mark.parametrize(
    ("changes", "target"),
    [
        ({"depth": 5}, GPU),  # near enough
        ({"size": 32}, GPU),  # too small
        ({"fetch_mask": True}, GPU),  # kept alive anyway
        ({}, NUMPY),  # too costly there
    ],
)
def test_recompute_refuses(changes: dict[str, Any], target: Target) -> None:
    ctx, _ = _recompute(_dropout(**changes), target)
    assert ctx.notes["recomputed"] == []


@pytest.mark.parametrize("alive", [True, False])
def test_recompute_needs_operands_that_live_anyway(alive: bool) -> None:
    with Graph().as_default():
        x = OPS["placeholder"](dtype=float32, shape=(256, 256), name="x")
        kept = OPS["contract"](x, x, spec="ab,bc->ac", name="kept")
        mask = OPS["greater"](kept, 0.0, name="mask")
        h = OPS["where"](mask, x, OPS["zeros_like"](x))
        for _ in range(50):
            h = OPS["tanh"](h)
        y = OPS["where"](mask, h, OPS["exp"](h))
        computation = cut([OPS["add"](y, kept) if alive else y], [], [x])
    ctx, _ = _recompute(computation)
    assert [d.value for d in ctx.notes["recomputed"]] == (["mask"] if alive else [])


# -- all together, and what they print


def _assert_same_results(before: Computation, result: Computation) -> None:
    rng = np.random.default_rng(1)
    arrays = [
        rng.standard_normal(n.types[0].static_shape).astype(np.float32) for n in before.inputs
    ]
    want, got = (
        evaluate(c.outputs, dict(zip(c.inputs, arrays, strict=True))) for c in (before, result)
    )
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def _classifier() -> tuple[Computation, dict[Node, tuple[int, ...]]]:
    """One step of softmax regression, with the gradient built by the ops' own rules."""
    with Graph().as_default():
        x = OPS["placeholder"](dtype=float32, shape=("n", 6), name="x")
        labels = OPS["placeholder"](dtype=float32, shape=("n", 3), name="labels")
        w = OPS["variable"](dtype=float32, shape=(6, 3), name="w")
        b = OPS["variable"](dtype=float32, shape=(3,), name="b")
        logits = OPS["add"](OPS["matmul"](x, w, name="product"), b, name="logits")
        rows = OPS["softmax_cross_entropy"](labels, logits, name="rows")
        loss = OPS["reduce_mean"](rows, name="loss")
        d_rows = _gradient(loss, OPS["ones_like"](loss))[0]
        d_logits = _gradient(rows, d_rows)[1]
        d_product, d_b = _gradient(logits, d_logits)
        d_w = _gradient(logits.node.inputs[0], d_product)[1]
        steps = [
            OPS["assign_sub"](p, OPS["multiply"](g, 0.5), name=f"step_{p.node.name}").node
            for p, g in ((w, d_w), (b, d_b))
        ]
        computation = cut([loss], steps, [x, labels])
    shapes: dict[Node, tuple[int, ...]] = {x.node: (4, 6), labels.node: (4, 3)}
    return computation, shapes


def _gradient(y: Value, g: Value) -> Sequence[Any]:
    rule = y.node.op.grad
    assert callable(rule)
    return rule(y.node, [g])


def _normalized() -> tuple[Computation, dict[Node, tuple[int, ...]]]:
    """A layer norm with a fixed scale, of rows that are slices."""
    with Graph().as_default():
        x = OPS["placeholder"](dtype=float32, shape=("n", 8), name="x")
        part = x[:, 2:][:, :5]
        centred = part - OPS["reduce_mean"](part, axis=(1,), keepdims=True)
        spread = OPS["reduce_mean"](centred * centred, axis=(1,), keepdims=True)
        scale = np.array([1, 2, 3, 4, 5], np.float32)
        y = OPS["multiply"](centred / OPS["sqrt"](spread + 1e-5), scale * 2 / 2, name="norm")
        computation = cut([OPS["add"](y, 0.0, name="out")], [], [x])
    return computation, {x.node: (3, 8)}


def _network() -> tuple[Computation, dict[Node, tuple[int, ...]]]:
    """A convolution, a pooling and a product over images with channels first."""
    with Graph().as_default():
        x = OPS["placeholder"](dtype=float32, shape=("n", 2, 6, 6), name="x")
        w = OPS["variable"](dtype=float32, shape=(3, 3, 2, 4), name="w")
        v = OPS["variable"](dtype=float32, shape=(36, 3), name="v")
        h = OPS["convolution"](x, w, data_format="NCHW", padding="SAME", name="conv")
        h = OPS["max_pool"](
            OPS["relu"](h), window=(2, 2), strides=(2, 2), data_format="NCHW", name="pool"
        )
        y = OPS["matmul"](OPS["reshape"](h, shape=(-1, 36)), v)
        best = OPS["argmax"](OPS["log"](OPS["softmax"](y)), axis=1, dtype=int32, name="best")
        computation = cut([best], [], [x])
    return computation, {x.node: (2, 2, 6, 6)}


MODELS = {"classifier": _classifier, "normalized": _normalized, "network": _network}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_golden(name: str, golden: Callable[[str, str], None]) -> None:
    computation, shapes = MODELS[name]()
    result = run_passes(GRAPH_PASSES, computation, Context(feed_shapes=shapes))
    golden(f"{name}.txt", print_computation(result, locations=False))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_pipeline_keeps_results_and_ends(name: str) -> None:
    computation, shapes = MODELS[name]()
    settings = Settings(check_passes=True)
    compile_program(computation, Context(settings=settings, feed_shapes=shapes))
    result = run_passes(GRAPH_PASSES, computation, Context(feed_shapes=shapes))
    for pass_ in (canonicalize, fold_constants, cse, dce, recompute):
        assert pass_(result, Context()) is result, f"{pass_.__name__} is not done"


def test_work_grows_with_the_graph() -> None:
    def tried(depth: int) -> int:
        with Graph().as_default():
            x = h = OPS["placeholder"](dtype=float32, shape=(4, 4), name="x")
            for _ in range(depth):
                h = OPS["relu"](OPS["add"](OPS["matmul"](h, x), 0.0))
            computation = cut([h], [], [x])
        ctx = Context()
        run_passes(GRAPH_PASSES, computation, ctx)
        return sum(r.tried for r in ctx.notes["rules"].values())

    small, large = tried(50), tried(500)
    assert large < 11 * small

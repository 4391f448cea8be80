"""The pass manager: it verifies, times, counts, dumps, diffs, and names the pass that errs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc.ir.ops  # noqa: F401  (fills the op table)
from graphc.ir import loop
from graphc.ir.computation import Computation, cut, rewrite
from graphc.ir.dtypes import float32
from graphc.ir.errors import VerificationError
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.loop import Program
from graphc.ir.settings import Settings
from graphc.ir.table import OPS
from graphc.ir.text import parse
from graphc.passes.canonicalize import canonicalize
from graphc.passes.check import same_values
from graphc.passes.context import Context
from graphc.passes.fuse import fuse
from graphc.passes.lower import lower
from graphc.passes.manager import run_passes
from graphc.passes.pipeline import PIPELINE, compile_program
from graphc.passes.rules import Outcome, Rewriter, Rule, RuleRecord, named
from graphc.passes.specialize import specialize


def model() -> Computation:
    """w <- w - sum of softmax(x * w + 0) over the rows."""
    with Graph().as_default():
        x = OPS["placeholder"](dtype=float32, shape=("n", 4), name="x")
        w = OPS["variable"](dtype=float32, shape=(4,), name="w")
        y = OPS["softmax"](OPS["add"](OPS["multiply"](x, w), 0.0), name="net/y")
        step = OPS["assign_sub"](w, OPS["reduce_sum"](y, axis=(0,)))
        return cut([y], [step.node], [x])


def context(computation: Computation, **settings: Any) -> Context:
    shapes: dict[Node, tuple[int, ...]] = dict.fromkeys(computation.inputs, (3, 4))
    return Context(settings=Settings(**settings), feed_shapes=shapes)


def test_notes() -> None:
    computation = model()
    ctx = context(computation)
    program = compile_program(computation, ctx)
    records = ctx.notes["passes"]
    assert [r.name for r in records] == [p.__name__ for p in PIPELINE]
    assert set(ctx.notes["seconds"]) == {p.__name__ for p in PIPELINE}
    assert all(r.seconds >= 0 for r in records)
    assert all(a.after == b.before for a, b in itertools.pairwise(records))
    assert records[0].before == len(computation.nodes)
    assert records[-1].after == len(program.kernels)
    by_name = {r.name: r for r in records}
    assert by_name["decompose"].after > by_name["decompose"].before
    assert not by_name["dce"].changed
    assert ctx.notes["nodes_after"] == by_name["recompute"].after
    neutral = ctx.notes["rules"]["neutral_element"]
    assert isinstance(neutral, RuleRecord)
    assert neutral.fired == 1 and neutral.tried > 1 and neutral.seconds > 0
    assert ctx.notes["fired"].count("neutral_element") == 1


def test_no_settings_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    computation = model()
    ctx = context(computation)
    compile_program(computation, ctx)
    assert list(tmp_path.iterdir()) == [] and "dump" not in ctx.notes


def test_dump(tmp_path: Path) -> None:
    computation = model()
    ctx = context(computation, dump=str(tmp_path / "new"))
    compile_program(computation, ctx)
    folder = tmp_path / "new" / "000_net_y"
    assert ctx.notes["dump"] == folder
    texts = sorted(p.name for p in folder.glob("*.txt"))
    names = ["input", *(p.__name__ for p in PIPELINE)]
    assert texts == [f"{i:02d}_{name}.txt" for i, name in enumerate(names)]
    for path in folder.glob("0*_*.txt"):
        text = path.read_text(encoding="utf-8")
        if text.startswith("computation"):
            again = parse(text)
            assert [v.node.name for v in again.outputs] == ["net/y"]
    change = (folder / "03_canonicalize.diff").read_text(encoding="utf-8")
    assert "-  %add = add(%multiply, %constant)" in change
    assert "+  %net/y = softmax(%multiply)" in change
    lower_at = names.index("lower")
    assert not (folder / f"{lower_at:02d}_lower.diff").exists()
    assert "kernel" in (folder / f"{lower_at:02d}_lower.txt").read_text(encoding="utf-8")


def test_dumps_of_several_compilations_stand_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "004_older").mkdir()
    (tmp_path / "notes.txt").write_text("not a dump")
    for _ in range(2):
        computation = model()
        compile_program(computation, context(computation, dump=str(tmp_path)))
    folders = sorted(p.name for p in tmp_path.iterdir() if p.is_dir())
    assert folders == ["004_older", "005_net_y", "006_net_y"]
    first, second = (
        {p.name: p.read_text(encoding="utf-8") for p in (tmp_path / f).iterdir()}
        for f in folders[1:]
    )
    assert first == second  # nothing in a dump depends on the moment


def break_type(computation: Computation, ctx: Context) -> Computation:
    """A pass that forgets a dim."""
    old = computation.outputs[0]
    bad = Node(OPS["exp"], (old,), {}, (old.type.with_shape((7, 7)),), "bad")
    return computation.replace(outputs=bad.outputs)


def break_kernel(program: Program, ctx: Context) -> Program:
    """A pass that drops a kernel."""
    return program.replace(kernels=program.kernels[1:], commit=program.commit - 1)


def test_a_broken_graph_is_rejected_with_pass_and_node(tmp_path: Path) -> None:
    computation = model()
    with pytest.raises(VerificationError, match=r"after break_type: op exp 'bad' has type"):
        run_passes([PIPELINE[0], break_type], computation, context(computation))
    with pytest.raises(VerificationError, match=r"\(text in .*000_net_y\)"):
        run_passes([break_type], computation, context(computation, dump=str(tmp_path)))
    run_passes([PIPELINE[0], break_type], computation, context(computation, verify=False))


def test_a_broken_program_is_rejected() -> None:
    computation = model()
    passes = [*PIPELINE[: PIPELINE.index(fuse)], break_kernel]
    with pytest.raises(VerificationError, match=r"after break_kernel: kernel .* reads"):
        run_passes(passes, computation, context(computation))


def test_a_pass_that_changes_nothing_is_not_verified_again() -> None:
    computation = model()
    ctx = context(computation)

    def idle(unit: Any, ctx: Context) -> Any:
        return unit

    assert run_passes([idle], computation, ctx) is computation
    assert ctx.notes["passes"][0].verify_s == 0.0 and not ctx.notes["passes"][0].changed


# -- check_passes


def test_check_passes_accepts_the_pipeline() -> None:
    computation = model()
    program = compile_program(computation, context(computation, check_passes=True))
    assert program.updates and program.outputs


def drop_zero(node: Node) -> Outcome:
    """x + 0 -> x: right."""
    return node.inputs[0]


def halve(node: Node) -> Outcome:
    """softmax(x) -> softmax(x / 2): wrong."""
    if node.name == "halved":
        return None
    return OPS["softmax"](OPS["multiply"](node.inputs[0], 0.5), name="halved")


def wrong_rules(computation: Computation, ctx: Context, limit: int | None = None) -> Computation:
    """A pass of two rules, one of which is wrong."""
    rules = [Rule(drop_zero, named("add")), Rule(halve, named("softmax"))]
    return Rewriter(rules, ctx.notes, limit).run(computation)


def wrong_graph(computation: Computation, ctx: Context) -> Computation:
    """A pass that takes exp for softmax's input: the multiplication is the first to differ."""

    def visit(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        if node.op.name != "multiply":
            return None
        return (OPS["multiply"](OPS["exp"](inputs[0], name="extra"), inputs[1]),)

    return rewrite(computation, visit)


def wrong_program(program: Program, ctx: Context) -> Program:
    """A pass that swaps the update's sign."""

    def change(e: loop.Expr) -> loop.Expr:
        if isinstance(e, loop.Apply) and e.op == "subtract":
            return loop.Apply("add", e.args, e.dtype)
        return e

    kernels = [
        loop.Kernel(k.name, k.axes, tuple(loop.map_stmt(s, change) for s in k.body), k.covers)
        for k in program.kernels
    ]
    return program.replace(kernels=tuple(kernels))


@pytest.mark.parametrize(
    ("pass_", "message"),
    [
        (wrong_rules, "pass wrong_rules changes what is computed, by rule halve"),
        (wrong_graph, "pass wrong_graph changes .*; the first value that differs: multiply:0"),
    ],
)
def test_check_passes_names_pass_rule_and_node(pass_: Callable[..., Any], message: str) -> None:
    computation = model()
    with pytest.raises(VerificationError, match=message):
        run_passes([pass_], computation, context(computation, check_passes=True))
    run_passes([pass_], computation, context(computation))  # well formed all the same


def test_check_passes_looks_at_programs_and_updates() -> None:
    computation = model()
    passes = [*PIPELINE[: PIPELINE.index(lower) + 1], wrong_program]
    with pytest.raises(VerificationError, match="pass wrong_program changes what is computed"):
        run_passes(passes, computation, context(computation, check_passes=True))


def test_limit_stops_after_so_many_firings() -> None:
    computation = model()
    computation = specialize(computation, context(computation))
    assert canonicalize(computation, Context(), limit=0) is computation
    ctx = Context()
    canonicalize(computation, ctx, limit=1)
    assert len(ctx.notes["fired"]) == 1


def array(numbers: list[float], dtype: str) -> np.ndarray:
    return np.array(numbers, dtype)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (array([1, np.nan, np.inf], "float32"), array([1, np.nan, np.inf], "float32"), True),
        (array([1, 2], "float32"), array([1, 2 + 1e-6], "float32"), True),
        (array([1, 2], "float32"), array([1, 2.01], "float32"), False),
        (array([1, np.nan], "float32"), array([1, 2], "float32"), False),
        (array([np.inf], "float32"), array([-np.inf], "float32"), False),
        (array([1], "float32"), array([1], "float64"), False),
        (array([1, 2], "int32"), array([1, 3], "int32"), False),
        (array([], "float32"), array([], "float32"), True),
        (array([1, 2], "float32"), array([1], "float32"), False),
    ],
)
def test_same_values(a: np.ndarray, b: np.ndarray, same: bool) -> None:
    assert same_values(a, b, 64.0) is same

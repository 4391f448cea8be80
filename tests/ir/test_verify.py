"""Broken computations and programs: the verifier must reject each, and name the place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

import graphc.ir.ops  # noqa: F401  (fills the op table)
from graphc.ir import loop
from graphc.ir.computation import Computation
from graphc.ir.dtypes import float32, float64
from graphc.ir.errors import VerificationError
from graphc.ir.graph import Graph, Node
from graphc.ir.loop import (
    Access,
    Apply,
    Axis,
    Buffer,
    Const,
    Dot,
    Fold,
    Gather,
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
from graphc.ir.table import OPS
from graphc.ir.text import parse
from graphc.ir.types import TensorType
from graphc.ir.verify import (
    Seen,
    stays_inside,
    verify_computation,
    verify_plan,
    verify_program,
)

GOOD = """computation primitive
  inputs %0
  %0 = placeholder() {dtype=float32, shape=(2, 3)} : float32[2, 3]  # x
  %1 = variable() {dtype=float32, shape=(2, 3)} : float32[2, 3]  # w
  %2 = add(%0, %1) : float32[2, 3]  # sum @ train.py:7 in step
  %3 = reduce_sum(%2) {axis=(1,)} : float32[2]  # total
  outputs %3
  update %1 <- %2
"""


def test_a_good_computation_passes() -> None:
    seen = Seen()
    computation = parse(GOOD)
    verify_computation(computation, "test", seen)
    assert seen.nodes == set(computation.nodes)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("add(%0, %1) : float32[2, 3]", "add(%0, %1) : float32[2, 4]",
         r"after fold: op add 'sum' \(train.py:7\) has type float32\[2, 4\], but its type rule"),
        ("add(%0, %1) : float32[2, 3]", "add(%0, %1) : float64[2, 3]", "has type float64"),
        ("add(%0, %1)", "add(%0)", "does not pass its own type rule: needs 2 inputs"),
        ("{axis=(1,)}", "{axis=(5,)}", "does not pass its own type rule: axis 5"),
        ("add(%0, %1)", "softmax(%0)", "op softmax 'sum' .* is a composite"),
        ("add(%0, %1)", "assign(%0, %1)", "op assign 'sum' .* changes a variable inside"),
        ("inputs %0", "inputs %0, %0", "one placeholder is an input twice"),
        ("inputs %0", "inputs %1", "op variable 'w' is no placeholder"),
        ("inputs %0", "inputs", "op placeholder 'x' is read but is no input"),
        ("update %1 <- %2", "update %1 <- %3", r"'w' of type float32\[2, 3\] is updated with"),
        ("update %1 <- %2", "update %0 <- %2", "op placeholder 'x' changes no variable"),
        ("update %1 <- %2", "update %1 <- %2\n  update %1 <- %0", "'w' has two updates"),
        ("computation primitive", "computation fused", "the stage 'fused' is none of"),
        ("%0 = placeholder() {dtype=float32, shape=(2, 3)} : float32[2, 3]",
         "%0 = placeholder() {dtype=float32, shape=('n', 3)} : float32[n, 3]",
         "specialize had to fix"),
    ],
)  # fmt: skip
def test_broken_computations(old: str, new: str, message: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(VerificationError, match=message):
        verify_computation(parse(GOOD.replace(old, new)), "fold")


@pytest.mark.parametrize(
    ("stage", "op"), [("user", "placeholder"), ("user", "softmax"), ("static", "softmax")]
)
def test_what_earlier_stages_allow(stage: str, op: str) -> None:
    text = GOOD.replace("computation primitive", f"computation {stage}")
    verify_computation(parse(text.replace("add(%0, %1)", "softmax(%0)")))
    if op == "placeholder":
        verify_computation(parse(text.replace("inputs %0", "inputs")))


def test_cycles_are_found() -> None:
    computation = parse(GOOD)
    total = computation.outputs[0].node
    add = total.inputs[0].node
    add.inputs = (total.outputs[0], add.inputs[1])
    with pytest.raises(VerificationError, match="before it is computed: a cycle"):
        verify_computation(Computation(computation.inputs, computation.outputs))


def test_values_that_their_node_does_not_have() -> None:
    with Graph().as_default():
        x = OPS["placeholder"](dtype=float32, shape=(2,), name="x")
        stranger = type(x)(x.node, 1, TensorType(float32, (2,)))
        y = OPS["exp"](stranger)
    with pytest.raises(VerificationError, match=r"input 0 of op exp .* is no output of 'x'"):
        verify_computation(Computation([x.node], [y]))


def test_nodes_seen_before_are_not_inferred_again() -> None:
    computation = parse(GOOD.replace("add(%0, %1) : float32[2, 3]", "add(%0, %1) : float64[2, 3]"))
    computation = computation.replace(updates=[])
    with pytest.raises(VerificationError):
        verify_computation(computation)
    verify_computation(computation, seen=Seen(computation.nodes))


def test_what_has_passed_does_not_vouch_for_copies_that_differ() -> None:
    """Of the same attributes: another declared type, inputs of other types; of a node that passed
    before: a stage that demands more."""
    seen = Seen()
    good = parse(GOOD.replace("computation primitive", "computation user"))
    verify_computation(good, seen=seen)
    (node,) = (n for n in good.nodes if n.op.name == "reduce_sum")
    wrong = Node(node.op, node.inputs, node.attrs, (TensorType(float32, (3,)),), "wrong")
    with pytest.raises(VerificationError, match=r"op reduce_sum 'wrong' has type float32\[3\]"):
        verify_computation(Computation(good.inputs, wrong.outputs), seen=seen)
    onto = Node(node.op, node.outputs, node.attrs, node.types, "onto")
    with pytest.raises(VerificationError, match="op reduce_sum 'onto' does not pass its own type"):
        verify_computation(Computation(good.inputs, onto.outputs), seen=seen)
    early = parse(GOOD.replace("primitive", "static").replace("add(%0, %1)", "softmax(%0)"))
    verify_computation(early, seen=seen)
    with pytest.raises(VerificationError, match="is a composite"):
        verify_computation(early.replace(stage="primitive"), seen=seen)


# -- programs

ROWS, COLUMNS = Axis("i", 2), Axis("j", 3)


def buffers(**roles: str) -> dict[str, Buffer]:
    return {n: Buffer(n, float32, (2, 3), role) for n, role in roles.items()}


def load(name: str, strides: tuple[int, ...] = (3, 1), offset: int = 0, *guards: Guard) -> Load:
    return Load((Access(name, strides, offset, guards),), float32)


def store(name: str, value: Any, strides: tuple[int, ...] = (3, 1), offset: int = 0) -> Store:
    return Store(Access(name, strides, offset), value)


def kernel(*body: Any, axes: Sequence[Axis] = (ROWS, COLUMNS), name: str = "k") -> Kernel:
    return Kernel(name, tuple(axes), tuple(body))


def program(*kernels: Kernel, commit: int | None = None, **changes: Any) -> Program:
    own = buffers(x="input", t="temporary", o="output", w="variable", c="constant")
    base = Program(own, kernels, ("x",), ("o",), ("w",), (), len(kernels))
    return replace(base, commit=len(kernels) if commit is None else commit, **changes)


COPY = kernel(store("t", load("x")), name="copy")
OUT = kernel(store("o", load("t")), name="out")
EXP = Apply("exp", (load("x"),), float32)
WRITE = kernel(store("w", load("x")), name="write")


def test_good_programs_pass() -> None:
    verify_program(program(COPY, OUT))
    verify_program(program(COPY, OUT, WRITE, commit=2, updates=("w",)))
    group = Kernel("both", (), (), parts=(COPY, kernel(store("o", EXP))))
    verify_program(program(group))
    row = kernel(
        Reduce("r", "sum", load("x"), float32),
        store("o", Apply("multiply", (load("x"), Ref("r", float32)), float32)),
        axes=(ROWS, Axis("j", 3, loop.REDUCE)),
    )
    verify_program(program(row))


def folded_rows(*body: Any, op: str = "sum", kind: str = loop.FOLD) -> Program:
    """A fold of x over columns of one part of two rows, then more statements; x to the output."""
    axes = (Axis("p", 1), Axis("r", 2, kind), Axis("c", 3, loop.REDUCE))
    rows = kernel(Fold("f", op, load("x", (0, 3, 1)), float32), *body, axes=axes)
    base = program(rows, kernel(store("o", load("x"))))
    parts = Buffer("part", float32, (1, 3), "temporary")
    return replace(base, buffers={**base.buffers, "part": parts})


PART = Store(Access("part", (3, 0, 1)), Ref("f", float32))


def test_folds_pass() -> None:
    verify_program(folded_rows(PART))


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("fold axes without a fold", lambda: folded_rows(PART, kind=loop.PARALLEL)),
        ("a fold gives values to store", lambda: folded_rows(PART, op="argmax")),
        ("a fold gives values to store",
         lambda: folded_rows(Let("e", Apply("exp", (Ref("f", float32),), float32)), PART)),
        ("stores each element of 'part' once per r",
         lambda: folded_rows(PART, store("part", load("x", (0, 0, 1)), (3, 0, 1)))),
        ("a dot kernel has no folds",
         lambda: folded_rows(Dot("d", load("x", (0, 3, 1)), load("x", (0, 3, 1)), float32), PART)),
    ],
)  # fmt: skip
def test_broken_folds(message: str, make: Callable[[], Program]) -> None:
    with pytest.raises(VerificationError, match=message):
        verify_program(make())


def reduced(value: Any) -> Kernel:
    return kernel(value, axes=(ROWS, Axis("j", 3, loop.REDUCE)))


BROKEN: list[tuple[str, Callable[[], Program]]] = [
    ("kernel k: there is no buffer 'z'", lambda: program(kernel(store("o", load("z"))))),
    ("the program names the buffer 'q'", lambda: program(OUT, outputs=("q",))),
    ("kernel k: uses 'v' before it is assigned",
     lambda: program(kernel(store("o", Ref("v", float32)), Let("v", EXP)))),
    ("kernel k: assigns 'v' twice",
     lambda: program(kernel(Let("v", EXP), Let("v", EXP), store("o", Ref("v", float32))))),
    ("kernel k: two axes have one name",
     lambda: program(kernel(store("o", EXP), axes=(ROWS, ROWS)))),
    ("has a malformed axis",
     lambda: program(kernel(store("o", EXP), axes=(ROWS, Axis("j", 3, "z"))))),
    ("1 strides for 2 axes", lambda: program(kernel(store("o", load("x", (1,)))))),
    ("reaches outside the 6 elements of 'x'",
     lambda: program(kernel(store("o", load("x", (3, 1), 1))))),
    ("reaches outside the 6 elements of 'x'",
     lambda: program(kernel(store("o", load("x", (3, -1)))))),
    ("reaches outside the 6 elements of 'o'",
     lambda: program(kernel(store("o", EXP, (4, 1))))),
    ("reaches outside the 6 elements of 'x'",  # the guard lets one row too many through
     lambda: program(kernel(store("o", load("x", (3, 1), 3, Guard(Linear((1, 0)), 2)))))),
    ("reaches outside the 6 elements of 'x'",
     lambda: program(kernel(store("o", Gather(
         Access("x", (0, 1)), Index(Linear((1, 0))), 3, 3, float32))))),
    ("pieces after one without guards are never read",
     lambda: program(kernel(store("o", Load(load("x").pieces * 2, float32))))),
    ("stores each element of 'o' once per i", lambda: program(kernel(store("o", EXP, (0, 1))))),
    ("stores each element of 'o' once per j",
     lambda: program(reduced(store("o", load("x"), (1, 0))))),
    ("stores elements of 'o' more than once", lambda: program(kernel(store("o", EXP, (1, 1))))),
    ("stores elements of 'o' that are stored already",
     lambda: program(kernel(store("o", EXP)), kernel(store("o", EXP)))),
    ("3 of the 6 elements of 'o' are written",
     lambda: program(kernel(store("o", load("x", (1,)), (1,)), axes=(COLUMNS,)))),
    ("0 of the 6 elements of 'o' are written", lambda: program(COPY)),
    ("kernel out: reads 't' before all of it is written", lambda: program(OUT, COPY)),
    ("reads 't' before all of it is written",
     lambda: program(kernel(store("t", load("x", (1,)), (1,)), axes=(COLUMNS,)), OUT)),
    ("stores to 'x', whose role is input",
     lambda: program(kernel(store("x", Const(0.0, float32))))),
    ("stores to 'c', whose role is constant", lambda: program(kernel(store("c", EXP)))),
    ("kernel write: changes the variable 'w' before the commit region",
     lambda: program(WRITE, kernel(store("o", EXP)), updates=("w",))),
    ("kernel k: writes the output 'o' in the commit region",
     lambda: program(WRITE, kernel(store("o", EXP)), commit=0, updates=("w",))),
    ("the variable 'w' changes, but is not among the updates",
     lambda: program(kernel(store("o", EXP)), WRITE, commit=1)),
    ("0 of the 6 elements of 'w' are written",
     lambda: program(kernel(store("o", EXP)), updates=("w",))),
    ("reads the variable 'w' after it has changed",
     lambda: program(kernel(store("o", EXP)), WRITE, kernel(store("t", load("w"))), commit=1,
                     updates=("w",))),
    ("reads 'w' elsewhere than it stores to it",
     lambda: program(kernel(store("o", EXP)), kernel(store("w", load("w", (1, 2)))), commit=1,
                     updates=("w",))),
    ("reads 'w' after storing to it",
     lambda: program(kernel(store("o", EXP)), kernel(store("w", EXP), store("t", load("w"))),
                     commit=1, updates=("w",))),
]  # fmt: skip


@pytest.mark.parametrize(("message", "make"), BROKEN, ids=[m for m, _ in BROKEN])
def test_broken_programs(message: str, make: Callable[[], Program]) -> None:
    with pytest.raises(VerificationError, match=f"^after fuse: .*{message}"):
        verify_program(make(), "fuse")


def test_bodies_seen_before_are_not_checked_again() -> None:
    bad = kernel(store("o", load("x", (3, 1), 1)))
    with pytest.raises(VerificationError):
        verify_program(program(bad), seen={})
    seen = {id(bad.body): bad}
    for known in (bad, bad.renamed("another_name", ())):
        verify_program(program(known), seen=seen)
    with pytest.raises(VerificationError):
        verify_program(program(replace(bad, axes=(ROWS, replace(COLUMNS, name="k")))), seen=seen)


@pytest.mark.parametrize(
    ("access", "inside"),
    [
        (Access("x", (1,), -1, (Guard(Linear((1,), -1), 4),)), True),
        (Access("x", (1,), -1, (Guard(Linear((1,), -1), 5),)), False),
        (Access("x", (1,), 0, (Guard(Linear((1,), -3), 4),)), False),
        (Access("x", (2,), -6, (Guard(Linear((1,), -3), 2),)), True),
        # every second place of a stretched read: (i - 1) / 2, where 2 divides i - 1
        (Access("x", (1,), -1, (Guard(Linear((1,), -1), 4, 2),), 2), True),
        (Access("x", (1,), 1, (Guard(Linear((1,), -1), 4, 2),), 2), False),
        # guards that say nothing about the read
        (Access("x", (1,), 0, (Guard(Linear((0,), 0), 1),)), False),
        (Access("x", (1,), 99, (Guard(Linear((0,), -1), 1),)), True),
    ],
)
def test_guards_bound_what_is_read(access: Access, inside: bool) -> None:
    assert stays_inside(access, (8,), 4) is inside


def test_guards_of_sums_are_tried_point_by_point() -> None:
    # i + j < 3 bounds neither i nor j alone, but i + 3 * j stays below 7
    guard = Guard(Linear((1, 1)), 3)
    assert stays_inside(Access("x", (1, 3), 0, (guard,)), (9, 9), 7)
    assert not stays_inside(Access("x", (1, 3), 0, (guard,)), (9, 9), 6)


def test_an_empty_space_reads_nothing() -> None:
    assert stays_inside(Access("x", (1, 1), 1000), (0, 5), 1)


def test_a_space_without_axes_is_one_point() -> None:
    assert stays_inside(Access("x", (), 3, (Guard(Linear((), 0), 1),)), (), 4)
    assert not stays_inside(Access("x", (), 4, (Guard(Linear((), 0), 1),)), (), 4)
    assert stays_inside(Access("x", (), 4, (Guard(Linear((), 1), 1),)), (), 4)


def test_temporaries_without_elements_need_no_place() -> None:
    good = chain({"a": 0, "b": 256}, 512)
    empty = {**good.buffers, "e": Buffer("e", float32, (0, 3), "temporary")}
    piece = Access("e", (0, 0), 0, (Guard(Linear((0, 0)), 0),))
    first = kernel(store("a", Load((piece,), float32)))
    verify_program(replace(good, buffers=empty, kernels=(first, *good.kernels[1:])))


# -- memory plans


def chain(offsets: dict[str, int], arena: int, second: Kernel | None = None) -> Program:
    """x -> a -> b -> o, with the temporaries a and b at the offsets."""
    own = buffers(x="input", a="temporary", b="temporary", o="output")
    kernels = (
        kernel(store("a", load("x"))),
        second or kernel(store("b", load("a"))),
        kernel(store("o", load("b"))),
    )
    return Program(own, kernels, ("x",), ("o",), (), (), 3, MemoryPlan(offsets, arena))


def test_good_plans_pass() -> None:
    verify_program(chain({"a": 0, "b": 256}, 512))
    verify_plan(chain({"a": 0, "b": 0}, 256))  # in place: read and stored alike


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: chain({"a": 0}, 512), "the memory plan has no place for 'b'"),
        (lambda: chain({"a": 0, "b": 256}, 256), "'b' lies outside the arena of 256 bytes"),
        (lambda: chain({"a": 0, "b": -8}, 256), "'b' lies outside the arena"),
        (lambda: chain({"a": 0, "b": 8}, 512), "'b' and 'a' are alive together and share"),
        (lambda: chain({"a": 0, "b": 0}, 256, kernel(store("b", load("a", (1, 2))))),
         "'b' and 'a' are alive together and share memory"),
    ],
)  # fmt: skip
def test_broken_plans(made: Callable[[], Program], message: str) -> None:
    with pytest.raises(VerificationError, match=message):
        verify_program(made(), "plan_memory")


def test_places_of_other_widths_are_no_place() -> None:
    bad = chain({"a": 0, "b": 0}, 256)
    wide = {**bad.buffers, "b": Buffer("b", float64, (2, 3), "temporary")}
    with pytest.raises(VerificationError, match="share memory"):
        verify_plan(replace(bad, buffers=wide))

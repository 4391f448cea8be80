"""The text form of computations: what is printed parses back, and prints the same again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc.ir.ops  # noqa: F401  (fills the op table)
from graphc.ir.computation import Computation, cut
from graphc.ir.dtypes import ALL, DType, float32, int32
from graphc.ir.errors import ParseError
from graphc.ir.graph import Graph, Value
from graphc.ir.interpret import evaluate
from graphc.ir.literal import Literal
from graphc.ir.table import OPS
from graphc.ir.text import parse, print_computation
from graphc.ir.verify import verify_computation


def build(make: Callable[[], Any]) -> Computation:
    with Graph().as_default():
        values = make()
        values = values if isinstance(values, (list, tuple)) else [values]
        return cut(list(values), [], [])


def placeholder(*shape: Any, dtype: DType = float32, name: str = "x") -> Value:
    return OPS["placeholder"](dtype=dtype, shape=None if shape == (None,) else shape, name=name)


def literal(array: np.ndarray) -> Value:
    return OPS["constant"](value=Literal(array))


def round_trip(computation: Computation) -> Computation:
    text = print_computation(computation)
    again = parse(text)
    assert print_computation(again) == text
    return again


def test_what_it_looks_like() -> None:
    def make() -> Value:
        x = placeholder(4, "n", name="x")
        return OPS["exp"](OPS["multiply"](x, 2.0), name="scope/y")

    text = print_computation(build(make), locations=False)
    assert text == (
        "computation user\n"
        "  inputs\n"
        "  %0 = placeholder() {dtype=float32, shape=(4, 'n')} : float32[4, n]  # x\n"
        "  %1 = constant() {value=float32[](2.0)} : float32[]  # constant\n"
        "  %2 = multiply(%0, %1) : float32[4, n]  # multiply\n"
        "  %3 = exp(%2) : float32[4, n]  # scope/y\n"
        "  outputs %3\n"
    )


def test_names_lines_and_origins_survive() -> None:
    computation = build(lambda: OPS["exp"](placeholder(3), name="a/b.c-d"))
    node = round_trip(computation).outputs[0].node
    original = computation.outputs[0].node
    assert (node.name, node.where, node.origin) == ("a/b.c-d", original.where, ("a/b.c-d",))
    assert node.where is not None and node.where.file == __file__
    origin = type(node)(node.op, node.inputs, node.attrs, node.types, "z", node.where, ("p/q", "r"))
    again = round_trip(Computation((), origin.outputs)).outputs[0].node
    assert again.origin == ("p/q", "r") and again.name == "z"


@pytest.mark.parametrize("dtype", ALL, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (5, 7), (0, 4), (1, 1, 1)], ids=str)
def test_constants_of_every_dtype_come_back_exactly(dtype: DType, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    raw = rng.integers(0, 256, (*shape, dtype.itemsize), np.uint8)
    if dtype.is_bool:
        raw = raw % 2
    array = np.frombuffer(raw.tobytes(), dtype.numpy).reshape(shape)
    again = round_trip(build(lambda: literal(array))).outputs[0].node.attrs["value"].array
    assert again.dtype == array.dtype and again.shape == shape
    assert again.tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", [d for d in ALL if d.is_floating], ids=str)
def test_special_floats(dtype: DType) -> None:
    numbers = [np.nan, np.inf, -np.inf, -0.0, 0.0, dtype.max, dtype.min, 1 / 3]
    array = np.array(numbers).astype(dtype.numpy)
    computation = build(lambda: literal(array))
    text = print_computation(computation)
    assert "nan, inf, -inf, -0.0, 0.0" in text and "data" not in text
    again = round_trip(computation).outputs[0].node.attrs["value"].array
    assert again.tobytes() == array.tobytes()


def test_nan_bits_that_numbers_cannot_spell_are_kept() -> None:
    array = np.array([0x7FC00123, 0xFFC00000], np.uint32).view(np.float32)
    computation = build(lambda: literal(array))
    assert "\ndata @" in print_computation(computation)
    again = round_trip(computation).outputs[0].node.attrs["value"].array
    assert again.tobytes() == array.tobytes()


def test_uniform_and_large_constants_are_short_or_apart() -> None:
    large = np.random.default_rng(0).standard_normal((30, 40)).astype(np.float32)
    computation = build(lambda: [literal(np.full((30, 40), 1.5, np.float32)), literal(large)])
    lines = print_computation(computation).splitlines()
    assert "{value=float32[30, 40](all 1.5)}" in lines[2]
    assert all(len(line) < 200 for line in lines if not line.startswith("data "))
    again = round_trip(computation)
    np.testing.assert_array_equal(evaluate(again.outputs)[1], large)


def test_zeros_of_both_signs_are_not_uniform() -> None:
    array = np.array([0.0, -0.0] * 20, np.float32)
    again = round_trip(build(lambda: literal(array))).outputs[0].node.attrs["value"].array
    assert np.signbit(again).tolist() == np.signbit(array).tolist()


@pytest.mark.parametrize("name", sorted(OPS))
def test_every_sample_of_every_op(name: str) -> None:
    op = OPS[name]
    for sample in op.samples():
        computation = build(lambda s=sample: op.outputs(*map(literal, s.inputs), **s.attrs))  # type: ignore[misc]
        again = round_trip(computation)
        verify_computation(again)
        assert [v.type for v in again.outputs] == [v.type for v in computation.outputs]


def test_unknown_dims_and_ranks() -> None:
    def make() -> list[Value]:
        odd = OPS["placeholder"](dtype=int32, shape=("a b", "?", "s/x.0", 3), name="odd")
        return [OPS["abs"](odd), OPS["exp"](placeholder(None, name="any"))]

    computation = build(make)
    again = round_trip(computation)
    assert again.outputs[0].type.shape == ("a b", "?", "s/x.0", 3)
    assert again.outputs[1].type.shape is None


def test_updates_inputs_and_several_outputs() -> None:
    with Graph().as_default():
        x = placeholder(4, 2)
        unused = placeholder(7, name="unused")
        w = OPS["variable"](dtype=float32, shape=(4, 2), name="w")
        step = OPS["assign_add"](w, x)
        first, second = OPS["concat_grad"].outputs(x, x[:3], x[:1], axis=0)
        computation = cut([second, first], [step.node], [unused, x])
    again = round_trip(computation)
    assert [n.name for n in again.inputs] == ["unused", "x"]
    assert [v.index for v in again.outputs] == [1, 0]
    assert [(n.name, v.node.op.name) for n, v in again.updates] == [("w", "add")]
    assert again.stage == computation.stage


def test_names_as_labels_stay_the_same_when_numbers_change() -> None:
    def make(extra: bool) -> Computation:
        def values() -> list[Value]:
            x = placeholder(3)
            head = [OPS["log"](x, name="log")] if extra else []
            return [*head, OPS["exp"](x, name="exp")]

        return build(values)

    long, short = (print_computation(make(e), False, "name").splitlines() for e in (True, False))
    assert [line for line in short if line not in long] == ["  outputs %exp"]


@st.composite
def attribute(draw: Any) -> Any:
    leaf = st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**64), st.floats(), st.text(max_size=6)
    )
    return draw(st.recursive(leaf, lambda x: st.lists(x, max_size=3).map(tuple), max_leaves=6))


@settings(max_examples=150, deadline=None)
@given(attribute())
def test_attributes(value: Any) -> None:
    op = OPS["placeholder"]
    node = placeholder().node
    made = type(node)(op, (), {"dtype": float32, "shape": value}, node.types, "x")
    again = round_trip(Computation((), made.outputs)).outputs[0].node.attrs["shape"]
    assert repr(again) == repr(value)


GOOD = """computation static
  inputs %0
  %0 = placeholder() {dtype=float32, shape=(2,)} : float32[2]  # x
  %1 = add(%0, %0) : float32[2]  # y
  outputs %1
"""


def test_comments_may_be_left_out_and_blank_lines_put_in() -> None:
    text = GOOD.replace("  # y", "").replace("  outputs", "\n# a remark\n  outputs")
    assert parse(text).outputs[0].node.op.name == "add"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("add(%0", "add(%7", "line 4, column 12: %7 is not defined before"),
        ("= add", "= fly", "line 4, column 7: no op of the table"),
        ("shape=(2,)", "shaped=(2,)", "line 3, .*has no attribute 'shaped'"),
        ("dtype=float32", "dtype=float31", "line 3, .*no dtype 'float31'"),
        ("%0, %0)", "%0, %0", "line 4, column 18: expected ','"),
        (": float32[2]  # y", "", "line 4, column 19: expected ':'"),
        ("float32[2]  # y", "float32[2.5]  # y", "a dim is a size or a name"),
        ("%1 = add", "%0 = add", "line 4, column 1: %0 is defined twice"),
        ("computation static\n", "", "no line 'computation <stage>'"),
        ("outputs %1", "outputs %1 %0", "line 5, .*expected ','"),
        ("outputs", "output", "line 5, column 1: a line cannot begin with 'output'"),
        ("# y", "# ", "line 4, .*the comment must read"),
        ("inputs %0", "inputs %3", "%3 is not defined"),
        ("add(%0, %0)", "constant() {value=float32[2](@12ab)}", "no line 'data @12ab'"),
        ("add(%0, %0)", "constant() {value=float32[2](1.0)}", "no values of float32"),
        ("add(%0, %0)", "constant() {value=int8[](300)}", "no values of int8"),
        ("add(%0, %0)", "constant() {value=float32[n](1.0)}", "has sizes as dims"),
        ("add(%0, %0)", "add(%0, $)", "line 4, column 15: cannot read"),
        ("  outputs %1\n", "  outputs %1\ndata @12 !!!\n", "line 6, .*no base64"),
    ],
)  # fmt: skip
def test_errors_name_line_and_column(old: str, new: str, message: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(ParseError, match=r"line \d+, column \d+: ") as error:
        parse(GOOD.replace(old, new))
    error.match(message)

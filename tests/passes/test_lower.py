"""lower: one kernel per op that computes, movements as accesses, updates last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from graphc.ir import loop
from graphc.ir.computation import Computation, cut
from graphc.ir.dtypes import DType, bfloat16, float16, float32, int32
from graphc.ir.graph import Graph, Node, Value, convert
from graphc.ir.interpret import evaluate
from graphc.ir.loop import Program
from graphc.ir.loop_text import format_kernel
from graphc.ir.table import OPS
from graphc.passes.context import Context
from graphc.passes.decompose import decompose
from graphc.passes.fuse import fuse
from graphc.passes.lower import lower
from graphc.passes.order import order
from graphc.passes.plan_memory import plan_memory
from graphc.passes.specialize import specialize
from tests.passes.program_checks import run

Given = dict[Node, np.ndarray]


@pytest.fixture(autouse=True)
def fresh_graph() -> Iterator[None]:
    with Graph().as_default():
        yield


def source(array: Any, op: str = "placeholder", dtype: DType = float32, name: str = "x") -> Value:
    shape = np.shape(array)
    return OPS[op](dtype=dtype, shape=shape, name=name)


def lowered(computation: Computation) -> tuple[Program, Context]:
    """The program with nothing rewritten before: what lower alone makes of the ops."""
    ctx = Context()
    return lower(decompose(specialize(computation, ctx), ctx), ctx), ctx


def checked(computation: Computation, given: Given, rtol: float = 0.0) -> tuple[Program, Context]:
    """Lowered, and fused, and run both ways against the evaluator."""
    program, ctx = lowered(computation)
    want = evaluate(computation.roots, given)
    own = Context()
    for each in (program, fuse(program, own)):
        planned = plan_memory(order(each, own), own)
        for got, expected in zip(run(planned, computation, given), want, strict=True):
            assert got.dtype == expected.dtype
            np.testing.assert_allclose(got, expected, rtol)
    return program, ctx


def feed(*arrays: np.ndarray) -> tuple[list[Value], Given]:
    values = [source(a, name=f"in{i}") for i, a in enumerate(arrays)]
    return values, {v.node: a for v, a in zip(values, arrays, strict=True)}


def numbers(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(sum(shape))
    return rng.integers(-9, 10, shape).astype(np.float32)


MOVEMENTS: dict[str, tuple[tuple[int, ...], Callable[[Value], Value]]] = {
    "transpose": ((3, 4, 5), lambda x: OPS["transpose"](x, perm=(2, 0, 1))),
    "reshape": ((3, 4, 5), lambda x: OPS["reshape"](x, shape=(12, 5))),
    "reshape_of_a_dense_buffer": ((6, 4), lambda x: OPS["reshape"](x, shape=(8, 3))),
    "split_after_transpose": (
        (6, 4), lambda x: OPS["reshape"](OPS["transpose"](x), shape=(4, 2, 3)),
    ),
    "broadcast": ((4, 1), lambda x: OPS["broadcast_to"](x, shape=(3, 4, 5))),
    "flip": ((7,), lambda x: OPS["slice"](x, start=(6,), size=(4,), step=(-2,))),
    "padding": (
        (3, 4), lambda x: OPS["pad"](x, low=(1, 0), high=(0, 2), interior=(0, 1)),
    ),
    "cropping": (
        (5, 4), lambda x: OPS["pad"](x, low=(-1, 1), high=(-2, 0), interior=(0, 0)),
    ),
    "concatenation": ((3, 4), lambda x: OPS["concat"](x, x, axis=1)),
    "windows": (
        (5, 6),
        lambda x: OPS["unfold"](x, axes=(0, 1), window=(2, 3), stride=(1, 2), dilation=(1, 1)),
    ),
    "scalar_to_all": ((), lambda x: OPS["broadcast_to"](x, shape=(2, 3))),
    "one_element": ((1, 1), lambda x: OPS["transpose"](x)),
    "empty": ((0, 3), lambda x: OPS["transpose"](x)),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVEMENTS)
def test_movement_makes_no_kernel(name: str) -> None:
    shape, move = MOVEMENTS[name]
    (x,), given = feed(numbers(*shape))
    y = OPS["negative"](move(x))
    program, ctx = checked(cut([y], (), [x]), given)
    assert not ctx.decisions
    assert len(program.kernels) == (0 if 0 in shape else 1)


def test_reshape_that_is_not_affine_copies() -> None:
    (x,), given = feed(numbers(4, 6))
    y = OPS["negative"](OPS["reshape"](OPS["transpose"](x), shape=(8, 3)))
    program, ctx = checked(cut([y], (), [x]), given)
    assert [k.form for k in program.kernels] == ["flat", "flat"]
    assert [d.reason for d in ctx.decisions] == ["NON_AFFINE"]


def test_concatenation_of_many_parts_is_stored_part_by_part() -> None:
    values, given = feed(*(numbers(2, n) for n in range(1, 12)))
    y = OPS["negative"](OPS["concat"](*values, axis=1))
    program, _ = checked(cut([y], (), values), given)
    assert len(program.kernels) == len(values) + 1


def test_concatenation_of_padded_parts() -> None:
    (x,), given = feed(numbers(2, 3))
    padded = OPS["pad"](x, low=(0, 1), high=(0, 1), interior=(0, 0))
    checked(cut([OPS["concat"](padded, x, axis=1)], (), [x]), given)


def test_padding_of_a_constant_and_of_positions() -> None:
    (x,), given = feed(numbers(5))
    ones = convert(np.ones(3, np.float32), float32)
    here = OPS["cast"](OPS["iota"](shape=(3,), axis=0, dtype=int32), dtype=float32)
    row = OPS["iota"](shape=(3,), axis=0, dtype=int32)
    spread = OPS["cast"](OPS["pad"](row, low=(1,), high=(1,), interior=(0,)), dtype=float32)
    padded = [OPS["pad"](v, low=(1,), high=(1,), interior=(0,)) for v in (ones, here)]
    checked(cut([x + padded[0] + padded[1] + spread], (), [x]), given)


REDUCTIONS = [
    ((4, 5), (1,)), ((4, 5), (0,)), ((3, 4, 5), (0, 2)), ((7,), (0,)), ((1, 1), (0,)), ((), ()),
    ((0, 3), (0,)), ((3, 0), (0,)),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "axis"), REDUCTIONS)
@pytest.mark.parametrize("op", ["reduce_sum", "reduce_max", "reduce_min", "reduce_prod"])
def test_reductions(op: str, shape: tuple[int, ...], axis: tuple[int, ...]) -> None:
    (x,), given = feed(numbers(*shape))
    checked(cut([OPS[op](x, axis=axis), OPS[op](x, axis=axis, keepdims=True)], (), [x]), given)


def test_nan_reaches_maximum_and_position() -> None:
    array = np.array([[1, np.nan, 3], [np.inf, -np.inf, 0]], np.float32)
    (x,), given = feed(array)
    outputs = [OPS["reduce_max"](x, axis=(1,)), OPS["argmax"](x, axis=1), OPS["argmin"](x, axis=1)]
    program, _ = checked(cut(outputs, (), [x]), given)
    assert len(program.kernels) == 3


CONTRACTIONS = [
    ("ab,bc->ac", (3, 4), (4, 5)), ("ba,bc->ca", (4, 3), (4, 5)), ("ab,bc->ac", (3, 1), (1, 5)),
    ("ab,bc->ac", (3, 0), (0, 5)), ("a,a->", (7,), (7,)), ("a,b->ab", (3,), (4,)),
    ("xab,xbc->xac", (2, 3, 4), (2, 4, 5)), ("ab,bc->ac", (0, 3), (3, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "a", "b"), CONTRACTIONS)
def test_contractions(spec: str, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    values, given = feed(numbers(*a), numbers(*b))
    checked(cut([OPS["contract"](*values, spec=spec)], (), values), given)


def test_padded_operand_stays_in_the_dot_and_a_concatenated_one_is_copied() -> None:
    values, given = feed(numbers(3, 4), numbers(5, 6))
    padded = OPS["pad"](values[0], low=(0, 1), high=(0, 0), interior=(0, 0))
    program, _ = checked(cut([OPS["matmul"](padded, values[1])], (), values), given)
    assert [k.form for k in program.kernels] == ["dot"]
    both = OPS["concat"](values[0], values[0][:, :1], axis=1)
    program, _ = checked(cut([OPS["matmul"](both, values[1])], (), values), given)
    assert [k.form for k in program.kernels] == ["flat", "dot"]


@pytest.mark.parametrize("dtype", [float16, bfloat16])
def test_half_floats_compute_in_float32(dtype: DType) -> None:
    x = source(np.zeros(5), dtype=dtype)
    given = {x.node: np.array([1.5, 3e2, -2.25, 0.1, 7.0], np.float32).astype(dtype.numpy)}
    program, _ = lowered(cut([x * x], (), [x]))
    (kernel,) = program.kernels
    assert "cast<float32>" in format_kernel(kernel)
    computation = cut([x * x, OPS["reduce_sum"](x, axis=(0,))], (), [x])
    checked(computation, given)


def test_constants_alike_everywhere_are_written_into_the_kernels() -> None:
    (x,), given = feed(numbers(3, 4))
    alike = convert(np.full((3, 4), 2.5, np.float32), float32)
    other = convert(numbers(4), float32)
    program, _ = checked(cut([x * alike + other], (), [x]), given)
    constants = [b for b in program.buffers.values() if b.role == loop.CONSTANT]
    assert [b.shape for b in constants] == [(4,)]


# -- what leaves the program


def variable(array: np.ndarray, name: str) -> Value:
    return OPS["variable"](dtype=float32, shape=array.shape, name=name)


def assigned(target: Value, value: Value) -> Node:
    return OPS["assign"].node(target, value)


def test_outputs_of_every_role() -> None:
    (x,), given = feed(numbers(2, 3))
    y = x + 1.0
    constant = convert(numbers(4), float32)
    uniform = convert(np.full(3, 7, np.float32), float32)
    v = variable(numbers(3), "w")
    given[v.node] = numbers(3)
    outputs = [x, y, y, OPS["transpose"](y), OPS["reshape"](y, shape=(6,)), constant, uniform, v, x]
    program, _ = checked(cut(outputs, (), [x]), given)
    assert program.outputs[1] == program.outputs[2]
    assert program.outputs[0] == program.outputs[-1] == program.inputs[0]


def test_fetched_variable_has_the_value_from_before_its_update() -> None:
    v, w = variable(numbers(3, 3), "a"), variable(numbers(3, 3), "b")
    given = {v.node: numbers(3, 3), w.node: numbers(3, 3) + 1}
    seen = OPS["identity"](v)
    updates = [assigned(v, v + w), assigned(w, w * 2.0)]
    flat = OPS["reshape"](v, shape=(9,))
    checked(cut([v, seen, flat, OPS["transpose"](w), w, v], updates), given)


HAZARDS: dict[str, Callable[[Value, Value], list[Node]]] = {
    "swap": lambda a, b: [assigned(a, b), assigned(b, a)],
    "swap_through_arithmetic": lambda a, b: [assigned(a, a + b), assigned(b, a - b)],
    "chain": lambda a, b: [assigned(a, b), assigned(b, a + b)],
    "transposed_self": lambda a, b: [assigned(a, OPS["transpose"](a))],
    "transposed_other": lambda a, b: [assigned(a, OPS["transpose"](b)), assigned(b, b + a)],
    "flipped_self": lambda a, b: [
        assigned(a, OPS["slice"](a, start=(2, 0), size=(3, 3), step=(-1, 1)) * 2.0)
    ],
    "row_sums": lambda a, b: [assigned(a, a - OPS["reduce_sum"](a, axis=(1,), keepdims=True))],
    "product_with_itself": lambda a, b: [assigned(a, OPS["matmul"](a, a)), assigned(b, a)],
    "twice": lambda a, b: [assigned(a, a + 1.0), OPS["assign_add"].node(a, b)],
    "constant": lambda a, b: [assigned(a, convert(np.zeros((3, 3), np.float32), float32))],
    "itself": lambda a, b: [assigned(a, a), assigned(b, a)],
}


@pytest.mark.parametrize("name", HAZARDS)
def test_updates_read_the_values_from_before_the_run(name: str) -> None:
    arrays = numbers(3, 3), numbers(3, 3) * 2 + 1
    a, b = variable(arrays[0], "a"), variable(arrays[1], "b")
    computation = cut([a + b, a], HAZARDS[name](a, b))
    program, _ = checked(computation, {a.node: arrays[0], b.node: arrays[1]})
    assert program.commit < len(program.kernels)
    for position, kernel in enumerate(program.kernels):
        roles = {program.buffers[n].role for n in kernel.outputs}
        assert (loop.VARIABLE in roles) == (position >= program.commit)


def test_update_whose_value_is_fetched() -> None:
    a = variable(numbers(4), "a")
    node = assigned(a, a * 2.0)
    checked(cut([node.outputs[0], a], [node]), {a.node: numbers(4)})


def test_read_after_an_assignment_yields_what_was_assigned() -> None:
    a = variable(numbers(4), "a")
    node = assigned(a, a * 2.0)
    again = node.outputs[0] + 1.0
    computation = cut([again], [OPS["assign_add"].node(a, again)])
    program, _ = checked(computation, {a.node: numbers(4)})
    assert program.updates == program.variables


def test_names_are_identifiers_and_unique() -> None:
    x = source(np.zeros(3), name="scope/x")
    y = OPS["exp"](x, name="scope/kernel")
    z = OPS["exp"](y, name="v1")
    program, _ = lowered(cut([z, OPS["tanh"](y, name="scope_x")], (), [x]))
    names = [*program.buffers, *(k.name for k in program.kernels)]
    assert len(set(names)) == len(names) and all(n.isidentifier() for n in names)

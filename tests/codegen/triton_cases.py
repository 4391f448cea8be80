"""Programs on which the Triton back end is proven: by the interpreter, and by compiling them.

A case gives a planned program, the arrays of its inputs, and the recipes that it must exercise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np

import graphc.ir.ops  # noqa: F401  (fills the op table)
from graphc.ir import loop
from graphc.ir.computation import cut
from graphc.ir.dtypes import DType, as_dtype, float32, int64, uint32
from graphc.ir.graph import Value
from graphc.ir.loop import (
    Access,
    Apply,
    Axis,
    Buffer,
    Expr,
    Gather,
    Kernel,
    Let,
    Load,
    Program,
    Ref,
)
from graphc.ir.settings import Settings
from graphc.ir.table import OPS, Kind
from graphc.passes.context import Context
from graphc.passes.pipeline import compile_program
from graphc.passes.plan_memory import plan_memory
from graphc.passes.target import GPU, Folding, Target


@dataclass(frozen=True)
class Case:
    """A program with inputs; `recipes` must be among those chosen; `run` numbers the run."""

    program: Program
    feeds: tuple[np.ndarray, ...]
    recipes: tuple[str, ...] = ()
    run: int = 3


CASES: dict[str, Callable[[], Case]] = {}


def case(make: Callable[[], Case]) -> Callable[[], Case]:
    """Enter a case under its function's name."""
    CASES[make.__name__] = make
    return make


# -- making programs


def given(array: np.ndarray, name: str = "x") -> Value:
    """A placeholder for the array."""
    return OPS["placeholder"](dtype=as_dtype(array.dtype), shape=array.shape, name=name)


def graph_case(
    build: Callable[..., Value | Sequence[Value]], *arrays: np.ndarray,
    recipes: Sequence[str] = (), target: Target = GPU,
) -> Case:  # fmt: skip
    """The case of a graph: `build` gets one placeholder per array."""
    inputs = [given(a, f"x{i}" if i else "x") for i, a in enumerate(arrays)]
    result = build(*inputs)
    outputs = [result] if isinstance(result, Value) else list(result)
    context = Context(Settings(), target)
    program = compile_program(cut(outputs, [], inputs), context)
    return Case(program, arrays, tuple(recipes))


def kernel_case(
    kernels: Sequence[Kernel],
    inputs: dict[str, np.ndarray],
    outputs: Mapping[str, tuple[tuple[int, ...], DType]],
    recipes: Sequence[str] = (),
    temporaries: Mapping[str, tuple[int, ...]] | None = None,
) -> Case:
    """The case of hand-written kernels; temporaries are float32."""
    buffers = {n: Buffer(n, as_dtype(a.dtype), a.shape, loop.INPUT, n) for n, a in inputs.items()}
    buffers |= {n: Buffer(n, d, s, loop.OUTPUT, n) for n, (s, d) in outputs.items()}
    kept = temporaries or {}
    buffers |= {n: Buffer(n, float32, s, loop.TEMPORARY, n) for n, s in kept.items()}
    program = Program(buffers, tuple(kernels), tuple(inputs), tuple(outputs), ())
    program = program.replace(commit=len(kernels))
    return Case(plan_memory(program, Context()), tuple(inputs.values()), tuple(recipes))


def normal(*shape: int, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    """Standard normal numbers."""
    array = np.asarray(np.random.default_rng(seed).standard_normal(shape))
    return array.astype(dtype)


def integers(*shape: int, dtype: Any = np.int32, low: int = -9, high: int = 10) -> np.ndarray:
    """Random integers."""
    return np.asarray(np.random.default_rng(1).integers(low, high, shape)).astype(dtype)


def op(name: str) -> Any:
    """An op of the table."""
    return OPS[name]


# -- pointwise


@case
def chain() -> Case:
    return graph_case(
        lambda x, b, s: op("tanh")(op("exp")(x * 0.5) + b) * s - 1.5,
        normal(13, 37), normal(37, seed=1), normal(13, 1, seed=2), recipes=["flat"],
    )  # fmt: skip


@case
def aligned_chain() -> Case:
    return graph_case(
        lambda x, y: op("sigmoid")(x) * y + x, normal(64, 128), normal(64, 128, seed=1),
        recipes=["flat"],
    )  # fmt: skip


@case
def scalars() -> Case:
    return graph_case(lambda x, y: x * y + 2.0, normal(), normal(seed=1), recipes=["flat"])


@case
def halves() -> Case:
    return graph_case(
        lambda x, y: [op("exp")(x) + x, op("cast")(x, dtype=float32), y * y],
        normal(9, 24, dtype=np.float16), normal(31, dtype=ml_dtypes.bfloat16),
    )  # fmt: skip


@case
def doubles() -> Case:
    return graph_case(
        lambda x: [op("tanh")(x) * 0.1 + 1e-300, op("expm1")(x), op("log1p")(op("abs")(x))],
        normal(57, dtype=np.float64) * 1e-3,
    )  # fmt: skip


@case
def whole_numbers() -> Case:
    return graph_case(
        lambda a, b: [
            op("floordiv")(a, b), op("floormod")(a, b), op("maximum")(a, b), -a, op("sign")(b),
            op("equal")(a, b), op("cast")(a, dtype=float32),
        ],
        integers(7, 21), integers(7, 21, low=-3, high=4),
    )  # fmt: skip


@case
def booleans() -> Case:
    return graph_case(
        lambda a, b, x: [
            op("logical_and")(a, b), op("logical_xor")(a, op("logical_not")(b)),
            op("where")(a, x, op("negative")(x)), op("cast")(a, dtype=float32) + x,
            op("is_nan")(op("log")(x)),
        ],
        integers(41, low=0, high=2, dtype=np.bool_), integers(41, low=0, high=2, dtype=np.bool_),
        normal(41),
    )  # fmt: skip


@case
def narrow_integers() -> Case:
    return graph_case(
        lambda a, b: [a + a, op("floordiv")(a, a), op("cast")(b, dtype=float32), b + b],
        integers(33, dtype=np.int8), integers(33, dtype=np.uint8, low=0, high=255),
    )  # fmt: skip


@case
def special_values() -> Case:
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.5, 1e-30, 3e38], np.float32)
    y = np.roll(x, 4)
    return graph_case(
        lambda a, b: [
            op("maximum")(a, b), op("minimum")(a, b), op("less")(a, b), op("not_equal")(a, b),
            op("tanh")(a), op("sigmoid")(a), op("round")(a), op("sign")(a), op("relu")(a),
        ],
        x, y,
    )  # fmt: skip


@case
def small_arguments() -> Case:
    """Divided by the argument, so that lost digits show."""
    x = np.concatenate([s * 10.0 ** np.arange(-7, 0.1, 0.25) for s in (1, -0.9)])
    return graph_case(
        lambda a: [op(n)(a) / a for n in ("expm1", "log1p", "tanh", "erf")],
        x.astype(np.float32),
    )  # fmt: skip


@case
def sines() -> Case:
    """Eight lanes a thread, and some of their arguments large."""
    x = normal(64, 128) * np.float32(10.0) ** integers(64, 128, low=-3, high=20).astype(np.float32)
    return graph_case(lambda a: op("sin")(a) + op("cos")(a * 0.5), x, recipes=["flat"])


@case
def sines_of_doubles() -> Case:
    x = normal(64, 128, dtype=np.float64) * 10.0 ** integers(64, 128, low=-3, high=300)
    return graph_case(lambda a: op("sin")(a) + op("cos")(a), x, recipes=["flat"])


@case
def sines_in_rows() -> Case:
    return graph_case(lambda a: op("softmax")(op("sin")(a)), normal(5, 1000) * 99, recipes=["row"])


# -- movement


@case
def transposed() -> Case:
    return graph_case(
        lambda x: op("exp")(op("transpose")(x)) * 2.0, normal(70, 130), recipes=["tiled"]
    )


@case
def channels_last() -> Case:
    return graph_case(
        lambda x: op("transpose")(x, perm=(0, 2, 3, 1)) + 1.0, normal(2, 5, 24, 25),
        recipes=["tiled"],
    )  # fmt: skip


@case
def joined() -> Case:
    return graph_case(
        lambda x, y: op("concat")(x, y, axis=1) * 2.0, normal(5, 7), normal(5, 12, seed=1)
    )


@case
def joined_rows_of_booleans() -> Case:
    return graph_case(
        lambda x, y: op("logical_not")(op("concat")(x, y, axis=0)),
        integers(3, 4, dtype=np.bool_, low=0, high=2), integers(2, 4, dtype=np.bool_, low=0),
    )  # fmt: skip


@case
def padded() -> Case:
    return graph_case(
        lambda x: op("pad")(x, low=(1, 2), high=(0, 3), interior=(2, 0), fill=-1.5) + 1.0,
        normal(6, 9),
    )


@case
def padded_row_of_a_broadcast() -> Case:
    def build(x: Value) -> Any:
        wide = op("broadcast_to")(x, shape=(8, 6))
        return op("pad")(wide, low=(1, 0), high=(1, 0), interior=(0, 0)) * 3.0

    return graph_case(build, normal(6))


@case
def sliced() -> Case:
    return graph_case(
        lambda x: op("slice")(x, start=(4, 7), size=(3, 4), step=(-1, 2)) * 2.0, normal(6, 19)
    )


@case
def windows_spread() -> Case:
    attrs = {"axes": (1,), "window": (3,), "stride": (2,), "dilation": (1,)}
    return graph_case(
        lambda x: op("reduce_sum")(op("window_spread")(x, **attrs, shape=(2, 9)), axis=(2,)),
        normal(2, 4, 3),
    )


# -- rows


@case
def softmax_rows() -> Case:
    return graph_case(lambda x: op("softmax")(x), normal(9, 45) * 3, recipes=["row"])


@case
def softmax_long() -> Case:
    return graph_case(lambda x: op("softmax")(x), normal(5, 8200) * 3, recipes=["row_looped"])


@case
def softmax_split() -> Case:
    return graph_case(lambda x: op("softmax")(x), normal(2, 33000) * 3, recipes=["split"])


@case
def layer_norm() -> Case:
    def build(x: Value, g: Value, b: Value) -> Any:
        d = x - op("reduce_mean")(x, axis=(1,), keepdims=True)
        variance = op("reduce_mean")(d * d, axis=(1,), keepdims=True)
        return d * op("rsqrt")(variance + 1e-5) * g + b

    return graph_case(build, normal(6, 50), normal(50), normal(50, seed=1), recipes=["row"])


@case
def layer_norm_half() -> Case:
    def build(x: Value) -> Any:
        d = x - op("reduce_mean")(x, axis=(1,), keepdims=True)
        return d * op("rsqrt")(op("reduce_mean")(d * d, axis=(1,), keepdims=True) + 1e-3)

    return graph_case(build, normal(5, 64, dtype=np.float16), recipes=["row"])


# -- folds

FOLDING = replace(GPU, folding=Folding(parts=6, rows=2, least_bytes=-(1 << 40)))  # small ones too


def norm_with_gradient(x: Value, scale: Value, dy: Value) -> list[Value]:
    """The gradients of a layer norm's input, scale and shift."""
    center = x - op("reduce_mean")(x, axis=(1,), keepdims=True)
    square = op("reduce_mean")(center * center, axis=(1,), keepdims=True)
    deviation = op("rsqrt")(square + 1e-3)
    hat, inner = center * deviation, dy * scale
    along = op("reduce_mean")(inner * hat, axis=(1,), keepdims=True)
    dx = deviation * (inner - op("reduce_mean")(inner, axis=(1,), keepdims=True) - hat * along)
    return [dx, op("reduce_sum")(dy * hat, axis=(0,)), op("reduce_sum")(dy, axis=(0,))]


def norm_case(rows: int, columns: int) -> Case:
    arrays = normal(rows, columns), normal(columns, seed=1), normal(rows, columns, seed=2)
    return graph_case(norm_with_gradient, *arrays, recipes=["fold"], target=FOLDING)


@case
def fold_of_short_rows() -> Case:
    """Several rows a step; the last step of a part is not full."""
    return norm_case(65, 37)


@case
def fold_of_a_row_a_step() -> Case:
    return norm_case(18, 4100)


@case
def fold_of_halves() -> Case:
    """Sums of 16-bit numbers go on in 32 bits from part to part."""
    return graph_case(
        lambda x: [op("reduce_max")(x, axis=(1,)), op("reduce_sum")(x, axis=(0,))],
        normal(60, 64, dtype=ml_dtypes.bfloat16), recipes=["fold"], target=FOLDING,
    )  # fmt: skip


@case
def folds_of_other_kinds() -> Case:
    """The least, the greatest, a product, and whether there is any."""

    def build(x: Value) -> list[Value]:
        y = x / op("reduce_max")(op("abs")(x), axis=(1,), keepdims=True)
        folds = [op(n)(y, axis=(0,)) for n in ("reduce_min", "reduce_max", "reduce_prod")]
        return [y, *folds, op("reduce_any")(y > 0.99, axis=(0,))]

    return graph_case(build, normal(160, 40), recipes=["fold"], target=FOLDING)


@case
def cross_entropy_with_gradient() -> Case:
    def build(labels: Value, logits: Value) -> list[Value]:
        loss = op("softmax_cross_entropy")(labels, logits)
        ones = op("ones_like")(loss)
        grads = op("softmax_cross_entropy").grad(loss.node, [ones])
        return [loss, grads[1]]

    labels = np.random.default_rng(5).dirichlet(np.ones(17), 12).astype(np.float32)
    return graph_case(build, labels, normal(12, 17), recipes=["row"])


def in_place_case(rows: int, length: int, recipe: str) -> Case:
    """A softmax that lies where its operand lay."""

    def at(buffer: str) -> Access:
        return Access(buffer, (length, 1))

    def load(buffer: str) -> Load:
        return Load((at(buffer),), float32)

    def let(name: str, op: str, *args: Expr) -> Let:
        return Let(name, Apply(op, args, float32))

    flat = Axis("i0", rows), Axis("i1", length)
    along = Axis("i0", rows), Axis("i1", length, loop.REDUCE)
    m, e, q, v = (Ref(n, float32) for n in "meqv")
    body = (
        loop.Reduce("m", "max", load("t"), float32), let("d", "subtract", load("t"), m),
        let("e", "exp", Ref("d", float32)), loop.Reduce("q", "sum", e, float32),
        let("v", "truediv", e, q), loop.Store(at("n"), v),
    )  # fmt: skip
    kernels = (
        Kernel("first", flat, (let("v", "negative", load("x")), loop.Store(at("t"), v))),
        Kernel("rows", along, body),
        Kernel("last", flat, (let("v", "negative", load("n")), loop.Store(at("y"), v))),
    )
    x, y = normal(rows, length), {"y": ((rows, length), float32)}
    made = kernel_case(kernels, {"x": x}, y, ["flat", recipe], {n: x.shape for n in "tn"})
    plan = made.program.plan
    assert plan is not None and plan.offsets["t"] == plan.offsets["n"]
    return made


@case
def row_in_place() -> Case:
    return in_place_case(12, 17, "row")


@case
def split_row_in_place() -> Case:
    return in_place_case(2, 33000, "split")


def _reductions(axis: tuple[int, ...] | None, *shape: int, recipes: Sequence[str] = ()) -> Case:
    x = normal(*shape)
    x.flat[:: max(7, x.size // 50)] = np.nan

    def build(a: Value, clean: Value, flags: Value) -> list[Value]:
        return [
            op("reduce_sum")(clean * clean, axis=axis), op("reduce_max")(a, axis=axis),
            op("reduce_min")(clean, axis=axis), op("reduce_any")(flags, axis=axis),
            op("reduce_all")(flags, axis=axis), op("reduce_max")(clean, axis=axis),
            op("reduce_prod")(op("tanh")(clean) * 0.1 + 1.0, axis=axis),
        ]  # fmt: skip

    flags = normal(*shape, seed=4) > -1.0
    return graph_case(build, x, normal(*shape, seed=3), flags, recipes=recipes)


@case
def reduce_first_axis() -> Case:
    return _reductions((0,), 31, 6, 5, recipes=["row"])


@case
def reduce_middle_axis() -> Case:
    return _reductions((1,), 3, 13, 5)


@case
def reduce_last_axis() -> Case:
    return _reductions((2,), 3, 5, 13)


@case
def reduce_outer_axes() -> Case:
    return _reductions((0, 2), 3, 5, 13)


@case
def reduce_all_axes() -> Case:
    return _reductions(None, 5, 13)


@case
def reduce_columns_looped() -> Case:
    return graph_case(
        lambda x: [op("reduce_sum")(x, axis=(0,)), op("reduce_max")(x, axis=(0,))],
        normal(200, 70), recipes=["row_looped"],
    )  # fmt: skip


@case
def reduce_columns_split() -> Case:
    return graph_case(lambda x: op("reduce_sum")(x, axis=(0,)), normal(1100, 60), recipes=["split"])


@case
def reduce_whole_split() -> Case:
    return graph_case(
        lambda x: op("reduce_mean")(x * x, axis=None), normal(300, 301), recipes=["split"]
    )


@case
def integer_sums() -> Case:
    return graph_case(
        lambda a, b: [
            op("reduce_sum")(a, axis=(1,)), op("reduce_max")(b, axis=(1,)),
            op("reduce_min")(b, axis=None), op("reduce_prod")(a, axis=(0,)),
        ],
        integers(5, 30, dtype=np.int8), integers(5, 30, dtype=np.int64),
    )  # fmt: skip


@case
def positions() -> Case:
    x = np.round(normal(11, 23) * 2)
    x[3, 4] = x[3, 9] = np.nan
    x[5] = -np.inf
    x[6] = np.inf

    def build(a: Value, b: Value) -> list[Value]:
        return [
            op("argmax")(a, axis=1), op("argmin")(a, axis=1), op("argmax")(a, axis=0),
            op("argmin")(b, axis=0), op("argmax")(b, axis=1),
        ]  # fmt: skip

    return graph_case(build, x.astype(np.float32), integers(11, 23))


@case
def position_looped() -> Case:
    return graph_case(
        lambda x: op("argmax")(x, axis=1), np.round(normal(3, 8300)), recipes=["row_looped"]
    )


@case
def position_split() -> Case:
    return graph_case(
        lambda x: op("argmin")(x, axis=1), np.round(normal(2, 33000)), recipes=["split"]
    )


# -- dots


def _matmul(ta: bool, tb: bool) -> Case:
    def build(a: Value, b: Value, bias: Value) -> Any:
        product = op("matmul")(a, b, transpose_a=ta, transpose_b=tb)
        return op("relu")(product + bias)

    a, b = normal(*((37, 21) if ta else (21, 37))), normal(*((19, 37) if tb else (37, 19)))
    return graph_case(build, a, b, normal(19), recipes=["dot"])


@case
def matmul_plain() -> Case:
    return _matmul(False, False)


@case
def matmul_transposed_a() -> Case:
    return _matmul(True, False)


@case
def matmul_transposed_b() -> Case:
    return _matmul(False, True)


@case
def matmul_transposed_both() -> Case:
    return _matmul(True, True)


@case
def matmul_prologue() -> Case:
    return graph_case(
        lambda a, b: op("matmul")(op("exp")(a), b), normal(40, 35), normal(35, 33),
        recipes=["dot"],
    )  # fmt: skip


@case
def matmul_tiles() -> Case:
    return graph_case(
        lambda a, b: op("matmul")(a, b) * 0.5, normal(150, 70), normal(70, 140), recipes=["dot"]
    )


@case
def matmul_batched() -> Case:
    return graph_case(
        lambda a, b: op("matmul")(a, b), normal(2, 3, 18, 20), normal(3, 20, 17),
        recipes=["dot"],
    )  # fmt: skip


def _split_sums(
    rows: int, columns: int, summed: int, dtype: str = "f", batch: tuple[int, ...] = ()
) -> Case:
    """Few results of many summands, which are added up in pieces, and something after them."""
    a = (normal(*batch, rows, summed) * summed**-0.5).astype(dtype)
    b, bias = normal(*batch, summed, columns).astype(dtype), normal(columns).astype(dtype)
    return graph_case(
        lambda a, b, bias: op("relu")(op("matmul")(a, b) + bias), a, b, bias, recipes=["split_dot"]
    )


@case
def split_dot_odd() -> Case:
    return _split_sums(21, 19, 701)


@case
def split_dot_with_an_empty_piece() -> Case:
    """260 steps in 32 pieces of 9."""
    return _split_sums(16, 16, 260 * 16)


@case
def split_dot_batched() -> Case:
    return _split_sums(17, 3, 515, batch=(2,))


@case
def split_dot_of_one_row() -> Case:
    return _split_sums(2, 40, 600)


@case
def split_dot_half() -> Case:
    return _split_sums(20, 33, 2100, "e")


@case
def split_dot_alone() -> Case:
    return graph_case(
        lambda a, b: op("matmul")(a, b, transpose_a=True), normal(1030, 18) / 32, normal(1030, 20),
        recipes=["split_dot"],
    )  # fmt: skip


@case
def split_dot_not_finite() -> Case:
    a, b = normal(5, 600), normal(600, 7)
    a[1, 3], a[2, 599], b[44, 2] = np.inf, np.nan, -np.inf
    return graph_case(lambda a, b: op("matmul")(a, b) * 2.0, a, b, recipes=["split_dot"])


@case
def split_filter_gradient() -> Case:
    x, dy = normal(3, 17, 19, 4) / 30, normal(3, 17, 19, 5)
    return graph_case(
        lambda x, dy, w: op("convolution_filter_grad")(
            x, dy, w, strides=(1, 1), padding="SAME", dilations=(1, 1), data_format="NHWC"
        ),
        x, dy, normal(3, 3, 4, 5), recipes=["split_dot"],
    )  # fmt: skip


@case
def matmul_and_a_long_pass_after_it() -> Case:
    """A product of which a library computes the sums, for their many summands."""
    return graph_case(
        lambda a, b, c: op("tanh")(op("matmul")(a, b) + c),
        normal(70, 260) / 16, normal(260, 66), normal(66), recipes=["dot", "library"],
    )  # fmt: skip


@case
def matmul_half() -> Case:
    return graph_case(
        lambda a, b: op("matmul")(a, b) + 1.0,
        normal(64, 64, dtype=np.float16), normal(64, 32, dtype=np.float16), recipes=["dot"],
    )  # fmt: skip


@case
def matmul_brain() -> Case:
    return graph_case(
        lambda a, b: op("matmul")(a, b),
        normal(64, 64, dtype=ml_dtypes.bfloat16), normal(64, 32, dtype=ml_dtypes.bfloat16),
        recipes=["dot"],
    )  # fmt: skip


@case
def matmul_double() -> Case:
    return graph_case(
        lambda a, b: op("matmul")(a, b), normal(18, 20, dtype=np.float64),
        normal(20, 17, dtype=np.float64), recipes=["dot"],
    )  # fmt: skip


@case
def matmul_integers() -> Case:
    return graph_case(
        lambda a, b: op("matmul")(a, b), integers(18, 20), integers(20, 17), recipes=["dot"]
    )


@case
def matrix_times_vector() -> Case:
    return graph_case(
        lambda a, b: op("contract")(a, b, spec="ab,b->a"), normal(50, 70), normal(70),
        recipes=["row"],
    )  # fmt: skip


@case
def outer_product() -> Case:
    return graph_case(
        lambda a, b: op("contract")(a, b, spec="a,b->ab"), normal(50), normal(70), recipes=["flat"]
    )


@case
def convolution() -> Case:
    def build(x: Value, w: Value, bias: Value) -> Any:
        wide = op("pad")(x, low=(0, 1, 1, 0), high=(0, 1, 1, 0), interior=(0, 0, 0, 0))
        attrs = {"axes": (1, 2), "window": (3, 3), "stride": (2, 1), "dilation": (1, 1)}
        windows = op("unfold")(wide, **attrs)
        return op("relu")(op("contract")(windows, w, spec="nhwcij,ijco->nhwo") + bias)

    return graph_case(build, normal(2, 9, 8, 5), normal(3, 3, 5, 7), normal(7), recipes=["dot"])


# -- by hand


@case
def gathered() -> Case:
    axes = (Axis("i0", 7), Axis("i1", 5))
    index = Load((Access("rows", (1, 0)),), int64)
    value = Gather(Access("x", (0, 1)), index, 5, 6, float32, -2.0)
    body = (Let("v1", value), loop.Store(Access("y", (5, 1)), Ref("v1", float32)))
    rows = np.array([0, 5, -1, 3, 6, 2, 2**40], np.int64)
    kernel = Kernel("k0_take", axes, body, ("take",))
    return kernel_case([kernel], {"x": normal(6, 5), "rows": rows}, {"y": ((7, 5), float32)})


@case
def random_bits() -> Case:
    index = loop.Index(loop.Linear((3,), 2**33))
    run = loop.Const(2**40 + 5, int64)
    attrs = (("key", 0xFEDCBA9876543210),)
    value = Apply("philox", (index, run), uint32, attrs)
    body = (Let("v1", value), loop.Store(Access("y", (1,)), Ref("v1", uint32)))
    kernel = Kernel("k0_bits", (Axis("i0", 1000),), body, ("bits",))
    return kernel_case([kernel], {}, {"y": ((1000,), uint32)})


@case
def random_numbers() -> Case:
    return graph_case(
        lambda x: [
            op("random_unit")(shape=(33, 7), dtype=float32, key=2**63 + 77) + x,
            op("random_gauss")(shape=(50,), dtype=float32, key=5),
        ],
        normal(33, 7),
    )  # fmt: skip


@case
def group() -> Case:
    parts = []
    sizes = {"a": 2000, "b": 37, "c": 1}
    for name, size in sizes.items():
        axes = (Axis("i0", size),) if size > 1 else ()
        strides = (1,) * len(axes)
        load = Load((Access(f"x{name}", strides),), float32)
        value = Apply("multiply", (load, loop.Const(0.9, float32)), float32)
        body = (Let("v1", value), loop.Store(Access(f"y{name}", strides), Ref("v1", float32)))
        parts.append(Kernel(f"update_{name}", axes, body, (f"update_{name}",)))
    kernel = Kernel("k0_updates", (), (), ("updates",), parts=tuple(parts))
    inputs = {f"x{n}": normal(s, seed=s) for n, s in sizes.items()}
    outputs = {f"y{n}": ((s,), float32) for n, s in sizes.items()}
    return kernel_case([kernel], inputs, outputs, ["group"])


@case
def group_of_kinds() -> Case:
    """Kernels of several recipes as the parts of one launch."""
    made = graph_case(
        lambda x, w: [op("softmax")(x), op("matmul")(x, w) + 1.0, op("transpose")(w) * 2.0],
        normal(90, 80), normal(80, 70),
    )  # fmt: skip
    kernel = Kernel("k0_parts", (), (), parts=made.program.kernels)
    program = made.program.replace(kernels=(kernel,), commit=1)
    return Case(plan_memory(program, Context()), made.feeds, ("group",))


@case
def hostile_names() -> Case:
    """Buffers called like what the emitter itself writes."""
    x = normal(9, 30)
    inputs = [given(x, name) for name in ("row", "col_mask", "pid", "maximum", "x_1")]
    total = op("softmax")(inputs[0] + inputs[1], axis=-1) * inputs[2]
    program = compile_program(
        cut([op("maximum")(total, inputs[3]) + inputs[4]], [], inputs), Context()
    )
    return Case(program, (x,) * 5)


# -- too large to be run in the interpreter: only compiled

LARGE: dict[str, Callable[[], Case]] = {}


def large(make: Callable[[], Case]) -> Callable[[], Case]:
    """Enter a case that is only compiled."""
    LARGE[make.__name__] = make
    return make


def blank(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """An array that takes no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


@large
def large_norm_gradient() -> Case:
    made = blank(8192, 4096), blank(4096), blank(8192, 4096)
    return graph_case(norm_with_gradient, *made, recipes=["fold"])


@large
def longest_norm_gradient() -> Case:
    made = (blank(*s, dtype=np.float16) for s in ((4096, 8192), (8192,), (4096, 8192)))
    return graph_case(norm_with_gradient, *made, recipes=["fold"])


@large
def large_softmax() -> Case:
    return graph_case(lambda x: op("softmax")(x), blank(8192, 50000), recipes=["row_looped"])


@large
def large_softmax_in_one_tile() -> Case:
    return graph_case(lambda x: op("softmax")(x), blank(8192, 8192), recipes=["row"])


@large
def large_column_sums() -> Case:
    return graph_case(
        lambda x: op("reduce_sum")(x, axis=(0,)), blank(65536, 1024), recipes=["split"]
    )


@large
def large_matmul() -> Case:
    return graph_case(
        lambda a, b: op("relu")(op("matmul")(a, b)), blank(4096, 4096), blank(4096, 4096),
        recipes=["dot"],
    )  # fmt: skip


@large
def large_half_matmul() -> Case:
    half = np.float16
    return graph_case(
        lambda a, b, c: op("relu")(op("matmul")(a, b) + c),
        blank(4096, 4096, dtype=half), blank(4096, 4096, dtype=half), blank(4096, dtype=half),
        recipes=["dot"],
    )  # fmt: skip


@large
def large_half_convolution() -> Case:
    def build(x: Value, w: Value) -> Any:
        wide = op("pad")(x, low=(0, 1, 1, 0), high=(0, 1, 1, 0), interior=(0, 0, 0, 0))
        attrs = {"axes": (1, 2), "window": (3, 3), "stride": (1, 1), "dilation": (1, 1)}
        return op("contract")(op("unfold")(wide, **attrs), w, spec="nhwcij,ijco->nhwo")

    half = np.float16
    return graph_case(build, blank(32, 56, 56, 64, dtype=half), blank(3, 3, 64, 64, dtype=half))


@large
def beyond_32_bits() -> Case:
    """A buffer of more than 2^31 elements."""
    return graph_case(lambda x: op("cast")(x, dtype=float32), blank(3, 2**30, dtype=np.int8))


def _convolved(dtype: str = "f", **attrs: Any) -> Case:
    """A convolution with something after it and its gradients, which a library computes too."""
    x, w = normal(2, 13, 12, 8).astype(dtype), (normal(3, 3, 8, 16) / 9).astype(dtype)

    def build(x: Value, w: Value) -> list[Value]:
        y = op("convolution")(x, w, data_format="NHWC", **attrs)
        dx, dw = y.node.op.grad(y.node, [op("sigmoid")(y)])
        return [op("relu")(y + 0.5), dx * 2.0, dw]

    return graph_case(build, x, w, recipes=["dot", "library"])


@case
def convolution_by_a_library() -> Case:
    return _convolved(padding="SAME")


@case
def convolution_with_strides_by_a_library() -> Case:
    return _convolved(padding="SAME", strides=(2, 3))


@case
def convolution_of_halves_by_a_library() -> Case:
    return _convolved("e", padding="VALID", dilations=(2, 1))


# -- running sums


def _running(name: str, x: np.ndarray, **attrs: Any) -> Case:
    return graph_case(lambda x: op(name)(x, **attrs), x, recipes=["scan"])


@case
def running_sums_of_long_rows() -> Case:
    return _running("cumsum", normal(3, 2500) / 50, axis=1)


@case
def running_sums_across_columns() -> Case:
    return _running("cumsum", normal(2, 150, 5) / 10, axis=-2, exclusive=True)


@case
def running_sums_backwards() -> Case:
    return _running("cumsum", normal(5, 1030) / 30, axis=1, reverse=True, exclusive=True)


@case
def running_products() -> Case:
    return _running("cumprod", 1 + normal(70, 9) / 10, axis=0, reverse=True)


@case
def running_products_without_themselves() -> Case:
    return _running("cumprod", 1 + normal(1, 1100) / 100, axis=1, exclusive=True)


@case
def running_sums_of_halves() -> Case:
    return _running("cumsum", (normal(7, 300) / 16).astype("e"), axis=1)


@case
def running_sums_of_integers() -> Case:
    return _running("cumsum", integers(4, 1300) * 2**28, axis=1)


@case
def running_sums_of_one() -> Case:
    return _running("cumsum", normal(1, dtype=np.float64), axis=0)


@case
def running_sums_of_nothing() -> Case:
    return graph_case(
        lambda x, y: [op("cumsum")(x, axis=1), op("cumprod")(x, axis=0), y + 1.0],
        normal(3, 0), normal(2), recipes=["flat"],
    )  # fmt: skip


@case
def running_sums_not_finite() -> Case:
    x = normal(4, 1500)
    x[0, 1100], x[1, 3], x[1, 1400], x[2, 1499] = np.nan, np.inf, -np.inf, -np.inf
    return _running("cumsum", x / 40, axis=1)


# -- attention


def attention_case(
    lead: tuple[int, ...], n: int, m: int, d: int, e: int, mask: np.ndarray | None = None,
    dtype: Any = np.float32, **attrs: Any,
) -> Case:  # fmt: skip
    """The result, the sums, and the gradients of all inputs that have one."""

    def build(q: Value, k: Value, v: Value, g: Value, *masks: Value) -> list[Value]:
        node = op("scaled_dot_product_attention").node(q, k, v, *masks, **attrs)
        grads = node.op.grad(node, [g, None])
        return [*node.outputs, *(x for x in grads if x is not None)]

    shapes = ((n, d), (m, d), (m, e), (n, e))
    arrays = [normal(*lead, *s, dtype=dtype, seed=i) for i, s in enumerate(shapes)]
    return graph_case(build, *arrays, *([] if mask is None else [mask]), recipes=["attention"])


@case
def attention() -> Case:
    return attention_case((2,), 70, 45, 20, 9)


@case
def attention_causal() -> Case:
    return attention_case((1, 2), 50, 40, 16, 16, causal=True, scale=0.3)


@case
def attention_causal_tall() -> Case:
    return attention_case((1,), 70, 33, 8, 70, causal=True)


@case
def attention_bias() -> Case:
    bias = normal(2, 1, 1, 40)
    bias[1, 0, 0, 7:] = -np.inf
    return attention_case((2, 3), 33, 40, 16, 8, bias)


@case
def attention_mask() -> Case:
    keep = np.random.default_rng(5).random((3, 33, 40)) < 0.5
    keep[1, 20] = False  # nothing is left of a row
    return attention_case((2, 3), 33, 40, 16, 8, keep, causal=True)


@case
def attention_half() -> Case:
    return attention_case((1, 2), 140, 70, 32, 64, dtype=np.float16)


@case
def attention_brain() -> Case:
    """Forward alone: the interpreter rounds to bfloat16 by cutting bits, which gradients show."""
    shapes = ((2, 20, 64), (2, 70, 64), (2, 70, 32))
    return graph_case(
        lambda q, k, v: op("scaled_dot_product_attention")(q, k, v, causal=True),
        *(normal(*s, dtype=ml_dtypes.bfloat16, seed=i) for i, s in enumerate(shapes)),
        recipes=["attention"],
    )  # fmt: skip


@large
def attention_large() -> Case:
    def build(q: Value, k: Value, v: Value) -> list[Value]:
        node = op("scaled_dot_product_attention").node(q, k, v, causal=True)
        return [node.outputs[0], *node.op.grad(node, [v, None])]

    return graph_case(build, *(blank(8, 16, 4096, 128, dtype=np.float16) for _ in range(3)))


# -- one case per pointwise op of the table


def pointwise_names() -> list[str]:
    """The table's pointwise ops."""
    return sorted(n for n, o in OPS.items() if o.kind is Kind.POINTWISE)


def pointwise_cases(name: str) -> list[Case]:
    """The op on each of its samples, each alone in a program; floats also as float64."""
    made = []
    for sample in OPS[name].samples():
        attrs = dict(sample.attrs)
        kinds = {a.dtype for a in sample.inputs}
        variants = [sample.inputs]
        if kinds == {np.dtype(np.float32)}:
            variants.append(tuple(a.astype(np.float64) for a in sample.inputs))
        for arrays in variants:
            made.append(graph_case(lambda *x, a=attrs: OPS[name](*x, **a), *arrays))
    return made

"""Loops that are meant to be vectorized are: what the compiler says of each `omp simd` loop."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import graphc as gc
from graphc.codegen.native.emit import emit
from graphc.ir.computation import cut
from graphc.ir.settings import Settings
from graphc.passes.context import Context
from graphc.passes.pipeline import compile_program
from graphc.passes.target import CPU
from graphc.runtime.devices.native_build import FLAGS, SOURCES, find_compiler

ROWS, COLUMNS = 300, 500
LONG = (1000, 1024)  # columns of matrices that are reduced by lanes


def _text(build: Callable[..., Any], dtypes: Sequence[gc.DType], columns: int = COLUMNS) -> str:
    """The unit of a function of matrices."""
    with gc.Graph().as_default():
        inputs = [gc.placeholder(d, [ROWS, columns]) for d in dtypes]
        outputs = build(*inputs)
        outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        shapes = {v.node: (ROWS, columns) for v in inputs}
        context = Context(Settings(threads=2), CPU, shapes, {})
        return emit(compile_program(cut(outputs, [], inputs), context)).text


def _loops(text: str) -> list[range]:
    """The lines of each loop that is marked, counted from 1."""
    lines = text.splitlines()
    loops = []
    for i, line in enumerate(lines):
        if line.strip().startswith("#pragma omp simd"):
            closing = line[: len(line) - len(line.lstrip())] + "}"
            loops.append(range(i + 2, lines.index(closing, i) + 2))
    return loops


def not_vectorized(text: str, folder: Path) -> list[str]:
    """The marked loops that the compiler left scalar."""
    source = folder / "unit.c"
    source.write_text(text)
    command = [*find_compiler(), *FLAGS, "-shared", f"-I{SOURCES}", "-fopt-info-optimized",
               str(source), "-o", str(folder / "unit.so"), "-lm"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = re.findall(
        r"(\S+):(\d+):\d+: optimized: (?:loop vectorized|Loop .* library call)", done.stderr
    )
    found = {int(n) for name, n in told if name == str(source)}
    elsewhere = {
        place for place in told if place[0] != str(source)
    }  # placed in an inlined function
    lines = text.splitlines()
    left = [loop for loop in _loops(text) if not found & set(loop)]
    if len(left) <= len(elsewhere):
        return []
    return ["\n".join(lines[n - 1] for n in loop) for loop in left]


def _where(x: gc.Value, y: gc.Value) -> list[gc.Value]:
    chosen = gc.where(gc.logical_and(gc.less(x, y), gc.greater(x, 0.0)), x, gc.exp(y))
    return [chosen, gc.cast(gc.less(x, y), gc.float32)]


def _chain(x: gc.Value, a: gc.Value, r: gc.Value) -> gc.Value:
    z = x * a + 1.0
    return 0.5 * z * (1.0 + gc.erf(z * 0.70710678)) + r * gc.tanh(x)


def _norm_gradient(x: gc.Value, dy: gc.Value, z: gc.Value) -> list[gc.Value]:
    scale, shift = z[0], z[1]
    return list(gc.gradients(gc.nn.layer_norm(x, scale, shift), [x, scale, shift], dy))


F, D, H, B, N = gc.float32, gc.float64, gc.float16, gc.bfloat16, gc.int32
UNARY = """
    exp expm1 log log1p tanh sigmoid erf erfc sin cos tan asin acos atan sinh cosh asinh acosh atanh
    sqrt rsqrt abs sign floor ceil round square negative reciprocal is_nan is_inf is_finite
"""
BINARY = "add subtract multiply divide maximum minimum pow atan2 less equal"
DOUBLE = "exp expm1 log log1p sigmoid tanh"
CASES: dict[str, tuple[Callable[..., Any], Sequence[gc.DType]]] = {
    **{name: (getattr(gc, name), (F,)) for name in UNARY.split()},
    **{name: (getattr(gc, name), (F, F)) for name in BINARY.split()},
    **{f"{name} of float64": (getattr(gc, name), (D,)) for name in DOUBLE.split()},
    **{f"{name} of integers": (getattr(gc, name), (N, N)) for name in ("add", "multiply", "less")},
    "gelu chain": (_chain, (F, F, F)),
    "gelu": (gc.nn.gelu, (F,)),
    "softmax": (gc.nn.softmax, (F,)),
    "log softmax": (gc.nn.log_softmax, (F,)),
    "layer norm": (lambda x: gc.nn.layer_norm(x, gc.ones([COLUMNS]), gc.zeros([COLUMNS])), (F,)),
    "gradient of layer norm": (_norm_gradient, (F, F, F)),
    "row sums": (lambda x: gc.reduce_sum(x, 1), (F,)),
    "row maxima": (lambda x: gc.reduce_max(x, 1), (F,)),
    "column sums": (lambda x: gc.reduce_sum(x, 0), (F,)),
    "column maxima": (lambda x: gc.reduce_max(x, 0), (F,)),
    "column products": (lambda x: gc.reduce_prod(x, 0), (F,)),
    "sum of all": (gc.reduce_sum, (F,)),
    "sum of exp": (lambda x: gc.reduce_sum(gc.exp(x - gc.reduce_max(x))), (F,)),
    "maximum of integers": (lambda x: gc.reduce_max(x, 1), (N,)),
    "any": (lambda x: gc.reduce_any(gc.less(x, 0.0), 1), (F,)),
    "where": (_where, (F, F)),
    "compare": (gc.less, (F, F)),
    "logical": (lambda x, y: gc.logical_or(gc.is_nan(x), gc.less(x, y)), (F, F)),
    "select by bool": (gc.where, (gc.bool, F, F)),
    "relu": (gc.nn.relu, (F,)),
    "bfloat16": (lambda x, y: x * y + x, (B, B)),
    "float16": (lambda x, y: x * y + x, (H, H)),
    "exp of bfloat16": (gc.exp, (B,)),
    "from bfloat16": (lambda x: gc.cast(x, F), (B,)),
    "to bfloat16": (lambda x: gc.cast(x, B), (F,)),
    "from float16": (lambda x: gc.cast(x, F), (H,)),
    "to float16": (lambda x: gc.cast(x, H), (F,)),
    "float from int32": (lambda x: gc.cast(x, F), (N,)),
    "float from uint8": (lambda x: gc.cast(x, F) * (1 / 255), (gc.uint8,)),
    "int32 from float": (lambda x: gc.cast(x, N), (F,)),
    "uint8 from float": (lambda x: gc.cast(x, gc.uint8), (F,)),
    "float64": (lambda x, y: x * y + gc.sqrt(x), (D, D)),
    "range": (lambda x: x + gc.cast(gc.range(COLUMNS), F), (F,)),
    "random": (lambda x: x + gc.random_uniform([ROWS, COLUMNS]), (F,)),
    "dropout": (lambda x: gc.nn.dropout(x, rate=0.3), (F,)),
    "one hot": (lambda x: gc.one_hot(gc.slice(x, [0, 0], [ROWS, 1])[:, 0], 64), (N,)),
    "pad": (lambda x: gc.pad(x, [[1, 2], [3, 4]]) * 2.0, (F,)),
    "concat": (lambda x, y: gc.concat([x, y], 1), (F, F)),
    "reverse": (lambda x: gc.reverse(x, [1]), (F,)),
    "strided": (lambda x: x[:, ::2] + 1.0, (F,)),
    "transpose": (lambda x: gc.transpose(x) * 2.0, (F,)),
    "columns of halves": (lambda x: gc.reduce_sum(x, 0), (B,)),
}


@pytest.mark.parametrize("name", CASES)
def test_vectorized(name: str, tmp_path: Path) -> None:
    text = _text(*CASES[name])
    assert _loops(text), "no loop is marked"
    assert not_vectorized(text, tmp_path) == []


REDUCED = "softmax", "row sums", "row maxima", "maximum of integers", "any", "sum of exp"


@pytest.mark.parametrize("columns", LONG)
@pytest.mark.parametrize("name", REDUCED)
def test_long_rows(name: str, columns: int, tmp_path: Path) -> None:
    text = _text(*CASES[name], columns=columns)
    assert "lanes_" in text
    assert not_vectorized(text, tmp_path) == []


def test_what_is_left_scalar_is_found(tmp_path: Path) -> None:
    text = _text(gc.floormod, (F, F))
    assert len(not_vectorized(text, tmp_path)) == 1

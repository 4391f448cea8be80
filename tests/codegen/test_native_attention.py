"""Attention in C: which calls it takes, the memory that it needs, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.codegen.native.emit import emit
from graphc.ir.computation import cut
from graphc.ir.dtypes import DType, bfloat16, float16, float32, float64
from graphc.ir.graph import Graph
from graphc.ir.loop import Program
from graphc.ir.settings import Settings
from graphc.passes.context import Context
from graphc.passes.costs import kernel_flops
from graphc.passes.pipeline import compile_program
from graphc.passes.target import CPU, NUMPY, Target


def eager(target: Target) -> Target:
    """What is small is computed by the routine, too."""
    assert target.attention is not None
    return replace(target, attention=replace(target.attention, keeps=0, trains=0))


def program_of(
    n: int, m: int, dtype: DType = float32, gradient: bool = False, target: Target = CPU,
    **attrs: Any,
) -> Program:  # fmt: skip
    """Attention of 2 heads of 16 in a program, or its gradients."""
    with Graph().as_default():
        q, k, v = inputs = [gc.placeholder(dtype, (2, size, 16)) for size in (n, m, m)]
        out = gc.nn.scaled_dot_product_attention(q, k, v, **attrs)
        loss = gc.reduce_sum(gc.cast(out, gc.float32))
        outputs = gc.gradients(loss, inputs) if gradient else [out]
        computation = cut([x for x in outputs if x is not None], [], inputs)
        return compile_program(computation, Context(Settings(), eager(target)))


@pytest.mark.parametrize("gradient", [False, True])
def test_c_takes_all_but_double(gradient: bool) -> None:
    for dtype, count in ((float32, 0), (bfloat16, 0), (float16, 0), (float64, 1 + gradient)):
        module = emit(program_of(5, 7, dtype, gradient))
        assert len(module.launches["routines"]) == count
        assert ("GC_ATTEND" in module.text) == (count == 0)


def test_masks_are_read_where_they_lie() -> None:
    mask = np.ones((2, 1, 7), np.bool_)
    text = emit(program_of(5, 7, mask=mask)).text
    assert ".mask_kind = GC_KEEPING, .mask_row = 0, .mask_key = 1" in " ".join(text.split())
    assert "dims[] = {2}" in text and "strides[] = {7}" in text
    text = emit(program_of(5, 7, mask=mask[:1])).text
    assert "dims[]" not in text


@pytest.mark.parametrize("target", [CPU, NUMPY])
def test_no_matrix_of_scores_is_in_memory(target: Target) -> None:
    n = 1 << 15
    for gradient in (False, True):
        program = program_of(n, n, gradient=gradient, target=target, causal=True)
        largest = max(b.nbytes for b in program.buffers.values())
        assert largest == 2 * n * 16 * 4
        assert program.plan is not None
        assert program.plan.arena_bytes <= 6 * largest < n * n // 4


def test_operations_are_known() -> None:
    calls = [k for k in program_of(100, 50).kernels if k.form == "call"]
    assert [kernel_flops(k) for k in calls] == [2.0 * 2 * 100 * 50 * (16 + 16)]
    calls = [k for k in program_of(64, 64, gradient=True, causal=True).kernels if k.form == "call"]
    assert [kernel_flops(k) for k in calls] == [64.0 * 64 * 2 * 32, 64.0 * 64 * 2 * 80]

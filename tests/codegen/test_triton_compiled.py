"""Every emitted kernel compiles to cubins without a GPU, and to good ones.

No stack frame (nothing spills), wide loads where sizes are aligned, tensor cores in the dots of
16-bit floats.
"""

from __future__ import annotations

import importlib

import pytest

from tests.codegen.triton_cases import (
    CASES,
    LARGE,
    graph_case,
    normal,
    pointwise_cases,
    pointwise_names,
)

pytest.importorskip("triton")
compiled = importlib.import_module("tests.codegen.triton_compiling").compiled

VECTOR_LOAD = r"ld\.global[.a-z0-9:]*\.v[248]"
VECTOR_STORE = r"st\.global[.a-z0-9:]*\.v[248]"
TENSOR_CORE = r"(wgmma|mma\.sync|tcgen05\.mma)"


@pytest.mark.parametrize("arch", [80, 90, 100])
@pytest.mark.parametrize("name", [*CASES, *LARGE])
def test_case_compiles_without_a_stack(name: str, arch: int) -> None:
    kernels = list(compiled({**CASES, **LARGE}[name]().program, arch))
    assert kernels
    for kernel in kernels:
        assert kernel.stack_bytes == 0, kernel.function


@pytest.mark.parametrize("arch", [80, 90, 100])
@pytest.mark.parametrize("name", ["aligned_chain", "transposed", "layer_norm_half"])
def test_aligned_accesses_are_wide(name: str, arch: int) -> None:
    for kernel in compiled(CASES[name]().program, arch):
        assert kernel.count(VECTOR_LOAD) == kernel.count(r"ld\.global") > 0
        assert kernel.count(VECTOR_STORE) == kernel.count(r"st\.global") > 0


@pytest.mark.parametrize("arch", [80, 90, 100])
@pytest.mark.parametrize("name", ["matmul_half", "matmul_brain"])
def test_half_dots_use_tensor_cores(name: str, arch: int) -> None:
    (kernel,) = compiled(CASES[name]().program, arch)
    assert kernel.count(TENSOR_CORE) > 0


@pytest.mark.parametrize(
    ("arch", "instruction"), [(80, "mma.sync"), (90, "wgmma"), (100, "tcgen05.mma")]
)
@pytest.mark.parametrize("name", ["large_half_matmul", "large_half_convolution"])
def test_large_dots_use_the_newest_tensor_cores(name: str, arch: int, instruction: str) -> None:
    (kernel,) = compiled(LARGE[name]().program, arch)
    assert kernel.count(instruction) > 0
    assert kernel.count("cp.async") > 0  # the next tiles are on their way


def test_attention_uses_tensor_cores() -> None:
    kernels = compiled(LARGE["attention_large"]().program, 90)
    found = [k for k in kernels if k.recipe == "attention"]
    assert len(found) == 3  # forward; backward by rows and by keys
    assert all(k.count("wgmma") > 0 for k in found)


def test_products_are_rounded_before_they_are_added() -> None:
    """As the interpreter does; the sums of a dot are another matter."""
    chain = graph_case(lambda x, y: x * 0.3 - y, normal(64, 64), normal(64, 64))
    (kernel,) = compiled(chain.program, 90)
    assert kernel.count(r"mul\.(rn\.)?f32") > 0 and kernel.count(r"fma\.rn\.f32") == 0
    (product,) = compiled(CASES["matmul_tiles"]().program, 90)
    assert product.count(r"fma\.rn\.f32") > 0


def test_only_large_buffers_need_64_bit_indices() -> None:
    from graphc.codegen.triton import emit

    wide, small = LARGE["beyond_32_bits"](), CASES["transposed"]()
    assert "pid = tl.program_id(0).to(tl.int64)" in emit(wide.program).text
    assert "tl.int64" not in emit(small.program).text


def test_float32_dots_use_tensor_cores_only_when_asked() -> None:
    from graphc.codegen.triton import Options

    program = CASES["matmul_tiles"]().program
    (exact,) = compiled(program, 90)
    (rounded,) = compiled(program, 90, Options(tf32=True))
    assert exact.count(TENSOR_CORE) == 0
    assert rounded.count(TENSOR_CORE) > 0


def test_the_source_says_how_float32_products_round() -> None:
    from graphc.codegen.triton import Options, emit

    program = CASES["matmul_tiles"]().program
    assert 'input_precision="ieee"' in emit(program).text
    rounded = emit(program, Options(tf32=True)).text
    assert 'input_precision="tf32"' in rounded and "ieee" not in rounded


@pytest.mark.parametrize("name", pointwise_names())
def test_every_pointwise_op_compiles(name: str) -> None:
    for case in pointwise_cases(name)[:2]:
        for kernel in compiled(case.program, 90):
            assert kernel.stack_bytes == 0

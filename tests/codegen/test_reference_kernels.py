"""Gates for the GPU that need none: every kernel of the six reference networks, for sm_90.

Registers, stack, wide loads and tensor cores are read from what the compiler made; bytes and
launches from the programs. Speed itself is measured on a GPU only.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator

import pytest

from graphc.codegen.triton import Options
from graphc.codegen.triton.candidates import candidates, tuning_key
from graphc.codegen.triton.contraction import prepared
from graphc.codegen.triton.schedule import schedule
from graphc.codegen.triton.traffic import CACHE_BYTES, traffic
from graphc.ir.loop import Buffer, Kernel, Program
from graphc.ir.loop_text import format_kernel
from graphc.runtime.roofline import roofline
from tests.codegen.triton_cases import CASES, graph_case, normal, op
from tests.reference_networks import HALF, NETWORKS, program_of

pytest.importorskip("triton")
compiled = importlib.import_module("tests.codegen.triton_compiling").compiled

MOST_REGISTERS = 255
MOST_TRAFFIC = 1.3
WIDE_LOAD = r"ld\.global[.a-z0-9:]*\.v[248]"
TENSOR_CORE = r"(wgmma|mma\.sync)"


def kernels_of(program: Program) -> Iterator[tuple[Kernel, Program]]:
    """All kernels, those inside loops and branches too."""
    for kernel in program.kernels:
        yield kernel, program
        for inner in kernel.programs:
            yield from kernels_of(inner)


def part_of(kernel: Kernel, function: str) -> bool:
    return re.sub(r"_(pass\d|sums|rest)$", "", function).endswith(kernel.name)


@pytest.mark.parametrize("name", [*NETWORKS, *HALF])
def test_kernels_fit_into_registers(name: str) -> None:
    """Also: dense kernels load wide words, and float32 products stay exact."""
    program = program_of({**NETWORKS, **HALF}[name])
    every = list(kernels_of(program))
    found = 0
    for made in compiled(program, 90):
        found += 1
        usage = made.usage
        assert usage["REG"] <= MOST_REGISTERS, made.function
        assert usage["STACK"] == usage["LOCAL"] == 0, made.function
        kernel, owner = next((k, p) for k, p in every if part_of(k, made.function))
        if is_dense(kernel, owner.buffers) and not made.function.endswith(("_pass1", "_pass2")):
            assert made.count(WIDE_LOAD) > 0, f"{made.function}\n{format_kernel(kernel)}"
        if kernel.form != "dot" or made.function.endswith("_rest"):
            continue
        if name in NETWORKS:
            assert made.count(TENSOR_CORE) == 0, f"{made.function} rounds float32"
        if name in HALF and m_and_n(kernel, owner.buffers) >= (64, 64):
            assert made.count("wgmma") > 0, made.function
    assert found >= len([k for k, _ in every if not k.programs])


def m_and_n(kernel: Kernel, buffers: dict[str, Buffer]) -> tuple[int, int]:
    """The sides of a product's tile."""
    plan = schedule(prepared(kernel), buffers, Options())
    return min(plan.x, plan.y), max(plan.x, plan.y)


def is_dense(kernel: Kernel, buffers: dict[str, Buffer]) -> bool:
    """True where neighbouring lanes read neighbouring, aligned elements of everything."""
    if kernel.form not in ("flat", "row"):
        return False
    ready = prepared(kernel)
    if schedule(ready, buffers, Options()).recipe == "tiled" or ready.space < 1 << 12:
        return False
    plain = all(a.is_plain for a in ready.loads) and not ready.gathered
    return plain and any(_is_along(i, ready) for i in range(len(ready.axes)))


def _is_along(axis: int, kernel: Kernel) -> bool:
    """Whether every load has rows along the axis that begin at multiples of four elements."""
    if kernel.axes[axis].size % 32:
        return False
    for access in kernel.loads:
        others = [s for i, s in enumerate(access.strides) if i != axis]
        along = access.strides[axis]
        if along not in (0, 1) or (along and any(n % 4 for n in (*others, access.offset))):
            return False
    return any(a.strides[axis] for a in kernel.loads)


def test_dense_kernels_are_among_them() -> None:
    """The gate on wide loads is none if no kernel comes under it."""
    for name in ("perceptron", "transformer", "resnet"):
        program = program_of(NETWORKS[name])
        assert any(is_dense(k, p.buffers) for k, p in kernels_of(program)), name
    transposed = CASES["transposed"]().program
    assert not any(is_dense(k, dict(transposed.buffers)) for k in transposed.kernels)


@pytest.mark.parametrize("name", [*NETWORKS, *HALF])
def test_no_more_is_moved_than_must_be(name: str) -> None:
    times = roofline(program_of({**NETWORKS, **HALF}[name]))
    for kernel in times.kernels:
        assert kernel.traffic.least <= kernel.traffic.moved
        assert kernel.traffic.moved <= MOST_TRAFFIC * kernel.traffic.least, kernel
        assert kernel.seconds > 0
    assert times.traffic.moved <= MOST_TRAFFIC * times.traffic.least


# -- the account of bytes itself


def one_kernel(case: object) -> tuple[Kernel, dict[str, Buffer]]:
    program = case.program  # type: ignore[attr-defined]
    (kernel,) = program.kernels
    return kernel, program.buffers


def test_bytes_of_a_chain() -> None:
    """x and b are read once each though x is used twice; y is written."""
    case = graph_case(lambda x, b: op("exp")(x) * x + b, normal(64, 128), normal(128))
    kernel, buffers = one_kernel(case)
    found = traffic(kernel, buffers, Options())
    assert found.moved == found.least == 4 * (64 * 128 + 128 + 64 * 128)


def test_bytes_of_a_slice() -> None:
    case = graph_case(
        lambda x: op("exp")(op("slice")(x, start=(0, 0), size=(64, 32), step=(1, 1))),
        normal(64, 128),
    )
    kernel, buffers = one_kernel(case)
    assert traffic(kernel, buffers, Options()).least == 4 * 2 * 64 * 32


def test_long_rows_that_no_cache_holds_are_read_again() -> None:
    """Softmax of rows of a million: a maximum, a sum and a store walk over them."""
    kernel, buffers = softmax_kernel(300, 1 << 20)
    found = traffic(kernel, buffers, Options())
    size = 300 * (1 << 20) * 4
    assert found.least == 2 * size and found.moved == 4 * size
    assert found.moved > MOST_TRAFFIC * found.least  # the gate can fail
    few = traffic(*softmax_kernel(16384, 12288), Options())  # the rows at work fit
    assert 2 * 132 * 12288 * 4 * 2 <= CACHE_BYTES < 16384 * 12288 * 4
    assert few.moved == few.least


def softmax_kernel(rows: int, length: int) -> tuple[Kernel, dict[str, Buffer]]:
    """The kernel of a softmax, without arrays."""
    import graphc as gc

    with gc.Graph().as_default():
        y = gc.nn.softmax(gc.placeholder(gc.float32, [rows, length]))
        program = gc.explain(y, device="sm_90").program
    (kernel,) = program.kernels
    return kernel, dict(program.buffers)


def test_bytes_of_a_product_that_no_cache_holds() -> None:
    """Tiles of 64: 64 rows of them by 8 columns, of which 132 processors hold 16 by 8."""
    import graphc as gc

    with gc.Graph().as_default():
        a, b = (gc.placeholder(gc.float32, s) for s in ([4096, 32768], [32768, 512]))
        program = gc.explain(gc.matmul(a, b), device="sm_90").program
    (kernel,) = program.kernels
    found = traffic(kernel, program.buffers, Options())
    assert found.least == 4 * (4096 * 32768 + 32768 * 512 + 4096 * 512)
    assert found.moved == found.least + 4 * 32768 * 512 * (64 // 16 - 1)


@pytest.mark.parametrize("length", [12288, 32000])
def test_a_long_row_in_one_tile_fits(length: int) -> None:
    """The candidate that reads a long row once spills nothing."""
    kernel, buffers = softmax_kernel(256, length)
    ready = prepared(kernel)
    (plan,) = [p for p in candidates(ready, buffers, Options()) if p.recipe == "row"]
    options = Options(schedules={tuning_key(ready, buffers, Options()): plan})
    program = Program(buffers, (kernel,), (), (), ())
    (made,) = compiled(program, 90, options)
    assert made.recipe == "row" and made.stack_bytes == 0

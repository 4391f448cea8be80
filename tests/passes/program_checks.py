"""Compile a computation and hold every stage of its program against the graph evaluator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from graphc.ir.computation import Computation, cut
from graphc.ir.graph import Node, Value
from graphc.ir.interpret import evaluate, run_program
from graphc.ir.loop import Kernel, Program
from graphc.ir.settings import Settings
from graphc.ir.verify import verify_program
from graphc.passes.context import Context
from graphc.passes.manager import run_passes
from graphc.passes.pipeline import PIPELINE, Bodies
from graphc.passes.target import NUMPY, Target
from tests.random_graphs import chooser, random_graph

Given = Mapping[Node, np.ndarray]


def check_same_bits(before: Program, after: Program) -> None:
    """Both verify, and give the same outputs for random inputs."""
    results = []
    for program in (before, after):
        verify_program(program)
        rng = np.random.default_rng(0)
        arrays = {}
        for name in before.inputs:
            buffer = before.buffers[name]
            arrays[name] = rng.standard_normal(buffer.size).astype(buffer.dtype.numpy)
        run_program(program, arrays)
        results.append([arrays[n] for n in program.outputs])
    for got, want in zip(*results, strict=True):
        np.testing.assert_array_equal(got, want)


def count_changed(name: str, seeds: Sequence[int]) -> int:
    """In how many random graphs the pass of that name changes something."""
    found = 0
    for seed in seeds:
        outputs, feeds = random_graph(chooser(seed), steps=30, backward=True)
        _, ctx = compiled(cut(outputs, (), [n.outputs[0] for n in feeds]))
        found += any(r.name == name and r.changed for r in ctx.notes["passes"])
    return found


def compiled(
    computation: Computation, fuse: bool = True, target: Target | None = None
) -> tuple[Program, Context]:
    """The program through the whole pipeline, verified after each pass."""
    ctx = Context(Settings(fuse=fuse), target or NUMPY, pipeline=Bodies())
    program = run_passes(PIPELINE, computation, ctx)
    assert isinstance(program, Program)
    return program, ctx


def arena_arrays(program: Program) -> dict[str, np.ndarray]:
    """The temporaries as views of one arena, filled with what would show if it were read."""
    plan = program.plan
    assert plan is not None
    arena = np.full(plan.arena_bytes + 8, 0xA5, np.uint8)
    arrays = {}
    for name, offset in plan.offsets.items():
        b = program.buffers[name]
        arrays[name] = arena[offset : offset + b.nbytes].view(b.dtype.numpy)
    return arrays


def run(program: Program, computation: Computation, given: Given) -> list[np.ndarray]:
    """Outputs, then the new values of the updated variables."""
    buffers = arena_arrays(program)
    for name, node in zip(program.inputs, computation.inputs, strict=True):
        buffers[name] = given[node].ravel().copy()
    by_name = {n.name: n for n in given}
    for name in program.variables:
        buffers[name] = given[by_name[program.buffers[name].source]].ravel().copy()
    start = {n: buffers[n].copy() for n in program.variables}
    run_program(program.replace(kernels=program.kernels[: program.commit]), buffers)
    for name, before in start.items():
        np.testing.assert_array_equal(buffers[name], before, "changed before the commit region")
    outputs = [buffers[n].copy() for n in program.outputs]
    run_program(program.replace(kernels=program.kernels[program.commit :]), buffers)
    for name, kept in zip(program.outputs, outputs, strict=True):
        np.testing.assert_array_equal(buffers[name], kept, "an output changed in the commits")
    values = [
        a.reshape(v.type.static_shape) for a, v in zip(outputs, computation.outputs, strict=True)
    ]
    held = {program.buffers[n].source: buffers[n] for n in program.variables}
    states = [
        held.get(v.name, given[v]).reshape(v.types[0].static_shape)  # a pass may drop v <- v
        for v, _ in computation.updates
    ]
    return values + states


def check(
    computation: Computation, given: Given, rtol: float = 0.0, atol: float = 0.0,
    target: Target | None = None,
) -> tuple[Program, Context]:  # fmt: skip
    """Fused and unfused programs agree with the evaluator; gives the fused one."""
    want = evaluate(computation.roots, given)
    for fuse in (False, True):
        program, ctx = compiled(computation, fuse, target)
        got = run(program, computation, given)
        for g, w, root in zip(got, want, computation.roots, strict=True):
            assert g.dtype == w.dtype
            what = f"{root.node.name}, {'fused' if fuse else 'unfused'}"
            np.testing.assert_allclose(g, w, rtol, atol, err_msg=what)
    return program, ctx


def check_values(
    outputs: Sequence[Value], given: Given, rtol: float = 2e-5, atol: float = 1e-6
) -> tuple[Program, Context]:
    """`check` for outputs without updates; all of `given` is fed."""
    feeds = [n.outputs[0] for n in given if n.op.name == "placeholder"]
    return check(cut(outputs, (), feeds), given, rtol, atol)


def kernel_forms(program: Program) -> Counter[str]:
    """How many kernels there are of each form."""
    return Counter(k.form for k in program.kernels)


def reasons(ctx: Context) -> set[str]:
    """The reason codes of all decisions."""
    return {d.reason for d in ctx.decisions}


def only_kernel(program: Program) -> Kernel:
    """The program's one kernel."""
    assert len(program.kernels) == 1, [k.name for k in program.kernels]
    return program.kernels[0]

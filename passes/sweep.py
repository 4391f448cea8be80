"""sweep: sums down the columns are taken on the way, by the kernel that walks the rows.

    k1(i, j+): ...; y[i, j] = v              k1(p, r~, j+): ...; y[p, r, j] = v
    k2(i+, j): s = reduce sum v * x[i, j]  ->               f = fold sum v * x; parts[p, j] = f
               t[j] = s                      k2(p+, j): s = reduce sum parts[p, j]; t[j] = s

The backward of a layer norm is one walk over x and dy then, that gives dx and the sums for scale
and shift, where two kernels would read both. The rows fall into parts; how many follows from the
sizes and the target alone, so that sums are the same on every machine of a kind. What `k2` does
with its sums, an update of a variable too, it goes on doing; what it only reads again is not
stored any more. Skips rows that are too long to hold totals for, too few, or divide into no fitting
number of parts; what would not save bytes; sums of what is known too late. Cost: for each pair of
such kernels that share a buffer, one merge and one sort of the kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from graphc.ir import loop
from graphc.ir.loop import Kernel, Program
from graphc.passes.context import Context, Decision
from graphc.passes.costs import moved_bytes
from graphc.passes.fold_sums import Folded, fold_sums
from graphc.passes.fuse import reduces_outer
from graphc.passes.inline import Limits, Refusal
from graphc.passes.order import in_order, renumbered


def sweep(program: Program, ctx: Context) -> Program:
    """The program with sums down columns taken where their rows are walked."""
    if not ctx.settings.fuse:
        return program
    start = program
    for name in [k.name for k in program.kernels if is_column_sum(k)]:
        program = _swept(program, name, ctx)
    return program if program is start else renumbered(program, program.kernels, ctx)


def is_column_sum(kernel: Kernel) -> bool:
    """True for reductions over rows that need one walk over what they read."""
    if kernel.form != "row" or not reduces_outer(kernel):
        return False
    reduces = [s for s in kernel.body if isinstance(s, loop.Reduce)]
    return not any(s.op.startswith("arg") for s in reduces)


def _swept(program: Program, name: str, ctx: Context) -> Program:
    """The program with these sums taken by the kernel that saves most by it, if there is one."""
    (at,) = (i for i, k in enumerate(program.kernels) if k.name == name)
    best: tuple[int, Program, int, Folded] | None = None
    for i in _walkers(program, at):
        outcome = _attempt(program, i, at, ctx)
        if isinstance(outcome, Refusal):
            _explain(ctx, program.kernels[i], program.kernels[at], outcome)
        elif best is None or outcome[0] > best[0]:
            best = (*outcome[:2], i, outcome[2])
    if best is None:
        return program
    _, swept, i, folded = best
    _record(ctx, swept, folded)
    return swept


def _walkers(program: Program, at: int) -> Iterator[int]:
    """Kernels that walk along rows and touch what the sums read."""
    read = {n for n in program.kernels[at].inputs if program.buffers[n].size > 1}
    for i, kernel in enumerate(program.kernels[: program.commit]):
        is_row = kernel.form == "fold" or (kernel.form == "row" and not reduces_outer(kernel))
        if i != at and is_row and read & {*kernel.inputs, *kernel.outputs}:
            yield i


def _attempt(
    program: Program, i: int, at: int, ctx: Context
) -> tuple[int, Program, Folded] | Refusal:
    """The bytes saved where kernel `i` takes the sums of the kernel at `at`, and what there is
    then."""
    rows, sums, target = program.kernels[i], program.kernels[at], ctx.target
    read = {n for k in program.kernels if k is not rows and k is not sums for n in k.inputs}
    limits = Limits(target.max_kernel_buffers, target.max_kernel_statements)
    folded = fold_sums(
        rows, sums, program.buffers, read | {*program.outputs}, limits,
        target.folding,
    )  # fmt: skip
    if isinstance(folded, Refusal):
        return folded
    changed = {rows.name: folded.rows, sums.name: folded.sums}
    kernels = [changed.get(k.name, k) for k in program.kernels]
    after = program.replace(buffers=_buffers(program, kernels, folded), kernels=tuple(kernels))
    early = in_order(after)
    late = {n for k in kernels[program.commit :] for n in k.outputs} - {*program.updates}
    if early is None or late & {*folded.rows.inputs}:
        return Refusal("CYCLE", {"why": "the sums read what is known after the rows"})
    after = after.replace(kernels=(*early, *kernels[program.commit :]))
    saved = sum(moved_bytes(k, program.buffers) for k in (rows, sums))
    saved -= sum(moved_bytes(k, after.buffers) for k in (folded.rows, folded.sums))
    least = target.folding.least_bytes
    return (saved, after, folded) if saved >= least else Refusal("NO_SAVING", {"saved": saved})


def _buffers(program: Program, kernels: Sequence[Kernel], folded: Folded) -> dict[str, loop.Buffer]:
    used = {n for k in kernels for n in (*k.inputs, *k.outputs)}
    used |= {*program.inputs, *program.outputs, *program.variables}
    buffers = {n: b for n, b in program.buffers.items() if n in used}
    return buffers | {b.name: b for b in folded.parts}


def _record(ctx: Context, swept: Program, folded: Folded) -> None:
    """Decisions follow what moved from the sums to the rows; the parts are an edge of their own."""
    rows, sums = folded.rows, folded.sums
    found: dict[tuple[str, str, str], Decision] = {}
    for d in ctx.decisions:
        if d.producer == sums.name and d.buffer in rows.outputs:
            d = replace(d, producer=rows.name)
        if d.consumer == sums.name and d.buffer not in sums.inputs:
            d = replace(d, consumer=rows.name)
        if d.producer != d.consumer and d.buffer in swept.buffers:
            found.setdefault((d.producer, d.consumer, d.buffer), d)
    for part in folded.parts:
        numbers = {"bytes": part.nbytes, "why": "sums of parts become one"}
        key = rows.name, sums.name, part.name
        found[key] = Decision(*key, "SPACE", numbers)
    ctx.decisions[:] = found.values()


def _explain(ctx: Context, rows: Kernel, sums: Kernel, refusal: Refusal) -> None:
    """The reason stands with the edge from the one kernel to the other, where there is one."""
    for n, d in enumerate(ctx.decisions):
        if (d.producer, d.consumer) == (rows.name, sums.name):
            numbers = {**d.numbers, **refusal.numbers}
            ctx.decisions[n] = replace(d, reason=refusal.reason, numbers=numbers)

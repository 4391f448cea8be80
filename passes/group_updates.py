"""group_updates: the updates of many variables become one launch.

    k8: W1 = W1 - r*g1    k9: b1 = b1 - r*g1'   ...   ->   k8: those kernels as parts of one

Takes flat kernels that store to variables, in order, as long as none touches what another
writes. A group has at most 32 parts, so that its text stays readable and quick to compile.
Cost: one walk.
"""

from __future__ import annotations

from graphc.ir import loop
from graphc.ir.loop import Kernel, Program
from graphc.passes.context import Context
from graphc.passes.fuse import unique_names

MOST_PARTS = 32


def group_updates(program: Program, ctx: Context) -> Program:
    """The program with independent updates joined; the same object when there are none."""
    if not ctx.settings.fuse:
        return program
    early, late = program.kernels[: program.commit], program.kernels[program.commit :]
    groups: list[list[Kernel]] = []
    for kernel in late:
        place = _group_for(kernel, groups, program)
        if place is None:
            groups.append([kernel])
        else:
            place.append(kernel)
    if all(len(group) == 1 for group in groups):
        return program
    kernels = (*early, *(_joined(group) for group in groups))
    return program.replace(kernels=unique_names(kernels))


def _group_for(
    kernel: Kernel, groups: list[list[Kernel]], program: Program
) -> list[Kernel] | None:
    """The last group, when the kernel can join it: order among groups is kept."""
    if not groups or not _is_update(kernel, program):
        return None
    last = groups[-1]
    fits = len(last) < MOST_PARTS and all(_is_update(k, program) for k in last)
    return last if fits and not any(_conflict(kernel, k) for k in last) else None


def _is_update(kernel: Kernel, program: Program) -> bool:
    roles = {program.buffers[n].role for n in kernel.outputs}
    return kernel.form == "flat" and loop.VARIABLE in roles


def _conflict(a: Kernel, b: Kernel) -> bool:
    """One writes what the other reads or writes."""
    return bool(
        set(a.outputs) & {*b.inputs, *b.outputs} or set(b.outputs) & {*a.inputs, *a.outputs}
    )


def _joined(group: list[Kernel]) -> Kernel:
    if len(group) == 1:
        return group[0]
    covers = tuple(dict.fromkeys(name for k in group for name in k.covers))
    where = tuple(dict.fromkeys(w for k in group for w in k.where))
    name = f"update_{len(group)}_variables"
    parts = unique_names(tuple(group), "part")
    return Kernel(name, (), (), covers, where, parts)

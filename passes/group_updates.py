"""group_updates: the updates of many variables become one launch.

    k8: W1 = W1 - r*g1    k9: b1 = b1 - r*g1'   ...   ->   k8: those kernels as parts of one

Takes the flat kernels of the commit region that store to variables. Kernels of one depth, that
is after equally long chains of kernels that must run before them, are independent of each
other: they are joined, at most 32 at a time, so that the text stays readable and quick to
compile. Skips kernels with reductions and library calls, and everything before the commits
(the scalars that optimizers compute once, for example). Cost: one walk.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir import loop
from graphc.ir.loop import Kernel, Program
from graphc.passes.context import Context

MOST_PARTS = 32


def group_updates(program: Program, ctx: Context) -> Program:
    """The program with independent updates joined; the same object when there are none."""
    if not ctx.settings.fuse:
        return program
    early, late = program.kernels[: program.commit], program.kernels[program.commit :]
    levels: dict[int, list[Kernel]] = {}
    for kernel, depth in zip(late, depths(late, program), strict=True):
        levels.setdefault(depth, []).append(kernel)
    grouped = [k for depth in sorted(levels) for k in _joined(levels[depth], program)]
    if len(grouped) == len(late):
        return program
    return program.replace(kernels=(*early, *grouped))


def depths(kernels: Sequence[Kernel], program: Program) -> list[int]:
    """Per kernel, the length of the longest chain of kernels that must run before it.

    Who reads a temporary runs after who writes it; who writes a variable, after its readers.
    """
    result: list[int] = []
    written: dict[str, int] = {}  # deepest writer so far
    read: dict[str, int] = {}  # deepest reader so far
    for kernel in kernels:
        before = [written[n] for n in (*kernel.inputs, *kernel.outputs) if n in written]
        before += [read[n] for n in kernel.outputs if n in read]
        depth = max(before, default=-1) + 1
        for table, names in ((written, kernel.outputs), (read, kernel.inputs)):
            table.update((n, max(depth, table.get(n, 0))) for n in names)
        result.append(depth)
    return result


def is_update(kernel: Kernel, program: Program) -> bool:
    """True for a flat kernel that stores to variables."""
    roles = {program.buffers[n].role for n in kernel.outputs}
    return kernel.form == "flat" and loop.VARIABLE in roles


def _joined(level: Sequence[Kernel], program: Program) -> list[Kernel]:
    """Independent kernels, with the updates among them in groups of at most MOST_PARTS."""
    updates = [k for k in level if is_update(k, program)]
    rest = [k for k in level if not is_update(k, program)]
    chunks = [updates[i : i + MOST_PARTS] for i in range(0, len(updates), MOST_PARTS)]
    return rest + [c[0] if len(c) == 1 else _group(c) for c in chunks]


def _group(parts: Sequence[Kernel]) -> Kernel:
    covers = tuple(dict.fromkeys(name for k in parts for name in k.covers))
    where = tuple(dict.fromkeys(w for k in parts for w in k.where))
    return Kernel(f"group_{parts[0].name}", (), (), covers, where, tuple(parts))

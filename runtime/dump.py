"""What a compilation leaves in its dump folder besides the passes' texts.

kernels/<name>.<suffix>   each kernel: its loops as a comment, then the source that runs
decisions.txt             every edge that was not fused, and every copy, with its reason
memory.txt                every temporary: offset, bytes, and the kernels between which it lives
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from graphc.ir.errors import SettingError
from graphc.ir.loop import Program
from graphc.ir.loop_text import format_kernel
from graphc.passes.context import Context, Decision


def make_dump_folder(folder: str) -> None:
    """Make the folder if it is missing; SettingError where that is not possible."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(f"cannot dump into {folder!r}: {error.strerror or error}") from None


def write_dump(program: Program, ctx: Context, sources: Mapping[str, str]) -> None:
    """Write the files into the folder that the pass manager made; nothing when there is none."""
    folder = ctx.notes.get("dump")
    if folder is None:
        return
    root = Path(folder)
    kernels = root / "kernels"
    kernels.mkdir(parents=True, exist_ok=True)
    for kernel in program.kernels:
        text = "\n".join(f"# {line}" for line in format_kernel(kernel).splitlines())
        source = sources.get(kernel.name, "")
        (kernels / f"{kernel.name}.py").write_text(f"{text}\n\n{source}")
    (root / "decisions.txt").write_text(format_decisions(ctx.decisions))
    (root / "memory.txt").write_text(format_memory(program))


def format_decisions(decisions: Sequence[Decision]) -> str:
    """One line per decision: reason, edge, numbers."""
    lines = []
    for d in decisions:
        numbers = ", ".join(f"{k}={v}" for k, v in d.numbers.items())
        lines.append(f"{d.reason:18} {d.producer} -> {d.consumer}  {numbers}")
    return "\n".join(lines) + "\n"


def format_memory(program: Program) -> str:
    """The memory plan as a table, in the order of the offsets."""
    plan = program.plan
    assert plan is not None, "a program is planned before it is dumped"
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for i, kernel in enumerate(program.kernels):
        for name in (*kernel.inputs, *kernel.outputs):
            first.setdefault(name, i)
            last[name] = i
    lines = [
        f"arena {plan.arena_bytes} bytes, lower bound {plan.lower_bound}, "
        f"without sharing {plan.naive_bytes}",
        f"{'offset':>12}{'bytes':>12}{'from':>6}{'to':>6}  buffer",
    ]
    for name, offset in sorted(plan.offsets.items(), key=lambda item: (item[1], item[0])):
        buffer = program.buffers[name]
        span = f"{first.get(name, 0):6}{last.get(name, 0):6}"
        lines.append(f"{offset:12}{buffer.nbytes:12}{span}  {name}  # {buffer.source}")
    return "\n".join(lines) + "\n"

"""The pass manager: runs passes in order, and around each verifies, times, counts and dumps.

A pass is a function `(unit, ctx) -> unit`, where a unit is a computation or a program; it
gives the same object when it changed nothing. What the manager saw stands in `ctx.notes`:

    seconds      pass name -> seconds in the pass itself (summed where it runs twice)
    passes       one PassRecord per pass that ran, in order
    nodes_after  number of nodes when the graph passes were done
    dump         the folder of this compilation's dump, where there is one

A dump has one folder per compilation, `000_<first fetch>`, `001_...`: in it `00_input.txt`,
then `NN_<pass>.txt` and, against the text before, `NN_<pass>.diff` (nodes by name, so that a
changed number does not count as a change).
"""

from __future__ import annotations

import difflib
import gc
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphc.ir.computation import Computation
from graphc.ir.errors import VerificationError
from graphc.ir.loop import Kernel, Program
from graphc.ir.loop_text import format_program
from graphc.ir.text import print_computation
from graphc.ir.verify import Seen, verify_computation, verify_program
from graphc.passes.check import PassCheck
from graphc.passes.context import Context


@dataclass(frozen=True, slots=True)
class PassRecord:
    """What one pass did: nodes (of graphs) or kernels (of programs) before and after it."""

    name: str
    seconds: float
    verify_s: float
    before: int
    after: int
    changed: bool


def run_passes(passes: Iterable[Callable[[Any, Context], Any]], unit: Any, ctx: Context) -> Any:
    """The unit after all passes. VerificationError when a pass breaks it."""
    run = _Run(unit, ctx)
    for pass_ in passes:
        unit = run.step(pass_, unit)
    return unit


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection inside: a compiler makes much that stays and few cycles, and each
    collection walks all of it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Run:
    def __init__(self, unit: Any, ctx: Context) -> None:
        self.ctx = ctx
        self.seconds: dict[str, float] = ctx.notes.setdefault("seconds", {})
        self.records: list[PassRecord] = ctx.notes.setdefault("passes", [])
        self.seen_nodes = Seen()
        self.seen_kernels: dict[int, Kernel] = {}
        self.dump = Dump.open(ctx.settings.dump, unit) if ctx.settings.dump else None
        self.check: PassCheck | None = None
        if ctx.settings.check_passes and isinstance(unit, Computation):
            self.check = PassCheck(unit, ctx)
        if self.dump:
            ctx.notes["dump"] = self.dump.folder
            self.dump.write("input", unit)
        self.verify("input", unit)

    def step(self, pass_: Callable[[Any, Context], Any], unit: Any) -> Any:
        name = pass_.__name__
        start = time.perf_counter()
        after = pass_(unit, self.ctx)
        seconds = time.perf_counter() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        changed = after is not unit
        if self.dump:
            self.dump.write(name, after)
        verify_s = self.verify(name, after) if changed else 0.0
        if changed and self.check:
            self.check.check(pass_, unit, after)
        counts = _count(unit), _count(after)
        self.records.append(PassRecord(name, seconds, verify_s, *counts, changed))
        if isinstance(after, Computation):
            self.ctx.notes["nodes_after"] = len(after.nodes)
        return after

    def verify(self, name: str, unit: Any) -> float:
        """Verify the unit where the settings ask for it; the seconds it took."""
        start = time.perf_counter()
        if self.ctx.settings.verify:
            try:
                if isinstance(unit, Computation):
                    verify_computation(unit, name, self.seen_nodes)
                elif isinstance(unit, Program):
                    verify_program(unit, name, self.seen_kernels)
            except VerificationError as error:
                place = f" (text in {self.dump.folder})" if self.dump else ""
                raise VerificationError(f"{error.message}{place}") from None
        return time.perf_counter() - start


def _count(unit: Any) -> int:
    if isinstance(unit, Computation):
        return len(unit.nodes)
    return len(unit.kernels) if isinstance(unit, Program) else 0


class Dump:
    """The folder of one compilation's dump."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.last: tuple[type, str] | None = None

    @classmethod
    def open(cls, parent: str, unit: Any) -> Dump:
        """A new folder under `parent`, with the next free number and the first fetch's name."""
        root = Path(parent)
        root.mkdir(parents=True, exist_ok=True)
        taken = [int(m[1]) for p in root.iterdir() if (m := re.match(r"(\d+)_", p.name))]
        number = max(taken, default=-1) + 1
        while True:
            folder = root / f"{number:03d}_{_first_fetch(unit)}"
            try:
                folder.mkdir()
            except FileExistsError:  # another process took it in between
                number += 1
            else:
                return cls(folder)

    def write(self, name: str, unit: Any) -> None:
        """Write the unit's text, and how it differs from the one written before."""
        stem = f"{self.count:02d}_{name}"
        (self.folder / f"{stem}.txt").write_text(unit_text(unit), encoding="utf-8")
        named = unit_text(unit, labels="name")
        if self.last and self.last[0] is type(unit):
            (self.folder / f"{stem}.diff").write_text(diff(self.last[1], named), encoding="utf-8")
        self.last = (type(unit), named)
        self.count += 1


def unit_text(unit: Any, labels: str = "number") -> str:
    """A computation or a program as text."""
    if isinstance(unit, Computation):
        return print_computation(unit, labels=labels)
    return format_program(unit) if isinstance(unit, Program) else f"{unit}\n"


def diff(before: str, after: str) -> str:
    """The unified diff of two texts."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", n=1)
    return "".join(line.rstrip("\n") + "\n" for line in lines)


def _first_fetch(unit: Any) -> str:
    if not isinstance(unit, Computation):
        return "program"
    nodes = [v.node for v in unit.outputs] + [n for n, _ in unit.updates]
    return re.sub(r"\W+", "_", nodes[0].name)[:60] if nodes else "nothing"

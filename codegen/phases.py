"""A row kernel as phases: what runs in a loop over the row, and what comes between the loops.

A phase per level of reductions: each needs the results of the phases before it. Pure functions
of the kernel, for back ends that walk a row more than once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from graphc.codegen.axes import span_of
from graphc.ir import loop
from graphc.ir.loop import Kernel


class Phase(NamedTuple):
    """Statements in a loop over the row, then those without it.

    A let inside names a part of the row: later phases that read it have it inside again.
    """

    inside: tuple[loop.Stmt, ...]
    after: tuple[loop.Stmt, ...]


def plan_phases(kernel: Kernel) -> tuple[Phase, ...]:
    """A phase per level of reductions: each needs the results of the phases before it.

    Of a fold kernel, those of one row: its folds stand in the phase of the values that they add up.
    """
    kernel = replace(kernel, body=tuple(s for s in kernel.body if s not in kernel.fold_stores))
    levels = kernel.levels
    scope = kernel.scopes
    known: set[str] = set()  # names whose values are kept
    phases = []
    for level in range(max(levels, default=0) + 1):
        phase = _phase(kernel, level, levels, known, scope)
        kept = [s.name for s in phase.inside if isinstance(s, loop.Reduce)]
        known.update(kept, (s.name for s in phase.after if isinstance(s, loop.Let)))
        phases.append(phase)
    return tuple(phases)


def _phase(
    kernel: Kernel,
    level: int,
    levels: Sequence[int],
    known: set[str],
    scope: Mapping[str, frozenset[int]],
) -> Phase:
    body, reduced = kernel.body, set(kernel.reduced)
    own = [i for i, s in enumerate(body) if levels[i] == level and not isinstance(s, loop.Let)]
    over = {i for i in own if _crosses(body[i], reduced, scope)}
    needed = _needed(body, over, known)
    after = [i for i in own if i not in over] + _lets_after(kernel, level, levels, scope)
    return Phase(
        tuple(body[i] for i in sorted(over | needed)),
        tuple(body[i] for i in sorted(after)),
    )


def _crosses(stmt: loop.Stmt, reduced: set[int], scope: Mapping[str, frozenset[int]]) -> bool:
    """True when the statement belongs into a loop over the row."""
    if isinstance(stmt, (loop.Reduce, loop.Fold)):
        return True
    axes = set[int]().union(*(loop.axes_used(e, scope) for e in stmt.exprs))
    if isinstance(stmt, loop.Store):
        axes |= span_of(stmt.access.strides)
    return bool(axes & reduced)


def _lets_after(
    kernel: Kernel, level: int, levels: Sequence[int], scope: Mapping[str, frozenset[int]]
) -> list[int]:
    """The lets without the row that what is known after the phase's loop is enough for."""
    ready = (level + 1,) if level else (0, 1)
    reduced = set(kernel.reduced)
    return [
        i
        for i, s in enumerate(kernel.body)
        if isinstance(s, loop.Let) and levels[i] in ready and not scope[s.name] & reduced
    ]


def _needed(body: Sequence[loop.Stmt], indices: Iterable[int], known: set[str]) -> set[int]:
    """The lets that these statements use, also through one another, and that are not known."""
    where = {s.name: i for i, s in enumerate(body) if isinstance(s, loop.Let)}
    found: set[int] = set()
    stack = list(indices)
    while stack:
        names = {n for e in body[stack.pop()].exprs for n in loop.refs(e)}
        new = {where[n] for n in names - known if n in where} - found
        found |= new
        stack.extend(new)
    return found

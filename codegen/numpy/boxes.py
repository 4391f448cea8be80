"""Guarded loads as copies of boxes: for which ranges of the axes a guard holds.

A guard over one axis holds on an arithmetic progression of it. A guard over several (a padded
window) is unrolled over all but its largest axis.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from graphc.ir.loop import Access, Guard

_MOST_BOXES = 1024


class Box(NamedTuple):
    """Elements `start, start + step, ...` (`count` of them) of each axis, and where they lie."""

    starts: tuple[int, ...]
    counts: tuple[int, ...]
    steps: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


def boxes_of(access: Access, sizes: Sequence[int]) -> list[Box] | None:
    """The boxes in which all guards of the access hold; None when there are too many."""
    unrolled = sorted(_axes_to_unroll(access, sizes))
    total = 1
    for i in unrolled:
        total *= sizes[i]
    if total > _MOST_BOXES:
        return None
    result = []
    for point in itertools.product(*(range(sizes[i]) for i in unrolled)):
        box = _box(access, sizes, dict(zip(unrolled, point, strict=True)))
        if box is not None:
            result.append(box)
    return result


def _axes_to_unroll(access: Access, sizes: Sequence[int]) -> set[int]:
    result: set[int] = set()
    for guard in access.guards:
        used = [i for i, s in enumerate(guard.value.strides) if s and i not in result]
        used.sort(key=lambda i: sizes[i])
        result.update(used[:-1])
    return result


def _box(access: Access, sizes: Sequence[int], fixed: dict[int, int]) -> Box | None:
    starts, counts, steps = [], [], []
    for i, size in enumerate(sizes):
        span = (fixed[i], 1, 1) if i in fixed else _span(access.guards, i, size, fixed)
        if span is None:
            return None
        starts.append(span[0])
        counts.append(span[1])
        steps.append(span[2])
    if not _hold(access.guards, fixed, set(fixed)):
        return None
    offset = access.offset + sum(s * a for s, a in zip(access.strides, starts, strict=True))
    strides = [s * step for s, step in zip(access.strides, steps, strict=True)]
    assert offset % access.divisor == 0, "the guards promise that the divisor divides"
    inner = tuple(
        0 if n == 1 else s // access.divisor for s, n in zip(strides, counts, strict=True)
    )
    return Box(tuple(starts), tuple(counts), tuple(steps), inner, offset // access.divisor)


def _hold(guards: Sequence[Guard], fixed: dict[int, int], axes: set[int]) -> bool:
    """The guards that depend on no other than the fixed axes hold."""
    for guard in guards:
        used = {i for i, s in enumerate(guard.value.strides) if s}
        if used <= axes:
            v = guard.value.offset + sum(guard.value.strides[i] * fixed[i] for i in used)
            if not (0 <= v < guard.size * guard.step and v % guard.step == 0):
                return False
    return True


def _span(
    guards: Sequence[Guard], axis: int, size: int, fixed: dict[int, int]
) -> tuple[int, int, int] | None:
    """(start, count, step) of the axis where its guards hold; None when nowhere."""
    own = [g for g in guards if g.value.strides[axis]]
    if not own:
        return (0, size, 1)
    positions = np.arange(size)
    holds = np.ones(size, np.bool_)
    for g in own:
        rest = sum(s * fixed[i] for i, s in enumerate(g.value.strides) if s and i != axis)
        v = g.value.strides[axis] * positions + g.value.offset + rest
        holds &= (v >= 0) & (v < g.size * g.step) & (v % g.step == 0)
    found = positions[holds]
    if not found.size:
        return None
    step = int(found[1] - found[0]) if found.size > 1 else 1
    return (int(found[0]), int(found.size), step)

"""Views: movement ops as affine maps, composed until an access of a buffer is all that is left.

A `View` is a tensor value expressed as guarded accesses of buffers, one stride per dim of the
value. A movement op gives a `Map` from its output's dims to its input's; `compose` applies it.
What is not affine gives None, and the value is materialized.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from graphc.ir.dtypes import DType
from graphc.ir.loop import Access, Guard, Linear, Load
from graphc.ir.types import row_major_strides


@dataclass(frozen=True, slots=True)
class View:
    """A value of `shape` as a load whose accesses have one stride per dim of the value."""

    shape: tuple[int, ...]
    load: Load

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self.load.dtype


@dataclass(frozen=True, slots=True)
class Map:
    """How an output element finds its input element.

    `dims[d]` is the input's position along its dim d, an affine function of the output's
    position; `guards` say for which output positions there is one; elsewhere `fill` stands.
    `steps[d]` divides dims[d] (the guards promise that it does so exactly).
    """

    dims: tuple[Linear, ...]
    guards: tuple[Guard, ...] = ()
    fill: float | int | bool = 0
    steps: tuple[int, ...] = ()


def buffer_view(name: str, shape: Sequence[int], dtype: DType) -> View:
    """A dense row-major buffer as a view of itself."""
    shape = tuple(shape)
    return View(shape, Load((Access(name, _dense_strides(shape)),), dtype))


@lru_cache(maxsize=4096)  # layers of a network have few different shapes
def _dense_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    pairs = zip(shape, row_major_strides(shape), strict=True)
    return tuple([0 if d == 1 else s for d, s in pairs])


@lru_cache(maxsize=4096)
def unit(rank: int, dim: int, factor: int = 1, offset: int = 0) -> Linear:
    """factor * (position along `dim`) + offset, over `rank` dims."""
    return Linear(tuple([factor if i == dim else 0 for i in range(rank)]), offset)


def compose(view: View, shape: tuple[int, ...], map_: Map) -> View | None:
    """The view of the movement's output, given that of its input.

    None when the input's view has guards with a fill of its own and the map needs another, or
    when two stretched dims meet.
    """
    if map_.guards and any(p.guards for p in view.load.pieces) and map_.fill != view.load.fill:
        return None
    pieces = []
    for piece in view.load.pieces:
        composed = _compose_access(piece, map_)
        if composed is None:
            return None
        pieces.append(composed)
    fill = map_.fill if map_.guards else view.load.fill
    return View(shape, Load(tuple(pieces), view.load.dtype, fill))


def _compose_access(access: Access, map_: Map) -> Access | None:
    divisor = math.lcm(*map_.steps)
    if divisor > 1 and access.divisor > 1:
        return None
    scaled = map_.dims
    if divisor > 1:
        # dims[d] / steps[d] over the common divisor is dims[d] * divisor / steps[d]
        scaled = tuple(
            Linear(tuple(s * (divisor // step) for s in d.strides), d.offset * (divisor // step))
            for d, step in zip(map_.dims, map_.steps, strict=True)
        )
    main = apply_linear(Linear(access.strides, access.offset * divisor), scaled)
    guards = list(map_.guards)
    for guard in access.guards:
        value = apply_linear(Linear(guard.value.strides, guard.value.offset * divisor), scaled)
        guards.append(Guard(value, guard.size, guard.step * divisor))
    return Access(access.buffer, main.strides, main.offset, tuple(guards), access.divisor * divisor)


def apply_linear(outer: Linear, inner: Sequence[Linear]) -> Linear:
    """outer(inner(output position))."""
    rank = len(inner[0].strides) if inner else 0
    strides, offset = [0] * rank, outer.offset
    for factor, part in zip(outer.strides, inner, strict=True):
        if factor:
            offset += factor * part.offset
            for i, s in enumerate(part.strides):
                strides[i] += factor * s
    return Linear(tuple(strides), offset)


def compose_scalar(view: View, rank: int, shape: tuple[int, ...]) -> View:
    """A rank-0 view read at every position of `shape`."""

    def widen(linear: Linear) -> Linear:
        return Linear((0,) * rank, linear.offset)

    pieces = tuple(
        replace(
            p,
            strides=(0,) * rank,
            guards=tuple(replace(g, value=widen(g.value)) for g in p.guards),
        )
        for p in view.load.pieces
    )
    return View(shape, replace(view.load, pieces=pieces))


def broadcast(view: View, shape: tuple[int, ...]) -> View:
    """NumPy's broadcast of the view to `shape`."""
    if view.shape == shape:
        return view
    rank, lead = len(shape), len(shape) - len(view.shape)
    if not view.shape:
        return compose_scalar(view, rank, shape)
    dims = tuple(
        Linear((0,) * rank) if size == 1 else unit(rank, lead + d)
        for d, size in enumerate(view.shape)
    )
    result = compose(view, shape, Map(dims))
    assert result is not None
    return result


def reshape(view: View, shape: tuple[int, ...]) -> View | None:
    """The view in another shape of the same size, or None when an access is not affine in it."""
    if view.shape == shape:
        return view
    if math.prod(shape) == 0:
        return None
    pieces = []
    for piece in view.load.pieces:
        main = _reshape_linear(Linear(piece.strides, piece.offset), view.shape, shape)
        values = [_reshape_linear(g.value, view.shape, shape) for g in piece.guards]
        if main is None:
            return None
        guards = []
        for guard, value in zip(piece.guards, values, strict=True):
            if value is None:
                return None
            guards.append(replace(guard, value=value))
        pieces.append(replace(piece, strides=main.strides, guards=tuple(guards)))
    return View(shape, replace(view.load, pieces=tuple(pieces)))


def _reshape_linear(value: Linear, old: Sequence[int], new: Sequence[int]) -> Linear | None:
    """The function of row-major positions in `old` as one of positions in `new`.

    Dims of `old` that it walks as one make a run; every run must be a product of dims of `new`.
    """
    runs: list[tuple[int, int]] = []  # size and stride, innermost first
    for size, stride in zip(reversed(old), reversed(value.strides), strict=True):
        if runs and stride == runs[-1][0] * runs[-1][1]:
            runs[-1] = (runs[-1][0] * size, runs[-1][1])
        elif size != 1:
            runs.append((size, stride))
    strides: list[int] = []
    at, inner = 0, 1
    for size in reversed(new):
        if size == 1:
            strides.append(0)
            continue
        length, stride = runs[at]
        if length % (inner * size):
            return None
        strides.append(stride * inner)
        inner *= size
        if inner == length:
            at, inner = at + 1, 1
    return Linear(tuple(strides[::-1]), value.offset)

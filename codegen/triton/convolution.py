"""Convolutions among dots: what a library's convolution computes of a kernel.

To the loop IR a convolution is a dot over affine accesses with guards. Windows walk one operand:
along a spatial dim its index is a sum of two axes,

    forward   image[stride * place + dilation * window - padding]     place parallel, window summed
    filter    image[stride * place + dilation * window - padding]     place summed, window parallel
    data      result[(place + padding - dilation * window) / stride]  place parallel, window summed

and a guard says where that is inside. The numbers are read off guards and strides, freely where
several readings are possible; then every access is spelled anew from what was read, and has to be
the kernel's own. So a wrong guess is refused, never computed.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from graphc.codegen.triton.launch import Matrix
from graphc.ir import loop
from graphc.ir.loop import Access, Apply, Dot, Expr, Guard, Kernel, Linear, Load, Ref, Store

FORWARD: Final = "forward"
DATA: Final = "data"
FILTER: Final = "filter"
MOST_DIMS: Final = 3  # spatial ones, that libraries have

Sizes = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Convolution:
    """result = convolution(image, filter); one of the three is computed from the others.

    image: [batch, channels, spatial...]; filter: [outputs, channels / groups, window...]; result:
    [batch, outputs, places...]. That is the logical order of the views; their strides say how
    they lie in memory. `padding` is that before the image; `after` follows from the sizes.
    """

    computes: str  # forward: the result, data: the image, filter: the filter
    image: Matrix
    filter: Matrix
    result: Matrix
    stride: Sizes
    padding: Sizes
    dilation: Sizes
    groups: int

    def __str__(self) -> str:
        image, filter_, result = self.image, self.filter, self.result
        return f"{self.computes} of convolution({image}, {filter_}) -> {result}, {self._steps}"

    @property
    def _steps(self) -> str:
        numbers = f"strides {self.stride}, padding {self.padding} and {self.after}"
        more = f", dilation {self.dilation}" if set(self.dilation) != {1} else ""
        return numbers + more + (f", {self.groups} groups" if self.groups > 1 else "")

    @property
    def out(self) -> Matrix:
        """What is computed."""
        return {FORWARD: self.result, DATA: self.image, FILTER: self.filter}[self.computes]

    @property
    def operands(self) -> tuple[Matrix, ...]:
        """What is read."""
        return tuple(m for m in (self.image, self.filter, self.result) if m is not self.out)

    @property
    def after(self) -> Sizes:
        """Per spatial dim, the padding after the image; less than 0 where its end is not read."""
        numbers = zip(
            self.result.sizes[2:], self.stride, self.filter.sizes[2:], self.dilation,
            self.padding, self.image.sizes[2:], strict=True,
        )  # fmt: skip
        return tuple((p - 1) * s + (w - 1) * d + 1 - low - n for p, s, w, d, low, n in numbers)


def is_absorbed(before: int, after: int, stride: int) -> bool:
    """Whether as many places fit where the padding before the image is also that after it."""
    return 0 <= before - after < stride


@functools.lru_cache(maxsize=256)  # asked by the schedule, and again when the kernel is emitted
def find_convolution(kernel: Kernel) -> Convolution | None:
    """The convolution that a kernel of a dot and the store of its result is, or None.

    For what is no product of matrices. The axes are the program's: collapsed ones no longer tell
    windows from channels.
    """
    dot, store = kernel.body
    assert isinstance(dot, Dot) and isinstance(store, Store), kernel.body
    if not _is_stored(dot, store):
        return None
    choices = itertools.chain(
        _choices(kernel, dot.a, dot.b, store.access), _choices(kernel, dot.b, dot.a, store.access)
    )
    found = [c for c in (choice.convolution() for choice in choices) if c is not None]
    return _with_strides(min(found, key=_awkwardness)) if found else None


def _is_stored(dot: Dot, store: Store) -> bool:
    value = store.value
    if isinstance(value, Apply) and value.op == "cast":
        (value,) = value.args
    return isinstance(value, Ref) and value.name == dot.name and store.access.is_plain


def _awkwardness(found: Convolution) -> tuple[bool | int, ...]:
    """Of several readings: an order that images have, few spatial dims, channels last, small
    windows, many images."""
    view = found.result if found.computes == DATA else found.image
    last, first = (_is_falling(view, order(view)) for order in (_channels_last, _channels_first))
    window = math.prod(found.filter.sizes[2:])
    return not (last or first), len(found.stride), not last, window, -found.image.sizes[0]


# -- a reading, and whether it is what the kernel says


class _Index(NamedTuple):
    """The index along a dim of a view: (sum of factor * axis + offset) / step."""

    terms: tuple[tuple[int | None, int], ...]  # (axis, factor), the fastest last; None: of size 1
    offset: int = 0
    step: int = 1

    def linear(self, rank: int) -> Linear:
        """Over all axes, before the division."""
        strides = [0] * rank
        for axis, factor in self.terms:
            if axis is not None:
                strides[axis] += factor
        return Linear(tuple(strides), self.offset)

    def unit(self, stride: int, access: Access) -> int:
        """What the access, before its own division, moves by where this moves by 1."""
        return stride * access.divisor // self.step


@dataclass(frozen=True, slots=True)
class _Spatial:
    """How windows walk along a spatial dim of so many elements, a pitch apart in memory."""

    place: int | None  # axes; None is one of size 1
    window: int | None
    stride: int
    dilation: int
    padding: int
    size: int
    pitch: int


@dataclass(frozen=True, slots=True)
class _Choice:
    """What each axis of a kernel may be."""

    sizes: Sizes  # of the axes
    computes: str
    walked: Access
    other: Access
    out: Access
    group: int | None
    batch: int | None
    channel: int | None  # of what is walked
    column: int | None  # of the other operand
    dims: tuple[_Spatial, ...]

    def convolution(self) -> Convolution | None:
        """The reading, where it is the kernel's meaning."""
        numbers = [(d.stride, d.padding, d.dilation) for d in self.dims]
        if not 1 <= len(numbers) <= MOST_DIMS or any(min(s, p + 1, d) < 1 for s, p, d in numbers):
            return None
        image, filter_, result = (self._view(*part) for part in self._parts())
        stride, padding, dilation = zip(*numbers, strict=True)
        groups = self._size(self.group)
        found = Convolution(
            self.computes, image, filter_, result, stride, padding, dilation, groups
        )
        return found if self._is_meant(found) else None

    def _size(self, axis: int | None) -> int:
        return 1 if axis is None else self.sizes[axis]

    def _parts(self) -> tuple[tuple[Access, tuple[_Index, ...]], ...]:
        """Of image, filter and result the access, and the index along each dim."""
        swapped = self.computes == DATA
        inputs, outputs = (self.column, self.channel) if swapped else (self.channel, self.column)
        batch, narrow = _Index(((self.batch, 1),)), _Index(((inputs, 1),))
        windows = [_Index(((d.window, 1),)) for d in self.dims]
        places = [_Index(((d.place, 1),)) for d in self.dims]
        walks = [self._walk(d) for d in self.dims]
        image = (batch, self._grouped(inputs), *(places if swapped else walks))
        result = (batch, self._grouped(outputs), *(walks if swapped else places))
        filter_ = (self._grouped(outputs), narrow, *windows)
        return tuple(zip(self._accesses(), (image, filter_, result), strict=True))

    def _accesses(self) -> tuple[Access, Access, Access]:
        by_name = {
            FORWARD: (self.walked, self.other, self.out),
            DATA: (self.out, self.other, self.walked),
            FILTER: (self.walked, self.out, self.other),
        }
        return by_name[self.computes]

    def _grouped(self, axis: int | None) -> _Index:
        """Along the channels of all groups."""
        return _Index(((self.group, self._size(axis)), (axis, 1)))

    def _walk(self, dim: _Spatial) -> _Index:
        if self.computes == DATA:
            terms = ((dim.place, 1), (dim.window, -dim.dilation))
            return _Index(terms, dim.padding, dim.stride)
        return _Index(((dim.place, dim.stride), (dim.window, dim.dilation)), -dim.padding)

    def _view(self, access: Access, indices: tuple[_Index, ...]) -> Matrix:
        """What the access moves over. Numbers that do not divide are guesses: they come out."""
        sizes = [math.prod(self._size(axis) for axis, _ in i.terms) for i in indices]
        strides = [_stride(access, i) for i in indices]
        if access is self.walked:
            sizes[2:], strides[2:] = [d.size for d in self.dims], [d.pitch for d in self.dims]
        pairs = zip(indices, strides, strict=True)
        start = access.offset - sum(i.offset * i.unit(s, access) for i, s in pairs)
        return Matrix(access.buffer, tuple(sizes), tuple(strides), start // access.divisor)

    def _is_meant(self, found: Convolution) -> bool:
        """Whether the views, walked by the numbers found, are the kernel's accesses."""
        views = (found.image, found.filter, found.result)
        if not all(_is_array(view.strides, view.sizes) for view in views):
            return False
        pairs = zip(views, self._parts(), strict=True)
        if not all(self._is_access(view, *part) for view, part in pairs):
            return False
        if self.walked.guards:
            return True
        if any(d.place is None and self.walked.strides[d.window or 0] < 0 for d in self.dims):
            return False  # a product of what is read backwards, not an image of one place
        # without a window over neighbours it is a product: in another order only copies are added
        return _overlaps(found) or _is_in_order(found)

    def _is_access(self, view: Matrix, access: Access, indices: tuple[_Index, ...]) -> bool:
        rank = len(self.sizes)
        strides, offset = [0] * rank, view.offset * access.divisor
        for index, stride in zip(indices, view.strides, strict=True):
            unit, value = index.unit(stride, access), index.linear(rank)
            strides = [s + unit * v for s, v in zip(strides, value.strides, strict=True)]
            offset += unit * value.offset
        same = (tuple(strides), offset) == (access.strides, access.offset)
        return same and self._is_guarded(view, access, indices)

    def _is_guarded(self, view: Matrix, access: Access, indices: tuple[_Index, ...]) -> bool:
        """Whether the access has a guard at every end that it passes, and no other."""
        pairs = zip(indices, view.sizes, strict=True)
        ends = {Guard(i.linear(len(self.sizes)), size, i.step) for i, size in pairs}
        given = set(access.guards)
        return given <= ends and all(_holds(end, self.sizes) for end in ends - given)


def _stride(access: Access, index: _Index) -> int:
    """Of the dim, which is that of its fastest axis."""
    axes = [axis for axis, _ in index.terms if axis is not None]
    return access.strides[axes[-1]] // access.divisor if axes else 0


def _holds(guard: Guard, sizes: Sizes) -> bool:
    """Whether it is true everywhere."""
    low, high = _range(guard.value, sizes)
    return guard.step == 1 and low >= 0 and high < guard.size


def _range(value: Linear, sizes: Sizes) -> tuple[int, int]:
    """The least and the greatest value."""
    ends = [s * (n - 1) for s, n in zip(value.strides, sizes, strict=True)]
    low, high = sum(min(e, 0) for e in ends), sum(max(e, 0) for e in ends)
    return value.offset + low, value.offset + high


# -- what may be read


class _Axes(NamedTuple):
    """The axes by the operands that have them."""

    rows: Sizes  # of what is walked
    summed: Sizes
    column: int | None  # of the other operand
    group: int | None  # of both

    @classmethod
    def of(cls, kernel: Kernel, walked: Load, other: Load) -> _Axes | None:
        """None where there are more than a convolution has, or one that an operand lacks."""
        a, b = (loop.axes_used(e, {}) for e in (walked, other))
        rows = tuple(i for i in kernel.parallel if i in a - b)
        columns = [i for i in kernel.parallel if i in b - a]
        groups = [i for i in kernel.parallel if i in a & b]
        known = {*rows, *columns, *groups, *(a & b)}
        if max(len(columns), len(groups)) > 1 or known != set(range(len(kernel.axes))):
            return None
        return cls(rows, kernel.reduced, _first(columns), _first(groups))


def _first(axes: Sequence[int]) -> int | None:
    return axes[0] if axes else None


def _choices(kernel: Kernel, a: Expr, b: Expr, out: Access) -> Iterator[_Choice]:
    """The readings with windows over the first operand that are worth a try."""
    if not (isinstance(a, Load) and isinstance(b, Load) and b.is_plain and len(a.pieces) == 1):
        return
    axes, walked = _Axes.of(kernel, a, b), _without_settled(a.pieces[0])
    if axes is None or (a.fill != 0 and walked.guards):
        return
    for computes in (FORWARD, DATA, FILTER):
        sides = (axes.summed, axes.rows) if computes == FILTER else (axes.rows, axes.summed)
        walk = _Walk(walked, kernel.sizes, computes == DATA, *sides)
        for batch, channel, dims in walk.roles():
            yield _Choice(
                kernel.sizes, computes, walked, b.pieces[0], out, axes.group, batch, channel,
                axes.column, dims,
            )  # fmt: skip


def _without_settled(access: Access) -> Access:
    """Without guards over no axis: of a dim of size 1 they are true, or all would be padding."""
    guards = tuple(g for g in access.guards if any(g.value.strides))
    settled = (g for g in access.guards if g not in guards)
    true = all(g.value.offset in range(0, g.size * g.step, g.step) for g in settled)
    return replace(access, guards=guards) if true else access


class _Roles(NamedTuple):
    """What is a batch, what channels, and what spatial."""

    batch: int | None
    channel: int | None
    dims: tuple[_Spatial, ...]


@dataclass(frozen=True, slots=True)
class _Walk:
    """An access by windows: some axes are those of places, the others of windows."""

    access: Access
    sizes: Sizes
    backwards: bool  # for the gradient by data
    places: Sizes
    windows: Sizes

    def roles(self) -> Iterator[_Roles]:
        """Guards tie axes of places and windows; the others are tied in the order of strides."""
        guarded = [d for d in map(self._guarded, self.access.guards) if d is not None]
        tied = {i for d in guarded for i in (d.place, d.window)}
        places, windows = (self._falling(s, tied) for s in (self.places, self.windows))
        batches = dict.fromkeys((None, *places[:1]))
        channels = dict.fromkeys((None, *windows[-1:], *windows[:1]))
        for batch, channel in itertools.product(batches, channels):
            rest = _without(places, batch), _without(windows, channel)
            for pairs in _pairings(*rest, MOST_DIMS - len(guarded)):
                dims = guarded + [self._free(*pair) for pair in pairs]
                if self._is_worth(batch, channel, dims):
                    yield _Roles(batch, channel, _in_order(dims))

    def _is_worth(self, batch: int | None, channel: int | None, dims: list[_Spatial]) -> bool:
        """Whether what is walked may be an array: most readings of an access end here."""
        axes = [i for i in (batch, channel) if i is not None]
        strides = [self.access.strides[i] // self.access.divisor for i in axes]
        sizes = [self.sizes[i] for i in axes]
        return _is_array([*strides, *(d.pitch for d in dims)], [*sizes, *(d.size for d in dims)])

    def _falling(self, axes: Sizes, tied: Set[int | None]) -> Sizes:
        """Those that no guard ties, the slowest first."""
        free = (i for i in axes if i not in tied)
        return tuple(sorted(free, key=lambda i: -abs(self.access.strides[i])))

    def _guarded(self, guard: Guard) -> _Spatial | None:
        """The dim that ends where the guard says."""
        factors = guard.value.strides
        place, window = (_first([i for i in s if factors[i]]) for s in (self.places, self.windows))
        axis = window if place is None else place
        if axis is None:
            return None
        pitch = self.access.strides[axis] * guard.step // (factors[axis] * self.access.divisor)
        return self._spatial(place, window, guard, pitch)

    def _free(self, place: int | None, window: int | None) -> _Spatial:
        """The dim without guards that these axes walk: it ends where they do."""
        strides = [0] * len(self.sizes)
        for axis in (place, window):
            if axis is not None:
                strides[axis] = self.access.strides[axis] // self.access.divisor
        pitch = max(1, math.gcd(*strides))
        value = Linear(tuple(s // pitch for s in strides))
        low, high = _range(value, self.sizes)
        return self._spatial(
            place, window, Guard(replace(value, offset=-low), high - low + 1), pitch
        )

    def _spatial(self, place: int | None, window: int | None, guard: Guard, pitch: int) -> _Spatial:
        factors, offset = guard.value.strides, guard.value.offset
        stride, dilation = (1 if i is None else factors[i] for i in (place, window))
        if self.backwards:
            dilation = 1 if window is None else -dilation
            return _Spatial(place, window, guard.step, dilation, offset, guard.size, pitch)
        return _Spatial(place, window, stride, dilation, -offset, guard.size, pitch)


def _without(axes: Sizes, axis: int | None) -> Sizes:
    return tuple(i for i in axes if i != axis)


_Pair = tuple[int | None, int | None]


def _pairings(places: Sizes, windows: Sizes, room: int) -> Iterator[tuple[_Pair, ...]]:
    """All ways to pair axes in order, some with none, with at most so many pairs."""
    if not places and not windows:
        yield ()
    elif max(len(places), len(windows)) <= room:
        firsts: list[tuple[_Pair, int, int]] = []
        if places and windows:
            firsts.append(((places[0], windows[0]), 1, 1))
        if places:
            firsts.append(((places[0], None), 1, 0))
        if windows:
            firsts.append(((None, windows[0]), 0, 1))
        for pair, p, w in firsts:
            for rest in _pairings(places[p:], windows[w:], room - 1):
                yield (pair, *rest)


def _in_order(dims: Sequence[_Spatial]) -> tuple[_Spatial, ...]:
    """The slowest first, where memory tells."""
    known = all(d.size > 1 for d in dims)
    return tuple(sorted(dims, key=lambda d: -d.pitch)) if known else tuple(dims)


# -- views


def _overlaps(found: Convolution) -> bool:
    """Whether windows share elements of the image: where stride * i is dilation * j."""
    sizes = zip(found.result.sizes[2:], found.filter.sizes[2:], strict=True)
    steps = zip(found.stride, found.dilation, strict=True)
    return any(
        dilation < math.gcd(stride, dilation) * places
        and stride < math.gcd(stride, dilation) * window
        for (places, window), (stride, dilation) in zip(sizes, steps, strict=True)
    )


def _is_in_order(found: Convolution) -> bool:
    """Whether images have channels last, and filters windows first."""
    filter_ = found.filter
    channel = min((0, 1), key=lambda i: -filter_.strides[i])
    order = (*range(2, len(filter_.sizes)), channel, 1 - channel)
    images = (found.image, found.result)
    return _is_falling(filter_, order) and all(_is_falling(m, _channels_last(m)) for m in images)


def _channels_last(view: Matrix) -> Sizes:
    """The dims in that order."""
    return 0, *range(2, len(view.sizes)), 1


def _channels_first(view: Matrix) -> Sizes:
    return tuple(range(len(view.sizes)))


def _is_falling(view: Matrix, order: Sizes) -> bool:
    """Whether the dims lie in this order in memory, the slowest first."""
    strides = [view.strides[i] for i in order if view.sizes[i] > 1]
    return strides == sorted(strides, reverse=True)


def _is_array(strides: Sequence[int], sizes: Sequence[int]) -> bool:
    """Whether every element has its own place in memory, upwards along each dim."""
    reach = 0
    for stride, size in sorted((s, n) for s, n in zip(strides, sizes, strict=True) if n > 1):
        if stride <= reach:
            return False
        reach += stride * (size - 1)
    return True


def _with_strides(found: Convolution) -> Convolution:
    """With strides for dims of size 1 too, as if channels were last: libraries look at them."""
    image, filter_, result = map(_filled, (found.image, found.filter, found.result))
    return replace(found, image=image, filter=filter_, result=result)


def _filled(view: Matrix) -> Matrix:
    strides, least = list(view.strides), 1
    for i in reversed(_channels_last(view)):
        if view.sizes[i] == 1:
            strides[i] = least
        least = max(least, strides[i] * view.sizes[i])
    return replace(view, strides=tuple(strides))


__all__ = ["DATA", "FILTER", "FORWARD", "Convolution", "find_convolution", "is_absorbed"]

"""Which products are convolutions that winograd.c computes with fewer multiplications."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from graphc.codegen.native.body import MOST_FILL
from graphc.codegen.native.product import Product, extent
from graphc.ir import loop
from graphc.ir.dtypes import float32
from graphc.ir.loop import Access, Buffer, Kernel

EDGE: Final = 6  # of a patch of pixels
POINTS: Final = EDGE * EDGE  # at which it is evaluated
_WINDOWS = (3, 5)
_LEAST_COLUMNS = 16
_LEAST_TILES = 8  # below, reading the filters' values, four times as many as taps, is the limit
_LEAST_SAVED = 1.5  # of the multiplications: patches reach beyond small images


class Images(NamedTuple):
    """Results are `number` images of `high` x `wide` pixels, of square windows into `channels`.

    `flipped`: the windows run backwards, as those of gradients do.
    """

    number: int
    high: int
    wide: int
    channels: int
    window: int
    flipped: bool

    def pay(self) -> bool:
        """Whether fewer multiplications are worth the patches and the filters' values."""
        step = EDGE + 1 - self.window
        tiles = self.number * -(-self.high // step) * -(-self.wide // step)
        direct = self.number * self.high * self.wide * self.window**2
        fit = self.channels % 16 == 0 and 16 <= self.channels <= MOST_FILL
        return fit and tiles >= _LEAST_TILES and direct >= _LEAST_SAVED * tiles * POINTS


def images_of(kernel: Kernel, product: Product, buffers: Mapping[str, Buffer]) -> Images | None:
    """The product as a convolution with small windows, one pixel apart, of pixels that lie in
    memory channel by channel; None where it is no such thing, or gains nothing by it."""
    sizes, dot = kernel.sizes, product.dot
    if dot.dtype is not float32 or len(product.depth) not in (2, 3) or len(product.rows) < 2:
        return None
    if not isinstance(dot.a, loop.Load) or len(dot.a.pieces) != 1:
        return None
    if extent(kernel, product.batch) != 1 or extent(kernel, product.columns) < _LEAST_COLUMNS:
        return None
    (access,) = dot.a.pieces
    down, *across, run = product.depth
    *outer, y, x = product.rows
    window = sizes[down]
    # without padding, the pixels of a window's row are one run
    channels = sizes[run] if across else access.strides[x]
    if window not in _WINDOWS or extent(kernel, (*across, run)) != window * channels:
        return None
    turns = {_turn(access, y, down), *(_turn(access, x, tap) for tap in across)}
    if len(turns) != 1 or None in turns or access.strides[run] != 1 or access.divisor != 1:
        return None
    if any(g.value.strides[run] for g in access.guards) or (access.guards and dot.a.fill):
        return None
    if buffers[access.buffer].dtype is not float32:
        return None
    count = extent(kernel, outer)
    images = Images(count, sizes[y], sizes[x], channels, window, turns == {-1})
    return images if images.pay() else None


def _turn(access: Access, pixel: int, tap: int) -> int | None:
    """1 where a tap moves as a pixel does, -1 where it moves the other way; guards too."""
    linears = [access.strides, *(g.value.strides for g in access.guards)]
    for sign in (1, -1):
        if all(s[tap] == sign * s[pixel] for s in linears):
            return sign
    return None

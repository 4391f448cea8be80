"""Which products are convolutions that winograd.c computes with fewer multiplications."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from graphc.codegen.native.product import Product
from graphc.ir import loop
from graphc.ir.dtypes import float32
from graphc.ir.loop import Access, Buffer, Kernel

POINTS: Final = 36  # at which a patch of 6 x 6 pixels is evaluated
TAPS: Final = 9
_STEP = 4  # results of a patch, in each direction
_MOST_CHANNELS = 1 << 12  # GC_MOST_CHANNELS of graphc.h
_LEAST_COLUMNS = 16
_LEAST_TILES = 4  # below, the filters' values, four times as many as taps, cost more than is saved
_LEAST_SAVED = 1.5  # of the multiplications: patches reach beyond small images


@dataclass(frozen=True, slots=True)
class Images:
    """The results are images of `high` x `wide` pixels; `flipped`: windows run backwards."""

    high: int
    wide: int
    channels: int
    flipped: bool


def images_of(kernel: Kernel, product: Product, buffers: Mapping[str, Buffer]) -> Images | None:
    """The product as a convolution with 3 x 3 windows, one pixel apart, of pixels that lie in
    memory channel by channel; None where it is no such thing, or gains nothing by it."""
    sizes, dot = kernel.sizes, product.dot
    if len(product.depth) not in (2, 3) or len(product.rows) < 2:
        return None
    if not isinstance(dot.a, loop.Load) or len(dot.a.pieces) != 1:
        return None
    (access,) = dot.a.pieces
    down, *across, run = product.depth
    y, x = product.rows[-2:]
    # without padding, the three pixels of a row are one run
    channels = sizes[run] if across else access.strides[x]
    if (sizes[down], sizes[run] * (sizes[across[0]] if across else 1)) != (3, 3 * channels):
        return None
    if access.divisor != 1 or access.strides[run] != 1 or (access.guards and dot.a.fill):
        return None
    if any(g.value.strides[run] for g in access.guards):
        return None
    turns = {_turn(access, y, down), *(_turn(access, x, tap) for tap in across)}
    batch = math.prod(sizes[i] for i in product.batch)
    if len(turns) != 1 or None in turns or batch != 1 or not _pays(kernel, product, channels):
        return None
    if buffers[access.buffer].dtype is not float32:
        return None
    return Images(sizes[y], sizes[x], channels, turns == {-1})


def _turn(access: Access, pixel: int, tap: int) -> int | None:
    """1 where a tap moves as a pixel does, -1 where it moves the other way; guards too."""
    linears = [access.strides, *(g.value.strides for g in access.guards)]
    for sign in (1, -1):
        if all(s[tap] == sign * s[pixel] for s in linears):
            return sign
    return None


def _pays(kernel: Kernel, product: Product, channels: int) -> bool:
    sizes = kernel.sizes
    y, x = product.rows[-2:]
    columns = math.prod(sizes[i] for i in product.columns)
    images = math.prod(sizes[i] for i in product.rows[:-2])
    tiles = images * -(-sizes[y] // _STEP) * -(-sizes[x] // _STEP)
    saved = images * sizes[y] * sizes[x] * TAPS / (tiles * POINTS) if tiles else 0.0
    fits = channels % 16 == 0 and 16 <= channels <= _MOST_CHANNELS
    return fits and columns >= _LEAST_COLUMNS and tiles >= _LEAST_TILES and saved >= _LEAST_SAVED

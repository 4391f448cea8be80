"""Movements of parts: slices, padding, concatenation, stacks, NumPy-style indexing.

All are views: strides where a part is taken, guards where there is room or a seam.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphc.ir import views
from graphc.ir.dtypes import blank
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Node, Value
from graphc.ir.loop import Guard
from graphc.ir.ops.movement import expand_dims, movement, reshape_to, sample_array, squeeze
from graphc.ir.table import OPS, REQUIRED, Attrs, Op, Sample, Types
from graphc.ir.types import (
    UNKNOWN,
    Dim,
    Shape,
    TensorType,
    format_shape,
    merge_dims,
    normalize_axis,
)
from graphc.ir.views import Map, View

# -- slices, padding, concatenation


def _slice_type(types: Types, attrs: Attrs) -> TensorType:
    shape = types[0].shape
    start, size, step = attrs["start"], attrs["size"], attrs["step"]
    if shape is None:
        return types[0].with_shape(size)
    if not len(shape) == len(start) == len(size) == len(step):
        raise ShapeError(f"slice of {types[0]} needs one start, size and step per dim")
    for dim, first, count, stride in zip(shape, start, size, step, strict=True):
        last = first + (count - 1) * stride
        inside = count == 0 or (0 <= first < dim and 0 <= last < dim) if isinstance(dim, int) else 1
        if count < 0 or stride == 0 or not inside:
            raise ShapeError(
                f"slice start={start} size={size} step={step} reaches outside {types[0]}"
            )
    return types[0].with_shape(tuple(size))


def _slice_numpy(attrs: Attrs, x: np.ndarray) -> np.ndarray:
    index = tuple(
        first + np.arange(count) * stride
        for first, count, stride in zip(attrs["start"], attrs["size"], attrs["step"], strict=True)
    )
    return x[np.ix_(*index)] if index else x


def _slice_view(node: Node, inputs: Sequence[View]) -> View | None:
    rank = len(inputs[0].shape)
    if rank == 0:
        return inputs[0]
    triples = zip(node.attrs["start"], node.attrs["step"], strict=True)
    dims = tuple(views.unit(rank, d, step, start) for d, (start, step) in enumerate(triples))
    return views.compose(inputs[0], node.types[0].static_shape, Map(dims))


def _slice_adjoint(g: Value, x: tuple[Value, ...], attrs: Attrs) -> list[Value | None]:
    low, high, interior = [], [], []
    negative = tuple(i for i, s in enumerate(attrs["step"]) if s < 0)
    if negative:
        g = flip(g, negative)
    for dim, first, count, step in zip(
        x[0].type.static_shape, attrs["start"], attrs["size"], attrs["step"], strict=True
    ):
        least = first if step > 0 or count == 0 else first + (count - 1) * step
        reach = (count - 1) * abs(step) + 1 if count else 0
        low.append(least if count else 0)
        high.append(dim - least - reach if count else dim)
        interior.append(abs(step) - 1)
    return [pad(g, low=tuple(low), high=tuple(high), interior=tuple(interior))]


slice_: Op = movement(
    "slice",
    _slice_type,
    _slice_numpy,
    _slice_view,
    _slice_adjoint,
    attrs={"start": REQUIRED, "size": REQUIRED, "step": REQUIRED},
    samples=lambda: [
        Sample((sample_array(5, 7),), {"start": (1, 0), "size": (3, 4), "step": (1, 2)}),
        Sample(
            (
                sample_array(
                    5,
                ),
            ),
            {"start": (4,), "size": (5,), "step": (-1,)},
        ),
        Sample((sample_array(6, 2),), {"start": (5, 1), "size": (2, 1), "step": (-3, 1)}),
        Sample(
            (
                sample_array(
                    4,
                ),
            ),
            {"start": (2,), "size": (0,), "step": (1,)},
        ),
    ],
    doc="size elements from start on, in steps (negative ones go back), along every dim.",
)


def flip(x: Value, axes: Sequence[int]) -> Value:
    """`x` reversed along the axes; static shapes only."""
    shape = x.type.static_shape
    start = tuple(max(d - 1, 0) if i in axes else 0 for i, d in enumerate(shape))
    step = tuple(-1 if i in axes else 1 for i in range(len(shape)))
    return slice_(x, start=start, size=shape, step=step)


def _pad_type(types: Types, attrs: Attrs) -> TensorType:
    shape = types[0].shape
    if shape is None:
        return types[0]
    parts = (attrs["low"], attrs["high"], attrs["interior"])
    if any(len(p) != len(shape) for p in parts):
        raise ShapeError(f"pad of {types[0]} needs low, high and interior per dim, got {parts}")
    return types[0].with_shape(
        tuple(_padded(d, lo, hi, i) for d, lo, hi, i in zip(shape, *parts, strict=True))
    )


def _padded(dim: Dim, low: int, high: int, interior: int) -> Dim:
    if isinstance(dim, str):
        return dim if low == high == interior == 0 else UNKNOWN
    size = dim + max(dim - 1, 0) * interior + low + high
    if size < 0 or interior < 0:
        raise ShapeError(f"padding ({low}, {high}, {interior}) of a dim of {dim} leaves {size}")
    return size


def _pad_numpy(attrs: Attrs, x: np.ndarray) -> np.ndarray:
    parts = (attrs["low"], attrs["high"], attrs["interior"])
    shape = [int(_padded(d, *p)) for d, *p in zip(x.shape, *parts, strict=True)]
    out = np.full(shape, attrs["fill"] or blank(x.dtype), x.dtype)
    target, source = [], []
    for dim, size, low, interior in zip(x.shape, shape, parts[0], parts[2], strict=True):
        step = interior + 1
        at = low + np.arange(dim) * step
        keep = (at >= 0) & (at < size)
        target.append(at[keep])
        source.append(np.arange(dim)[keep])
    out[np.ix_(*target)] = x[np.ix_(*source)]
    return out


def _pad_view(node: Node, inputs: Sequence[View]) -> View | None:
    shape = inputs[0].shape
    rank = len(shape)
    if rank == 0:
        return inputs[0]
    attrs = node.attrs
    dims, guards, steps = [], [], []
    for d, (size, low, high, interior) in enumerate(
        zip(shape, attrs["low"], attrs["high"], attrs["interior"], strict=True)
    ):
        value = views.unit(rank, d, 1, -low)
        step = interior + 1
        dims.append(value)
        steps.append(step)
        if low > 0 or high > 0 or step > 1:
            guards.append(Guard(value, size, step))
    map_ = Map(tuple(dims), tuple(guards), attrs["fill"], tuple(steps))
    return views.compose(inputs[0], node.types[0].static_shape, map_)


def _pad_adjoint(g: Value, x: tuple[Value, ...], attrs: Attrs) -> list[Value | None]:
    # take back what the padding added: crop (a negative padding), then every step-th element
    shape = x[0].type.static_shape
    zero = (0,) * len(shape)
    cropped = pad(
        g, low=tuple(-p for p in attrs["low"]), high=tuple(-p for p in attrs["high"]), interior=zero
    )
    step = tuple(i + 1 for i in attrs["interior"])
    if all(s == 1 for s in step):
        return [cropped]
    return [slice_(cropped, start=zero, size=shape, step=step)]


pad: Op = movement(
    "pad",
    _pad_type,
    _pad_numpy,
    _pad_view,
    _pad_adjoint,
    attrs={"low": REQUIRED, "high": REQUIRED, "interior": REQUIRED, "fill": 0},
    samples=lambda: [
        Sample((sample_array(3, 2),), {"low": (1, 0), "high": (0, 2), "interior": (0, 0)}),
        Sample(
            (
                sample_array(
                    4,
                ),
            ),
            {"low": (-1,), "high": (2,), "interior": (2,)},
        ),
        Sample((sample_array(0, 2),), {"low": (1, 1), "high": (1, 0), "interior": (0, 0)}),
    ],
    doc="low elements of `fill` before, high after (negative: cut off), interior in between.",
)


def _concat_type(types: Types, attrs: Attrs) -> TensorType:
    from graphc.ir.ops.pointwise import check_same_dtype

    dtype = check_same_dtype(types)
    known = [t.shape for t in types if t.shape is not None]
    if not known:
        return TensorType(dtype, None)
    axis = normalize_axis(attrs["axis"], len(known[0]))
    dims = list(known[0])
    if len({len(s) for s in known}) > 1:
        raise ShapeError(f"concat of different ranks: {' and '.join(map(format_shape, known))}")
    text = "concat along axis {} of {}".format(axis, " and ".join(map(format_shape, known)))
    for shape in known[1:]:
        dims = [d if i == axis else merge_dims(d, shape[i], text) for i, d in enumerate(dims)]
    along = [t.shape[axis] if t.shape is not None else UNKNOWN for t in types]
    numbers = [d for d in along if isinstance(d, int)]
    dims[axis] = sum(numbers) if len(numbers) == len(along) else UNKNOWN
    if len(along) == 1:
        dims[axis] = along[0]
    return TensorType(dtype, tuple(dims))


def _concat_view(node: Node, inputs: Sequence[View]) -> View | None:
    shape = node.types[0].static_shape
    rank = len(shape)
    axis = normalize_axis(node.attrs["axis"], rank)
    pieces: list[Any] = []
    start = 0
    for view in inputs:
        size = view.shape[axis]
        if size == 0:
            continue
        if any(p.guards for p in view.load.pieces):
            return None  # a padded or concatenated part would shine through its own gaps
        dims = tuple(views.unit(rank, d, 1, -start if d == axis else 0) for d in range(rank))
        guard = Guard(views.unit(rank, axis, 1, -start), size)
        part = views.compose(view, shape, Map(dims, (guard,)))
        if part is None:
            return None
        pieces.extend(part.load.pieces)
        start += size
    if not pieces or len(pieces) > _MOST_PIECES:
        return None
    return View(shape, replace(inputs[0].load, pieces=tuple(pieces)))


_MOST_PIECES = 8  # beyond that every reader would test too many guards


def _concat_adjoint(g: Value, x: tuple[Value, ...], attrs: Attrs) -> list[Value | None]:
    shape = g.type.static_shape
    axis = normalize_axis(attrs["axis"], len(shape))
    result: list[Value | None] = []
    start = 0
    for part in x:
        size = part.type.static_shape
        first = tuple(start if i == axis else 0 for i in range(len(shape)))
        result.append(slice_(g, start=first, size=size, step=(1,) * len(shape)))
        start += size[axis]
    return result


concat: Op = movement(
    "concat",
    _concat_type,
    lambda attrs, *xs: np.concatenate(xs, attrs["axis"]),
    _concat_view,
    _concat_adjoint,
    attrs={"axis": REQUIRED},
    samples=lambda: [
        Sample((sample_array(3, 2), sample_array(3, 4)), {"axis": 1}),
        Sample((sample_array(1, 2), sample_array(0, 2), sample_array(2, 2)), {"axis": 0}),
        Sample((sample_array(5),), {"axis": -1}),
    ],
    doc="The inputs one after the other along an axis.",
)


def _stack_type(types: Types, attrs: Attrs) -> TensorType:
    from graphc.ir.ops.pointwise import check_same_dtype
    from graphc.ir.types import merge_shapes

    dtype = check_same_dtype(types)
    shape: Shape | None = None
    for t in types:
        shape = merge_shapes(shape, t.shape, "stack needs equal shapes")
    if shape is None:
        return TensorType(dtype, None)
    axis = normalize_axis(attrs["axis"], len(shape) + 1)
    return TensorType(dtype, (*shape[:axis], len(types), *shape[axis:]))


stack: Op = movement(
    "stack",
    _stack_type,
    lambda attrs, *xs: np.stack(xs, attrs["axis"]),
    None,
    lambda g, x, attrs: [
        squeeze(part, axis=(normalize_axis(attrs["axis"], len(g.type.static_shape)),))
        for part in split_even(g, attrs["axis"], len(x))
    ],
    attrs={"axis": 0},
    samples=lambda: [
        Sample((sample_array(3, 2), sample_array(3, 2)), {"axis": 1}),
        Sample((sample_array(), sample_array(), sample_array()), {}),
    ],
    decompose=lambda node: concat(
        *(
            expand_dims(x, axis=normalize_axis(node.attrs["axis"], len(node.types[0].static_shape)))
            for x in node.inputs
        ),
        axis=node.attrs["axis"],
    ),
    doc="The inputs along a new axis.",
)


def split_even(x: Value, axis: int, count: int) -> list[Value]:
    """`x` in `count` equal parts along the axis; static shapes only."""
    shape = x.type.static_shape
    axis = normalize_axis(axis, len(shape))
    size = shape[axis] // count
    part = tuple(size if i == axis else d for i, d in enumerate(shape))
    starts = [tuple(size * n if i == axis else 0 for i in range(len(shape))) for n in range(count)]
    return [slice_(x, start=s, size=part, step=(1,) * len(shape)) for s in starts]


# -- NumPy-style indexing


def getitem(x: Value, key: Any) -> Value:
    """`x[key]` with integers, slices, `...` and None, as NumPy does; numbers may be tensors."""
    keys = list(key) if isinstance(key, (tuple, list)) else [key]
    if any(map(_is_computed, keys)):
        from graphc.ir.ops.choosing import computed_item  # built on this module

        return computed_item(x, keys)
    return OPS["strided_slice"](x, key=tuple(_freeze_key(k) for k in keys))


def _is_computed(k: Any) -> bool:
    parts = (k.start, k.stop, k.step) if isinstance(k, slice) else (k,)
    return any(isinstance(p, Value) or hasattr(p, "__graphc_value__") for p in parts)


def _freeze_key(k: Any) -> Any:
    if isinstance(k, slice):
        if k.step is not None and int(k.step) == 0:
            raise AttributeValueError("the step of a slice is not 0")
        return ("slice", *(None if p is None else int(p) for p in (k.start, k.stop, k.step)))
    if k is None:
        return "new"
    if k is Ellipsis:
        return "..."
    if isinstance(k, (int, np.integer)) and not isinstance(k, bool):
        return int(k)
    raise AttributeValueError(f"a tensor is indexed by integers, slices, ... and None, got {k!r}")


def _expand_key(key: Sequence[Any], rank: int) -> list[Any]:
    used = sum(k not in ("new", "...") for k in key)
    if used > rank:
        raise ShapeError(f"{used} indices for a tensor of rank {rank}")
    full = ("slice", None, None, None)
    rest = [full] * (rank - used)
    if "..." not in key:
        return [*key, *rest]
    at = list(key).index("...")
    return [*key[:at], *rest, *key[at + 1 :]]


def _slice_dims(key: Sequence[Any], shape: Shape) -> tuple[list[Any], list[Dim]]:
    """Per input dim (start, size, step), and the result's dims."""
    triples: list[Any] = []
    dims: list[Dim] = []
    rest = iter(shape)
    for k in _expand_key(key, len(shape)):
        if k == "new":
            dims.append(1)
            continue
        dim = next(rest)
        if isinstance(k, int):
            if isinstance(dim, int) and not -dim <= k < dim:
                raise ShapeError(f"index {k} is outside a dim of size {dim}")
            triples.append((k % dim if isinstance(dim, int) else k, 1, 1))
        elif isinstance(dim, str):
            whole = k[1:] in ((None, None, None), (0, None, None))
            triples.append((0, dim, 1))
            dims.append(dim if whole else UNKNOWN)
        else:
            start, stop, step = slice(*k[1:]).indices(dim)
            count = len(range(start, stop, step))
            triples.append((start if count else 0, count, step))
            dims.append(count)
    return triples, dims


def _getitem_type(types: Types, attrs: Attrs) -> TensorType:
    shape = types[0].shape
    if shape is None:
        return types[0]
    return types[0].with_shape(tuple(_slice_dims(attrs["key"], shape)[1]))


def _getitem(node: Node) -> Value:
    x = node.inputs[0]
    triples, dims = _slice_dims(node.attrs["key"], x.type.static_shape)
    start, size, step = (tuple(t[i] for t in triples) for i in range(3))
    whole = size == x.type.static_shape and all(s == 1 for s in step)
    part = x if whole else slice_(x, start=start, size=size, step=step)
    return reshape_to(part, [d for d in dims if isinstance(d, int)])


def _getitem_adjoint(g: Value, x: tuple[Value, ...], attrs: Attrs) -> list[Value | None]:
    triples, _ = _slice_dims(attrs["key"], x[0].type.static_shape)
    start, size, step = (tuple(t[i] for t in triples) for i in range(3))
    return list(
        _slice_adjoint(reshape_to(g, size), x, {"start": start, "size": size, "step": step})
    )


def _getitem_numpy(attrs: Attrs, x: np.ndarray) -> np.ndarray:
    special = {"new": None, "...": Ellipsis}
    index = tuple(
        special[k] if isinstance(k, str) else slice(*k[1:]) if isinstance(k, tuple) else k
        for k in attrs["key"]
    )
    return np.asarray(x[index], dtype=x.dtype)


strided_slice: Op = movement(
    "strided_slice",
    _getitem_type,
    _getitem_numpy,
    None,
    _getitem_adjoint,
    attrs={"key": REQUIRED},
    samples=lambda: [
        Sample((sample_array(5, 7),), {"key": (("slice", 1, None, 2), -1)}),
        Sample((sample_array(5, 7),), {"key": ("...", ("slice", None, None, -1), "new")}),
        Sample((sample_array(4, 3),), {"key": (2,)}),
    ],
    decompose=_getitem,
    doc="NumPy's basic indexing: integers, slices, ellipsis and new axes.",
)

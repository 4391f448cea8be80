"""Making, reshaping, slicing and joining tensors, by TensorFlow's names."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.frontend.arguments import (
    constant_value,
    is_tensor,
    numbers_argument,
    shape_argument,
    static_int,
    static_ints,
)
from graphc.ir.dtypes import DType, as_dtype, bool_, float32, int32
from graphc.ir.errors import AttributeValueError, DTypeError, ShapeError
from graphc.ir.graph import Value, convert
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import slicing, source
from graphc.ir.table import OPS
from graphc.ir.types import normalize_axis


def one_hot(
    indices: Any,
    depth: Any,
    on_value: Any = None,
    off_value: Any = None,
    axis: int | None = None,
    dtype: Any = None,
    name: str | None = None,
) -> Value:
    """on_value at each index along a new axis of size `depth` (the last), off_value elsewhere."""
    dtype = as_dtype(dtype) if dtype is not None else _dtype_of(on_value, off_value)
    (count,) = static_ints(depth, "the depth of one_hot")
    ids = convert(indices)
    if not ids.dtype.is_integer:
        raise DTypeError(f"one_hot needs integer indices, got {ids!r}; cast() them")
    rank = ids.type.rank
    if rank is None:
        raise ShapeError(f"one_hot needs indices of known rank, got {ids.type}")
    at = rank if axis in (None, -1) else normalize_axis(axis, rank + 1)
    wide = mv.expand_dims(ids, axis=at)
    along = tuple(count if i == at else 1 for i in range(rank + 1))
    hit = pw.equal(wide, source.iota(shape=along, axis=at, dtype=ids.dtype))
    on = convert(_number(1, dtype) if on_value is None else on_value, dtype=dtype)
    off = convert(_number(0, dtype) if off_value is None else off_value, dtype=dtype)
    return pw.where(hit, on, off, name=name)


def _number(number: int, dtype: DType) -> Any:
    return bool(number) if dtype is bool_ else number


def _dtype_of(*values: Any) -> Any:
    given = next((v for v in values if v is not None), None)
    return float32 if given is None else convert(given).dtype


# -- shapes


def shape(input: Any, name: str | None = None, out_type: Any = int32) -> Value:
    """The shape as a vector of integers."""
    return mv.shape_of(input, dtype=as_dtype(out_type), name=name)


def size(input: Any, name: str | None = None, out_type: Any = int32) -> Value:
    """The number of elements."""
    return OPS["reduce_prod"](shape(input, out_type=out_type), name=name)


def rank(input: Any, name: str | None = None) -> Value:
    """The number of dims, a scalar."""
    number = convert(input).type.rank
    if number is None:
        return size(shape(input), name=name)
    return convert(number, dtype=int32, name=name)


def reshape(tensor: Any, shape: Any, name: str | None = None) -> Value:
    """The same elements in another shape; one dim may be -1. shape: ints or an integer tensor."""
    inputs, attrs = shape_argument(shape)
    return mv.reshape(tensor, *inputs, **attrs, name=name)


def transpose(a: Any, perm: Any = None, name: str | None = None, conjugate: bool = False) -> Value:
    """The axes in the order `perm`, reversed by default."""
    del conjugate
    order = None if perm is None else static_ints(perm, "perm")
    return mv.transpose(a, perm=order, name=name)


def expand_dims(input: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Value:
    """A dim of size 1 put in at `axis`."""
    return mv.expand_dims(
        input, axis=static_ints(axis if axis is not None else dim, "axis"), name=name
    )


def squeeze(
    input: Any, axis: Any = None, name: str | None = None, squeeze_dims: Any = None
) -> Value:
    """Without the dims of size 1 (of the given axes, or all)."""
    axis = axis if axis is not None else squeeze_dims
    return mv.squeeze(input, axis=None if axis is None else static_ints(axis, "axis"), name=name)


def broadcast_to(input: Any, shape: Any, name: str | None = None) -> Value:
    """NumPy's broadcast to a shape."""
    inputs, attrs = shape_argument(shape)
    return mv.broadcast_to(input, *inputs, **attrs, name=name)


# -- joining and taking apart


def concat(values: Any, axis: Any, name: str | None = None) -> Value:
    """The tensors one after the other along an axis. (Old programs give the axis first.)"""
    if isinstance(values, (int, np.integer)):
        values, axis = axis, values
    items = values if isinstance(values, (list, tuple)) else [values]
    if not items:
        raise AttributeValueError("concat needs at least one tensor")
    (number,) = static_ints(axis, "the axis of concat")
    return slicing.concat(*items, axis=number, name=name)


def stack(values: Any, axis: int = 0, name: str | None = None) -> Value:
    """The tensors along a new axis."""
    if is_tensor(values) or len(values) == 0:
        raise AttributeValueError(f"stack needs a list of one tensor or more, got {values!r}")
    return slicing.stack(*values, axis=axis, name=name)


def unstack(
    value: Any, num: int | None = None, axis: int = 0, name: str | None = None
) -> list[Value]:
    """The parts along an axis, without it."""
    del name
    x = convert(value)
    count = _known_dim(x, axis, "unstack") if num is None else num
    full = slice(None)
    at = normalize_axis(axis, x.type.rank or 0)
    return [x[(full,) * at + (i,)] for i in range(count)]


def split(
    value: Any, num_or_size_splits: Any, axis: Any = 0, num: Any = None, name: str | None = None
) -> list[Value]:
    """Parts of equal size (a number), or of the given sizes (one may be -1), along an axis."""
    del num, name
    x = convert(value)
    (number,) = static_ints(axis, "the axis of split")
    total = _known_dim(x, number, "split")
    sizes = _split_sizes(num_or_size_splits, total)
    at = normalize_axis(number, x.type.rank or 0)
    parts, start = [], 0
    for length in sizes:
        parts.append(x[(slice(None),) * at + (slice(start, start + length),)])
        start += length
    return parts


def _split_sizes(splits: Any, total: int) -> list[int]:
    given = constant_value(splits)
    if given is None:
        raise AttributeValueError("split needs sizes that are known while the graph is built")
    if given.ndim == 0:
        count = int(given)
        if count < 1 or total % count:
            raise ShapeError(f"a dim of {total} cannot be split into {count} equal parts")
        return [total // count] * count
    sizes = [int(n) for n in given]
    rest = total - sum(n for n in sizes if n != -1)
    sizes = [rest if n == -1 else n for n in sizes]
    if sum(sizes) != total or min(sizes, default=0) < 0:
        raise ShapeError(f"a dim of {total} cannot be split into {given.tolist()}")
    return sizes


def _known_dim(x: Value, axis: int, what: str) -> int:
    if x.type.shape is None:
        raise ShapeError(f"{what} needs a tensor of known rank, got {x.type}")
    dim = x.type.shape[normalize_axis(axis, len(x.type.shape))]
    if not isinstance(dim, int):
        raise ShapeError(f"{what} along axis {axis} of {x.type}: that size is not known")
    return dim


def slice_(input_: Any, begin: Any, size: Any, name: str | None = None) -> Value:
    """size[i] elements from begin[i] on along every dim; -1: all that are left.

    Both may be tensors. A size that is not known while the graph is built must not be -1.
    """
    first, count = numbers_argument(begin, "begin"), numbers_argument(size, "size")
    if len(first) != len(count):
        raise ShapeError(f"slice: {len(first)} begins do not fit {len(count)} sizes")
    result = convert(input_)
    key: list[Any] = []
    for axis, (b, n) in enumerate(zip(first, count, strict=True)):
        if is_tensor(b) and not is_tensor(n) and n != -1:  # moved to `b` without knowing it
            along = pw.add(source.iota(shape=(n,), axis=0, dtype=b.dtype), b)
            result, b, n = OPS["gather"](result, along, axis=axis), 0, -1
        key.append(slice(b, None if not is_tensor(n) and n == -1 else b + n))
    result = result[tuple(key)]
    return result if name is None else OPS["identity"](result, name=name)


def tile(input: Any, multiples: Any, name: str | None = None) -> Value:
    """The tensor repeated multiples[i] times along every dim. multiples: [rank] integers."""
    inputs, attrs = shape_argument(multiples)
    return OPS["tile"](input, *inputs, multiples=attrs["shape"], name=name or "Tile")


def reverse(tensor: Any, axis: Any, name: str | None = None) -> Value:
    """Reversed along the axes."""
    x = convert(tensor)
    rank_ = x.type.rank or 0
    axes = {normalize_axis(a, rank_) for a in static_ints(axis, "axis")}
    key = tuple(slice(None, None, -1) if i in axes else slice(None) for i in range(rank_))
    result = x[key]
    return result if name is None else OPS["identity"](result, name=name)


def pad(
    tensor: Any,
    paddings: Any,
    mode: str = "CONSTANT",
    name: str | None = None,
    constant_values: float = 0,
) -> Value:
    """paddings[i] = (before, after) elements around dim i. Modes: CONSTANT, REFLECT, SYMMETRIC."""
    amounts = _pairs_of_padding(paddings)
    if mode.upper() == "CONSTANT":
        low, high = (tuple(int(n) for n in amounts[:, i]) for i in (0, 1))
        return slicing.pad(
            tensor, low=low, high=high, interior=(0,) * len(low), fill=constant_values, name=name
        )
    if mode.upper() not in ("REFLECT", "SYMMETRIC"):
        raise AttributeValueError(f"pad knows CONSTANT, REFLECT and SYMMETRIC, got {mode!r}")
    result = convert(tensor)
    for axis, (before, after) in enumerate(amounts.tolist()):
        result = _mirror(result, axis, before, after, int(mode.upper() == "REFLECT"))
    return result


def _pairs_of_padding(paddings: Any) -> np.ndarray:
    known = constant_value(paddings)
    if known is None or known.ndim != 2 or known.shape[1] != 2 or known.dtype.kind not in "iu":
        raise AttributeValueError(
            f"paddings are (before, after) for each dim, known while the graph is built; "
            f"got {paddings!r}"
        )
    if known.size and known.min() < 0:
        raise AttributeValueError(f"paddings are not negative, got {paddings!r}")
    return known


def _mirror(x: Value, axis: int, before: int, after: int, skip: int) -> Value:
    total = _known_dim(x, axis, "pad")
    if max(before, after) > total - skip:
        raise ShapeError(f"cannot mirror {max(before, after)} elements of a dim of {total}")
    lead = (slice(None),) * axis
    parts = [x]
    if before:
        first = x[(*lead, slice(skip, before + skip))]
        parts.insert(0, first[(*lead, slice(None, None, -1))])
    if after:
        last = x[(*lead, slice(total - after - skip, total - skip))]
        parts.append(last[(*lead, slice(None, None, -1))])
    return slicing.concat(*parts, axis=axis) if len(parts) > 1 else x


def where(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Value:
    """x where the condition holds, else y. A vector condition chooses rows, as in TensorFlow 1.

    Without x and y: where the condition holds, int64[count, rank].
    """
    if x is None and y is None:
        from graphc.frontend.selection import positions  # built on this module

        return positions(condition, name)
    if x is None or y is None:
        raise AttributeValueError("where() needs x and y, or neither of them")
    test, like = convert(condition), next((v for v in (x, y) if is_tensor(v)), None)
    dtype = convert(like).dtype if like is not None else None
    a, b = convert(x, like=dtype), convert(y, like=dtype)
    rank_ = a.type.rank
    if test.type.rank == 1 and rank_ is not None and rank_ > 1 and b.type.rank == rank_:
        test = mv.expand_dims(test, axis=tuple(range(1, rank_)))
    return pw.where(test, a, b, name=name)


def sequence_mask(
    lengths: Any, maxlen: Any = None, dtype: Any = bool_, name: str | None = None
) -> Value:
    """True at the first lengths[i] of `maxlen` positions of row i; by default the greatest length.

    `maxlen` may be a tensor.
    """
    ids = convert(lengths)
    wide = mv.expand_dims(ids, axis=(ids.type.rank or 0,))
    most = OPS["reduce_max"](ids) if maxlen is None else maxlen
    known = constant_value(most)
    if known is not None:
        along = source.iota(shape=(int(known),), axis=0, dtype=ids.dtype)
    else:
        ends = [convert(0, like=ids.dtype), convert(most), convert(1, like=ids.dtype)]
        along = OPS["range"](*ends, dtype=ids.dtype)
    mask = pw.less(along, wide)
    return mask if as_dtype(dtype) is bool_ else pw.cast(mask, dtype=as_dtype(dtype), name=name)


def gather(
    params: Any, indices: Any, validate_indices: Any = None, name: str | None = None, axis: Any = 0
) -> Value:
    """The slices of params at the indices along an axis; an index out of range gives zeros."""
    del validate_indices
    (number,) = static_ints(axis, "the axis of gather")
    return OPS["gather"](convert(params), convert(indices), axis=number, name=name)


def gather_nd(params: Any, indices: Any, name: str | None = None) -> Value:
    """params[i0, i1, ...] for each index along the last dim of `indices`; zeros out of range."""
    return OPS["gather_nd"](convert(params), convert(indices), name=name)


def scatter_nd(indices: Any, updates: Any, shape: Any, name: str | None = None) -> Value:
    """Zeros of the shape, to which the updates are added at the indices (see gather_nd)."""
    inputs, attrs = shape_argument(shape)
    return OPS["scatter_nd"](convert(indices), convert(updates), *inputs, **attrs, name=name)


def sort(
    values: Any, axis: Any = -1, direction: str = "ASCENDING", name: str | None = None
) -> Value:
    """The elements in order along an axis; NaN counts as the greatest."""
    return _sorted(values, axis, direction, name)[0]


def argsort(
    values: Any,
    axis: Any = -1,
    direction: str = "ASCENDING",
    stable: bool = True,
    name: str | None = None,
) -> Value:
    """Where the sorted elements stand (int32); equal ones in their order."""
    del stable
    return _sorted(values, axis, direction, name)[1]


def _sorted(values: Any, axis: Any, direction: str, name: str | None) -> tuple[Value, ...]:
    if direction not in ("ASCENDING", "DESCENDING"):
        raise AttributeValueError(f"direction is ASCENDING or DESCENDING, got {direction!r}")
    number, descending = static_int(axis, "the axis"), direction == "DESCENDING"
    return OPS["sort_pairs"].outputs(values, axis=number, descending=descending, name=name)


def strided_slice(
    input_: Any,
    begin: Any,
    end: Any,
    strides: Any = None,
    begin_mask: int = 0,
    end_mask: int = 0,
    ellipsis_mask: int = 0,
    new_axis_mask: int = 0,
    shrink_axis_mask: int = 0,
    var: Any = None,
    name: str | None = None,
) -> Value:
    """NumPy's indexing, as lists of begins, ends and steps; bit i of a mask changes entry i."""
    del var
    first, last = numbers_argument(begin, "begin"), numbers_argument(end, "end")
    steps = (1,) * len(first) if strides is None else static_ints(strides, "strides")
    key: list[Any] = []
    for i, (b, e, step) in enumerate(zip(first, last, steps, strict=True)):
        bit = 1 << i
        if ellipsis_mask & bit:
            key.append(Ellipsis)
        elif new_axis_mask & bit:
            key.append(None)
        elif shrink_axis_mask & bit:
            key.append(b)
        else:
            key.append(slice(None if begin_mask & bit else b, None if end_mask & bit else e, step))
    result = convert(input_)[tuple(key)]
    return result if name is None else OPS["identity"](result, name=name)

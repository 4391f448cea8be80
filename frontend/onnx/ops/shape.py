"""Shapes and movements: reshape, transpose, slices, padding, tiling, constants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.frontend import array as ar
from graphc.frontend.onnx.reading import dtype_of
from graphc.frontend.onnx.registry import Call, NotKnown, converter
from graphc.ir.dtypes import as_dtype, int64, string
from graphc.ir.graph import Value, convert
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.table import OPS
from graphc.ir.types import normalize_axis


@converter("Constant")
def constant(call: Call) -> Value:
    """The tensor or numbers that the attribute holds."""
    for name, dtype in (
        ("value", None), ("value_float", np.float32), ("value_floats", np.float32),
        ("value_int", np.int64), ("value_ints", np.int64),
    ):  # fmt: skip
        if name in call.attrs:
            return convert(np.asarray(call.attrs[name], dtype))
    for name in ("value_string", "value_strings"):
        if name in call.attrs:
            return convert(call.attrs[name], dtype=string)
    raise call.refused("only constants of numbers and strings are supported")


@converter("ConstantOfShape")
def constant_of_shape(call: Call) -> Value:
    """A tensor of one value."""
    value = np.asarray(call.attr("value", np.zeros(1, np.float32))).ravel()[:1]
    shape = call.value(0)
    return mv.broadcast_to(convert(value.reshape(())), shape=tuple(int(d) for d in shape))


@converter("Shape")
def shape(call: Call) -> Value:
    """The sizes, or those from `start` to `end`."""
    x = call.x()
    start, end = call.attr("start", 0), call.attr("end")
    if x.type.rank is None:
        sizes = ar.shape(x, out_type=int64)
        return sizes if start == 0 and end is None else sizes[slice(start, end)]
    dims = (x.type.shape or ())[slice(start, end)]
    if all(isinstance(d, int) for d in dims):
        return convert(np.array(dims, np.int64))
    return ar.shape(x, out_type=int64)[slice(start, end)]


@converter("Size")
def size(call: Call) -> Value:
    """The number of elements."""
    x = call.x()
    if x.type.is_static:
        return convert(np.array(x.type.size, np.int64))
    return ar.size(x, out_type=int64)


@converter("Reshape")
def reshape(call: Call) -> Value:
    """To the shape; 0 keeps a size (unless allowzero), -1 takes what is left."""
    x = call.x()
    asked = call.ints("shape", 1)
    if not call.attr("allowzero", 0) and 0 in asked:
        known = x.type.shape
        if known is None:
            raise NotKnown
        asked = [known[i] if d == 0 else d for i, d in enumerate(asked)]
        if any(isinstance(d, str) for d in asked):
            if sum(isinstance(d, str) or d == -1 for d in asked) > 1:
                raise NotKnown
            asked = [-1 if isinstance(d, str) else d for d in asked]
    return mv.reshape(x, shape=tuple(asked))


@converter("Flatten")
def flatten(call: Call) -> Value:
    """A matrix: the dims before the axis, and the others."""
    x, axis = call.x(), call.attr("axis", 1)
    dims = call.dims(x)
    axis = axis + len(dims) if axis < 0 else axis
    return mv.reshape(x, shape=(math.prod(dims[:axis]), math.prod(dims[axis:])))


@converter("Transpose")
def transpose(call: Call) -> Value:
    """Dims in another order, by default the opposite one."""
    x = call.x()
    rank = call.rank(x)
    return mv.transpose(x, perm=tuple(call.ints("perm", None, range(rank)[::-1])))


@converter("Squeeze")
def squeeze(call: Call) -> Value:
    """Without dims of 1, or without the named ones."""
    x = call.x()
    axes = call.ints("axes", 1, None)
    if axes is None:
        axes = [i for i, d in enumerate(call.dims(x)) if d == 1]
    rank = call.rank(x)
    axes = tuple(normalize_axis(a, rank) for a in axes)
    return OPS["squeeze"](x, axis=axes) if axes else OPS["identity"](x)


@converter("Unsqueeze")
def unsqueeze(call: Call) -> Value:
    """With new dims of 1 at these places of the result."""
    x = call.x()
    axes = call.ints("axes", 1)
    rank = call.rank(x) + len(axes)
    return OPS["expand_dims"](x, axis=tuple(sorted(normalize_axis(a, rank) for a in axes)))


@converter("Expand")
def expand(call: Call) -> Value:
    """Broadcast together with a shape."""
    x = call.x()
    asked = call.ints("shape", 1)
    return mv.broadcast_to(x, shape=np.broadcast_shapes(call.dims(x), tuple(asked)))


@converter("Concat")
def concat(call: Call) -> Value:
    """One after the other along an axis."""
    return OPS["concat"](*call.given(), axis=call.attr("axis"))


@converter("Split")
def split(call: Call) -> list[Value]:
    """Parts along an axis: of given sizes, or equal ones of which the last may be smaller."""
    x, axis = call.x(), call.attr("axis", 0)
    total = call.dims(x)[axis]
    sizes = call.ints("split", 1, None)
    if sizes is None:
        count = call.attr("num_outputs", call.output_count)
        part = -(-total // count)
        sizes = [min(part, total - i * part) for i in range(count)]
    return ar.split(x, sizes, axis)


@converter("Slice")
def slice_(call: Call) -> Value:
    """From start to end by steps, along some axes."""
    x = call.x()
    rank = call.rank(x)
    starts, ends = call.ints("starts", 1), call.ints("ends", 2)
    axes = call.ints("axes", 3, list(range(len(starts))))
    steps = call.ints("steps", 4, [1] * len(starts))
    key: list[Any] = [slice(None)] * rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        at = normalize_axis(axis, rank)
        dim = (x.type.shape or ())[at]
        if step < 0 and isinstance(dim, int) and end < -dim:
            end = None  # down to the first element
        key[at] = slice(start, end, step)
    return x[tuple(key)]


@converter("Pad")
def pad(call: Call) -> Value:
    """More (or fewer) elements before and after each dim."""
    x = call.x()
    rank = call.rank(x)
    pads = call.ints("pads", 1)
    axes = [normalize_axis(a, rank) for a in call.ints("axes", 3, list(range(rank)))]
    value = call.static(2) if call.version >= 11 else np.asarray(call.attr("value", 0.0))
    amounts = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        amounts[axis] = pads[i], pads[len(axes) + i]
    mode = call.attr("mode", "constant")
    if mode != "constant":
        return _mirrored(call, x, amounts, mode)
    fill = 0 if value is None else value.ravel()[0].item()
    if x.dtype.is_bool:
        fill = bool(fill)
    low, high = zip(*amounts, strict=True) if amounts else ((), ())
    return OPS["pad"](x, low=low, high=high, interior=(0,) * rank, fill=fill)


def _mirrored(call: Call, x: Value, amounts: Sequence[tuple[int, int]], mode: str) -> Value:
    """Padding by elements of x itself: one gather per padded axis."""
    modes = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}
    for axis, (before, after) in enumerate(amounts):
        if before or after:
            size = call.dims(x)[axis]
            index = np.arange(size)
            index = index[max(-before, 0) : size - max(-after, 0)]
            index = np.pad(index, (max(before, 0), max(after, 0)), mode=modes[mode])  # type: ignore[call-overload]
            x = OPS["gather"](x, convert(index), axis=axis)
    return x


@converter("Tile")
def tile(call: Call) -> Value:
    """Repeated along each dim."""
    return ar.tile(call.x(), call.ints("repeats", 1))


@converter("Range")
def range_(call: Call) -> Value:
    """start, start + delta, ... before the limit."""
    ends = [call.static(i) for i in range(3)]
    start, limit, delta = (e.ravel()[0].item() for e in ends if e is not None)
    count = max(math.ceil((limit - start) / delta), 0)
    call.check_table(count)
    return convert((np.arange(count) * delta + start).astype(call.x().dtype.numpy))


@converter("DepthToSpace", "SpaceToDepth")
def blocks(call: Call) -> Value:
    """Blocks of pixels as channels, and channels as blocks."""
    x, b = call.x(), call.attr("blocksize")
    n, c, h, w = call.dims(x)
    if call.op == "SpaceToDepth":
        parts = mv.reshape(x, shape=(n, c, h // b, b, w // b, b))
        crd = call.attr("mode", "DCR") == "CRD"
        moved = mv.transpose(parts, perm=(0, 1, 3, 5, 2, 4) if crd else (0, 3, 5, 1, 2, 4))
        return mv.reshape(moved, shape=(n, c * b * b, h // b, w // b))
    if call.attr("mode", "DCR") == "DCR":
        parts, perm = mv.reshape(x, shape=(n, b, b, c // b**2, h, w)), (0, 3, 4, 1, 5, 2)
    else:
        parts, perm = mv.reshape(x, shape=(n, c // b**2, b, b, h, w)), (0, 1, 4, 2, 5, 3)
    return mv.reshape(mv.transpose(parts, perm=perm), shape=(n, c // b**2, h * b, w * b))


@converter("EyeLike")
def eye_like(call: Call) -> Value:
    """Ones on a diagonal."""
    x = call.x()
    rows, columns = call.dims(x)
    call.check_table(rows, columns)
    code = call.attr("dtype")
    dtype = x.dtype if code is None else dtype_of(code, "EyeLike")
    return convert(np.eye(rows, columns, call.attr("k", 0)).astype(dtype.numpy))


@converter("Trilu")
def trilu(call: Call) -> Value:
    """The upper or lower triangle; zeros elsewhere."""
    x = call.x()
    offset = call.static(1)
    k = 0 if offset is None else int(offset.ravel()[0])
    rows, columns = call.dims(x)[-2:]
    call.check_table(rows, columns)
    ones = np.ones((rows, columns), np.bool_)
    keep = np.triu(ones, k) if call.attr("upper", 1) else np.tril(ones, k)
    return pw.where(convert(keep), x, mv.zeros_like(x))


@converter("CenterCropPad")
def center_crop_pad(call: Call) -> Value:
    """Cropped or padded around the middle to the sizes."""
    x = call.x()
    rank = call.rank(x)
    asked = call.ints("shape", 1)
    axes = [normalize_axis(a, rank) for a in call.ints("axes", None, list(range(rank)))]
    for axis, size in zip(axes, asked, strict=True):
        have = call.dims(x)[axis]
        if size < have:
            start = (have - size) // 2
            key: list[Any] = [slice(None)] * rank
            key[axis] = slice(start, start + size)
            x = x[tuple(key)]
        elif size > have:
            before = (size - have) // 2
            low = tuple(before if i == axis else 0 for i in range(rank))
            high = tuple(size - have - before if i == axis else 0 for i in range(rank))
            x = OPS["pad"](x, low=low, high=high, interior=(0,) * rank, fill=0)
    return x


@converter("ReverseSequence")
def reverse_sequence(call: Call) -> Value:
    """The first elements of each sequence in the opposite order."""
    from graphc.frontend.rnn import reverse_sequence as reversed_

    return reversed_(call.x(), call.x(1), call.attr("time_axis", 0), call.attr("batch_axis", 1))


@converter("RandomUniformLike", "RandomNormalLike", "RandomUniform", "RandomNormal", "Bernoulli",
           "Multinomial")  # fmt: skip
def random(call: Call) -> Value:
    """Random numbers are by definition not those of another implementation."""
    from graphc.frontend import random as rnd

    if call.op in ("Bernoulli", "Multinomial"):
        raise call.refused("random draws are not supported")
    like = call.get(0)
    code = call.attr("dtype")
    dtype = dtype_of(code, call.op) if code else (like.dtype if like is not None else "float32")
    shape_ = call.dims(like) if like is not None else tuple(call.attr("shape"))
    seed = None if call.attr("seed") is None else int(call.attr("seed"))
    if "Uniform" in call.op:
        low, high = call.attr("low", 0.0), call.attr("high", 1.0)
        return rnd.random_uniform(shape_, low, high, as_dtype(dtype), seed)
    mean, scale = call.attr("mean", 0.0), call.attr("scale", 1.0)
    return rnd.random_normal(shape_, mean, scale, as_dtype(dtype), seed)


# -- optional values: what is there is a tensor


@converter("OptionalHasElement")
def optional_has_element(call: Call) -> Value:
    """True where there is a value."""
    return convert(np.asarray(call.get(0) is not None))


@converter("Optional", "OptionalGetElement")
def optional(call: Call) -> Value:
    """The value itself."""
    return call.x()

"""Tensors from nothing: placeholders, constants, filled tensors, ranges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.frontend.arguments import (
    as_value,
    constant_value,
    is_tensor,
    same_dtype,
    shape_argument,
    static_int,
    static_shape,
)
from graphc.frontend.framework import name_scope
from graphc.ir.dtypes import as_dtype, bool_, float32, float64, int32, int64
from graphc.ir.errors import AttributeValueError, DTypeError, ShapeError
from graphc.ir.graph import Value, convert, get_default_graph
from graphc.ir.graph import constant as _constant
from graphc.ir.literal import as_array
from graphc.ir.table import OPS
from graphc.ir.types import as_shape, format_shape, may_equal


def placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> Value:
    """A tensor that every run is fed. In `shape`, None is a dim that a run fixes."""
    name = name or "Placeholder"
    dims = as_shape(shape, get_default_graph().unique_name(name, mark=False))
    return OPS["placeholder"](dtype=as_dtype(dtype), shape=dims, name=name)


def placeholder_with_default(input: Any, shape: Any, name: str | None = None) -> Value:
    """A tensor that a run may feed; where it does not, it is `input`."""
    default = as_value(input)
    name = name or "PlaceholderWithDefault"
    dims = as_shape(shape, get_default_graph().unique_name(name, mark=False))
    known = default.type.shape
    if dims is None or dims == known:
        return OPS["identity"](default, name=name)
    if known is not None and not (len(known) == len(dims) and all(map(may_equal, known, dims))):
        raise ShapeError(
            f"the default of {name!r} is {default.type}, not of shape {format_shape(dims)}"
        )
    # a reshape to its own shape, known only when compiled: so that a feed may have another
    actual = OPS["shape"](default, dtype=int64)
    return OPS["reshape"](default, actual, shape=dims, name=name)


def constant(
    value: Any,
    dtype: Any = None,
    shape: Any = None,
    name: str | None = None,
    verify_shape: bool = False,
) -> Value:
    """A constant; with `shape` reshaped, or filled up by repeating its last element."""
    name = name or "Const"
    if is_tensor(value):
        raise DTypeError(f"constant() takes numbers and arrays, got the tensor {value!r}")
    if shape is None:
        return _constant(value, dtype, name)
    array = as_array(value, dtype)
    dims = static_shape(shape)
    size = math.prod(dims)
    if verify_shape and array.shape != dims:
        raise ShapeError(f"constant of shape {format_shape(dims)}: got {array.shape}")
    if array.size == 1 and size > 1:
        one = _constant(array.reshape(()), array.dtype)
        return OPS["broadcast_to"](one, shape=dims, name=name)
    if array.size > size or (array.size == 0 and size):
        raise ShapeError(f"{array.size} elements do not fit the shape {format_shape(dims)}")
    flat = array.ravel()
    filled = np.concatenate([flat, np.repeat(flat[-1:], size - flat.size)])
    return _constant(filled.reshape(dims), array.dtype, name)


def fill(dims: Any, value: Any, name: str | None = None) -> Value:
    """The scalar `value` in the shape `dims`."""
    return _filled(as_value(value), dims, name or "Fill")


def _filled(scalar: Value, shape: Any, name: str) -> Value:
    inputs, attrs = shape_argument(shape)
    return OPS["broadcast_to"](scalar, *inputs, **attrs, name=name)


def zeros(shape: Any, dtype: Any = float32, name: str | None = None) -> Value:
    """Zeros (False for bool)."""
    return _filled(_number(0, dtype), shape, name or "zeros")


def ones(shape: Any, dtype: Any = float32, name: str | None = None) -> Value:
    """Ones (True for bool)."""
    return _filled(_number(1, dtype), shape, name or "ones")


def _number(number: int, dtype: Any) -> Value:
    dtype = as_dtype(dtype)
    return convert(bool(number) if dtype is bool_ else number, dtype=dtype)


def zeros_like(
    tensor: Any, dtype: Any = None, name: str | None = None, optimize: bool = True
) -> Value:
    """Zeros in the shape and, unless given, the dtype of `tensor`."""
    del optimize
    return OPS["zeros_like"](tensor, dtype=dtype and as_dtype(dtype), name=name)


def ones_like(
    tensor: Any, dtype: Any = None, name: str | None = None, optimize: bool = True
) -> Value:
    """Ones in the shape and, unless given, the dtype of `tensor`."""
    del optimize
    return OPS["ones_like"](tensor, dtype=dtype and as_dtype(dtype), name=name)


def eye(
    num_rows: Any,
    num_columns: Any = None,
    batch_shape: Any = None,
    dtype: Any = float32,
    name: str | None = None,
) -> Value:
    """The identity matrix, repeated over `batch_shape`."""
    rows = static_int(num_rows, "num_rows")
    columns = rows if num_columns is None else static_int(num_columns, "num_columns")
    batch = static_shape(() if batch_shape is None else batch_shape)
    with name_scope(name, "eye") as scope:
        shape = (*batch, rows, columns)
        i, j = (OPS["iota"](shape=shape, axis=len(shape) - k, dtype=int32) for k in (2, 1))
        return OPS["cast"](OPS["equal"](i, j), dtype=as_dtype(dtype), name=scope)


def range(
    start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None, name: str | None = None
) -> Value:
    """start, start + delta, ... without limit; range(n) is 0, ..., n - 1. Tensors may be given.

    The dtype is that of the tensors given, float32 where a float is among the numbers, else int32.
    """
    if limit is None:
        start, limit = 0, start
    chosen = _range_dtype((start, limit, delta)) if dtype is None else as_dtype(dtype)
    known = [constant_value(x) for x in (start, limit, delta)]
    if all(k is not None for k in known):
        named = zip(("start", "limit", "delta"), known, strict=True)
        attrs = {n: k.item() for n, k in named if k is not None}
        return OPS["range"](dtype=chosen, name=name, **attrs)
    ends = (start, limit, delta)
    inputs = [convert(x) if is_tensor(x) else convert(x, dtype=chosen) for x in ends]
    return OPS["range"](*inputs, dtype=chosen, name=name)


def _range_dtype(ends: Any) -> Any:
    tensors = [convert(x).dtype for x in ends if is_tensor(x)]
    if tensors:
        return tensors[0]
    return float32 if any(np.asarray(x).dtype.kind == "f" for x in ends) else int32


def linspace(start: Any, stop: Any, num: Any, name: str | None = None) -> Value:
    """`num` evenly spaced numbers from start to stop, both included."""
    count = static_int(num, "num")
    if count < 1:
        raise AttributeValueError(f"linspace needs at least one number, got num={count}")
    with name_scope(name, "linspace") as scope:
        first, last = same_dtype([start, stop])
        if not first.dtype.is_floating:
            raise DTypeError(f"linspace is of floats, got {first.dtype}")
        steps = OPS["cast"](OPS["iota"](shape=(count,), dtype=int64), dtype=float64)
        share = OPS["cast"](steps * (1.0 / max(count - 1, 1)), dtype=first.dtype)
        return OPS["add"](first * (1.0 - share), last * share, name=scope)


def convert_to_tensor(
    value: Any,
    dtype: Any = None,
    name: str | None = None,
    preferred_dtype: Any = None,
    dtype_hint: Any = None,
) -> Value:
    """`value` as a tensor: tensors stay, variables are read, arrays become constants."""
    del preferred_dtype, dtype_hint
    return as_value(value, dtype, name)


__all__ = [
    "constant", "convert_to_tensor", "eye", "fill", "linspace", "ones", "ones_like",
    "placeholder", "placeholder_with_default", "range", "zeros", "zeros_like",
]  # fmt: skip

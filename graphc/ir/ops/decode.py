"""Bytes read as numbers: `decode_raw`, for the records that data sets read from files."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import numpy as np

from graphc.ir.dtypes import DType, float32, int16, uint8
from graphc.ir.errors import DTypeError, ShapeError
from graphc.ir.table import (
    REQUIRED,
    STRINGS,
    Attrs,
    Kind,
    NoGradient,
    Op,
    Sample,
    Types,
    register,
)
from graphc.ir.types import UNKNOWN, Dim, TensorType


def _width(dtype: DType) -> int:
    return int(dtype.numpy.itemsize)


def _type(types: Types, attrs: Attrs) -> TensorType:
    (x,), dtype = types, attrs["dtype"]
    if x.dtype.is_string:  # each of the same length, which the run finds
        return TensorType(dtype, None if x.shape is None else (*x.shape, UNKNOWN))
    if x.dtype is not uint8:
        raise DTypeError(f"decode_raw reads bytes, which are strings or uint8; got {x}")
    if x.shape is None:
        return TensorType(dtype, None)
    if not x.shape:
        raise ShapeError("decode_raw reads vectors of bytes, got a scalar")
    return TensorType(dtype, (*x.shape[:-1], _count(x.shape[-1], dtype)))


def _count(count: Dim, dtype: DType) -> Dim:
    if isinstance(count, str):
        return count if _width(dtype) == 1 else UNKNOWN
    if count % _width(dtype):
        raise ShapeError(f"{count} bytes are no whole number of {dtype} ({_width(dtype)} bytes)")
    return count // _width(dtype)


def _decode(attrs: Attrs, x: np.ndarray) -> np.ndarray:
    dtype = attrs["dtype"].numpy
    if x.dtype.kind == "O":
        x = _rows(x)
        _count(x.shape[-1], attrs["dtype"])
    if attrs["little_endian"] == (sys.byteorder == "little") or dtype.itemsize == 1:
        return np.ascontiguousarray(x).view(dtype)
    parts = x.reshape(*x.shape[:-1], -1, dtype.itemsize)[..., ::-1]
    result: np.ndarray = np.ascontiguousarray(parts).view(dtype)[..., 0]
    return result


def _rows(x: np.ndarray) -> np.ndarray:
    """The bytes of strings of one length along a new last dim."""
    lengths = {len(text) for text in x.ravel().tolist()}
    if len(lengths) > 1:
        raise ShapeError(f"decode_raw of strings of different lengths: {sorted(lengths)}")
    whole = np.frombuffer(b"".join(x.ravel().tolist()), np.uint8)
    return whole.reshape(*x.shape, max(lengths, default=0))


def _samples() -> Iterable[Sample]:
    data = np.arange(16, dtype=np.uint8).reshape(2, 8)
    yield Sample((data,), {"dtype": int16})
    yield Sample((data,), {"dtype": int16, "little_endian": False})
    yield Sample((data[0],), {"dtype": uint8})
    yield Sample((np.array([1.5, -2], np.float32).view(np.uint8),), {"dtype": float32})


decode_raw: Op = register(
    Op(
        "decode_raw",
        Kind.OPAQUE,
        _type,
        numpy=_decode,
        attrs={"dtype": REQUIRED, "little_endian": True},
        grad=NoGradient("bytes are no floats", zero=True),
        facts=frozenset({STRINGS}),
        samples=_samples,
        doc="The bytes along the last axis, or of each string, as numbers of a dtype.",
    )
)

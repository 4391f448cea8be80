"""Records read on the host: lines of comma-separated values, and tf.train.Example protos.

An Example is Features { map<string, Feature> feature = 1 }, and a Feature one of three lists
(bytes, float, int64). The few rules of protobuf's wire format that this needs are written out
here: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import csv
import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from graphc.ir.dtypes import DType, as_dtype, float32, int64, string
from graphc.ir.errors import InputError, ShapeError
from graphc.ir.ops.strings import check_strings, host_op, objects, shown, string_to_number
from graphc.ir.table import REQUIRED, Attrs, Op, Types
from graphc.ir.types import UNKNOWN, Dim, TensorType

# -- comma-separated values


def _csv_type(types: Types, attrs: Attrs) -> Types:
    check_strings(*types)
    return tuple(types[0].with_dtype(as_dtype(name)) for name, _ in attrs["columns"])


def _fields(attrs: Attrs, line: bytes) -> list[bytes]:
    if not attrs["quotes"]:
        return line.split(attrs["delimiter"].encode())
    try:  # each byte as the character of its number, for the reader takes text
        rows = list(csv.reader([line.decode("latin-1")], delimiter=attrs["delimiter"], strict=True))
    except csv.Error as error:
        raise InputError(f"the line {shown(line)} is no CSV: {error}") from None
    return [field.encode("latin-1") for field in rows[0]] if rows else [b""]


def _picked(attrs: Attrs, line: bytes) -> list[bytes]:
    fields, wanted = _fields(attrs, line), len(attrs["columns"])
    if attrs["select"] is not None:
        if fields and max(attrs["select"], default=0) >= len(fields):
            raise InputError(f"the line {shown(line)} has {len(fields)} fields only")
        return [fields[i] for i in attrs["select"]]
    if len(fields) != wanted:
        raise InputError(f"the line {shown(line)} has {len(fields)} fields, not {wanted}")
    return fields


def _column(attrs: Attrs, number: int, fields: Sequence[bytes], shape: tuple[int, ...]) -> Any:
    name, default = attrs["columns"][number]
    values = []
    for field in fields:
        if field in (b"", attrs["missing"].encode()):
            if default is None:
                raise InputError(f"field {number} is empty, and the column has no default")
            field = default.encode("latin-1")
        values.append(field)
    texts = objects(values, shape)
    assert string_to_number.numpy is not None
    return texts if name == "string" else string_to_number.numpy({"out_type": name}, texts)


def _csv(attrs: Attrs, lines: np.ndarray) -> tuple[np.ndarray, ...]:
    rows = [_picked(attrs, line) for line in lines.ravel().tolist()]
    return tuple(
        _column(attrs, i, [row[i] for row in rows], lines.shape)
        for i in range(len(attrs["columns"]))
    )


decode_csv: Op = host_op(
    "decode_csv", _csv_type, _csv,
    {"columns": REQUIRED, "delimiter": ",", "quotes": True, "missing": "", "select": None},
    doc="""The fields of lines, one tensor per column.

    columns: (dtype, what stands for an empty field, as text; None: it may not be empty).""",
)  # fmt: skip

# -- protobuf's wire format

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def _varint(data: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise InputError("the proto is truncated or damaged: a number does not end")
        byte = data[at]
        result |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return result & 0xFFFFFFFFFFFFFFFF, at


def _entries(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """(field number, wire type, value: a number or bytes)."""
    at = 0
    value: Any
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
        elif kind in (_BYTES, _FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
            if kind == _BYTES:
                size, at = _varint(data, at)
            if at + size > len(data):
                raise InputError(f"the proto is truncated: {size} bytes of {len(data) - at}")
            value, at = data[at : at + size], at + size
        else:
            raise InputError(f"the bytes are no proto: there is no wire type {kind}")
        yield key >> 3, kind, value


def _parts(data: bytes, number: int) -> list[bytes]:
    """The messages and byte strings of a field."""
    return [value for n, kind, value in _entries(data) if n == number and kind == _BYTES]


def _floats(data: bytes) -> list[float]:
    packed = b"".join(v for n, k, v in _entries(data) if n == 1 and k in (_BYTES, _FIXED32))
    if len(packed) % 4:
        raise InputError(f"{len(packed)} bytes are no whole number of float32")
    return list(struct.unpack(f"<{len(packed) // 4}f", packed))


def _integers(data: bytes) -> list[int]:
    found = []
    for number, kind, value in _entries(data):
        if number == 1 and kind == _VARINT:
            found.append(value)
        elif number == 1 and kind == _BYTES:
            at = 0
            while at < len(value):
                one, at = _varint(value, at)
                found.append(one)
    return [v - (1 << 64) if v >> 63 else v for v in found]


_LISTS: Final[dict[int, tuple[DType, Any]]] = {
    1: (string, lambda data: _parts(data, 1)), 2: (float32, _floats), 3: (int64, _integers),
}  # fmt: skip


def _feature(data: bytes) -> tuple[DType | None, list[Any]]:
    """The dtype and values of a Feature; None where it holds no list."""
    result: tuple[DType | None, list[Any]] = None, []
    for number, kind, value in _entries(data):
        if kind == _BYTES and number in _LISTS:
            dtype, read = _LISTS[number]
            result = dtype, read(value)
    return result


def read_example(data: bytes, wanted: frozenset[bytes] | None = None) -> dict[str, Any]:
    """name -> (dtype, values) of a serialized Example; InputError where it is damaged."""
    result = {}
    for features in _parts(data, 1):
        for entry in _parts(features, 1):
            name, value = b"", b""
            for number, kind, part in _entries(entry):
                if kind == _BYTES:
                    name, value = (part, value) if number == 1 else (name, part)
            if wanted is None or name in wanted:
                result[name.decode("utf-8", "replace")] = _feature(value)
    return result


# -- examples


class Feature(NamedTuple):
    """What is wanted of one feature.

    kind "fixed": exactly the shape; "sequence": any number of it; "sparse": any number of values.
    """

    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    default: tuple[Any, ...] | None  # strings as text of latin-1


def _features(attrs: Attrs) -> list[Feature]:
    return [Feature(*entry) for entry in attrs["features"]]


def _example_type(types: Types, attrs: Attrs) -> Types:
    check_strings(*types)
    shape = types[0].shape
    if shape is not None and len(shape) > 1:
        raise ShapeError(f"examples are parsed one by one or as a vector, got {types[0]}")
    return tuple(t for f in _features(attrs) for t in _feature_types(f, shape))


def _feature_types(feature: Feature, batch: tuple[Dim, ...] | None) -> Types:
    dtype = as_dtype(feature.dtype)
    if feature.kind == "sparse":
        rank: Dim = UNKNOWN if batch is None else len(batch) + 1
        return (
            TensorType(int64, (UNKNOWN, rank)), TensorType(dtype, (UNKNOWN,)),
            TensorType(int64, (rank,)),
        )  # fmt: skip
    if batch is None:
        return (TensorType(dtype, None),)
    count = (UNKNOWN,) if feature.kind == "sequence" else ()
    return (TensorType(dtype, (*batch, *count, *feature.shape)),)


def _examples(attrs: Attrs, serialized: np.ndarray) -> tuple[np.ndarray, ...]:
    features = _features(attrs)
    names = frozenset(f.name.encode() for f in features)
    examples = [read_example(data, names) for data in serialized.ravel().tolist()]
    results: list[np.ndarray] = []
    for feature in features:
        rows = [_values(feature, example) for example in examples]
        if feature.kind == "sparse":
            results += _sparse(feature, rows, serialized.ndim)
        else:
            results.append(_dense(feature, rows, serialized.shape))
    return tuple(results)


def _values(feature: Feature, example: dict[str, Any]) -> list[Any]:
    dtype, values = example.get(feature.name, (None, []))
    if dtype is not None and dtype is not as_dtype(feature.dtype):
        raise InputError(f"the feature {feature.name!r} is of {dtype}, not of {feature.dtype}")
    if dtype is None and feature.kind == "fixed":
        if feature.default is None:
            raise InputError(f"the example lacks feature {feature.name!r}, which has no default")
        return _default(feature)
    size = math.prod(feature.shape)
    fits = len(values) == size if feature.kind == "fixed" else not size or len(values) % size == 0
    if feature.kind != "sparse" and not fits:
        raise InputError(
            f"the feature {feature.name!r} has {len(values)} values, not those of the shape "
            f"{list(feature.shape)}"
        )
    return list(values)


def _default(feature: Feature) -> list[Any]:
    given = feature.default or ()
    values = given * math.prod(feature.shape) if len(given) == 1 else given
    return [v.encode("latin-1") if isinstance(v, str) else v for v in values]


def _array(values: Sequence[Any], dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
    if dtype.is_string:
        return objects(values, shape)
    return np.array(values, dtype.numpy).reshape(shape)


def _dense(feature: Feature, rows: list[list[Any]], batch: tuple[int, ...]) -> np.ndarray:
    dtype, size = as_dtype(feature.dtype), max(math.prod(feature.shape), 1)
    if feature.kind == "fixed":
        return _array([v for row in rows for v in row], dtype, (*batch, *feature.shape))
    longest = max((len(row) for row in rows), default=0)
    fill = _default(Feature(*feature[:3], (), feature.default))[:1] or [_zero(dtype)]
    full = [v for row in rows for v in (*row, *fill * (longest - len(row)))]
    return _array(full, dtype, (*batch, longest // size, *feature.shape))


def _zero(dtype: DType) -> Any:
    return b"" if dtype.is_string else 0


def _sparse(feature: Feature, rows: list[list[Any]], rank: int) -> list[np.ndarray]:
    dtype = as_dtype(feature.dtype)
    at = [(i, j)[1 - rank :] for i, row in enumerate(rows) for j in range(len(row))]
    longest = max((len(row) for row in rows), default=0)
    values = [v for row in rows for v in row]
    return [
        np.array(at, np.int64).reshape(len(values), rank + 1),
        _array(values, dtype, (len(values),)),
        np.array([len(rows), longest][1 - rank :], np.int64),
    ]


parse_example: Op = host_op(
    "parse_example", _example_type, _examples, {"features": REQUIRED},
    doc="""The features of serialized Examples: one tensor each; a sparse one gives three.

    Of a vector of Examples, sequences are padded at their ends.""",
)  # fmt: skip

__all__ = ["Feature", "decode_csv", "parse_example", "read_example"]

"""Strings: bytes of any length in object arrays, computed on the host (see graphc.passes.hosting).

    text        one function of each element: length, case, stripping, patterns, numbers
    joining     string_join, reduce_join, string_format
    splitting   string_split, substr

`host_op` is the family of all ops that Python computes while a run goes on.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from graphc.ir.dtypes import DType, as_dtype, float32, int32, int64, string
from graphc.ir.errors import AttributeValueError, DTypeError, InputError, ShapeError
from graphc.ir.table import (
    EFFECT,
    REQUIRED,
    Attrs,
    Kind,
    NoGradient,
    Op,
    TypeRule,
    Types,
    register,
)
from graphc.ir.types import (
    UNKNOWN,
    Shape,
    TensorType,
    broadcast_shapes,
    merge_shapes,
    normalize_axes,
)


def host_op(
    name: str,
    type_rule: TypeRule,
    numpy: Callable[..., Any],
    attrs: Attrs | None = None,
    effect: bool = False,
    doc: str = "",
) -> Op:
    """Enter an op that Python computes; `effect`: it must run when reached, read or not."""
    return register(
        Op(
            name,
            Kind.HOST,
            type_rule,
            numpy=numpy,
            attrs=attrs or {},
            grad=NoGradient("it is computed in Python", zero=True),
            facts=frozenset({EFFECT} if effect else ()),
            doc=doc,
        )
    )


def check_strings(*types: TensorType) -> None:
    """DTypeError unless all are of strings."""
    for t in types:
        if not t.dtype.is_string:
            raise DTypeError(f"needs strings, got {t}; as_string() makes them of numbers")


def objects(items: Iterable[Any], shape: tuple[int, ...]) -> np.ndarray:
    """An array of bytes objects."""
    listed = list(items)
    result = np.empty(len(listed), dtype=object)
    result[:] = listed
    return result.reshape(shape)


def scalar(x: np.ndarray) -> bytes:
    """The one string that an array without dims holds."""
    text = x.item()
    assert isinstance(text, bytes), "tensors of strings hold bytes"
    return text


def shown(text: bytes) -> str:
    """A string for messages."""
    return repr(text if len(text) <= 40 else text[:37] + b"...")


# -- one function of each element


def text(
    name: str,
    function: Callable[[Attrs], Callable[[bytes], Any]],
    result: DType | None = string,
    attrs: Attrs | None = None,
    doc: str = "",
) -> Op:
    """Enter an op that maps `function(attrs)` over strings; result None: the attribute out_type."""

    def out(attrs: Attrs) -> DType:
        return as_dtype(attrs["out_type"]) if result is None else result

    def type_rule(types: Types, attrs: Attrs) -> TensorType:
        check_strings(*types)
        return TensorType(out(attrs), types[0].shape)

    def numpy(attrs: Attrs, x: np.ndarray) -> np.ndarray:
        values = map(function(attrs), x.ravel().tolist())
        if out(attrs).is_string:
            return objects(values, x.shape)
        return np.array(list(values), out(attrs).numpy).reshape(x.shape)

    return host_op(name, type_rule, numpy, attrs, doc=doc)


def decoded(x: bytes) -> str:
    """As UTF-8; what is none becomes the replacement character."""
    return x.decode("utf-8", "replace")


def _unit(attrs: Attrs) -> bool:
    if attrs["unit"] not in ("BYTE", "UTF8_CHAR"):
        raise AttributeValueError(f"unit is 'BYTE' or 'UTF8_CHAR', got {attrs['unit']!r}")
    return bool(attrs["unit"] == "UTF8_CHAR")


def _length(attrs: Attrs) -> Callable[[bytes], int]:
    return (lambda x: len(decoded(x))) if _unit(attrs) else len


def _cased(change: str) -> Callable[[Attrs], Callable[[bytes], bytes]]:
    def function(attrs: Attrs) -> Callable[[bytes], bytes]:
        if attrs["encoding"] not in ("", "utf-8"):
            raise AttributeValueError(f"encoding is '' or 'utf-8', got {attrs['encoding']!r}")
        if not attrs["encoding"]:  # only the letters of ASCII
            return lambda x: bytes(getattr(x, change)())
        return lambda x: str(getattr(decoded(x), change)()).encode()

    return function


string_length: Op = text("string_length", _length, int32, {"unit": "BYTE"}, "Bytes or characters.")
string_lower: Op = text("string_lower", _cased("lower"), attrs={"encoding": ""})
string_upper: Op = text("string_upper", _cased("upper"), attrs={"encoding": ""})
string_strip: Op = text("string_strip", lambda attrs: bytes.strip, doc="Without outer spaces.")


def pattern_of(given: str) -> re.Pattern[bytes]:
    """The pattern, in RE2's syntax as far as Python's is the same."""
    try:
        return re.compile(given.encode())
    except re.error as error:
        raise AttributeValueError(f"{given!r} is no regular expression: {error}") from None


def _rewriting(rewrite: str) -> Callable[[re.Match[bytes]], bytes]:
    """RE2's rewriting: \\0 is the match, \\1 to \\9 are its groups, \\\\ is a backslash."""
    parts = re.split(rb"\\([0-9\\])", rewrite.encode())

    def function(match: re.Match[bytes]) -> bytes:
        pieces = list(parts)
        for i in range(1, len(parts), 2):
            pieces[i] = b"\\" if parts[i] == b"\\" else match[int(parts[i])] or b""
        return b"".join(pieces)

    return function


def _replace(attrs: Attrs) -> Callable[[bytes], bytes]:
    pattern, rewrite = pattern_of(attrs["pattern"]), _rewriting(attrs["rewrite"])
    most = max(map(int, re.findall(r"(?<!\\)\\([0-9])", attrs["rewrite"])), default=0)
    if most > pattern.groups:
        raise AttributeValueError(
            f"the rewrite {attrs['rewrite']!r} names group {most} of {pattern.groups}"
        )
    return lambda x: pattern.sub(rewrite, x, 0 if attrs["replace_global"] else 1)


def _matches(attrs: Attrs) -> Callable[[bytes], bool]:
    pattern = pattern_of(attrs["pattern"])
    return lambda x: pattern.fullmatch(x) is not None


regex_replace: Op = text(
    "regex_replace", _replace,
    attrs={"pattern": REQUIRED, "rewrite": REQUIRED, "replace_global": True},
)  # fmt: skip
regex_full_match: Op = text(
    "regex_full_match", _matches, as_dtype("bool"), {"pattern": REQUIRED},
    "Whether the whole string matches.",
)  # fmt: skip


def _number(attrs: Attrs) -> Callable[[bytes], Any]:
    dtype = as_dtype(attrs["out_type"])
    kind: Any = int if dtype.is_integer else float

    def function(x: bytes) -> Any:
        try:
            if b"_" in x:  # Python's own spelling
                raise ValueError
            value = kind(x)
        except ValueError:
            raise InputError(f"{shown(x)} is no {dtype}") from None
        if dtype.is_integer and not dtype.min <= value <= dtype.max:
            raise InputError(f"{shown(x)} is outside {dtype}")
        return value

    return function


string_to_number: Op = text("string_to_number", _number, None, {"out_type": float32})


def _encode64(attrs: Attrs) -> Callable[[bytes], bytes]:
    def function(x: bytes) -> bytes:
        result = base64.urlsafe_b64encode(x)
        return result if attrs["pad"] else result.rstrip(b"=")

    return function


def _decode64(_: Attrs) -> Callable[[bytes], bytes]:
    def function(x: bytes) -> bytes:
        bare = x.rstrip(b"=")
        try:
            padded = bare.translate(bytes.maketrans(b"-_", b"+/")) + b"=" * (-len(bare) % 4)
            if b"+" in bare or b"/" in bare:
                raise ValueError("+ and / are - and _ in web-safe base64")
            return base64.b64decode(padded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InputError(f"{shown(x)} is no web-safe base64: {error}") from None

    return function


encode_base64: Op = text("encode_base64", _encode64, attrs={"pad": False}, doc="Web-safe base64.")
decode_base64: Op = text("decode_base64", _decode64, doc="Web-safe base64, padded or not.")

# -- numbers as strings


def _as_string_type(types: Types, _: Attrs) -> TensorType:
    return types[0].with_dtype(string)


def _spelling(attrs: Attrs, dtype: DType) -> Callable[[Any], str]:
    width, fill, precision = attrs["width"], attrs["fill"], attrs["precision"]
    flags = fill
    if flags not in ("", " ", "0", "-", "+"):
        raise AttributeValueError(f"fill is '', ' ', '0', '-' or '+', got {fill!r}")
    size = str(width) if width >= 0 else ""
    if dtype.is_integer:
        return lambda x: f"%{flags}{size}d" % x
    if dtype.is_bool:
        return lambda x: f"%{flags}{size}s" % ("true" if x else "false")
    if dtype.is_floating:
        kind = "e" if attrs["scientific"] else "g" if attrs["shortest"] else "f"
        digits = f".{precision}" if precision >= 0 else ""
        return lambda x: f"%{flags}{size}{digits}{kind}" % x
    return lambda x: x.decode("latin-1") if width < 0 else x.decode("latin-1").rjust(width)


def _as_string(attrs: Attrs, x: np.ndarray) -> np.ndarray:
    dtype = as_dtype(x.dtype)
    spell = _spelling(attrs, dtype)
    values = x.astype(np.float64) if dtype.bits == 16 and dtype.is_floating else x
    return objects((spell(v).encode("latin-1") for v in values.ravel().tolist()), x.shape)


as_string: Op = host_op(
    "as_string", _as_string_type, _as_string,
    {"precision": -1, "scientific": False, "shortest": False, "width": -1, "fill": ""},
    doc="Numbers and bools as C's printf spells them.",
)  # fmt: skip

# -- parts


def _substr_type(types: Types, attrs: Attrs) -> TensorType:
    check_strings(types[0])
    if any(not t.dtype.is_integer for t in types[1:]):
        raise DTypeError(f"substr takes integers as position and length, got {types[1:]}")
    _unit(attrs)
    return TensorType(string, broadcast_shapes([t.shape for t in types]))


def _substr(attrs: Attrs, x: np.ndarray, pos: np.ndarray, length: np.ndarray) -> np.ndarray:
    texts, starts, sizes = np.broadcast_arrays(x, pos, length)
    rows = zip(texts.ravel().tolist(), starts.ravel().tolist(), sizes.ravel().tolist(), strict=True)
    return objects((_part(_unit(attrs), *row) for row in rows), texts.shape)


def _part(characters: bool, x: bytes, start: int, size: int) -> bytes:
    whole: Any = decoded(x) if characters else x
    if not -len(whole) <= start <= len(whole):
        raise InputError(f"position {start} is outside {shown(x)} of length {len(whole)}")
    start = start + len(whole) if start < 0 else start
    part = whole[start : start + max(size, 0)]
    return part.encode() if characters else bytes(part)


substr: Op = host_op("substr", _substr_type, _substr, {"unit": "BYTE"}, doc="Parts of strings.")


def _split_type(types: Types, _: Attrs) -> Types:
    check_strings(*types)
    if types[0].rank not in (1, None) or types[1].rank not in (0, None):
        raise ShapeError(f"a vector is split by a scalar, got {types[0]} and {types[1]}")
    return (
        TensorType(int64, (UNKNOWN, 2)),
        TensorType(string, (UNKNOWN,)),
        TensorType(int64, (2,)),
    )


def pieces(x: bytes, delimiter: bytes, mode: str) -> list[bytes]:
    """mode "any": each byte of the delimiter splits (all: characters); "whole": it splits itself.

    An empty delimiter that splits itself stands for runs of spaces.
    """
    if mode == "whole":
        return x.split(delimiter) if delimiter else x.split()
    if not delimiter:
        return [x[i : i + 1] for i in range(len(x))]
    return re.split(b"[" + re.escape(delimiter) + b"]", x)


def _split(attrs: Attrs, x: np.ndarray, delimiter: np.ndarray) -> tuple[np.ndarray, ...]:
    rows = [pieces(text, scalar(delimiter), attrs["mode"]) for text in x.tolist()]
    if attrs["skip_empty"]:
        rows = [[p for p in row if p] for row in rows]
    indices = [(i, j) for i, row in enumerate(rows) for j in range(len(row))]
    values = [p for row in rows for p in row]
    return (
        np.array(indices, np.int64).reshape(-1, 2),
        objects(values, (len(values),)),
        np.array([len(rows), max(map(len, rows), default=0)], np.int64),
    )


string_split: Op = host_op(
    "string_split", _split_type, _split, {"skip_empty": True, "mode": "any"},
    doc="The pieces of a vector's strings: indices, values and shape of a sparse matrix.",
)  # fmt: skip


def _dense_type(types: Types, attrs: Attrs) -> TensorType:
    _, values, shape, default = types
    check_strings(values, default)
    known = shape.shape[0] if shape.shape else None
    rank = known if isinstance(known, int) else None
    return TensorType(string, None if rank is None else (UNKNOWN,) * rank)


def _dense(
    _: Attrs, indices: np.ndarray, values: np.ndarray, shape: np.ndarray, default: np.ndarray
) -> np.ndarray:
    result = np.full(tuple(shape.tolist()), default[()], dtype=object)
    at = indices.reshape(-1, result.ndim)
    if at.size and ((at < 0) | (at >= shape)).any():
        raise InputError(f"an index is outside the shape {shape.tolist()}")
    result[tuple(at.T)] = values
    return result


dense_strings: Op = host_op(
    "dense_strings", _dense_type, _dense,
    doc="The dense tensor of sparse strings: (indices, values, shape, what fills the rest).",
)  # fmt: skip

# -- joined


def _join_type(types: Types, _: Attrs) -> TensorType:
    check_strings(*types)
    if not types:
        raise AttributeValueError("string_join takes one input or more")
    shape: Shape | None = ()
    for t in types:
        if t.shape != ():
            known = None if shape == () else shape
            shape = merge_shapes(known, t.shape, "string_join takes scalars and one other shape")
    return TensorType(string, shape)


def _join(attrs: Attrs, *parts: np.ndarray) -> np.ndarray:
    if len({p.shape for p in parts} - {()}) > 1:
        raise ShapeError(f"string_join of the shapes {[p.shape for p in parts]}")
    full = np.broadcast_arrays(*parts)
    separator = attrs["separator"].encode()
    rows = zip(*(p.ravel().tolist() for p in full), strict=True)
    return objects((separator.join(row) for row in rows), full[0].shape)


string_join: Op = host_op(
    "string_join", _join_type, _join, {"separator": ""}, doc="One string of those side by side."
)


def _reduce_type(types: Types, attrs: Attrs) -> TensorType:
    check_strings(*types)
    shape = types[0].shape
    if shape is None:
        return types[0]
    axes = normalize_axes(attrs["axis"], len(shape))
    if attrs["keepdims"]:
        return types[0].with_shape(tuple(1 if i in axes else d for i, d in enumerate(shape)))
    return types[0].with_shape(tuple(d for i, d in enumerate(shape) if i not in axes))


def _reduce(attrs: Attrs, x: np.ndarray) -> np.ndarray:
    given = range(x.ndim) if attrs["axis"] is None else attrs["axis"]
    axes = [int(a) % x.ndim for a in given]  # the order counts: the last given varies fastest
    rest = [i for i in range(x.ndim) if i not in axes]
    kept = tuple(x.shape[i] for i in rest)
    count = int(np.prod([x.shape[i] for i in axes], dtype=np.int64))
    rows = x.transpose([*rest, *axes]).reshape(int(np.prod(kept, dtype=np.int64)), count)
    joined = [attrs["separator"].encode().join(row) for row in rows.tolist()]
    if attrs["keepdims"]:
        kept = tuple(1 if i in axes else d for i, d in enumerate(x.shape))
    return objects(joined, kept)


reduce_join: Op = host_op(
    "reduce_join", _reduce_type, _reduce, {"axis": None, "keepdims": False, "separator": ""},
    doc="The strings along axes joined.",
)  # fmt: skip


def summary(x: np.ndarray, most: int) -> str:
    """An array as TensorFlow prints it: the first and last `most` of each dim; -1: all."""
    if x.ndim == 0:
        return _spelled(x[()], quoted=False)
    return _listed(x, most)


def _listed(x: np.ndarray, most: int) -> str:
    if x.ndim == 0:
        return _spelled(x[()], quoted=True)
    rows: list[np.ndarray] = [x[i : i + 1].reshape(x.shape[1:]) for i in range(len(x))]
    texts = [_listed(row, most) for row in rows]
    if 0 <= 2 * most < len(texts):
        texts = [*texts[:most], "...", *texts[len(texts) - most :]]
    return f"[{' '.join(texts)}]"


def _spelled(value: Any, quoted: bool) -> str:
    if isinstance(value, bytes):
        return f'"{decoded(value)}"' if quoted else decoded(value)
    if isinstance(value, np.floating):
        return np.format_float_positional(value, trim="-")
    return str(value)


def _format_type(types: Types, attrs: Attrs) -> TensorType:
    holes = attrs["template"].count(attrs["placeholder"])
    if holes != len(types):
        raise AttributeValueError(f"the template has {holes} placeholders for {len(types)} tensors")
    return TensorType(string, ())


def _format(attrs: Attrs, *inputs: np.ndarray) -> np.ndarray:
    first, *rest = attrs["template"].split(attrs["placeholder"])
    texts = [summary(x, attrs["summarize"]) + part for x, part in zip(inputs, rest, strict=True)]
    return objects([(first + "".join(texts)).encode()], ())


string_format: Op = host_op(
    "string_format", _format_type, _format,
    {"template": REQUIRED, "placeholder": "{}", "summarize": 3},
    doc="The template with a tensor's elements in the place of each placeholder.",
)  # fmt: skip

__all__ = [
    "as_string", "check_strings", "decode_base64", "decoded", "dense_strings", "encode_base64",
    "host_op", "objects", "pattern_of", "pieces", "reduce_join", "regex_full_match",
    "regex_replace", "scalar", "shown", "string_format", "string_join", "string_length",
    "string_lower", "string_split", "string_strip", "string_to_number", "string_upper", "substr",
    "summary", "text",
]  # fmt: skip

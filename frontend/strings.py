"""`strings`: ops on tensors of strings, which the host computes between compiled parts of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.frontend.arguments import (
    as_sequence,
    as_value,
    axes_argument,
    constant_value,
    either,
    is_tensor,
)
from graphc.frontend.sparse import SparseTensor
from graphc.ir.dtypes import as_dtype, float32
from graphc.ir.errors import AttributeValueError, DTypeError, UnsupportedOp
from graphc.ir.graph import Value
from graphc.ir.ops.strings import pattern_of
from graphc.ir.table import OPS


def _text(given: Any, what: str) -> str:
    """A string that must be known while the graph is built."""
    known = constant_value(given) if is_tensor(given) else given
    item = known.item() if isinstance(known, np.ndarray) and known.ndim == 0 else known
    if isinstance(item, bytes):
        return item.decode()
    if not isinstance(item, str):
        raise AttributeValueError(f"{what} must be a string known while building, got {given!r}")
    return item


def _strings(given: Any) -> Value:
    value = as_value(given)
    if not value.dtype.is_string:
        raise DTypeError(f"needs strings, got {value!r}; as_string() makes them of numbers")
    return value


def length(input: Any, name: str | None = None, unit: str = "BYTE") -> Value:
    """The number of bytes, or of characters of UTF-8 (unit "UTF8_CHAR"), as int32."""
    return OPS["string_length"](_strings(input), unit=unit, name=name or "StringLength")


def lower(input: Any, encoding: str = "", name: str | None = None) -> Value:
    """In small letters: those of ASCII, or of UTF-8 with encoding "utf-8"."""
    return OPS["string_lower"](_strings(input), encoding=encoding, name=name or "StringLower")


def upper(input: Any, encoding: str = "", name: str | None = None) -> Value:
    """In capitals: those of ASCII, or of UTF-8 with encoding "utf-8"."""
    return OPS["string_upper"](_strings(input), encoding=encoding, name=name or "StringUpper")


def strip(input: Any, name: str | None = None) -> Value:
    """Without the spaces at both ends."""
    return OPS["string_strip"](_strings(input), name=name or "StringStrip")


def regex_replace(
    input: Any, pattern: Any, rewrite: Any, replace_global: bool = True, name: str | None = None
) -> Value:
    """Each match (or the first) of the pattern replaced; \\1 in `rewrite` is the first group."""
    attrs = {"pattern": _text(pattern, "pattern"), "rewrite": _text(rewrite, "rewrite")}
    pattern_of(attrs["pattern"])
    return OPS["regex_replace"](
        _strings(input), **attrs, replace_global=replace_global, name=name or "RegexReplace"
    )


def regex_full_match(input: Any, pattern: Any, name: str | None = None) -> Value:
    """Whether the pattern matches the whole string, as bool."""
    text = _text(pattern, "pattern")
    pattern_of(text)
    return OPS["regex_full_match"](_strings(input), pattern=text, name=name or "RegexFullMatch")


def string_to_number(
    string_tensor: Any = None,
    out_type: Any = float32,
    name: str | None = None,
    input: Any = None,
) -> Value:
    """The numbers that the strings spell; InputError in a run where one spells none."""
    given = either("string_tensor", string_tensor, "input", input)
    dtype = as_dtype(out_type)
    if dtype.name not in ("float32", "float64", "int32", "int64"):
        raise DTypeError(f"strings are read as float32, float64, int32 or int64, not {dtype}")
    return OPS["string_to_number"](_strings(given), out_type=dtype, name=name or "StringToNumber")


to_number = string_to_number


def as_string(
    input: Any,
    precision: int = -1,
    scientific: bool = False,
    shortest: bool = False,
    width: int = -1,
    fill: str = "",
    name: str | None = None,
) -> Value:
    """Numbers and bools as strings, as C's printf spells them."""
    if scientific and shortest:
        raise AttributeValueError("as_string: scientific or shortest, not both")
    return OPS["as_string"](
        as_value(input), precision=precision, scientific=scientific, shortest=shortest,
        width=width, fill=fill, name=name or "AsString",
    )  # fmt: skip


def substr(input: Any, pos: Any, len: Any, name: str | None = None, unit: str = "BYTE") -> Value:
    """`len` bytes or characters from position `pos` on; negative ones count from the end."""
    return OPS["substr"](
        _strings(input), as_value(pos), as_value(len), unit=unit, name=name or "Substr"
    )


def string_join(inputs: Sequence[Any], separator: str = "", name: str | None = None) -> Value:
    """The strings of tensors of one shape (or scalars) joined elementwise."""
    values = [_strings(x) for x in inputs]
    return OPS["string_join"](
        *values, separator=_text(separator, "separator"), name=name or "StringJoin"
    )


join = string_join


def reduce_join(
    inputs: Any,
    axis: Any = None,
    keep_dims: bool | None = None,
    separator: str = "",
    name: str | None = None,
    reduction_indices: Any = None,
    keepdims: bool | None = None,
) -> Value:
    """The strings along axes (None: all) joined."""
    axes = either("axis", axis, "reduction_indices", reduction_indices)
    keep = either("keep_dims", keep_dims, "keepdims", keepdims, False)
    return OPS["reduce_join"](
        _strings(inputs), axis=axes_argument(axes), keepdims=keep, separator=separator,
        name=name or "ReduceJoin",
    )  # fmt: skip


def string_split(
    source: Any = None,
    sep: Any = None,
    skip_empty: bool = True,
    delimiter: Any = None,
    result_type: str = "SparseTensor",
    name: str | None = None,
) -> SparseTensor:
    """The pieces of a vector's strings; each character of the separator (a space) splits.

    A sparse tensor: its `values` are all pieces, and sparse_tensor_to_dense pads the rows.
    """
    _check_sparse(result_type)
    given = either("delimiter", delimiter, "sep", sep, " ")
    made = OPS["string_split"].outputs(
        _strings(source), _strings(given), skip_empty=skip_empty, name=name or "StringSplit"
    )
    return SparseTensor(*made)


def split(
    input: Any = None,
    sep: Any = None,
    maxsplit: int = -1,
    result_type: str = "SparseTensor",
    source: Any = None,
    name: str | None = None,
) -> SparseTensor:
    """The pieces of a vector's strings between separators (None: runs of spaces), sparse."""
    _check_sparse(result_type)
    if maxsplit != -1:
        raise UnsupportedOp("split(maxsplit) is not offered; use regex_replace and string_split")
    given = _strings(either("input", input, "source", source))
    made = OPS["string_split"].outputs(
        given, _strings("" if sep is None else sep), skip_empty=False, mode="whole",
        name=name or "StringSplitV2",
    )  # fmt: skip
    return SparseTensor(*made)


def _check_sparse(result_type: str) -> None:
    if result_type != "SparseTensor":
        raise UnsupportedOp(
            f"a result of type {result_type} is not offered; take the SparseTensor, and "
            "sparse_tensor_to_dense(it, '') for a padded one"
        )


def bytes_split(input: Any, name: str | None = None) -> Value:
    """Refused: the pieces would be a ragged tensor."""
    raise UnsupportedOp("bytes_split gives a ragged tensor; use decode_raw(x, tf.uint8)")


def format(
    template: str,
    inputs: Any,
    placeholder: str = "{}",
    summarize: int = 3,
    name: str | None = None,
) -> Value:
    """The template with what the tensors hold in the place of its placeholders."""
    values = [as_value(x) for x in as_sequence(inputs)]
    return OPS["string_format"](
        *values, template=template, placeholder=placeholder, summarize=summarize,
        name=name or "StringFormat",
    )  # fmt: skip


def encode_base64(input: Any, pad: bool = False, name: str | None = None) -> Value:
    """In web-safe base64 (- and _)."""
    return OPS["encode_base64"](_strings(input), pad=pad, name=name or "EncodeBase64")


def decode_base64(input: Any, name: str | None = None) -> Value:
    """From web-safe base64, padded or not."""
    return OPS["decode_base64"](_strings(input), name=name or "DecodeBase64")


__all__ = [
    "as_string", "bytes_split", "decode_base64", "encode_base64", "format", "join", "length",
    "lower", "reduce_join", "regex_full_match", "regex_replace", "split",
    "string_join", "string_split", "string_to_number", "strip",
    "substr", "to_number", "upper",
]  # fmt: skip

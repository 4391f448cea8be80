"""Strings, words and files of images: what the host computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from graphc.frontend import strings
from graphc.frontend.onnx.registry import Call, converter
from graphc.ir.dtypes import as_dtype
from graphc.ir.graph import Value
from graphc.ir.literal import as_array
from graphc.ir.table import OPS


@converter("StringConcat")
def string_concat(call: Call) -> Value:
    """Both joined, with NumPy's broadcasting."""
    a, b = call.given()
    if a.type.shape == b.type.shape or () in (a.type.shape, b.type.shape):
        return OPS["string_join"](a, b)
    shape = tuple(max(pair) for pair in _aligned(call.dims(a), call.dims(b)))
    return OPS["string_join"](*(OPS["broadcast_to"](v, shape=shape) for v in (a, b)))


def _aligned(a: Sequence[int], b: Sequence[int]) -> list[tuple[int, int]]:
    rank = max(len(a), len(b))
    full = [[1] * (rank - len(s)) + list(s) for s in (a, b)]
    return list(zip(*full, strict=True))


@converter("StringSplit")
def string_split(call: Call) -> Sequence[Value]:
    """The pieces, padded by empty ones, and how many there are."""
    return OPS["split_padded"].outputs(
        call.x(), delimiter=call.attr("delimiter", ""), maxsplit=call.attr("maxsplit")
    )


@converter("RegexFullMatch")
def regex_full_match(call: Call) -> Value:
    """Whether the pattern matches the whole string."""
    return strings.regex_full_match(call.x(), call.attr("pattern", ""))


@converter("StringNormalizer")
def string_normalizer(call: Call) -> Value:
    """Without stop words, in small letters or capitals."""
    return OPS["normalize_words"](
        call.x(), change=call.attr("case_change_action", "NONE"),
        sensitive=bool(call.attr("is_case_sensitive", 0)),
        stopwords=tuple(call.attr("stopwords", ())),
    )  # fmt: skip


@converter("TfIdfVectorizer")
def tf_idf(call: Call) -> Value:
    """Counts or weights of the n-grams of a pool."""
    pool = call.attr("pool_int64s") or call.attr("pool_strings") or ()
    return OPS["count_grams"](
        call.x(), pool=tuple(pool), starts=tuple(call.attr("ngram_counts")),
        places=tuple(call.attr("ngram_indexes")), shortest=call.attr("min_gram_length"),
        longest=call.attr("max_gram_length"), skips=call.attr("max_skip_count"),
        mode=call.attr("mode"), weights=tuple(call.attr("weights", ())),
    )  # fmt: skip


@converter("ImageDecoder")
def image_decoder(call: Call) -> Value:
    """The pixels of an image's file, whose bytes are a vector."""
    order = call.attr("pixel_format", "RGB")
    if order not in ("RGB", "BGR", "Grayscale"):
        raise call.refused(f"pixel_format {order!r} is not known")
    data = OPS["string_of_bytes"](call.x())
    pixels = OPS["decode_image"](data, channels=1 if order == "Grayscale" else 3)
    return pixels[:, :, ::-1] if order == "BGR" else pixels


@converter("ai.onnx.ml.LabelEncoder")
def label_encoder(call: Call) -> Value:
    """The value of each key, the default for others."""
    keys, values = _side(call, "keys"), _side(call, "values")
    if keys is None or values is None:
        raise call.refused("keys and values are needed")
    given = _side(call, "default")
    rest = _DEFAULTS[values.dtype.kind] if given is None else given
    default = as_array(rest, as_dtype(values.dtype)).ravel()[:1]
    return OPS["lookup"](
        call.x(), keys=_listed(keys), values=_listed(values), default=_listed(default)[0],
        dtype=as_dtype(values.dtype),
    )  # fmt: skip


# of LabelEncoder, by the kind of the values
_DEFAULTS: Final[dict[str, Any]] = {"O": "_Unused", "i": -1, "f": -0.0}


def _side(call: Call, what: str) -> np.ndarray | None:
    """Keys, values or the default, in whichever attribute they are given."""
    for end, dtype in (("tensor", None), ("strings", "string"), ("int64s", "int64"),
                       ("floats", "float32"), ("string", "string"), ("int64", "int64"),
                       ("float", "float32")):  # fmt: skip
        given = call.attr(f"{what}_{end}")
        if given is not None:
            return as_array(given, dtype).ravel()
    return None


def _listed(array: np.ndarray) -> tuple[object, ...]:
    return tuple(v.decode("latin-1") if isinstance(v, bytes) else v for v in array.tolist())

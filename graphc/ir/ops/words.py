"""What ONNX does with words: rows of pieces, normal forms, counts of n-grams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.ir.dtypes import float32, int64, string, uint8
from graphc.ir.errors import AttributeValueError, DTypeError, ShapeError
from graphc.ir.ops.strings import check_strings, decoded, host_op, objects
from graphc.ir.table import REQUIRED, Attrs, Op, Types
from graphc.ir.types import UNKNOWN, TensorType

# -- bytes


def _string_of_type(types: Types, _: Attrs) -> TensorType:
    (x,) = types
    if x.dtype is not uint8:
        raise DTypeError(f"bytes are uint8, got {x}")
    if x.shape == ():
        raise ShapeError("a string is made of a vector of bytes, got a scalar")
    return TensorType(string, None if x.shape is None else x.shape[:-1])


def _string_of(_: Attrs, x: np.ndarray) -> np.ndarray:
    rows = x.reshape(-1, x.shape[-1]) if x.size else np.zeros((int(np.prod(x.shape[:-1])), 0))
    return objects((row.astype(np.uint8).tobytes() for row in rows), x.shape[:-1])


string_of_bytes: Op = host_op(
    "string_of_bytes", _string_of_type, _string_of, doc="Strings of the bytes along the last dim."
)

# -- pieces in rows of one length


def _pieces_type(types: Types, _: Attrs) -> Types:
    check_strings(*types)
    shape = types[0].shape
    longer = None if shape is None else (*shape, UNKNOWN)
    return types[0].with_shape(longer), TensorType(int64, shape)


def _pieces(attrs: Attrs, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    delimiter = attrs["delimiter"].encode() or None
    most = -1 if attrs["maxsplit"] is None else attrs["maxsplit"]
    rows = [t.split(delimiter, most) if t else [] for t in x.ravel().tolist()]
    longest = max(map(len, rows), default=0)
    full = [p for row in rows for p in (*row, *[b""] * (longest - len(row)))]
    counts = np.array([len(row) for row in rows], np.int64).reshape(x.shape)
    return objects(full, (*x.shape, longest)), counts


split_padded: Op = host_op(
    "split_padded", _pieces_type, _pieces, {"delimiter": "", "maxsplit": None},
    doc="The pieces of each string along a new last dim, padded by empty ones; their numbers.",
)  # fmt: skip

# -- normal forms


def _normal_type(types: Types, _: Attrs) -> TensorType:
    check_strings(*types)
    if types[0].rank not in (1, 2, None):
        raise ShapeError(f"words are a vector, or one row of a matrix, got {types[0]}")
    shape = types[0].shape
    return types[0].with_shape(None if shape is None else (*shape[:-1], UNKNOWN))


def _normal(attrs: Attrs, x: np.ndarray) -> np.ndarray:
    changes: dict[str, Callable[[str], str]] = {
        "NONE": str, "LOWER": str.lower, "UPPER": str.upper,
    }  # fmt: skip
    change = changes.get(attrs["change"])
    if change is None:
        raise AttributeValueError(f"case_change_action {attrs['change']!r} is not known")
    if x.ndim == 2 and x.shape[0] != 1:
        raise ShapeError(f"words are a vector, or one row of a matrix, got {list(x.shape)}")
    key: Callable[[str], str] = str if attrs["sensitive"] else str.lower
    stop = {key(word) for word in attrs["stopwords"]}
    words = [decoded(w) for w in x.ravel().tolist()]
    kept = [change(w).encode() for w in words if key(w) not in stop] or [b""]
    return objects(kept, (*x.shape[:-1], len(kept)))


normalize_words: Op = host_op(
    "normalize_words", _normal_type, _normal,
    {"change": "NONE", "sensitive": False, "stopwords": ()},
    doc="The words without the stop words, in another case; one empty word where none is left.",
)  # fmt: skip

# -- n-grams


def _grams_type(types: Types, attrs: Attrs) -> TensorType:
    (x,) = types
    if not (x.dtype.is_integer or x.dtype.is_string) or x.rank not in (1, 2, None):
        raise DTypeError(f"n-grams are counted in rows of integers or strings, got {x}")
    shape = None if x.shape is None else (*x.shape[:-1], max(attrs["places"], default=-1) + 1)
    return TensorType(float32, shape)


def _pool(attrs: Attrs) -> dict[tuple[Any, ...], int]:
    """n-gram -> its number; the pool holds the 1-grams, then the 2-grams, and so on."""
    pool, starts = attrs["pool"], attrs["starts"]
    result: dict[tuple[Any, ...], int] = {}
    for size, start in enumerate(starts, start=1):
        end = starts[size] if size < len(starts) else len(pool)
        for i in range(start, end - size + 1, size):
            result[tuple(pool[i : i + size])] = len(result)
    return result


def _counts(attrs: Attrs, row: Sequence[Any], pool: dict[tuple[Any, ...], int]) -> Counter[int]:
    found: Counter[int] = Counter()
    for size in range(attrs["shortest"], attrs["longest"] + 1):
        for skip in range(1, (attrs["skips"] if size > 1 else 0) + 2):
            for i in range(len(row) - (size - 1) * skip):
                number = pool.get(tuple(row[i : i + (size - 1) * skip + 1 : skip]))
                if number is not None:
                    found[number] += 1
    return found


def _grams(attrs: Attrs, x: np.ndarray) -> np.ndarray:
    pool, places = _pool(attrs), attrs["places"]
    rows = x.reshape(-1, x.shape[-1]).tolist() if x.size else [[]] * int(np.prod(x.shape[:-1]))
    result = np.zeros((len(rows), max(places, default=-1) + 1), np.float32)
    for out, row in zip(result, rows, strict=True):
        words = [decoded(w) if isinstance(w, bytes) else w for w in row]
        for number, count in _counts(attrs, words, pool).items():
            weight = attrs["weights"][number] if attrs["weights"] else 1.0
            out[places[number]] = {"TF": count, "IDF": weight}.get(attrs["mode"], count * weight)
    return result.reshape(*x.shape[:-1], -1)


count_grams: Op = host_op(
    "count_grams", _grams_type, _grams,
    {"pool": REQUIRED, "starts": REQUIRED, "places": REQUIRED, "shortest": 1, "longest": 1,
     "skips": 0, "mode": "TF", "weights": ()},
    doc="How often the n-grams of a pool stand in each row (TF), their weights, or the products.",
)  # fmt: skip

__all__ = ["count_grams", "normalize_words", "split_padded", "string_of_bytes"]

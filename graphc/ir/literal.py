"""What users write for a tensor, as a NumPy array of a dtype that graphc has.

Numbers, nested lists, text and arrays; and `Literal`, a constant's array.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import numpy as np

from graphc.ir.dtypes import DType, as_dtype, int32, is_known
from graphc.ir.dtypes import string as string_
from graphc.ir.errors import DTypeError, ShapeError


class Literal:
    """A constant's read-only array, hashed and compared by its content.

    The array is copied, unless it is `unshared`: nobody writes to it, or to what it is a view of.
    """

    __slots__ = ("_key", "array")

    def __init__(self, array: np.ndarray, unshared: bool = False) -> None:
        # order "C" keeps a scalar a scalar, where ascontiguousarray would make it 1-D
        self.array: Final = (
            np.asarray(array, order="C") if unshared else np.array(array, order="C", copy=True)
        )
        self.array.flags.writeable = False
        self._key: tuple[Any, ...] | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes two literals the same: dtype, shape and bytes."""
        if self._key is None:
            digest = hashlib.blake2b(_bytes_of(self.array), digest_size=16).digest()
            self._key = (self.array.dtype.str, self.array.dtype.name, self.array.shape, digest)
        return self._key

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self.key == other.key

    def __repr__(self) -> str:
        with np.printoptions(threshold=8, edgeitems=3):
            return f"Literal({self.array!r})"


def _bytes_of(array: np.ndarray) -> bytes:
    """What tells the array from others of its dtype and shape."""
    if array.dtype.kind != "O":
        return array.tobytes()
    return b"".join(b"%d:%b" % (len(text), text) for text in array.ravel().tolist())


def as_array(x: Any, dtype: Any = None, like: DType | None = None) -> np.ndarray:
    """`x` as a NumPy array of a graphc dtype; see `graphc.ir.graph.convert` for the choice."""
    array = _numpy_array(x)
    if array.dtype.kind == "O":
        if (wanted := like if dtype is None else as_dtype(dtype)) not in (None, string_):
            raise DTypeError(f"{_short(x)} is a tensor of strings, not of {wanted}")
        return array
    if dtype is not None:
        return _cast_array(x, array, as_dtype(dtype), explicit=True)
    if like is not None:
        return _cast_array(x, array, like, explicit=False)
    if not isinstance(x, (np.ndarray, np.generic)):
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        elif array.dtype == np.int64 and _fits(array, int32):
            array = array.astype(np.int32)
    return array.astype(as_dtype(array.dtype).numpy, copy=False)


def _numpy_array(x: Any) -> np.ndarray:
    """As NumPy reads it; DTypeError or ShapeError for what is no tensor."""
    try:
        array = np.asarray(x)
    except ValueError as error:  # rows of different lengths
        raise ShapeError(f"{_short(x)} is no tensor: {error}") from None
    if array.dtype.kind in "OSU" and (texts := _text_array(x)) is not None:
        return texts
    if not is_known(array.dtype):
        text = "whose numbers no dtype holds" if array.dtype.kind == "O" else f"of {array.dtype}"
        text = text if isinstance(x, (list, tuple, int, np.ndarray)) else f"a {type(x).__name__}"
        raise DTypeError(f"{_short(x)} is no tensor of numbers or bools: it is {text}")
    return array


def _text_array(x: Any) -> np.ndarray | None:
    """`x` as bytes in an object array, text as UTF-8; None where it holds anything else."""
    # by way of objects: NumPy's own arrays of bytes drop zeros at the ends
    objects = np.array(x, dtype=object)
    items = objects.ravel().tolist()
    if not all(isinstance(item, (str, bytes)) for item in items):
        return None
    result = np.empty(len(items), dtype=object)
    result[:] = [item.encode() if isinstance(item, str) else bytes(item) for item in items]
    return result.reshape(objects.shape)


def _short(x: Any) -> str:
    text = repr(x)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fits(array: np.ndarray, dtype: DType) -> bool:
    return array.size == 0 or bool(array.min() >= dtype.min and array.max() <= dtype.max)


def _cast_array(x: Any, array: np.ndarray, dtype: DType, explicit: bool) -> np.ndarray:
    if dtype.is_string:
        if array.size == 0:
            return array.astype(object)
        raise DTypeError(f"{_short(x)} is no tensor of strings; use as_string()")
    source = as_dtype(array.dtype)
    ok = (
        source is dtype
        or array.size == 0
        or (dtype.is_floating and (source.is_floating or source.is_integer))
        or (dtype.is_integer and source.is_integer and _fits(array, dtype))
        or (explicit and dtype.is_integer and source.is_bool)
    )
    if not ok:
        text = repr(x) if array.size < 8 else f"an array of {source}"
        raise DTypeError(f"{text} cannot be held by {dtype} without changing it; use cast()")
    return array.astype(dtype.numpy, copy=False)


__all__ = ["Literal", "as_array"]

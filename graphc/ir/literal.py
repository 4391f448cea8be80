"""What users write for a tensor, as a NumPy array of a dtype that graphc has.

Numbers, nested lists, text and arrays; and `Literal`, a constant's array.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final

import numpy as np

from graphc.ir.dtypes import DType, as_dtype, int32, is_known
from graphc.ir.dtypes import string as string_
from graphc.ir.errors import DTypeError, ShapeError
from graphc.ir.memory import lasting_copy


class Literal:
    """A constant's read-only array, hashed and compared by its content.

    With `copy=False` the array is given away: nobody writes to its memory any more.
    """

    __slots__ = ("_hash", "_uniform", "array")

    def __init__(self, array: np.ndarray, copy: bool = True) -> None:
        # order "C" keeps a scalar a scalar, where ascontiguousarray would make it 1-D
        self.array: Final = lasting_copy(array) if copy else np.asarray(array, order="C")
        self.array.flags.writeable = False
        self._hash: int | None = None
        self._uniform: bool | None = None

    @property
    def is_uniform(self) -> bool:
        """True when there are elements and all are, bit for bit, the same."""
        if self._uniform is None:
            self._uniform = self.array.dtype.kind != "O" and _is_uniform(self.array)
        return self._uniform

    def __hash__(self) -> int:
        """Of dtype, shape and some bytes: weights are large, and few have one shape."""
        if self._hash is None:
            array = self.array
            self._hash = hash((array.dtype, array.shape, _sample(array)))
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, Literal):
            return self is other
        a, b = self.array, other.array
        if a.dtype != b.dtype or a.shape != b.shape or hash(self) != hash(other):
            return False
        if a.dtype.kind == "O":
            return bool(a.ravel().tolist() == b.ravel().tolist())
        return np.array_equal(_bytes_of(a), _bytes_of(b))

    def __repr__(self) -> str:
        with np.printoptions(threshold=8, edgeitems=3):
            return f"Literal({self.array!r})"


_SAMPLED: Final = 64  # elements at most from each end of an array


def _sample(array: np.ndarray) -> Hashable:
    flat = array.reshape(-1)
    if array.dtype.kind == "O":
        return tuple(flat.tolist())
    return flat[:_SAMPLED].tobytes() + flat[-_SAMPLED:].tobytes()


def _is_uniform(array: np.ndarray) -> bool:
    flat = array.reshape(-1)
    if array.size < 2 or flat[:1].tobytes() != flat[-1:].tobytes():
        return array.size == 1
    rows = _bytes_of(array).reshape(array.size, -1)
    return bool((rows == rows[0]).all())


def _bytes_of(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1).view(np.uint8)


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

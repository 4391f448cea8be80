"""Element types: what a tensor holds, how each back end spells it, what it promises.

Owns the list of dtypes (`ALL`: those of numbers and bools, which kernels compute). Knows nothing
of graphs or of kernels.
"""

from __future__ import annotations

from typing import Any, Final

import ml_dtypes
import numpy as np

from graphc.ir.errors import DTypeError


class DType:
    """An element type; one object per type, compared by identity.

    `name` is TensorFlow's name for it, `numpy` the NumPy scalar dtype (native byte order),
    `bits` its width. `rank` orders the types of one category by width.
    """

    __slots__ = ("bits", "category", "name", "numpy")

    def __init__(self, name: str, category: str, numpy_dtype: Any) -> None:
        self.name: Final = name
        self.category: Final = category
        self.numpy: Final[np.dtype[Any]] = np.dtype(numpy_dtype)
        self.bits: Final = self.numpy.itemsize * 8

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self.numpy.itemsize

    @property
    def is_floating(self) -> bool:
        """True for float16, bfloat16, float32, float64."""
        return self.category == "float"

    @property
    def is_integer(self) -> bool:
        """True for signed and unsigned integers, not for bool."""
        return self.category in ("int", "uint")

    @property
    def is_bool(self) -> bool:
        """True for bool."""
        return self.category == "bool"

    @property
    def is_unsigned(self) -> bool:
        """True for unsigned integers."""
        return self.category == "uint"

    @property
    def is_string(self) -> bool:
        """True for string: bytes of any length, which live on the host alone."""
        return self.category == "string"

    @property
    def as_numpy_dtype(self) -> type[Any]:
        """The NumPy scalar type, as TensorFlow programs ask for it."""
        return self.numpy.type

    @property
    def base_dtype(self) -> DType:
        """Itself: graphc has no reference dtypes."""
        return self

    @property
    def compute(self) -> DType:
        """The type in which arithmetic is done: float32 for the 16-bit floats, else itself."""
        return float32 if self in (float16, bfloat16) else self

    @property
    def min(self) -> Any:
        """The least finite value."""
        return _limits(self)[0]

    @property
    def max(self) -> Any:
        """The greatest finite value."""
        return _limits(self)[1]

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (self.name,)


def _limits(dtype: DType) -> tuple[Any, Any]:
    if dtype.is_string:
        raise DTypeError("strings have no least and no greatest value")
    if dtype.is_bool:
        return False, True
    if dtype.is_floating:
        info: Any = ml_dtypes.finfo(dtype.numpy)  # type: ignore[no-untyped-call]
        return float(info.min), float(info.max)
    bounds = np.iinfo(dtype.numpy)
    return int(bounds.min), int(bounds.max)


float16 = DType("float16", "float", np.float16)
bfloat16 = DType("bfloat16", "float", ml_dtypes.bfloat16)
float32 = DType("float32", "float", np.float32)
float64 = DType("float64", "float", np.float64)
int8 = DType("int8", "int", np.int8)
int16 = DType("int16", "int", np.int16)
int32 = DType("int32", "int", np.int32)
int64 = DType("int64", "int", np.int64)
uint8 = DType("uint8", "uint", np.uint8)
uint16 = DType("uint16", "uint", np.uint16)
uint32 = DType("uint32", "uint", np.uint32)
uint64 = DType("uint64", "uint", np.uint64)
bool_ = DType("bool", "bool", np.bool_)
# Python's bytes in object arrays; no kernel sees them: see graphc.ir.host
string = DType("string", "string", np.object_)

ALL: Final[tuple[DType, ...]] = (
    float16, bfloat16, float32, float64, int8, int16, int32, int64,
    uint8, uint16, uint32, uint64, bool_,
)  # fmt: skip
FLOATS: Final = tuple(d for d in ALL if d.is_floating)
INTEGERS: Final = tuple(d for d in ALL if d.is_integer)

_BY_NAME: Final = {d.name: d for d in (*ALL, string)}
# where TensorFlow's words differ from NumPy's, for which "float" and the type float are 64 bits
_BY_WORD: Final[dict[Any, DType]] = {"half": float16, "float": float32, "double": float64}
_BY_NUMPY: Final = {d.numpy: d for d in ALL}


def blank(dtype: np.dtype[Any]) -> Any:
    """What fills up an array: zero, False, the empty string."""
    return b"" if dtype.kind == "O" else 0


def is_known(dtype: np.dtype[Any]) -> bool:
    """True for a NumPy dtype of numbers or bools that graphc has, in any byte order."""
    return dtype.newbyteorder("=") in _BY_NUMPY


def as_dtype(value: Any) -> DType:
    """The dtype that `value` names: a DType, a NumPy dtype or scalar type, or a string.

    `float` and "float" are float32, as in TensorFlow; str, bytes and objects are strings. Any
    byte order is taken (feeds are converted). Raises DTypeError for what graphc lacks.
    """
    if isinstance(value, DType):
        return value
    if isinstance(value, str) and value in _BY_NAME:
        return _BY_NAME[value]
    if isinstance(value, str) and value in _BY_WORD:
        return _BY_WORD[value]
    if value is float:
        return float32
    try:
        if value is None:  # NumPy would take it for float64
            raise TypeError
        dtype = np.dtype(value)
        return string if dtype.kind in "OSU" else _BY_NUMPY[dtype.newbyteorder("=")]
    except (KeyError, TypeError):
        names = ", ".join(_BY_NAME)
        raise DTypeError(f"no dtype {value!r} in graphc; there are: {names}") from None

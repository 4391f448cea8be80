"""Tensor types: a dtype and a shape whose dims are sizes or named unknowns.

A dim is an `int`, or a `str`: the name of a size that a run fixes (`"x.0"`); `"?"` is an unknown
of which nothing is known, and which equals no other. A shape of None has an unknown rank.
The shape arithmetic that the ops' type rules share is here too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from graphc.ir.dtypes import DType
from graphc.ir.errors import AttributeValueError, ShapeError

Dim: TypeAlias = int | str
Shape: TypeAlias = tuple[Dim, ...]

UNKNOWN: Dim = "?"
_NUMBERS: Final = frozenset({int})


@dataclass(frozen=True, slots=True)
class TensorType:
    """dtype and shape of one value; `shape is None` means that the rank is unknown."""

    dtype: DType
    shape: Shape | None

    @property
    def rank(self) -> int | None:
        """Number of dims, None when unknown."""
        return None if self.shape is None else len(self.shape)

    @property
    def is_static(self) -> bool:
        """True when every dim is a number."""
        # asked so often that a generator would be felt
        return self.shape is not None and {*map(type, self.shape)} <= _NUMBERS

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape as numbers; only for static types."""
        assert self.is_static, f"{self} is not static"
        return self.shape  # type: ignore[return-value]

    @property
    def size(self) -> int:
        """Number of elements; only for static types."""
        return math.prod(self.static_shape)

    @property
    def nbytes(self) -> int:
        """Bytes of a dense array of this type; only for static types."""
        return self.size * self.dtype.itemsize

    def with_shape(self, shape: Shape | None) -> TensorType:
        """The same dtype with another shape."""
        return TensorType(self.dtype, shape)

    def with_dtype(self, dtype: DType) -> TensorType:
        """The same shape with another dtype."""
        return TensorType(dtype, self.shape)

    def __str__(self) -> str:
        return f"{self.dtype.name}{format_shape(self.shape)}"


def format_shape(shape: Iterable[Dim] | None) -> str:
    """`[32, x.0]`; `[*]` for an unknown rank."""
    return "[*]" if shape is None else "[" + ", ".join(map(str, shape)) + "]"


def as_shape(value: Any, name: str = "") -> Shape | None:
    """A shape as the user writes it: ints, None or -1 or a name for an unknown; None: any rank.

    An unnamed unknown gets the name `<name>.<position>`, or "?" where no name is given.
    """
    if value is None:
        return None
    if isinstance(value, (int, np.integer)):
        value = (value,)
    dims = getattr(value, "dims", value)  # a TensorShape-like object
    if dims is None:
        return None
    return tuple(_as_dim(d, f"{name}.{i}" if name else "?", value) for i, d in enumerate(dims))


def _as_dim(dim: Any, default: str, whole: Any) -> Dim:
    dim = getattr(dim, "value", dim)  # a Dimension-like object
    if dim is None or (isinstance(dim, (int, np.integer)) and dim == -1):
        return default
    if isinstance(dim, str):
        return dim
    if isinstance(dim, (int, np.integer)) and not isinstance(dim, bool) and dim >= 0:
        return int(dim)
    raise ShapeError(f"a shape has sizes, None or names as dims, got {dim!r} in {whole!r}")


def check_sizes(shape: Shape | None) -> Shape | None:
    """The shape itself; ShapeError when a size is negative."""
    if shape is not None and any(isinstance(d, int) and d < 0 for d in shape):
        raise ShapeError(f"sizes are not negative, got {format_shape(shape)}")
    return shape


def same_dim(a: Dim, b: Dim) -> bool:
    """True when the dims are known to be equal ("?" equals nothing)."""
    return a == b and a != UNKNOWN


def may_equal(a: Dim, b: Dim) -> bool:
    """False only for two different numbers."""
    return a == b or isinstance(a, str) or isinstance(b, str)


def merge_dims(a: Dim, b: Dim, what: str) -> Dim:
    """The better known of two dims that must be equal; ShapeError when they cannot be."""
    if not may_equal(a, b):
        raise ShapeError(f"{what}: {a} is not {b}")
    if isinstance(a, int):
        return a
    return b if isinstance(b, int) or a == UNKNOWN else a


def merge_shapes(a: Shape | None, b: Shape | None, what: str) -> Shape | None:
    """The better known of two shapes that must be equal; ShapeError when they cannot be."""
    if a is None or b is None:
        return b if a is None else a
    if len(a) != len(b):
        raise ShapeError(f"{what}: ranks of {format_shape(a)} and {format_shape(b)} differ")
    text = f"{what}: {format_shape(a)} and {format_shape(b)}"
    return tuple(merge_dims(x, y, text) for x, y in zip(a, b, strict=True))


def broadcast_dims(a: Dim, b: Dim) -> Dim | None:
    """NumPy's rule for one dim; None when the two cannot be broadcast."""
    if a == 1:
        return b
    if b == 1 or a == b:
        return a
    if isinstance(a, int):
        return a if isinstance(b, str) else None
    return b if isinstance(b, int) else UNKNOWN  # two unknowns: either may be 1


def broadcast_shapes(shapes: Sequence[Shape | None]) -> Shape | None:
    """The shape that NumPy's broadcasting gives; ShapeError with all shapes when there is none."""
    first = shapes[0] if shapes else ()
    if all(s == first for s in shapes) and first is not None and UNKNOWN not in first:
        return first
    if any(s is None for s in shapes):
        return None
    known = [s for s in shapes if s is not None]
    rank = max(map(len, known), default=0)
    result: list[Dim] = [1] * rank
    for shape in known:
        for i, dim in enumerate(shape, start=rank - len(shape)):
            merged = broadcast_dims(result[i], dim)
            if merged is None:
                texts = " and ".join(map(format_shape, known))
                raise ShapeError(f"shapes {texts} cannot be broadcast together")
            result[i] = merged
    return tuple(result)


def normalize_axis(axis: int, rank: int, what: str = "axis") -> int:
    """A non-negative axis; AttributeValueError when it is outside [-rank, rank)."""
    if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
        raise AttributeValueError(f"{what} must be an integer, got {axis!r}")
    if not -rank <= axis < rank:
        raise AttributeValueError(f"{what} {axis} is outside a tensor of rank {rank}")
    return int(axis) % rank


def normalize_axes(axes: Any, rank: int) -> tuple[int, ...]:
    """Sorted non-negative axes; None means all. AttributeValueError when one repeats."""
    if axes is None:
        return tuple(range(rank))
    if isinstance(axes, (int, np.integer)):
        axes = (axes,)
    result = sorted(normalize_axis(a, rank) for a in axes)
    if len(set(result)) != len(result):
        raise AttributeValueError(f"axes {tuple(axes)} name one axis twice")
    return tuple(result)


def row_major_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of a dense row-major array."""
    strides, step = [0] * len(shape), 1
    for i in reversed(range(len(shape))):
        strides[i] = step
        step *= max(shape[i], 1)
    return tuple(strides)


# -- the shape that users see


class Dimension(int):
    """A known size of a shape: a number, which old programs ask for its `value`."""

    __slots__ = ()

    @property
    def value(self) -> int:
        """The number."""
        return int(self)


class TensorShape(tuple[Any, ...]):
    """The shape users see: sizes, and None for dims that a run fixes."""

    __slots__ = ()

    def __new__(cls, dims: Iterable[Any] = ()) -> TensorShape:
        """A shape of sizes; -1 and None are unknown."""
        sizes = (getattr(d, "value", d) for d in dims)
        return super().__new__(cls, (None if d in (None, -1) else Dimension(d) for d in sizes))

    def __getitem__(self, key: Any) -> Any:
        """One size; or, of a slice, a shape."""
        part = super().__getitem__(key)
        return TensorShape(part) if isinstance(key, slice) else part

    def concatenate(self, other: Iterable[Any]) -> TensorShape:
        """The dims of both."""
        return TensorShape((*self, *other))

    @property
    def ndims(self) -> int:
        """The rank."""
        return len(self)

    rank = ndims

    @property
    def dims(self) -> tuple[Any, ...]:
        """The dims themselves."""
        return tuple(self)

    def as_list(self) -> list[int | None]:
        """The shape as a list."""
        return [None if d is None else int(d) for d in self]

    def is_fully_defined(self) -> bool:
        """True when no dim is None."""
        return None not in self

    def num_elements(self) -> int | None:
        """The product of the dims, None when one is unknown."""
        return int(np.prod(self)) if self.is_fully_defined() else None

"""Elements of datasets: nested tuples and dicts of arrays, and what is known of them before.

A specification is the same nest with a TensorType at each leaf. A string is an array of objects
without dims.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphc.frontend import nest
from graphc.frontend.arguments import is_tensor
from graphc.ir.dtypes import as_dtype, blank
from graphc.ir.errors import ShapeError
from graphc.ir.graph import Value, convert
from graphc.ir.literal import as_array
from graphc.ir.types import UNKNOWN, Dim, Shape, TensorShape, TensorType, as_shape, may_equal

Element = Any  # a nest of arrays
Spec = Any  # a nest of TensorType


def flatten(structure: Any) -> list[Any]:
    """The leaves; of tuples and dicts only, for a list is a tensor here."""
    if isinstance(structure, Mapping):
        return [leaf for key in sorted(structure) for leaf in flatten(structure[key])]
    if isinstance(structure, tuple):
        return [leaf for item in structure for leaf in flatten(item)]
    return [structure]


def pack(structure: Any, leaves: Sequence[Any]) -> Any:
    """The leaves in the structure's form."""
    return nest.pack_as(structure, leaves)


def map_leaves(function: Callable[..., Any], structure: Any, *others: Any) -> Any:
    """The function of the leaves, in the form of the first structure."""
    columns = [flatten(s) for s in (structure, *others)]
    return pack(structure, [function(*items) for items in zip(*columns, strict=True)])


def as_leaves(structure: Any) -> Any:
    """The nest with a tensor or an array at each leaf; lists, numbers and bytes become arrays."""
    if isinstance(structure, Mapping):
        return {key: as_leaves(value) for key, value in structure.items()}
    if isinstance(structure, tuple):
        items = [as_leaves(item) for item in structure]
        return type(structure)(*items) if hasattr(structure, "_fields") else tuple(items)
    if is_tensor(structure):
        return convert(structure)
    if isinstance(structure, list) and any(map(is_tensor, structure)):
        return convert(structure)
    return as_leaf(structure)


def as_leaf(data: Any, dtype: Any = None) -> np.ndarray:
    """One leaf's array."""
    return as_array(data, dtype=None if dtype is None else as_dtype(dtype))


def spec_of(leaf: Value | np.ndarray) -> TensorType:
    """What is known of a leaf."""
    if isinstance(leaf, Value):
        return leaf.type
    return TensorType(as_dtype(leaf.dtype), leaf.shape)


def given_spec(types: Any, shapes: Any) -> Spec:
    """The specification that nests of dtypes and of shapes mean."""
    kinds = _nest_of_types(types)
    if shapes is None:
        return map_leaves(lambda d: TensorType(as_dtype(d), None), kinds)
    flat = shapes_like(kinds, shapes)
    pairs = zip(flatten(kinds), flat, strict=True)
    return pack(kinds, [TensorType(as_dtype(d), as_shape(s)) for d, s in pairs])


def slice_of(array: np.ndarray, index: int) -> Any:
    """One slice along the first dim; of strings, too, an array."""
    if array.dtype.kind == "O":
        return array[index : index + 1].reshape(array.shape[1:])
    return array[index]


def plain(array: Any) -> Any:
    """A leaf as users see it: a string is bytes."""
    return array[()] if array.dtype.kind == "O" and array.ndim == 0 else array


def _nest_of_types(types: Any) -> Any:
    return tuple(_nest_of_types(t) for t in types) if isinstance(types, list) else types


def shapes_like(kinds: Any, shapes: Any) -> list[Any]:
    """One shape per dtype: the shapes' own lists and tuples are no nests."""
    if isinstance(kinds, Mapping):
        return [s for key in sorted(kinds) for s in shapes_like(kinds[key], shapes[key])]
    if isinstance(kinds, tuple):
        if len(kinds) != len(shapes):
            raise ShapeError(f"{len(kinds)} dtypes, but {len(shapes)} shapes: {shapes!r}")
        pairs = zip(kinds, shapes, strict=True)
        return [s for kind, shape in pairs for s in shapes_like(kind, shape)]
    return [shapes]


def user_shape(t: TensorType) -> TensorShape | None:
    """The shape as users see it, None for unknown dims."""
    if t.shape is None:
        return None
    return TensorShape(d if isinstance(d, int) else None for d in t.shape)


def common_spec(a: TensorType, b: TensorType, what: str) -> TensorType:
    """What is known of something that is either; ShapeError when the dtypes differ."""
    if a.dtype is not b.dtype:
        raise ShapeError(f"{what} of different dtypes: {a} and {b}")
    return a.with_shape(_common_shape(a.shape, b.shape))


def _common_shape(a: Shape | None, b: Shape | None) -> Shape | None:
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(x if x == y and isinstance(x, int) else UNKNOWN for x, y in zip(a, b, strict=True))


def check_fits(array: np.ndarray, t: TensorType, what: str) -> None:
    """ShapeError unless the array is what the type says."""
    fits = t.shape is None or (
        len(t.shape) == array.ndim and all(map(may_equal, t.shape, array.shape))
    )
    if not fits or as_dtype(array.dtype) is not t.dtype:
        own = TensorType(as_dtype(array.dtype), array.shape)
        raise ShapeError(f"{what}: expected {t}, got {own}")


def stack(elements: Sequence[Element]) -> Element:
    """The elements along a new first dim; ShapeError when their shapes differ."""
    columns = zip(*map(flatten, elements), strict=True)
    return pack(elements[0], [_stacked(column) for column in columns])


def _stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    shapes = sorted({a.shape for a in arrays})
    if len(shapes) > 1:
        raise ShapeError(
            f"a batch of elements of different shapes, {shapes[0]} and {shapes[1]}: "
            "use padded_batch()"
        )
    return np.stack(arrays)


def padded_stack(elements: Sequence[Element], shapes: Sequence[Shape], fills: Sequence[Any]) -> Any:
    """The elements along a new first dim, each leaf padded at its ends to its shape.

    An unknown size is the greatest one among the elements.
    """
    columns = zip(zip(*map(flatten, elements), strict=True), shapes, fills, strict=True)
    return pack(elements[0], [_padded_stack(*column) for column in columns])


def _padded_stack(arrays: Sequence[np.ndarray], shape: Shape, fill: Any) -> np.ndarray:
    if any(a.ndim != len(shape) for a in arrays):
        raise ShapeError(f"padded_batch to {len(shape)} dims of an element of {arrays[0].ndim}")
    fill = fill.encode() if isinstance(fill, str) else fill
    size = tuple(_padded_size(d, [a.shape[i] for a in arrays]) for i, d in enumerate(shape))
    result = np.full((len(arrays), *size), fill or blank(arrays[0].dtype), arrays[0].dtype)
    for i, a in enumerate(arrays):
        place: Any = (i, *(slice(0, n) for n in a.shape))
        result[place] = plain(a)
    return result


def _padded_size(dim: Dim, sizes: Sequence[int]) -> int:
    largest = max(sizes)
    if isinstance(dim, int) and dim < largest:
        raise ShapeError(f"padded_batch to a size of {dim}, but an element has {largest}")
    return dim if isinstance(dim, int) else largest


class Specified:
    """What has elements of one specification: their dtypes, shapes and classes."""

    element_spec: Spec

    @property
    def output_types(self) -> Any:
        """The dtypes, in the elements' form."""
        return map_leaves(lambda t: t.dtype, self.element_spec)

    @property
    def output_shapes(self) -> Any:
        """The shapes, in the elements' form."""
        return map_leaves(user_shape, self.element_spec)

    @property
    def output_classes(self) -> Any:
        """The class of each leaf: a tensor."""
        return map_leaves(lambda _: Value, self.element_spec)

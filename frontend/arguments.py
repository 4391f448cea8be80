"""Arguments as users write them, made into what ops take: shapes, axes, dtypes, scalars.

A shape or axis may be given as a tensor. Where its elements are known while the graph is built
(constants, shapes of tensors, and integer arithmetic on them) they are used; where not, the
tensor itself goes to the op, as an input that is computed on the host before compilation.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from graphc.ir.dtypes import DType, as_dtype, int32
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Value, convert
from graphc.ir.table import OPS
from graphc.ir.types import UNKNOWN, Dim

# numbers, names of sizes, "?" where nothing is known
Elements: TypeAlias = tuple[Dim, ...]

_ARITHMETIC: Final[dict[str, Callable[[int, int], int]]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "maximum": max,
    "minimum": min,
}
_DEPTH: Final = 40  # shape arithmetic deeper than that is left to the host


def is_tensor(x: Any) -> bool:
    """True for tensors and variables."""
    return isinstance(x, Value) or hasattr(x, "__graphc_value__")


def as_value(x: Any, dtype: Any = None, name: str | None = None) -> Value:
    """`x` as a tensor; variables are read, arrays and numbers become constants."""
    return convert(x, dtype=dtype, name=name)


def same_dtype(values: Sequence[Any]) -> list[Value]:
    """All as tensors; numbers and arrays take the dtype of the first tensor among them."""
    like = next((convert(x).dtype for x in values if is_tensor(x)), None)
    return [convert(x, like=like) for x in values]


def known_elements(value: Value, depth: int = 0) -> Elements | None:
    """The elements of an integer scalar or vector: numbers, named sizes, "?" for the others.

    None instead of them when not even their number is known.
    """
    node = value.node
    parts = [] if depth > _DEPTH else list(node.inputs)
    match node.op.name:
        case "constant" if value.type.rank in (0, 1):
            return tuple(node.attrs["value"].array.ravel().tolist())
        case "shape" if parts:
            return parts[0].type.shape
        case "cast" | "identity" if parts:
            return known_elements(parts[0], depth + 1)
        case "stack" | "concat" if parts:
            return _joined([known_elements(p, depth + 1) for p in parts])
        case "strided_slice" if parts:
            return _sliced(known_elements(parts[0], depth + 1), node.attrs["key"])
        case "reduce_prod" if parts and value.type.rank == 0:
            return _product(known_elements(parts[0], depth + 1))
        case name if parts and name in _ARITHMETIC:
            a, b = (known_elements(p, depth + 1) for p in parts)
            return _combined(_ARITHMETIC[name], a, b)
        case _:
            return _unknown(value)


def _unknown(value: Value) -> Elements | None:
    shape = value.type.shape
    if shape == ():
        return (UNKNOWN,)
    if shape is not None and len(shape) == 1 and isinstance(shape[0], int):
        return (UNKNOWN,) * shape[0]
    return None


def _joined(parts: Sequence[Elements | None]) -> Elements | None:
    result: list[Dim] = []
    for part in parts:
        if part is None:
            return None
        result.extend(part)
    return tuple(result)


def _sliced(elements: Elements | None, key: Sequence[Any]) -> Elements | None:
    if elements is None or len(key) != 1 or isinstance(key[0], str):
        return None
    if isinstance(key[0], int):
        return (elements[key[0]],)
    return elements[slice(*key[0][1:])]


def _product(elements: Elements | None) -> Elements:
    numbers = _all_numbers(elements)
    return (UNKNOWN,) if numbers is None else (math.prod(numbers),)


def _all_numbers(elements: Elements | None) -> tuple[int, ...] | None:
    """The elements if every one is a number."""
    if elements is None or any(isinstance(e, str) for e in elements):
        return None
    return tuple(e for e in elements if not isinstance(e, str))


def _combined(
    combine: Callable[[int, int], int], a: Elements | None, b: Elements | None
) -> Elements | None:
    if a is None or b is None:
        return None
    length = max(len(a), len(b))
    a, b = (x * length if len(x) == 1 else x for x in (a, b))
    return tuple(
        UNKNOWN if isinstance(x, str) or isinstance(y, str) else combine(x, y)
        for x, y in zip(a, b, strict=True)
    )


def constant_value(x: Any) -> np.ndarray | None:
    """The value of `x` where it is known while the graph is built, else None."""
    if not is_tensor(x):
        return np.asarray(x)
    value = convert(x)
    if value.node.op.name == "constant":
        array: np.ndarray = value.node.attrs["value"].array
        return array
    if not value.dtype.is_integer or value.type.rank not in (0, 1):
        return None
    numbers = _all_numbers(known_elements(value))
    if numbers is None:
        return None
    return np.array(numbers, value.dtype.numpy).reshape(-1 if value.type.rank else ())


def static_ints(x: Any, what: str) -> tuple[int, ...]:
    """`x` as integers; AttributeValueError when a tensor's elements are not known yet."""
    array = constant_value(_numbers(x))
    if array is None:
        raise AttributeValueError(f"{what} must be known while the graph is built, got {x!r}")
    if array.size and array.dtype.kind not in "iu":
        raise AttributeValueError(f"{what} must be integers, got {x!r}")
    return tuple(int(i) for i in array.ravel())


def numbers_argument(x: Any, what: str) -> list[Any]:
    """`x` as integers, or integer scalars where its elements are not known yet."""
    if isinstance(x, (list, tuple)) and any(map(is_tensor, x)):
        return [n for item in x for n in numbers_argument(item, what)]
    if constant_value(x) is not None:
        return list(static_ints(x, what))
    value = convert(x)
    known = known_elements(value)
    if known is None or not value.dtype.is_integer:
        raise AttributeValueError(f"{what} must be integers of known count, got {x!r}")
    if value.type.rank == 0:
        return [value]
    return [value[i] if isinstance(n, str) else n for i, n in enumerate(known)]


def _numbers(x: Any) -> Any:
    """A list in which known scalar tensors are numbers; other tensors become one stack."""
    if not isinstance(x, (list, tuple)) or not any(map(is_tensor, x)):
        return x
    known = [constant_value(item) for item in x]
    return x if any(k is None for k in known) else [int(k) for k in known if k is not None]


def static_int(x: Any, what: str) -> int:
    """`x` as one integer; see `static_ints`."""
    numbers = static_ints(x, what)
    if len(numbers) != 1:
        raise AttributeValueError(f"{what} must be one integer, got {x!r}")
    return numbers[0]


def axes_argument(axis: Any) -> tuple[int, ...] | None:
    """An axis argument: None, an integer, several, or a tensor of known value."""
    return None if axis is None else static_ints(axis, "axis")


def either(name: str, value: Any, other_name: str, other: Any, default: Any = None) -> Any:
    """One of two names of an argument; AttributeValueError when both are given."""
    if value is not None and other is not None:
        raise AttributeValueError(f"give {name}= or {other_name}=, not both: they are one argument")
    given = other if value is None else value
    return default if given is None else given


def shape_argument(shape: Any) -> tuple[tuple[Value, ...], dict[str, Any]]:
    """The inputs and attributes with which an op takes a shape.

    The attribute alone when all dims are numbers; else the shape as a tensor, too, and in the
    attribute what is known of it. ShapeError for None: it says nothing of which shape to make.
    """
    if is_tensor(shape):
        value = convert(shape)
        return _with_tensor(known_elements(value), value)
    if isinstance(shape, (int, np.integer)):
        return (), {"shape": (_size(shape, shape),)}
    dims = [d if is_tensor(d) else getattr(d, "value", d) for d in _listed(shape)]
    if any(d is None for d in dims):
        raise ShapeError(
            f"the shape {dims} has unknown dims; use -1 for one of them, or shape(x)[i]"
        )
    if not any(map(is_tensor, dims)):
        return (), {"shape": tuple(_size(d, shape) for d in dims)}
    value = convert([_scalar(d) for d in dims])
    return _with_tensor(known_elements(value), value)


def _listed(shape: Any) -> Sequence[Any]:
    try:
        return list(shape)
    except TypeError:
        raise ShapeError(f"a shape is integers or an integer tensor, got {shape!r}") from None


def _size(dim: Any, shape: Any) -> int:
    if isinstance(dim, bool) or not hasattr(dim, "__index__"):
        raise ShapeError(f"a shape is integers or an integer tensor, got {shape!r}")
    return operator.index(dim)


def static_shape(shape: Any) -> tuple[int, ...]:
    """A shape that must be known while the graph is built."""
    inputs, attrs = shape_argument(shape)
    if inputs:
        raise ShapeError(f"the shape must be known while the graph is built, got {shape!r}")
    dims: tuple[int, ...] = attrs["shape"]
    return dims


def _scalar(dim: Any) -> Any:
    if not is_tensor(dim):
        return np.int32(dim)
    value = convert(dim)
    return value if value.dtype is int32 else OPS["cast"](value, dtype=int32)


def _with_tensor(
    elements: Elements | None, value: Value
) -> tuple[tuple[Value, ...], dict[str, Any]]:
    if elements is None:
        return (value,), {"shape": None}
    return (() if _all_numbers(elements) is not None else (value,)), {"shape": elements}


def as_sequence(x: Any) -> Sequence[Any]:
    """A list or tuple as it is, anything else alone in a list."""
    return x if isinstance(x, (list, tuple)) else [x]


def dtype_of(x: Any, default: DType) -> DType:
    """`x` as a dtype, or the default for None."""
    return default if x is None else as_dtype(x)

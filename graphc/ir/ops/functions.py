"""Python functions as ops: NumPy arrays in, NumPy arrays out, while a run goes on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakValueDictionary

import numpy as np

from graphc.ir.dtypes import as_dtype, bool_
from graphc.ir.errors import DTypeError, GraphcError, InputError, UnsupportedOp
from graphc.ir.literal import as_array
from graphc.ir.ops.strings import host_op
from graphc.ir.table import REQUIRED, Attrs, Op, Types
from graphc.ir.types import TensorType

_numbers = itertools.count()


class HostFunction(str):
    """A function as an attribute: its text is a name that finds it as long as its graph lives."""

    __slots__ = ("__weakref__", "function")
    function: Callable[..., Any]


_KNOWN: Final[WeakValueDictionary[str, HostFunction]] = WeakValueDictionary()


def hold(function: Callable[..., Any]) -> HostFunction:
    """The function under a name of its own."""
    name = getattr(function, "__name__", type(function).__name__)
    held = HostFunction(f"{name}.{next(_numbers)}")
    held.function = function
    _KNOWN[str(held)] = held
    return held


def function_of(held: str) -> Callable[..., Any]:
    """The function itself; UnsupportedOp when only its name is left."""
    found = held if isinstance(held, HostFunction) else _KNOWN.get(held)
    if found is None:
        raise UnsupportedOp(f"the Python function {str(held)!r} belongs to a graph that is gone")
    return found.function


def _type(_: Types, attrs: Attrs) -> Types:
    if not attrs["dtypes"]:  # a node that is run has an output
        return (TensorType(bool_, ()),)
    return tuple(TensorType(as_dtype(d), None) for d in attrs["dtypes"])


def _call(attrs: Attrs, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
    # a scalar string is given as bytes, for NumPy has no scalar of objects
    given = [x[()] if x.dtype.kind == "O" and x.ndim == 0 else x.copy() for x in inputs]
    result = function_of(attrs["function"])(*given)
    dtypes = [as_dtype(d) for d in attrs["dtypes"]]
    # a list is one of results, as in TensorFlow; where it cannot be, it is an array
    several = isinstance(result, (list, tuple)) and (len(dtypes) != 1 or len(result) == 1)
    parts = list(result) if several else [result]
    if not dtypes:
        return (np.array(True),)
    if len(parts) != len(dtypes):
        raise InputError(
            f"the Python function {attrs['function']!r} gave {len(parts)} values where "
            f"{len(dtypes)} were declared"
        )
    return tuple(_checked(p, d, attrs["function"]) for p, d in zip(parts, dtypes, strict=True))


def _checked(part: Any, dtype: Any, name: str) -> np.ndarray:
    """The array; what Python made may be converted, what NumPy made has to have the dtype."""
    try:
        array = as_array(part)
    except GraphcError as error:
        raise InputError(f"the Python function {name!r} gave no tensor: {error.message}") from None
    if as_dtype(array.dtype) is dtype:
        return array
    if isinstance(part, (np.ndarray, np.generic)):
        raise DTypeError(
            f"the Python function {name!r} gave {as_dtype(array.dtype)}, declared is {dtype}: "
            f"use .astype(np.{dtype})"
        )
    return as_array(part, dtype)


python_function: Op = host_op(
    "python_function", _type, _call, {"function": REQUIRED, "dtypes": REQUIRED}, effect=True,
    doc="A Python function of arrays; its results have the declared dtypes and any shapes.",
)  # fmt: skip

__all__ = ["HostFunction", "function_of", "hold", "python_function"]

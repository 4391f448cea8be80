"""Arguments that are shapes, axes or counts: numbers known now, or tensors a run resolves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.ir.dtypes import int32
from graphc.ir.graph import Value, convert
from graphc.ir.types import Shape, as_shape


def is_tensor(x: Any) -> bool:
    """True for values, variables, and sequences that contain one."""
    if isinstance(x, (list, tuple)):
        return any(is_tensor(item) for item in x)
    return isinstance(x, Value) or hasattr(x, "__graphc_value__")


def static_value(x: Any) -> np.ndarray | None:
    """The array of a constant, of the shape of a static tensor, or of stacked such; else None."""
    if not is_tensor(x):
        return np.asarray(x)
    if isinstance(x, (list, tuple)):
        parts = [static_value(item) for item in x]
        return None if any(p is None for p in parts) else np.asarray(parts)
    value = convert(x)
    node = value.node
    if node.op.name == "constant":
        array: np.ndarray = node.attrs["value"].array
        return array
    if node.op.name == "shape" and node.inputs[0].type.is_static:
        return np.array(node.inputs[0].type.static_shape)
    if node.op.name == "stack":
        return static_value(list(node.inputs))
    return None


def shape_argument(shape: Any) -> tuple[tuple[Value, ...], dict[str, Any]]:
    """The inputs and attributes with which an op takes the shape: an attribute when known."""
    known = static_value(shape)
    if known is not None:
        if not is_tensor(shape):
            dims: Shape | None = as_shape(shape)
        else:
            dims = tuple(int(d) for d in np.atleast_1d(known))
        return (), {"shape": dims}
    return (convert_shape(shape),), {"shape": None}


def convert_shape(shape: Any) -> Value:
    """A shape that holds tensors, as one integer vector."""
    if isinstance(shape, (list, tuple)):
        return convert([convert(d, like=int32) for d in shape])
    return convert(shape)


def static_ints(x: Any, what: str) -> tuple[int, ...]:
    """Integers that must be known while the graph is built."""
    known = static_value(x)
    if known is None:
        from graphc.ir.errors import AttributeValueError

        raise AttributeValueError(f"{what} must be known while the graph is built, got {x!r}")
    return tuple(int(v) for v in np.atleast_1d(known))


def as_sequence(x: Any) -> Sequence[Any]:
    """A list or tuple as it is, anything else alone in a list."""
    return x if isinstance(x, (list, tuple)) else [x]

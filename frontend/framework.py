"""Placeholders, constants, groups, scopes: what a program is framed by."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from graphc.ir.dtypes import as_dtype
from graphc.ir.errors import DeviceError, ShapeError
from graphc.ir.graph import Node, Value, as_node, convert, get_default_graph
from graphc.ir.ops import source, state
from graphc.ir.ops.movement import broadcast_to_shape
from graphc.ir.table import OPS
from graphc.ir.types import as_shape, merge_shapes


def placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> Value:
    """A tensor that every run is fed.

    `shape`: sizes; None or -1 for a dim that a run fixes, or a string to name it; None for any
    rank. Unnamed dims are called `<name>.<position>`.
    """
    graph = get_default_graph()
    full = graph.unique_name(name or "placeholder", mark=False)
    dims = as_shape(shape, full)
    return source.placeholder(dtype=as_dtype(dtype), shape=dims, name=name)


def placeholder_with_default(input: Any, shape: Any, name: str | None = None) -> Value:
    """`input`, unless a run feeds another value."""
    value = convert(input)
    merge_shapes(value.type.shape, as_shape(shape), "placeholder_with_default needs its shape")
    return identity(value, name=name or "placeholder_with_default")


def identity(input: Any, name: str | None = None) -> Value:
    """The same value under a name of its own."""
    return OPS["identity"](input, name=name)


def stop_gradient(input: Any, name: str | None = None) -> Value:
    """The same value, through which no gradient flows."""
    return OPS["stop_gradient"](input, name=name)


def constant(
    value: Any,
    dtype: Any = None,
    shape: Any = None,
    name: str | None = None,
    verify_shape: bool = False,
) -> Value:
    """A tensor known now; a scalar is spread over `shape`, an array is given that shape."""
    import numpy as np

    from graphc.ir.graph import as_array

    if shape is None:
        return convert(value, dtype=dtype, name=name)
    array = as_array(value, dtype=dtype)
    dims = tuple(int(d) for d in np.atleast_1d(shape))
    if array.size == 1 and array.shape != dims and not verify_shape:
        return broadcast_to_shape(convert(array.reshape(()), dtype=dtype, name=name), dims)
    if array.shape != dims and (verify_shape or array.size != int(np.prod(dims))):
        raise ShapeError(f"a constant of shape {array.shape} cannot have the shape {dims}")
    return convert(array.reshape(dims), dtype=dtype, name=name)


def convert_to_tensor(
    value: Any, dtype: Any = None, name: str | None = None, preferred_dtype: Any = None
) -> Value:
    """The value as a tensor."""
    del preferred_dtype
    return convert(value, dtype=dtype, name=name)


def no_op(name: str | None = None) -> Node:
    """An op that does nothing but run after its control inputs."""
    return state.no_op.node(name=name)


def group(*inputs: Any, name: str | None = None) -> Node:
    """An op that has run when all inputs have."""
    flat: list[Any] = []
    for item in inputs:
        flat.extend(item if isinstance(item, (list, tuple)) else [item])
    with get_default_graph().control_dependencies([as_node(i) for i in flat if i is not None]):
        return no_op(name=name or "group_deps")


def tuple_(
    tensors: Iterable[Any], name: str | None = None, control_inputs: Any = None
) -> list[Any]:
    """The tensors, each available when all of them (and the control inputs) are computed."""
    items = list(tensors)
    gate = group(*[t for t in items if t is not None], *(control_inputs or []), name=name)
    with get_default_graph().control_dependencies([gate]):
        return [None if t is None else identity(t) for t in items]


def with_dependencies(dependencies: Iterable[Any], output: Any, name: str | None = None) -> Value:
    """`output`, available when the dependencies have run."""
    with get_default_graph().control_dependencies(dependencies):
        return identity(output, name=name)


@contextlib.contextmanager
def name_scope(name: str | None, default_name: str | None = None, values: Any = None) -> Iterator[str]:
    """Names made inside begin with `name/`."""
    del values
    with get_default_graph().name_scope(name or default_name) as scope:
        yield scope


@contextlib.contextmanager
def control_dependencies(control_inputs: Iterable[Any] | None) -> Iterator[None]:
    """Nodes made inside run after the given ones."""
    with get_default_graph().control_dependencies(control_inputs):
        yield


@contextlib.contextmanager
def device(name: Any) -> Iterator[None]:
    """Accepted for TensorFlow's programs: a session runs everything on its own device."""
    if isinstance(name, str) and not re.fullmatch(
        r"(/job:\w+)?(/replica:\d+)?(/task:\d+)?(/?(device:)?[a-zA-Z]+:(\d+|\*))?/?", name
    ):
        raise DeviceError(f"{name!r} is no device name; they are like '/cpu:0' or '/device:GPU:0'")
    yield


def global_variables_initializer(name: str | None = "init") -> Node:
    """An op that gives every global variable its initial value."""
    from graphc.frontend.variables import global_variables

    return variables_initializer(global_variables(), name)


def variables_initializer(var_list: Iterable[Any], name: str | None = "init") -> Node:
    """An op that gives the variables their initial values."""
    return group(*[v.initializer for v in var_list], name=name)


def local_variables_initializer(name: str | None = "init_local") -> Node:
    """An op that gives every local variable its initial value."""
    from graphc.frontend.variables import local_variables

    return variables_initializer(local_variables(), name)

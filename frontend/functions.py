"""Python functions in a graph: the host calls them while a run goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphc.frontend.arguments import as_sequence, as_value
from graphc.ir.dtypes import as_dtype
from graphc.ir.errors import AttributeValueError
from graphc.ir.graph import Node, Value
from graphc.ir.ops.functions import hold, python_function


def py_func(
    func: Callable[..., Any],
    inp: Sequence[Any],
    Tout: Any,
    stateful: bool = True,
    name: str | None = None,
) -> Value | list[Value] | Node:
    """`func` of the inputs as NumPy arrays (a scalar string as bytes), called at every run.

    It gives arrays of the dtypes Tout: one tensor, or a list of them; the op itself where Tout is
    empty. Their shapes are unknown while the graph is built: say them by set_shape(). There is no
    gradient.
    """
    del stateful
    if not callable(func):
        raise AttributeValueError(f"py_func takes a function, got {func!r}")
    listed = isinstance(Tout, (list, tuple))
    dtypes = tuple(as_dtype(d).name for d in as_sequence(Tout))
    node = python_function.node(
        *map(as_value, as_sequence(inp)), function=hold(func), dtypes=dtypes, name=name or "PyFunc"
    )
    if not dtypes:
        return node
    return list(node.outputs) if listed else node.outputs[0]


def numpy_function(
    func: Callable[..., Any],
    inp: Sequence[Any],
    Tout: Any,
    stateful: bool = True,
    name: str | None = None,
) -> Value | list[Value] | Node:
    """`py_func`, as later versions call it."""
    return py_func(func, inp, Tout, stateful, name)


__all__ = ["numpy_function", "py_func"]

"""Functions over graph tensors, as `map` takes them: built once, run per element.

The function's ops form a graph of their own, which a session of the NumPy device runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from graphc.data.elements import (
    Element,
    Spec,
    as_leaf,
    as_leaves,
    flatten,
    map_leaves,
    pack,
    spec_of,
)
from graphc.frontend.sources import placeholder
from graphc.ir.errors import AttributeValueError
from graphc.ir.graph import Graph, Value, constant, get_default_graph
from graphc.ir.types import TensorType
from graphc.runtime.session import Session


class Traced:
    """The graph of a function of one element; a tuple's items are its arguments.

    `result` is what the function gave: a nest of tensors of the own graph, or anything else.
    """

    def __init__(self, function: Callable[..., Any], spec: Spec, what: str) -> None:
        if not callable(function):
            raise AttributeValueError(f"{what} takes a function, got {function!r}")
        self.graph = Graph()
        self.graph.seed = get_default_graph().seed
        with self.graph.as_default():
            element = map_leaves(_argument, spec)
            self.inputs: list[Value] = flatten(element)
            many = isinstance(element, tuple) and not hasattr(element, "_fields")
            self.result = function(*element) if many else function(element)

    def tensors(self) -> Any:
        """The result as a nest of tensors of the own graph; constants for what is none."""
        with self.graph.as_default():
            structure = tuple(self.result) if _is_list(self.result) else self.result
            leaves = as_leaves(structure)
            return map_leaves(lambda v: v if isinstance(v, Value) else constant(v), leaves)

    @functools.cached_property
    def session(self) -> Session:
        """The session that runs the function, made for the first element."""
        return Session(graph=self.graph, device="numpy")

    def callable(self, fetches: list[Value]) -> Callable[[Element], list[np.ndarray]]:
        """The fetches' values as a function of an element."""
        call = self.session.make_callable(fetches, self.inputs)
        return lambda element: [as_leaf(v) for v in call(*flatten(element))]


def _argument(t: TensorType) -> Value:
    shape = None if t.shape is None else [d if isinstance(d, int) else None for d in t.shape]
    return placeholder(t.dtype, shape, name="element")


def _is_list(x: Any) -> bool:
    return isinstance(x, list) and any(isinstance(i, (Value, Mapping, tuple)) for i in x)


def traced_map(function: Callable[..., Any], spec: Spec) -> tuple[Spec, Callable[[], Any]]:
    """The result's specification, and what makes the function of elements."""
    traced = Traced(function, spec, "map")
    result = traced.tensors()
    leaves: list[Value] = flatten(result)

    @functools.cache
    def make() -> Callable[[Element], Element]:
        call = traced.callable(leaves)
        return lambda element: pack(result, call(element))

    return map_leaves(spec_of, result), make

"""Fetches and feeds as the user writes them, made into values, nodes and arrays.

Fetches nest: a tensor, op, variable or name; or a list, tuple, named tuple or dict of fetches.
What has `__graphc_fetch__` is made on the host from other fetches: that method gives these and a
function of their values (so a summary becomes the bytes of an event).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphc.ir.dtypes import as_dtype
from graphc.ir.errors import DTypeError, FeedError, FetchError, NameNotFoundError, ShapeError
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.literal import as_array
from graphc.ir.types import Shape, format_shape


def fetch_element(x: Any, graph: Graph) -> Value | Node:
    """The value or node that one fetch means; FetchError when it is none of the graph's."""
    if isinstance(x, str):
        try:
            return graph.as_graph_element(x)
        except NameNotFoundError as error:
            raise FetchError(f"cannot fetch {x!r}: {error.message}") from None
    to_value = getattr(x, "__graphc_value__", None)
    element = to_value() if to_value is not None else x
    if not isinstance(element, (Value, Node)):
        raise FetchError(
            f"cannot fetch {x!r} of type {type(x).__name__}: "
            "fetches are tensors, ops, variables, their names, or lists, tuples and dicts of them"
        )
    owner = element.node.graph if isinstance(element, Value) else element.graph
    if owner is not graph:
        raise FetchError(f"cannot fetch {element!r}: it belongs to another graph than the session")
    return element


class FetchPlan:
    """A nested fetch taken apart: the distinct values, the nodes to run, and the way back."""

    def __init__(self, fetches: Any, graph: Graph) -> None:
        self.values: list[Value] = []
        self.nodes: list[Node] = []
        self._positions: dict[Value, int] = {}
        self._build = self._take(fetches, graph)

    def _take(self, x: Any, graph: Graph) -> Callable[[Sequence[Any]], Any]:
        if isinstance(x, dict):
            parts = {k: self._take(v, graph) for k, v in x.items()}
            return lambda results: type(x)((k, part(results)) for k, part in parts.items())
        if isinstance(x, (list, tuple)):
            builders = [self._take(v, graph) for v in x]
            if hasattr(x, "_fields"):
                return lambda results: type(x)(*(b(results) for b in builders))
            kind = type(x)
            return lambda results: kind(b(results) for b in builders)
        if hasattr(x, "__graphc_fetch__"):
            needed, finish = x.__graphc_fetch__()
            part = self._take(needed, graph)
            return lambda results: finish(part(results))
        element = fetch_element(x, graph)
        if isinstance(element, Node):
            self.nodes.append(element)
            return lambda results: None
        position = self._positions.setdefault(element, len(self.values))
        if position == len(self.values):
            self.values.append(element)
        return lambda results: results[position]

    def also(self, values: Sequence[Value]) -> Callable[[Sequence[Any]], list[Any]]:
        """Fetch these as well; gives the way to them in the results."""
        for value in values:
            self._positions.setdefault(value, len(self._positions))
        self.values = list(self._positions)
        places = [self._positions[v] for v in values]
        return lambda results: [results[i] for i in places]

    def assemble(self, results: Sequence[Any]) -> Any:
        """The fetched arrays in the shape of the fetches; a scalar array becomes a scalar."""
        return self._build([r[()] if r.ndim == 0 else r for r in results])


def flat_feeds(feeds: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Feeds of tensors alone: one of a tuple of tensors (a SparseTensor) is one of each."""
    if not any(isinstance(key, tuple) for key in feeds):
        return feeds
    flat = {}
    for key, data in feeds.items():
        if not isinstance(key, tuple):
            flat[key] = data
        elif len(key) == len(data):
            flat.update(zip(key, data, strict=True))
        else:
            raise FeedError(f"{len(data)} arrays are fed for {len(key)} tensors: {key!r}")
    return flat


def feed_key(x: Any, graph: Graph) -> Value:
    """The value that a key of feed_dict names."""
    if isinstance(x, str):
        try:
            return graph.get_tensor_by_name(x if ":" in x else f"{x}:0")
        except NameNotFoundError as error:
            raise FeedError(f"cannot feed {x!r}: {error.message}") from None
    to_value = getattr(x, "__graphc_value__", None)
    value = to_value() if to_value is not None else x
    if not isinstance(value, Value):
        raise FeedError(
            f"cannot feed {x!r} of type {type(x).__name__}: keys of feed_dict are tensors"
        )
    if value.node.graph is not graph:
        raise FeedError(f"cannot feed {value!r}: it belongs to another graph than the session")
    return value


def feed_array(value: Value, data: Any) -> np.ndarray:
    """The data as a native array of the value's dtype; FeedError names both types and shapes."""
    dtype = value.type.dtype
    native = isinstance(data, np.ndarray) and data.dtype == dtype.numpy and data.dtype.isnative
    # an array of objects may hold anything
    array = data if native and not dtype.is_string else _converted(value, data)
    shape = value.type.shape
    if shape is not None and array.shape != shape:
        _check_shape(value, array)
    return array


@functools.lru_cache(maxsize=4096)
def _fits(shape: Shape, given: tuple[int, ...]) -> bool:
    """True where only unknown dims differ; remembered, as steps are fed the same shapes."""
    return len(shape) == len(given) and all(
        isinstance(d, str) or d == n for d, n in zip(shape, given, strict=True)
    )


def _check_shape(value: Value, array: np.ndarray) -> None:
    shape = value.type.shape
    assert shape is not None
    if not _fits(shape, array.shape):
        where = f" ({value.node.where})" if value.node.where else ""
        raise FeedError(
            f"cannot feed an array of shape {format_shape(array.shape)} for {value.name!r} of "
            f"shape {format_shape(shape)}{where}"
        )


def _converted(value: Value, data: Any) -> np.ndarray:
    if isinstance(data, Value) or hasattr(data, "__graphc_value__"):
        raise FeedError(f"cannot feed the tensor {data!r} for {value.name!r}: feed its value")
    if hasattr(data, "detach") and hasattr(data, "numpy"):  # a torch tensor, on any device
        data = data.detach().cpu().numpy()
    try:
        return as_array(data, dtype=value.type.dtype)
    except (DTypeError, ShapeError) as error:
        kind = as_dtype_name(data)
        raise FeedError(
            f"cannot feed {kind} for {value.name!r} of {value.type}: {error.message}"
        ) from None


def as_dtype_name(data: Any) -> str:
    """What the data is, for messages."""
    if isinstance(data, np.ndarray):
        if data.dtype.kind == "O":
            return f"an array of objects {format_shape(data.shape)}"
        try:
            return f"an array of {as_dtype(data.dtype)} {format_shape(data.shape)}"
        except DTypeError:
            return f"an array of dtype {data.dtype}"
    return f"{type(data).__name__} {str(data)[:60]}"

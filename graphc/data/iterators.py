"""Iterators: where in a dataset each session is, and the tensors of the next element.

`get_next` gives placeholders that no user feeds: every run that needs one of them takes the next
element (see graphc.ir.host). An iterator stands anew at its beginning in every session that runs
its initializer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator as PythonIterator
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from graphc.data import elements as el
from graphc.data.dataset import Dataset, Run
from graphc.data.elements import Element, Spec
from graphc.frontend.sources import placeholder
from graphc.ir.dtypes import string
from graphc.ir.errors import (
    AttributeValueError,
    DTypeError,
    FeedError,
    OutOfRangeError,
    UninitializedError,
)
from graphc.ir.graph import Node, Value, constant, convert, get_default_graph
from graphc.ir.host import HostAction, HostSource
from graphc.ir.interpret import MissingValue, evaluate
from graphc.ir.table import OPS
from graphc.ir.types import TensorType


class _Position:
    """One session's place in the dataset."""

    def __init__(self, elements: PythonIterator[Element]) -> None:
        self._elements = elements
        self._lock = threading.Lock()

    def next(self) -> Element:
        """The next element; OutOfRangeError behind the last."""
        with self._lock:
            for element in self._elements:
                return element
        raise OutOfRangeError("the dataset has no more elements: end of sequence")


class Iterator(el.Specified):
    """Gives a dataset's elements to runs, one to each. Made by the functions of `data`."""

    def __init__(
        self,
        spec: Spec,
        dataset: Dataset | None,
        one_shot: bool = False,
        handle: Value | None = None,
    ) -> None:
        self.element_spec = spec
        self._dataset = dataset
        self._one_shot = one_shot
        self._handle = handle
        self._name: str | None = None
        self._initializer: Node | None = None
        self._positions: WeakKeyDictionary[Any, _Position] = WeakKeyDictionary()
        self._begun: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        if dataset is not None and not one_shot:
            self._initializer = self.make_initializer(dataset)

    @staticmethod
    def from_structure(
        output_types: Any,
        output_shapes: Any = None,
        shared_name: str | None = None,
        output_classes: Any = None,
    ) -> Iterator:
        """An iterator for several datasets of one structure; see make_initializer."""
        del shared_name, output_classes
        return Iterator(el.given_spec(output_types, output_shapes), None)

    @staticmethod
    def from_string_handle(
        string_handle: Any,
        output_types: Any,
        output_shapes: Any = None,
        output_classes: Any = None,
    ) -> Iterator:
        """The iterator that a run names by feeding what `session.run(it.string_handle())` gave."""
        del output_classes
        handle = convert(string_handle, dtype=string)
        return Iterator(el.given_spec(output_types, output_shapes), None, handle=handle)

    def string_handle(self, name: str | None = None) -> Value:
        """A string by which runs name this iterator."""
        graph = get_default_graph()
        if self._name is None:
            self._name = graph.unique_name("IteratorHandle")
            graph.iterators[self._name.encode()] = self
        return constant(self._name, name=name)

    @property
    def initializer(self) -> Node:
        """The op that puts the iterator at its beginning in the session that runs it."""
        if self._initializer is None:
            kind = (
                "a one-shot iterator begins by itself"
                if self._one_shot
                else ("an iterator of a structure begins by make_initializer(dataset)")
            )
            raise AttributeValueError(f"the iterator has no initializer: {kind}")
        return self._initializer

    def make_initializer(self, dataset: Dataset, name: str | None = None) -> Node:
        """An op that puts the iterator at the dataset's beginning in the session that runs it."""
        _check_structure(self.element_spec, dataset)

        def begin(session: Any, values: Sequence[np.ndarray]) -> None:
            known = dict(zip(dataset.needs, map(np.asarray, values), strict=True))
            self._begin(session, dataset, known)

        node = OPS["no_op"].node(name=name or "MakeIterator")
        get_default_graph().host_actions[node] = HostAction(dataset.needs, begin)
        return node

    def _begin(self, session: Any, dataset: Dataset, known: dict[Value, np.ndarray]) -> None:
        number = self._begun.get(session, 0)
        self._begun[session] = number + 1
        self._positions[session] = _Position(dataset.iterate(Run(known, number)))

    def get_next(self, name: str | None = None) -> Any:
        """The tensors of an element, in its form: each run that needs them takes the next one."""
        types: list[TensorType] = el.flatten(self.element_spec)
        leaves = [_next_placeholder(t, name or "IteratorGetNext") for t in types]
        if self._handle is None:
            source = HostSource(tuple(leaves), self._pull)
        else:
            source = HostSource(tuple(leaves), self._pull_of_named, (self._handle,))
        graph = get_default_graph()
        graph.host_sources.update((v.node, source) for v in leaves)
        return el.pack(self.element_spec, leaves)

    def _pull_of_named(self, session: Any, handle: np.ndarray) -> list[np.ndarray]:
        named = session.graph.iterators.get(handle[()])
        if named is None:
            raise FeedError(f"the graph has no iterator with the handle {handle[()]!r}")
        _check_structure(self.element_spec, named)
        return list(named._pull(session))

    def _pull(self, session: Any) -> list[np.ndarray]:
        position = self._positions.get(session)
        if position is None and self._one_shot and self._dataset is not None:
            self._begin(session, self._dataset, _constants(self._dataset.needs))
            position = self._positions[session]
        if position is None:
            raise UninitializedError(
                "the iterator has not begun in this session; run its initializer first"
            )
        return el.flatten(position.next())


def _next_placeholder(t: TensorType, name: str) -> Value:
    shape = None if t.shape is None else [d if isinstance(d, int) else None for d in t.shape]
    return placeholder(t.dtype, shape, name=name)


def _check_structure(wanted: Spec, dataset: Dataset | Iterator) -> None:
    given = dataset.element_spec
    ours, theirs = el.flatten(wanted), el.flatten(given)
    if len(ours) != len(theirs):
        raise AttributeValueError(f"the iterator is for {wanted}, the dataset gives {given}")
    for a, b in zip(ours, theirs, strict=True):
        if a.dtype is not b.dtype:
            raise DTypeError(f"the iterator is for {a}, the dataset gives {b}")


def _constants(values: Sequence[Value]) -> dict[Value, np.ndarray]:
    """The values of tensors that depend on no run."""
    try:
        return dict(zip(values, evaluate(values), strict=True))
    except MissingValue as missing:
        raise FeedError(
            f"a one-shot iterator's dataset depends on {missing.node.name!r}, which only a run "
            "knows; use make_initializable_iterator()"
        ) from None


def make_one_shot_iterator(dataset: Dataset) -> Iterator:
    """An iterator that begins by itself; for datasets made of constants."""
    return Iterator(dataset.element_spec, dataset, one_shot=True)


def make_initializable_iterator(dataset: Dataset, shared_name: str | None = None) -> Iterator:
    """An iterator that begins when its `initializer` is run."""
    del shared_name
    return Iterator(dataset.element_spec, dataset)


__all__ = ["Iterator", "make_initializable_iterator", "make_one_shot_iterator"]

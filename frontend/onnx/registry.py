"""The table of ONNX operators: what each is in graphc's ops.

A converter takes a `Call` (attributes, opset version, inputs) and gives values. It may ask for
the value of an input (`call.static(1)`) or for sizes (`call.dims(x)`); where these are not known
while the graph is built, `NotKnown` makes the importer defer the op. One that leaves rare uses
to the schema's function raises `AsFunction` before it builds anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from graphc.frontend.entering import entering
from graphc.ir.computation import topological_order
from graphc.ir.errors import ModelError, UnsupportedOp
from graphc.ir.graph import Value
from graphc.ir.interpret import MissingValue, evaluate

_MOST_ELEMENTS: Final = 1 << 27  # of a table that is made while a model is read
_MOST_BYTES: Final = 1 << 28  # of a tensor that is computed while a model is read


class NotKnown(Exception):
    """A value or size is needed that is known only when the program is specialized."""


class AsFunction(Exception):
    """This use of the operator is read by the function that its schema gives as its meaning."""


@dataclass
class Call:
    """One node of a model, to be converted. Optional inputs that are left out are None."""

    op: str
    version: int
    name: str
    attrs: dict[str, Any]
    inputs: list[Value | None]
    output_count: int
    host: Callable[[Value], np.ndarray]
    importer: Any = None  # converts the graphs that are attributes

    def x(self, i: int = 0) -> Value:
        """Input i, which must be there."""
        value = self.get(i)
        if value is None:
            raise self.refused(f"input {i} is missing")
        return value

    def get(self, i: int) -> Value | None:
        """Input i, or None where it is left out."""
        return self.inputs[i] if i < len(self.inputs) else None

    def given(self) -> list[Value]:
        """All inputs, which must be there."""
        return [self.x(i) for i in range(len(self.inputs))]

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute, or the default."""
        return self.attrs.get(name, default)

    def static(self, i: int) -> np.ndarray | None:
        """The value of input i; None where it is left out."""
        value = self.get(i)
        return None if value is None else self.host(value)

    def value(self, i: int) -> np.ndarray:
        """The value of input i, which must be there."""
        return self.host(self.x(i))

    def ints(self, name: str, i: int | None = None, default: Any = None) -> Any:
        """A list of ints given as an attribute or, in later opsets, as input i."""
        if name in self.attrs:
            given = self.attrs[name]
            return [given] if isinstance(given, int) else list(given)
        value = None if i is None else self.static(i)
        return default if value is None else [int(v) for v in value.ravel()]

    def dims(self, value: Value) -> tuple[int, ...]:
        """The value's sizes."""
        if not value.type.is_static:
            raise NotKnown
        return value.type.static_shape

    def rank(self, value: Value) -> int:
        """The number of the value's dims."""
        if value.type.rank is None:
            raise NotKnown
        return value.type.rank

    def check_table(self, *sizes: int) -> None:
        """ModelError where a table of that shape, which is made now, would be absurdly large."""
        if math.prod(max(int(n), 0) for n in sizes) > _MOST_ELEMENTS:
            shape = " x ".join(str(n) for n in sizes)
            raise ModelError(f"{self.where}: a table of {shape} numbers is absurd")

    def refused(self, why: str) -> UnsupportedOp:
        """The error that names op, opset version and node."""
        return UnsupportedOp(f"{self.where}: {why}")

    @property
    def where(self) -> str:
        """The node, for messages."""
        return f"ONNX op {self.op} of opset {self.version}, node {self.name!r}"


Converter: TypeAlias = Callable[[Call], "Value | Sequence[Value]"]

CONVERTERS: Final[dict[str, Converter]] = {}
converter: Final = entering(CONVERTERS)


def known_value(value: Value) -> np.ndarray:
    """What follows from constants and static shapes; NotKnown otherwise, or where it is large."""
    nodes = topological_order([value.node])
    types = (t for node in nodes if node.op.name != "constant" for t in node.types)
    if any(t.is_static and t.nbytes > _MOST_BYTES for t in types):
        raise NotKnown
    try:
        return evaluate([value])[0]
    except MissingValue:
        raise NotKnown from None

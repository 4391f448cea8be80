"""The table of converters of TensorFlow's ops, and a node as a converter sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeAlias

import numpy as np

from graphc.frontend.arguments import constant_value
from graphc.frontend.entering import entering
from graphc.ir.dtypes import DType
from graphc.ir.errors import UnsupportedOp
from graphc.ir.graph import Value
from graphc.ir.graphdef import dtype_of, make_ndarray, shape_of


@dataclass(frozen=True)
class Call:
    """One node: its op, its name in the graph (a scope, with a slash), inputs and attributes.

    `node` is its name in the file.
    """

    op: str
    name: str
    inputs: Sequence[Value]
    attrs: Any
    node: str

    def x(self, number: int = 0) -> Value:
        """An input; UnsupportedOp where there is none."""
        if number >= len(self.inputs):
            self.refuse(f"it has {len(self.inputs)} inputs")
        return self.inputs[number]

    def numbers(self, number: int) -> np.ndarray:
        """The value of an input that must be known while the graph is built."""
        known = constant_value(self.x(number))
        if known is None:
            self.refuse(f"its input {number} must be a constant")
        return known

    def axes(self, number: int) -> tuple[int, ...]:
        """An input of known integers."""
        return tuple(int(n) for n in self.numbers(number).ravel())

    def flag(self, key: str, default: bool = False) -> bool:
        """An attribute: true or false."""
        return bool(self.attrs[key].b) if key in self.attrs else default

    def number(self, key: str, default: int = 0) -> int:
        """An attribute: an integer."""
        return int(self.attrs[key].i) if key in self.attrs else default

    def real(self, key: str, default: float = 0.0) -> float:
        """An attribute: a float."""
        return float(self.attrs[key].f) if key in self.attrs else default

    def text(self, key: str, default: str = "") -> str:
        """An attribute: a text."""
        return str(self.attrs[key].s.decode()) if key in self.attrs else default

    def ints(self, key: str, default: Sequence[int] = ()) -> list[int]:
        """An attribute: a list of integers."""
        found = [int(i) for i in self.attrs[key].list.i] if key in self.attrs else []
        return found or list(default)

    def dtype(self, key: str, default: DType | None = None) -> DType:
        """An attribute: a dtype."""
        if key not in self.attrs:
            if default is None:
                self.refuse(f"it has no attribute {key!r}")
            return default
        return dtype_of(self.attrs[key].type, self.where)

    def shape(self, key: str) -> tuple[int | None, ...] | None:
        """An attribute: a shape."""
        return shape_of(self.attrs[key].shape) if key in self.attrs else None

    def tensor(self, key: str) -> np.ndarray:
        """An attribute: a tensor."""
        return make_ndarray(self.attrs[key].tensor, self.where)

    @property
    def where(self) -> str:
        """Op and node, for messages."""
        return f"TensorFlow op {self.op}, node {self.node!r}"

    def refuse(self, why: str) -> NoReturn:
        """UnsupportedOp that names op and node."""
        raise UnsupportedOp(f"{self.where}: {why}")


Result: TypeAlias = "Value | Sequence[Value] | None"
Converter: TypeAlias = Callable[[Call], Result]
CONVERTERS: Final[dict[str, Converter]] = {}
converter: Final = entering(CONVERTERS)

"""The loop IR as JSON and back, so that a compiled program can be kept in a file.

A dataclass is an object whose "$" names its class, with the fields that differ from their
defaults; tuples are lists; a dict is a list of pairs. Arrays stand apart, under keys. Only classes
that the reader names are made, and no code of a file is ever run.

Lines of the user's program are left out: a file that travels does not tell where it was made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

import numpy as np

from graphc.ir import loop
from graphc.ir.dtypes import DType, as_dtype
from graphc.ir.errors import UnsupportedOp
from graphc.ir.literal import Literal

LOOP_CLASSES: Final = (
    loop.Axis, loop.Linear, loop.Guard, loop.Access, loop.Load, loop.Gather, loop.Const,
    loop.Index, loop.Ref, loop.Apply, loop.Let, loop.Reduce, loop.Fold, loop.Dot, loop.Store,
    loop.Call, loop.Carried, loop.Repeat, loop.Branch, loop.Kernel, loop.Buffer, loop.MemoryPlan,
    loop.Program,
)  # fmt: skip
_LEFT_OUT: Final[dict[type, tuple[str, ...]]] = {loop.Kernel: ("where",)}


class Encoder:
    """Makes JSON of values; `arrays` has, by key, the arrays that they hold."""

    def __init__(self, more: Iterable[type] = ()) -> None:
        self.classes = {c.__name__: c for c in (*LOOP_CLASSES, *more)}
        self.arrays: dict[str, np.ndarray] = {}
        self._keys: dict[Literal, str] = {}

    def encode(self, x: Any) -> Any:
        """The value as what the json module writes. UnsupportedOp for what has no such form."""
        if x is None or isinstance(x, (bool, int, str)):
            return x
        if isinstance(x, (float, np.generic)):
            return _number(x)
        if isinstance(x, DType):
            return {"$": "dtype", "name": x.name}
        if isinstance(x, Literal):
            return {"$": "array", "key": self._key(x)}
        if type(x).__name__ in self.classes and type(x) is self.classes[type(x).__name__]:
            return self._object(x)
        if isinstance(x, (tuple, list)):
            return [self.encode(v) for v in x]
        if isinstance(x, Mapping):
            return {"$": "map", "items": [[k, self.encode(v)] for k, v in x.items()]}
        raise UnsupportedOp(f"a program with {type(x).__name__} in it cannot be written to a file")

    def _key(self, literal: Literal) -> str:
        key = self._keys.setdefault(literal, f"constant.{len(self._keys)}")
        self.arrays[key] = literal.array
        return key

    def _object(self, x: Any) -> Any:
        result: dict[str, Any] = {"$": type(x).__name__}
        if not is_dataclass(x):  # a named tuple
            return result | {n: self.encode(getattr(x, n)) for n in x._fields}
        for f in fields(x):
            value = getattr(x, f.name)
            is_default = value is f.default or (f.default == () and value == ())
            if not is_default and f.name not in _LEFT_OUT.get(type(x), ()):
                result[f.name] = self.encode(value)
        return result


def _number(x: Any) -> Any:
    value = x.item() if isinstance(x, np.generic) else x
    if isinstance(value, float) and not math.isfinite(value):
        return {"$": "float", "value": str(value)}
    return value


class Decoder:
    """Makes values of JSON; KeyError, TypeError or ValueError where it is not what was written."""

    def __init__(self, arrays: Mapping[str, np.ndarray], more: Iterable[type] = ()) -> None:
        self.classes: dict[str, Any] = {c.__name__: c for c in (*LOOP_CLASSES, *more)}
        self.arrays = arrays
        self._literals: dict[str, Literal] = {}

    def decode(self, x: Any) -> Any:
        """The value that was encoded; lists have become tuples."""
        if isinstance(x, list):
            return tuple([self.decode(v) for v in x])
        if not isinstance(x, dict):
            return x
        match x["$"]:
            case "float":
                return float(x["value"])
            case "dtype":
                return as_dtype(x["name"])
            case "array":
                return self._literal(x["key"])
            case "map":
                return {k: self.decode(v) for k, v in x["items"]}
            case name:
                made = {k: self.decode(v) for k, v in x.items() if k != "$"}
                return self.classes[name](**made)

    def _literal(self, key: str) -> Literal:
        if key not in self._literals:
            self._literals[key] = Literal(self.arrays[key])
        return self._literals[key]


__all__ = ["LOOP_CLASSES", "Decoder", "Encoder"]

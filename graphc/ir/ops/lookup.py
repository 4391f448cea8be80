"""Tables from keys to values, both known while the graph is built: vocabularies, labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphc.ir.dtypes import as_dtype
from graphc.ir.errors import DTypeError
from graphc.ir.ops.strings import host_op, objects
from graphc.ir.table import REQUIRED, Attrs, Op, Types
from graphc.ir.types import TensorType


def _type(types: Types, attrs: Attrs) -> TensorType:
    keys, dtype = attrs["keys"], as_dtype(attrs["dtype"])
    if keys and isinstance(keys[0], str) != types[0].dtype.is_string:
        kind = "strings" if isinstance(keys[0], str) else "numbers"
        raise DTypeError(f"the table's keys are {kind}, got {types[0]}")
    return types[0].with_dtype(dtype)


def _table(attrs: Attrs) -> Mapping[Any, Any]:
    return dict(zip(map(_plain, attrs["keys"]), map(_plain, attrs["values"]), strict=True))


def _plain(x: Any) -> Any:
    """Strings stand in attributes as text of latin-1."""
    return x.encode("latin-1") if isinstance(x, str) else x


def _lookup(attrs: Attrs, x: np.ndarray) -> np.ndarray:
    table, rest, dtype = _table(attrs), _plain(attrs["default"]), as_dtype(attrs["dtype"])
    found = [table.get(key, rest) for key in x.ravel().tolist()]
    if dtype.is_string:
        return objects(found, x.shape)
    return np.array(found, dtype.numpy).reshape(x.shape)


lookup: Op = host_op(
    "lookup", _type, _lookup,
    {"keys": REQUIRED, "values": REQUIRED, "default": REQUIRED, "dtype": REQUIRED},
    doc="The values at keys, and the default at others. Strings stand in attributes as latin-1.",
)  # fmt: skip

__all__ = ["lookup"]

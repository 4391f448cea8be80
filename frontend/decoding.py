"""Bytes read as numbers: those of strings, or of vectors of uint8."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from graphc.frontend.arguments import as_value, either
from graphc.ir.dtypes import as_dtype
from graphc.ir.graph import Value
from graphc.ir.table import OPS


def decode_raw(
    input_bytes: Any = None,
    out_type: Any = None,
    little_endian: bool = True,
    name: str | None = None,
    bytes: Any = None,
) -> Value:
    """Strings [..] of n bytes, or uint8 [.., n] -> [.., n / size of a number] of `out_type`.

    How long strings are is unknown while the graph is built: set_shape() or reshape() says it.
    """
    data = either("input_bytes", input_bytes, "bytes", bytes)
    given = np.frombuffer(data, np.uint8) if isinstance(data, builtins.bytes) else data
    return OPS["decode_raw"](
        as_value(given), dtype=as_dtype(out_type), little_endian=little_endian, name=name
    )


__all__ = ["decode_raw"]

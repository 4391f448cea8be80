"""Looking at values while a run goes on: `Print`, and checks that fail the run.

They act when the value that they give is used: put it in the place of the one looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.frontend.arguments import as_value
from graphc.ir.errors import UnsupportedOp
from graphc.ir.graph import Value
from graphc.ir.table import OPS


def Print(
    input_: Any,
    data: Sequence[Any],
    message: str | None = None,
    first_n: int | None = None,
    summarize: int | None = None,
    name: str | None = None,
) -> Value:
    """`input_`, which prints `data` to stderr whenever it is computed.

    Of each tensor the first `summarize` elements (3; -1: all).
    """
    if first_n not in (None, -1):
        raise UnsupportedOp(f"Print(first_n={first_n}) is not offered: it prints at every run")
    return OPS["print"](
        as_value(input_),
        *[as_value(d) for d in data],
        message=message or "",
        summarize=3 if summarize is None else summarize,
        name=name or "Print",
    )


def check_numerics(tensor: Any, message: str, name: str | None = None) -> Value:
    """`tensor`; a run in which it holds NaN or infinity raises NumericsError."""
    value = as_value(tensor)
    where = f" ({value.node.where})" if value.node.where else ""
    text = f"{message}: tensor {value.name!r}{where}"
    return OPS["check_numerics"](value, message=text, name=name or "CheckNumerics")


__all__ = ["Print", "check_numerics"]

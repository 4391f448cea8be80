"""How values, dtypes, attributes and reductions are spelled in NumPy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from graphc.ir.dtypes import DType, bool_

# what reduces, by the name of the loop IR's reduction
REDUCE: Final[Mapping[str, str]] = {
    "sum": "np.add", "prod": "np.multiply", "max": "np.maximum", "min": "np.minimum",
    "any": "np.logical_or", "all": "np.logical_and",
}  # fmt: skip

# NumPy warns of a positional third argument of these: it looks like a third operand
_KEYWORD_OUT: Final = frozenset({"np.maximum", "np.minimum"})


def numpy_name(dtype: DType) -> str:
    """NumPy's attribute for a dtype that it has itself."""
    return "bool_" if dtype is bool_ else dtype.name


def literal(value: float | int | bool, dtype: DType) -> str:
    """A Python scalar; NumPy gives it the dtype of the array that it meets."""
    if dtype.is_bool:
        return str(bool(value))
    if dtype.is_floating:
        number = float(value)
        if math.isnan(number):
            return "np.nan"
        return repr(number) if math.isfinite(number) else ("np.inf" if number > 0 else "-np.inf")
    return str(int(value))


def attributes_text(attrs: Mapping[str, object]) -> str:
    """The attributes as a Python literal; dtypes by name."""
    return "{" + ", ".join(f'"{k}": {_literal(v)}' for k, v in attrs.items()) + "}"


def _literal(value: object) -> str:
    if isinstance(value, DType):
        return f'as_dtype("{value.name}")'
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return repr(value)


def call_text(
    function: str, arguments: Sequence[str], attrs: Sequence[tuple[str, Any]], out: str
) -> str:
    """A call that puts its result into `out`."""
    given = "".join(f", {k}={v!r}" for k, v in attrs)
    keyword = "out=" if given or function in _KEYWORD_OUT else ""
    return f"{function}({', '.join(arguments)}{given}, {keyword}{out})"


def reduce_text(op: str, text: str, axes: Sequence[int], out: str) -> str:
    """The reduction of an array over `axes`, which stay with size 1, into `out`."""
    if op.startswith("arg"):
        return f"s.arg_reduce(np.{op}, {text}, {tuple(axes)}, {out})"
    return f"{REDUCE[op]}.reduce({text}, {tuple(axes)}, out={out}, keepdims=True)"

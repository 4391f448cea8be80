"""Looking at values while a run goes on: `Print`, and checks that fail the run.

They act when the value that they give is used, or when a run reaches them through
control_dependencies(). What a check raises leaves every variable as it was.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.frontend.arguments import as_sequence, as_value, constant_value, is_tensor, same_dtype
from graphc.ir.errors import NumericsError
from graphc.ir.graph import Node, Value, convert
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops.functions import hold
from graphc.ir.table import OPS


def Print(
    input_: Any,
    data: Sequence[Any],
    message: str | None = None,
    first_n: int | None = None,
    summarize: int | None = None,
    name: str | None = None,
) -> Value:
    """`input_`, which prints `data` to stderr whenever it is computed, or the first_n times.

    Of each tensor the first `summarize` elements (3; -1: all).
    """
    texts, values = _texts_apart(data)
    limited = first_n is not None and first_n >= 0
    return OPS["print"](
        as_value(input_), *values, texts=texts, message=message or "",
        summarize=3 if summarize is None else summarize,
        first_n=first_n if limited else -1,
        counter=hold(itertools.count().__next__) if limited else None, name=name or "Print",
    )  # fmt: skip


def _texts_apart(data: Sequence[Any]) -> tuple[tuple[str | None, ...], list[Value]]:
    """Texts that are known now, None in the places of the others; and these as tensors."""
    texts: list[str | None] = []
    values: list[Value] = []
    for item in as_sequence(data):
        text = _known_text(item)
        texts.append(text)
        if text is None:
            values.append(as_value(item))
    return tuple(texts), values


def _known_text(item: Any) -> str | None:
    known = constant_value(item) if is_tensor(item) else item
    if isinstance(known, np.ndarray) and known.dtype.kind == "O" and known.ndim == 0:
        known = known[()]
    if isinstance(known, bytes):
        return known.decode("utf-8", "replace")
    return known if isinstance(known, str) else None


def Assert(
    condition: Any, data: Sequence[Any], summarize: int | None = None, name: str | None = None
) -> Node:
    """An op that raises NumericsError with the data where a condition is false.

    At once where it is known while the graph is built, else in every run that reaches it.
    """
    texts, values = _texts_apart(data)
    value = as_value(condition)
    where = f" ({value.node.where})" if value.node.where else ""
    known = constant_value(value)
    if known is not None and value.dtype.is_bool and not known.all() and not values:
        raise NumericsError(f"assertion failed: {' '.join(f'[{t}]' for t in texts)}{where}")
    return OPS["assert"](
        value, *values, texts=texts, where=where, summarize=3 if summarize is None else summarize,
        name=name or "Assert",
    ).node  # fmt: skip


def _comparison(what: str, compare: Callable[..., Value]) -> Callable[..., Node]:
    def check(
        x: Any,
        y: Any,
        data: Sequence[Any] | None = None,
        summarize: int | None = None,
        message: str | None = None,
        name: str | None = None,
    ) -> Node:
        a, b = same_dtype([x, y])
        given = [message or "", f"not {what}: x (", a, ") y (", b, ")"] if data is None else data
        holds = OPS["reduce_all"](compare(a, b))
        return Assert(holds, given, summarize, name or "assert")

    check.__doc__ = f"An op that raises NumericsError unless {what} everywhere."
    return check


def _sign(what: str, compare: Callable[..., Value]) -> Callable[..., Node]:
    def check(
        x: Any,
        data: Sequence[Any] | None = None,
        summarize: int | None = None,
        message: str | None = None,
        name: str | None = None,
    ) -> Node:
        value = as_value(x)
        given = [message or "", f"not {what}: ", value] if data is None else data
        holds = OPS["reduce_all"](compare(value, convert(0, like=value.dtype)))
        return Assert(holds, given, summarize, name or "assert")

    check.__doc__ = f"An op that raises NumericsError unless {what} everywhere."
    return check


assert_equal = _comparison("x == y", pw.equal)
assert_none_equal = _comparison("x != y", pw.not_equal)
assert_less = _comparison("x < y", pw.less)
assert_less_equal = _comparison("x <= y", pw.less_equal)
assert_greater = _comparison("x > y", pw.greater)
assert_greater_equal = _comparison("x >= y", pw.greater_equal)
assert_positive = _sign("x > 0", pw.greater)
assert_negative = _sign("x < 0", pw.less)
assert_non_negative = _sign("x >= 0", pw.greater_equal)
assert_non_positive = _sign("x <= 0", pw.less_equal)


def check_numerics(tensor: Any, message: str, name: str | None = None) -> Value:
    """`tensor`; a run in which it holds NaN or infinity raises NumericsError."""
    value = as_value(tensor)
    where = f" ({value.node.where})" if value.node.where else ""
    text = f"{message}: tensor {value.name!r}{where}"
    return OPS["check_numerics"](value, message=text, name=name or "CheckNumerics")


__all__ = [
    "Assert", "Print", "assert_equal", "assert_greater", "assert_greater_equal", "assert_less",
    "assert_less_equal", "assert_negative", "assert_non_negative", "assert_non_positive",
    "assert_none_equal", "assert_positive", "check_numerics",
]  # fmt: skip

"""Ops that hand a value on and look at it on the host: printing, and checking.

What a check raises fails the run before any variable changes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from graphc.ir.dtypes import bool_
from graphc.ir.errors import DTypeError, NumericsError
from graphc.ir.graph import Node, Value
from graphc.ir.ops.functions import function_of
from graphc.ir.ops.pointwise import check_category
from graphc.ir.table import (
    EFFECT,
    REQUIRED,
    STRINGS,
    Attrs,
    Kind,
    NoGradient,
    Op,
    Sample,
    Types,
    register,
)
from graphc.ir.types import TensorType


def _grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    return [grads[0], *(None for _ in node.inputs[1:])]


def _print(attrs: Attrs, x: np.ndarray, *shown: np.ndarray) -> np.ndarray:
    count = function_of(attrs["counter"])() if attrs["counter"] else 0
    if count < attrs["first_n"] or attrs["first_n"] < 0:
        texts = "".join(f"[{t}]" for t in _texts(attrs, shown))
        print(attrs["message"] + texts, file=sys.stderr)
    return x


def _texts(attrs: Attrs, shown: Sequence[np.ndarray]) -> list[str]:
    """The fixed texts, and in their gaps what is known only now."""
    rest = iter(shown)
    known = [t if t is not None else _text(next(rest), attrs["summarize"]) for t in attrs["texts"]]
    return [*known, *(_text(a, attrs["summarize"]) for a in rest)]


def _text(array: np.ndarray, summarize: int) -> str:
    """The first elements, as TensorFlow writes them."""
    items = array.ravel().tolist() if array.dtype.kind == "O" else list(array.ravel())
    words = [x.decode("utf-8", "replace") if isinstance(x, bytes) else str(x) for x in items]
    if array.ndim == 0:
        return words[0]
    count = array.size if summarize < 0 else summarize
    return " ".join(words[:count]) + ("..." if array.size > count else "")


print_: Op = register(
    Op(
        "print",
        Kind.OPAQUE,
        lambda types, _: types[0],
        numpy=_print,
        attrs={"message": "", "summarize": 3, "texts": (), "first_n": -1, "counter": None},
        grad=_grad,
        facts=frozenset({EFFECT, STRINGS}),
        samples=lambda: [
            Sample((np.arange(6, dtype=np.float32).reshape(2, 3),)),
            Sample((np.array(2, np.float32), np.arange(5, dtype=np.int32)), {"message": "x: "}),
            Sample((np.array(2, np.float32), np.array(3, np.int32)), {"texts": ("a", None, "b")}),
        ],
        doc="""The first input; the others are written to stderr, of each `summarize` elements.

        texts: what is written among them, None where the next input stands. first_n: how often,
        as `counter` (see graphc.ir.ops.functions) counts it; -1: always.""",
    )
)


def _assert_type(types: Types, _: Attrs) -> TensorType:
    if types[0].dtype is not bool_:
        raise DTypeError(f"a condition is bool, got {types[0]}")
    return types[0]


def _assert(attrs: Attrs, condition: np.ndarray, *shown: np.ndarray) -> np.ndarray:
    if not condition.all():
        texts = "".join(f" [{t}]" for t in _texts(attrs, shown))
        raise NumericsError(f"assertion failed:{texts}{attrs['where']}")
    return condition


assert_: Op = register(
    Op(
        "assert",
        Kind.OPAQUE,
        _assert_type,
        numpy=_assert,
        attrs={"summarize": 3, "texts": (), "where": ""},
        grad=NoGradient("a condition is no float", zero=True),
        facts=frozenset({EFFECT, STRINGS}),
        samples=lambda: [
            Sample((np.array(True),)),
            Sample((np.array([True, True]), np.arange(3)), {"texts": ("x is", None)}),
        ],
        doc="The condition; NumericsError with the other inputs' elements where it is false.",
    )
)


def _check_type(types: Types, _: Attrs) -> TensorType:
    check_category(types, "float")
    return types[0]


def _check(attrs: Attrs, x: np.ndarray) -> np.ndarray:
    wide = x.astype(np.float64, copy=False)
    nans, infinities = int(np.isnan(wide).sum()), int(np.isinf(wide).sum())
    if nans or infinities:
        raise NumericsError(f"{attrs['message']}: {nans} NaN and {infinities} infinities")
    return x


check_numerics: Op = register(
    Op(
        "check_numerics",
        Kind.OPAQUE,
        _check_type,
        numpy=_check,
        attrs={"message": REQUIRED},
        grad=_grad,
        samples=lambda: [
            Sample((np.arange(6, dtype=np.float32).reshape(2, 3),), {"message": "x"}),
            Sample((np.array(2, np.float32),), {"message": "x"}),
        ],
        doc="The input; NumericsError when it holds NaN or infinity.",
    )
)

"""Ops that hand a value on and look at it on the host: printing, and checking for NaN.

What a check raises fails the run before any variable changes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from graphc.ir.errors import NumericsError
from graphc.ir.graph import Node, Value
from graphc.ir.ops.pointwise import check_category
from graphc.ir.table import REQUIRED, Attrs, Kind, Op, Sample, Types, register
from graphc.ir.types import TensorType


def _grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    return [grads[0], *(None for _ in node.inputs[1:])]


def _print(attrs: Attrs, x: np.ndarray, *shown: np.ndarray) -> np.ndarray:
    texts = "".join(f"[{_text(a, attrs['summarize'])}]" for a in shown)
    print(attrs["message"] + texts, file=sys.stderr)
    return x


def _text(array: np.ndarray, summarize: int) -> str:
    """The first elements, as TensorFlow writes them."""
    if array.ndim == 0:
        return str(array[()])
    count = array.size if summarize < 0 else summarize
    some = " ".join(str(x) for x in array.ravel()[:count])
    return some + ("..." if array.size > count else "")


print_: Op = register(
    Op(
        "print",
        Kind.OPAQUE,
        lambda types, _: types[0],
        numpy=_print,
        attrs={"message": "", "summarize": 3},
        grad=_grad,
        samples=lambda: [
            Sample((np.arange(6, dtype=np.float32).reshape(2, 3),)),
            Sample((np.array(2, np.float32), np.arange(5, dtype=np.int32)), {"message": "x: "}),
        ],
        doc="The first input; the others are written to stderr, of each `summarize` elements.",
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

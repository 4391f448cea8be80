"""Drawing classes: candidates for sampled losses, from uniform, Zipfian or given distributions.

Unique candidates are drawn until there are enough of them, however many draws that takes; so the
op is a routine on the host, whose random bits are Philox by key, draw and run like all others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from graphc.ir.dtypes import int64
from graphc.ir.elementwise import philox
from graphc.ir.errors import AttributeValueError
from graphc.ir.ops import pointwise as pw
from graphc.ir.table import REQUIRED, Attrs, Kind, NoGradient, Op, Sample, Types, register
from graphc.ir.types import TensorType

_BLOCK: Final = 1 << 12  # draws at a time


def _type(types: Types, attrs: Attrs) -> Types:
    pw.check_category(types, "int")
    count, size, weights = attrs["count"], attrs["range_max"], attrs["weights"]
    for name in ("count", "range_max"):
        value = attrs[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise AttributeValueError(f"{name} of sampled classes is a positive number: {value!r}")
    if attrs["distribution"] not in ("uniform", "log_uniform", "weights"):
        raise AttributeValueError(f"unknown distribution of classes: {attrs['distribution']!r}")
    possible = size if weights is None else sum(w > 0 for w in weights)
    if attrs["unique"] and count > possible:
        raise AttributeValueError(f"cannot draw {count} different classes of {possible}")
    return TensorType(int64, (count,)), TensorType(int64, ())


def _draw(attrs: Attrs, first: int, count: int, run: int) -> np.ndarray:
    """Classes for the draws first, first + 1, ..."""
    at = np.arange(first, first + count, dtype=np.int64)
    unit = philox(at, np.asarray(run), attrs["key"]).astype(np.float64) * 2.0**-32
    size: int = attrs["range_max"]
    drawn: np.ndarray
    if attrs["distribution"] == "uniform":
        drawn = unit * size
    elif attrs["distribution"] == "log_uniform":
        drawn = np.exp(unit * math.log1p(size)) - 1
    else:
        ends = np.cumsum(np.asarray(attrs["weights"], np.float64))
        drawn = np.searchsorted(ends, unit * ends[-1], side="right")
    return np.clip(drawn.astype(np.int64), 0, size - 1)


def _sample(attrs: Attrs, run: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count, number = attrs["count"], int(run)
    if not attrs["unique"]:
        return _draw(attrs, 0, count, number), np.asarray(count, np.int64)
    picked: dict[int, None] = {}
    first = 0
    while True:
        for tries, drawn in enumerate(_draw(attrs, first, _BLOCK, number).tolist(), first + 1):
            picked[drawn] = None
            if len(picked) == count:
                return np.fromiter(picked, np.int64, count), np.asarray(tries, np.int64)
        first += _BLOCK


def _samples() -> Iterable[Sample]:
    run = np.asarray(3, np.int64)
    for attrs in (
        {"count": 7, "range_max": 20, "unique": True, "distribution": "log_uniform"},
        {"count": 9, "range_max": 4, "unique": False, "distribution": "uniform"},
        {"count": 5, "range_max": 5, "unique": True, "distribution": "uniform"},
        {"count": 2, "range_max": 4, "unique": True, "distribution": "weights",
         "weights": (0.0, 2.0, 0.0, 1.0)},
    ):  # fmt: skip
        yield Sample((run,), {**attrs, "key": 77})


sample_classes: Op = register(
    Op(
        "sample_classes", Kind.OPAQUE, _type, numpy=_sample, samples=_samples,
        attrs={
            "count": REQUIRED, "range_max": REQUIRED, "unique": REQUIRED, "key": REQUIRED,
            "distribution": REQUIRED, "weights": None,
        },
        grad=NoGradient("classes are integers", zero=True),
        doc="""`count` classes below range_max, and how many draws that took; of the run counter.

        Log-uniform: class k with probability log((k + 2) / (k + 1)) / log(range_max + 1). `unique`:
        a class that was drawn before is drawn again. `weights`: those of all classes.""",
    )
)  # fmt: skip


def probabilities(attrs: Any) -> np.ndarray:
    """The probability of each class in one draw, for the distributions that have a table."""
    weights = np.asarray(attrs["weights"], np.float64)
    shares: np.ndarray = weights / weights.sum()
    return shares

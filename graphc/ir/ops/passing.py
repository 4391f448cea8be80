"""Ops that hand a value on (identity, stop_gradient), and ranges of numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.ir.dtypes import int64
from graphc.ir.errors import AttributeValueError
from graphc.ir.graph import Node, Value, convert
from graphc.ir.ops.movement import movement, reshape_to
from graphc.ir.ops.pointwise import cast
from graphc.ir.ops.source import iota
from graphc.ir.table import REQUIRED, Attrs, Kind, NoGradient, Op, Sample, Types, register
from graphc.ir.types import UNKNOWN, TensorType


def _x() -> np.ndarray:
    return np.arange(6, dtype=np.float32).reshape(2, 3) - 2


identity = movement(
    "identity",
    lambda types, _: types[0],
    lambda attrs, x: x,
    lambda node, inputs: inputs[0],
    lambda g, x, attrs: [g],
    attrs={},
    samples=lambda: [Sample((_x(),)), Sample((np.array(3, np.float32),))],
    doc="The input itself, under another name.",
)

stop_gradient = register(
    Op(
        "stop_gradient",
        Kind.MOVEMENT,
        lambda types, _: types[0],
        numpy=lambda attrs, x: x,
        view=lambda node, inputs: inputs[0],
        grad=NoGradient("it stops gradients: its output counts as a constant", zero=True),
        samples=lambda: [Sample((_x(),))],
        doc="The input, which counts as a constant in gradients.",
    )
)

_ENDS = ("start", "limit", "delta")


def _range_type(types: Types, attrs: Attrs) -> TensorType:
    if any(attrs[name] is None for name in _ENDS):
        return TensorType(attrs["dtype"], (UNKNOWN,))
    return TensorType(attrs["dtype"], (_count(attrs),))


def _count(attrs: Attrs) -> int:
    start, limit, delta = (attrs[name] for name in _ENDS)
    if delta == 0:
        raise AttributeValueError(f"range({start}, {limit}, {delta}) never ends: delta is 0")
    count: int = math.ceil((limit - start) / delta)
    return max(count, 0)


def _range_numpy(attrs: Attrs, *ends: np.ndarray) -> np.ndarray:
    values = [e.item() for e in ends] if ends else [attrs[name] for name in _ENDS]
    known: Any = dict(zip(_ENDS, values, strict=True))
    steps = np.arange(_count(known)) * known["delta"] + known["start"]
    return np.asarray(steps).astype(attrs["dtype"].numpy)


def _range(node: Node) -> Value:
    count = node.types[0].static_shape[0]
    dtype = node.types[0].dtype
    steps = cast(iota(shape=(count,), axis=0, dtype=int64), dtype=dtype)
    start, delta = node.attrs["start"], node.attrs["delta"]
    scaled = steps if delta == 1 else steps * convert(delta, dtype=dtype)
    shifted = scaled if start == 0 else scaled + convert(start, dtype=dtype)
    return reshape_to(shifted, (count,))


range_ = register(
    Op(
        "range",
        Kind.COMPOSITE,
        _range_type,
        numpy=_range_numpy,
        attrs={"dtype": REQUIRED, "start": None, "limit": None, "delta": None},
        grad=NoGradient("a range is constant", zero=True),
        decompose=_range,
        host_inputs={0: "start", 1: "limit", 2: "delta"},
        samples=lambda: [
            Sample((), {"start": 3, "limit": 18, "delta": 3, "dtype": int64}),
            Sample((), {"start": 5, "limit": 5, "delta": 1, "dtype": int64}),
        ],
        doc="start, start + delta, ... up to but without limit.",
    )
)

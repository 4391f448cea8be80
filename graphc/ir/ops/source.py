"""Sources: placeholders, variables, iota, the run counter. (`constant` is in graphc.ir.graph.)"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from graphc.ir.dtypes import as_dtype, int64
from graphc.ir.errors import DTypeError
from graphc.ir.table import REQUIRED, Attrs, Kind, NoGradient, Op, Sample, Types, register
from graphc.ir.types import TensorType, check_sizes


def _declared_type(_: Types, attrs: Attrs) -> TensorType:
    return TensorType(as_dtype(attrs["dtype"]), check_sizes(attrs["shape"]))


placeholder = register(
    Op(
        "placeholder",
        Kind.SOURCE,
        _declared_type,
        attrs={"dtype": REQUIRED, "shape": REQUIRED},
        doc="A value that every run is fed.",
    )
)


def _variable_type(_: Types, attrs: Attrs) -> TensorType:
    if as_dtype(attrs["dtype"]).is_string:
        raise DTypeError("variables hold numbers and bools, not strings; use a constant")
    return _declared_type(_, attrs)


variable = register(
    Op(
        "variable",
        Kind.SOURCE,
        _variable_type,
        attrs={"dtype": REQUIRED, "shape": REQUIRED},
        doc="A value that a session keeps between runs; read as it was when the run began.",
    )
)


def _iota_samples() -> Iterable[Sample]:
    yield Sample((), {"shape": (3, 5), "axis": 1, "dtype": as_dtype("int32")})
    yield Sample((), {"shape": (0,), "axis": 0, "dtype": as_dtype("int64")})


def _iota(attrs: Attrs) -> np.ndarray:
    shape, axis = attrs["shape"], attrs["axis"]
    along = np.arange(shape[axis], dtype=attrs["dtype"].numpy)
    view = along.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return np.ascontiguousarray(np.broadcast_to(view, shape))


iota = register(
    Op(
        "iota",
        Kind.SOURCE,
        _declared_type,
        numpy=_iota,
        attrs={"shape": REQUIRED, "axis": 0, "dtype": int64},
        grad=NoGradient("it depends on nothing", zero=True),
        samples=_iota_samples,
        doc="The position along an axis, as an integer.",
    )
)

run_counter = register(
    Op(
        "run_counter",
        Kind.SOURCE,
        lambda types, attrs: TensorType(int64, ()),
        grad=NoGradient("it depends on nothing", zero=True),
        doc="The number of the run in its session: what makes random numbers differ by run.",
    )
)

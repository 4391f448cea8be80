"""Random numbers: Philox bits by the element's position, the run and a key, then arithmetic.

The key comes from the graph's seed and the op's own seed or, where it has none, its path in
the graph; so one program gives the same numbers on every back end and in every process.
"""

from __future__ import annotations

import hashlib
import math

from graphc.ir.dtypes import as_dtype, float32, float64, int32, int64, uint32
from graphc.ir.graph import Node, Value, convert
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import source
from graphc.ir.ops.movement import reshape
from graphc.ir.table import REQUIRED, Attrs, Kind, NoGradient, Op, Types, register
from graphc.ir.types import UNKNOWN, TensorType, check_sizes


def random_key(graph_seed: int, op_seed: int | None, path: str) -> int:
    """The 64-bit Philox key of a random op."""
    text = f"{graph_seed}/{path if op_seed is None else op_seed}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _type(types: Types, attrs: Attrs) -> TensorType:
    shape = attrs["shape"]
    if shape is None and types:
        length = types[0].shape[0] if types[0].shape else None
        shape = (UNKNOWN,) * length if isinstance(length, int) else None
    return TensorType(as_dtype(attrs["dtype"]), check_sizes(shape))


def _uniform(node: Node) -> Value:
    """Uniform on [0, 1) with 24 random bits (float64: 32), as TensorFlow's float32."""
    import math as _math

    shape = node.types[0].static_shape
    dtype = node.types[0].dtype
    index = source.iota(shape=(_math.prod(shape),), axis=0, dtype=int64)
    bits = pw.philox(index, source.run_counter(), key=node.attrs["key"])
    wide = float64 if dtype is float64 else float32
    if wide is float32:
        eight = convert(256, dtype=uint32)
        unit = pw.cast(pw.floordiv(bits, eight), dtype=float32) * 2.0**-24
    else:
        unit = pw.cast(bits, dtype=float64) * 2.0**-32
    return reshape(pw.cast(unit, dtype=dtype), shape=shape)


random_unit = register(
    Op(
        "random_unit",
        Kind.COMPOSITE,
        _type,
        attrs={"shape": None, "dtype": REQUIRED, "key": REQUIRED},
        grad=NoGradient("it depends on nothing", zero=True),
        decompose=_uniform,
        host_inputs={0: "shape"},
        doc="Random numbers, uniform on [0, 1).",
    )
)


def _normal(node: Node) -> Value:
    """sqrt(2) * erfinv(u) for u uniform on (-1, 1)."""
    attrs = {**node.attrs, "dtype": node.types[0].dtype.compute}
    low, high = attrs.pop("low"), attrs.pop("high")
    # the middle of each of the 2^24 cells: never the end, where erfinv is infinite
    unit = random_unit(**attrs) + 2.0**-25
    u = unit * (high - low) + low
    return pw.cast(erfinv(u) * math.sqrt(2), dtype=node.types[0].dtype)


# M. Giles, "Approximating the erfinv function", GPU Computing Gems 2, 2010: single precision
_CENTRAL = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
    -0.00125372503, -0.00417768164, 0.246640727, 1.50140941,
)  # fmt: skip
_TAIL = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
    -0.0076224613, 0.00943887047, 1.00167406, 2.83297682,
)  # fmt: skip


def erfinv(x: Value) -> Value:
    """The inverse of erf on (-1, 1), to about 1e-7 relative (Giles 2010)."""
    w = -pw.log((1.0 - x) * (1.0 + x))
    near = w < 5.0
    shifted = pw.where(near, w - 2.5, pw.sqrt(pw.maximum(w, convert(5.0, like=w.dtype))) - 3.0)
    central, tail = _polynomial(_CENTRAL, shifted), _polynomial(_TAIL, shifted)
    return pw.where(near, central, tail) * x


def _polynomial(coefficients: tuple[float, ...], x: Value) -> Value:
    result = convert(coefficients[0], like=x.dtype)
    for c in coefficients[1:]:
        result = result * x + c
    return result


random_gauss = register(
    Op(
        "random_gauss",
        Kind.COMPOSITE,
        _type,
        attrs={"shape": None, "dtype": REQUIRED, "key": REQUIRED, "low": -1.0, "high": 1.0},
        grad=NoGradient("it depends on nothing", zero=True),
        decompose=_normal,
        host_inputs={0: "shape"},
        doc="Standard normal numbers, cut to where erf(x / sqrt(2)) is in (low, high).",
    )
)

__all__ = ["erfinv", "int32", "random_gauss", "random_key", "random_unit"]

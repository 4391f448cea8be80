"""Integers bit by bit: and, or, xor, complement, shifts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from graphc.ir.dtypes import as_dtype
from graphc.ir.errors import DTypeError
from graphc.ir.ops.pointwise import pointwise
from graphc.ir.table import REQUIRED, Attrs, Kind, NoGradient, Op, Sample, Types, register
from graphc.ir.types import TensorType

_NO_GRADIENT = NoGradient("it is a function of integers", zero=True)
_INTEGERS = "int uint"


def _samples(arity: int) -> Callable[[], Iterable[Sample]]:
    def samples() -> Iterable[Sample]:
        rng = np.random.default_rng(23)
        for dtype in (np.int32, np.int64, np.int8, np.uint8, np.uint32):
            limits = np.iinfo(dtype)
            shapes = ((3, 5), (5,)) if dtype is np.int32 else ((7,), (7,))
            yield Sample(
                tuple(
                    rng.integers(limits.min, limits.max, s, dtype, endpoint=True)
                    for s in shapes[:arity]
                )
            )
        yield Sample((np.zeros((0, 2), np.int32),) * arity)

    return samples


def _shift_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(29)
    for dtype in (np.int32, np.int64, np.int8, np.uint8, np.uint32):
        limits, bits = np.iinfo(dtype), np.dtype(dtype).itemsize * 8
        x = rng.integers(limits.min, limits.max, (4, 9), dtype, endpoint=True)
        yield Sample((x, np.array([0, 1, 2, 3, bits // 2, bits - 1, bits, bits + 1, 100], dtype)))


def _bitwise(name: str, function: Any, triton: str, c: str, arity: int = 2, **more: Any) -> Op:
    return pointwise(
        name, function, f"np.{function.__name__}", triton, c, arity=arity, accepts=_INTEGERS,
        grad=_NO_GRADIENT, **{"samples": _samples(arity), **more},
    )  # fmt: skip


_SYMMETRIC = ("commutative", "associative")

bitwise_and = _bitwise(
    "bitwise_and", np.bitwise_and, *("({0} & {1})",) * 2, facts=(*_SYMMETRIC, "idempotent")
)
bitwise_or = _bitwise(
    "bitwise_or", np.bitwise_or, *("({0} | {1})",) * 2, facts=(*_SYMMETRIC, "idempotent")
)
bitwise_xor = _bitwise("bitwise_xor", np.bitwise_xor, *("({0} ^ {1})",) * 2, facts=_SYMMETRIC)
# spelled without ~: the interpreter of Triton 3.7 cannot invert unsigned integers
invert = _bitwise("invert", np.invert, "(0 - {0} - 1)", "(~{0})", arity=1, facts=("involution",))
left_shift = _bitwise(
    "left_shift", np.left_shift, "left_shift({0}, {1})", "gc_left_shift_{t}({0}, {1})",
    samples=_shift_samples,
    doc="x * 2^y, without the bits that leave; 0 where y is no number of bits below x's width.",
)  # fmt: skip
right_shift = _bitwise(
    "right_shift", np.right_shift, "right_shift({0}, {1})", "gc_right_shift_{t}({0}, {1})",
    samples=_shift_samples,
    doc="The floor of x / 2^y; 0, or -1 of negative x, where y is no number below x's width.",
)  # fmt: skip


def _bitcast_type(types: Types, attrs: Attrs) -> TensorType:
    target = as_dtype(attrs["dtype"])
    if target.itemsize != types[0].dtype.itemsize or target.is_bool:
        raise DTypeError(f"bitcast needs a dtype of {types[0].dtype}'s width, got {target}")
    return TensorType(target, types[0].shape)


def _bitcast_samples() -> Iterable[Sample]:
    x = np.array([[1.5, -0.0, np.inf], [2.0**-140, -3.0, 0.0]], np.float32)
    yield Sample((x,), {"dtype": as_dtype("int32")})
    yield Sample((np.arange(-3, 4, dtype=np.int64),), {"dtype": as_dtype("uint64")})
    yield Sample((np.zeros((0, 2), np.float16),), {"dtype": as_dtype("int16")})


bitcast = register(
    Op(
        "bitcast", Kind.OPAQUE, _bitcast_type,
        numpy=lambda attrs, x: np.ascontiguousarray(x).view(as_dtype(attrs["dtype"]).numpy),
        attrs={"dtype": REQUIRED},
        grad=NoGradient("it is a function of bits", zero=True), samples=_bitcast_samples,
        doc="The same bits as another dtype of the same width.",
    )
)  # fmt: skip

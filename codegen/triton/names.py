"""Python identifiers of one emitted function, each given out once, and how dtypes are spelled."""

from __future__ import annotations

import keyword
import math
import re

from graphc.codegen.triton.prelude import function_names
from graphc.ir.dtypes import DType

# What the emitter itself writes; buffers and values of these names get a suffix.
_RESERVED = (
    "tl", "triton", "range", "float", "pid", "acc", "row", "col", "k", "m", "n", "k0", "c0", "tile",
    "batch", "lane", "start", "group", "height", "inside", "outer", "i", "j",
    *(f"{d}_mask" for d in ("row", "col", "k", "m", "n", "i", "j")),
)  # fmt: skip


class Namer:
    """Gives out identifiers that nothing else in the function has."""

    def __init__(self) -> None:
        self.taken = {*_RESERVED, *function_names()}
        self.own: set[str] = set()

    def structure(self, name: str) -> str:
        """One of the emitter's own names: as it is the first time, then with a number."""
        if name in self.own:
            return self.fresh(name)
        self.own.add(name)
        self.taken.add(name)
        return name

    def fresh(self, base: str) -> str:
        """`base`, or `base_1`, `base_2`, ... when it is taken."""
        base = re.sub(r"\W+", "_", base).strip("_") or "x"
        if keyword.iskeyword(base) or base[0].isdigit() or base.isupper():
            base += "_"
        name, count = base, 0
        while name in self.taken:
            count += 1
            name = f"{base}_{count}"
        self.taken.add(name)
        return name


def triton_type(dtype: DType) -> str:
    """The dtype of a value in registers: `tl.float32`."""
    return "tl.int1" if dtype.is_bool else f"tl.{dtype.name}"


def storage_type(dtype: DType) -> str:
    """The dtype in memory, as Triton's signatures spell it: `fp32`; bool is stored as `i8`."""
    if dtype.is_bool:
        return "i8"
    if dtype.is_floating:
        return "bf16" if dtype.name == "bfloat16" else f"fp{dtype.bits}"
    return f"{'u' if dtype.is_unsigned else 'i'}{dtype.bits}"


def literal(value: float | int | bool, dtype: DType) -> str:
    """A Python literal of the value as the dtype holds it."""
    if dtype.is_bool:
        return str(bool(value))
    if not dtype.is_floating:
        return str(int(value))
    number = float(value)
    if math.isnan(number):
        return 'float("nan")'
    if math.isinf(number):
        return 'float("inf")' if number > 0 else 'float("-inf")'
    return repr(number)


def typed_literal(value: float | int | bool, dtype: DType) -> str:
    """A scalar of exactly that dtype, where a plain literal would take another."""
    return f"tl.full([], {literal(value, dtype)}, {triton_type(dtype)})"

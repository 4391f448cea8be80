"""How types, values and reductions are spelled in C."""

from __future__ import annotations

import math
from typing import Final

from graphc.ir.dtypes import (
    DType,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)

# the type in which a value is computed with; 16-bit floats as floats that they can hold
VALUE: Final = {
    float16: "float", bfloat16: "float", float32: "float", float64: "double", bool_: "int",
    int8: "int8_t", int16: "int16_t", int32: "int32_t", int64: "int64_t",
    uint8: "uint8_t", uint16: "uint16_t", uint32: "uint32_t", uint64: "uint64_t",
}  # fmt: skip
_STORED: Final = {float16: "uint16_t", bfloat16: "uint16_t", bool_: "uint8_t"}
# the ending of functions by type
SUFFIX: Final = {
    float16: "f32", bfloat16: "f32", float32: "f32", float64: "f64", bool_: "i32",
    int8: "i8", int16: "i16", int32: "i32", int64: "i64",
    uint8: "u8", uint16: "u16", uint32: "u32", uint64: "u64",
}  # fmt: skip
_HALVES: Final = (float16, bfloat16)
_NARROW: Final = (int8, int16, uint8, uint16)  # C computes with them as with int
_INTEGER_ENDING: Final = {int64: "L", uint32: "u", uint64: "uL"}

# C keywords and the names of headers that a buffer's name must not take
_WORDS: Final = """
    auto break case char const continue default do double else enum extern float for goto if
    inline int long register restrict return short signed sizeof static struct switch typedef
    union unsigned void volatile while asm typeof NULL INFINITY NAN main
    b s first last part lo hi block top bottom left right t
m n j m0 m1 n0 n1 row rows space sums stride batch start panel width to zeros
begin run outer count depth target at i image high wide stop lane lanes
"""
RESERVED: Final = frozenset(_WORDS.split())


def stored_type(dtype: DType) -> str:
    """The type of a buffer's elements."""
    return _STORED.get(dtype) or VALUE[dtype]


def loaded(text: str, dtype: DType) -> str:
    """An element of a buffer as a value."""
    return f"gc_load_{dtype}({text})" if dtype in _HALVES else text


def to_store(text: str, dtype: DType) -> str:
    """A value as an element of a buffer."""
    return f"gc_store_{dtype}({text})" if dtype in _HALVES else text


def literal(value: float | int | bool, dtype: DType) -> str:
    """A constant of the type."""
    if dtype.is_bool:
        return str(int(bool(value)))
    if not dtype.is_floating:
        return _integer(int(value), dtype)
    number = float(value)
    ending = "" if dtype is float64 else "f"
    if math.isnan(number):
        return f'__builtin_nan{ending}("")'
    if math.isinf(number):
        return f"({'-' * (number < 0)}__builtin_inf{ending}())"
    text = repr(number)
    return f"({text}{ending})" if text.startswith("-") else f"{text}{ending}"


def _integer(number: int, dtype: DType) -> str:
    if dtype is int64 and number == dtype.min:
        return "INT64_MIN"
    text = f"{number}{_INTEGER_ENDING.get(dtype, '')}"
    return f"({text})" if number < 0 else text


def cast(text: str, source: DType, target: DType) -> str:
    """A value in another dtype: floats to integers by truncation, anything to bool by != 0."""
    if source is target:
        return text
    if target.is_bool:
        return f"({text} != 0)"
    if target in _HALVES:
        inner = text if source in (float32, *_HALVES) else f"(float){text}"
        return f"gc_round_{target}({inner})"
    if source in _HALVES and target is float32:
        return text
    if source.is_floating and target in _NARROW:
        return f"({VALUE[target]})(int32_t){text}"
    if source.is_floating and target is uint32:
        return f"(uint32_t)(int64_t){text}"
    return f"({VALUE[target]}){text}"


def wrapped(text: str, dtype: DType) -> str:
    """An arithmetic result, cut to its own width."""
    return f"({VALUE[dtype]}){text}" if dtype in _NARROW else text


def combine(op: str, dtype: DType, total: str, value: str) -> str:
    """The assignment that adds a value to a reduction."""
    if op in ("max", "min"):
        return f"{total} = gc_{op}imum_{SUFFIX[dtype]}({value}, {total});"
    symbol = {"sum": "+=", "prod": "*=", "any": "|=", "all": "&="}[op]
    return f"{total} {symbol} {value};"


def clause(op: str, dtype: DType) -> str:
    """OpenMP's name of a reduction."""
    if op in ("max", "min"):
        return f"{op}imum_{SUFFIX[dtype]}" if dtype.is_floating else op
    return {"sum": "+", "prod": "*", "any": "|", "all": "&"}[op]

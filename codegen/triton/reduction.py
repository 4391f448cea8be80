"""How each reduction runs on a tile: its state, its start, how two states become one.

A state is one value, or for argmax and argmin a value and its position. Partial states can be
kept per lane (looped rows) or per chunk (split rows) and combined in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.codegen.triton.names import literal, triton_type
from graphc.ir import loop
from graphc.ir.dtypes import DType, bool_, int32
from graphc.ir.ops.reduce import neutral

_NO_POSITION = 2**31 - 1
_COMBINERS = {
    "prod": "product", "max": "maximum", "min": "minimum", "any": "tl.maximum",
    "all": "tl.minimum", "argmax": "greater_pair", "argmin": "smaller_pair",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reduction:
    """The text of a Reduce's or Fold's parts. `dtypes` and `starts` are those of its state."""

    op: str
    dtype: DType
    value_dtype: DType

    @classmethod
    def of(cls, stmt: loop.Reduce | loop.Fold) -> Reduction:
        """The reduction of a statement."""
        return cls(stmt.op, stmt.dtype, stmt.value.dtype)

    @property
    def with_position(self) -> bool:
        """True for argmax and argmin."""
        return self.op.startswith("arg")

    @property
    def dtypes(self) -> tuple[DType, ...]:
        """The dtypes of the state."""
        if self.with_position:
            return (_countable(self.value_dtype), int32)
        return (int32,) if self.op in ("any", "all") else (self.dtype,)

    @property
    def starts(self) -> tuple[str, ...]:
        """Literals of the state of nothing."""
        if self.op in ("any", "all"):
            return ("1" if self.op == "all" else "0",)
        if self.with_position:
            extreme = neutral(self.op.removeprefix("arg"), self.dtypes[0])
            return (literal(extreme, self.dtypes[0]), str(_NO_POSITION))
        return (literal(neutral(self.op, self.dtype), self.dtype),)

    def prepare(self, text: str) -> str:
        """The reduced value as the state holds it."""
        if self.value_dtype is bool_ and self.dtypes[0] is int32:
            return f"({text}).to(tl.int32)"
        return text

    def reduce(self, states: list[str], axis: int, keep: bool) -> str:
        """All of a tile's states along an axis as one."""
        keep_dims = ", keep_dims=True" if keep else ""
        if self.op == "sum":
            narrow = self.dtype.is_integer and self.dtype.bits < 32
            end = f".to({triton_type(self.dtype)})" if narrow else ""
            return f"tl.sum({states[0]}, {axis}{keep_dims}){end}"
        if self.op in ("any", "all"):
            return f"tl.{'max' if self.op == 'any' else 'min'}({states[0]}, {axis}{keep_dims})"
        inner = states[0] if len(states) == 1 else f"({', '.join(states)})"
        return f"tl.reduce({inner}, {axis}, {_COMBINERS[self.op]}{keep_dims})"

    def combine(self, left: list[str], right: list[str]) -> str:
        """Two states as one, element by element."""
        if self.op == "sum":
            return f"{left[0]} + {right[0]}"
        return f"{_COMBINERS[self.op]}({', '.join([*left, *right])})"

    def finish(self, states: list[str]) -> str:
        """The result, from the combined state."""
        if self.op in ("any", "all"):
            return f"{states[0]} != 0"
        return f"{states[1]}.to({triton_type(self.dtype)})" if self.with_position else states[0]


def _countable(dtype: DType) -> DType:
    return int32 if dtype is bool_ else dtype

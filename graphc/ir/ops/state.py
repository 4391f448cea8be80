"""State ops: what a run does to variables when it ends.

The first input is the variable. `decompose` gives the variable's new value, where the first
input stands for its value so far in the run (see `graphc.ir.computation.cut`).
"""

from __future__ import annotations

from graphc.ir.errors import DTypeError, ShapeError
from graphc.ir.graph import Node, Value
from graphc.ir.table import Attrs, Kind, NoGradient, Op, Types, register
from graphc.ir.types import TensorType, merge_shapes

_NO_GRADIENT = NoGradient("it changes a variable; differentiate what was assigned instead")


def _assign_type(types: Types, _: Attrs) -> TensorType:
    variable, value = types
    if variable.dtype is not value.dtype:
        raise DTypeError(f"a variable of {variable.dtype} cannot take {value.dtype}; use cast()")
    try:
        merge_shapes(variable.shape, value.shape, "shapes")
    except ShapeError:
        raise ShapeError(f"a variable of {variable} cannot take {value}") from None
    return variable


def _update(name: str, combine: str, doc: str) -> Op:
    def decompose(node: Node) -> Value:
        from graphc.ir.table import OPS

        current, value = node.inputs
        return value if not combine else OPS[combine](current, value)

    return register(
        Op(name, Kind.STATE, _assign_type, grad=_NO_GRADIENT, decompose=decompose, doc=doc)
    )


assign = _update("assign", "", "The variable becomes the value.")
assign_add = _update("assign_add", "add", "The value is added to the variable.")
assign_sub = _update("assign_sub", "subtract", "The value is subtracted from the variable.")


no_op = register(
    Op(
        "no_op",
        Kind.SOURCE,
        lambda types, attrs: (),
        grad=_NO_GRADIENT,
        doc="Nothing; its control inputs run.",
    )
)

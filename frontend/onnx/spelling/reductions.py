"""Reductions, matrix products, and the normalizations that ONNX has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from graphc.frontend.onnx.exporting import CODES, Exporting, exporter
from graphc.ir.graph import Node


def axes_of(value: Any) -> tuple[int, ...]:
    """An axis or several, as several."""
    return tuple(value) if isinstance(value, tuple) else (int(value),)


_REDUCE: Final[Mapping[str, str]] = {
    "reduce_sum": "ReduceSum", "reduce_prod": "ReduceProd", "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin", "reduce_mean": "ReduceMean",
}  # fmt: skip


@exporter(*_REDUCE)
def _reduce(e: Exporting, node: Node) -> None:
    x, axes = node.inputs[0], node.attrs["axis"]
    given = [e.name(x)]
    if axes is not None:
        given.append(e.ints(axes_of(axes)))
    elif x.type.rank == 0:
        e.define(node, "Identity", given)
        return
    e.define(node, _REDUCE[node.op.name], given, keepdims=int(node.attrs["keepdims"]))


@exporter("argmax", "argmin")
def _arg(e: Exporting, node: Node) -> None:
    word = "ArgMax" if node.op.name == "argmax" else "ArgMin"
    axis = node.attrs["axis"]
    axis = axis[0] if isinstance(axis, tuple) else axis
    found = e.emit(word, [e.name(node.inputs[0])], axis=int(axis),
                   keepdims=int(node.attrs.get("keepdims", False)))  # fmt: skip
    e.define(node, "Cast", [found], to=CODES[node.types[0].dtype.name])


@exporter("matmul")
def _matmul(e: Exporting, node: Node) -> None:
    names = []
    for side, value in zip("ab", node.inputs, strict=True):
        name = e.name(value)
        if node.attrs[f"transpose_{side}"]:
            order = list(range(value.type.rank or 2))
            order[-2:] = order[-1], order[-2]
            name = e.emit("Transpose", [name], perm=order)
        names.append(name)
    e.define(node, "MatMul", names)


@exporter("contract")
def _contract(e: Exporting, node: Node) -> None:
    e.define(node, "Einsum", e.given(node), equation=node.attrs["spec"])


@exporter("softmax", "log_softmax")
def _softmax(e: Exporting, node: Node) -> None:
    word = "Softmax" if node.op.name == "softmax" else "LogSoftmax"
    e.define(node, word, [e.name(node.inputs[0])], axis=int(node.attrs["axis"]))


@exporter("reduce_any", "reduce_all")
def _reduce_bools(e: Exporting, node: Node) -> None:
    """The greatest, or least, of 0 and 1: of nothing, numbers far below 0 and above 1."""
    axes, (x,) = node.attrs["axis"], node.inputs
    given = [e.cast(e.name(x), "int32")]
    if axes is not None:
        given.append(e.ints(axes_of(axes)))
    if x.type.rank != 0:
        word = "ReduceMax" if node.op.name == "reduce_any" else "ReduceMin"
        given = [e.emit(word, given, keepdims=int(node.attrs["keepdims"]))]
    e.define(node, "Greater", [given[0], e.constant(np.int32(0))])


@exporter("moments")
def _moments(e: Exporting, node: Node) -> None:
    """The mean, and the mean of the squares of what is left without it."""
    (x,), axes = e.given(node), node.attrs["axis"]
    given = [] if axes is None else [e.ints(axes_of(axes))]
    center = e.emit("ReduceMean", [x, *given], keepdims=1)
    rest = e.emit("Sub", [x, center])
    keepdims = int(node.attrs["keepdims"])
    square = e.emit("Mul", [rest, rest])
    mean, variance = node.outputs
    e.names[variance] = e.emit("ReduceMean", [square, *given], keepdims=keepdims)
    e.names[mean] = center if keepdims else e.emit("ReduceMean", [x, *given], keepdims=0)

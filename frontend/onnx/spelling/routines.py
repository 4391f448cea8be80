"""Routines on whole arrays: running sums and products, sorting, determinants, Fourier."""

from __future__ import annotations

import numpy as np

from graphc.frontend.onnx.exporting import Exporting, exporter
from graphc.ir.graph import Node
from graphc.ir.types import normalize_axis


@exporter("cumsum")
def _cumsum(e: Exporting, node: Node) -> None:
    a = node.attrs
    axis = e.constant(np.int64(a["axis"]))
    e.define(node, "CumSum", [e.name(node.inputs[0]), axis],
             exclusive=int(a["exclusive"]), reverse=int(a["reverse"]))  # fmt: skip


@exporter("cumprod")
def _cumprod(e: Exporting, node: Node) -> None:
    """A Scan that carries the product so far."""
    x, name = node.inputs[0], e.name(node.inputs[0])
    rank = x.type.rank or 1
    axis = normalize_axis(node.attrs["axis"], rank)
    others = e.ints([i for i in range(rank) if i != axis])
    sizes = e.emit("Gather", [e.emit("Shape", [name]), others])
    one = e.onnx.numpy_helper.from_array(np.ones(1, x.dtype.numpy))
    start = e.emit("ConstantOfShape", [sizes], value=one)
    helper, code = e.onnx.helper, e.code(x.dtype)
    so_far, element, after, result = map(e.fresh, ("so_far", "element", "after", "result"))
    infos = [helper.make_tensor_value_info(n, code, None) for n in (so_far, element)]
    with e.body() as nodes:
        e.emit("Mul", [so_far, element], after)
        e.emit("Identity", [so_far if node.attrs["exclusive"] else after], result)
    outputs = [helper.make_tensor_value_info(n, code, None) for n in (after, result)]
    backward = [int(node.attrs["reverse"])]
    name = e.fresh(node.name)
    e.emits(
        "Scan", [start, e.name(x)], [e.fresh("product"), name],
        body=helper.make_graph(nodes, "body", infos, outputs), num_scan_inputs=1,
        scan_input_axes=[axis], scan_output_axes=[axis],
        scan_input_directions=backward, scan_output_directions=backward,
    )  # fmt: skip
    e.names[node.outputs[0]] = name


@exporter("sort_pairs")
def _sort_pairs(e: Exporting, node: Node) -> None:
    """All elements, or the first k; of equal ones the first comes first in both."""
    x, axis, k = e.name(node.inputs[0]), int(node.attrs["axis"]), node.attrs["k"]
    if k is None:
        sizes = e.emit("Shape", [x])
        count = e.emit("Gather", [sizes, e.ints([axis])])
    else:
        count = e.ints([k])
    values, order = e.emits(
        "TopK", [x, count], [e.fresh(node.name), e.fresh("order")], axis=axis,
        largest=int(node.attrs["descending"]), sorted=1,
    )  # fmt: skip
    e.names[node.outputs[0]] = values
    e.names[node.outputs[1]] = e.cast(order, "int32")


@exporter("determinant")
def _determinant(e: Exporting, node: Node) -> None:
    e.define(node, "Det", e.given(node))


@exporter("log_determinant")
def _log_determinant(e: Exporting, node: Node) -> None:
    found = e.emit("Det", e.given(node))
    e.names[node.outputs[0]] = e.emit("Sign", [found])
    e.names[node.outputs[1]] = e.emit("Log", [e.emit("Abs", [found])])


@exporter("fourier")
def _fourier(e: Exporting, node: Node) -> None:
    """ONNX wants a batch in front."""
    (x,) = e.given(node)
    rank = node.inputs[0].type.rank or 2
    axis = normalize_axis(node.attrs["axis"], rank - 1)
    wide = e.emit("Unsqueeze", [x, e.ints([0])])
    e.needs(20)  # since then the axis is an input
    axes = e.constant(np.int64(axis + 1))
    made = e.emit("DFT", [wide, "", axes], inverse=int(node.attrs["inverse"]), onesided=0)
    e.define(node, "Squeeze", [made, e.ints([0])])


@exporter("suppress_boxes")
def _suppress_boxes(e: Exporting, node: Node) -> None:
    """The indices that ONNX gives, filled up with zeros; and how many they are."""
    boxes, scores = e.given(node)
    a = node.attrs
    count = int(a["count"])
    limits = [e.constant(np.array([a["iou_threshold"]], np.float32))]
    if a["score_threshold"] is not None:
        limits.append(e.constant(np.array([a["score_threshold"]], np.float32)))
    given = [
        e.emit("Unsqueeze", [boxes, e.ints([0])]),
        e.emit("Unsqueeze", [scores, e.ints([0, 1])]),
    ]
    found = e.emit("NonMaxSuppression", [*given, e.ints([count]), *limits])
    chosen = e.emit("Gather", [found, e.constant(np.int64(2))], axis=1)
    filled = e.emit("Concat", [chosen, e.constant(np.zeros(count, np.int64))], axis=0)
    e.names[node.outputs[0]] = e.cast(
        e.emit("Slice", [filled, e.ints([0]), e.ints([count])]), "int32"
    )
    number = e.emit("Squeeze", [e.emit("Shape", [chosen])])
    e.names[node.outputs[1]] = e.cast(number, "int32")


# -- results whose size depends on values: ONNX finds the sizes itself


@exporter("positions")
def _positions(e: Exporting, node: Node) -> None:
    mask = e.name(node.inputs[0])
    if node.inputs[0].type.rank == 0:  # a row for every place that holds, each of no numbers
        found = e.emit("NonZero", [e.emit("Unsqueeze", [mask, e.ints([0])])])
        found = e.emit("Slice", [found, e.ints([0]), e.ints([0]), e.ints([0])])
    else:
        found = e.emit("NonZero", [mask])
    e.define(node, "Transpose", [found], perm=[1, 0])


@exporter("first_of_each", "distinct_count")
def _distinct(e: Exporting, node: Node) -> None:
    x, name = node.inputs[0], e.name(node.inputs[0])
    if x.dtype.is_integer:
        name = e.cast(name, "int64")  # onnxruntime has few types here
    outputs = [e.fresh(n) for n in ("unique", "first", "number")]
    values, first, number = e.emits("Unique", [name], outputs, sorted=0)
    if node.op.name == "distinct_count":
        e.define(node, "Squeeze", [e.emit("Shape", [values])])
        return
    e.names[node.outputs[0]] = first
    e.names[node.outputs[1]] = e.cast(number, "int32")

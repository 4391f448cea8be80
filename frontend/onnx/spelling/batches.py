"""Ops whose decomposition needs all sizes, for a batch of unknown size: spelled by other means."""

from __future__ import annotations

import numpy as np

from graphc.frontend.onnx.exporting import CODES, Exporting, exporter, types_of, unsaid
from graphc.ir.graph import Node
from graphc.ir.ops.resample import Taps, keeps_dtype, taps


@exporter("resize")
def _resize(e: Exporting, node: Node) -> None:
    """Along each axis by positions, or by the matrix of weights that ops decompose to."""
    old, new = (t.shape for t in (node.inputs[0].type, node.types[0]))
    if all(t.is_static for t in types_of(node)):
        e.decomposed(node)
        return
    if old is None or new is None or any(isinstance(d, str) for d in (*old[1:3], *new[1:3])):
        raise unsaid(node, "with sizes that are unknown")
    name, wide = e.name(node.inputs[0]), node.types[0].dtype
    if not keeps_dtype(node.attrs):
        wide = wide.compute
        name = e.cast(name, wide.name)
    flags = node.attrs["align_corners"], node.attrs["half_pixel_centers"]
    for axis in (1, 2):
        size = int(old[axis])
        found = taps(node.attrs["method"], size, int(new[axis]), *flags)
        if keeps_dtype(node.attrs):
            name = e.emit("Gather", [name, e.constant(found[0][:, 0])], axis=axis)
        else:
            matrix = e.constant(_matrix(found, size).astype(wide.numpy))
            equation = "nhwc,ph->npwc" if axis == 1 else "nhwc,qw->nhqc"
            name = e.emit("Einsum", [name, matrix], equation=equation)
    e.define(node, "Cast", [name], to=CODES[node.types[0].dtype.name])


def _matrix(found: Taps, size: int) -> np.ndarray:
    """[new, size]: the weight of each input position in each output."""
    index, weight = found
    matrix = np.zeros((len(index), size), np.float32)
    np.add.at(matrix, (np.arange(len(index))[:, None], index), weight)
    return matrix


@exporter("gather_nd")
def _gather_nd(e: Exporting, node: Node) -> None:
    """As with Gather, ONNX does not say what an index out of range gives."""
    if all(t.is_static for t in types_of(node)):
        e.decomposed(node)
        return
    x, at = e.given(node)
    e.define(node, "GatherND", [x, e.cast(at, "int64")])


@exporter("sparse_softmax_cross_entropy")
def _sparse_cross_entropy(e: Exporting, node: Node) -> None:
    """The element of log_softmax at the label, which must be a class."""
    if all(t.is_static for t in types_of(node)):
        e.decomposed(node)
        return
    labels, logits = e.given(node)
    log = e.emit("LogSoftmax", [logits], axis=-1)
    at = e.emit("Unsqueeze", [e.cast(labels, "int64"), e.ints([-1])])
    found = e.emit("GatherElements", [log, at], axis=-1)
    e.define(node, "Neg", [e.emit("Squeeze", [found, e.ints([-1])])])

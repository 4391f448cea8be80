"""Operators of a loaded model that wait for sizes and values: they are written as they were read.

They mean what their model's opset says: the model that is written has that opset, or one in which
the operator is still the same.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from graphc.frontend.onnx.exporting import Exporting, exporter, unsaid
from graphc.ir.graph import Node


@exporter("deferred")
def _deferred(e: Exporting, node: Node) -> None:
    if node.attrs["expansion"] != "onnx":
        raise unsaid(node)
    read = json.loads(node.attrs["payload"])
    proto = e.onnx.NodeProto()
    proto.ParseFromString(base64.b64decode(read["node"]))
    versions = read["versions"]
    given = iter(e.given(node))
    for i, name in enumerate(proto.input):
        proto.input[i] = next(given) if name else ""
    free = dict(zip(read["free"], given, strict=True))
    _note(e, node, proto, versions)
    for a in proto.attribute:
        if a.HasField("g"):
            a.g.CopyFrom(_renamed(e, a.g, free))
    proto.name = e.fresh(node.name)
    outputs = iter(node.outputs)
    for i, name in enumerate(proto.output):
        if name:
            proto.output[i] = e.fresh(node.name)
            e.names[next(outputs)] = proto.output[i]
    e.nodes.append(proto)


def _note(e: Exporting, node: Node, proto: Any, versions: Mapping[str, int]) -> None:
    """Remember by which opset the operator, and those in its bodies, are meant."""
    if proto.domain not in ("", "ai.onnx"):
        raise unsaid(node, f"as {proto.domain}.{proto.op_type}")
    e.meant.append((node, proto.op_type, versions.get("ai.onnx", 1)))
    for a in proto.attribute:
        for inner in a.g.node:
            _note(e, node, inner, versions)


def _renamed(e: Exporting, graph: Any, outer: Mapping[str, str]) -> Any:
    """A body with the new names of what it reads from outside, and new names inside."""
    copy = e.onnx.GraphProto()
    copy.CopyFrom(graph)
    del copy.value_info[:]
    names = dict(outer)
    for holder in (*copy.input, *copy.initializer):
        names.setdefault(holder.name, e.fresh(holder.name))
        holder.name = names[holder.name]
    for n in copy.node:
        n.input[:] = [names.get(name, name) for name in list(n.input)]
        for a in n.attribute:
            if a.HasField("g"):
                a.g.CopyFrom(_renamed(e, a.g, names))
        names.update((name, e.fresh(name)) for name in n.output if name)
        n.output[:] = [names.get(name, name) for name in list(n.output)]
    for info in copy.output:
        info.name = names[info.name]
    return copy

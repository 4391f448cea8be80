"""ONNX models in graphc: `load` one into a graph, `save` a graph as one.

    model = graphc.onnx.load("model.onnx")
    with graphc.Session(graph=model.graph) as session:
        session.run(list(model.outputs.values()), {model.inputs["x"]: x})

`graphc.onnx.backend` is the interface by which the ONNX project's own tests run. Needs the
package onnx: pip install graphc[onnx].
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphc.frontend.onnx.load import Model, load, op_name
from graphc.frontend.onnx.registry import CONVERTERS
from graphc.frontend.onnx.save import to_proto, write
from graphc.ir.computation import cut
from graphc.ir.graph import Value, convert
from graphc.runtime.session import Session


def save(
    fetches: Any,
    path: str | Path | None = None,
    *,
    inputs: Mapping[str, Any] | None = None,
    session: Session | None = None,
) -> Any:
    """Write the computation of the fetches as an ONNX model; gives the ModelProto.

    `fetches` is a tensor, a list of them (called by their ops' names), or a dict from names to
    tensors. `inputs` names placeholders, by default all that are needed, by their own names. The
    values of variables are those in the session. UnsupportedOp for what ONNX cannot say.
    """
    outputs = _named(fetches)
    variables = {}
    needed = cut(list(outputs.values())).variables_read
    if session is not None:
        variables = {node: session.read_variable(node.outputs[0]) for node in needed}
    given = None if inputs is None else {name: convert(x) for name, x in inputs.items()}
    proto = to_proto(outputs, given, variables)
    if path is not None:
        write(proto, path)
    return proto


def _named(fetches: Any) -> dict[str, Value]:
    if isinstance(fetches, Mapping):
        return {name: convert(x) for name, x in fetches.items()}
    items = fetches if isinstance(fetches, (list, tuple)) else [fetches]
    values = [convert(x) for x in items]
    return {f"{op_name(v.node.name)}:{v.index}" if v.index else op_name(v.node.name): v
            for v in values}  # fmt: skip


def supported_operators() -> tuple[str, ...]:
    """The operators that have a converter; those that ONNX defines as functions work besides."""
    return tuple(sorted(CONVERTERS))


__all__ = ["Model", "load", "save", "supported_operators"]

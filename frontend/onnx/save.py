"""Writing a graph as an ONNX model.

What is saved is the computation of the fetches as a user built it: each op is spelled with ONNX's
operators (see exporting.py, and spelling/ by families). Sizes that are not known keep their names.
Variables become initializers, with the values given.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graphc.frontend.onnx import spelling as _spelling
from graphc.frontend.onnx.exporting import OPSET, Exporting
from graphc.frontend.onnx.reading import onnx_package, op_name
from graphc.ir.computation import cut
from graphc.ir.errors import ModelError
from graphc.ir.graph import Node, Value

assert _spelling  # fills the table of exporters


def to_proto(
    outputs: Mapping[str, Value],
    inputs: Mapping[str, Value] | None = None,
    variables: Mapping[Node, np.ndarray] | None = None,
) -> Any:
    """The ModelProto of the outputs. `inputs` names placeholders (by default all that are needed,
    by their own names); `variables` has the values of those that are read."""
    onnx = onnx_package()
    feeds = list((inputs or {}).values())
    needed = cut(list(outputs.values()), (), feeds)
    if needed.updates:
        raise ModelError("a model changes no variables; fetch tensors, not assignments")
    given = {v.node: name for name, v in (inputs or {}).items()}
    for node in needed.nodes:
        if node.op.name == "placeholder" and node not in given and node not in needed.inputs:
            given[node] = op_name(node.name)
            feeds.append(node.outputs[0])
    computation = cut(list(outputs.values()), (), feeds)
    names = dict(zip(computation.inputs, given.values(), strict=True))
    exporting = Exporting(onnx, variables or {})
    return exporting.model(computation, names, list(outputs))


def write(proto: Any, path: str | Path) -> None:
    """Check the model, and write it."""
    onnx = onnx_package()
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"what was made is no sound model: {error}") from None
    Path(path).write_bytes(proto.SerializeToString())


__all__ = ["OPSET", "to_proto", "write"]

"""A user's graph as TensorFlow's GraphDef: what TensorBoard draws.

The protos come from the package tensorboard. Ops keep graphc's names, but for those that it
treats specially. Constants are left out: the file is for looking at, not for running.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from graphc.ir.dtypes import DType
from graphc.ir.errors import UnsupportedOp

if TYPE_CHECKING:
    from graphc.ir.graph import Graph, Node

_OP_NAMES: Final = {
    "placeholder": "Placeholder",
    "constant": "Const",
    "variable": "VariableV2",
    "identity": "Identity",
    "no_op": "NoOp",
    "matmul": "MatMul",
    "assign": "Assign",
    "assign_add": "AssignAdd",
    "assign_sub": "AssignSub",
}
# types.proto of TensorFlow
_DTYPES: Final = {
    "float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "int64": 9,
    "bool": 10, "bfloat16": 14, "uint16": 17, "float16": 19, "uint32": 22, "uint64": 23,
}  # fmt: skip


def as_graph_def(graph: Graph) -> Any:
    """The GraphDef proto of all nodes; UnsupportedOp when tensorboard is not installed."""
    try:
        from tensorboard.compat.proto import graph_pb2
    except ImportError as error:
        raise UnsupportedOp(
            "a GraphDef needs the package tensorboard: pip install graphc[tensorboard]"
        ) from error
    result = graph_pb2.GraphDef()
    result.versions.producer = 22
    for node in graph.nodes:
        _fill(result.node.add(), node)
    return result


def _fill(proto: Any, node: Node) -> None:
    proto.name = node.name
    proto.op = _OP_NAMES.get(node.op.name, node.op.name)
    for value in node.inputs:
        source = value.node.name
        proto.input.append(f"{source}:{value.index}" if value.index else source)
    proto.input.extend(f"^{before.name}" for before in dict.fromkeys(node.control))
    if node.types:
        proto.attr["dtype"].type = _dtype_number(node.types[0].dtype)
    for t in node.types:
        _fill_shape(proto.attr["_output_shapes"].list.shape.add(), t.shape)


def _fill_shape(proto: Any, shape: Any) -> None:
    if shape is None:
        proto.unknown_rank = True
        return
    for dim in shape:
        proto.dim.add(size=dim if isinstance(dim, int) else -1)


def _dtype_number(dtype: DType) -> int:
    return _DTYPES.get(dtype.name, 0)

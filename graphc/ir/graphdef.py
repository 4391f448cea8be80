"""A user's graph as TensorFlow's protos: GraphDef, and MetaGraphDef with its collections.

The protos come from the package tensorboard. Ops that TensorFlow has are spelled as its own (see
`graphc.ir.graphdef_ops`); others keep graphc's name and carry their attributes as text, so that
`graphc.frontend.graphdef` reads every file that is written here. Other programs read those files
as far as they know the ops.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from graphc.ir.dtypes import DType, as_dtype
from graphc.ir.errors import ModelError, UnsupportedOp
from graphc.ir.types import Shape

if TYPE_CHECKING:
    from graphc.ir.graph import Graph, Node, Value

# types.proto of TensorFlow
NUMBERS: Final[Mapping[str, int]] = {
    "float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "string": 7,
    "int64": 9, "bool": 10, "bfloat16": 14, "uint16": 17, "float16": 19, "uint32": 22,
    "uint64": 23,
}  # fmt: skip
_NAMES: Final = {number: name for name, number in NUMBERS.items()}
_REF: Final = 100  # a reference dtype is the dtype's number and this
_FIELDS: Final[Mapping[str, str]] = {
    "float32": "float_val", "float64": "double_val", "int64": "int64_val", "bool": "bool_val",
    "float16": "half_val", "bfloat16": "half_val", "uint32": "uint32_val", "uint64": "uint64_val",
}  # fmt: skip
ATTRIBUTES: Final = "_graphc"  # where an op that TensorFlow has not keeps what it is, as text
_MOST_ELEMENTS: Final = 1 << 31
PRODUCER: Final = 22  # the version of TensorFlow's graphs that these are


def proto(module: str, name: str) -> Any:
    """A proto's class; UnsupportedOp when tensorboard is not installed."""
    try:
        return getattr(importlib.import_module(f"tensorboard.compat.proto.{module}"), name)
    except ImportError as error:
        raise UnsupportedOp(
            f"{name} protos need the package tensorboard: pip install graphc[tensorboard]"
        ) from error


# -- graphs


def as_graph_def(graph: Graph, complete: bool = True) -> Any:
    """The GraphDef proto of all nodes.

    `complete=False` leaves constants and attributes out: a graph to look at, not to run.
    """
    result = proto("graph_pb2", "GraphDef")()
    result.versions.producer = PRODUCER
    for node in graph.nodes:
        (_fill if complete else _sketch)(result, node)
    return result


def _sketch(graph_def: Any, node: Node) -> None:
    from graphc.ir.graphdef_ops import OP_NAMES

    made = graph_def.node.add(name=node.name, op=OP_NAMES.get(node.op.name, node.op.name))
    made.input.extend(map(input_name, node.inputs))
    _finish(made, node)


def _fill(graph_def: Any, node: Node) -> None:
    from graphc.ir.graphdef_ops import Writing

    writing = Writing(graph_def, node)
    if not writing.spell():
        made = graph_def.node.add(name=node.name, op=node.op.name)
        made.input.extend(map(input_name, node.inputs))
        text = _attributes(node)
        if text is not None:
            made.attr[ATTRIBUTES].s = text.encode()
        writing.made = made
    _finish(writing.made, node)


def _finish(made: Any, node: Node) -> None:
    """What every node has: control inputs, dtype, shapes."""
    made.input.extend(f"^{before.name}" for before in dict.fromkeys(node.control))
    if node.types and "dtype" not in made.attr:
        made.attr["dtype"].type = NUMBERS[node.types[0].dtype.name]
    for t in node.types:
        fill_shape(made.attr["_output_shapes"].list.shape.add(), t.shape)


def input_name(value: Value) -> str:
    """How a NodeDef names an input."""
    return f"{value.node.name}:{value.index}" if value.index else value.node.name


def fill_shape(proto: Any, shape: Shape | None) -> None:
    """Write a shape into a TensorShapeProto."""
    if shape is None:
        proto.unknown_rank = True
        return
    for dim in shape:
        proto.dim.add(size=dim if isinstance(dim, int) else -1)


def shape_of(proto: Any) -> tuple[int | None, ...] | None:
    """The dims of a TensorShapeProto, None for unknown ones; None: the rank is unknown."""
    if proto.unknown_rank:
        return None
    return tuple(None if d.size < 0 else int(d.size) for d in proto.dim)


def dtype_of(number: int, where: str) -> DType:
    """The dtype of TensorFlow's number; UnsupportedOp for those that graphc has not."""
    name = _NAMES.get(number % _REF)
    if name is None:
        raise UnsupportedOp(f"{where} has elements of TensorFlow's type {number}")
    return as_dtype(name)


# -- attributes as text


def _attributes(node: Node) -> str | None:
    """The node by itself in the text form of computations; None where that cannot hold it."""
    from graphc.ir.computation import Computation, clone
    from graphc.ir.graph import apply, detached
    from graphc.ir.table import OPS
    from graphc.ir.text import print_computation

    if not node.outputs or not all(map(_has_text, node.attrs.values())):
        return None
    with detached(node):
        inputs = [
            apply(OPS["placeholder"], (), {"dtype": v.dtype, "shape": v.type.shape}, f"in{i}")
            for i, v in enumerate(node.inputs)
        ]
        alone = clone(node, tuple(n.outputs[0] for n in inputs))
    return print_computation(Computation(inputs, alone.outputs), locations=False)


def _has_text(value: Any) -> bool:
    from graphc.ir.computation import Computation
    from graphc.ir.literal import Literal

    if isinstance(value, tuple):
        return all(map(_has_text, value))
    known = (bool, int, float, str, DType, Literal, Computation)
    return value is None or isinstance(value, known)


def attributes_of(text: str) -> tuple[str, dict[str, Any], int]:
    """Op, attributes and number of inputs that `_attributes` wrote; ParseError for other texts."""
    from graphc.ir.text import parse

    outputs = parse(text).outputs
    if not outputs:
        raise ModelError("the text of its attributes has no op")
    node = outputs[0].node
    return node.op.name, dict(node.attrs), len(node.inputs)


# -- tensors


def make_tensor_proto(array: np.ndarray) -> Any:
    """A TensorProto of the array."""
    dtype = as_dtype(array.dtype)
    made = proto("tensor_pb2", "TensorProto")(dtype=NUMBERS[dtype.name])
    fill_shape(made.tensor_shape, array.shape)
    if dtype.is_string:
        made.string_val.extend(array.ravel().tolist())
    else:
        made.tensor_content = np.ascontiguousarray(array).tobytes()
    return made


def make_ndarray(tensor: Any, where: str = "a tensor") -> np.ndarray:
    """The array of a TensorProto; ModelError where its data do not fit its shape."""
    dtype = dtype_of(tensor.dtype, where)
    shape = shape_of(tensor.tensor_shape)
    if shape is None or None in shape or math.prod(d or 0 for d in shape) > _MOST_ELEMENTS:
        raise ModelError(f"{where} has no sound shape: {shape}")
    sizes = tuple(d for d in shape if d is not None)
    if dtype.is_string:
        values = np.empty(len(tensor.string_val), dtype=object)
        values[:] = list(tensor.string_val)
        return _repeated(values, sizes, where)
    if tensor.tensor_content:
        if len(tensor.tensor_content) != math.prod(sizes) * dtype.itemsize:
            raise ModelError(f"{where}: {len(tensor.tensor_content)} bytes do not fit {sizes}")
        return np.frombuffer(tensor.tensor_content, dtype.numpy).reshape(sizes)
    field = getattr(tensor, _FIELDS.get(dtype.name, "int_val"))
    if dtype.name in ("float16", "bfloat16"):  # their bits
        return _repeated(np.array(field, np.uint16).view(dtype.numpy), sizes, where)
    return _repeated(np.array(field, dtype.numpy), sizes, where)


def _repeated(values: np.ndarray, sizes: tuple[int, ...], where: str) -> np.ndarray:
    """The values in the shape; the last one stands for all that are left out."""
    count = math.prod(sizes)
    if values.size > count or (values.size == 0 and count and values.dtype.kind == "O"):
        raise ModelError(f"{where}: {values.size} values do not fit {sizes}")
    if values.size == 0:
        return np.zeros(sizes, values.dtype)
    return np.concatenate([values, np.repeat(values[-1:], count - values.size)]).reshape(sizes)


# -- collections

VARIABLES: Final = (
    "variables", "trainable_variables", "local_variables", "model_variables",
    "moving_average_variables", "metric_variables",
)  # fmt: skip


def as_meta_graph(graph: Graph, keys: Iterable[str] | None = None, clear: bool = False) -> Any:
    """The MetaGraphDef proto: nodes, and those collections whose elements have names.

    `clear` leaves out what is said of devices: nothing is.
    """
    del clear
    result = proto("meta_graph_pb2", "MetaGraphDef")()
    result.meta_info_def.tensorflow_version = "1.15.0"
    result.graph_def.CopyFrom(as_graph_def(graph))
    for key in graph.collections if keys is None else keys:
        _fill_collection(result, key, graph.collections.get(key, ()))
    return result


def _fill_collection(meta: Any, key: str, items: Sequence[Any]) -> None:
    """A collection as far as it is of one kind that a file can hold."""
    held = meta.collection_def[key]
    if items and all(hasattr(x, "initializer") and hasattr(x, "node") for x in items):
        held.bytes_list.value.extend(_variable_def(x) for x in items)
    elif items and all(isinstance(x, str) for x in items):
        held.bytes_list.value.extend(x.encode() for x in items)
    elif items and all(isinstance(x, int) for x in items):
        held.int64_list.value.extend(items)
    elif items and all(isinstance(x, float) for x in items):
        held.float_list.value.extend(items)
    elif items and all(_element_name(x) for x in items):
        held.node_list.value.extend(_element_name(x) for x in items)
    else:
        del meta.collection_def[key]


def _element_name(x: Any) -> str | None:
    """The name of a tensor or an op."""
    from graphc.ir.graph import Node, Value

    return x.name if isinstance(x, (Node, Value)) else None


def _variable_def(variable: Any) -> bytes:
    made = proto("variable_pb2", "VariableDef")(
        variable_name=variable.name,
        initial_value_name=variable.initial_value.name,
        initializer_name=variable.initializer.name,
        snapshot_name=variable.name,
        trainable=variable.trainable,
    )
    return bytes(made.SerializeToString())


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec("tensorboard") is not None


def can_write() -> bool:
    """True when the protos are there."""
    return _installed()

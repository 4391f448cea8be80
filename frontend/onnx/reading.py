"""The parts of an ONNX file as they are read: the proto, checked; element types, shapes, tensors.

Nothing here trusts the file: sizes are compared with the data that are there, and external data
come only from the model's folder.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from graphc.ir.dtypes import DType, as_dtype
from graphc.ir.errors import ModelError, UnsupportedOp
from graphc.ir.types import UNKNOWN, Shape

DTYPES: Final[Mapping[int, str]] = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    8: "string", 9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64",
    16: "bfloat16",
}  # fmt: skip
MOST_ELEMENTS: Final = 1 << 31  # of a tensor


def onnx_package() -> Any:
    """The package onnx, imported when it is first needed."""
    try:
        import onnx
        import onnx.numpy_helper
        import onnx.shape_inference
    except ImportError as error:
        raise ModelError(
            f"reading ONNX models needs the package onnx ({error}): pip install graphc[onnx]"
        ) from error
    return onnx


def dtype_of(code: int, where: str) -> DType:
    """The dtype of an ONNX element type; UnsupportedOp for those that graphc has not."""
    name = DTYPES.get(code)
    if name is not None:
        return as_dtype(name)
    names = {number: text for text, number in onnx_package().TensorProto.DataType.items()}
    if code not in names:
        raise ModelError(f"{where} has elements of type {code}, which ONNX has not")
    raise UnsupportedOp(f"{where} has elements of type {names[code]}, which graphc has not")


def shape_of(tensor_type: Any) -> Shape | None:
    """The shape that a tensor's type declares: sizes, names, unknown dims; None: any rank."""
    if not tensor_type.HasField("shape"):
        return None
    dims = tensor_type.shape.dim
    return tuple(
        int(d.dim_value)
        if d.HasField("dim_value") and d.dim_value >= 0
        else op_name(d.dim_param) or UNKNOWN
        for d in dims
    )


def op_name(name: str) -> str:
    """The name as graphc allows it."""
    return re.sub(r"[^A-Za-z0-9_.\\/>-]", "_", name).lstrip("_-/\\>")


# -- the file


def read_proto(model: Any) -> tuple[Any, Path | None]:
    """The ModelProto, checked, and the folder of its external data."""
    onnx = onnx_package()
    folder = None
    if isinstance(model, (str, Path)):
        path = Path(model)
        if not path.is_file():
            raise ModelError(f"there is no model file {path}")
        folder, model = path.parent, path.read_bytes()
    if isinstance(model, (bytes, bytearray, memoryview)):
        model = _parsed(onnx, bytes(model))
    if not isinstance(model, onnx.ModelProto):
        raise ModelError(f"load() takes a path, bytes or a ModelProto, got {type(model).__name__}")
    _check(onnx, model)
    return model, folder


def _parsed(onnx: Any, data: bytes) -> Any:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception as error:  # protobuf's own class differs from release to release
        raise ModelError(f"these bytes are no ONNX model: {error}") from None
    return proto


def _check(onnx: Any, proto: Any) -> None:
    """What can be said of the whole file: it has a graph, sane sizes, and the checker's leave."""
    if not proto.HasField("graph"):
        raise ModelError("the model has no graph: the file is cut off, or no ONNX model")
    outside = False
    for tensor in all_tensors(proto):
        sizes = list(tensor.dims)
        if any(d < 0 for d in sizes) or math.prod(sizes) > MOST_ELEMENTS:
            raise ModelError(f"tensor {tensor.name!r} declares the absurd shape {sizes}")
        outside = outside or tensor.data_location == onnx.TensorProto.EXTERNAL
    try:
        onnx.checker.check_model(_without_external(onnx, proto) if outside else proto)
    except (onnx.checker.ValidationError, ValueError) as error:  # text that is no UTF-8
        lines = str(error).strip().splitlines() or ["no reason given"]
        raise ModelError(f"the model is not sound: {lines[0]}") from None


def all_tensors(proto: Any) -> Iterator[Any]:
    """Every tensor of a model: initializers and attributes, in functions and inner graphs too."""
    nodes = [n for f in proto.functions for n in f.node]
    for graph in all_graphs(proto):
        yield from graph.initializer
        nodes.extend(graph.node)
    for attribute in (a for n in nodes for a in n.attribute):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors


def all_graphs(proto: Any) -> Iterator[Any]:
    """The graph of a model, and the graphs inside of nodes, at any depth."""
    graphs = [proto.graph]
    nodes = [n for f in proto.functions for n in f.node]
    while graphs or nodes:
        if graphs:
            nodes.extend(graphs[-1].node)
            yield graphs.pop()
        for attribute in (a for n in nodes for a in n.attribute):
            graphs += [attribute.g] if attribute.HasField("g") else []
            graphs += attribute.graphs
        nodes.clear()


def _without_external(onnx: Any, proto: Any) -> Any:
    """For the checker, which would look for the files: external data is checked when read."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for tensor in all_tensors(copy):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.ClearField("data_location")
            tensor.ClearField("external_data")
            tensor.raw_data = b""
            del tensor.dims[:]
            tensor.dims.append(0)
    return copy


# -- tensors


def read_tensor(tensor: Any, folder: Path | None) -> np.ndarray:
    """A tensor of the model as an array; external data only from the model's folder."""
    onnx = onnx_package()
    dtype = dtype_of(tensor.data_type, f"tensor {tensor.name!r}")
    try:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            return _external(tensor, folder, dtype.numpy)
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    except (ValueError, TypeError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"tensor {tensor.name!r} cannot be read: {error}") from None


def _external(tensor: Any, folder: Path | None, dtype: np.dtype[Any]) -> np.ndarray:
    if dtype.kind == "O":
        raise ModelError(f"tensor {tensor.name!r} of strings cannot lie in a file of its own")
    keys = {e.key: e.value for e in tensor.external_data}
    if folder is None:
        raise ModelError(f"tensor {tensor.name!r} lies in a file: load the model by its path")
    root = folder.resolve()
    path = (root / keys.get("location", "")).resolve()
    if root not in path.parents:
        raise ModelError(f"tensor {tensor.name!r} points outside the model's folder: {path}")
    size = math.prod(tensor.dims) * dtype.itemsize
    offset, length = int(keys.get("offset", 0)), int(keys.get("length", 0))
    if not path.is_file() or offset < 0 or path.stat().st_size < offset + size:
        raise ModelError(f"the data of tensor {tensor.name!r} are missing from {path.name}")
    if length and length != size:
        raise ModelError(f"tensor {tensor.name!r}: {length} bytes instead of {size}")
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(size)
    return np.frombuffer(data, dtype).reshape(tuple(tensor.dims))


__all__ = [
    "DTYPES",
    "MOST_ELEMENTS",
    "all_graphs",
    "all_tensors",
    "dtype_of",
    "onnx_package",
    "op_name",
    "read_proto",
    "read_tensor",
    "shape_of",
]

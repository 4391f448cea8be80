"""Reading an ONNX model into a graph.

The model is checked (reading.py), its local functions are inlined, shapes are inferred by the
onnx package as far as it can; then its nodes are converted one by one (importer.py).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from graphc.frontend.onnx.importer import OLDEST, Importer
from graphc.frontend.onnx.reading import (
    DTYPES,
    MOST_ELEMENTS,
    all_graphs,
    dtype_of,
    onnx_package,
    op_name,
    read_proto,
    read_tensor,
    shape_of,
)
from graphc.frontend.onnx.registry import NotKnown, known_value
from graphc.frontend.sources import placeholder, placeholder_with_default
from graphc.frontend.variables import Variable
from graphc.ir.computation import topological_order
from graphc.ir.dtypes import as_dtype
from graphc.ir.errors import ModelError, UnsupportedOp
from graphc.ir.graph import Graph, Value, convert
from graphc.ir.types import UNKNOWN, Shape

_LARGE: Final = 1 << 20  # a size whose elements are not listed one by one
_OVERRIDABLE: Final = 4  # IR version since which an initializer need not be an input

_log = logging.getLogger("graphc")


@dataclass
class Model:
    """A model in a graph: what it takes and gives by name, in its order, and its variables.

    `defaults` are inputs that need no feed: a run that feeds one replaces the model's value.
    """

    graph: Graph
    inputs: dict[str, Value] = field(default_factory=dict)
    outputs: dict[str, Value] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    defaults: dict[str, Value] = field(default_factory=dict)


def load(
    model: Any,
    *,
    graph: Graph | None = None,
    trainable: bool = False,
    name: str | None = None,
    absent: Collection[str] = (),
) -> Model:
    """The model (a path, bytes, or a ModelProto) in the graph, by default a new one.

    With `trainable`, initializers of floats become variables, else constants. `absent` names
    optional inputs that have no value; all others must be fed. ModelError for a
    file that is no sound model, UnsupportedOp for what graphc has not.
    """
    proto, folder = read_proto(model)
    target = graph or Graph()
    with target.as_default(), target.name_scope(name) if name else contextlib.nullcontext():
        return _Loader(_inlined(proto), folder, trainable, Model(target)).run(absent)


def _inlined(proto: Any) -> Any:
    """Without model-local functions: they stand where they are called."""
    if not proto.functions:
        return proto
    from onnx.inliner import inline_local_functions

    try:
        return inline_local_functions(proto)
    except RuntimeError as error:  # a function that calls itself
        raise ModelError(f"the model's functions cannot be inlined: {error}") from None


class _Loader:
    """Fills a Model from a proto."""

    def __init__(self, proto: Any, folder: Path | None, trainable: bool, model: Model) -> None:
        self.graph, self.folder, self.trainable, self.model = proto.graph, folder, trainable, model
        self.ir_version = proto.ir_version
        self.versions = {o.domain or "ai.onnx": o.version for o in proto.opset_import}
        self.check_versions()
        self.readers: dict[str, Any] = {}  # the first node that reads each name
        for node in reversed(self.graph.node):
            self.readers.update(dict.fromkeys(node.input, node))
        types = _inferred(proto)
        self.importer = Importer(self.versions, folder, types, self.known)

    def check_versions(self) -> None:
        version = self.versions.get("ai.onnx", OLDEST)
        newest = onnx_package().defs.onnx_opset_version()
        # of older opsets, those operators are read that opset 7 left as they were
        if version > newest or (version < OLDEST and not self.graph.node):
            raise UnsupportedOp(f"opset {version}: graphc reads {OLDEST} to {newest}")

    def known(self, value: Value) -> np.ndarray:
        """A value that no run can change; NotKnown otherwise."""
        if self.model.defaults:
            nodes = set(topological_order([value.node]))
            if any(v.node in nodes for v in self.model.defaults.values()):
                raise NotKnown
        return known_value(value)

    def run(self, absent: Collection[str]) -> Model:
        """The whole model."""
        if self.graph.sparse_initializer:
            raise UnsupportedOp("sparse initializers are not supported")
        scope: dict[str, Value | None] = {"": None}
        infos = {info.name: info for info in self.graph.input}
        initializers = {t.name: t for t in self.graph.initializer}
        for name in absent:
            if name not in infos or not infos[name].type.HasField("optional_type"):
                raise ModelError(f"{name!r} is no optional input, which may be absent")
            scope[name] = None
        for name, info in infos.items():
            if name not in initializers and name not in absent:
                scope[name] = self.model.inputs[name] = self.placeholder(info)
        for name, tensor in initializers.items():
            scope[name] = self.initializer(tensor, infos.get(name))
        self.importer.nodes(self.graph.node, scope)
        for info in self.graph.output:
            value = scope.get(info.name)
            if value is None:
                raise ModelError(f"nothing gives the output {info.name!r}")
            self.model.outputs[info.name] = value
        return self.model

    def placeholder(self, info: Any) -> Value:
        """An input; what refuses it names the node that reads it."""
        declared = info.type
        if declared.HasField("optional_type"):  # every run has a value for it
            declared = declared.optional_type.elem_type
        tensor_type = declared.tensor_type
        with self.reader(info.name):
            kind = declared.WhichOneof("value")
            if kind != "tensor_type":
                raise UnsupportedOp(f"input {info.name!r} is a {kind}, which graphc has not")
            dtype = dtype_of(tensor_type.elem_type, f"input {info.name!r}")
        shape = shape_of(tensor_type)
        dims = None if shape is None else [None if d == UNKNOWN else d for d in shape]
        return placeholder(dtype, dims, op_name(info.name) or None)

    def reader(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Errors inside name the first node that reads this input, or else the model's first."""
        nodes = self.graph.node
        first = self.readers.get(name, nodes[0] if nodes else None)
        return contextlib.nullcontext() if first is None else self.importer.named(first)

    def initializer(self, tensor: Any, info: Any) -> Value:
        """A constant, a variable, or an input with a default."""
        with self.reader(tensor.name):
            array = read_tensor(tensor, self.folder)
        name = op_name(tensor.name) or None
        if self.trainable and as_dtype(array.dtype).is_floating and array.ndim:
            made = Variable(array, name=name)
            self.model.variables[tensor.name] = made
            return made.value()
        if info is None or self.ir_version < _OVERRIDABLE:
            return convert(array, name=name)
        shape = shape_of(info.type.tensor_type)
        result = placeholder_with_default(array, array.shape if shape is None else shape, name)
        self.model.defaults[tensor.name] = result
        return result


def _inferred(proto: Any) -> Mapping[str, tuple[str, Shape | None]]:
    """Per value's name, its dtype and shape, as far as they can be inferred."""
    _forget_absurd_sizes(proto)
    _check_splits(proto)
    try:
        with _without_large_sizes(proto):
            graph = onnx_package().shape_inference.infer_shapes(proto, data_prop=True).graph
    except Exception as error:  # a help, not a judge: what is wrong, converters say by name
        _log.info("onnx cannot infer this model's shapes: %s", error)
        graph = proto.graph
    found = {}
    for info in (*graph.input, *graph.output, *graph.value_info):
        tensor_type = info.type.tensor_type
        if info.type.HasField("tensor_type") and tensor_type.elem_type in DTYPES:
            found[info.name] = DTYPES[tensor_type.elem_type], shape_of(tensor_type)
    return found


def _forget_absurd_sizes(proto: Any) -> None:
    """Declared sizes that no tensor has become unknown: on some, the inference would crash."""
    for d in _declared_dims(proto):
        if not 0 <= d.dim_value <= MOST_ELEMENTS:
            d.ClearField("dim_value")


@contextlib.contextmanager
def _without_large_sizes(proto: Any) -> Iterator[None]:
    """For the inference, large sizes are unknown: of some inputs it lists every element."""
    large = [(d, d.dim_value) for d in _declared_dims(proto) if d.dim_value > _LARGE]
    for d, _ in large:
        d.ClearField("dim_value")
    try:
        yield
    finally:
        for d, size in large:
            d.dim_value = size


def _check_splits(proto: Any) -> None:
    """As many parts as outputs: the inference would list them all."""
    for node in (n for graph in all_graphs(proto) for n in graph.node if n.op_type == "Split"):
        for a in node.attribute:
            if a.name == "num_outputs" and a.i != len(node.output):
                name = node.name or next(iter(node.output), "")
                raise ModelError(f"Split {name!r} has {len(node.output)} outputs of {a.i} parts")


def _declared_dims(proto: Any) -> Iterator[Any]:
    for graph in all_graphs(proto):
        for info in (*graph.input, *graph.output, *graph.value_info):
            if info.type.HasField("tensor_type"):
                yield from info.type.tensor_type.shape.dim


__all__ = ["Model", "load", "onnx_package", "op_name"]

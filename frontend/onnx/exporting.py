"""One ONNX model in the making, and the table of how ops are spelled in it.

An op is spelled by its exporter in `EXPORTERS` or, where it has none, by what it decomposes to. A
body (of a loop or a branch) is a graph inside of the model: what is emitted in it has names that
only it can read, and it reads all names around it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from graphc.frontend.onnx.registry import NotKnown, known_value
from graphc.ir.computation import Computation, topological_order
from graphc.ir.dtypes import DType
from graphc.ir.errors import UnsupportedOp
from graphc.ir.graph import Node, Value, detached
from graphc.ir.types import UNKNOWN

OPSET: Final = 18  # what most models are written in; some ops need a later one
CODES: Final[Mapping[str, int]] = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7,
    "bool": 9, "float16": 10, "float64": 11, "uint32": 12, "uint64": 13, "bfloat16": 16,
}  # fmt: skip

# What can be decomposed where sizes are not known: no number of them goes into the result.
_WITHOUT_SIZES: Final = frozenset({
    "batch_normalization", "channel_square_sum", "channel_window_sum", "elu",
    "gelu", "huber", "l2_loss", "l2_normalize", "layer_norm",
    "leaky_relu", "local_response_normalization", "log_sigmoid", "range", "relu6", "selu",
    "sigmoid_cross_entropy", "silu", "softmax_cross_entropy", "unsorted_segment_sum",
    "weighted_cross_entropy",
})  # fmt: skip

Exporter: TypeAlias = "Callable[[Exporting, Node], None]"
EXPORTERS: Final[dict[str, Exporter]] = {}


class Exporting:
    """One model in the making; `names` has what each value is called, `live` what is read."""

    def __init__(self, onnx: Any, variables: Mapping[Node, np.ndarray]) -> None:
        self.onnx = onnx
        self.variables = variables
        self.names: dict[Value, str] = {}
        self.live: set[Value] = set()
        self.taken: set[str] = set()
        self.nodes: list[Any] = []
        self.count = 0
        self.opset = OPSET
        self.meant: list[tuple[Node, str, int]] = []  # operators that are meant as of an opset
        self.depth = 0  # of what is spelled by its decomposition
        self.initializers: list[Any] = []
        self.constants: dict[tuple[Any, ...], str] = {}

    def model(
        self, computation: Computation, inputs: Mapping[Node, str], outputs: Sequence[str]
    ) -> Any:
        """The whole model."""
        helper = self.onnx.helper
        self.taken |= {*inputs.values(), *outputs}
        for node, name in inputs.items():
            self.names[node.outputs[0]] = name
        results = self.computed(computation)
        self.check_meant()
        for result, name in zip(results, outputs, strict=True):
            self.emit("Identity", [result], name)
        graph = helper.make_graph(
            self.nodes, "graphc",
            [self.info(n, v.outputs[0]) for v, n in inputs.items()],
            [self.info(n, v) for v, n in zip(computation.outputs, outputs, strict=True)],
            self.initializers,
        )  # fmt: skip
        opset = [helper.make_opsetid("", self.opset)]
        version = max(9, helper.find_min_ir_version_for(opset))
        return helper.make_model(
            graph, opset_imports=opset, producer_name="graphc", ir_version=version
        )

    def check_meant(self) -> None:
        """Take the newest opset that is meant; refuse what another meaning in it has."""
        schema = self.onnx.defs.get_schema
        self.needs(max((version for _, _, version in self.meant), default=OPSET))
        for node, op, version in self.meant:
            if schema(op, version).since_version != schema(op, self.opset).since_version:
                raise unsaid(node, f"of opset {self.opset}: it is {op} of opset {version}")

    def needs(self, opset: int) -> None:
        """An op is spelled with what ONNX has since that opset."""
        self.opset = max(self.opset, opset)

    def info(self, name: str, value: Value) -> Any:
        """The declaration of a value under that name."""
        shape = value.type.shape
        dims = None if shape is None else [None if d == UNKNOWN else d for d in shape]
        return self.onnx.helper.make_tensor_value_info(name, self.code(value.dtype), dims)

    def scalar_info(self, name: str, dtype: str) -> Any:
        """The declaration of a scalar."""
        return self.onnx.helper.make_tensor_value_info(name, CODES[dtype], [])

    def code(self, dtype: DType) -> int:
        """ONNX's number of the dtype."""
        if dtype.name not in CODES:
            raise UnsupportedOp(f"{dtype.name} is no type of elements that is written to ONNX")
        return CODES[dtype.name]

    # -- names, nodes, constants

    def fresh(self, name: str) -> str:
        """A name that no other value has."""
        unique, count = name, 0
        while unique in self.taken:
            count += 1
            unique = f"{name}_{count}"
        self.taken.add(unique)
        return unique

    def name(self, value: Value) -> str:
        """What the value is called."""
        return self.names[value]

    def given(self, node: Node) -> list[str]:
        """What the node's inputs are called."""
        return [self.names[v] for v in node.inputs]

    def emit(self, op: str, inputs: Sequence[str], output: str = "", **attrs: Any) -> str:
        """One ONNX node; the name of what it gives."""
        return self.emits(op, inputs, [output or self.fresh(op.lower())], **attrs)[0]

    def emits(self, op: str, inputs: Sequence[str], outputs: list[str], **attrs: Any) -> list[str]:
        """One ONNX node with these outputs. Attributes that are None are left out."""
        given = {k: v for k, v in attrs.items() if v is not None}
        made = self.onnx.helper.make_node(
            op, list(inputs), outputs, f"{op}_{self.count}", **given
        )  # fmt: skip
        self.count += 1
        self.nodes.append(made)
        return outputs

    def define(self, node: Node, op: str, inputs: Sequence[str], **attrs: Any) -> None:
        """The node's output as one ONNX node."""
        self.names[node.outputs[0]] = self.emit(op, inputs, self.fresh(node.name), **attrs)

    def constant(self, array: Any, name: str = "constant") -> str:
        """An initializer; equal ones are one."""
        data = np.array(array, order="C")  # of a scalar ascontiguousarray makes a vector
        bits = hashlib.blake2b(data.tobytes()).digest()
        key = (data.dtype.str, data.dtype.name, data.shape, bits)
        if key not in self.constants:
            self.constants[key] = self.fresh(name)
            proto = self.onnx.numpy_helper.from_array(data, self.constants[key])
            self.initializers.append(proto)
        return self.constants[key]

    def ints(self, values: Sequence[int]) -> str:
        """A list of int64."""
        return self.constant(np.array(list(values), np.int64), "ints")

    def scalar(self, number: Any, like: Value) -> str:
        """A number in the dtype of a value."""
        return self.constant(np.asarray(number, like.dtype.numpy))

    def cast(self, name: str, dtype: str) -> str:
        """The value in another dtype."""
        return self.emit("Cast", [name], to=CODES[dtype])

    # -- nodes

    def node(self, node: Node) -> None:
        """Spell one op; its own exporter comes first, then what it decomposes to."""
        if not node.outputs or node.outputs[0] in self.names:
            return
        exporter = EXPORTERS.get(node.op.name)
        if exporter is not None:
            exporter(self, node)
        else:
            self.decomposed(node)

    def decomposed(self, node: Node) -> None:
        """Spell what the op decomposes to; UnsupportedOp where that is nothing, or not known."""
        if node.op.decompose is None:
            raise unsaid(node)
        if node.op.name not in _WITHOUT_SIZES and not all(t.is_static for t in types_of(node)):
            raise unsaid(node, "with sizes that are unknown")
        with detached(node):
            made = node.op.decompose(node)
        results = [made] if isinstance(made, Value) else list(made)
        self.depth += 1
        self.spell(topological_order(v.node for v in results), results)
        self.depth -= 1
        for value, result in zip(node.outputs, results, strict=True):
            self.names[value] = self.names[result]

    def spell(self, nodes: Sequence[Node], results: Sequence[Value]) -> None:
        """Spell nodes, every one after its inputs."""
        self.live.update(results)
        self.live.update(v for node in nodes for v in node.inputs)
        for node in nodes:
            self.node(node)

    def computed(self, computation: Computation) -> list[str]:
        """Spell a computation; the names of its outputs."""
        self.spell(computation.nodes, computation.outputs)
        return [self.names[v] for v in computation.outputs]

    def known(self, value: Value) -> np.ndarray | None:
        """The value, where it follows from constants and shapes that are known."""
        try:
            return known_value(value)
        except NotKnown:
            return None

    # -- bodies

    @contextlib.contextmanager
    def scope(self, params: Sequence[Value], given: Sequence[str]) -> Iterator[None]:
        """What is named inside is forgotten after it; the params have the given names."""
        before = dict(self.names)
        try:
            self.names.update(zip(params, given, strict=True))
            yield
        finally:
            self.names = before

    @contextlib.contextmanager
    def body(self) -> Iterator[list[Any]]:
        """The nodes that are emitted inside go to the list, not to the graph around it."""
        around, self.nodes = self.nodes, []
        try:
            yield self.nodes
        finally:
            self.nodes = around

    def graph(
        self, nodes: Sequence[Any], inputs: Sequence[Any], results: Mapping[str, Value | None]
    ) -> Any:
        """A body as ONNX has it; `results` are its outputs, which it computes. None: a bool."""
        outputs = [
            self.scalar_info(name, "bool") if value is None else self.info(name, value)
            for name, value in results.items()
        ]
        return self.onnx.helper.make_graph(list(nodes), "body", list(inputs), outputs)


def exporter(*names: str) -> Callable[[Exporter], Exporter]:
    """Enter the ONNX spelling of ops."""

    def enter(function: Exporter) -> Exporter:
        for name in names:
            assert name not in EXPORTERS, f"two exporters of {name}"
            EXPORTERS[name] = function
        return function

    return enter


def types_of(node: Node) -> list[Any]:
    """The types of what the node takes and gives."""
    return [*(v.type for v in node.inputs), *node.types]


def unsaid(node: Node, why: str = "") -> UnsupportedOp:
    """The error for what ONNX has no spelling of."""
    text = f"op {node.op.name!r} ({node.name!r}) has no spelling in ONNX"
    return UnsupportedOp(f"{text} {why}".rstrip())

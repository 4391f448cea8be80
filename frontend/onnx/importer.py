"""Nodes of an ONNX model, one by one, as ops of the current graph.

A node is converted by its converter, or by the function that the operator's schema gives as its
meaning. What depends on values fed at run time becomes a deferred op (see
graphc.ir.ops.deferred), which is converted when a program is specialized.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from graphc.frontend.onnx import ops as _ops
from graphc.frontend.onnx.reading import DTYPES, onnx_package, op_name, read_tensor
from graphc.frontend.onnx.registry import CONVERTERS, AsFunction, Call, NotKnown, known_value
from graphc.ir.errors import GraphcError, ModelError, ShapeError, UnsupportedOp
from graphc.ir.graph import Value, convert, get_default_graph
from graphc.ir.ops.deferred import EXPANSIONS, deferred
from graphc.ir.types import Shape

assert _ops  # fills the table of converters

OLDEST: Final = 7
# Operators whose older meaning the converters know, besides those that opset 7 left as they were.
_OF_OPSET_6: Final = frozenset(
    {"Add", "AveragePool", "BatchNormalization", "Div", "Gemm", "Mul", "PRelu", "Pow", "Sub"}
)
_MOST_BYTES: Final = 1 << 40  # of one tensor: no machine runs a model with more

# What broken attributes and absurd sizes make of a converter.
_STUMBLES: Final = (
    ValueError, TypeError, LookupError, ArithmeticError, AttributeError, MemoryError,
)  # fmt: skip

Host: TypeAlias = Callable[[Value], np.ndarray]
Values: TypeAlias = "Mapping[str, Value | None]"


@dataclass(frozen=True)
class Importer:
    """Converts nodes.

    `versions` has the opset of each domain, `types` dtypes and shapes by name as far as they are
    known, `host` gives values. `is_final`: nothing more will be known later.
    """

    versions: Mapping[str, int]
    folder: Path | None = None
    types: Mapping[str, tuple[str, Shape | None]] = field(default_factory=dict)
    host: Host = known_value
    is_final: bool = False

    def nodes(self, nodes: Sequence[Any], scope: dict[str, Value | None]) -> None:
        """Convert nodes in their order; `scope` gains their outputs."""
        for proto in nodes:
            missing = [n for n in proto.input if n not in scope]
            if missing:
                raise ModelError(
                    f"node {proto.name!r} ({proto.op_type}) reads {missing[0]!r}, which nothing "
                    "before it gives"
                )
            outputs = self.node(proto, [scope[n] for n in proto.input], scope)
            scope.update((n, v) for n, v in zip(proto.output, outputs, strict=False) if n)

    def node(self, proto: Any, inputs: list[Value | None], scope: Values) -> Sequence[Value | None]:
        """The outputs of one node: now, or deferred where something is not known yet."""
        with self.named(proto):
            call = self.call(proto, inputs, scope)
            self.check_age(call, proto)
            if self.is_final:
                return self.converted(call, proto)
            with get_default_graph().trial() as trial:
                try:
                    return self.converted(call, proto)
                except NotKnown:
                    trial.undo()
            return self.deferred(call, proto)

    @contextlib.contextmanager
    def named(self, proto: Any) -> Iterator[None]:
        """Errors inside name op, opset version and node, whatever a broken node made of them."""
        domain = proto.domain or "ai.onnx"
        op = proto.op_type if domain == "ai.onnx" else f"{domain}.{proto.op_type}"
        name = proto.name or next(iter(proto.output), "")
        text = f"ONNX op {op} of opset {self.versions.get(domain, 1)}, node {name!r}"
        try:
            yield
        except UnsupportedOp as error:
            if error.message.startswith("ONNX op "):
                raise
            raise UnsupportedOp(f"{text}: {error.message}") from None
        except GraphcError:
            raise
        except _STUMBLES as error:
            raise ModelError(f"{text}: its inputs or attributes do not fit: {error}") from error

    def call(self, proto: Any, inputs: list[Value | None], scope: Values) -> Call:
        """The node as converters see it."""
        domain = proto.domain or "ai.onnx"
        op = proto.op_type if domain == "ai.onnx" else f"{domain}.{proto.op_type}"
        return Call(
            op, self.versions.get(domain, 1), proto.name or proto.output[0],
            {a.name: self.attribute(a) for a in proto.attribute}, inputs, len(proto.output),
            self.host, Bodies(self, scope),
        )  # fmt: skip

    def check_age(self, call: Call, proto: Any) -> None:
        """Refuse what an operator meant before opset 7, unless opset 7 left it as it was."""
        if call.version >= OLDEST or proto.domain not in ("", "ai.onnx"):
            return
        defs = onnx_package().defs
        try:
            before, after = (
                defs.get_schema(proto.op_type, v).since_version for v in (call.version, OLDEST)
            )
        except defs.SchemaError:
            raise call.refused("there is no such operator") from None
        known = call.version == OLDEST - 1 and call.op in _OF_OPSET_6
        if before != after and not known:
            raise call.refused(f"graphc reads opsets from {OLDEST} on")

    def attribute(self, a: Any) -> Any:
        """An attribute as Python has it; tensors as arrays, graphs as they are."""
        onnx = onnx_package()
        types = onnx.AttributeProto
        match a.type:
            case types.TENSOR:
                return read_tensor(a.t, self.folder)
            case types.STRING:
                return a.s.decode()
            case types.STRINGS:
                return [s.decode() for s in a.strings]
            case types.GRAPH:
                return a.g
            case types.FLOAT | types.INT | types.FLOATS | types.INTS:
                return onnx.helper.get_attribute_value(a)
        raise UnsupportedOp(f"attribute {a.name!r} is a {types.AttributeType.Name(a.type)}")

    def converted(self, call: Call, proto: Any) -> Sequence[Value | None]:
        """By the converter, or else by the schema's function; NotKnown where it is too early."""
        function = CONVERTERS.get(call.op)
        if function is None:
            return self.expanded(call, proto)
        with get_default_graph().name_scope(op_name(call.name) or op_name(call.op)):
            try:
                made = function(call)
            except AsFunction:
                return self.expanded(call, proto)
        outputs = [made] if isinstance(made, Value) else list(made)
        for value in outputs:
            if value.type.is_static and value.type.nbytes > _MOST_BYTES:
                raise ModelError(f"{call.where}: gives a tensor of {value.type}, which is absurd")
        return outputs

    # -- operators that are functions

    def expanded(self, call: Call, proto: Any) -> Sequence[Value | None]:
        """By the function that the operator's schema says it means."""
        body = self.function_of(call, proto)
        given = dict(zip(body.input, call.inputs, strict=False))
        scope: dict[str, Value | None] = {"": None, **dict.fromkeys(body.input), **given}
        inner = replace(
            self, versions={o.domain or "ai.onnx": o.version for o in body.opset_import}
        )
        for node in (_with_attributes(n, proto, body) for n in body.node):
            part = inner.call(node, [scope[n] for n in node.input], scope)
            part.name = call.name
            outputs = inner.converted(part, node)
            scope.update(zip(node.output, outputs, strict=False))
        # what the call leaves out, its function need not give
        return [scope.get(n) for n in list(body.output)[: call.output_count]]

    def function_of(self, call: Call, proto: Any) -> Any:
        """The schema's function of the node; UnsupportedOp where it has none."""
        onnx = onnx_package()
        try:
            schema = onnx.defs.get_schema(proto.op_type, call.version, proto.domain)
        except onnx.defs.SchemaError:
            raise call.refused("there is no such operator") from None
        versions = schema.function_opset_versions if schema.has_function else ()
        by_types = schema.context_dependent_function_opset_versions
        body = onnx.FunctionProto()
        if newest := max((v for v in versions if v <= call.version), default=None):
            body.ParseFromString(schema.get_function_with_opset_version(newest))
        elif newest := max((v for v in by_types if v <= call.version), default=None):
            types = [_type_proto(v) for v in call.inputs]
            body.ParseFromString(
                schema.get_context_dependent_function_with_opset_version(
                    newest, proto.SerializeToString(), types
                )
            )
        else:
            raise call.refused("graphc has no such operator")
        return body

    # -- what is known only later

    def deferred(self, call: Call, proto: Any) -> Sequence[Value | None]:
        """An op that is converted when shapes are static and values are fed."""
        outputs = [self.output_type(call, proto, i) for i, n in enumerate(proto.output) if n]
        free = _free_names(proto, call.importer.values)
        given = [v for v in call.inputs if v is not None]
        given += [v for v in (call.importer.values[n] for n in free) if v is not None]
        payload = json.dumps({"versions": dict(self.versions), "node": _slim(call, proto),
                              "free": free})  # fmt: skip
        name = re.sub(r"\W+", "_", call.op)
        made = iter(deferred.outputs(
            *given, expansion="onnx", payload=payload, outputs=tuple(outputs), name=name
        ))  # fmt: skip
        return [next(made) if n else None for n in proto.output]

    def output_type(self, call: Call, proto: Any, number: int) -> tuple[str, Shape | None]:
        """Dtype and shape of an output, as inferred, or its dtype by the schema."""
        name = proto.output[number]
        if name in self.types:
            return self.types[name]
        dtype = _attribute_dtype(call) or _schema_dtype(call, proto, number)
        if dtype is None:
            raise call.refused(
                "what it gives depends on values that are known only when it runs, and its "
                f"output {name!r} has no declared type"
            )
        return dtype, None


@dataclass(frozen=True)
class Bodies:
    """What the graphs inside a node (the bodies of If, Loop and Scan) may use."""

    importer: Importer
    values: Values

    def build(self, body: Any, given: Sequence[Value]) -> list[Value]:
        """The outputs of a graph that is an attribute, for these inputs."""
        scope = dict(self.values)
        scope.update((i.name, v) for i, v in zip(body.input, given, strict=False))
        for tensor in body.initializer:
            scope[tensor.name] = convert(read_tensor(tensor, self.importer.folder))
        self.importer.nodes(body.node, scope)
        outputs = [scope[o.name] for o in body.output]
        return [v for v in outputs if v is not None]


def _expansion(payload: str, inputs: Sequence[Value], host: Host) -> list[Value]:
    """A deferred node, now that its inputs have static shapes and values can be had."""
    read = json.loads(payload)
    proto = onnx_package().NodeProto()
    proto.ParseFromString(base64.b64decode(read["node"]))

    def known(value: Value) -> np.ndarray:
        try:
            return host(value)
        except ShapeError:
            raise NotKnown from None

    importer = Importer(read["versions"], host=known, is_final=True)
    rest = iter(inputs)
    given = [next(rest) if name else None for name in proto.input]
    free: dict[str, Value | None] = dict(zip(read["free"], rest, strict=True))
    with importer.named(proto):
        call = importer.call(proto, given, {"": None, **free})
        try:
            outputs = importer.converted(call, proto)
        except NotKnown:
            raise call.refused("it needs a value that is computed in the same run") from None
    return [v for n, v in zip(proto.output, outputs, strict=False) if n and v is not None]


EXPANSIONS["onnx"] = _expansion


def _slim(call: Call, proto: Any) -> str:
    """The node as text; the inputs that are left out have no name."""
    slim = onnx_package().NodeProto()
    slim.CopyFrom(proto)
    del slim.input[:]
    slim.input.extend(n if v is not None else ""
                      for n, v in zip(proto.input, call.inputs, strict=True))  # fmt: skip
    return base64.b64encode(slim.SerializeToString()).decode()


def _type_proto(value: Value | None) -> bytes:
    if value is None:
        return b""
    code = next(c for c, n in DTYPES.items() if n == value.dtype.name)
    shape = value.type.shape
    dims = None if shape is None else [d if isinstance(d, int) else None for d in shape]
    made = onnx_package().helper.make_tensor_type_proto(code, dims)
    return bytes(made.SerializeToString())


def _attribute_dtype(call: Call) -> str | None:
    """The dtype that an attribute says: of the tensor `value`, or a code."""
    value = call.attr("value")
    if isinstance(value, np.ndarray):
        return str(value.dtype.name)
    if call.op == "ConstantOfShape":
        return "float32"
    return DTYPES.get(call.attr("to", call.attr("dtype")))


def _schema_dtype(call: Call, proto: Any, number: int) -> str | None:
    """The dtype of an output that always has it, or has the same as an input."""
    defs = onnx_package().defs
    try:
        schema = defs.get_schema(proto.op_type, call.version, proto.domain)
    except defs.SchemaError:
        return None
    output = schema.outputs[min(number, len(schema.outputs) - 1)]
    if len(output.types) == 1:
        found = re.fullmatch(r"tensor\((\w+)\)", next(iter(output.types)))
        name = {"float": "float32", "double": "float64"}.get(found[1], found[1]) if found else ""
        return name if name in DTYPES.values() else None
    for i, value in enumerate(call.inputs):
        given = schema.inputs[min(i, len(schema.inputs) - 1)].type_str
        if value is not None and given == output.type_str:
            return str(value.dtype.name)
    return None


def _free_names(proto: Any, values: Values) -> list[str]:
    """The outer names that the graphs inside a node read."""
    found: dict[str, None] = {}
    graphs = [a.g for a in proto.attribute if a.HasField("g")]
    while graphs:
        graph = graphs.pop()
        names = [n for node in graph.node for n in node.input] + [o.name for o in graph.output]
        found.update(dict.fromkeys(n for n in names if values.get(n) is not None))
        graphs += [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return list(found)


def _with_attributes(node: Any, outer: Any, body: Any) -> Any:
    """A function's node, with the attributes that it takes from the call or their defaults."""
    onnx = onnx_package()
    given = {a.name: a for a in (*body.attribute_proto, *outer.attribute)}
    result = onnx.NodeProto()
    result.CopyFrom(node)
    del result.attribute[:]
    for a in node.attribute:
        if not a.ref_attr_name:
            result.attribute.append(a)
        elif a.ref_attr_name in given:
            copy = onnx.AttributeProto()
            copy.CopyFrom(given[a.ref_attr_name])
            copy.name = a.name
            result.attribute.append(copy)
    return result


__all__ = ["OLDEST", "Importer"]

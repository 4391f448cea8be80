"""Writing a graph as an ONNX model.

What is saved is the computation of the fetches as a user built it: each op is spelled with ONNX's
operators, by its exporter in `EXPORTERS` or, where it has none, by what it decomposes to. Sizes
that are not known keep their names. Variables become initializers, with the values given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from graphc.frontend.onnx.load import onnx_package, op_name
from graphc.ir.computation import Computation, cut, topological_order
from graphc.ir.dtypes import DType, as_dtype
from graphc.ir.errors import ModelError, UnsupportedOp
from graphc.ir.graph import Node, Value, detached
from graphc.ir.types import UNKNOWN

OPSET: Final = 18
_CODES: Final[Mapping[str, int]] = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7,
    "bool": 9, "float16": 10, "float64": 11, "uint32": 12, "uint64": 13, "bfloat16": 16,
}  # fmt: skip

Exporter: TypeAlias = "Callable[[Exporting, Node], None]"
EXPORTERS: Final[dict[str, Exporter]] = {}


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


class Exporting:
    """One model in the making; `names` has what each value is called."""

    def __init__(self, onnx: Any, variables: Mapping[Node, np.ndarray]) -> None:
        self.onnx = onnx
        self.variables = variables
        self.names: dict[Value, str] = {}
        self.taken: set[str] = set()
        self.nodes: list[Any] = []
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
        for node in computation.nodes:
            self.node(node)
        for value, name in zip(computation.outputs, outputs, strict=True):
            self.emit("Identity", [self.name(value)], name)
        graph = helper.make_graph(
            self.nodes, "graphc",
            [self.info(n, v.types[0].dtype, v.types[0].shape) for v, n in inputs.items()],
            [self.info(n, v.dtype, v.type.shape) for v, n in
             zip(computation.outputs, outputs, strict=True)],
            self.initializers,
        )  # fmt: skip
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, producer_name="graphc", ir_version=9)

    def info(self, name: str, dtype: DType, shape: Any) -> Any:
        dims = None if shape is None else [None if d == UNKNOWN else d for d in shape]
        return self.onnx.helper.make_tensor_value_info(name, _CODES[dtype.name], dims)

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

    def emit(self, op: str, inputs: Sequence[str], output: str = "", **attrs: Any) -> str:
        """One ONNX node; the name of what it gives."""
        output = output or self.fresh(op.lower())
        given = {k: v for k, v in attrs.items() if v is not None}
        self.nodes.append(
            self.onnx.helper.make_node(
                op, list(inputs), [output], f"{op}_{len(self.nodes)}", **given
            )
        )
        return output

    def define(self, node: Node, op: str, inputs: Sequence[str], **attrs: Any) -> None:
        """The node's output as one ONNX node."""
        self.names[node.outputs[0]] = self.emit(op, inputs, self.fresh(node.name), **attrs)

    def constant(self, array: Any, name: str = "constant") -> str:
        """An initializer; equal ones are one."""
        data = np.array(array, order="C")  # of a scalar ascontiguousarray makes a vector
        key = (data.dtype.str, data.dtype.name, data.shape, data.tobytes())
        if key not in self.constants:
            self.constants[key] = self.fresh(name)
            proto = self.onnx.numpy_helper.from_array(data, self.constants[key])
            self.initializers.append(proto)
        return self.constants[key]

    def ints(self, values: Sequence[int]) -> str:
        """A list of int64."""
        return self.constant(np.array(list(values), np.int64), "ints")

    # -- nodes

    def node(self, node: Node) -> None:
        """Spell one op; its own exporter comes first, then what it decomposes to."""
        if not node.outputs or node.outputs[0] in self.names:
            return
        exporter = EXPORTERS.get(node.op.name)
        if exporter is not None:
            exporter(self, node)
        elif node.op.decompose is not None and all(t.is_static for t in _types(node)):
            self.decomposed(node)
        else:
            raise UnsupportedOp(
                f"op {node.op.name!r} ({node.name!r}) has no spelling in ONNX"
                + ("" if all(t.is_static for t in _types(node)) else " with sizes that are unknown")
            )

    def decomposed(self, node: Node) -> None:
        with detached(node):
            assert node.op.decompose is not None
            made = node.op.decompose(node)
        results = [made] if isinstance(made, Value) else list(made)
        for inner in topological_order(v.node for v in results):
            self.node(inner)
        for value, result in zip(node.outputs, results, strict=True):
            self.names[value] = self.names[result]


def _types(node: Node) -> list[Any]:
    return [*(v.type for v in node.inputs), *node.types]


def exporter(*names: str) -> Callable[[Exporter], Exporter]:
    """Enter the ONNX spelling of ops."""

    def enter(function: Exporter) -> Exporter:
        EXPORTERS.update(dict.fromkeys(names, function))
        return function

    return enter


_SAME: Final[Mapping[str, str]] = {
    "add": "Add", "subtract": "Sub", "multiply": "Mul", "maximum": "Max", "minimum": "Min",
    "pow": "Pow", "negative": "Neg", "abs": "Abs", "exp": "Exp", "log": "Log", "sqrt": "Sqrt",
    "sin": "Sin", "cos": "Cos", "tan": "Tan", "tanh": "Tanh", "sigmoid": "Sigmoid", "erf": "Erf",
    "floor": "Floor", "ceil": "Ceil", "round": "Round", "sign": "Sign", "reciprocal": "Reciprocal",
    "relu": "Relu", "softplus": "Softplus", "softsign": "Softsign", "logical_and": "And",
    "logical_or": "Or", "logical_xor": "Xor", "logical_not": "Not", "equal": "Equal",
    "less": "Less", "less_equal": "LessOrEqual", "greater": "Greater", "where": "Where",
    "greater_equal": "GreaterOrEqual", "is_nan": "IsNaN", "is_inf": "IsInf", "identity": "Identity",
    "stop_gradient": "Identity", "truediv": "Div", "asin": "Asin", "acos": "Acos", "atan": "Atan",
    "sinh": "Sinh", "cosh": "Cosh", "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh",
}  # fmt: skip
_REDUCE: Final[Mapping[str, str]] = {
    "reduce_sum": "ReduceSum", "reduce_prod": "ReduceProd", "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin", "reduce_mean": "ReduceMean",
}  # fmt: skip


@exporter(*_SAME)
def _same(e: Exporting, node: Node) -> None:
    e.define(node, _SAME[node.op.name], [e.name(v) for v in node.inputs])


@exporter("constant")
def _constant(e: Exporting, node: Node) -> None:
    array = node.attrs["value"].array
    e.names[node.outputs[0]] = e.constant(array, node.name)


@exporter("variable")
def _variable(e: Exporting, node: Node) -> None:
    if node not in e.variables:
        raise ModelError(f"the value of variable {node.name!r} is needed: give the session")
    name = e.fresh(node.name)
    e.initializers.append(e.onnx.numpy_helper.from_array(e.variables[node], name))
    e.names[node.outputs[0]] = name


@exporter("square")
def _square(e: Exporting, node: Node) -> None:
    x = e.name(node.inputs[0])
    e.define(node, "Mul", [x, x])


@exporter("rsqrt")
def _rsqrt(e: Exporting, node: Node) -> None:
    e.define(node, "Reciprocal", [e.emit("Sqrt", [e.name(node.inputs[0])])])


@exporter("not_equal")
def _not_equal(e: Exporting, node: Node) -> None:
    e.define(node, "Not", [e.emit("Equal", [e.name(v) for v in node.inputs])])


@exporter("floordiv")
def _floordiv(e: Exporting, node: Node) -> None:
    if node.types[0].dtype.is_integer:
        raise UnsupportedOp(f"op floordiv of integers ({node.name!r}) has no spelling in ONNX")
    e.define(node, "Floor", [e.emit("Div", [e.name(v) for v in node.inputs])])


@exporter("cast")
def _cast(e: Exporting, node: Node) -> None:
    e.define(node, "Cast", [e.name(node.inputs[0])], to=_CODES[as_dtype(node.attrs["dtype"]).name])


def _axes(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple) else (int(value),)


@exporter(*_REDUCE)
def _reduce(e: Exporting, node: Node) -> None:
    x, axes = node.inputs[0], node.attrs["axis"]
    given = [e.name(x)]
    if axes is not None:
        given.append(e.ints(_axes(axes)))
    elif x.type.rank == 0:
        e.define(node, "Identity", given)
        return
    e.define(node, _REDUCE[node.op.name], given, keepdims=int(node.attrs["keepdims"]))


@exporter("argmax", "argmin")
def _arg(e: Exporting, node: Node) -> None:
    word = "ArgMax" if node.op.name == "argmax" else "ArgMin"
    axis = node.attrs["axis"]
    axis = axis[0] if isinstance(axis, tuple) else axis
    found = e.emit(word, [e.name(node.inputs[0])], axis=int(axis),
                   keepdims=int(node.attrs.get("keepdims", False)))  # fmt: skip
    e.define(node, "Cast", [found], to=_CODES[node.types[0].dtype.name])


@exporter("matmul")
def _matmul(e: Exporting, node: Node) -> None:
    names = []
    for side, value in zip("ab", node.inputs, strict=True):
        name = e.name(value)
        if node.attrs[f"transpose_{side}"]:
            order = list(range(value.type.rank or 2))
            order[-2:] = order[-1], order[-2]
            name = e.emit("Transpose", [name], perm=order)
        names.append(name)
    e.define(node, "MatMul", names)


@exporter("contract")
def _contract(e: Exporting, node: Node) -> None:
    e.define(node, "Einsum", [e.name(v) for v in node.inputs], equation=node.attrs["spec"])


@exporter("softmax", "log_softmax")
def _softmax(e: Exporting, node: Node) -> None:
    word = "Softmax" if node.op.name == "softmax" else "LogSoftmax"
    e.define(node, word, [e.name(node.inputs[0])], axis=int(node.attrs["axis"]))


@exporter("transpose")
def _transpose(e: Exporting, node: Node) -> None:
    perm = node.attrs["perm"]
    e.define(node, "Transpose", [e.name(node.inputs[0])], perm=None if perm is None else list(perm))


@exporter("reshape")
def _reshape(e: Exporting, node: Node) -> None:
    if len(node.inputs) > 1:
        target = e.emit("Cast", [e.name(node.inputs[1])], to=_CODES["int64"])
    else:
        dims = [-1 if isinstance(d, str) else int(d) for d in node.attrs["shape"]]
        if dims.count(-1) > 1:
            raise UnsupportedOp(f"op reshape ({node.name!r}) leaves two sizes open")
        target = e.ints(dims)
    allow = int(0 in (node.attrs["shape"] or ()))
    e.define(node, "Reshape", [e.name(node.inputs[0]), target], allowzero=allow or None)


@exporter("expand_dims", "squeeze")
def _dims(e: Exporting, node: Node) -> None:
    axes = node.attrs["axis"]
    given = [e.name(node.inputs[0])]
    if axes == ():
        e.define(node, "Identity", given)
        return
    if axes is not None:
        given.append(e.ints(_axes(axes)))
    e.define(node, "Unsqueeze" if node.op.name == "expand_dims" else "Squeeze", given)


@exporter("concat")
def _concat(e: Exporting, node: Node) -> None:
    e.define(node, "Concat", [e.name(v) for v in node.inputs], axis=int(node.attrs["axis"]))


@exporter("slice")
def _slice(e: Exporting, node: Node) -> None:
    start, size, step = (node.attrs[k] for k in ("start", "size", "step"))
    ends = []
    for a, n, s in zip(start, size, step, strict=True):
        end = a + (n - 1) * s + (1 if s > 0 else -1)
        ends.append(end if end >= 0 else -(1 << 60))
    axes = range(len(start))
    e.define(node, "Slice", [e.name(node.inputs[0]), e.ints(start), e.ints(ends), e.ints(axes),
                             e.ints(step)])  # fmt: skip


@exporter("strided_slice")
def _strided_slice(e: Exporting, node: Node) -> None:
    x = node.inputs[0]
    if not all(t.is_static for t in _types(node)):
        _open_slice(e, node, x)
        return
    e.decomposed(node)


def _open_slice(e: Exporting, node: Node, x: Value) -> None:
    """Plain slices and integers along the first dims, of tensors whose sizes are not known."""
    starts, ends, axes, steps, gone = [], [], [], [], []
    for axis, k in enumerate(node.attrs["key"]):
        if isinstance(k, int):
            starts.append(k)
            ends.append(k + 1 if k != -1 else 1 << 60)
            axes.append(axis)
            steps.append(1)
            gone.append(axis)
        elif isinstance(k, tuple) and (k[3] or 1) > 0:
            starts.append(k[1] or 0)
            ends.append(1 << 60 if k[2] is None else k[2])
            axes.append(axis)
            steps.append(k[3] or 1)
        else:
            raise UnsupportedOp(f"op strided_slice ({node.name!r}) of unknown sizes: {k!r}")
    given = [e.name(x), *map(e.ints, (starts, ends, axes, steps))]
    if not gone:
        e.define(node, "Slice", given)
    else:
        e.define(node, "Squeeze", [e.emit("Slice", given), e.ints(gone)])


@exporter("pad")
def _pad(e: Exporting, node: Node) -> None:
    low, high, interior, fill = (node.attrs[k] for k in ("low", "high", "interior", "fill"))
    if any(interior):
        raise UnsupportedOp(f"op pad ({node.name!r}) between elements has no spelling in ONNX")
    value = e.constant(np.asarray(fill, node.types[0].dtype.numpy))
    e.define(node, "Pad", [e.name(node.inputs[0]), e.ints((*low, *high)), value])


@exporter("bias_add")
def _bias_add(e: Exporting, node: Node) -> None:
    x, bias = node.inputs
    name = e.name(bias)
    if node.attrs["data_format"].startswith("NC"):
        name = e.emit("Unsqueeze", [name, e.ints(range(1, (x.type.rank or 2) - 1))])
    e.define(node, "Add", [e.name(x), name])


@exporter("gather", "take")
def _gather(e: Exporting, node: Node) -> None:
    """ONNX does not say what an index out of range gives; graphc gives zeros."""
    e.define(node, "Gather", [e.name(v) for v in node.inputs], axis=int(node.attrs["axis"]))


@exporter("broadcast_to")
def _broadcast_to(e: Exporting, node: Node) -> None:
    if len(node.inputs) > 1:
        target = e.emit("Cast", [e.name(node.inputs[1])], to=_CODES["int64"])
    else:
        target = e.ints([int(d) for d in node.attrs["shape"]])
    e.define(node, "Expand", [e.name(node.inputs[0]), target])


@exporter("shape")
def _shape(e: Exporting, node: Node) -> None:
    found = e.emit("Shape", [e.name(node.inputs[0])])
    e.define(node, "Cast", [found], to=_CODES[node.types[0].dtype.name])


@exporter("zeros_like", "ones_like")
def _like(e: Exporting, node: Node) -> None:
    number = 0 if node.op.name == "zeros_like" else 1
    value = np.full(1, number, node.types[0].dtype.numpy)
    sizes = e.emit("Shape", [e.name(node.inputs[0])])
    e.define(node, "ConstantOfShape", [sizes], value=e.onnx.numpy_helper.from_array(value))


_LAST: Final = {3: "NWC", 4: "NHWC", 5: "NDHWC"}


def _first(e: Exporting, name: str, node: Node) -> tuple[str, list[int] | None]:
    """The image with channels first, and how to bring the result back."""
    rank = node.inputs[0].type.rank or 4
    if node.attrs["data_format"] != _LAST[rank]:
        return name, None
    order = [0, rank - 1, *range(1, rank - 1)]
    return e.emit("Transpose", [name], perm=order), [0, *range(2, rank), 1]


def _back(e: Exporting, node: Node, result: str, back: list[int] | None) -> None:
    op = "Identity" if back is None else "Transpose"
    e.define(node, op, [result], perm=back)


def _listed(node: Node, name: str) -> list[int] | None:
    value = node.attrs[name]
    return None if value is None else [int(v) for v in value]


def _padding_attrs(node: Node) -> dict[str, Any]:
    padding = node.attrs["padding"]
    if isinstance(padding, str):
        words = {"SAME": "SAME_UPPER", "SAME_LOWER": "SAME_LOWER", "VALID": "VALID"}
        return {"auto_pad": words[padding]}
    return {"pads": [p[i] for i in (0, 1) for p in padding]}


@exporter("convolution")
def _convolution(e: Exporting, node: Node) -> None:
    image, back = _first(e, e.name(node.inputs[0]), node)
    rank = node.inputs[1].type.rank or 4
    w = e.emit("Transpose", [e.name(node.inputs[1])], perm=[rank - 1, rank - 2, *range(rank - 2)])
    result = e.emit(
        "Conv", [image, w], strides=_listed(node, "strides"), group=node.attrs["groups"],
        dilations=_listed(node, "dilations"), **_padding_attrs(node),
    )  # fmt: skip
    _back(e, node, result, back)


@exporter("max_pool", "avg_pool")
def _pool(e: Exporting, node: Node) -> None:
    image, back = _first(e, e.name(node.inputs[0]), node)
    a = node.attrs
    dilations = _listed(node, "dilations")
    if node.op.name == "avg_pool" and (set(dilations or ()) - {1} or a["divisor"] == "window"):
        raise UnsupportedOp(f"op avg_pool ({node.name!r}) of this kind has no spelling in ONNX")
    padded = node.op.name == "avg_pool" and a["divisor"] != "pixels"
    result = e.emit(
        "MaxPool" if node.op.name == "max_pool" else "AveragePool", [image],
        kernel_shape=list(a["window"]), strides=_listed(node, "strides"),
        dilations=dilations if node.op.name == "max_pool" else None,
        ceil_mode=int(a["ceil_mode"]) or None, count_include_pad=int(padded) or None,
        **_padding_attrs(node),
    )  # fmt: skip
    _back(e, node, result, back)


@exporter("loop", "branch", "trip_count")
def _control(e: Exporting, node: Node) -> None:
    raise UnsupportedOp(f"op {node.op.name!r} ({node.name!r}) is not exported to ONNX yet")


def write(proto: Any, path: str | Path) -> None:
    """Check the model, and write it."""
    onnx = onnx_package()
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"what was made is no sound model: {error}") from None
    Path(path).write_bytes(proto.SerializeToString())

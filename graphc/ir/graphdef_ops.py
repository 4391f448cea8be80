"""How ops are spelled in a GraphDef, where TensorFlow has the same op.

One entry per op: its name there, and what writes its attributes and further inputs. What an entry
cannot say (it gives False) is left to the general form, see `graphc.ir.graphdef`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import numpy as np

from graphc.ir.dtypes import DType
from graphc.ir.graph import Node
from graphc.ir.graphdef import NUMBERS, fill_shape, input_name, make_tensor_proto
from graphc.ir.literal import Literal

# Ops without attributes of their own.
_PLAIN: Final[Mapping[str, str]] = {
    "identity": "Identity", "add": "Add", "subtract": "Sub", "multiply": "Mul",
    "truediv": "RealDiv", "maximum": "Maximum", "minimum": "Minimum", "negative": "Neg",
    "exp": "Exp", "log": "Log", "log1p": "Log1p", "sqrt": "Sqrt", "rsqrt": "Rsqrt",
    "square": "Square", "tanh": "Tanh", "sigmoid": "Sigmoid", "relu": "Relu", "relu6": "Relu6",
    "abs": "Abs", "floor": "Floor", "ceil": "Ceil", "sign": "Sign", "sin": "Sin", "cos": "Cos",
    "erf": "Erf", "pow": "Pow",
    "floordiv": "FloorDiv", "floormod": "FloorMod", "elu": "Elu", "selu": "Selu",
    "softplus": "Softplus", "softsign": "Softsign", "reciprocal": "Reciprocal",
    "less": "Less", "less_equal": "LessEqual", "greater": "Greater",
    "greater_equal": "GreaterEqual", "equal": "Equal", "not_equal": "NotEqual",
    "logical_and": "LogicalAnd", "logical_or": "LogicalOr", "logical_not": "LogicalNot",
    "stop_gradient": "StopGradient", "where": "SelectV2",
}  # fmt: skip
_REDUCTIONS: Final[Mapping[str, str]] = {
    "reduce_sum": "Sum", "reduce_mean": "Mean", "reduce_max": "Max", "reduce_min": "Min",
    "reduce_prod": "Prod", "reduce_any": "Any", "reduce_all": "All",
}  # fmt: skip


class Writing:
    """One node on its way into a GraphDef; `made` is its NodeDef, where it could be spelled."""

    def __init__(self, graph_def: Any, node: Node) -> None:
        self.graph_def = graph_def
        self.node = node
        self.attrs = node.attrs
        self.inputs = list(map(input_name, node.inputs))
        self.made: Any = None

    def spell(self) -> bool:
        """Write the node as TensorFlow's; False where it cannot be said in its words."""
        name = self.node.op.name
        if name in _PLAIN:
            self.add(_PLAIN[name])
            return True
        if name in _REDUCTIONS:
            return _reduction(self)
        spelling = _SPELLINGS.get(name)
        return spelling is not None and spelling(self)

    def add(self, op: str, *more: str) -> Any:
        """The NodeDef, with the node's inputs and more."""
        self.made = self.graph_def.node.add(name=self.node.name, op=op)
        self.made.input.extend([*self.inputs, *more])
        if self.node.inputs:
            self.made.attr["T"].type = NUMBERS[self.node.inputs[0].dtype.name]
        return self.made.attr

    def constant(self, name: str, numbers: Any) -> str:
        """A constant of int32 as a further node; its name."""
        graph, full = self.node.graph, f"{self.node.name}/{name}"
        assert graph is not None, "the nodes of a file are those of a graph"
        while graph.has_node(full):
            full += "_"
        made = self.graph_def.node.add(name=full, op="Const")
        _fill_constant(made.attr, np.asarray(numbers, np.int32))
        return full


def _fill_constant(attr: Any, array: np.ndarray) -> None:
    tensor = make_tensor_proto(array)
    attr["dtype"].type = tensor.dtype
    attr["value"].tensor.CopyFrom(tensor)


def _constant(w: Writing) -> bool:
    literal = w.attrs["value"]
    assert isinstance(literal, Literal)
    _fill_constant(w.add("Const"), literal.array)
    return True


def _source(op: str) -> Spelling:
    def write(w: Writing) -> bool:
        attr, dtype = w.add(op), w.attrs["dtype"]
        assert isinstance(dtype, DType)
        attr["dtype"].type = NUMBERS[dtype.name]
        fill_shape(attr["shape"].shape, w.attrs["shape"])
        return True

    return write


def _named(op: str) -> Spelling:
    """An op whose attributes are not told."""

    def write(w: Writing) -> bool:
        w.add(op)
        return True

    return write


def _matmul(w: Writing) -> bool:
    if any(v.type.rank != 2 for v in w.node.inputs):
        return False
    attr = w.add("MatMul")
    for key in ("transpose_a", "transpose_b"):
        attr[key].b = w.attrs[key]
    return True


def _cast(w: Writing) -> bool:
    attr = w.add("Cast")
    attr["SrcT"].type = NUMBERS[w.node.inputs[0].dtype.name]
    attr["DstT"].type = NUMBERS[w.node.types[0].dtype.name]
    return True


def _softmax(op: str) -> Spelling:
    def write(w: Writing) -> bool:
        rank = w.node.inputs[0].type.rank
        if w.attrs["axis"] != -1 and w.attrs["axis"] != (rank or 0) - 1:
            return False
        w.add(op)
        return True

    return write


def _axes(axis: Any) -> tuple[int, ...]:
    return () if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)


def _reduction(w: Writing) -> bool:
    axis, rank = w.attrs["axis"], w.node.inputs[0].type.rank
    if axis is None and rank is None:
        return False
    axes = range(rank or 0) if axis is None else _axes(axis)
    attr = w.add(_REDUCTIONS[w.node.op.name], w.constant("reduction_indices", list(axes)))
    attr["keep_dims"].b = w.attrs["keepdims"]
    return True


def _position(op: str) -> Spelling:
    def write(w: Writing) -> bool:
        if w.attrs["keepdims"]:
            return False
        attr = w.add(op, w.constant("dimension", w.attrs["axis"]))
        attr["output_type"].type = NUMBERS[w.node.types[0].dtype.name]
        return True

    return write


# -- shapes


def _reshape(w: Writing) -> bool:
    if len(w.inputs) > 1:
        w.add("Reshape")
        return True
    w.add("Reshape", w.constant("shape", w.attrs["shape"]))
    return True


def _broadcast(w: Writing) -> bool:
    shape = w.attrs["shape"]
    if len(w.inputs) > 1 or not all(isinstance(d, int) for d in shape):
        return False
    if w.node.inputs[0].type.rank == 0:
        w.inputs.insert(0, w.constant("dims", shape))
        attr = w.add("Fill")
        attr["T"].type = NUMBERS[w.node.types[0].dtype.name]
    else:
        w.add("BroadcastTo", w.constant("shape", shape))
    return True


def _transpose(w: Writing) -> bool:
    perm, rank = w.attrs["perm"], w.node.inputs[0].type.rank
    if perm is None and rank is None:
        return False
    order = list(range(rank or 0))[::-1] if perm is None else perm
    w.add("Transpose", w.constant("perm", order))
    return True


def _concat(w: Writing) -> bool:
    attr = w.add("ConcatV2", w.constant("axis", w.attrs["axis"]))
    attr["N"].i = len(w.node.inputs)
    return True


def _stack(w: Writing) -> bool:
    attr = w.add("Pack")
    attr["N"].i, attr["axis"].i = len(w.node.inputs), w.attrs["axis"]
    return True


def _expand(w: Writing) -> bool:
    axes = _axes(w.attrs["axis"])
    if len(axes) != 1:
        return False
    w.add("ExpandDims", w.constant("dim", axes[0]))
    return True


def _squeeze(w: Writing) -> bool:
    w.add("Squeeze")["squeeze_dims"].list.i.extend(_axes(w.attrs["axis"]))
    return True


def _pad(w: Writing) -> bool:
    if any(w.attrs["interior"]) or w.attrs["fill"] != 0:
        return False
    w.add("Pad", w.constant("paddings", list(zip(w.attrs["low"], w.attrs["high"], strict=True))))
    return True


def _gather(w: Writing) -> bool:
    w.add("GatherV2", w.constant("axis", w.attrs["axis"]))
    return True


def _shape(w: Writing) -> bool:
    w.add("Shape")["out_type"].type = NUMBERS[w.node.types[0].dtype.name]
    return True


def _strided_slice(w: Writing) -> bool:
    begin, end, steps = [], [], []
    masks = dict.fromkeys(("begin", "end", "ellipsis", "new_axis", "shrink_axis"), 0)
    for i, k in enumerate(w.attrs["key"]):
        first, last, step = (0, 0, 1)
        if k == "...":
            masks["ellipsis"] |= 1 << i
        elif k == "new":
            masks["new_axis"] |= 1 << i
        elif isinstance(k, int):
            first, last = k, k + 1
            masks["shrink_axis"] |= 1 << i
        else:
            for which, number in (("begin", k[1]), ("end", k[2])):
                masks[which] |= (number is None) << i
            first, last, step = k[1] or 0, k[2] or 0, 1 if k[3] is None else k[3]
        begin.append(first)
        end.append(last)
        steps.append(step)
    names = [w.constant(n, x) for n, x in (("begin", begin), ("end", end), ("strides", steps))]
    attr = w.add("StridedSlice", *names)
    for name, mask in masks.items():
        attr[f"{name}_mask"].i = mask
    return True


# -- windows


def _layout(attr: Any, w: Writing, **sizes: tuple[int, ...]) -> None:
    """Sizes per image dim as sizes per dim, and how the image lies."""
    layout = w.attrs["data_format"]
    for name, (height, width) in sizes.items():
        full = [1, height, width, 1] if layout == "NHWC" else [1, 1, height, width]
        attr[name].list.i.extend(full)
    attr["data_format"].s = layout.encode()
    attr["padding"].s = w.attrs["padding"].encode()


def _is_plain_window(w: Writing) -> bool:
    named = w.attrs["padding"] in ("SAME", "VALID")
    return named and w.attrs["data_format"] in ("NHWC", "NCHW")


def _convolution(w: Writing) -> bool:
    if not _is_plain_window(w) or w.attrs["groups"] != 1:
        return False
    attr = w.add("Conv2D")
    _layout(attr, w, strides=w.attrs["strides"], dilations=w.attrs["dilations"])
    return True


def _pool(op: str) -> Spelling:
    def write(w: Writing) -> bool:
        odd = w.attrs["ceil_mode"] or w.attrs.get("divisor", "pixels") != "pixels"
        if odd or not _is_plain_window(w) or set(w.attrs["dilations"]) != {1}:
            return False
        _layout(w.add(op), w, ksize=w.attrs["window"], strides=w.attrs["strides"])
        return True

    return write


def _bias(w: Writing) -> bool:
    w.add("BiasAdd")["data_format"].s = w.attrs["data_format"].encode()
    return True


Spelling: TypeAlias = Callable[[Writing], bool]
_SPELLINGS: Final[Mapping[str, Spelling]] = {
    "constant": _constant, "placeholder": _source("Placeholder"),
    "variable": _source("VariableV2"), "no_op": _named("NoOp"), "assign": _named("Assign"),
    "assign_add": _named("AssignAdd"), "assign_sub": _named("AssignSub"), "matmul": _matmul,
    "cast": _cast, "softmax": _softmax("Softmax"), "log_softmax": _softmax("LogSoftmax"),
    "argmax": _position("ArgMax"), "argmin": _position("ArgMin"), "reshape": _reshape,
    "broadcast_to": _broadcast, "transpose": _transpose, "concat": _concat, "stack": _stack,
    "expand_dims": _expand, "squeeze": _squeeze, "pad": _pad, "gather": _gather,
    "shape": _shape, "strided_slice": _strided_slice, "convolution": _convolution,
    "max_pool": _pool("MaxPool"), "avg_pool": _pool("AvgPool"), "bias_add": _bias,
}  # fmt: skip
# What a sketch of a graph calls its nodes.
OP_NAMES: Final[Mapping[str, str]] = {
    **_PLAIN, "placeholder": "Placeholder", "constant": "Const", "variable": "VariableV2",
    "no_op": "NoOp", "matmul": "MatMul", "assign": "Assign", "assign_add": "AssignAdd",
    "assign_sub": "AssignSub",
}  # fmt: skip

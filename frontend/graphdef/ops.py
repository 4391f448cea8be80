"""TensorFlow's ops, by family: what each node of a GraphDef becomes.

Read beside TensorFlow's op definitions: inputs and attributes stand here under their names. The
last op that a converter builds takes the node's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from graphc.frontend import array as ar
from graphc.frontend import linalg, nn, sources
from graphc.frontend import math as m
from graphc.frontend.graphdef.registry import CONVERTERS, Call, converter
from graphc.frontend.normalization import fused_batch_norm
from graphc.frontend.random import random_normal, random_uniform, truncated_normal
from graphc.ir.dtypes import int32, int64
from graphc.ir.graph import Value, convert
from graphc.ir.table import OPS

# -- ops that are those of the op table

_SAME: Final[Mapping[str, str]] = {
    "Identity": "identity", "Snapshot": "identity", "Add": "add", "AddV2": "add",
    "Sub": "subtract", "Mul": "multiply", "RealDiv": "truediv", "Maximum": "maximum",
    "Minimum": "minimum", "Neg": "negative", "Exp": "exp", "Expm1": "expm1", "Log": "log",
    "Log1p": "log1p", "Sqrt": "sqrt", "Rsqrt": "rsqrt", "Square": "square", "Tanh": "tanh",
    "Sigmoid": "sigmoid", "Relu": "relu", "Relu6": "relu6", "Abs": "abs", "Floor": "floor",
    "Ceil": "ceil", "Sign": "sign", "Sin": "sin", "Cos": "cos", "Tan": "tan", "Erf": "erf",
    "Pow": "pow", "FloorDiv": "floordiv",
    "FloorMod": "floormod", "Elu": "elu", "Selu": "selu", "Softplus": "softplus",
    "Softsign": "softsign", "Reciprocal": "reciprocal", "Inv": "reciprocal", "Less": "less",
    "LessEqual": "less_equal", "Greater": "greater", "GreaterEqual": "greater_equal",
    "Equal": "equal", "NotEqual": "not_equal", "LogicalAnd": "logical_and",
    "LogicalOr": "logical_or", "LogicalNot": "logical_not", "StopGradient": "stop_gradient",
    "PreventGradient": "identity", "SelectV2": "where", "ZerosLike": "zeros_like",
    "OnesLike": "ones_like", "Assign": "assign", "AssignAdd": "assign_add",
    "AssignSub": "assign_sub", "Atan2": "atan2", "Sinh": "sinh", "Cosh": "cosh", "Asin": "asin",
    "Acos": "acos", "Atan": "atan", "IsNan": "is_nan", "IsInf": "is_inf",
    "IsFinite": "is_finite", "GatherNd": "gather_nd",
}  # fmt: skip


def _same(op: str) -> Any:
    return lambda call: OPS[op](*call.inputs, name=call.name)


for _name, _op in _SAME.items():
    converter(_name)(_same(_op))


def _function(function: Any) -> Any:
    return lambda call: function(*call.inputs, name=call.name)


converter("SquaredDifference")(_function(m.squared_difference))
converter("Rint")(_function(m.rint))
converter("Round")(_function(m.round))


@converter("L2Loss")
def l2_loss(call: Call) -> Value:
    """Half the sum of squares."""
    return nn.l2_loss(call.x(), name=call.name)


@converter("Div")
def div(call: Call) -> Value:
    """Python 2's division: of integers without a rest."""
    x, y = call.x(0), call.x(1)
    return OPS["floordiv" if x.dtype.is_integer else "truediv"](x, y, name=call.name)


@converter("AddN")
def add_n(call: Call) -> Value:
    """The sum of all inputs."""
    return m.add_n(list(call.inputs), name=call.name)


@converter("LeakyRelu")
def leaky_relu(call: Call) -> Value:
    """x, and alpha times x below 0."""
    return nn.leaky_relu(call.x(), call.real("alpha", 0.2), name=call.name)


@converter("Select")
def select(call: Call) -> Value:
    """By a condition; one of a vector chooses rows."""
    return ar.where(call.x(0), call.x(1), call.x(2), name=call.name)


@converter("Cast")
def cast(call: Call) -> Value:
    """To another dtype."""
    return m.cast(call.x(), call.dtype("DstT"), name=call.name)


@converter("ClipByValue")
def clip(call: Call) -> Value:
    """Between two bounds."""
    return linalg.clip_by_value(call.x(0), call.x(1), call.x(2), name=call.name)


# -- sources and state


@converter("Placeholder", "PlaceholderV2")
def placeholder(call: Call) -> Value:
    """What is fed."""
    shape, own = call.shape("shape"), call.name[:-1]
    dims = (
        None
        if shape is None
        else tuple(f"{own}.{i}" if d is None else d for i, d in enumerate(shape))
    )
    return OPS["placeholder"](dtype=call.dtype("dtype"), shape=dims, name=call.name)


@converter("PlaceholderWithDefault")
def placeholder_with_default(call: Call) -> Value:
    """What may be fed."""
    return sources.placeholder_with_default(call.x(), call.shape("shape"), call.name)


@converter("Const")
def constant(call: Call) -> Value:
    """A tensor of the file."""
    return convert(call.tensor("value"), name=call.name)


@converter("Variable", "VariableV2", "VarHandleOp")
def variable(call: Call) -> Value:
    """A variable; import_meta_graph makes the Python object of it."""
    shape = call.shape("shape")
    if shape is None or None in shape:
        call.refuse(f"a variable needs a known shape, got {shape}")
    return OPS["variable"](dtype=call.dtype("dtype"), shape=shape, name=call.name)


@converter("ReadVariableOp")
def read_variable(call: Call) -> Value:
    """The value of a resource variable."""
    return OPS["identity"](call.x(), name=call.name)


@converter("AssignVariableOp")
def assign_variable(call: Call) -> Value:
    """The new value of a resource variable."""
    return OPS["assign"](call.x(0), call.x(1), name=call.name)


@converter("NoOp")
def no_op(call: Call) -> None:
    """Nothing but its control inputs."""
    OPS["no_op"].node(name=call.name)


def _random(function: Any, **ends: float) -> Any:
    def make(call: Call) -> Value:
        seed = call.number("seed") or call.number("seed2") or None
        made: Value = function(
            call.x(), **ends, dtype=call.dtype("dtype"), seed=seed, name=call.name
        )
        return made

    return make


converter("RandomUniform")(_random(random_uniform))
converter("RandomStandardNormal")(_random(random_normal))
converter("TruncatedNormal")(_random(truncated_normal))

# -- products


@converter("MatMul")
def matmul(call: Call) -> Value:
    """The product of matrices."""
    return linalg.matmul(
        call.x(0), call.x(1), call.flag("transpose_a"), call.flag("transpose_b"), name=call.name
    )


@converter("BatchMatMul", "BatchMatMulV2")
def batch_matmul(call: Call) -> Value:
    """The products of matrices in the last two dims."""
    return linalg.matmul(
        call.x(0), call.x(1), call.flag("adj_x"), call.flag("adj_y"), name=call.name
    )


@converter("BiasAdd", "BiasAddV1")
def bias_add(call: Call) -> Value:
    """A vector added along the channels."""
    layout = call.text("data_format", "NHWC")
    return OPS["bias_add"](call.x(0), call.x(1), data_format=layout, name=call.name)


@converter("Softmax")
def softmax(call: Call) -> Value:
    """Along the last axis."""
    return nn.softmax(call.x(), name=call.name)


@converter("LogSoftmax")
def log_softmax(call: Call) -> Value:
    """Along the last axis."""
    return nn.log_softmax(call.x(), name=call.name)


# -- windows


def _window(call: Call) -> dict[str, Any]:
    padding = call.text("padding")
    if padding == "EXPLICIT":
        flat = call.ints("explicit_paddings")
        return {"padding": [flat[i : i + 2] for i in range(0, len(flat), 2)]}
    return {"padding": padding}


@converter("Conv2D")
def conv2d(call: Call) -> Value:
    """Convolution with [height, width, in, out]."""
    return nn.conv2d(
        call.x(0), call.x(1), strides=call.ints("strides"), **_window(call),
        data_format=call.text("data_format", "NHWC"), dilations=call.ints("dilations", (1,) * 4),
        name=call.name,
    )  # fmt: skip


@converter("DepthwiseConv2dNative")
def depthwise(call: Call) -> Value:
    """Each channel with filters of its own."""
    layout = call.text("data_format", "NHWC")
    dilations = call.ints("dilations", (1,) * 4)
    inner = dilations[1:3] if layout == "NHWC" else dilations[2:4]
    return nn.depthwise_conv2d(
        call.x(0), call.x(1), strides=call.ints("strides"), **_window(call), rate=inner,
        data_format=layout, name=call.name,
    )  # fmt: skip


@converter("Conv2DBackpropInput")
def conv2d_transpose(call: Call) -> Value:
    """The transposed convolution: (the output's shape, filter, input)."""
    return nn.conv2d_transpose(
        call.x(2), call.x(1), call.axes(0), strides=call.ints("strides"), **_window(call),
        data_format=call.text("data_format", "NHWC"), name=call.name,
    )  # fmt: skip


def _pool(function: Any) -> Any:
    def make(call: Call) -> Value:
        made: Value = function(
            call.x(), call.ints("ksize"), call.ints("strides"), **_window(call),
            data_format=call.text("data_format", "NHWC"), name=call.name,
        )  # fmt: skip
        return made

    return make


converter("MaxPool")(_pool(nn.max_pool))
converter("AvgPool")(_pool(nn.avg_pool))


@converter("LRN")
def local_response_normalization(call: Call) -> Value:
    """Divided by a power of the sum of squares of neighbouring channels."""
    return nn.local_response_normalization(
        call.x(), call.number("depth_radius", 5), call.real("bias", 1.0), call.real("alpha", 1.0),
        call.real("beta", 0.5), name=call.name,
    )  # fmt: skip


@converter("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def batch_norm(call: Call) -> Sequence[Value]:
    """(y, mean, variance), by the batch's moments or by those given."""
    x, scale, offset, mean, variance = (call.x(i) for i in range(5))
    training = call.flag("is_training", True)
    return fused_batch_norm(
        x, scale, offset, None if training else mean, None if training else variance,
        call.real("epsilon", 1e-4), call.text("data_format", "NHWC"), training, call.name,
    )  # fmt: skip


def _resize(function: str) -> Any:
    def make(call: Call) -> Value:
        from graphc.frontend import image

        made: Value = getattr(image, function)(
            call.x(0), call.x(1), align_corners=call.flag("align_corners"),
            half_pixel_centers=call.flag("half_pixel_centers"), name=call.name,
        )  # fmt: skip
        return made

    return make


converter("ResizeBilinear")(_resize("resize_bilinear"))
converter("ResizeNearestNeighbor")(_resize("resize_nearest_neighbor"))
converter("ResizeBicubic")(_resize("resize_bicubic"))

# -- reductions


def _reduction(op: str) -> Any:
    def make(call: Call) -> Value:
        return OPS[op](call.x(), axis=call.axes(1), keepdims=_keeps(call), name=call.name)

    return make


def _keeps(call: Call) -> bool:
    return call.flag("keep_dims") or call.flag("keepdims")


for _name, _op in (
    ("Sum", "reduce_sum"), ("Mean", "reduce_mean"), ("Max", "reduce_max"), ("Min", "reduce_min"),
    ("Prod", "reduce_prod"), ("Any", "reduce_any"), ("All", "reduce_all"),
):  # fmt: skip
    converter(_name)(_reduction(_op))


@converter("ArgMax", "ArgMin")
def arg(call: Call) -> Value:
    """Where the greatest or least element stands."""
    dtype = call.dtype("output_type", int64)
    (axis,) = call.axes(1)
    function = m.argmax if call.op == "ArgMax" else m.argmin
    made: Value = function(call.x(), axis, output_type=dtype, name=call.name)
    return made


@converter("TopK", "TopKV2")
def top_k(call: Call) -> Sequence[Value]:
    """The k greatest along the last axis, and where they stand."""
    k = call.number("k") if call.op == "TopK" else int(call.numbers(1))
    return nn.top_k(call.x(), k, name=call.name)


# -- shapes


@converter("Shape")
def shape(call: Call) -> Value:
    """The sizes."""
    return ar.shape(call.x(), name=call.name, out_type=call.dtype("out_type", int32))


@converter("Size")
def size(call: Call) -> Value:
    """The number of elements."""
    return ar.size(call.x(), name=call.name, out_type=call.dtype("out_type", int32))


@converter("Rank")
def rank(call: Call) -> Value:
    """The number of dims."""
    return ar.rank(call.x(), name=call.name)


@converter("Reshape")
def reshape(call: Call) -> Value:
    """To a shape that may be computed."""
    return ar.reshape(call.x(0), call.x(1), name=call.name)


@converter("Transpose")
def transpose(call: Call) -> Value:
    """The axes in another order."""
    return ar.transpose(call.x(), call.axes(1), name=call.name)


@converter("ExpandDims")
def expand_dims(call: Call) -> Value:
    """With a dim of 1 put in."""
    return ar.expand_dims(call.x(), call.axes(1), name=call.name)


@converter("Squeeze")
def squeeze(call: Call) -> Value:
    """Without dims of 1."""
    axes = call.ints("squeeze_dims") or call.ints("axis")
    return ar.squeeze(call.x(), axes or None, name=call.name)


@converter("ConcatV2")
def concat(call: Call) -> Value:
    """One after the other: (values.., axis)."""
    (axis,) = call.axes(len(call.inputs) - 1)
    return ar.concat(list(call.inputs[:-1]), axis, name=call.name)


@converter("Concat")
def concat_v1(call: Call) -> Value:
    """One after the other: (axis, values..)."""
    (axis,) = call.axes(0)
    return ar.concat(list(call.inputs[1:]), axis, name=call.name)


@converter("Pack")
def pack(call: Call) -> Value:
    """Along a new axis."""
    return ar.stack(list(call.inputs), call.number("axis"), name=call.name)


@converter("Unpack")
def unpack(call: Call) -> Sequence[Value]:
    """The parts along an axis, without it."""
    return ar.unstack(call.x(), call.number("num"), call.number("axis"))


@converter("Split")
def split(call: Call) -> Sequence[Value]:
    """Equal parts: (axis, value)."""
    return ar.split(call.x(1), call.number("num_split"), call.axes(0)[0])


@converter("SplitV")
def split_v(call: Call) -> Sequence[Value]:
    """Parts of given sizes: (value, sizes, axis)."""
    return ar.split(call.x(0), call.axes(1), call.axes(2)[0])


@converter("Slice")
def slice_(call: Call) -> Value:
    """Some elements from a begin on."""
    return ar.slice_(call.x(0), call.x(1), call.x(2), name=call.name)


@converter("StridedSlice")
def strided_slice(call: Call) -> Value:
    """NumPy's indexing, with masks."""
    masks = {
        f"{n}_mask": call.number(f"{n}_mask")
        for n in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    return ar.strided_slice(call.x(0), call.x(1), call.x(2), call.axes(3), **masks, name=call.name)


@converter("Pad", "PadV2", "MirrorPad")
def pad(call: Call) -> Value:
    """With zeros, a value, or what lies near the edge around it."""
    mode = call.text("mode", "CONSTANT")
    value = call.numbers(2).item() if call.op == "PadV2" else 0
    return ar.pad(call.x(0), call.numbers(1), mode, call.name, value)


@converter("Tile")
def tile(call: Call) -> Value:
    """Repeated along the dims."""
    return ar.tile(call.x(0), call.x(1), name=call.name)


@converter("Fill")
def fill(call: Call) -> Value:
    """A scalar in a shape."""
    return sources.fill(call.x(0), call.x(1), name=call.name)


@converter("BroadcastTo")
def broadcast_to(call: Call) -> Value:
    """NumPy's broadcast to a shape."""
    return ar.broadcast_to(call.x(0), call.x(1), name=call.name)


@converter("Range")
def range_(call: Call) -> Value:
    """start, start + delta, ..."""
    return sources.range(call.x(0), call.x(1), call.x(2), name=call.name)


@converter("ReverseV2")
def reverse(call: Call) -> Value:
    """Reversed along some axes."""
    return ar.reverse(call.x(), call.axes(1), name=call.name)


@converter("Gather", "GatherV2", "ResourceGather")
def gather(call: Call) -> Value:
    """Slices at indices along an axis."""
    axis = call.axes(2)[0] if len(call.inputs) > 2 else 0
    return ar.gather(call.x(0), call.x(1), name=call.name, axis=axis)


@converter("OneHot")
def one_hot(call: Call) -> Value:
    """(indices, depth, on, off)"""
    depth = int(call.numbers(1))
    return ar.one_hot(
        call.x(0), depth, call.x(2), call.x(3), call.number("axis", -1), name=call.name
    )


@converter("Where")
def where(call: Call) -> Value:
    """Where a condition holds."""
    return ar.where(call.x(), name=call.name)


def spatial(op: str) -> Any:
    """Blocks of an image as channels, and back."""

    def make(call: Call) -> Value:
        from graphc.frontend import spatial as functions

        made: Value = getattr(functions, op)(
            call.x(), call.number("block_size"), name=call.name,
            data_format=call.text("data_format", "NHWC"),
        )  # fmt: skip
        return made

    return make


converter("SpaceToDepth")(spatial("space_to_depth"))
converter("DepthToSpace")(spatial("depth_to_space"))

__all__ = ["CONVERTERS"]

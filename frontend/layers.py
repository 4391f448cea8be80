"""`layers`: functions that make their variables with get_variable and apply them.

Named layers share variables where the scope or `reuse` says so; unnamed ones are called dense,
dense_1, ... as TensorFlow 1 does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from graphc.frontend import nn
from graphc.frontend.arguments import as_value, constant_value, static_ints
from graphc.frontend.array import reshape, shape, where
from graphc.frontend.framework import GraphKeys, add_to_collection
from graphc.frontend.initializers import Ones, Zeros
from graphc.frontend.linalg import matmul, tensordot
from graphc.frontend.math import cast
from graphc.frontend.scopes import VariableScope, get_variable, variable_scope
from graphc.frontend.variables import Variable
from graphc.ir.dtypes import float32
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Value, convert
from graphc.ir.table import OPS
from graphc.ir.types import normalize_axis


@contextmanager
def _scope(name: str | None, default: str, reuse: Any, x: Value) -> Iterator[VariableScope]:
    with variable_scope(name, default_name=default, reuse=reuse, dtype=x.dtype) as scope:
        yield scope


def _known(x: Value, axis: int, what: str) -> int:
    dims = x.type.shape
    if dims is None or not -len(dims) <= axis < len(dims) or not isinstance(dims[axis], int):
        raise ShapeError(f"{what} needs to know dim {axis} of its input, got {x!r}")
    return int(dims[axis])


def _finish(y: Value, activation: Callable[[Value], Value] | None, regularizer: Any) -> Value:
    result = y if activation is None else activation(y)
    if regularizer is not None:
        add_to_collection(GraphKeys.REGULARIZATION_LOSSES, regularizer(result))
    return result


def dense(
    inputs: Any,
    units: int,
    activation: Callable[[Any], Value] | None = None,
    use_bias: bool = True,
    kernel_initializer: Any = None,
    bias_initializer: Any = Zeros,
    kernel_regularizer: Any = None,
    bias_regularizer: Any = None,
    activity_regularizer: Any = None,
    kernel_constraint: Any = None,
    bias_constraint: Any = None,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
) -> Value:
    """activation(inputs @ kernel + bias). inputs: [..., k] with known k -> [..., units]."""
    x = as_value(inputs)
    rows = _known(x, -1, "dense")
    with _scope(name, "dense", reuse, x):
        kernel = get_variable(
            "kernel", [rows, units], None, kernel_initializer, kernel_regularizer, trainable,
            constraint=kernel_constraint,
        )  # fmt: skip
        y = matmul(x, kernel) if x.type.rank == 2 else tensordot(x, kernel, 1)
        if use_bias:
            bias = get_variable(
                "bias", [units], None, bias_initializer, bias_regularizer, trainable,
                constraint=bias_constraint,
            )  # fmt: skip
            y = nn.bias_add(y, bias)
        return _finish(y, activation, activity_regularizer)


def conv2d(
    inputs: Any,
    filters: int,
    kernel_size: Any,
    strides: Any = (1, 1),
    padding: str = "valid",
    data_format: str = "channels_last",
    dilation_rate: Any = (1, 1),
    activation: Callable[[Any], Value] | None = None,
    use_bias: bool = True,
    kernel_initializer: Any = None,
    bias_initializer: Any = Zeros,
    kernel_regularizer: Any = None,
    bias_regularizer: Any = None,
    activity_regularizer: Any = None,
    kernel_constraint: Any = None,
    bias_constraint: Any = None,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
) -> Value:
    """activation(convolution of the images + bias). [n, h, w, c] -> [n, h', w', filters]."""
    x, layout = as_value(inputs), _layout(data_format)
    channels = _known(x, 3 if layout == "NHWC" else 1, "conv2d")
    with _scope(name, "conv2d", reuse, x):
        kernel = get_variable(
            "kernel", [*_two("kernel_size", kernel_size), channels, filters], None,
            kernel_initializer, kernel_regularizer, trainable, constraint=kernel_constraint,
        )  # fmt: skip
        y = nn.conv2d(
            x, kernel, _two("strides", strides), padding.upper(), data_format=layout,
            dilations=_two("dilation_rate", dilation_rate),
        )  # fmt: skip
        if use_bias:
            bias = get_variable(
                "bias", [filters], None, bias_initializer, bias_regularizer, trainable,
                constraint=bias_constraint,
            )  # fmt: skip
            y = nn.bias_add(y, bias, layout)
        return _finish(y, activation, activity_regularizer)


def conv1d(
    inputs: Any,
    filters: int,
    kernel_size: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str = "channels_last",
    dilation_rate: Any = 1,
    activation: Callable[[Any], Value] | None = None,
    use_bias: bool = True,
    kernel_initializer: Any = None,
    bias_initializer: Any = Zeros,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
) -> Value:
    """conv2d of one spatial dim. [n, w, c] -> [n, w', filters]."""
    x, layout = as_value(inputs), _layout(data_format)
    channels = _known(x, 2 if layout == "NHWC" else 1, "conv1d")
    axis = 1 if layout == "NHWC" else 2
    sizes = (kernel_size, strides, dilation_rate)
    size, step, spread = (static_ints(v, "conv1d")[0] for v in sizes)
    with _scope(name, "conv1d", reuse, x):
        shape_ = [size, channels, filters]
        kernel = get_variable("kernel", shape_, None, kernel_initializer, None, trainable)
        wide, flat = OPS["expand_dims"](x, axis=axis), OPS["expand_dims"](kernel, axis=0)
        y = nn.conv2d(
            wide, flat, [1, step], padding.upper(), data_format=layout, dilations=[1, spread]
        )
        y = OPS["squeeze"](y, axis=(axis,))
        if use_bias:
            bias = get_variable("bias", [filters], None, bias_initializer, None, trainable)
            y = nn.bias_add(y, bias, layout)
        return _finish(y, activation, None)


def conv2d_transpose(
    inputs: Any,
    filters: int,
    kernel_size: Any,
    strides: Any = (1, 1),
    padding: str = "valid",
    data_format: str = "channels_last",
    activation: Callable[[Any], Value] | None = None,
    use_bias: bool = True,
    kernel_initializer: Any = None,
    bias_initializer: Any = Zeros,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
) -> Value:
    """activation(the transposed convolution + bias): images grow by the strides."""
    x, layout = as_value(inputs), _layout(data_format)
    size, steps = _two("kernel_size", kernel_size), _two("strides", strides)
    channel, first = (3, 1) if layout == "NHWC" else (1, 2)
    channels = _known(x, channel, "conv2d_transpose")
    with _scope(name, "conv2d_transpose", reuse, x):
        shape_ = [*size, filters, channels]
        kernel = get_variable("kernel", shape_, None, kernel_initializer, None, trainable)
        dims: list[Any] = [shape(x)[0], filters, filters, filters]
        for i in (0, 1):
            length = _known(x, first + i, "conv2d_transpose") * steps[i]
            dims[first + i] = length + max(size[i] - steps[i], 0) * (padding.upper() == "VALID")
        y = nn.conv2d_transpose(x, kernel, dims, steps, padding.upper(), layout)
        if use_bias:
            bias = get_variable("bias", [filters], None, bias_initializer, None, trainable)
            y = nn.bias_add(y, bias, layout)
        return _finish(y, activation, None)


def _layout(data_format: str) -> str:
    try:
        return {"channels_last": "NHWC", "channels_first": "NCHW"}[data_format]
    except KeyError:
        raise AttributeValueError(
            f"data_format is 'channels_last' or 'channels_first', got {data_format!r}"
        ) from None


def _two(what: str, numbers: Any) -> list[int]:
    given = list(static_ints(numbers, what))
    if len(given) not in (1, 2):
        raise AttributeValueError(f"{what} is one number or two, got {numbers!r}")
    return given * 2 if len(given) == 1 else given


def max_pooling2d(
    inputs: Any,
    pool_size: Any,
    strides: Any,
    padding: str = "valid",
    data_format: str = "channels_last",
    name: str | None = None,
) -> Value:
    """The maximum of every window. [n, h, w, c] -> [n, h', w', c]."""
    size, steps = _two("pool_size", pool_size), _two("strides", strides)
    return nn.max_pool(inputs, size, steps, padding.upper(), _layout(data_format), name)


def average_pooling2d(
    inputs: Any,
    pool_size: Any,
    strides: Any,
    padding: str = "valid",
    data_format: str = "channels_last",
    name: str | None = None,
) -> Value:
    """The mean of every window. [n, h, w, c] -> [n, h', w', c]."""
    size, steps = _two("pool_size", pool_size), _two("strides", strides)
    return nn.avg_pool(inputs, size, steps, padding.upper(), _layout(data_format), name)


def max_pooling1d(
    inputs: Any,
    pool_size: Any,
    strides: Any,
    padding: str = "valid",
    data_format: str = "channels_last",
    name: str | None = None,
) -> Value:
    """The maximum of every window of one spatial dim. [n, w, c] -> [n, w', c]."""
    layout = _layout(data_format)
    axis = 1 if layout == "NHWC" else 2
    (size,), (step,) = static_ints(pool_size, "pool_size"), static_ints(strides, "strides")
    image = OPS["expand_dims"](inputs, axis=axis)
    pooled = nn.max_pool(image, [1, size], [1, step], padding.upper(), layout)
    return OPS["squeeze"](pooled, axis=(axis,), name=name)


def flatten(inputs: Any, name: str | None = None, data_format: str = "channels_last") -> Value:
    """All dims but the first as one. [n, ...] -> [n, k]."""
    x = as_value(inputs)
    if _layout(data_format) == "NCHW" and (x.type.rank or 0) > 2:
        x = OPS["transpose"](x, perm=(0, *range(2, x.type.rank or 0), 1))
    dims = x.type.shape
    if dims is None or not dims:
        raise ShapeError(f"flatten needs a tensor of known rank, 1 or more, got {x!r}")
    if all(isinstance(d, int) for d in dims[1:]):
        return reshape(x, [-1, math.prod(int(d) for d in dims[1:])], name=name)
    return reshape(x, [shape(x)[0], -1], name=name)


def dropout(
    inputs: Any,
    rate: Any = 0.5,
    noise_shape: Any = None,
    seed: int | None = None,
    training: Any = False,
    name: str | None = None,
) -> Value:
    """nn.dropout while `training` (a bool, or a bool tensor), else the inputs."""
    flag = constant_value(training)
    if flag is not None and not bool(flag):
        return OPS["identity"](inputs, name=name)
    dropped = nn.dropout(inputs, noise_shape=noise_shape, seed=seed, rate=rate, name=name)
    return dropped if flag is not None else where(training, dropped, inputs)


def batch_normalization(
    inputs: Any,
    axis: int = -1,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
    center: bool = True,
    scale: bool = True,
    beta_initializer: Any = Zeros,
    gamma_initializer: Any = Ones,
    moving_mean_initializer: Any = Zeros,
    moving_variance_initializer: Any = Ones,
    beta_regularizer: Any = None,
    gamma_regularizer: Any = None,
    beta_constraint: Any = None,
    gamma_constraint: Any = None,
    training: Any = False,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
) -> Value:
    """Batch normalization along `axis` (Ioffe & Szegedy, 2015).

    While `training` (a bool, or a bool tensor) by the batch's own mean and variance; the ops that
    move the averages towards them are in the collection UPDATE_OPS, for control_dependencies.
    """
    x = as_value(inputs)
    at = normalize_axis(axis, _rank(x))
    size = [_known(x, at, "batch_normalization")]
    with _scope(name, "batch_normalization", reuse, x):
        gamma = beta = None
        if scale:
            gamma = get_variable(
                "gamma", size, float32, gamma_initializer, gamma_regularizer, trainable,
                constraint=gamma_constraint,
            )  # fmt: skip
        if center:
            beta = get_variable(
                "beta", size, float32, beta_initializer, beta_regularizer, trainable,
                constraint=beta_constraint,
            )  # fmt: skip
        mean = get_variable("moving_mean", size, float32, moving_mean_initializer, trainable=False)
        variance = get_variable(
            "moving_variance", size, float32, moving_variance_initializer, trainable=False
        )
        wide = cast(x, float32)
        used = _statistics(wide, at, mean, variance, momentum, training)
        center_, spread, offset, factor = (
            None if p is None else _along(p, at, _rank(x)) for p in (*used, beta, gamma)
        )
        y = nn.batch_normalization(wide, center_, spread, offset, factor, epsilon)
        return cast(y, x.dtype)


def _rank(x: Value) -> int:
    if x.type.rank is None:
        raise ShapeError(f"batch_normalization needs a tensor of known rank, got {x!r}")
    return x.type.rank


def _along(vector: Any, axis: int, rank: int) -> Value:
    """The vector as a tensor of the rank, along the axis."""
    rest = tuple(i for i in range(rank) if i != axis)
    return OPS["expand_dims"](vector, axis=rest) if axis != rank - 1 else as_value(vector)


def _statistics(
    x: Value, axis: int, mean: Variable, variance: Variable, momentum: float, training: Any
) -> tuple[Value, Value]:
    """The mean and variance to use; where training, the averages' updates are put aside."""
    flag = constant_value(training)
    if flag is not None and not bool(flag):
        return mean.value(), variance.value()
    batch = nn.moments(x, [i for i in range(_rank(x)) if i != axis])
    share: Any = 1.0 - momentum
    if flag is None:  # outside training the averages move by nothing
        share = where(training, convert(share), convert(0.0))
    for average, own in zip((mean, variance), batch, strict=True):
        step = (average.value() - own) * share
        add_to_collection(GraphKeys.UPDATE_OPS, average.assign_sub(step))
    if flag is not None:
        return batch
    return where(training, batch[0], mean), where(training, batch[1], variance)

"""`layers`: layer classes, and functions that make a layer and call it at once.

Named layers share variables where the scope or `reuse` says so; unnamed ones are called dense,
dense_1, ... as TensorFlow 1 does.
"""

from __future__ import annotations

import math
from typing import Any

from graphc.frontend import nn
from graphc.frontend.arguments import as_value, constant_value
from graphc.frontend.array import reshape, shape, where
from graphc.frontend.framework import GraphKeys, add_to_collection
from graphc.frontend.initializers import Ones, Zeros
from graphc.frontend.layer import Activation, Layer, as_function, channels_first, known_dim
from graphc.frontend.layers_attention import MultiHeadAttention
from graphc.frontend.layers_conv import (
    AveragePooling1D,
    AveragePooling2D,
    AveragePooling3D,
    Conv1D,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
    MaxPooling1D,
    MaxPooling2D,
    MaxPooling3D,
    SeparableConv1D,
    SeparableConv2D,
    average_pooling1d,
    average_pooling2d,
    average_pooling3d,
    conv1d,
    conv2d,
    conv2d_transpose,
    conv3d,
    conv3d_transpose,
    max_pooling1d,
    max_pooling2d,
    max_pooling3d,
    separable_conv1d,
    separable_conv2d,
)
from graphc.frontend.linalg import matmul, tensordot
from graphc.frontend.math import cast
from graphc.frontend.variables import Variable
from graphc.ir.dtypes import bool_, float32
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Value, convert
from graphc.ir.table import OPS
from graphc.ir.types import normalize_axis


class Dense(Layer):
    """activation(inputs @ kernel + bias). inputs: [..., k] with known k -> [..., units]."""

    base_name = "dense"
    kernel: Variable
    bias: Variable | None = None

    def __init__(
        self,
        units: int,
        activation: Activation | None = None,
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
    ) -> None:
        super().__init__(trainable, name, activity_regularizer, reuse)
        self.units = units
        self.activation = activation
        self.use_bias = use_bias
        self.kernel_options = {
            "initializer": kernel_initializer, "regularizer": kernel_regularizer,
            "constraint": kernel_constraint,
        }  # fmt: skip
        self.bias_options = {
            "initializer": bias_initializer, "regularizer": bias_regularizer,
            "constraint": bias_constraint,
        }  # fmt: skip

    def build(self, x: Value) -> None:
        """kernel: [k, units], bias: [units]."""
        rows = known_dim(x, -1, "dense")
        self.kernel = self.add_weight("kernel", [rows, self.units], **self.kernel_options)
        if self.use_bias:
            self.bias = self.add_weight("bias", [self.units], **self.bias_options)

    def call(self, x: Value) -> Value:
        """activation(x @ kernel + bias)"""
        y = matmul(x, self.kernel) if x.type.rank == 2 else tensordot(x, self.kernel, 1)
        if self.bias is not None:
            y = nn.bias_add(y, self.bias)
        return y if self.activation is None else self.activation(y)


dense = as_function(Dense, "Dense made and called at once.")


class Flatten(Layer):
    """All dims but the first as one. [n, ...] -> [n, k]."""

    base_name = "flatten"

    def __init__(self, data_format: str = "channels_last", name: str | None = None) -> None:
        super().__init__(name=name)
        self.channels_first = channels_first(data_format)

    def call(self, x: Value) -> Value:
        """[n, k]"""
        if self.channels_first and (x.type.rank or 0) > 2:
            x = OPS["transpose"](x, perm=(0, *range(2, x.type.rank or 0), 1))
        dims = x.type.shape
        if not dims:
            raise ShapeError(f"flatten needs a tensor of known rank, 1 or more, got {x!r}")
        if all(isinstance(d, int) for d in dims[1:]):
            return reshape(x, [-1, math.prod(int(d) for d in dims[1:])], name="Reshape")
        return reshape(x, [shape(x)[0], -1], name="Reshape")


def flatten(inputs: Any, name: str | None = None, data_format: str = "channels_last") -> Value:
    """All dims but the first as one. [n, ...] -> [n, k]."""
    return Flatten(data_format, name)(inputs)


class Dropout(Layer):
    """nn.dropout while `training` (a bool, or a bool tensor), else the inputs."""

    base_name = "dropout"

    def __init__(
        self,
        rate: Any = 0.5,
        noise_shape: Any = None,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.rate = rate
        self.noise_shape = noise_shape
        self.seed = seed

    def call(self, x: Value, training: Any = False) -> Value:
        """x, with a share of it dropped while training."""
        flag = constant_value(training)
        if flag is not None and not bool(flag):
            return OPS["identity"](x, name="Identity")
        dropped = nn.dropout(x, noise_shape=self.noise_shape, seed=self.seed, rate=self.rate)
        return dropped if flag is not None else where(_flag(training), dropped, x)


def _flag(training: Any) -> Value:
    """The tensor `training` as one bool: a placeholder without a shape is taken for a scalar."""
    return OPS["reshape"](cast(training, bool_), shape=())


def dropout(
    inputs: Any,
    rate: Any = 0.5,
    noise_shape: Any = None,
    seed: int | None = None,
    training: Any = False,
    name: str | None = None,
) -> Value:
    """nn.dropout while `training` (a bool, or a bool tensor), else the inputs."""
    return Dropout(rate, noise_shape, seed, name)(inputs, training=training)


# -- batch normalization


class BatchNormalization(Layer):
    """Batch normalization along `axis` (Ioffe & Szegedy, 2015).

    While `training` (a bool, or a bool tensor) by the batch's own mean and variance; the ops that
    move the averages towards them are in the collection UPDATE_OPS, for control_dependencies.
    Of images the moving variance follows the batch's divided by n - 1 (TensorFlow's fused op; not
    so with fused=False), else divided by n.
    """

    base_name = "batch_normalization"
    gamma: Variable | None = None
    beta: Variable | None = None
    moving_mean: Variable
    moving_variance: Variable

    def __init__(
        self,
        axis: Any = -1,
        momentum: Any = 0.99,
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
        trainable: bool = True,
        name: str | None = None,
        reuse: Any = None,
        renorm: bool = False,
        fused: bool | None = None,
        virtual_batch_size: int | None = None,
    ) -> None:
        super().__init__(trainable, name, reuse=reuse)
        if renorm or virtual_batch_size is not None:
            raise AttributeValueError("renorm and virtual_batch_size are not offered by graphc")
        if isinstance(axis, (list, tuple)) and len(axis) == 1:
            (axis,) = axis
        self.axis = axis
        self.momentum = momentum
        self.epsilon = epsilon
        self.center = center
        self.scale = scale
        self.fused = fused
        self.gamma_options = {
            "initializer": gamma_initializer, "regularizer": gamma_regularizer,
            "constraint": gamma_constraint,
        }  # fmt: skip
        self.beta_options = {
            "initializer": beta_initializer, "regularizer": beta_regularizer,
            "constraint": beta_constraint,
        }  # fmt: skip
        self.moving_initializers = (moving_mean_initializer, moving_variance_initializer)

    def build(self, x: Value) -> None:
        """gamma, beta and the moving averages, all float32 of the size along the axis."""
        size = [known_dim(x, self._at(x), self.base_name)]
        if self.scale:
            self.gamma = self.add_weight("gamma", size, dtype=float32, **self.gamma_options)
        if self.center:
            self.beta = self.add_weight("beta", size, dtype=float32, **self.beta_options)
        mean, variance = self.moving_initializers
        kept: dict[str, Any] = {"dtype": float32, "trainable": False}
        self.moving_mean = self.add_weight("moving_mean", size, initializer=mean, **kept)
        self.moving_variance = self.add_weight(
            "moving_variance", size, initializer=variance, **kept
        )

    def _at(self, x: Value) -> int:
        if x.type.rank is None:
            raise ShapeError(f"batch_normalization needs a tensor of known rank, got {x!r}")
        return normalize_axis(self.axis, x.type.rank)

    def call(self, x: Value, training: Any = False) -> Value:
        """(x - mean) / sqrt(variance + epsilon) * gamma + beta"""
        axis, rank = self._at(x), x.type.rank or 0
        wide = cast(x, float32)
        used = self._statistics(wide, axis, training)
        mean, variance, offset, factor = (
            None if p is None else _along(p, axis, rank) for p in (*used, self.beta, self.gamma)
        )
        y = nn.batch_normalization(wide, mean, variance, offset, factor, self.epsilon)
        return cast(y, x.dtype)

    def _statistics(self, x: Value, axis: int, training: Any) -> tuple[Value, Value]:
        """The mean and variance to use; where training, the averages' updates are put aside."""
        flag = constant_value(training)
        averages = self.moving_mean, self.moving_variance
        if flag is not None and not bool(flag):
            return averages[0].value(), averages[1].value()
        batch = nn.moments(x, [i for i in range(x.type.rank or 0) if i != axis])
        share: Any = 1.0 - self.momentum
        if flag is None:  # outside training the averages move by nothing
            training = _flag(training)
            share = where(training, convert(share, dtype=float32), convert(0.0))
        own = (batch[0], batch[1] * _correction(x, axis)) if self._is_fused(x, axis) else batch
        for average, target in zip(averages, own, strict=True):
            step = (average.value() - target) * share
            add_to_collection(GraphKeys.UPDATE_OPS, average.assign_sub(step))
        if flag is not None:
            return batch
        return where(training, batch[0], averages[0]), where(training, batch[1], averages[1])

    def _is_fused(self, x: Value, axis: int) -> bool:
        """Whether TensorFlow would use its fused op, which only images have."""
        return self.fused is not False and x.type.rank == 4 and axis in (1, 3)


def _along(vector: Any, axis: int, rank: int) -> Value:
    """The vector as a tensor of the rank, along the axis."""
    rest = tuple(i for i in range(rank) if i != axis)
    return OPS["expand_dims"](vector, axis=rest) if axis != rank - 1 else as_value(vector)


def _correction(x: Value, axis: int) -> Value:
    """n / (n - 1) for n elements along all other axes; 1 for one element."""
    sizes = OPS["cast"](OPS["shape"](x), dtype=float32)
    one_channel = [sizes[i] for i in range(x.type.rank or 0) if i != axis]
    n = OPS["reduce_prod"](OPS["stack"](*one_channel))
    return n / OPS["maximum"](n - 1.0, 1.0)


def batch_normalization(
    inputs: Any,
    axis: Any = -1,
    momentum: Any = 0.99,
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
    renorm: bool = False,
    renorm_clipping: Any = None,
    renorm_momentum: float = 0.99,
    fused: bool | None = None,
    virtual_batch_size: int | None = None,
    adjustment: Any = None,
) -> Value:
    """BatchNormalization made and called at once."""
    del renorm_clipping, renorm_momentum
    if adjustment is not None:
        raise AttributeValueError("batch_normalization's adjustment is not offered by graphc")
    layer = BatchNormalization(
        axis, momentum, epsilon, center, scale, beta_initializer, gamma_initializer,
        moving_mean_initializer, moving_variance_initializer, beta_regularizer, gamma_regularizer,
        beta_constraint, gamma_constraint, trainable, name, reuse, renorm, fused,
        virtual_batch_size,
    )  # fmt: skip
    return layer(inputs, training=training)


__all__ = [
    "AveragePooling1D", "AveragePooling2D", "AveragePooling3D", "BatchNormalization", "Conv1D",
    "Conv2D", "Conv2DTranspose", "Conv3D", "Conv3DTranspose", "Dense", "Dropout", "Flatten",
    "Layer", "MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "MultiHeadAttention",
    "SeparableConv1D", "SeparableConv2D",
    "average_pooling1d", "average_pooling2d", "average_pooling3d", "batch_normalization", "conv1d",
    "conv2d", "conv2d_transpose", "conv3d", "conv3d_transpose", "dense", "dropout", "flatten",
    "max_pooling1d", "max_pooling2d", "max_pooling3d", "separable_conv1d", "separable_conv2d",
]  # fmt: skip

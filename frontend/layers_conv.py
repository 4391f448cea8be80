"""The convolutional and pooling layers; re-exported by `layers`."""

from __future__ import annotations

from typing import Any, ClassVar

from graphc.frontend import convolution as cv
from graphc.frontend.arguments import static_ints
from graphc.frontend.initializers import Zeros
from graphc.frontend.layer import Activation, Layer, as_function, channels_first, known_dim
from graphc.frontend.normalization import bias_add
from graphc.frontend.variables import Variable
from graphc.ir.errors import AttributeValueError
from graphc.ir.graph import Value
from graphc.ir.ops.geometry import channel_axis, layout_of


def _sizes(what: str, given: Any, rank: int) -> list[int]:
    numbers = list(static_ints(given, what))
    if len(numbers) not in (1, rank):
        raise AttributeValueError(f"{what} is one number or {rank}, got {given!r}")
    return numbers * rank if len(numbers) == 1 else numbers


def _padding(padding: Any) -> str:
    if str(padding).lower() not in ("valid", "same"):
        raise AttributeValueError(f"padding is 'valid' or 'same', got {padding!r}")
    return str(padding).upper()


class _Convolution(Layer):
    """What all convolutional layers share: sizes, the bias, the activation."""

    rank: ClassVar[int] = 2
    kernel: Variable
    bias: Variable | None = None

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str = "channels_last",
        dilation_rate: Any = 1,
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
        self.filters = filters
        self.kernel_size = _sizes("kernel_size", kernel_size, self.rank)
        self.strides = _sizes("strides", strides, self.rank)
        self.padding = _padding(padding)
        self.layout = layout_of(self.rank, channels_first(data_format))
        self.dilation_rate = _sizes("dilation_rate", dilation_rate, self.rank)
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

    def channels(self, x: Value) -> int:
        """The input's channels."""
        return known_dim(x, channel_axis(self.layout), self.base_name)

    def build(self, x: Value) -> None:
        """The kernels and the bias."""
        self.build_kernels(self.channels(x))
        if self.use_bias:
            self.bias = self.add_weight("bias", [self.filters], **self.bias_options)

    def build_kernels(self, channels: int) -> None:
        """The kernel [window..., channels, filters]."""
        shape = [*self.kernel_size, channels, self.filters]
        self.kernel = self.add_weight("kernel", shape, **self.kernel_options)

    def call(self, x: Value) -> Value:
        """activation(the convolution + bias)"""
        y = self.convolve(x)
        if self.bias is not None:
            y = bias_add(y, self.bias, self.layout)
        return y if self.activation is None else self.activation(y)

    def convolve(self, x: Value) -> Value:
        """The convolution alone."""
        return cv.convolution(
            x, self.kernel, strides=self.strides, padding=self.padding,
            dilations=self.dilation_rate, data_format=self.layout, name=self.op_name,
        )  # fmt: skip

    op_name: ClassVar[str] = "Conv2D"


class Conv1D(_Convolution):
    """activation(convolution + bias) along one dim. [n, w, c] -> [n, w', filters]."""

    base_name, rank, op_name = "conv1d", 1, "conv1d"


class Conv2D(_Convolution):
    """activation(convolution of images + bias). [n, h, w, c] -> [n, h', w', filters]."""

    base_name, rank, op_name = "conv2d", 2, "Conv2D"


class Conv3D(_Convolution):
    """activation(convolution of volumes + bias). [n, d, h, w, c] -> [n, d', h', w', filters]."""

    base_name, rank, op_name = "conv3d", 3, "Conv3D"


class _Transposed(_Convolution):
    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str = "channels_last",
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
        super().__init__(
            filters, kernel_size, strides, padding, data_format, 1, activation, use_bias,
            kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
            activity_regularizer, kernel_constraint, bias_constraint, trainable, name, reuse,
        )  # fmt: skip

    def build_kernels(self, channels: int) -> None:
        """The kernel [window..., filters, channels]."""
        shape = [*self.kernel_size, self.filters, channels]
        self.kernel = self.add_weight("kernel", shape, **self.kernel_options)

    def convolve(self, x: Value) -> Value:
        """The transposed convolution alone."""
        gaps = zip(self.strides, self.kernel_size, strict=True)
        # TensorFlow's sizes: n * stride + max(window - stride, 0), which the adjoint alone lacks
        more = [max(s - k, 0) if self.padding == "VALID" else 0 for s, k in gaps]
        return cv.conv_transpose(
            x, self.kernel, strides=self.strides, padding=self.padding, output_padding=more,
            data_format=self.layout, name=self.op_name,
        )  # fmt: skip


class Conv2DTranspose(_Transposed):
    """activation(transposed convolution + bias): images grow by the strides."""

    base_name, rank, op_name = "conv2d_transpose", 2, "conv2d_transpose"


class Conv3DTranspose(_Transposed):
    """activation(transposed convolution + bias): volumes grow by the strides."""

    base_name, rank, op_name = "conv3d_transpose", 3, "conv3d_transpose"


class _Separable(_Convolution):
    depthwise_kernel: Variable
    pointwise_kernel: Variable

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str = "channels_last",
        dilation_rate: Any = 1,
        depth_multiplier: int = 1,
        activation: Activation | None = None,
        use_bias: bool = True,
        depthwise_initializer: Any = None,
        pointwise_initializer: Any = None,
        bias_initializer: Any = Zeros,
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        bias_constraint: Any = None,
        trainable: bool = True,
        name: str | None = None,
        reuse: Any = None,
    ) -> None:
        super().__init__(
            filters, kernel_size, strides, padding, data_format, dilation_rate, activation,
            use_bias, None, bias_initializer, None, bias_regularizer, activity_regularizer, None,
            bias_constraint, trainable, name, reuse,
        )  # fmt: skip
        self.depth_multiplier = depth_multiplier
        self.depthwise_options = {
            "initializer": depthwise_initializer, "regularizer": depthwise_regularizer,
            "constraint": depthwise_constraint,
        }  # fmt: skip
        self.pointwise_options = {
            "initializer": pointwise_initializer, "regularizer": pointwise_regularizer,
            "constraint": pointwise_constraint,
        }  # fmt: skip

    def build_kernels(self, channels: int) -> None:
        """[window..., channels, depth_multiplier] and [1..., channels * multiplier, filters]."""
        depth = [*self.kernel_size, channels, self.depth_multiplier]
        point = [*(1,) * self.rank, channels * self.depth_multiplier, self.filters]
        self.depthwise_kernel = self.add_weight("depthwise_kernel", depth, **self.depthwise_options)
        self.pointwise_kernel = self.add_weight("pointwise_kernel", point, **self.pointwise_options)

    def convolve(self, x: Value) -> Value:
        """The two convolutions alone."""
        deep = cv.depthwise(
            x, self.depthwise_kernel, strides=self.strides, padding=self.padding,
            dilations=self.dilation_rate, data_format=self.layout, name=f"{self.op_name}/depthwise",
        )  # fmt: skip
        return cv.convolution(
            deep, self.pointwise_kernel, data_format=self.layout, name=self.op_name
        )


class SeparableConv1D(_Separable):
    """A depthwise convolution along one dim, then one with filters of size 1 (Chollet, 2017)."""

    base_name, rank, op_name = "separable_conv1d", 1, "separable_conv1d"


class SeparableConv2D(_Separable):
    """A depthwise convolution, then one with filters of size 1 (Chollet, 2017)."""

    base_name, rank, op_name = "separable_conv2d", 2, "separable_conv2d"


# -- pooling


class _Pooling(Layer):
    rank: ClassVar[int] = 2
    kind: ClassVar[str] = "max"

    def __init__(
        self,
        pool_size: Any,
        strides: Any,
        padding: str = "valid",
        data_format: str = "channels_last",
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.pool_size = _sizes("pool_size", pool_size, self.rank)
        self.strides = _sizes("strides", strides, self.rank)
        self.padding = _padding(padding)
        self.layout = layout_of(self.rank, channels_first(data_format))

    def call(self, x: Value) -> Value:
        """The maximum or mean of every window."""
        return cv.pool(
            x, self.pool_size, kind=self.kind, strides=self.strides, padding=self.padding,
            data_format=self.layout, name="MaxPool" if self.kind == "max" else "AvgPool",
        )  # fmt: skip


class MaxPooling1D(_Pooling):
    """The maximum of every window of one spatial dim. [n, w, c] -> [n, w', c]."""

    base_name, rank = "max_pooling1d", 1


class MaxPooling2D(_Pooling):
    """The maximum of every window. [n, h, w, c] -> [n, h', w', c]."""

    base_name, rank = "max_pooling2d", 2


class MaxPooling3D(_Pooling):
    """The maximum of every window of three dims."""

    base_name, rank = "max_pooling3d", 3


class AveragePooling1D(_Pooling):
    """The mean of every window of one spatial dim. [n, w, c] -> [n, w', c]."""

    base_name, rank, kind = "average_pooling1d", 1, "avg"


class AveragePooling2D(_Pooling):
    """The mean of every window. [n, h, w, c] -> [n, h', w', c]."""

    base_name, rank, kind = "average_pooling2d", 2, "avg"


class AveragePooling3D(_Pooling):
    """The mean of every window of three dims."""

    base_name, rank, kind = "average_pooling3d", 3, "avg"


conv1d = as_function(Conv1D, "Conv1D made and called at once.")
conv2d = as_function(Conv2D, "Conv2D made and called at once.")
conv3d = as_function(Conv3D, "Conv3D made and called at once.")
conv2d_transpose = as_function(Conv2DTranspose, "Conv2DTranspose made and called at once.")
conv3d_transpose = as_function(Conv3DTranspose, "Conv3DTranspose made and called at once.")
separable_conv1d = as_function(SeparableConv1D, "SeparableConv1D made and called at once.")
separable_conv2d = as_function(SeparableConv2D, "SeparableConv2D made and called at once.")
max_pooling1d = as_function(MaxPooling1D, "MaxPooling1D made and called at once.")
max_pooling2d = as_function(MaxPooling2D, "MaxPooling2D made and called at once.")
max_pooling3d = as_function(MaxPooling3D, "MaxPooling3D made and called at once.")
average_pooling1d = as_function(AveragePooling1D, "AveragePooling1D made and called at once.")
average_pooling2d = as_function(AveragePooling2D, "AveragePooling2D made and called at once.")
average_pooling3d = as_function(AveragePooling3D, "AveragePooling3D made and called at once.")

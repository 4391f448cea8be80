"""`tf.contrib.layers`: layers by their older names and defaults, regularizers, initializers.

Unlike `tf.layers` they activate by relu, pad by SAME and call their variables weights and biases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from graphc import summary
from graphc.compat.symbols import delegate
from graphc.compat.tf1.contrib.framework import model_variable
from graphc.compat.tf1.contrib.framework.scopes import add_arg_scope
from graphc.frontend import array, convolution, layers, linalg, nn, train
from graphc.frontend.arguments import as_value
from graphc.frontend.framework import (
    GraphKeys,
    add_to_collections,
    get_collection,
    get_collection_ref,
    name_scope,
    with_dependencies,
)
from graphc.frontend.initializers import Ones, VarianceScaling, Zeros
from graphc.frontend.layer import known_dim
from graphc.frontend.math import abs as absolute
from graphc.frontend.math import add_n, reduce_sum
from graphc.frontend.scopes import variable_scope
from graphc.frontend.variables import Variable, trainable_variables
from graphc.ir.errors import AttributeValueError
from graphc.ir.graph import Value, convert

Penalty: TypeAlias = Callable[[Any], "Value | None"]

# -- initializers


def xavier_initializer(
    uniform: bool = True, seed: int | None = None, dtype: Any = "float32"
) -> VarianceScaling:
    """Variance 2 / (fan_in + fan_out) (Glorot & Bengio 2010)."""
    return VarianceScaling(
        1.0, "fan_avg", "uniform" if uniform else "truncated_normal", seed, dtype
    )


def variance_scaling_initializer(
    factor: float = 2.0,
    mode: str = "FAN_IN",
    uniform: bool = False,
    seed: int | None = None,
    dtype: Any = "float32",
) -> VarianceScaling:
    """Variance factor / fan, of fan_in, fan_out or their mean (He et al. 2015)."""
    distribution = "uniform" if uniform else "truncated_normal"
    return VarianceScaling(factor, mode.lower(), distribution, seed, dtype)


# -- regularizers


def _penalty(scale: float, name: str, measure: Callable[[Value], Value]) -> Penalty:
    if (isinstance(scale, int) and scale != 0) or scale < 0:
        raise AttributeValueError(f"{name}: the scale is a float that is not negative, got {scale}")

    def penalty(weights: Any) -> Value | None:
        if scale == 0.0:
            return None
        with name_scope(name):
            return measure(as_value(weights)) * scale

    return penalty


def l1_regularizer(scale: float, scope: str | None = None) -> Penalty:
    """scale * sum |w|"""
    return _penalty(scale, scope or "l1_regularizer", lambda w: reduce_sum(absolute(w)))


def l2_regularizer(scale: float, scope: str | None = None) -> Penalty:
    """scale * sum w^2 / 2"""
    return _penalty(scale, scope or "l2_regularizer", nn.l2_loss)


def l1_l2_regularizer(
    scale_l1: float = 1.0, scale_l2: float = 1.0, scope: str | None = None
) -> Penalty:
    """The sum of both."""
    return sum_regularizer([l1_regularizer(scale_l1), l2_regularizer(scale_l2)], scope)


def sum_regularizer(
    regularizer_list: Iterable[Penalty | None], scope: str | None = None
) -> Penalty:
    """The sum of several."""
    parts = [r for r in regularizer_list if r is not None]

    def penalty(weights: Any) -> Value | None:
        terms = [t for t in (p(weights) for p in parts) if t is not None]
        return add_n(terms, name=scope or "sum_regularizer") if terms else None

    return penalty


def apply_regularization(
    regularizer: Penalty, weights_list: Iterable[Variable] | None = None
) -> Value:
    """The sum over the weights (default: the collection of weights), kept among the losses."""
    weights = get_collection(GraphKeys.WEIGHTS) if weights_list is None else list(weights_list)
    terms = [t for t in map(regularizer, weights) if t is not None]
    total = add_n(terms) if terms else convert(0.0)
    add_to_collections([GraphKeys.REGULARIZATION_LOSSES], total)
    return total


# -- layers


def _finished(
    y: Value, normalizer_fn: Any, normalizer_params: Any, activation_fn: Any, collections: Any
) -> Value:
    """Normalized, activated, and put into the collections."""
    if normalizer_fn is not None:
        y = normalizer_fn(y, **(normalizer_params or {}))
    if activation_fn is not None:
        y = activation_fn(y)
    add_to_collections(collections, y)
    return y


def _of_kind(collections: Any, kind: str) -> Any:
    return collections.get(kind) if isinstance(collections, dict) else collections


def _weight(
    name: str,
    shape: Sequence[int],
    initializer: Any,
    regularizer: Any,
    trainable: bool,
    collections: Any,
) -> Variable:
    own = _of_kind(collections, name)
    return model_variable(
        name,
        shape,
        initializer=initializer,
        regularizer=regularizer,
        trainable=trainable,
        collections=own and [GraphKeys.GLOBAL_VARIABLES, *own],
    )


@add_arg_scope
def fully_connected(
    inputs: Any,
    num_outputs: int,
    activation_fn: Any = nn.relu,
    normalizer_fn: Any = None,
    normalizer_params: Any = None,
    weights_initializer: Any = None,
    weights_regularizer: Any = None,
    biases_initializer: Any = Zeros,
    biases_regularizer: Any = None,
    reuse: Any = None,
    variables_collections: Any = None,
    outputs_collections: Any = None,
    trainable: bool = True,
    scope: Any = None,
) -> Value:
    """relu(inputs @ weights + biases); a normalizer takes the place of the biases."""
    x = as_value(inputs)
    with variable_scope(scope, "fully_connected", [x], reuse=reuse):
        shape = [known_dim(x, -1, "fully_connected"), num_outputs]
        start = xavier_initializer() if weights_initializer is None else weights_initializer
        rest = trainable, variables_collections
        w = _weight("weights", shape, start, weights_regularizer, *rest)
        y = linalg.matmul(x, w) if x.type.rank == 2 else linalg.tensordot(x, w, 1)
        if normalizer_fn is None and biases_initializer is not None:
            b = _weight("biases", [num_outputs], biases_initializer, biases_regularizer, *rest)
            y = nn.bias_add(y, b)
        tail = normalizer_fn, normalizer_params, activation_fn, outputs_collections
        return _finished(y, *tail)


def _layout(data_format: str | None) -> str:
    if data_format not in (None, "NHWC", "NCHW"):
        raise AttributeValueError(f"data_format is NHWC or NCHW, got {data_format!r}")
    return data_format or "NHWC"


def _pair(x: Any) -> list[int]:
    return [x, x] if isinstance(x, int) else [int(n) for n in x]


@add_arg_scope
def conv2d(
    inputs: Any,
    num_outputs: int,
    kernel_size: Any,
    stride: Any = 1,
    padding: str = "SAME",
    data_format: str | None = None,
    rate: Any = 1,
    activation_fn: Any = nn.relu,
    normalizer_fn: Any = None,
    normalizer_params: Any = None,
    weights_initializer: Any = None,
    weights_regularizer: Any = None,
    biases_initializer: Any = Zeros,
    biases_regularizer: Any = None,
    reuse: Any = None,
    variables_collections: Any = None,
    outputs_collections: Any = None,
    trainable: bool = True,
    scope: Any = None,
) -> Value:
    """relu(conv(inputs, weights) + biases); a normalizer takes the place of the biases."""
    x, layout = as_value(inputs), _layout(data_format)
    with variable_scope(scope, "Conv", [x], reuse=reuse):
        channels = known_dim(x, -1 if layout == "NHWC" else 1, "conv2d")
        start = xavier_initializer() if weights_initializer is None else weights_initializer
        rest = trainable, variables_collections
        shape = [*_pair(kernel_size), channels, num_outputs]
        w = _weight("weights", shape, start, weights_regularizer, *rest)
        y = convolution.convolution(
            x, w, strides=_pair(stride), padding=padding, dilations=_pair(rate), data_format=layout
        )
        if normalizer_fn is None and biases_initializer is not None:
            b = _weight("biases", [num_outputs], biases_initializer, biases_regularizer, *rest)
            y = nn.bias_add(y, b, layout)
        tail = normalizer_fn, normalizer_params, activation_fn, outputs_collections
        return _finished(y, *tail)


@add_arg_scope
def conv2d_transpose(
    inputs: Any,
    num_outputs: int,
    kernel_size: Any,
    stride: Any = 1,
    padding: str = "SAME",
    data_format: str | None = None,
    activation_fn: Any = nn.relu,
    normalizer_fn: Any = None,
    normalizer_params: Any = None,
    weights_initializer: Any = None,
    weights_regularizer: Any = None,
    biases_initializer: Any = Zeros,
    biases_regularizer: Any = None,
    reuse: Any = None,
    variables_collections: Any = None,
    outputs_collections: Any = None,
    trainable: bool = True,
    scope: Any = None,
) -> Value:
    """relu of the transposed convolution, + biases; see `conv2d`."""
    x, layout = as_value(inputs), _layout(data_format)
    with variable_scope(scope, "Conv2d_transpose", [x], reuse=reuse):
        channels = known_dim(x, -1 if layout == "NHWC" else 1, "conv2d_transpose")
        start = xavier_initializer() if weights_initializer is None else weights_initializer
        rest = trainable, variables_collections
        shape = [*_pair(kernel_size), num_outputs, channels]
        w = _weight("weights", shape, start, weights_regularizer, *rest)
        y = convolution.conv_transpose(
            x, w, strides=_pair(stride), padding=padding, data_format=layout
        )
        if normalizer_fn is None and biases_initializer is not None:
            b = _weight("biases", [num_outputs], biases_initializer, biases_regularizer, *rest)
            y = nn.bias_add(y, b, layout)
        tail = normalizer_fn, normalizer_params, activation_fn, outputs_collections
        return _finished(y, *tail)


def _pooled(
    kind: str, x: Any, kernel_size: Any, stride: Any, padding: str, data_format: Any, scope: Any
) -> Value:
    layout = _layout(data_format)
    with name_scope(scope, "MaxPool2D" if kind == "max" else "AvgPool2D"):
        window, steps = _pair(kernel_size), _pair(stride)
        return convolution.pool(
            as_value(x), window, kind=kind, strides=steps, padding=padding, data_format=layout
        )


@add_arg_scope
def max_pool2d(
    inputs: Any,
    kernel_size: Any,
    stride: Any = 2,
    padding: str = "VALID",
    data_format: str | None = None,
    outputs_collections: Any = None,
    scope: str | None = None,
) -> Value:
    """The maximum over windows."""
    y = _pooled("max", inputs, kernel_size, stride, padding, data_format, scope)
    return _finished(y, None, None, None, outputs_collections)


@add_arg_scope
def avg_pool2d(
    inputs: Any,
    kernel_size: Any,
    stride: Any = 2,
    padding: str = "VALID",
    data_format: str | None = None,
    outputs_collections: Any = None,
    scope: str | None = None,
) -> Value:
    """The mean over windows."""
    y = _pooled("avg", inputs, kernel_size, stride, padding, data_format, scope)
    return _finished(y, None, None, None, outputs_collections)


class _BatchNorm(layers.BatchNormalization):
    base_name = "BatchNorm"


@add_arg_scope
def batch_norm(
    inputs: Any,
    decay: Any = 0.999,
    center: bool = True,
    scale: bool = False,
    epsilon: float = 0.001,
    activation_fn: Any = None,
    param_initializers: dict[str, Any] | None = None,
    param_regularizers: dict[str, Any] | None = None,
    updates_collections: Any = GraphKeys.UPDATE_OPS,
    is_training: Any = True,
    reuse: Any = None,
    variables_collections: Any = None,
    outputs_collections: Any = None,
    trainable: bool = True,
    batch_weights: Any = None,
    fused: bool | None = None,
    data_format: str = "NHWC",
    zero_debias_moving_mean: bool = False,
    scope: Any = None,
) -> Value:
    """Batch normalization. The averages' updates go into `updates_collections`; with None they
    happen whenever the result is used."""
    del variables_collections, zero_debias_moving_mean
    if batch_weights is not None:
        raise AttributeValueError("batch_norm(batch_weights=...) is not offered")
    starts, penalties = param_initializers or {}, param_regularizers or {}
    x = as_value(inputs)
    layer = _BatchNorm(
        axis=-1 if _layout(data_format) == "NHWC" else 1,
        momentum=decay,
        epsilon=epsilon,
        center=center,
        scale=scale,
        beta_initializer=starts.get("beta", Zeros),
        gamma_initializer=starts.get("gamma", Ones),
        moving_mean_initializer=starts.get("moving_mean", Zeros),
        moving_variance_initializer=starts.get("moving_variance", Ones),
        beta_regularizer=penalties.get("beta"),
        gamma_regularizer=penalties.get("gamma"),
        trainable=trainable,
        name=scope,
        reuse=reuse,
        fused=fused,
    )
    y = layer(x, training=is_training)
    y = _updated(y, layer.updates, updates_collections)
    return _finished(y, None, None, activation_fn, outputs_collections)


def _updated(y: Value, updates: Sequence[Any], collections: Any) -> Value:
    """The updates moved from the layer's own collection into those asked for."""
    if not updates or collections == GraphKeys.UPDATE_OPS:
        return y
    kept = get_collection_ref(GraphKeys.UPDATE_OPS)
    kept[:] = [u for u in kept if not any(u is own for own in updates)]
    if collections is None:
        return with_dependencies(updates, y)
    for update in updates:
        add_to_collections(collections, update)
    return y


@add_arg_scope
def layer_norm(
    inputs: Any,
    center: bool = True,
    scale: bool = True,
    activation_fn: Any = None,
    reuse: Any = None,
    variables_collections: Any = None,
    outputs_collections: Any = None,
    trainable: bool = True,
    begin_norm_axis: int = 1,
    begin_params_axis: int = -1,
    scope: Any = None,
) -> Value:
    """Normalized over the axes from `begin_norm_axis` on; a gain and an offset for the last ones
    (Ba, Kiros and Hinton, 2016)."""
    x = as_value(inputs)
    rank = x.type.rank or 0
    with variable_scope(scope, "LayerNorm", [x], reuse=reuse):
        shape = [known_dim(x, i, "layer_norm") for i in range(begin_params_axis % rank, rank)]
        rest = None, trainable, variables_collections
        beta = _weight("beta", shape, Zeros, *rest) if center else None
        gamma = _weight("gamma", shape, Ones, *rest) if scale else None
        axes = list(range(begin_norm_axis % rank, rank))
        mean, variance = nn.moments(x, axes, keep_dims=True)
        y = nn.batch_normalization(x, mean, variance, beta, gamma, 1e-12)
        return _finished(y, None, None, activation_fn, outputs_collections)


@add_arg_scope
def dropout(
    inputs: Any,
    keep_prob: Any = 0.5,
    noise_shape: Any = None,
    is_training: Any = True,
    outputs_collections: Any = None,
    scope: str | None = None,
    seed: int | None = None,
) -> Value:
    """Elements kept by chance; nothing is dropped outside training."""
    with name_scope(scope, "Dropout"):
        rate = 1.0 - convert(keep_prob) if isinstance(keep_prob, Value) else 1.0 - keep_prob
        y = layers.dropout(inputs, rate, noise_shape, seed, is_training)
    return _finished(y, None, None, None, outputs_collections)


@add_arg_scope
def flatten(inputs: Any, outputs_collections: Any = None, scope: str | None = None) -> Value:
    """[batch, ...] -> [batch, the product of the rest]"""
    with name_scope(scope, "Flatten"):
        return _finished(layers.flatten(inputs), None, None, None, outputs_collections)


@add_arg_scope
def bias_add(
    inputs: Any,
    activation_fn: Any = None,
    initializer: Any = Zeros,
    regularizer: Any = None,
    reuse: Any = None,
    variables_collections: Any = None,
    outputs_collections: Any = None,
    trainable: bool = True,
    data_format: str | None = None,
    scope: Any = None,
) -> Value:
    """Biases added to the channels."""
    x, layout = as_value(inputs), _layout(data_format)
    with variable_scope(scope, "BiasAdd", [x], reuse=reuse):
        size = [known_dim(x, -1 if layout == "NHWC" else 1, "bias_add")]
        b = _weight("biases", size, initializer, regularizer, trainable, variables_collections)
        y = nn.bias_add(x, b, layout)
        return _finished(y, None, None, activation_fn, outputs_collections)


@add_arg_scope
def one_hot_encoding(
    labels: Any,
    num_classes: int,
    on_value: Any = 1.0,
    off_value: Any = 0.0,
    outputs_collections: Any = None,
    scope: str | None = None,
) -> Value:
    """`one_hot`, of floats."""
    with name_scope(scope, "OneHotEncoding"):
        y = array.one_hot(labels, num_classes, on_value, off_value)
    return _finished(y, None, None, None, outputs_collections)


@add_arg_scope
def softmax(logits: Any, scope: str | None = None) -> Value:
    """Softmax over the last dim."""
    return nn.softmax(logits, name=scope)


def linear(inputs: Any, num_outputs: int, **options: Any) -> Value:
    """`fully_connected` without an activation."""
    return fully_connected(inputs, num_outputs, **{"activation_fn": None, **options})


def repeat(inputs: Any, repetitions: int, layer: Any, *args: Any, **kwargs: Any) -> Value:
    """A layer several times one after the other, in scopes that are numbered."""
    name = kwargs.pop("scope", None) or getattr(layer, "__name__", "repeat")
    x: Value = inputs
    with variable_scope(name, "Repeat"):
        for i in range(repetitions):
            x = layer(x, *args, scope=f"{name}_{i + 1}", **kwargs)
    return x


def stack(inputs: Any, layer: Any, stack_args: Sequence[Any], **kwargs: Any) -> Value:
    """A layer one after the other, each with arguments of its own, in scopes that are numbered."""
    name = kwargs.pop("scope", None) or getattr(layer, "__name__", "stack")
    x: Value = inputs
    with variable_scope(name, "Stack"):
        for i, args in enumerate(stack_args):
            given = args if isinstance(args, (list, tuple)) else [args]
            x = layer(x, *given, scope=f"{name}_{i + 1}", **kwargs)
    return x


# -- training and looking


def optimize_loss(
    loss: Any,
    global_step: Any,
    learning_rate: Any,
    optimizer: Any,
    gradient_noise_scale: Any = None,
    gradient_multipliers: Any = None,
    clip_gradients: Any = None,
    learning_rate_decay_fn: Any = None,
    update_ops: Any = None,
    variables: Any = None,
    name: str | None = None,
    summaries: Any = None,
    colocate_gradients_with_ops: bool = False,
    increment_global_step: bool = True,
) -> Value:
    """The loss, which trains when it is run. `optimizer`: a name ("Adam"), class, or object."""
    del summaries, colocate_gradients_with_ops
    if gradient_noise_scale is not None or gradient_multipliers is not None:
        raise AttributeValueError("optimize_loss knows no gradient noise and no multipliers")
    step = train.get_global_step() if global_step is None else global_step
    with variable_scope(name, "OptimizeLoss"):
        rate = learning_rate
        if learning_rate_decay_fn is not None:
            rate = learning_rate_decay_fn(learning_rate, step)
        chosen = _optimizer(optimizer, rate)
        pairs = chosen.compute_gradients(loss, variables or trainable_variables())
        if clip_gradients is not None:
            found = [(g, v) for g, v in pairs if g is not None]
            clipped, _ = linalg.clip_by_global_norm([g for g, _ in found], clip_gradients)
            pairs = list(zip(clipped, (v for _, v in found), strict=True))
        update = chosen.apply_gradients(pairs, step if increment_global_step else None)
        others = get_collection(GraphKeys.UPDATE_OPS) if update_ops is None else list(update_ops)
        return with_dependencies([update, *others], as_value(loss))


def _optimizer(optimizer: Any, rate: Any) -> train.Optimizer:
    if isinstance(optimizer, str):
        return _optimizer(OPTIMIZER_CLS_NAMES[optimizer], rate)
    if isinstance(optimizer, train.Optimizer):
        return optimizer
    made: train.Optimizer = optimizer(rate) if rate is not None else optimizer()
    return made


OPTIMIZER_CLS_NAMES = {
    "Adagrad": train.AdagradOptimizer,
    "Adam": train.AdamOptimizer,
    "Ftrl": train.FtrlOptimizer,
    "Momentum": lambda learning_rate: train.MomentumOptimizer(learning_rate, momentum=0.9),
    "RMSProp": train.RMSPropOptimizer,
    "SGD": train.GradientDescentOptimizer,
}


def summarize_tensor(tensor: Any, tag: str | None = None) -> Any:
    """A scalar's summary, or a histogram."""
    value = as_value(tensor)
    kind = summary.scalar if value.type.rank == 0 else summary.histogram
    return kind(tag or value.op.name, value)


def summarize_collection(
    collection: str, name_filter: str | None = None, summarizer: Any = summarize_tensor
) -> list[Any]:
    """Summaries of what a collection holds."""
    del name_filter
    return [summarizer(x) for x in get_collection(collection)]


def summarize_variables(name_filter: str | None = None, summarizer: Any = summarize_tensor) -> Any:
    """Summaries of all trainable variables."""
    return summarize_collection(GraphKeys.TRAINABLE_VARIABLES, name_filter, summarizer)


convolution2d = conv2d
convolution2d_transpose = conv2d_transpose
xavier_initializer_conv2d = xavier_initializer
relu = fully_connected
legacy_fully_connected = fully_connected
__getattr__ = delegate(__name__)

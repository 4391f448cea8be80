"""Functions of neural networks, by TensorFlow's names: activations, losses, normalization."""

from __future__ import annotations

from typing import Any, NamedTuple

from graphc.frontend.arguments import (
    as_value,
    constant_value,
    either,
    same_dtype,
    shape_argument,
    static_int,
)
from graphc.frontend.array import gather
from graphc.frontend.convolution import (
    atrous_conv2d,
    avg_pool,
    conv1d,
    conv2d,
    conv2d_transpose,
    depthwise_conv2d,
    max_pool,
    separable_conv2d,
)
from graphc.frontend.framework import name_scope
from graphc.frontend.linalg import matmul
from graphc.frontend.math import cast, log_sigmoid, sigmoid, tanh
from graphc.frontend.normalization import (
    batch_normalization,
    bias_add,
    fused_batch_norm,
    l2_normalize,
    layer_norm,
    local_response_normalization,
    lrn,
    moments,
)
from graphc.ir.dtypes import float32
from graphc.ir.errors import AttributeValueError, DTypeError, ShapeError
from graphc.ir.graph import Value, convert, get_default_graph
from graphc.ir.ops import losses, norm, slicing
from graphc.ir.ops import movement as mv
from graphc.ir.ops import nn as ops
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import reduce as red
from graphc.ir.ops.random import random_key
from graphc.ir.table import OPS
from graphc.ir.types import Dim, normalize_axis, same_dim

# -- activations


def relu(features: Any, name: str | None = None) -> Value:
    """max(x, 0)"""
    return ops.relu(features, name=name or "Relu")


def relu6(features: Any, name: str | None = None) -> Value:
    """min(max(x, 0), 6)"""
    return ops.relu6(features, name=name or "Relu6")


def leaky_relu(features: Any, alpha: float = 0.2, name: str | None = None) -> Value:
    """x where it is positive, else alpha * x."""
    return ops.leaky_relu(features, alpha=float(alpha), name=name or "LeakyRelu")


def elu(features: Any, name: str | None = None) -> Value:
    """x where it is positive, else exp(x) - 1 (Clevert et al., 2016)."""
    return ops.elu(features, name=name or "Elu")


def selu(features: Any, name: str | None = None) -> Value:
    """The scaled ELU that keeps mean 0 and variance 1 (Klambauer et al., 2017)."""
    return ops.selu(features, name=name or "Selu")


def softplus(features: Any, name: str | None = None) -> Value:
    """log(1 + exp(x)), without overflow."""
    return ops.softplus(features, name=name or "Softplus")


def softsign(features: Any, name: str | None = None) -> Value:
    """x / (1 + |x|)"""
    return ops.softsign(features, name=name or "Softsign")


def swish(features: Any, name: str | None = None) -> Value:
    """x * sigmoid(x) (Ramachandran et al., 2017)"""
    return ops.silu(features, name=name or "swish")


silu = swish


def gelu(features: Any, approximate: bool = False, name: str | None = None) -> Value:
    """x times the normal distribution's cumulative function at x (Hendrycks & Gimpel, 2016)."""
    return ops.gelu(features, approximate=bool(approximate), name=name or "Gelu")


def crelu(features: Any, name: str | None = None, axis: int = -1) -> Value:
    """relu(x) and relu(-x), one after the other along an axis (Shang et al., 2016)."""
    with name_scope(name, "CRelu") as scope:
        x = as_value(features)
        return ops.relu(slicing.concat(x, -x, axis=axis), name=scope)


def softmax(logits: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Value:
    """exp(x) / sum(exp(x)) along an axis, the last by default."""
    return ops.softmax(logits, axis=_axis(axis, dim), name=name or "Softmax")


def log_softmax(logits: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Value:
    """log(softmax(x)) along an axis, the last by default."""
    return ops.log_softmax(logits, axis=_axis(axis, dim), name=name or "LogSoftmax")


def _axis(axis: Any, dim: Any) -> int:
    return static_int(either("axis", axis, "dim", dim, -1), "axis")


# -- losses


def softmax_cross_entropy_with_logits(
    labels: Any = None,
    logits: Any = None,
    dim: int = -1,
    name: str | None = None,
    axis: int | None = None,
) -> Value:
    """-sum(labels * log_softmax(logits)) along an axis; no gradient flows into the labels."""
    constant = OPS["stop_gradient"](_given("labels", labels))
    return softmax_cross_entropy_with_logits_v2(constant, logits, axis, name, dim)


def softmax_cross_entropy_with_logits_v2(
    labels: Any = None,
    logits: Any = None,
    axis: int | None = None,
    name: str | None = None,
    dim: int | None = None,
) -> Value:
    """-sum(labels * log_softmax(logits)) along an axis. labels, logits: [..., classes]."""
    y, x = same_dtype([_given("labels", labels), _given("logits", logits)])
    at = -1 if axis is None and dim is None else axis if axis is not None else dim
    rank = x.type.rank
    if at not in (-1, None if rank is None else rank - 1):
        y, x = _axis_last(y, at), _axis_last(x, at)
    return losses.softmax_cross_entropy(y, x, name=name or "softmax_cross_entropy_with_logits")


def _given(what: str, x: Any) -> Any:
    if x is None:
        raise AttributeValueError(f"a cross entropy needs labels and logits; {what} is missing")
    return x


def _axis_last(x: Value, axis: Any) -> Value:
    if x.type.rank is None:
        raise ShapeError(f"an axis other than the last needs a known rank, got {x!r}")
    at = normalize_axis(axis, x.type.rank)
    order = [i for i in range(x.type.rank) if i != at]
    return mv.transpose(x, perm=(*order, at))


def sparse_softmax_cross_entropy_with_logits(
    labels: Any = None, logits: Any = None, name: str | None = None
) -> Value:
    """-log(softmax(logits))[label]. labels: [...] integers, logits: [..., classes] -> [...].

    A label that is no class gives NaN.
    """
    y, x = as_value(_given("labels", labels)), as_value(_given("logits", logits))
    if not y.dtype.is_integer:
        raise DTypeError(
            f"sparse labels are integers, got {y!r}; for probabilities use "
            "softmax_cross_entropy_with_logits"
        )
    name = name or "SparseSoftmaxCrossEntropyWithLogits"
    return losses.sparse_softmax_cross_entropy(y, x, name=name)


def sigmoid_cross_entropy_with_logits(
    labels: Any = None, logits: Any = None, name: str | None = None
) -> Value:
    """-y log(sigmoid(x)) - (1 - y) log(1 - sigmoid(x)) = max(x, 0) - x y + log(1 + exp(-|x|))."""
    y, x = same_dtype([_given("labels", labels), _given("logits", logits)])
    return losses.sigmoid_cross_entropy(y, x, name=name or "logistic_loss")


def weighted_cross_entropy_with_logits(
    labels: Any = None,
    logits: Any = None,
    pos_weight: Any = 1.0,
    name: str | None = None,
    targets: Any = None,
) -> Value:
    """sigmoid_cross_entropy_with_logits with positive labels weighted by `pos_weight`."""
    given = either("labels", labels, "targets", targets)
    y, x = same_dtype([_given("labels", given), _given("logits", logits)])
    weight = convert(pos_weight, like=x.dtype)
    return losses.weighted_cross_entropy(y, x, weight, name=name or "logistic_loss")


def l2_loss(t: Any, name: str | None = None) -> Value:
    """Half the sum of the squares."""
    return norm.l2_loss(t, name=name or "L2Loss")


def zero_fraction(value: Any, name: str | None = None) -> Value:
    """The share of elements that are 0, as float32."""
    with name_scope(name, "zero_fraction") as scope:
        x = as_value(value)
        zero = cast(pw.equal(x, convert(0, like=x.dtype)), float32)
        return red.reduce_mean(zero, name=scope)


# -- layers' arithmetic


def xw_plus_b(x: Any, weights: Any, biases: Any, name: str | None = None) -> Value:
    """x @ weights + biases"""
    with name_scope(name, "xw_plus_b") as scope:
        return pw.add(matmul(x, weights), biases, name=scope)


def relu_layer(x: Any, weights: Any, biases: Any, name: str | None = None) -> Value:
    """relu(x @ weights + biases)"""
    with name_scope(name, "relu_layer") as scope:
        return ops.relu(xw_plus_b(x, weights, biases), name=scope)


def dropout(
    x: Any,
    keep_prob: Any = None,
    noise_shape: Any = None,
    seed: int | None = None,
    name: str | None = None,
    rate: Any = None,
) -> Value:
    """x / keep_prob with probability keep_prob, else 0; rate = 1 - keep_prob.

    keep_prob may be a tensor. `noise_shape` (broadcast to x) says what is dropped together.
    (Srivastava et al., 2014.)
    """
    if (keep_prob is None) == (rate is None):
        raise AttributeValueError("dropout needs keep_prob or rate, and not both")
    value = as_value(x)
    if not value.dtype.is_floating:
        raise DTypeError(f"dropout scales floats, got {value!r}")
    with name_scope(name, "dropout") as scope:
        dropped = _dropped_share(keep_prob, rate)
        known = constant_value(dropped)
        if known is not None and not 0 <= float(known) < 1:
            raise AttributeValueError(f"dropout drops a share in [0, 1), got {float(known):g}")
        if known is not None and float(known) == 0:
            return OPS["identity"](value, name=scope)
        graph = get_default_graph()
        key = random_key(graph.seed, seed, graph.unique_name("dropout", mark=False))
        noise = _noise_shape(value, noise_shape)
        share = convert(dropped, like=value.dtype)
        return ops.dropout(value, share, key=key, noise_shape=noise, name=scope)


def _dropped_share(keep_prob: Any, rate: Any) -> Any:
    if rate is not None:
        return rate
    known = constant_value(keep_prob)
    return 1.0 - (keep_prob if known is None else float(known))


def _noise_shape(x: Value, given: Any) -> tuple[int | None, ...] | None:
    """The mask's sizes, None for x's own."""
    if given is None:
        return None
    own = x.type.shape or ()
    listed = isinstance(given, (list, tuple))
    sizes = [-1 if d is None else d for d in given] if listed else given
    dims = shape_argument(sizes)[1]["shape"]
    if dims is None or len(dims) != len(own):
        raise ShapeError(f"noise_shape needs one size per dim of {x.type}, got {given!r}")
    return tuple(_noise_size(d, o, given) for d, o in zip(dims, own, strict=True))


def _noise_size(dim: Dim, own: Dim, given: Any) -> int | None:
    if dim == -1 or same_dim(dim, own):
        return None
    if isinstance(dim, str):
        raise ShapeError(f"noise_shape {given!r}: {dim} is not known to be x's {own}, nor 1")
    return dim


# -- indexing


def embedding_lookup(
    params: Any,
    ids: Any,
    partition_strategy: str = "mod",
    name: str | None = None,
    validate_indices: bool = True,
    max_norm: Any = None,
) -> Value:
    """The rows of `params` at `ids`. params: [rows, ...] -> [*ids.shape, ...]."""
    del partition_strategy, validate_indices
    if isinstance(params, (list, tuple)):
        if len(params) != 1:
            raise AttributeValueError("embedding_lookup takes one table here, not a partition")
        (params,) = params
    rows = gather(params, ids, name=name or "embedding_lookup")
    if max_norm is None:
        return rows
    from graphc.frontend.linalg import clip_by_norm

    first = as_value(ids).type.rank or 0
    return clip_by_norm(rows, max_norm, axes=tuple(range(first, rows.type.rank or first)))


class TopKV2(NamedTuple):
    """What top_k gives."""

    values: Value
    indices: Value


def top_k(input: Any, k: Any = 1, sorted: bool = True, name: str | None = None) -> TopKV2:
    """The k greatest elements along the last dim, greatest first, and their positions."""
    del sorted
    number = static_int(k, "k")
    both = OPS["sort_pairs"].outputs(input, descending=True, k=number, name=name or "TopKV2")
    return TopKV2(*both)


def in_top_k(predictions: Any, targets: Any, k: Any, name: str | None = None) -> Value:
    """Whether fewer than k classes are predicted above the target. -> [batch] of bool.

    predictions: [batch, classes], targets: [batch]. False where a prediction is not finite.
    """
    x, y = as_value(predictions), as_value(targets)
    return losses.in_top_k(x, y, k=static_int(k, "k"), name=name or "InTopK")


__all__ = [
    "atrous_conv2d", "avg_pool", "batch_normalization", "bias_add", "conv1d", "conv2d",
    "conv2d_transpose", "crelu", "depthwise_conv2d", "dropout", "elu", "embedding_lookup",
    "fused_batch_norm", "gelu",
    "in_top_k", "l2_loss", "l2_normalize", "layer_norm", "leaky_relu",
    "local_response_normalization", "log_sigmoid", "log_softmax", "lrn", "max_pool",
    "moments", "relu", "relu6", "relu_layer", "selu", "separable_conv2d", "sigmoid",
    "sigmoid_cross_entropy_with_logits", "silu", "softmax", "softmax_cross_entropy_with_logits",
    "softmax_cross_entropy_with_logits_v2", "softplus", "softsign",
    "sparse_softmax_cross_entropy_with_logits", "swish", "tanh", "top_k",
    "weighted_cross_entropy_with_logits", "xw_plus_b", "zero_fraction",
]  # fmt: skip

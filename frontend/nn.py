"""Functions of neural networks, by TensorFlow's names: activations, losses, normalization."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from graphc.frontend import rnn_cells as rnn_cell
from graphc.frontend.arguments import (
    as_value,
    either,
    same_dtype,
    static_int,
)
from graphc.frontend.attention import scaled_dot_product_attention
from graphc.frontend.dropout import dropout
from graphc.frontend.framework import name_scope
from graphc.frontend.linalg import matmul
from graphc.frontend.math import cast, log_sigmoid, sigmoid, tanh
from graphc.frontend.normalization import (
    batch_norm_with_global_normalization,
    batch_normalization,
    bias_add,
    fused_batch_norm,
    l2_normalize,
    layer_norm,
    local_response_normalization,
    lrn,
    moments,
)
from graphc.frontend.rnn import (
    bidirectional_dynamic_rnn,
    dynamic_rnn,
    static_bidirectional_rnn,
    static_rnn,
)
from graphc.frontend.sampling import (
    fixed_unigram_candidate_sampler,
    log_uniform_candidate_sampler,
    nce_loss,
    sampled_softmax_loss,
    uniform_candidate_sampler,
)
from graphc.frontend.sequences import (
    ctc_greedy_decoder,
    ctc_loss,
    embedding_lookup,
    embedding_lookup_sparse,
)
from graphc.frontend.spatial import (
    batch_to_space,
    batch_to_space_nd,
    depth_to_space,
    dilation2d,
    erosion2d,
    space_to_batch,
    space_to_batch_nd,
    space_to_depth,
)
from graphc.frontend.windowing import (
    atrous_conv2d,
    atrous_conv2d_transpose,
    avg_pool,
    avg_pool3d,
    conv1d,
    conv1d_transpose,
    conv2d,
    conv2d_backprop_filter,
    conv2d_backprop_input,
    conv2d_transpose,
    conv3d,
    conv3d_transpose,
    convolution,
    depthwise_conv2d,
    depthwise_conv2d_native,
    max_pool,
    max_pool3d,
    max_pool_with_argmax,
    pool,
    separable_conv2d,
)
from graphc.ir.dtypes import float32
from graphc.ir.errors import AttributeValueError, DTypeError, ShapeError
from graphc.ir.graph import Value, convert
from graphc.ir.ops import losses, norm, slicing
from graphc.ir.ops import movement as mv
from graphc.ir.ops import nn as ops
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import reduce as red
from graphc.ir.table import OPS
from graphc.ir.types import normalize_axis

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


def log_poisson_loss(
    targets: Any, log_input: Any, compute_full_loss: bool = False, name: str | None = None
) -> Value:
    """exp(x) - x z: -log p(z) of a Poisson distribution of mean exp(x), but for a term of z alone.

    compute_full_loss adds Stirling's approximation of log(z!), where z > 1.
    """
    with name_scope(name, "log_poisson_loss"):
        z, x = same_dtype([targets, log_input])
        loss = pw.exp(x) - x * z
        if not compute_full_loss:
            return loss
        one = convert(1, like=z.dtype)
        safe = pw.maximum(z, one)
        stirling = safe * pw.log(safe) - safe + pw.log(safe * (2 * math.pi)) * 0.5
        apart = pw.logical_and(z >= 0.0, z <= 1.0)
        return loss + pw.where(apart, mv.zeros_like(stirling), stirling)


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


# -- indexing


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
    "atrous_conv2d",
    "atrous_conv2d_transpose",
    "avg_pool",
    "avg_pool3d",
    "batch_norm_with_global_normalization",
    "batch_normalization",
    "batch_to_space",
    "batch_to_space_nd",
    "bias_add",
    "bidirectional_dynamic_rnn",
    "conv1d",
    "conv1d_transpose",
    "conv2d",
    "conv2d_backprop_filter",
    "conv2d_backprop_input",
    "conv2d_transpose",
    "conv3d",
    "conv3d_transpose",
    "convolution",
    "crelu",
    "ctc_greedy_decoder",
    "ctc_loss",
    "depth_to_space",
    "depthwise_conv2d",
    "depthwise_conv2d_native",
    "dilation2d",
    "dropout",
    "dynamic_rnn",
    "elu",
    "embedding_lookup",
    "embedding_lookup_sparse",
    "erosion2d",
    "fixed_unigram_candidate_sampler",
    "fused_batch_norm",
    "gelu",
    "in_top_k",
    "l2_loss",
    "l2_normalize",
    "layer_norm",
    "leaky_relu",
    "local_response_normalization",
    "log_poisson_loss",
    "log_sigmoid",
    "log_softmax",
    "log_uniform_candidate_sampler",
    "lrn",
    "max_pool",
    "max_pool3d",
    "max_pool_with_argmax",
    "moments",
    "nce_loss",
    "pool",
    "relu",
    "relu6",
    "relu_layer",
    "rnn_cell",
    "sampled_softmax_loss",
    "scaled_dot_product_attention",
    "selu",
    "separable_conv2d",
    "sigmoid",
    "sigmoid_cross_entropy_with_logits",
    "silu",
    "softmax",
    "softmax_cross_entropy_with_logits",
    "softmax_cross_entropy_with_logits_v2",
    "softplus",
    "softsign",
    "space_to_batch",
    "space_to_batch_nd",
    "space_to_depth",
    "sparse_softmax_cross_entropy_with_logits",
    "static_bidirectional_rnn",
    "static_rnn",
    "swish",
    "tanh",
    "top_k",
    "uniform_candidate_sampler",
    "weighted_cross_entropy_with_logits",
    "xw_plus_b",
    "zero_fraction",
]  # fmt: skip

"""Candidate sampling and the losses over sampled classes; re-exported by `nn`.

Jean et al., "On Using Very Large Target Vocabulary for Neural Machine Translation", 2015 (sampled
softmax); Gutmann and Hyvarinen, "Noise-contrastive estimation", 2010.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from graphc.frontend.arguments import as_value, static_int
from graphc.frontend.array import concat, gather, reshape
from graphc.frontend.framework import name_scope
from graphc.frontend.linalg import matmul
from graphc.frontend.math import cast
from graphc.ir.dtypes import float32, int64
from graphc.ir.errors import AttributeValueError, DTypeError, ShapeError
from graphc.ir.graph import Value, constant, convert, get_default_graph
from graphc.ir.ops import losses, sampling, source
from graphc.ir.ops import movement as mv
from graphc.ir.ops import pointwise as pw
from graphc.ir.ops import reduce as red
from graphc.ir.ops.random import random_key
from graphc.ir.table import OPS
from graphc.ir.types import may_equal

_LOWEST: Final = -float(np.finfo(np.float32).max)  # what TensorFlow adds to accidental hits

Probability = Callable[[Value], Value]


class Candidates(NamedTuple):
    """What a sampler gives: classes [count], and how often it is expected to give each class."""

    sampled_candidates: Value
    true_expected_count: Value  # [batch, num_true], of the true classes
    sampled_expected_count: Value  # [count], of the sampled ones


def log_uniform_candidate_sampler(
    true_classes: Any,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    seed: int | None = None,
    name: str | None = None,
) -> Candidates:
    """Class k with probability log((k + 2) / (k + 1)) / log(range_max + 1): for sorted words."""
    share = 1.0 / math.log1p(range_max)

    def probability(classes: Value) -> Value:
        k = cast(classes, float32)
        return pw.log((k + 2.0) / (k + 1.0)) * share

    return _candidates(
        "log_uniform", true_classes, num_true, num_sampled, unique, range_max, seed, probability,
        name or "LogUniformCandidateSampler",
    )  # fmt: skip


def uniform_candidate_sampler(
    true_classes: Any,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    seed: int | None = None,
    name: str | None = None,
) -> Candidates:
    """Every class below range_max with the same probability."""

    def probability(classes: Value) -> Value:
        return mv.ones_like(cast(classes, float32)) * (1.0 / range_max)

    return _candidates(
        "uniform", true_classes, num_true, num_sampled, unique, range_max, seed, probability,
        name or "UniformCandidateSampler",
    )  # fmt: skip


def fixed_unigram_candidate_sampler(
    true_classes: Any,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    vocab_file: str = "",
    distortion: float = 1.0,
    num_reserved_ids: int = 0,
    num_shards: int = 1,
    shard: int = 0,
    unigrams: Sequence[float] = (),
    seed: int | None = None,
    name: str | None = None,
) -> Candidates:
    """Class k with probability proportional to unigrams[k] ** distortion; reserved classes never.

    The unigrams begin behind the reserved classes.
    """
    if vocab_file or num_shards != 1 or shard:
        raise AttributeValueError("give unigrams; vocab_file and shards are not offered by graphc")
    weights = (0.0,) * num_reserved_ids + tuple(float(u) ** distortion for u in unigrams)
    if len(weights) != range_max:
        raise ShapeError(f"{len(weights)} unigrams with the reserved for {range_max} classes")
    table = constant(sampling.probabilities({"weights": weights}).astype(np.float32))
    return _candidates(
        "weights", true_classes, num_true, num_sampled, unique, range_max, seed,
        lambda classes: gather(table, classes), name or "FixedUnigramCandidateSampler", weights,
    )  # fmt: skip


def _candidates(
    distribution: str, true_classes: Any, num_true: int, num_sampled: int, unique: bool,
    range_max: int, seed: int | None, probability: Probability, name: str,
    weights: tuple[float, ...] | None = None,
) -> Candidates:  # fmt: skip
    graph = get_default_graph()
    true = as_value(true_classes)
    if not true.dtype.is_integer:
        raise DTypeError(f"true classes are integers, got {true!r}")
    if true.type.rank is not None and true.type.rank != 2:
        raise ShapeError(f"true classes are [batch, num_true], got {true!r}")
    if true.type.shape is not None and not may_equal(true.type.shape[1], num_true):
        raise ShapeError(f"true classes are [batch, {num_true}], got {true!r}")
    key = random_key(graph.seed, seed, graph.unique_name(name, mark=False))
    sampled, tries = sampling.sample_classes.outputs(
        source.run_counter(), count=static_int(num_sampled, "num_sampled"),
        range_max=static_int(range_max, "range_max"), unique=bool(unique), key=key,
        distribution=distribution, weights=weights, name=name,
    )  # fmt: skip
    expected = _expected(tries, num_sampled, unique)
    return Candidates(sampled, expected(probability(true)), expected(probability(sampled)))


def _expected(tries: Value, count: int, unique: bool) -> Probability:
    """How often a class is expected: p * count; unique: 1 - (1 - p)^tries."""
    if not unique:
        return lambda p: p * float(count)
    times = cast(tries, float32)
    return lambda p: -pw.expm1(pw.log1p(-p) * times)


def _hits(true_classes: Value, sampled: Value) -> Value:
    """[batch, count]: whether the sample is one of the row's true classes."""
    wide = OPS["expand_dims"](true_classes, axis=2)
    return red.reduce_any(pw.equal(wide, cast(sampled, true_classes.dtype)), axis=(1,))


def nce_loss(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    num_sampled: int,
    num_classes: int,
    num_true: int = 1,
    sampled_values: Any = None,
    remove_accidental_hits: bool = False,
    partition_strategy: str = "mod",
    name: str = "nce_loss",
) -> Value:
    """Noise-contrastive estimation: sigmoid losses of true and sampled classes, summed. -> [batch]

    weights: [classes, dim], biases: [classes], labels: [batch, num_true], inputs: [batch, dim].
    """
    del partition_strategy
    with name_scope(name, "nce_loss"):
        logits, targets = _sampled_logits(
            weights, biases, labels, inputs, num_sampled, num_classes, num_true, sampled_values,
            remove_accidental_hits, None,
        )  # fmt: skip
        each = losses.sigmoid_cross_entropy(targets, logits, name="sampled_losses")
        return red.reduce_sum(each, axis=(1,))


def sampled_softmax_loss(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    num_sampled: int,
    num_classes: int,
    num_true: int = 1,
    sampled_values: Any = None,
    remove_accidental_hits: bool = True,
    partition_strategy: str = "mod",
    name: str = "sampled_softmax_loss",
    seed: int | None = None,
) -> Value:
    """The softmax cross entropy over the true and the sampled classes alone. -> [batch]

    weights: [classes, dim], biases: [classes], labels: [batch, num_true], inputs: [batch, dim].
    """
    del partition_strategy
    with name_scope(name, "sampled_softmax_loss"):
        logits, targets = _sampled_logits(
            weights, biases, labels, inputs, num_sampled, num_classes, num_true, sampled_values,
            remove_accidental_hits, seed,
        )  # fmt: skip
        return losses.softmax_cross_entropy(OPS["stop_gradient"](targets), logits)


def _sampled_logits(
    weights: Any, biases: Any, labels: Any, inputs: Any, num_sampled: int, num_classes: int,
    num_true: int, sampled_values: Any, remove_accidental_hits: bool, seed: int | None,
) -> tuple[Value, Value]:  # fmt: skip
    """Logits and targets, [batch, num_true + num_sampled]: less the log of the expected counts."""
    x, table = as_value(inputs), _one_table(weights)
    true = cast(as_value(labels), int64)
    if true.type.rank == 1 and num_true == 1:
        raise ShapeError(f"labels are [batch, num_true], got {true!r}; use expand_dims(labels, 1)")
    drawn = sampled_values or log_uniform_candidate_sampler(
        true, num_true, num_sampled, True, num_classes, seed
    )
    sampled, true_expected, sampled_expected = (OPS["stop_gradient"](v) for v in drawn)
    sampled = cast(sampled, int64)
    flat = reshape(true, [-1])
    ids = concat([flat, sampled], 0)
    rows, offsets = gather(table, ids), gather(as_value(biases), ids)
    count = static_int(num_sampled, "num_sampled") if sampled_values is None else _size(sampled)
    true_rows, sampled_rows = _parts(rows, count)
    true_offset, sampled_offset = _parts(offsets, count)
    true_rows = reshape(true_rows, [-1, num_true, _last(table)])
    true_logits = red.reduce_sum(OPS["expand_dims"](x, axis=1) * true_rows, axis=(2,))
    true_logits = true_logits + reshape(true_offset, [-1, num_true]) - pw.log(true_expected)
    sampled_logits = matmul(x, sampled_rows, transpose_b=True) + sampled_offset
    if remove_accidental_hits:
        lowest = convert(_LOWEST, like=x.dtype)
        sampled_logits = sampled_logits + pw.where(_hits(true, sampled), lowest, 0.0)
    sampled_logits = sampled_logits - pw.log(sampled_expected)
    targets = [mv.ones_like(true_logits) / float(num_true), mv.zeros_like(sampled_logits)]
    return concat([true_logits, sampled_logits], 1), concat(targets, 1)


def _one_table(weights: Any) -> Value:
    if isinstance(weights, (list, tuple)):
        if len(weights) != 1:
            raise AttributeValueError("sampled losses take one table of weights, not a partition")
        (weights,) = weights
    return as_value(weights)


def _size(sampled: Value) -> int:
    dims = sampled.type.shape
    if not dims or not isinstance(dims[0], int):
        raise ShapeError(f"the number of sampled candidates must be known, got {sampled!r}")
    return dims[0]


def _last(table: Value) -> int:
    dims = table.type.shape
    if not dims or not isinstance(dims[-1], int):
        raise ShapeError(f"the width of the weights must be known, got {table!r}")
    return dims[-1]


def _parts(rows: Value, count: int) -> tuple[Value, Value]:
    """All rows but the last `count`, and those."""
    return rows[:-count], rows[-count:]


__all__ = [
    "fixed_unigram_candidate_sampler", "log_uniform_candidate_sampler", "nce_loss",
    "sampled_softmax_loss", "uniform_candidate_sampler",
]  # fmt: skip

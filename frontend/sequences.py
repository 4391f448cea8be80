"""CTC and bags of embeddings, in TensorFlow's arguments; re-exported by `nn`."""

from __future__ import annotations

from typing import Any

from graphc.frontend.arguments import as_value, either
from graphc.frontend.array import concat, gather, reshape, transpose
from graphc.frontend.framework import name_scope
from graphc.frontend.linalg import clip_by_norm
from graphc.frontend.math import cast
from graphc.frontend.segments import unsorted_segment_sum
from graphc.frontend.sparse import DecodedLabels, SparseTensor, SparseTensorValue
from graphc.ir.dtypes import float32, int32
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import Value, constant
from graphc.ir.ops import ctc
from graphc.ir.ops import pointwise as pw
from graphc.ir.table import OPS


def ctc_loss(
    labels: Any,
    inputs: Any = None,
    sequence_length: Any = None,
    preprocess_collapse_repeated: bool = False,
    ctc_merge_repeated: bool = True,
    ignore_longer_outputs_than_inputs: bool = False,
    time_major: bool = True,
    logits: Any = None,
) -> Value:
    """-log p(labels) of each sequence (Graves et al., 2006); the last class is the blank.

    labels: a SparseTensor [batch, positions] of integers; inputs: logits [time, batch, classes],
    [batch, time, classes] unless time_major -> [batch]. Too few steps for the labels are an error.
    """
    if preprocess_collapse_repeated or not ctc_merge_repeated or ignore_longer_outputs_than_inputs:
        raise AttributeValueError("ctc_loss offers the options' defaults only")
    if not isinstance(labels, (SparseTensor, SparseTensorValue)):
        raise AttributeValueError(f"ctc_loss takes labels as a SparseTensor, got {labels!r}")
    x = _time_major(either("inputs", inputs, "logits", logits), time_major)
    parts = (as_value(labels.indices), as_value(labels.values), as_value(sequence_length))
    return ctc.ctc_loss(x, *parts, name="CTCLoss")


def ctc_greedy_decoder(
    inputs: Any, sequence_length: Any, merge_repeated: bool = True
) -> tuple[list[DecodedLabels], Value]:
    """The best class of each step, without blanks and, if merged, repetitions.

    inputs: logits [time, batch, classes]. ([labels], minus the sum of the best logits [batch, 1]).
    """
    padded, counts, score = ctc.ctc_greedy.outputs(
        _time_major(inputs, True), as_value(sequence_length), merge_repeated=bool(merge_repeated),
        name="CTCGreedyDecoder",
    )  # fmt: skip
    return [DecodedLabels(padded, counts)], score


def _time_major(inputs: Any, time_major: bool) -> Value:
    x = as_value(inputs)
    return x if time_major else transpose(x, [1, 0, 2])


# -- embeddings


def embedding_lookup(
    params: Any,
    ids: Any,
    partition_strategy: str = "mod",
    name: str | None = None,
    validate_indices: bool = True,
    max_norm: Any = None,
) -> Value:
    """The rows of `params` at `ids`. params: [rows, ...] -> [*ids.shape, ...].

    Several tables are one: "mod": id i is row i // tables of table i % tables; "div": one table
    after the other, the first ones a row longer if need be.
    """
    del validate_indices
    tables = list(params) if isinstance(params, (list, tuple)) else [params]
    with name_scope(name, "embedding_lookup"):
        table, places = as_value(tables[0]), as_value(ids)
        if len(tables) > 1:
            table, places = _joined(tables, places, partition_strategy)
        rows = gather(table, places)
        if max_norm is None:
            return rows
        first = places.type.rank or 0
        axes = tuple(range(first, rows.type.rank or first))
        return clip_by_norm(rows, max_norm, axes=axes)


def _joined(tables: list[Any], ids: Value, strategy: str) -> tuple[Value, Value]:
    """The tables one after the other, and where the ids are there."""
    if strategy not in ("mod", "div"):
        raise AttributeValueError(f"partition_strategy is 'mod' or 'div', got {strategy!r}")
    values = [as_value(t) for t in tables]
    sizes = [v.type.shape[0] if v.type.shape else "?" for v in values]
    table = concat(values, 0)
    if strategy == "div":
        return table, ids
    if any(isinstance(s, str) for s in sizes):
        raise ShapeError(f"partitions need known numbers of rows, got {values!r}")
    starts = [sum(int(s) for s in sizes[:i]) for i in range(len(sizes))]
    count = len(values)
    first = gather(constant(starts, int32), ids % count)
    return table, cast(first, ids.dtype) + pw.floordiv(ids, count)


def embedding_lookup_sparse(
    params: Any,
    sp_ids: Any,
    sp_weights: Any = None,
    partition_strategy: str = "mod",
    name: str | None = None,
    combiner: str = "mean",
    max_norm: Any = None,
) -> Value:
    """For each row of the sparse ids [n, any], the "sum", "mean" or "sqrtn" of its embeddings.

    sqrtn divides by the square root of the sum of squared weights. Rows without ids are 0.
    """
    if combiner not in ("sum", "mean", "sqrtn"):
        raise AttributeValueError(f"combiner is 'sum', 'mean' or 'sqrtn', got {combiner!r}")
    if not isinstance(sp_ids, (SparseTensor, SparseTensorValue)):
        raise AttributeValueError(f"sp_ids is a SparseTensor, got {sp_ids!r}")
    with name_scope(name, "embedding_lookup_sparse"):
        rows = embedding_lookup(params, sp_ids.values, partition_strategy, max_norm=max_norm)
        segments = as_value(sp_ids.indices)[:, 0]
        shape_ = sp_ids.dense_shape
        number = shape_[0] if isinstance(shape_, Value) else int(shape_[0])
        ones = OPS["ones_like"](cast(segments, float32))
        weights = ones if sp_weights is None else cast(as_value(sp_weights.values), float32)
        column = reshape(cast(weights, rows.dtype), [-1] + [1] * ((rows.type.rank or 2) - 1))
        total: Value = unsorted_segment_sum(rows * column, segments, number)
        if combiner == "sum":
            return total
        share = weights if combiner == "mean" else pw.square(weights)
        size: Value = unsorted_segment_sum(share, segments, number)
        size = size if combiner == "mean" else pw.sqrt(size)
        safe = pw.where(size > 0.0, size, OPS["ones_like"](size))
        return total / reshape(cast(safe, rows.dtype), [-1] + [1] * ((rows.type.rank or 2) - 1))


__all__ = ["ctc_greedy_decoder", "ctc_loss", "embedding_lookup", "embedding_lookup_sparse"]

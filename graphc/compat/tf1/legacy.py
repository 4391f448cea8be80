"""Spellings and argument orders that only old programs use."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from graphc import summary
from graphc.frontend import array, framework
from graphc.frontend.arguments import is_tensor
from graphc.frontend.math import argmax, argmin
from graphc.frontend.scopes import VariableScope, variable_scope
from graphc.frontend.variables import local_variables_initializer
from graphc.ir.errors import ShapeError
from graphc.ir.graph import Node, Value, convert
from graphc.ir.table import OPS

# -- argument orders


def concat(
    values: Any = None, axis: Any = None, name: str | None = None, concat_dim: Any = None
) -> Value:
    """`concat(values, axis)`, or, as before 1.0, `concat(concat_dim, values)`."""
    first_is_axis = isinstance(values, (int, np.integer)) and not isinstance(axis, int)
    if first_is_axis:
        values, axis = axis, values
    return array.concat(values, concat_dim if axis is None else axis, name)


def split(
    value: Any = None,
    num_or_size_splits: Any = None,
    axis: Any = 0,
    num: Any = None,
    name: str | None = None,
    split_dim: Any = None,
    num_split: Any = None,
) -> list[Value]:
    """`split(value, splits, axis)`, or, as before 1.0, `split(split_dim, num_split, value)`."""
    if is_tensor(axis) and not is_tensor(value):
        value, axis = axis, value
    splits = num_split if num_or_size_splits is None else num_or_size_splits
    return array.split(value, splits, axis if split_dim is None else split_dim, num, name)


def reverse(
    tensor: Any, axis: Any = None, name: str | None = None, dims: Sequence[bool] | None = None
) -> Value:
    """`reverse` along axes; before 1.0 one bool per dim said whether it is reversed."""
    flags = axis if dims is None else dims
    if isinstance(flags, (list, tuple)) and flags and all(isinstance(f, bool) for f in flags):
        axis = [i for i, flag in enumerate(flags) if flag]
    return array.reverse(tensor, axis, name)


def select(condition: Any, t: Any, e: Any, name: str | None = None) -> Value:
    """`where`, as it was called before 1.0."""
    return array.where(condition, t, e, name)


def arg_max(input: Any, dimension: Any, output_type: Any = None, name: str | None = None) -> Value:
    """`argmax` with the axis required."""
    extra = {} if output_type is None else {"output_type": output_type}
    result: Value = argmax(input, dimension, name=name, **extra)
    return result


def arg_min(input: Any, dimension: Any, output_type: Any = None, name: str | None = None) -> Value:
    """`argmin` with the axis required."""
    extra = {} if output_type is None else {"output_type": output_type}
    result: Value = argmin(input, dimension, name=name, **extra)
    return result


def sparse_to_dense(
    sparse_indices: Any,
    output_shape: Any,
    sparse_values: Any,
    default_value: Any = 0,
    validate_indices: bool = True,
    name: str | None = None,
) -> Value:
    """The default everywhere, but the values at the indices (a number, [n] or [n, rank])."""
    del validate_indices
    at = convert(sparse_indices)
    rank = at.type.rank
    if rank is None or rank > 2:
        raise ShapeError(f"sparse_to_dense needs indices of rank 0, 1 or 2, got {at!r}")
    values = convert(sparse_values)
    rows = at if rank == 2 else array.reshape(at, [-1, 1])
    each = array.broadcast_to(values, [array.shape(rows)[0]]) if values.type.rank == 0 else values
    default = convert(default_value, like=values.dtype)
    return OPS["add"](array.scatter_nd(rows, each - default, output_shape), default, name=name)


def inv(x: Any, name: str | None = None) -> Value:
    """`reciprocal`, as it was called before 1.0."""
    return OPS["reciprocal"](x, name=name)


# -- summaries before 1.0


def scalar_summary(
    tags: str, values: Any, collections: Iterable[str] | None = None, name: str | None = None
) -> summary.Summary:
    """`summary.scalar`."""
    del name
    return summary.scalar(tags, values, collections)


def histogram_summary(
    tag: str, values: Any, collections: Iterable[str] | None = None, name: str | None = None
) -> summary.Summary:
    """`summary.histogram`."""
    del name
    return summary.histogram(tag, values, collections)


def image_summary(
    tag: str,
    tensor: Any,
    max_images: int = 3,
    collections: Iterable[str] | None = None,
    name: str | None = None,
) -> summary.Summary:
    """`summary.image`."""
    del name
    return summary.image(tag, tensor, max_images, collections)


def audio_summary(
    tag: str,
    tensor: Any,
    sample_rate: Any,
    max_outputs: int = 3,
    collections: Iterable[str] | None = None,
    name: str | None = None,
) -> summary.Summary:
    """`summary.audio`."""
    del name
    return summary.audio(tag, tensor, sample_rate, max_outputs, collections)


def merge_summary(
    inputs: Iterable[Any], collections: Iterable[str] | None = None, name: str | None = None
) -> summary.Summary:
    """`summary.merge`."""
    return summary.merge(inputs, collections, name)


def merge_all_summaries(key: str = framework.GraphKeys.SUMMARIES) -> summary.Summary | None:
    """`summary.merge_all`."""
    return summary.merge_all(key)


# -- scopes and variables


@contextlib.contextmanager
def op_scope(values: Any, name: str | None, default_name: str | None = None) -> Iterator[str]:
    """`name_scope` with the arguments in the order of before 1.0."""
    with framework.name_scope(name, default_name, values) as scope:
        yield scope


@contextlib.contextmanager
def variable_op_scope(
    values: Any, name_or_scope: Any, default_name: str | None = None, **options: Any
) -> Iterator[VariableScope]:
    """`variable_scope` with the arguments in the order of before 1.0."""
    with variable_scope(name_or_scope, default_name, values, **options) as scope:
        yield scope


def initialize_local_variables() -> Node:
    """`local_variables_initializer`, as it was called before 1.0."""
    return local_variables_initializer()


def fixed_size_partitioner(num_shards: int, axis: int = 0) -> Callable[..., list[int]]:
    """A partitioner, which get_variable accepts and does not use: variables stay whole."""

    def partition(shape: Any, **options: Any) -> list[int]:
        del options
        return [num_shards if i == axis else 1 for i in range(len(shape))]

    return partition


# -- which TensorFlow this is


def disable_v2_behavior() -> None:
    """Nothing: this is TensorFlow 1's API."""


def disable_eager_execution() -> None:
    """Nothing: graphs are run in sessions."""


def executing_eagerly() -> bool:
    """False: graphs are run in sessions."""
    return False


# -- diagonals


def diag(diagonal: Any, name: str | None = None) -> Value:
    """Zeros with these elements on the diagonal. [a, b, ..] -> [a, b, .., a, b, ..]"""
    x = convert(diagonal)
    if not x.type.is_static or not x.type.rank:
        raise ShapeError(f"diag needs a tensor of known shape with a dim, got {x!r}")
    flat = OPS["matrix_diag"](array.reshape(x, [-1]))
    return array.reshape(flat, 2 * x.type.static_shape, name=name)


def diag_part(input: Any, name: str | None = None) -> Value:
    """The elements on the diagonal. [a, b, .., a, b, ..] -> [a, b, ..]"""
    x = convert(input)
    half = (x.type.rank or 0) // 2
    if not x.type.is_static or not half or x.type.static_shape[:half] * 2 != x.type.static_shape:
        raise ShapeError(f"diag_part needs a tensor of known shape [a, .., a, ..], got {x!r}")
    size = math.prod(x.type.static_shape[:half])
    flat = OPS["diagonal"](array.reshape(x, [size, size]))
    return array.reshape(flat, x.type.static_shape[:half], name=name)


# -- checks


def assert_rank(
    x: Any,
    rank: int,
    data: Any = None,
    summarize: Any = None,
    message: str | None = None,
    name: str | None = None,
) -> Node:
    """ShapeError now when the tensor's rank is another one; ranks are known while building."""
    del data, summarize
    value = convert(x)
    if value.type.rank not in (rank, None):
        raise ShapeError(f"{message or ''}rank {rank} was asserted of {value!r}")
    return framework.no_op(name)


concat_v2 = concat

__all__ = [
    "arg_max", "arg_min", "assert_rank", "audio_summary", "concat", "concat_v2", "diag",
    "diag_part", "disable_eager_execution", "disable_v2_behavior", "executing_eagerly",
    "fixed_size_partitioner", "histogram_summary", "image_summary", "initialize_local_variables",
    "inv", "merge_all_summaries", "merge_summary", "op_scope", "reverse", "scalar_summary",
    "select", "sparse_to_dense", "split", "variable_op_scope",
]  # fmt: skip

"""`data.experimental`: two steps in one, as functions for Dataset.apply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc.data.dataset import AUTOTUNE, Dataset

Transformation = Callable[[Dataset], Dataset]


def shuffle_and_repeat(buffer_size: Any, count: Any = None, seed: Any = None) -> Transformation:
    """shuffle, then repeat."""
    return lambda dataset: dataset.shuffle(buffer_size, seed).repeat(count)


def map_and_batch(
    map_func: Callable[..., Any],
    batch_size: Any,
    num_parallel_batches: Any = None,
    drop_remainder: bool = False,
    num_parallel_calls: Any = None,
) -> Transformation:
    """map, then batch."""
    del num_parallel_batches, num_parallel_calls
    return lambda dataset: dataset.map(map_func).batch(batch_size, drop_remainder)


def unbatch() -> Transformation:
    """Dataset.unbatch."""
    return lambda dataset: dataset.unbatch()


def enumerate_dataset(start: int = 0) -> Transformation:
    """Dataset.enumerate."""
    return lambda dataset: dataset.enumerate(start)


def parallel_interleave(
    map_func: Callable[..., Any], cycle_length: int, block_length: int = 1, **_: Any
) -> Transformation:
    """Dataset.interleave."""
    return lambda dataset: dataset.interleave(map_func, cycle_length, block_length)


__all__ = [
    "AUTOTUNE", "enumerate_dataset", "map_and_batch", "parallel_interleave", "shuffle_and_repeat",
    "unbatch",
]  # fmt: skip

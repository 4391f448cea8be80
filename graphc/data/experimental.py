"""`data.experimental`: two steps in one, as functions for Dataset.apply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphc.data.dataset import AUTOTUNE, Dataset
from graphc.data.readers import TextLineDataset
from graphc.frontend.records import decode_csv


class CsvDataset(Dataset):
    """The lines of CSV files, a tuple of one scalar per column; see graphc.decode_csv."""

    def __init__(
        self,
        filenames: Any,
        record_defaults: Sequence[Any],
        compression_type: Any = None,
        buffer_size: Any = None,
        header: bool = False,
        field_delim: str = ",",
        use_quote_delim: bool = True,
        na_value: str = "",
        select_cols: Sequence[int] | None = None,
    ) -> None:
        del buffer_size

        def rows(name: Any) -> Dataset:
            return TextLineDataset(name, compression_type).skip(int(header))

        def parsed(line: Any) -> tuple[Any, ...]:
            columns = decode_csv(
                line, record_defaults, field_delim, use_quote_delim, na_value=na_value,
                select_cols=select_cols,
            )  # fmt: skip
            return tuple(columns)

        names = [filenames] if isinstance(filenames, (str, bytes)) else filenames
        lines = Dataset.from_tensor_slices(names).flat_map(rows).map(parsed)
        super().__init__(lines.element_spec, lines.iterate, [lines])


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
    "AUTOTUNE", "CsvDataset", "enumerate_dataset", "map_and_batch", "parallel_interleave",
    "shuffle_and_repeat", "unbatch",
]  # fmt: skip

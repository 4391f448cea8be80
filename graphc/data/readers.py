"""Datasets of files: lines, records of fixed length, TFRecords. Their elements are strings."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final, cast

import numpy as np

from graphc.data.dataset import Dataset, Run
from graphc.data.elements import as_leaf
from graphc.datasets.records import read_records
from graphc.frontend.arguments import is_tensor
from graphc.ir.dtypes import string
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.graph import convert
from graphc.ir.types import TensorType

_STRING: Final = TensorType(string, ())
Read = Callable[[IO[bytes], str], Iterator[bytes]]


def _file_names(filenames: Any) -> Any:
    """The names as they stand, or the tensor or dataset that gives them."""
    if is_tensor(filenames):
        return convert(filenames, dtype=string)
    if isinstance(filenames, (str, bytes, os.PathLike, Dataset)):
        return filenames
    names = list(filenames)
    if not all(isinstance(n, (str, bytes, os.PathLike)) for n in names):
        raise AttributeValueError(f"filenames are strings or paths, got {filenames!r}")
    return names


def _names(filenames: Any, run: Run) -> Iterator[str]:
    if isinstance(filenames, Dataset):
        given: Iterator[Any] = (name.item() for name in filenames.iterate(run))
    else:
        value = run.value(filenames)
        several = isinstance(value, (list, np.ndarray))
        given = iter(np.ravel(np.array(value, dtype=object)).tolist() if several else [value])
    return (os.fsdecode(name) for name in given)


def _compression(given: Any) -> str:
    if given not in (None, "", "GZIP", "ZLIB"):
        raise AttributeValueError(f"compression_type is '', 'GZIP' or 'ZLIB', got {given!r}")
    return given or ""


def _file_dataset(filenames: Any, compression: Any, read: Read) -> Dataset:
    names, kind = _file_names(filenames), _compression(compression)

    def records(path: str) -> Iterator[bytes]:
        with _opened(path, kind) as file:
            yield from read(file, path)

    return _records_of(names, records)


def _records_of(names: Any, records: Callable[[str], Iterator[bytes]]) -> Dataset:
    def make(run: Run) -> Iterator[np.ndarray]:
        for path in _names(names, run):
            yield from map(as_leaf, records(path))

    sources = [names] if isinstance(names, Dataset) else []
    return Dataset(_STRING, make, sources, [names])


def _opened(path: str, compression: str) -> IO[bytes]:
    if compression == "GZIP":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if compression == "ZLIB":
        return io.BytesIO(zlib.decompress(Path(path).read_bytes()))
    return open(path, "rb")


def TextLineDataset(
    filenames: Any,
    compression_type: Any = None,
    buffer_size: Any = None,
    num_parallel_reads: Any = None,
) -> Dataset:
    """The lines of the files, without their ends."""
    del buffer_size, num_parallel_reads

    def read(file: IO[bytes], _: str) -> Iterator[bytes]:
        return (line.rstrip(b"\n").removesuffix(b"\r") for line in file)

    return _file_dataset(filenames, compression_type, read)


def FixedLengthRecordDataset(
    filenames: Any,
    record_bytes: int,
    header_bytes: int = 0,
    footer_bytes: int = 0,
    buffer_size: Any = None,
    compression_type: Any = None,
) -> Dataset:
    """The records between header and footer of each file."""
    del buffer_size

    def read(file: IO[bytes], path: str) -> Iterator[bytes]:
        data = file.read()
        body = data[header_bytes : len(data) - footer_bytes]
        if len(body) % record_bytes:
            raise ShapeError(f"{path} has {len(body)} bytes of records of {record_bytes} bytes")
        return (body[i : i + record_bytes] for i in range(0, len(body), record_bytes))

    return _file_dataset(filenames, compression_type, read)


def TFRecordDataset(
    filenames: Any,
    compression_type: Any = None,
    buffer_size: Any = None,
    num_parallel_reads: Any = None,
) -> Dataset:
    """The records of TFRecord files; DatasetFormatError where one is damaged."""
    del buffer_size, num_parallel_reads
    compression = _compression(compression_type)
    return _records_of(_file_names(filenames), lambda path: read_records(path, compression))


__all__ = ["FixedLengthRecordDataset", "TFRecordDataset", "TextLineDataset"]

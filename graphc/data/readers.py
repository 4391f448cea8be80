"""Datasets of files: lines, records of fixed length, TFRecords. Their bytes are uint8 vectors."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final, cast

import numpy as np

from graphc.data.dataset import Dataset, Run
from graphc.data.elements import as_leaf
from graphc.datasets.records import read_records
from graphc.ir.dtypes import uint8
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.types import UNKNOWN, TensorType

_BYTES: Final = TensorType(uint8, (UNKNOWN,))
Read = Callable[[IO[bytes], str], Iterator[bytes]]


def _names(filenames: Any) -> list[str]:
    names = [filenames] if isinstance(filenames, (str, bytes, Path)) else list(filenames)
    if not all(isinstance(n, (str, bytes, Path)) for n in names):
        raise AttributeValueError(f"filenames are strings or paths, got {filenames!r}")
    return [n.decode() if isinstance(n, bytes) else str(n) for n in names]


def _compression(given: Any) -> str:
    if given not in (None, "", "GZIP", "ZLIB"):
        raise AttributeValueError(f"compression_type is '', 'GZIP' or 'ZLIB', got {given!r}")
    return given or ""


def _file_dataset(filenames: Any, compression: Any, read: Read, spec: TensorType) -> Dataset:
    names, kind = _names(filenames), _compression(compression)

    def make(_: Run) -> Iterator[np.ndarray]:
        for path in names:
            with _opened(path, kind) as file:
                for record in read(file, path):
                    yield as_leaf(record)

    return Dataset(spec, make)


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
    """The lines of the files, without their ends, as uint8 vectors."""
    del buffer_size, num_parallel_reads

    def read(file: IO[bytes], _: str) -> Iterator[bytes]:
        return (line.rstrip(b"\n").removesuffix(b"\r") for line in file)

    return _file_dataset(filenames, compression_type, read, _BYTES)


def FixedLengthRecordDataset(
    filenames: Any,
    record_bytes: int,
    header_bytes: int = 0,
    footer_bytes: int = 0,
    buffer_size: Any = None,
    compression_type: Any = None,
) -> Dataset:
    """The records between header and footer of each file, as uint8 vectors of that length."""
    del buffer_size

    def read(file: IO[bytes], path: str) -> Iterator[bytes]:
        data = file.read()
        body = data[header_bytes : len(data) - footer_bytes]
        if len(body) % record_bytes:
            raise ShapeError(f"{path} has {len(body)} bytes of records of {record_bytes} bytes")
        return (body[i : i + record_bytes] for i in range(0, len(body), record_bytes))

    return _file_dataset(filenames, compression_type, read, TensorType(uint8, (record_bytes,)))


def TFRecordDataset(
    filenames: Any,
    compression_type: Any = None,
    buffer_size: Any = None,
    num_parallel_reads: Any = None,
) -> Dataset:
    """The records of TFRecord files, as uint8 vectors; DatasetFormatError where one is damaged."""
    del buffer_size, num_parallel_reads
    names, compression = _names(filenames), _compression(compression_type)

    def make(_: Run) -> Iterator[np.ndarray]:
        for name in names:
            yield from map(as_leaf, read_records(name, compression))

    return Dataset(_BYTES, make)


__all__ = ["FixedLengthRecordDataset", "TFRecordDataset", "TextLineDataset"]

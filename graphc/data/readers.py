"""Datasets of files: lines, records of fixed length, TFRecords. Their bytes are uint8 vectors."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final, cast

import numpy as np

from graphc.data.dataset import Dataset, Run
from graphc.data.elements import as_leaf
from graphc.ir.dtypes import uint8
from graphc.ir.errors import AttributeValueError, ShapeError
from graphc.ir.types import UNKNOWN, TensorType

_BYTES: Final = TensorType(uint8, (UNKNOWN,))
Read = Callable[[IO[bytes], str], Iterator[bytes]]


def _file_dataset(filenames: Any, compression: Any, read: Read, spec: TensorType) -> Dataset:
    names = [filenames] if isinstance(filenames, (str, bytes, Path)) else list(filenames)
    if not all(isinstance(n, (str, bytes, Path)) for n in names):
        raise AttributeValueError(f"filenames are strings or paths, got {filenames!r}")
    if compression not in (None, "", "GZIP", "ZLIB"):
        raise AttributeValueError(f"compression_type is '', 'GZIP' or 'ZLIB', got {compression!r}")

    def make(_: Run) -> Iterator[np.ndarray]:
        for name in names:
            path = name.decode() if isinstance(name, bytes) else str(name)
            with _opened(path, compression) as file:
                for record in read(file, path):
                    yield as_leaf(record)

    return Dataset(spec, make)


def _opened(path: str, compression: str | None) -> IO[bytes]:
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
    """The records of TFRecord files, as uint8 vectors; checksums are checked."""
    del buffer_size, num_parallel_reads
    return _file_dataset(filenames, compression_type, _records, _BYTES)


def _records(file: IO[bytes], path: str) -> Iterator[bytes]:
    """Length (8 bytes, little-endian), its checksum (4), the data, its checksum (4)."""
    while head := file.read(12):
        if len(head) < 12 or masked_crc32c(head[:8]) != struct.unpack("<I", head[8:])[0]:
            raise ShapeError(f"{path} is no TFRecord file, or damaged: a record's length")
        (length,) = struct.unpack("<Q", head[:8])
        body = file.read(length + 4)
        data = body[:length]
        if len(body) < length + 4 or masked_crc32c(data) != struct.unpack("<I", body[length:])[0]:
            raise ShapeError(f"{path} is cut off or damaged: a record of {length} bytes")
        yield data


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE: Final = _crc_table()


def masked_crc32c(data: bytes) -> int:
    """Castagnoli's checksum, rotated and shifted as TFRecord files have it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


__all__ = ["FixedLengthRecordDataset", "TFRecordDataset", "TextLineDataset", "masked_crc32c"]

"""The IDX format: how MNIST and the sets built after it keep their arrays.

A file is the bytes 0, 0, type code, number of dims; each dim as a big-endian uint32; then the
elements, big-endian and in C order. Often gzipped, which the content tells and not the name.
Format: LeCun, Cortes and Burges, "The MNIST database of handwritten digits", FILE FORMATS.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from graphc.datasets.errors import DatasetFormatError

DTYPE_OF_CODE: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
CODE_OF_DTYPE = {dtype.newbyteorder("="): code for code, dtype in DTYPE_OF_CODE.items()}
GZIP_MAGIC = b"\x1f\x8b"
CHUNK_BYTES = 1 << 20
MAX_DIM_COUNT = 32  # what every NumPy that graphc runs on can hold


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Return the array in the file at `path`, plain or gzipped, in the machine's byte order.

    Raises DatasetFormatError when the header is wrong, or when there are fewer or more bytes than
    it promises. A lying header costs no memory: no more is read than the file holds.
    """
    path = Path(path)
    with _open_content(path) as stream:
        dtype, shape = _read_header(stream, path)
        expected_bytes = math.prod(shape) * dtype.itemsize
        data = _read_up_to(stream, expected_bytes)
        extra = stream.read(1)
    if len(data) < expected_bytes:
        told = f"{dtype.name} {list(shape)} needs {expected_bytes} bytes of data"
        raise DatasetFormatError(f"{path}: truncated: {told}, the file has {len(data)}")
    if extra:
        told = f"bytes follow the {expected_bytes} that {dtype.name} {list(shape)} needs"
        raise DatasetFormatError(f"{path}: header and data disagree: more {told}")
    try:
        array = np.frombuffer(data, dtype).reshape(shape)
    except ValueError as error:  # no elements, since one dim is 0, but others beyond all bounds
        raise DatasetFormatError(f"{path}: dims {list(shape)}: {error}") from error
    return array.astype(dtype.newbyteorder("="))


def write_idx(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write `array` to `path` at once or not at all; gzipped when the name ends in .gz."""
    path = Path(path)
    code = CODE_OF_DTYPE.get(array.dtype.newbyteorder("="))
    if code is None:
        known = ", ".join(dtype.name for dtype in CODE_OF_DTYPE)
        raise DatasetFormatError(f"{path}: IDX has no {array.dtype}; convert to one of {known}")
    if array.ndim > MAX_DIM_COUNT:
        raise DatasetFormatError(f"{path}: at most {MAX_DIM_COUNT} dims, got {array.ndim}")
    header = bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    content = header + array.astype(DTYPE_OF_CODE[code]).tobytes()
    # No time stamp, so that the same array always gives the same bytes.
    packed = gzip.compress(content, mtime=0) if path.suffix == ".gz" else content
    with replacing(path) as temporary:
        temporary.write_bytes(packed)


def read_labelled_images(
    images_path: Path, labels_path: Path
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images uint8 [n, h, w] and labels uint8 [n] of two files that must match."""
    images = _read_bytes_array(images_path, dim_count=3)
    labels = _read_bytes_array(labels_path, dim_count=1)
    if len(images) != len(labels):
        counts = f"{len(labels)} labels for the {len(images)} images of {images_path}"
        raise DatasetFormatError(f"{labels_path}: {counts}")
    return images, labels


def content_sha256(path: Path) -> str:
    """Return the SHA-256 of what the file holds, after unpacking it if it is gzipped.

    The packed bytes vary with the packer (Debian strips names and times), the content does not.
    """
    digest = hashlib.sha256()
    with _open_content(path) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that takes its place when the block ends well.

    So nobody ever sees a part of the file, and of two writers at the same time one wins whole.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _open_content(path: Path) -> Iterator[BinaryIO]:
    """Open for reading, unpacking on the way; say which file it was if unpacking fails."""
    with path.open("rb") as raw:
        packed = raw.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        raw.seek(0)
        if not packed:
            yield raw
            return
        try:
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield unpacked  # type: ignore[misc]  # GzipFile is a BinaryIO in all but name
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            told = f"after {raw.tell()} of {path.stat().st_size} bytes"
            raise DatasetFormatError(f"{path}: broken gzip stream {told}: {error}") from error


def _read_header(stream: BinaryIO, path: Path) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4:
        raise DatasetFormatError(f"{path}: truncated: {len(magic)} of the header's first 4 bytes")
    dtype, dim_count = DTYPE_OF_CODE.get(magic[2]), magic[3]
    if magic[:2] != b"\0\0" or dtype is None or dim_count > MAX_DIM_COUNT:
        codes = ", ".join(f"{code:02x}" for code in DTYPE_OF_CODE)
        expected = f"00 00, a type ({codes}), at most {MAX_DIM_COUNT} dims"
        raise DatasetFormatError(f"{path}: not IDX: starts {magic.hex(' ')}, expected {expected}")
    dims = stream.read(4 * dim_count)
    if len(dims) < 4 * dim_count:
        told = f"{len(dims)} of {4 * dim_count} bytes of dims"
        raise DatasetFormatError(f"{path}: truncated: {told}")
    return dtype, tuple(int(dim) for dim in np.frombuffer(dims, ">u4"))


def _read_up_to(stream: BinaryIO, byte_count: int) -> bytes:
    """Read `byte_count` bytes, or as many as there are, in steps: read(n) reserves n at once."""
    data = bytearray()
    while chunk := stream.read(min(CHUNK_BYTES, byte_count - len(data))):
        data += chunk
    return bytes(data)


def _read_bytes_array(path: Path, dim_count: int) -> NDArray[np.uint8]:
    array = read_idx(path)
    if array.dtype != np.uint8 or array.ndim != dim_count:
        got = f"{array.dtype} {list(array.shape)}"
        raise DatasetFormatError(f"{path}: expected uint8 with {dim_count} dims, got {got}")
    return array

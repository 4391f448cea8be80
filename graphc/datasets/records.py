"""TFRecord files, and the `Example` protos that stand in most of them.

A record is its length (uint64), a checksum of that, the bytes, a checksum of them; numbers are
little-endian, checksums CRC-32C, rotated and shifted ("masked"). The checksums are computed by the
package tensorboard, in Python: some megabytes a second. Errors: DatasetFormatError.
"""

from __future__ import annotations

import gzip
import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final

from graphc.datasets.errors import DatasetFormatError, DatasetUnavailable

_NEEDS: Final = "needs the package tensorboard: pip install graphc[tensorboard]"
COMPRESSIONS: Final = ("", "GZIP", "ZLIB")


def _checksum() -> Callable[[bytes], int]:
    try:
        from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
    except ImportError as error:
        raise DatasetUnavailable(f"reading and writing TFRecords {_NEEDS}") from error
    checksum: Callable[[bytes], int] = masked_crc32c
    return checksum


def _check_compression(compression: str) -> str:
    if compression not in COMPRESSIONS:
        raise ValueError(f"TFRecords are compressed by GZIP, ZLIB or not, got {compression!r}")
    return compression


def read_records(path: str | os.PathLike[str], compression: str = "") -> Iterator[bytes]:
    """Yield the records of a file; DatasetFormatError where one is cut off or damaged."""
    checksum = _checksum()
    with _opened(path, _check_compression(compression)) as file:
        while head := file.read(12):
            length = _checked(path, checksum, head[:8], head[8:], len(head) == 12)
            (size,) = struct.unpack("<Q", length)
            body = file.read(size + 4)
            yield _checked(path, checksum, body[:size], body[size:], len(body) == size + 4)


def _checked(
    path: Any, checksum: Callable[[bytes], int], data: bytes, mask: bytes, whole: bool
) -> bytes:
    if not whole:
        raise DatasetFormatError(f"{os.fspath(path)} ends inside a record")
    if struct.unpack("<I", mask)[0] != checksum(data):
        raise DatasetFormatError(f"{os.fspath(path)} has a record with a wrong checksum")
    return data


def _opened(path: Any, compression: str) -> Any:
    if compression == "GZIP":
        return gzip.open(path, "rb")
    if compression == "ZLIB":
        with open(path, "rb") as file:
            return io.BytesIO(zlib.decompress(file.read()))
    return open(path, "rb")


class RecordWriter:
    """Writes a TFRecord file, which `close()` completes."""

    def __init__(self, path: str | os.PathLike[str], compression: str = "") -> None:
        self._checksum = _checksum()
        self._compression = _check_compression(compression)
        opened = gzip.open if compression == "GZIP" else open
        self._file: Any = opened(path, "wb")
        self._zlib = zlib.compressobj() if compression == "ZLIB" else None

    def write(self, record: bytes) -> None:
        """Append a record."""
        length = struct.pack("<Q", len(record))
        marks = [struct.pack("<I", self._checksum(x)) for x in (length, record)]
        data = length + marks[0] + record + marks[1]
        self._file.write(self._zlib.compress(data) if self._zlib else data)

    def flush(self) -> None:
        """Write what is waiting."""
        self._file.flush()

    def close(self) -> None:
        """Complete the file and close it."""
        if self._zlib is not None:
            self._file.write(self._zlib.flush())
            self._zlib = None
        self._file.close()

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


# -- Example: features by name, each a list of bytes, floats or integers

_LISTS: Final = (("BytesList", "bytes", 12), ("FloatList", "float", 2), ("Int64List", "int64", 3))
_REPEATED, _OPTIONAL, _MESSAGE, _STRING = 3, 1, 11, 9


def example_protos() -> dict[str, Any]:
    """The classes Example, Features, Feature, BytesList, FloatList, Int64List.

    Built from a description, as in TensorFlow's example.proto and feature.proto; in a pool of their
    own, so that they stand beside those of an installed TensorFlow.
    """
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError as error:
        raise DatasetUnavailable(f"tf.train.Example {_NEEDS}") from error
    file = descriptor_pb2.FileDescriptorProto(
        name="graphc/example.proto", package="tensorflow", syntax="proto3"
    )
    for name, _, kind in _LISTS:
        _field(file.message_type.add(name=name), "value", 1, _REPEATED, kind)
    _describe_feature(file.message_type.add(name="Feature"))
    _describe_features(file.message_type.add(name="Features"))
    example = file.message_type.add(name="Example")
    _field(example, "features", 1, _OPTIONAL, _MESSAGE, ".tensorflow.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    names = ("Example", "Features", "Feature", *(name for name, _, _ in _LISTS))
    find = pool.FindMessageTypeByName
    return {n: message_factory.GetMessageClass(find(f"tensorflow.{n}")) for n in names}


def _describe_feature(message: Any) -> None:
    message.oneof_decl.add(name="kind")
    for number, (name, short, _) in enumerate(_LISTS, 1):
        one = _field(message, f"{short}_list", number, _OPTIONAL, _MESSAGE, f".tensorflow.{name}")
        one.oneof_index = 0


def _describe_features(message: Any) -> None:
    """A map of names to features, which on the wire is a list of pairs."""
    pair = message.nested_type.add(name="FeatureEntry")
    pair.options.map_entry = True
    _field(pair, "key", 1, _OPTIONAL, _STRING)
    _field(pair, "value", 2, _OPTIONAL, _MESSAGE, ".tensorflow.Feature")
    _field(message, "feature", 1, _REPEATED, _MESSAGE, ".tensorflow.Features.FeatureEntry")


def _field(message: Any, name: str, number: int, label: int, kind: int, type_name: str = "") -> Any:
    extra = {"type_name": type_name} if type_name else {}
    return message.field.add(name=name, number=number, label=label, type=kind, **extra)

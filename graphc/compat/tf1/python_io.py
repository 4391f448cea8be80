"""`tf.python_io`: TFRecord files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from graphc.compat.symbols import delegate
from graphc.datasets.records import RecordWriter, read_records


class TFRecordCompressionType:
    """How a file of records is compressed."""

    NONE, ZLIB, GZIP = 0, 1, 2


class TFRecordOptions:
    """How a file of records is compressed: a TFRecordCompressionType, or its name."""

    def __init__(self, compression_type: Any = None) -> None:
        names = {None: "", 0: "", 1: "ZLIB", 2: "GZIP"}
        self.compression: str = names.get(compression_type, compression_type)


def _compression(options: Any) -> str:
    if isinstance(options, TFRecordOptions):
        return options.compression
    return TFRecordOptions(options).compression


class TFRecordWriter(RecordWriter):
    """Writes a file of records."""

    def __init__(self, path: str, options: Any = None) -> None:
        super().__init__(path, _compression(options))


def tf_record_iterator(path: str, options: Any = None) -> Iterator[bytes]:
    """The records of a file."""
    return read_records(path, _compression(options))


__getattr__ = delegate(__name__)

"""Files: read, written and listed while a run goes on."""

from __future__ import annotations

import glob
from pathlib import Path

import numpy as np

from graphc.ir.dtypes import string
from graphc.ir.errors import InputError, ShapeError
from graphc.ir.ops.strings import check_strings, host_op, objects, scalar, shown
from graphc.ir.table import Attrs, Op, Types
from graphc.ir.types import UNKNOWN, TensorType


def _scalars(types: Types, _: Attrs) -> TensorType:
    check_strings(*types)
    for t in types:
        if t.rank not in (0, None):
            raise ShapeError(f"one file at a time: a scalar is needed, got {t}; use map()")
    return TensorType(string, ())


def _path(name: np.ndarray) -> Path:
    return Path(scalar(name).decode())


def _read(_: Attrs, name: np.ndarray) -> np.ndarray:
    try:
        return objects([_path(name).read_bytes()], ())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {shown(scalar(name))}: {error}") from None


def _write(_: Attrs, name: np.ndarray, contents: np.ndarray) -> np.ndarray:
    try:
        _path(name).parent.mkdir(parents=True, exist_ok=True)
        _path(name).write_bytes(scalar(contents))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {shown(scalar(name))}: {error}") from None
    return name


def _matching_type(types: Types, _: Attrs) -> TensorType:
    check_strings(*types)
    return TensorType(string, (UNKNOWN,))


def _matching(_: Attrs, patterns: np.ndarray) -> np.ndarray:
    found = {p for pattern in patterns.ravel().tolist() for p in glob.glob(pattern)}
    return objects(sorted(found), (len(found),))


read_file: Op = host_op(
    "read_file", _scalars, _read, doc="A file's bytes; InputError when it cannot be read."
)
write_file: Op = host_op(
    "write_file", _scalars, _write, effect=True, doc="Writes (name, bytes); gives the name."
)
matching_files: Op = host_op(
    "matching_files", _matching_type, _matching, doc="The files that fit glob patterns, sorted."
)

__all__ = ["matching_files", "read_file", "write_file"]

"""Tables of a vocabulary: words to numbers and back. They are known while the graph is built."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from graphc.frontend.arguments import as_value, constant_value
from graphc.frontend.framework import no_op
from graphc.ir.dtypes import DType, as_dtype, int64, string
from graphc.ir.errors import AttributeValueError, DTypeError, UnsupportedOp
from graphc.ir.graph import Node, Value
from graphc.ir.literal import as_array
from graphc.ir.table import OPS


class KeyValueTensorInitializer(NamedTuple):
    """Keys and values of a table, as arrays or constants."""

    keys: Any
    values: Any
    key_dtype: Any = None
    value_dtype: Any = None


class LookupTable:
    """A table: `lookup(keys)` gives the values, the default where there is none."""

    def __init__(self, keys: np.ndarray, values: np.ndarray, default: Any, name: str) -> None:
        if keys.shape != values.shape or keys.ndim != 1:
            raise AttributeValueError(f"{keys.shape} keys for {values.shape} values of a table")
        if len(set(keys.tolist())) != len(keys):
            raise AttributeValueError("a key stands twice in the table")
        self.key_dtype: DType = as_dtype(keys.dtype)
        self.value_dtype: DType = as_dtype(values.dtype)
        self.name = name
        self._keys, self._values = _attribute(keys), _attribute(values)
        (self._default,) = _attribute(as_array(default, self.value_dtype).reshape(1))

    @property
    def initializer(self) -> Node:
        """An op that does nothing: the table is there from the beginning."""
        return no_op()

    init = initializer

    def lookup(self, keys: Any, name: str | None = None) -> Value:
        """The values at the keys."""
        given = as_value(keys)
        if given.dtype.is_string != self.key_dtype.is_string:
            raise DTypeError(f"the table {self.name!r} has keys of {self.key_dtype}, got {given!r}")
        return OPS["lookup"](
            given, keys=self._keys, values=self._values, default=self._default,
            dtype=self.value_dtype, name=name or f"{self.name}_Lookup",
        )  # fmt: skip

    def size(self, name: str | None = None) -> Value:
        """How many keys there are."""
        return as_value(len(self._keys), int64, name)


def _attribute(array: np.ndarray) -> tuple[Any, ...]:
    items = array.tolist()
    return tuple(v.decode("latin-1") if isinstance(v, bytes) else v for v in items)


def _known(given: Any, dtype: Any = None) -> np.ndarray:
    array = constant_value(as_value(given, dtype))
    if array is None:
        raise AttributeValueError(f"a table must be known while the graph is built, got {given!r}")
    return array


class HashTable(LookupTable):
    """A table of an initializer's keys and values."""

    def __init__(
        self,
        initializer: KeyValueTensorInitializer,
        default_value: Any,
        shared_name: str | None = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(initializer, KeyValueTensorInitializer):
            raise UnsupportedOp(f"a table takes a KeyValueTensorInitializer, got {initializer!r}")
        keys = _known(initializer.keys, initializer.key_dtype)
        values = _known(initializer.values, initializer.value_dtype)
        super().__init__(keys, values, default_value, name or shared_name or "hash_table")


def _words_of(path: Any, size: int | None) -> list[bytes]:
    known = path if isinstance(path, Path) else _known(path).item().decode()
    lines = Path(known).read_bytes().splitlines()
    if size is not None and size > len(lines):
        raise AttributeValueError(f"{known} has {len(lines)} lines, not {size}")
    return lines[:size]


def _no_hashing(buckets: int) -> None:
    if buckets:
        raise UnsupportedOp(
            f"num_oov_buckets={buckets} is not offered: unknown words all get default_value"
        )


def index_table_from_tensor(
    mapping: Any = None,
    num_oov_buckets: int = 0,
    default_value: int = -1,
    hasher_spec: Any = None,
    dtype: Any = string,
    name: str | None = None,
    vocabulary_list: Any = None,
) -> LookupTable:
    """A table from each word of the vector to its position."""
    del hasher_spec
    _no_hashing(num_oov_buckets)
    keys = _known(vocabulary_list if mapping is None else mapping, dtype)
    return LookupTable(keys, np.arange(len(keys)), default_value, name or "string_to_index")


def index_table_from_file(
    vocabulary_file: Any,
    num_oov_buckets: int = 0,
    vocab_size: int | None = None,
    default_value: int = -1,
    hasher_spec: Any = None,
    key_dtype: Any = string,
    name: str | None = None,
) -> LookupTable:
    """A table from each line of the file to its number; the file is read now."""
    del hasher_spec
    _no_hashing(num_oov_buckets)
    words: Sequence[Any] = _words_of(vocabulary_file, vocab_size)
    if as_dtype(key_dtype).is_integer:
        words = [int(w) for w in words]
    keys = as_array(list(words), key_dtype)
    return LookupTable(keys, np.arange(len(keys)), default_value, name or "string_to_index")


def index_to_string_table_from_tensor(
    mapping: Any = None,
    default_value: str = "UNK",
    name: str | None = None,
    vocabulary_list: Any = None,
) -> LookupTable:
    """A table from positions to the words of the vector."""
    words = _known(vocabulary_list if mapping is None else mapping, string)
    return LookupTable(np.arange(len(words)), words, default_value, name or "index_to_string")


def index_to_string_table_from_file(
    vocabulary_file: Any,
    vocab_size: int | None = None,
    default_value: str = "UNK",
    name: str | None = None,
) -> LookupTable:
    """A table from numbers to the lines of the file, which is read now."""
    return index_to_string_table_from_tensor(
        as_array(_words_of(vocabulary_file, vocab_size), string), default_value, name
    )


def tables_initializer(name: str = "init_all_tables") -> Node:
    """An op that does nothing: tables are there from the beginning."""
    return no_op(name)


__all__ = [
    "HashTable", "KeyValueTensorInitializer", "LookupTable", "index_table_from_file",
    "index_table_from_tensor", "index_to_string_table_from_file",
    "index_to_string_table_from_tensor", "tables_initializer",
]  # fmt: skip

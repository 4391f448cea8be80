"""Tables of vocabularies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gc
import graphc.compat.tf1 as tf
from graphc.frontend import lookup

WORDS = ["the", "cat", "h\u00e9", "\0"]


@pytest.fixture
def session() -> Any:
    with gc.Graph().as_default(), gc.Session(device="numpy") as s:
        yield s


def test_words_to_numbers_and_back(session: gc.Session) -> None:
    table = lookup.index_table_from_tensor(gc.constant(WORDS))
    back = lookup.index_to_string_table_from_tensor(WORDS)
    session.run([gc.tables_initializer(), table.initializer, table.init])
    numbers = table.lookup(gc.constant([["cat", "no"], ["h\u00e9", "\0"]]))
    got = session.run([numbers, back.lookup(numbers), table.size()])
    assert got[0].tolist() == [[1, -1], [2, 3]] and got[0].dtype == np.int64 and got[2] == 4
    assert got[1].tolist() == [[b"cat", b"UNK"], ["h\u00e9".encode(), b"\0"]]


def test_tables_of_files(session: gc.Session, tmp_path: Path) -> None:
    (tmp_path / "words").write_text("a\nb\nc\n")
    table = tf.python.ops.lookup_ops.index_table_from_file(
        str(tmp_path / "words"), vocab_size=2, default_value=9
    )
    assert session.run(table.lookup(gc.constant(["b", "c"]))).tolist() == [1, 9]
    back = tf.contrib.lookup.index_to_string_table_from_file(tmp_path / "words")
    assert session.run(back.lookup(gc.constant([2], gc.int64))).tolist() == [b"c"]
    with pytest.raises(gc.errors.AttributeValueError, match="3 lines, not 4"):
        lookup.index_table_from_file(tmp_path / "words", vocab_size=4)


def test_hash_tables(session: gc.Session) -> None:
    pairs = lookup.KeyValueTensorInitializer([3, 5], ["three", "five"], gc.int64)
    table = tf.lookup.HashTable(pairs, "?") if hasattr(tf, "lookup") else None
    assert table is not None
    assert session.run(table.lookup(gc.constant([5, 4], gc.int64))).tolist() == [b"five", b"?"]
    numbers = lookup.HashTable(lookup.KeyValueTensorInitializer(["a"], [1.5]), -1.0)
    assert session.run(numbers.lookup(gc.constant(["a", "b"]))).tolist() == [1.5, -1]


def test_tables_that_cannot_be(session: gc.Session) -> None:
    table = lookup.index_table_from_tensor(WORDS)
    for build, kind in (
        (lambda: table.lookup(gc.constant([1])), gc.errors.DTypeError),
        (lambda: lookup.index_table_from_tensor(WORDS, 2), gc.errors.UnsupportedOp),
        (lambda: lookup.index_table_from_tensor(["a", "a"]), gc.errors.AttributeValueError),
        (lambda: lookup.HashTable({"a": 1}, 0), gc.errors.UnsupportedOp),
        (lambda: lookup.index_table_from_tensor(gc.placeholder(gc.string, [2])),
         gc.errors.AttributeValueError),
        (lambda: lookup.HashTable(lookup.KeyValueTensorInitializer(["a"], [1, 2]), 0),
         gc.errors.AttributeValueError),
    ):  # fmt: skip
        with pytest.raises(kind):
            build()

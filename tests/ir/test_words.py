"""What ONNX does with words, on the host; its own tests are in tests/onnx."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.ir.dtypes import float32, int64, string
from graphc.ir.table import OPS

GRAMS = {"pool": (1, 2, 3, 1, 2, 2, 3), "starts": (0, 3), "places": (0, 1, 2, 4, 3), "longest": 2}


@pytest.fixture
def session() -> Any:
    with gc.Graph().as_default(), gc.Session(device="numpy") as s:
        yield s


def listed(x: Any) -> Any:
    return np.asarray(x).tolist()


def test_grams(session: gc.Session) -> None:
    x = np.array([[1, 2, 3], [3, 2, 1]], np.int64)
    count = OPS["count_grams"]
    assert listed(session.run(count(x, **GRAMS))) == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    weights = (0.5, 1.0, 1.0, 4.0, 5.0)
    idf = session.run(count(x[0], **GRAMS, mode="IDF", weights=weights))
    assert listed(idf) == [0.5, 1, 1, 5, 4]
    pairs = {**GRAMS, "shortest": 2}
    skipped = session.run(count(np.array([1, 9, 2, 3]), **pairs, skips=1))
    assert listed(skipped) == [0, 0, 0, 1, 1]
    assert listed(session.run(count(np.zeros((1, 0), np.int64), **GRAMS))) == [[0] * 5]
    words = {**GRAMS, "pool": ("a", "b", "c", "a", "b", "b", "c")}
    assert listed(session.run(count(["a", "b"], **words))) == [1, 1, 0, 0, 1]


def test_pieces(session: gc.Session) -> None:
    made = OPS["split_padded"].outputs([["a-b", ""], ["c", "-"]], delimiter="-")
    rows, counts = session.run(list(made))
    assert listed(rows) == [[[b"a", b"b"], [b"", b""]], [[b"c", b""], [b"", b""]]]
    assert listed(counts) == [[2, 0], [1, 2]]


def test_bytes(session: gc.Session) -> None:
    made = OPS["string_of_bytes"]
    assert session.run(made(np.array([97, 0], np.uint8))) == b"a\0"
    assert listed(session.run(made(np.zeros((2, 0), np.uint8)))) == [b"", b""]


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception]]] = {
    "grams of floats": (
        lambda: OPS["count_grams"](np.ones(2, np.float32), **GRAMS), gc.errors.DTypeError,
    ),
    "bytes of ints": (lambda: OPS["string_of_bytes"](np.ones(2, np.int32)), gc.errors.DTypeError),
    "no vector": (lambda: OPS["string_of_bytes"](np.uint8(1)), gc.errors.ShapeError),
    "a case": (
        lambda: OPS["normalize_words"](["a"], change="Title"), gc.errors.AttributeValueError,
    ),
    "rows of words": (lambda: OPS["normalize_words"]([["a"], ["b"]]), gc.errors.ShapeError),
    "numbers as words": (lambda: OPS["normalize_words"]([1]), gc.errors.DTypeError),
    "other keys": (
        lambda: OPS["lookup"](["a"], keys=(1,), values=(2.0,), default=0.0, dtype=float32),
        gc.errors.DTypeError,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_is_refused(session: gc.Session, name: str) -> None:
    build, kind = REFUSED[name]
    with pytest.raises(kind):
        session.run(build())


def test_tables_of_every_kind(session: gc.Session) -> None:
    look = OPS["lookup"]
    x = gc.constant([[1, 2], [3, 1]])
    named = look(x, keys=(1, 2), values=("a", "\xff"), default="?", dtype=string)
    assert listed(session.run(named)) == [[b"a", b"\xff"], [b"?", b"a"]]
    back = look(named, keys=("a", "\xff"), values=(10, 20), default=-1, dtype=int64)
    assert listed(session.run(back)) == [[10, 20], [-1, 10]]

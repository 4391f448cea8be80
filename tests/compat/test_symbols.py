"""TensorFlow 1's names: how many are offered, what takes which keywords, what the others answer."""

from __future__ import annotations

import csv
import inspect
from pathlib import Path
from typing import Any

import pytest

import graphc.compat.tf1 as tf
from graphc.compat.coverage import is_offered, report, resolve, survey
from graphc.compat.symbols import known_symbols, replacement
from graphc.compat.tf1.protos import LazyProto
from graphc.errors import UnsupportedSymbol

# what was reached: it may only rise
OFFERED, OFFERED_OFTEN = 656, 323
KEYWORDS = Path(__file__).with_name("tf1_keywords.csv")
# (symbol, keyword) of which the meaning is TensorFlow 2's, or a mistake of the program
NOT_TENSORFLOW_1: set[tuple[str, str]] = set()


@pytest.fixture(scope="module")
def offered() -> dict[str, bool]:
    return dict(survey())


def test_the_number_of_offered_symbols_does_not_fall(offered: dict[str, bool]) -> None:
    often = [s for s, n in known_symbols().items() if n >= 3]
    assert sum(offered.values()) >= OFFERED
    assert sum(offered[s] for s in often) >= OFFERED_OFTEN


def test_the_table_says_what_is_offered(offered: dict[str, bool]) -> None:
    text = report(offered)
    assert f"| all | {len(offered)} | {sum(offered.values())} |" in text
    assert "`tf.estimator.Estimator`" in text and "`tf.placeholder`" not in text


def _accepts(function: Any, keyword: str) -> bool:
    if isinstance(function, LazyProto):
        function = function.resolve()
    if not callable(function):
        return False
    if hasattr(function, "DESCRIPTOR"):  # a proto's class
        return keyword in function.DESCRIPTOR.fields_by_name
    parameters = inspect.signature(function).parameters.values()
    return any(p.name == keyword or p.kind is p.VAR_KEYWORD for p in parameters)


def _used_keywords() -> list[tuple[str, str]]:
    with KEYWORDS.open(newline="") as file:
        rows = [(r["symbol"], r["keyword"]) for r in csv.DictReader(file)]
    return [r for r in rows if is_offered(r[0])]


def test_offered_symbols_take_the_keywords_that_programs_give() -> None:
    pairs = [p for p in _used_keywords() if p not in NOT_TENSORFLOW_1]
    assert len(pairs) > 300
    wrong = [f"{s}({k}=)" for s, k in pairs if not _accepts(resolve(s), k)]
    assert not wrong


@pytest.mark.parametrize(
    ("symbol", "said"),
    [
        ("estimator.Estimator", "tf.Session"),
        ("FIFOQueue", "tf.data.Dataset"),
        ("contrib.tensor_forest", "scikit-learn"),
        ("train.string_input_producer", "tf.data"),
    ],
)
def test_a_known_symbol_says_what_to_use(symbol: str, said: str) -> None:
    *path, name = symbol.split(".")
    module: Any = tf
    for part in path:
        module = getattr(module, part)
    with pytest.raises(UnsupportedSymbol, match=f"tf.{symbol} is known but not offered.*{said}"):
        getattr(module, name)
    assert not hasattr(module, name)


@pytest.mark.parametrize(
    ("module", "name", "near"),
    [(tf, "placehodler", "tf.placeholder"), (tf.nn, "rleu", "tf.nn.relu"),
     (tf.train, "AdamOptimiser", "tf.train.AdamOptimizer")],
)  # fmt: skip
def test_an_unknown_symbol_says_which_is_near(module: Any, name: str, near: str) -> None:
    with pytest.raises(AttributeError, match=f"there is no .*{name}; did you mean .*{near}") as got:
        getattr(module, name)
    assert not isinstance(got.value, UnsupportedSymbol)


def test_a_name_of_python_is_no_symbol() -> None:
    for name in ("np", "Any", "pkgutil_"):
        assert not hasattr(tf, name)


def test_every_replacement_is_of_a_symbol_that_is_not_offered(offered: dict[str, bool]) -> None:
    told = [s for s, there in offered.items() if there and replacement(s)]
    assert set(told) <= {
        "tf.estimator.ModeKeys.PREDICT", "tf.estimator.ModeKeys.TRAIN",
        "tf.estimator.ModeKeys.EVAL", "tf.string", "tf.contrib.learn.ModeKeys.INFER",
        "tf.contrib.learn.ModeKeys.TRAIN", "tf.contrib.learn.ModeKeys.EVAL",
    }  # fmt: skip


def test_submodules_can_be_imported() -> None:
    from graphc.compat.tf1.contrib.layers import fully_connected
    from graphc.compat.tf1.examples.tutorials.mnist import input_data
    from graphc.compat.tf1.nn import relu
    from graphc.compat.tf1.python.framework import ops

    assert relu is tf.nn.relu and ops.convert_to_tensor is tf.convert_to_tensor
    assert fully_connected is tf.contrib.layers.fully_connected
    assert input_data.read_data_sets is tf.examples.tutorials.mnist.input_data.read_data_sets

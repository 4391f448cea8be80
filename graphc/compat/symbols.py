"""Which of TensorFlow's names are known, and what a name that is not offered is answered.

The list of known names, known_symbols.csv, was counted over 441 public programs. A name ending in
`()` parts, such as `tf.Session().run`, is a member of what a call gives.
"""

from __future__ import annotations

import csv
import difflib
import functools
import importlib
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from graphc.ir.errors import UnsupportedSymbol

ROOT: Final = "graphc.compat.tf1"
_NOTHING: Final = object()

# The longest beginning that fits a name says why it is not offered and what to use.
_STRINGS: Final = "do it in Python before feeding, or by tf.numpy_function"
_HASHES: Final = "hash in Python, by tf.numpy_function"
_QUEUES: Final = "there are no input queues; use tf.data.Dataset, or feed batches"
REPLACEMENTS: Final[Mapping[str, str]] = {
    "tf.estimator": "write the training loop with tf.Session, or use tf.train.Saver to keep it",
    "tf.contrib.learn": "write the training loop with tf.Session",
    "tf.contrib.boosted_trees": "trees are no graphs; use scikit-learn",
    "tf.contrib.tensor_forest": "trees are no graphs; use scikit-learn",
    "tf.contrib.factorization": "write it with tf.matmul and an optimizer, or use scikit-learn",
    "tf.contrib.distribute": "a session runs on one device",
    "tf.contrib.predictor": "restore a checkpoint with tf.train.Saver",
    "tf.contrib.data": "use tf.data.Dataset",
    "tf.contrib.slim.model_analyzer": "print tf.trainable_variables()",
    "tf.distribute": "a session runs on one device",
    "tf.config": "choose the device by Session(device=...)",
    "tf.tpu": "a session runs on a GPU or on the CPU; choose it by Session(device=...)",
    "tf.feature_column": "feed the columns through tf.placeholder",
    "tf.strings.unicode_": "it gives ragged tensors; decode in Python, or by tf.numpy_function",
    "tf.strings.to_hash_bucket": _HASHES,
    "tf.strings.to_hash_bucket_": _HASHES,
    "tf.string_to_hash_bucket": _HASHES,
    "tf.string_to_hash_bucket_": _HASHES,
    "tf.parse_single_sequence_example": "use tf.io.FixedLenSequenceFeature in an Example",
    "tf.parse_tensor": _STRINGS,
    "tf.serialize_tensor": _STRINGS,
    "tf.FIFOQueue": _QUEUES,
    "tf.RandomShuffleQueue": _QUEUES,
    "tf.QueueBase": _QUEUES,
    "tf.TextLineReader": _QUEUES,
    "tf.TFRecordReader": _QUEUES,
    "tf.WholeFileReader": _QUEUES,
    "tf.train.batch": _QUEUES,
    "tf.train.shuffle_batch": _QUEUES,
    "tf.train.string_input_producer": _QUEUES,
    "tf.train.slice_input_producer": _QUEUES,
    "tf.train.QueueRunner": _QUEUES,
    "tf.train.Server": "a session runs on one device",
    "tf.train.ClusterSpec": "a session runs on one device",
    "tf.train.replica_device_setter": "a session runs on one device",
    "tf.RaggedTensor": "pad to one length and mask with tf.sequence_mask",
    "tf.sparse": "use dense tensors",
    "tf.keras": "use tf.layers, tf.losses and tf.train",
    "tf.enable_v2_behavior": "this is TensorFlow 1's API",
    "tf.py_function": "use tf.numpy_function, whose arguments are NumPy arrays",
    "tf.container": "resources belong to a session",
    "tf.enable_eager_execution": "fetch values with tf.Session.run",
}


@functools.cache
def known_symbols() -> Mapping[str, int]:
    """Every name that the 441 programs use, and how many of them use it; most used first."""
    with Path(__file__).with_name("known_symbols.csv").open(newline="") as file:
        return {row["symbol"]: int(row["programs"]) for row in csv.DictReader(file)}


def replacement(symbol: str) -> str | None:
    """What to use instead of a name that is not offered, where that is known."""
    fitting = [
        p
        for p in REPLACEMENTS
        if symbol == p or symbol.startswith((p + ".", p + "(")) or (p[-1] == "_" and p in symbol)
    ]
    return REPLACEMENTS[max(fitting, key=len)] if fitting else None


def missing(symbol: str, near: Iterable[str] = ()) -> AttributeError:
    """The error for a name that is not there: known but not offered, or unknown altogether."""
    known = known_symbols()
    advice = replacement(symbol)
    if advice or symbol in known or any(s.startswith((symbol + ".", symbol + "(")) for s in known):
        said = f"{symbol} is known but not offered"
        return UnsupportedSymbol(f"{said}: {advice}" if advice else said + _like(symbol, near))
    return AttributeError(f"there is no {symbol}{_like(symbol, near)}")


def _like(symbol: str, near: Iterable[str]) -> str:
    scope, _, name = symbol.rpartition(".")
    found = difflib.get_close_matches(name, sorted(set(near)), 3, 0.7)
    return f"; did you mean {' or '.join(f'{scope}.{n}' for n in found)}?" if found else ""


def tf_name(module: str) -> str:
    """`graphc.compat.tf1.nn` as a program knows it: `tf.nn`."""
    return "tf" + module.removeprefix(ROOT)


def delegate(module: str, *sources: str, submodules: Iterable[str] = ()) -> Callable[[str], Any]:
    """A `__getattr__` for a module of names that stand elsewhere.

    Looks for submodules of its own, then in the modules `sources`, which are imported when first
    asked. So what these gain later is offered without another word. Errors: see `missing`.
    """
    own = frozenset(submodules)

    def get(name: str) -> Any:
        if name in own:
            return importlib.import_module(f"{module}.{name}")
        if not name.startswith("__"):
            for source in sources:
                found = _offered(importlib.import_module(source), name)
                if found is not _NOTHING:
                    return found
        raise missing(f"{tf_name(module)}.{name}", _near(module, own, sources))

    return get


def _offered(source: types.ModuleType, name: str) -> Any:
    """What a module offers under the name, its own or that of a module it hands on."""
    if name in public_names(source):
        return getattr(source, name)
    if source.__name__.startswith(ROOT) and name not in vars(source):
        return getattr(source, name, _NOTHING)
    return _NOTHING


def public_names(source: types.ModuleType) -> list[str]:
    """The names that a module offers: its __all__, else what graphc's frontend made of it."""
    listed = getattr(source, "__all__", None)
    if listed is not None:
        return list(listed)
    return [n for n, x in vars(source).items() if not n.startswith("_") and _is_ours(n, x)]


def _is_ours(name: str, x: Any) -> bool:
    if isinstance(x, (int, float, str)):
        return name.isupper()  # a constant
    if isinstance(x, types.ModuleType):
        return False
    home = getattr(x, "__module__", None) or ""
    return home.startswith(("graphc.frontend", "graphc.runtime", "graphc.data", "graphc.compat"))


def _near(module: str, own: Iterable[str], sources: Iterable[str]) -> list[str]:
    names = [*own, *(n for n in vars(sys.modules[module]) if not n.startswith("_"))]
    for source in sources:
        names += public_names(importlib.import_module(source))
    return names

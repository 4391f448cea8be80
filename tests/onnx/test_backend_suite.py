"""The ONNX project's own backend tests, run unchanged on graphc.

passing.txt lists those that pass; it may only grow: `python -m graphc.onnx.coverage --passing
tests/onnx/passing.txt`. Every other test must be refused by an error that says what is missing.
"""

from __future__ import annotations

import functools
import re
import unittest
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")

with warnings.catch_warnings():  # the suite computes infinities while it is read
    warnings.simplefilter("ignore")
    from onnx.backend.test import BackendTest

    from graphc.onnx import backend
    from graphc.onnx.coverage import GROUPS, RANDOM, cases, is_counted

    # draws of random numbers cannot be compared
    SUITE = BackendTest(backend, __name__).exclude(RANDOM)

from graphc.ir.errors import UnsupportedOp
from tests.gpu import on_gpu

PASSING = frozenset((Path(__file__).parent / "passing.txt").read_text(encoding="utf-8").split())
NAMED = re.compile(r"ONNX op [\w.]+ of opset \d+, node '.+?': ", re.S)

Test = Callable[..., Any]


def _must_be_refused(name: str, test: Test) -> Test:
    @functools.wraps(test)
    def check(self: unittest.TestCase) -> None:
        with pytest.raises(UnsupportedOp) as caught:
            test(self)
            pytest.fail(f"{name} passes now: list it (see the top of this file)")
        assert NAMED.match(caught.value.message), caught.value.message

    return check


def _case(name: str) -> type[unittest.TestCase]:
    """A class of the suite: what is not listed must be refused, what wants CUDA needs a GPU."""
    made = SUITE.test_cases[name]
    for attribute, test in list(vars(made).items()):
        if not attribute.startswith("test_"):
            continue
        if getattr(test, "__unittest_skip__", False):
            delattr(made, attribute)
            continue
        plain = attribute.removesuffix("_cpu").removesuffix("_cuda")
        if plain not in PASSING:
            test = _must_be_refused(plain, test)
        setattr(made, attribute, on_gpu(test) if attribute.endswith("_cuda") else test)
    return made


globals().update({name: _case(name) for name in GROUPS.values()})


def test_enough_pass() -> None:
    """97 of 100 tests of the default domain on floats, integers and bools."""
    known = cases()
    counted = {c.name for c in known if is_counted(c)}
    assert {c.name for c in known} >= PASSING
    assert len(PASSING & counted) >= 0.97 * len(counted)

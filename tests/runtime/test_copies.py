"""Initializers that only copy are run as copies; all others by code that is made for them."""

from __future__ import annotations

import shutil
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import graphc as gc
from graphc.runtime.devices import native

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler"
)

RNG = np.random.default_rng(0)
ARRAYS = {
    "matrix": RNG.standard_normal((5, 7)).astype(np.float32),
    "transposed": RNG.standard_normal((5, 7)).astype(np.float64).T,
    "zeros": np.zeros((3, 4), np.float32),
    "negative_zero": np.full(3, -0.0, np.float32),
    "scalar": np.array(7, np.int64),
    "one": np.array([2.5], np.float16),
    "bools": np.array([True, False, True]),
    "bfloat16": np.full((2, 3), 0.1, ml_dtypes.bfloat16),
    "infinite": np.array([np.inf, np.nan, 1.0], np.float32),
    "empty": np.zeros((0, 3), np.float32),
}


def _forbidden(*_: Any) -> Any:
    raise AssertionError("more than a copy")


def test_what_only_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_on_numpy", _forbidden)
    with gc.Graph().as_default(), gc.Session(device="native") as session:
        variables = {n: gc.Variable(a, name=n) for n, a in ARRAYS.items()}
        for _ in range(2):
            session.run(gc.global_variables_initializer())
            for name, variable in variables.items():
                got = session.read_variable(variable)
                assert got.dtype == ARRAYS[name].dtype and got.shape == ARRAYS[name].shape
                assert got.tobytes() == ARRAYS[name].tobytes(), name


@pytest.mark.parametrize(
    "initial",
    [
        lambda: gc.random_normal([5], seed=3),
        lambda: gc.cast(gc.range(6), gc.float32) * 0.5,
        lambda: gc.tile(gc.constant([1.0, 2.0]), [3]),
        lambda: gc.transpose(gc.constant(ARRAYS["matrix"])) + 1.0,
        lambda: gc.constant(ARRAYS["matrix"])[1:, ::2],
    ],
)
def test_what_does_more(initial: Any) -> None:
    results = []
    for device in ("native", "numpy"):
        with gc.Graph().as_default(), gc.Session(device=device) as session:
            gc.set_random_seed(1)
            variables = [gc.Variable(initial()), gc.Variable(gc.zeros([4]))]
            session.run(gc.global_variables_initializer())
            results.append([session.read_variable(v) for v in variables])
    for got, want in zip(*results, strict=True):
        np.testing.assert_array_equal(got, want)

"""Long sums keep their digits: rounding errors grow with the parts' lengths, not with the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gc

CASES: list[tuple[tuple[int, ...], Any]] = [
    ((70_000, 5), 0), ((30_000, 2), 0), ((1_500, 3), 0), ((50, 40, 30, 7), (0, 1, 2)),
    ((200, 100, 3), (0, 1)), ((3, 200_000), 1), ((1 << 20,), 0),
    ((3_000, 1_500), 0), ((200, 30_000), 1), ((70, 8, 9, 400), (1, 2, 3)),
    ((9, 500, 40, 90), (0, 1)),
]  # fmt: skip


@pytest.mark.parametrize("device", ["numpy", "native"])
@pytest.mark.parametrize("shape, axis", CASES, ids=str)
def test_sums_of_many(shape: tuple[int, ...], axis: Any, device: str) -> None:
    x = np.random.default_rng(3).random(shape, np.float32)
    with gc.Graph().as_default(), gc.Session(device=device) as session:
        value = gc.placeholder(gc.float32, shape)
        total = session.run(gc.reduce_sum(value, axis), {value: x})
    # of parts of 1,024, added up one by one: a few units in the last place as a rule
    np.testing.assert_allclose(total, x.astype(np.float64).sum(axis), rtol=2e-6)

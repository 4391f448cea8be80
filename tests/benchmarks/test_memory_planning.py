"""Arenas of known networks meet their lower bounds, and the bounds are the published ones."""

from __future__ import annotations

import pytest

from benchmarks import memory_planning
from benchmarks.memory_planning import MIB, NETWORKS, measure

# Lower bounds in MiB of Pisarchyk and Lee (2020), table 1, and how close an arena must come.
PUBLISHED = {"mobilenet_v1": (4.594, 1.0), "mobilenet_v2": (5.742, 1.05),
             "inception_v3": (7.914, 1.05)}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_inference_meets_the_bound(name: str) -> None:
    bound, most = PUBLISHED[name]
    row = measure(name)
    assert row.bound / MIB == pytest.approx(bound, abs=0.001)
    assert 1.0 <= row.ratio <= most
    assert row.naive > 3 * row.arena
    assert f"{row.ratio:.3f}" in str(row)


def small(net: memory_planning.Net, x: object) -> object:
    x = net.conv(x, 16, 3, 2)
    for i in range(4):
        x = memory_planning._inverted_residual(net, x, 6, 16 + 8 * (i // 2), 1 + i % 2)
    return memory_planning._classified(x)


def test_training_stays_near_the_bound_and_fits_into_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "small", (small, 32))
    row = measure("small", training=True, batch=2, halve=True)
    assert 1.0 <= row.ratio <= 1.1
    assert "more operations" in row.halved

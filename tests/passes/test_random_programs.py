"""Random programs: graph evaluator = unfused program = fused program, planned into one arena."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphc.ir.computation import cut
from tests.passes.program_checks import check
from tests.random_graphs import Choose, chooser, random_graph, random_program

QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def _choose(data: st.DataObject) -> Choose:
    return lambda n: data.draw(st.integers(0, n - 1))


def _check_graph(choose: Choose, exact: bool, backward: bool) -> None:
    outputs, feeds = random_graph(choose, exact=exact, backward=backward)
    computation = cut(outputs, (), [n.outputs[0] for n in feeds])
    # the gradient of an extremum divides among its ties, so that exact ends there
    tolerance = 0.0 if exact and not backward else 1e-9
    check(computation, feeds, tolerance, tolerance)


@QUICK
@given(st.data())
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "smooth"])
def test_random_graphs(exact: bool, backward: bool, data: st.DataObject) -> None:
    _check_graph(_choose(data), exact, backward)


@QUICK
@given(st.data())
def test_random_updates(data: st.DataObject) -> None:
    computation, arrays = random_program(_choose(data))
    check(computation, arrays)


# 257: two readers of one buffer were merged in an order that merges before had turned around
@pytest.mark.parametrize("seed", [*range(40), 257])
def test_long_random_graphs(seed: int) -> None:
    outputs, feeds = random_graph(
        chooser(seed), exact=seed != 257, steps=30, backward=seed % 2 == 1
    )
    check(cut(outputs, (), [n.outputs[0] for n in feeds]), feeds, 1e-9, 1e-9)

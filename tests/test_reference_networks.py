"""Golden texts of the reference networks: kernels, launches, bytes and predicted time for sm_90.

A change of the compiler that changes a kernel shows here: `pytest tests/test_reference_networks.py
--update-golden` accepts it. Times are by the roofline of an H200; nothing is measured.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from graphc.ir.loop_text import format_kernel
from graphc.runtime.roofline import roofline
from tests.reference_networks import NETWORKS, program_of


@pytest.mark.parametrize("name", NETWORKS)
def test_golden(name: str, golden: Callable[[str, str], None]) -> None:
    program = program_of(NETWORKS[name])
    times = roofline(program)
    kernels = "\n\n".join(map(format_kernel, program.kernels))
    golden(f"{name}.txt", f"{times}\n\n{kernels}\n")


@pytest.mark.parametrize("name", NETWORKS)
def test_compiling_twice_gives_the_same(name: str) -> None:
    first, second = (program_of(NETWORKS[name]) for _ in range(2))
    assert [format_kernel(k) for k in first.kernels] == [format_kernel(k) for k in second.kernels]

"""Every emitted kernel in Triton's interpreter, and on a GPU, against the program oracle.

The interpreter needs a process of its own (see interpret_runner.py): one runs all cases.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from graphc.runtime.devices.triton import TritonDevice
from tests.codegen.interpret_runner import outcome
from tests.codegen.triton_cases import CASES, pointwise_names
from tests.gpu import on_gpu

pytest.importorskip("triton")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    """What the runner says, by case."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "tests.codegen.interpret_runner"],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path},
        capture_output=True, text=True, cwd=ROOT, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    return {r["case"]: r for r in results}


def check(outcome: dict[str, Any]) -> None:
    """No failure, and every output within its dtype's tolerance."""
    assert "failure" not in outcome, outcome["failure"]
    assert outcome["errors"], "the case has outputs"
    assert max(outcome["errors"]) <= 1.0, outcome["errors"]


@pytest.mark.parametrize("name", list(CASES))
def test_case_agrees_with_the_oracle(name: str, outcomes: dict[str, dict[str, Any]]) -> None:
    check(outcomes[name])


@pytest.mark.parametrize("name", list(CASES))
def test_case_gets_its_recipe(name: str) -> None:
    from graphc.codegen.triton import Options, emit

    made = CASES[name]()
    modules = [emit(made.program, Options(libraries=x)) for x in (False, True)]
    chosen = {x.recipe for m in modules for x in m.launches.values()}
    assert set(made.recipes) <= chosen


@pytest.mark.parametrize("name", pointwise_names())
def test_every_pointwise_op_is_spelled(name: str, outcomes: dict[str, dict[str, Any]]) -> None:
    check(outcomes[f"op:{name}"])


@pytest.fixture(scope="module")
def gpu() -> TritonDevice:
    return TritonDevice()


@on_gpu
@pytest.mark.parametrize("name", [*CASES, *(f"op:{n}" for n in pointwise_names())])
def test_case_on_a_gpu(name: str, gpu: TritonDevice) -> None:
    check(outcome(name, gpu))

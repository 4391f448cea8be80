"""Every emitted kernel in Triton's interpreter against the program oracle.

The interpreter needs a process of its own (see interpret_runner.py): one runs all cases.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("triton")

HERE = Path(__file__).parent


def load(name: str) -> ModuleType:
    """A helper module beside this file."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


cases = load("triton_cases")


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    """What the runner says, by case."""
    root = str(HERE.parents[1])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(HERE / "interpret_runner.py")],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path},
        capture_output=True, text=True, cwd=root, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    return {r["case"]: r for r in results}


def check(outcome: dict[str, Any]) -> None:
    """No failure, and every output within its dtype's tolerance."""
    assert "failure" not in outcome, outcome["failure"]
    assert outcome["errors"], "the case has outputs"
    assert max(outcome["errors"]) <= 1.0, outcome["errors"]


@pytest.mark.parametrize("name", list(cases.CASES))
def test_case_agrees_with_the_oracle(name: str, outcomes: dict[str, dict[str, Any]]) -> None:
    check(outcomes[name])


@pytest.mark.parametrize("name", list(cases.CASES))
def test_case_gets_its_recipe(name: str) -> None:
    from graphc.codegen.triton import emit

    made = cases.CASES[name]()
    chosen = {x.recipe for x in emit(made.program).launches.values()}
    assert set(made.recipes) <= chosen


@pytest.mark.parametrize("name", cases.pointwise_names())
def test_every_pointwise_op_is_spelled(name: str, outcomes: dict[str, dict[str, Any]]) -> None:
    check(outcomes[f"op:{name}"])

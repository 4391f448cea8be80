"""The functions of Triton's prelude are exact to a few units in the last place, in every range.

And the library routines give what they mean, by way of the host. See accuracy_runner.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from graphc.ir.table import OPS, Kind
from tests.codegen.accuracy_runner import FUNCTIONS

pytest.importorskip("triton")

ROOT = Path(__file__).parents[2]
ATAN2_UNITS = 4.0


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, Any]]:
    """What the runner says, by case."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "tests.codegen.accuracy_runner"],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path},
        capture_output=True, text=True, cwd=ROOT, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    return {r["case"]: r for r in results}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*FUNCTIONS, "atan2"])
def test_function_is_exact(name: str, dtype: str, measured: dict[str, dict[str, Any]]) -> None:
    result = measured[f"{name}-{dtype}"]
    assert result["error"] <= (FUNCTIONS[name][2] if name in FUNCTIONS else ATAN2_UNITS)
    assert result["wrong"] == []


@pytest.mark.parametrize("name", sorted(n for n, op in OPS.items() if op.kind is Kind.OPAQUE))
def test_library_routine_agrees(name: str, measured: dict[str, dict[str, Any]]) -> None:
    assert measured[name]["wrong"] == []

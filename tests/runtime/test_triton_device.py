"""The Triton device: in the interpreter everywhere, on a GPU where there is one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from graphc.ir.errors import DeviceError
from graphc.runtime.devices.triton import TritonDevice
from tests.gpu import has_gpu, on_gpu
from tests.runtime.triton_checks import CHECKS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    """What the checks say in the interpreter, which needs a process of its own."""
    pytest.importorskip("triton")
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "tests.runtime.triton_checks"],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path},
        capture_output=True, text=True, cwd=ROOT, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {r["check"]: r["failure"] for r in lines}


@pytest.mark.parametrize("name", list(CHECKS))
def test_interpreted(name: str, interpreted: dict[str, Any]) -> None:
    assert interpreted[name] is None, interpreted[name]


@pytest.fixture(scope="module")
def gpu() -> TritonDevice:
    return TritonDevice()


@on_gpu
@pytest.mark.parametrize("name", list(CHECKS))
def test_on_a_gpu(name: str, gpu: TritonDevice) -> None:
    CHECKS[name](gpu)


@on_gpu
def test_the_demo_reaches_its_accuracies(tmp_path: Path) -> None:
    from graphc.demo import main

    pytest.importorskip("sklearn")
    assert main(["--device", "triton", "--report", str(tmp_path)]) == 0


@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
def test_a_missing_gpu_is_an_error_with_a_remedy() -> None:
    with pytest.raises(DeviceError, match="device='numpy'"):
        TritonDevice()


def test_the_interpreter_must_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(DeviceError, match="TRITON_INTERPRET=1"):
        TritonDevice(interpret=True)

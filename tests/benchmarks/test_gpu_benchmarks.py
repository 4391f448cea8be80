"""What a machine without a GPU can say about the benchmarks of a GPU: that they compare equals."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import graphc as gc
from benchmarks import gpu, gpu_timing, gpu_training
from benchmarks.__main__ import main
from benchmarks.gpu_workloads import WORKLOADS, Workload
from tests.gpu import has_gpu


def _graph_outputs(workload: Workload, arrays: list[np.ndarray]) -> list[np.ndarray]:
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        inputs = [gc.placeholder(a.dtype, a.shape) for a in arrays]
        outputs = workload.outputs(inputs)
        return [np.asarray(x) for x in session.run(outputs, dict(zip(inputs, arrays, strict=True)))]


@pytest.mark.parametrize("name", list(WORKLOADS))
def test_workloads_mean_the_same_in_torch(name: str) -> None:
    workload = WORKLOADS[name]
    arrays = workload.arrays(tiny=True)
    got = [torch.from_numpy(x.astype(np.float32)) for x in _graph_outputs(workload, arrays)]
    want = workload.torch_call(workload.torch, workload.tensors(arrays, "cpu"))
    tolerance = 2e-2 if any(x.dtype == "bfloat16" for x in workload.inputs) else 1e-5
    assert gpu.difference(got, want) <= tolerance <= max(workload.tolerance, 1e-5)
    assert max(float(w.detach().abs().max()) for w in want) > 0


@pytest.mark.parametrize("name", list(WORKLOADS))
def test_large_inputs_are_those_of_the_tiny_ones(name: str) -> None:
    for x in WORKLOADS[name].inputs:
        assert len(x.large) == len(x.tiny) and math.prod(x.large) > 20 * math.prod(x.tiny)
    largest = max(math.prod(x.large) for x in WORKLOADS[name].inputs)
    assert largest >= 1 << 24


def test_every_row_has_its_workload() -> None:
    assert set(gpu.KERNEL_ROWS) == set(WORKLOADS)
    assert set(gpu.TRAINING_ROWS) == set(gpu_training.TWINS)
    assert len(set(gpu.ROWS)) == len(gpu.ROWS)


def test_differences_are_seen() -> None:
    one, other = torch.ones(3), torch.tensor([1.0, 1.0, 1.5])
    assert gpu.difference([one], [one]) == 0.0
    assert gpu.difference([one], [other]) == pytest.approx(1 / 3)
    with pytest.raises(AssertionError, match="shapes"):
        gpu.difference([one], [torch.ones(4)])


@pytest.mark.parametrize("name", gpu.TRAINING_ROWS)
def test_networks_start_with_equal_losses(name: str) -> None:
    row = gpu_training.training_step(gpu_training.TWINS[name], "numpy", rounds=1)
    assert row["error"] < 1e-5
    assert row["graphc"] > 0 and row["torch"] > 0


def test_adam_agrees_with_torch() -> None:
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        step, parameters, gradients = gpu_training.adam_graph((5, 7), 3)
        session.run(gc.global_variables_initializer())
        arrays = [session.run(g) for g in gradients]
        assert len({a.tobytes() for a in arrays}) == 3
        reference = gpu_training.torch_adam(arrays, "cpu")
        assert gpu_training.adam_error(session, step, parameters, reference) < 1e-3
        assert np.abs(session.run(parameters[0])).min() > 1e-3  # they moved
        executable = gpu_training.executable_of(session, step)
        assert hasattr(executable, "run")


# -- timing


class Clock:
    """Calls take as long as they say."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self.calls: list[tuple[str, int]] = []

    def call(self, name: str) -> Callable[[int], str]:
        return lambda number: self.calls.append((name, number)) or name

    def __call__(self, call: Callable[[int], Any], repeats: int) -> float:
        (name,) = {call(number) for number in range(repeats)}
        return self.seconds[name]


def test_contenders_take_turns() -> None:
    clock = Clock({"quick": 0.001, "slow": 0.5})
    calls = {n: clock.call(n) for n in clock.seconds}
    assert gpu_timing.medians(calls, clock, rounds=3, round_s=0.01) == clock.seconds
    timed = clock.calls[-3 * 11 :]
    assert [n for n, _ in timed] == (["quick"] * 10 + ["slow"]) * 3
    assert [i for n, i in timed if n == "quick"] == [*range(10)] * 3


def test_a_contender_that_fails_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(_: int) -> None:
        raise ValueError("no compiler")

    kept = gpu_timing.working({"graphc": lambda _: None, "compile": fails})
    assert list(kept) == ["graphc"]
    assert "compile" in (said := capsys.readouterr().out) and "no compiler" in said
    with pytest.raises(ValueError, match="no compiler"):
        gpu_timing.working({"graphc": fails})


def test_the_limit_is_the_larger_of_traffic_and_work() -> None:
    limits = gpu_timing.Limits(1e12, {"float32": 1e13})
    assert limits.seconds(2e12) == 2.0
    assert limits.seconds(2e12, 5e13) == 5.0
    assert limits.seconds(2e12, 1e13) == 2.0


# -- choosing, saving, printing

ROW = {"graphc": 1e-4, "torch": 3e-4, "compile": 2e-4, "limit": 5e-5, "kernels": 1}


def test_rows_are_added_to_those_measured_before(tmp_path: Path) -> None:
    path = gpu.result_path("NVIDIA H200 (80GB)", tmp_path)
    assert path.name == "nvidia-h200-80gb.json"
    gpu.measure(["softmax", "adam"], path, {"gpu": "one"}, lambda _: ROW)
    other = {**ROW, "graphc": 1.0}
    gpu.measure(["gelu_chain", "adam"], path, {"gpu": "two"}, lambda _: other)
    saved = json.loads(path.read_text())
    assert saved["gpu"] == "two"
    assert list(saved["rows"]) == ["gelu_chain", "softmax", "adam"]  # in the order of ROWS
    assert saved["rows"]["softmax"] == ROW and saved["rows"]["adam"] == other


def test_a_row_that_fails_leaves_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def one(name: str) -> dict[str, Any]:
        if name == "softmax":
            raise AssertionError("0.5 away from torch\nmore")
        return ROW

    path = tmp_path / "x.json"
    rows = gpu.measure(["softmax", "adam"], path, {}, one)
    assert rows["softmax"] == {"failure": "0.5 away from torch"}
    assert list(json.loads(path.read_text())["rows"]) == ["adam"]
    assert "softmax | failed: 0.5 away" in gpu.table(rows)
    assert "0.5 away" in capsys.readouterr().err


def test_the_table_has_ratios() -> None:
    lines = gpu.table({"softmax": ROW, "step_lenet": {"graphc": 1e-5, "torch": 1e-4}}).splitlines()
    assert lines[2] == "| softmax | 1 | 100.0 | 300.0 | 200.0 | 3.00 | 2.00 | 50% |"
    assert lines[3] == "| step_lenet |  | 10.0 | 100.0 |  | 10.00 |  |  |"
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", "gpu", "softmax"]) == 2
    assert "no NVIDIA GPU" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--device", "gpu", "kernels"], ["softmax"]], ids=str)
def test_unknown_rows_are_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    said = capsys.readouterr().err
    assert f"no benchmark {arguments[-1]!r}" in said
    assert ("softmax," in said) == ("gpu" in arguments)

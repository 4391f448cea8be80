"""What a machine without a GPU can say about the benchmarks of a GPU's kernels: that they compare
equals, and take times as they say."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import graphc as gc
from benchmarks import gpu_adam, gpu_jax, gpu_kernels, gpu_rows, gpu_timing
from benchmarks.gpu_peers.graphc_peer import executable_of
from benchmarks.gpu_workload import Workload
from benchmarks.gpu_workloads import WORKLOADS
from tests.runtime.triton_stand_in import stand_in


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
    assert gpu_kernels.difference(got, want) <= tolerance <= max(workload.tolerance, 1e-5)
    assert max(float(w.detach().abs().max()) for w in want) > 0


@pytest.mark.parametrize("name", list(WORKLOADS))
def test_large_inputs_are_those_of_the_tiny_ones(name: str) -> None:
    for x in WORKLOADS[name].inputs:
        assert len(x.large) == len(x.tiny) and math.prod(x.large) > 20 * math.prod(x.tiny)
    largest = max(math.prod(x.large) for x in WORKLOADS[name].inputs)
    assert largest >= 1 << 24


# The stand-in knows kernels of one function, and attention's gradient has several.
@pytest.mark.parametrize("name", sorted(WORKLOADS.keys() - {"attention_with_gradient"}))
def test_workloads_are_loaded_with_their_inputs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    device, _ = stand_in(monkeypatch)
    workload = WORKLOADS[name]
    arrays = workload.arrays(tiny=True)
    (executable,) = gpu_kernels.loaded(device, workload, arrays, 1)
    want = workload.torch_call(workload.torch, workload.tensors(arrays, "cpu"))
    got = gpu_kernels.results(executable)
    assert gpu_kernels.difference(got, want) <= max(workload.tolerance, 2e-2)


@pytest.mark.parametrize("name", list(WORKLOADS))
def test_workloads_mean_the_same_in_jax(name: str) -> None:
    pytest.importorskip("jax")
    workload = WORKLOADS[name]
    arrays = workload.arrays(tiny=True)
    want = workload.torch_call(workload.torch, workload.tensors(arrays, "cpu"))
    calls = gpu_kernels.jax_calls(workload, arrays, 2, want, on_gpu=False)
    assert gpu_timing.medians({"jax": calls.call}, calls.timer, 1, 0.0)["jax"] > 0


def test_jax_is_absent_where_it_cannot_be_had() -> None:
    def fails() -> gpu_jax.Timed:
        raise ModuleNotFoundError("No module named 'jax'")

    def differs() -> gpu_jax.Timed:
        raise AssertionError("0.5 away from torch")

    assert gpu_jax.offered(fails) == {"absent": "No module named 'jax'"}
    assert gpu_jax.offered(differs) == {"error": "AssertionError: 0.5 away from torch"}


def test_a_race_has_figures_of_who_works() -> None:
    def fails(_: int) -> None:
        raise ValueError("no compiler")

    calls = {"graphc": lambda _: None, "torch.compile": fails}
    in_jax = gpu_jax.Timed(lambda _: None, gpu_timing.ClockTimer(lambda: None))
    timer = gpu_timing.ClockTimer(lambda: None)
    figures = gpu_kernels.raced(calls, in_jax, timer)
    assert figures["torch.compile"] == {"error": "ValueError: no compiler"}
    assert figures["graphc"]["step_s"] > 0 and figures["jax"]["step_s"] > 0
    assert gpu_kernels.raced(calls, {"absent": "none"}, timer)["jax"] == {"absent": "none"}


def test_every_row_has_its_workload() -> None:
    assert tuple(WORKLOADS) == gpu_rows.KERNEL_ROWS
    assert len(set(gpu_rows.ROWS)) == len(gpu_rows.ROWS)


def test_differences_are_seen() -> None:
    one, other = torch.ones(3), torch.tensor([1.0, 1.0, 1.5])
    assert gpu_kernels.difference([one], [one]) == 0.0
    assert gpu_kernels.difference([one], [other]) == pytest.approx(1 / 3)
    with pytest.raises(AssertionError, match="shapes"):
        gpu_kernels.difference([one], [torch.ones(4)])


def test_adam_agrees_with_torch() -> None:
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        step, parameters, gradients = gpu_adam.adam_graph((5, 7), 3)
        session.run(gc.global_variables_initializer())
        arrays = [session.run(g) for g in gradients]
        assert len({a.tobytes() for a in arrays}) == 3
        reference = gpu_adam.torch_adam(arrays, "cpu")
        assert gpu_adam.adam_error(session, step, parameters, reference) < 1e-3
        assert np.abs(session.run(parameters[0])).min() > 1e-3  # they moved
        executable = executable_of(session, step)
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


def test_a_contender_may_have_a_timer_of_its_own() -> None:
    clock, other = Clock({"quick": 0.001}), Clock({"slow": 0.5})
    calls = {"quick": clock.call("quick"), "slow": other.call("slow")}
    found = gpu_timing.medians(calls, clock, rounds=2, timers={"slow": other})
    assert found == {"quick": 0.001, "slow": 0.5}


def test_the_clock_waits_before_and_after() -> None:
    said: list[str] = []
    timer = gpu_timing.ClockTimer(lambda: said.append("wait"))
    assert timer(lambda number: said.append(str(number)), 2) > 0
    assert said == ["wait", "0", "1", "wait"]


def test_the_host_is_timed_while_the_device_is_idle() -> None:
    said: list[str] = []
    seconds = gpu_timing.host_seconds(lambda: said.append("q"), lambda: said.append("w"), 2)
    assert seconds > 0 and said == ["w", "q"] * (2 + gpu_timing.WARM_UP)


def test_a_contender_that_fails_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(_: int) -> None:
        raise ValueError("no compiler")

    kept, failures = gpu_timing.working({"graphc": lambda _: None, "compile": fails})
    assert list(kept) == ["graphc"]
    assert failures == {"compile": "ValueError: no compiler"}
    assert "no compiler" in capsys.readouterr().err  # with its traceback
    with pytest.raises(ValueError, match="no compiler"):
        gpu_timing.working({"graphc": fails})


def test_the_limit_is_the_larger_of_traffic_and_work() -> None:
    limits = gpu_timing.Limits(1e12, {"float32": 1e13})
    assert limits.seconds(2e12) == 2.0
    assert limits.seconds(2e12, 5e13) == 5.0
    assert limits.seconds(2e12, 1e13) == 2.0


def test_limits_are_the_best_that_were_seen() -> None:
    one = gpu_timing.Limits(1e12, {"float32": 1e13, "tf32": 1.0})
    other = gpu_timing.Limits(2e12, {"float32": 1e12})
    assert one.or_better(other) == gpu_timing.Limits(2e12, {"float32": 1e13, "tf32": 1.0})

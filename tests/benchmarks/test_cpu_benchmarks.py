"""The benchmarks of a CPU compare equals: same mathematics, turns, limits, and honest tables."""

from __future__ import annotations

import functools
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import cpu, fairness, limits, peers, race, report
from benchmarks.__main__ import main
from benchmarks.profile_row import PROGRAM, clocked, profile, table
from benchmarks.targets import SPEEDUPS, shortfalls
from benchmarks.workload import Function, Training
from benchmarks.workloads import ROWS, load
from graphc.ir.errors import DeviceError
from graphc.runtime.devices.native_build import find_compiler


def _has_compiler() -> bool:
    try:
        find_compiler()
    except DeviceError:
        return False
    return True


needs_compiler = pytest.mark.skipif(not _has_compiler(), reason="no C compiler")


# -- workloads


def _digest(row: str, name: str) -> fairness.Digest:
    """What a contender gives after the steps that are compared, in this process."""
    workload = load(row, tiny=True)
    runner = peers.build(name, workload)
    for _ in range(fairness.STEPS):
        runner.step()
    begun = load(row, tiny=True)
    return fairness.digest(runner.read(), begun.parameters if isinstance(begun, Training) else {})


@functools.cache
def _ours(row: str) -> fairness.Digest:
    return _digest(row, "graphc-numpy")


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("name", ["torch", "numpy", "onnxruntime", "jax", "tf1", "tf.function"])
def test_contenders_compute_the_same(
    row: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = load(row, tiny=True)
    if not peers.takes_part(name, workload):
        pytest.skip("not in its words")
    package = peers.CONTENDERS[name].package
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    if name == "onnxruntime":
        from benchmarks.peers.graphc_peer import save_onnx

        assert isinstance(workload, Function)
        monkeypatch.setenv(fairness.MODEL, str(tmp_path / "model.onnx"))
        save_onnx(workload, str(tmp_path / "model.onnx"))
    ours, theirs = _ours(row), _digest(row, name)
    assert fairness.difference(ours, theirs) <= workload.tolerance
    assert all(entry["norm"] > 0 for entry in ours.values())


@pytest.mark.parametrize("row", ROWS)
def test_workloads_are_the_same_each_time(row: str) -> None:
    one, other = load(row, tiny=True), load(row, tiny=True)
    if isinstance(one, Training) and isinstance(other, Training):
        pairs = [(one.parameters, other.parameters), (one.batch, other.batch)]
    else:
        assert isinstance(one, Function) and isinstance(other, Function)
        pairs = [(one.inputs, other.inputs), (one.weights, other.weights)]
    for a, b in pairs:
        assert all(np.array_equal(a[n], b[n]) and a[n] is not b[n] for n in a)
        assert all(x.dtype == np.float32 for x in a.values())


def test_products_of_resnet50_are_those_of_the_paper() -> None:
    from benchmarks.workloads.resnet50 import WIDTHS, blocks, multiply_adds

    assert multiply_adds(224, WIDTHS) == pytest.approx(4.09e9, rel=0.01)
    assert sum(1 for _ in blocks(WIDTHS)) == 16


def test_training_alone_has_no_model() -> None:
    with pytest.raises(peers.NotOffered, match="onnxruntime has no part"):
        peers.build("onnxruntime", load("W1", tiny=True))
    with pytest.raises(peers.NotOffered, match="numpy"):
        peers.build("numpy", load("W6", tiny=True))


# -- comparing


def _of(**arrays: Any) -> fairness.Digest:
    return fairness.digest({n: np.asarray(a, np.float32) for n, a in arrays.items()}, {})


def test_differences_are_seen() -> None:
    ours = _of(x=np.ones(10_000))
    assert fairness.difference(ours, _of(x=np.ones(10_000))) == 0.0
    assert fairness.difference(ours, _of(x=np.full(10_000, 1.5))) == pytest.approx(1 / 3)
    unsampled = np.ones(10_000)
    unsampled[:] = np.where(np.arange(10_000) % 2, 3.0, 1.0)
    assert fairness.difference(ours, _of(x=unsampled)) > 0.1
    assert fairness.difference(ours, _of(x=np.ones(9_999))) == float("inf")
    assert fairness.difference(ours, _of(y=np.ones(10_000))) == float("inf")
    assert fairness.difference(ours, _of(x=np.full(10_000, np.nan))) == float("inf")


def test_an_error_outside_the_sample_shows_in_the_norm() -> None:
    array = np.ones(1_000_000)
    chosen = np.random.default_rng(0).choice(array.size, fairness.SAMPLES, replace=False)
    wrong = np.full(array.size, 5.0)
    wrong[chosen] = 1.0
    assert fairness.difference(_of(x=array), _of(x=wrong)) > 0.01


def test_what_is_compared_of_parameters_is_what_steps_added() -> None:
    start = {"w": np.full(5, 1000.0, np.float32)}
    moved = {"w": start["w"] + np.float32(0.5)}
    assert fairness.digest(moved, start)["w"]["sample"] == [0.5] * 5


class Fake:
    """An entrant that needs no process."""

    def __init__(self, step_s: float = 1e-3, fails_at: int | None = None) -> None:
        self.seconds, self.fails_at = step_s, fails_at
        self.asked: list[tuple[int, int]] = []
        self.closed = False

    def step_s(self, steps: int, warm: int) -> float:
        self.asked.append((steps, warm))
        if self.fails_at is not None and len(self.asked) > self.fails_at:
            raise race.ContenderFailed("ended: out of memory")
        return self.seconds

    def used_s(self) -> float:
        return 0.0

    def close(self) -> None:
        self.closed = True


def _field(figures: Mapping[str, Any], **running: Fake) -> race.Field:
    return race.Field(dict(running), {n: dict(f) for n, f in figures.items()})  # type: ignore[arg-type]


def test_who_computes_something_else_is_out() -> None:
    right, wrong = _of(x=[1.0, 2.0]), _of(x=[1.0, 2.1])
    runners = {"graphc": Fake(), "torch": Fake(), "jax": Fake()}
    field = _field(
        {"graphc": {"digest": right}, "torch": {"digest": wrong}, "jax": {"digest": right}},
        **runners,
    )
    race._compare(field, 1e-3)
    assert list(field.running) == ["graphc", "jax"] and runners["torch"].closed
    assert "results differ" in field.figures["torch"]["error"]
    assert field.figures["jax"]["difference"] == 0.0


def test_without_us_the_others_are_compared() -> None:
    field = _field(
        {"graphc": {"error": "no compiler"}, "torch": {"digest": _of(x=[1.0])},
         "jax": {"digest": _of(x=[2.0])}}, torch=Fake(), jax=Fake(),
    )  # fmt: skip
    race._compare(field, 1e-3)
    assert list(field.running) == ["torch"]


# -- turns


def test_work_of_others_is_seen() -> None:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    watch = fairness.Watch.begin(fairness.used_s(process.pid))
    try:
        time.sleep(0.6)
        used = fairness.used_s(process.pid)
        assert used > 0.05
        assert watch.others(used) < watch.others(watch.own_s)  # its work is ours, or another's
    finally:
        process.kill()
        process.wait()
    assert fairness.used_s(process.pid) == 0.0
    assert watch.others(1e6) == 0.0


def test_turns_are_as_long_as_the_pace_says() -> None:
    pace = race.Pace(turn_s=0.2, row_s=10.0, least_rounds=3, most_rounds=9)
    assert pace.steps(0.05) == 4 and pace.steps(3.0) == 1 and pace.steps(1e-9) == 2000
    assert pace.rounds(2.0) == 5 and pace.rounds(100.0) == 3 and pace.rounds(1e-3) == 9


def test_each_has_a_turn_per_round_and_a_failure_stops_nobody_else() -> None:
    quick, slow, fails = Fake(1e-3), Fake(2.0), Fake(fails_at=2)
    field = _field({"graphc": {}, "torch": {}, "jax": {}}, graphc=quick, torch=slow, jax=fails)
    race._turns(field, race.Pace(turn_s=0.1, row_s=5.0, least_rounds=3, most_rounds=4))
    assert quick.asked == [(1, 1)] + [(100, 1)] * 4
    assert slow.asked == [(1, 1)] + [(1, 0)] * 4  # no step of 2 s that does not count
    assert field.figures["jax"] == {"error": "ended: out of memory"} and fails.closed
    assert field.figures["graphc"]["rounds"] == 4 and field.figures["torch"]["step_s"] == 2.0


def test_medians_and_quartiles() -> None:
    figures = race.summary([5.0, 1.0, 2.0, 3.0, 100.0])
    assert (figures["step_s"], figures["best_s"], figures["rounds"]) == (3.0, 1.0, 5)
    assert figures["quartiles_s"] == [2.0, 5.0]


def _state(process: Any) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def test_who_waits_is_stopped(tmp_path: Path) -> None:
    entrant = race.Entrant("W1", "numpy", tmp_path, tmp_path / "none", tiny=True)
    try:
        first = entrant.answer(60)
        assert {"first_s", "import_s", "peak_bytes", "digest"} <= set(first)
        assert _state(entrant._process) == "T"
        assert entrant.step_s(2, 1) > 0
        assert _state(entrant._process) == "T"
    finally:
        entrant.close()


def test_a_contender_that_ends_is_reported(tmp_path: Path) -> None:
    entrant = race.Entrant("W1", "nobody", tmp_path, tmp_path / "none", tiny=True)
    try:
        with pytest.raises(race.ContenderFailed, match="invalid choice"):
            entrant.answer(60)
    finally:
        entrant.close()


def test_a_race_in_small() -> None:
    workload = load("W8s", tiny=True)
    pace = race.Pace(turn_s=1e-3, row_s=0.1, least_rounds=2, most_rounds=3, tiny=True)
    field = race.race("W8s", workload, ["graphc-numpy", "numpy", "onnxruntime"], pace)
    figures = field.figures
    assert 0.0 <= field.others <= 1.5
    assert list(figures) == ["graphc-numpy", "numpy", "onnxruntime"]
    for name in ("graphc-numpy", "numpy"):
        assert figures[name]["step_s"] > 0 and figures[name]["peak_bytes"] > 1 << 20
    assert figures["numpy"]["difference"] <= workload.tolerance


# -- limits


def test_the_limit_is_the_larger_of_traffic_and_products() -> None:
    found = limits.Limits(1e9, 1e10)
    assert found.seconds(2e9, 0) == 2.0 and found.seconds(1e9, 5e10) == 5.0
    better = found.or_better(limits.Limits(2e9, 1e9))
    assert better == limits.Limits(2e9, 1e10)
    assert limits.least_traffic(load("W8s", tiny=True)) == 2 * 7 * 33 * 4
    assert limits.least_traffic(load("W1", tiny=True)) == 0.0


@needs_compiler
def test_limits_are_measured() -> None:
    found = limits.measured()
    assert 1e8 < found.bytes_per_s < 1e13 and 1e8 < found.flops_per_s < 1e14


# -- tables


def _step(step_s: float, **more: Any) -> dict[str, Any]:
    figures = {"step_s": step_s, "first_s": 0.5, "peak_bytes": 100_000_000, "difference": 0.0}
    figures["best_s"] = step_s / 2 if step_s == 4e-3 else step_s * 0.9
    return {**figures, **more}


def _contents() -> dict[str, Any]:
    contenders = {
        "graphc": _step(1e-3, warm_first_s=0.1), "numpy": _step(1e-4), "torch": _step(4e-3),
        "jax": _step(2e-3, difference=1e-6),
        "tf1": {"error": "results differ by 0.5, more than 0.001"},
        "onnxruntime": {"absent": "not installed: onnxruntime"},
    }  # fmt: skip
    workload = replace(load("W8s", tiny=True), title="softmax", traffic=1e7)
    found = limits.Limits(2e10, 1e11)
    row = report.with_limit(report.row_figures(workload, contenders), found)
    return {
        "processor": "Some CPU", "threads": 2, "versions": {"torch": "2"},
        "limits": asdict(found), "rows": {"W8s": row},
    }  # fmt: skip


def test_numpy_by_hand_and_who_failed_are_no_best_peer() -> None:
    row = _contents()["rows"]["W8s"]
    assert row["best_peer"] == "jax"
    assert row["speedup"] == pytest.approx(2.0) and row["of_limit"] == pytest.approx(0.5)
    assert report.failures(row) == ["tf1: results differ by 0.5, more than 0.001"]
    alone = report.row_figures(load("W1", tiny=True), {"torch": _step(1.0)})
    assert "speedup" not in alone and alone["best_peer"] == "torch"


def test_the_page_says_everything() -> None:
    page = report.markdown(_contents())
    assert "| W8s | **1.00** | 0.100 | 4.00 | **2.00** | 0.500 | 2.00 | 1.1 | 50% |" in page
    assert "| W8s | 0.900 | 0.0900 | 2.00 | 1.80 | 2.00 |" in page
    assert "| W8s | 0.500 / 0.100 | 0.500 | 0.500 | 0.500 |" in page
    assert "W8s tf1: results differ" in page and "onnxruntime: not installed" in page
    assert "Geometric mean of best peer / graphc: 2.00; target 1.3" in page
    assert "## Short of the target\n\n- nothing\n" in page
    assert "Others used" not in page and "quickly" not in page
    assert "- W8s: softmax (results agree to 1e-06, jax)" in page
    contents = _contents()
    contents["rows"]["W8s"] |= {"others": 0.25, "quick": True}
    page = report.markdown(contents)
    assert "meanwhile: W8s (25%)." in page and "Measured quickly: W8s." in page


def test_what_falls_short_is_said() -> None:
    row = _contents()["rows"]["W8s"]
    contenders = {
        "graphc": _step(2e-3, warm_first_s=0.2), "graphc-numpy": _step(4e-3),
        "jax": _step(2.1e-3, peak_bytes=90_000_000), "torch": _step(5e-3),
    }  # fmt: skip
    slow = {**row, **report.row_figures(load("W8s", tiny=True), contenders)}
    said = shortfalls({"W8s": slow}, 1.05)
    assert said == [
        "W8s: 1.05 of 1.1 times as fast as jax",
        "W8s: the NumPy back end 0.52 of 1.0 times as fast as jax",
        "W8s: 1.11 of jax's memory, less wanted",
        "geometric mean: 1.05 of 1.3",
    ]
    assert shortfalls({"W2": slow}, None)[0] == "W2: 1.05 of 1.2 times as fast as jax"
    assert "W2: first call from the cache 0.200 s, 0.1 s wanted" in shortfalls({"W2": slow}, None)
    assert shortfalls({"W8s": {**row, "contenders": {}}}, 1.4) == []
    assert {*SPEEDUPS} == {*ROWS}


def test_rows_are_added_to_those_measured_before(tmp_path: Path) -> None:
    path = tmp_path / "some.json"

    def add(name: str, title: str, bytes_per_s: float) -> dict[str, Any]:
        row = {**_contents()["rows"]["W8s"], "title": title}
        facts = {"limits": asdict(limits.Limits(bytes_per_s, 1e11))}
        return report.add_row(path, facts, name, row)

    add("W9", "old", 1e10)
    add("W9", "new", 4e10)
    contents = add("W1", "first", 2e10)
    assert contents == json.loads(path.read_text())
    assert {n: r["title"] for n, r in contents["rows"].items()} == {"W1": "first", "W9": "new"}
    assert list(contents["rows"]) == ["W1", "W9"]
    assert contents["limits"]["bytes_per_s"] == 4e10  # the best that was seen, for every row
    assert [r["of_limit"] for r in contents["rows"].values()] == pytest.approx([0.25, 0.25])


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report.plot(_contents(), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000


def test_names_of_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert cpu.rows_of([]) == list(ROWS)
    assert cpu.rows_of(["W9", "kernels"]) == ["W9", "W7", "W8s", "W8l"]
    with pytest.raises(SystemExit):
        main(["W77"])
    assert "no benchmark 'W77'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["W1", "--only", "theano"])
    assert "no contender 'theano'" in capsys.readouterr().err


# -- the profile


def test_clocks_stand_after_each_launch() -> None:
    body = "    k00_one(b, 0, 8);\n    if (k01_two(b)) return 1;\n    return 0;\n}"
    unit = clocked(f"#include <math.h>\n\n{PROGRAM}\n{body}\n")
    assert unit.launches == ("k00_one(b, 0, 8);", "if (k01_two(b)) return 1;")
    assert "k00_one(b, 0, 8); gc_profile_tick(0);" in unit.text
    assert "if (k01_two(b)) return 1; gc_profile_tick(1);" in unit.text
    assert "return 0; gc_profile" not in unit.text


@needs_compiler
@pytest.mark.parametrize("row", ["W1", "W2", "W9"])
def test_kernels_are_profiled(row: str) -> None:
    per_kernel, whole, device = profile(load(row, tiny=True), steps=3)
    assert device.program is not None
    assert set(per_kernel) <= set(device.kernels) and len(per_kernel) >= 1
    assert 0 < sum(per_kernel.values()) <= whole
    assert "a step" in table(per_kernel, whole, device)


def test_all_that_graphc_imports_is_compiled_to_bytecode(tmp_path: Path) -> None:
    for folder in ("benchmarks", "graphc/ir", "frontend"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "module.py").write_text("x = 1\n")
    (tmp_path / "graphc" / "frontend").symlink_to("../frontend")
    fairness.compile_bytecode(tmp_path)
    assert len(list(tmp_path.rglob("__pycache__/module.*.pyc"))) == 3

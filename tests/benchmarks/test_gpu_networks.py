"""What a machine without a GPU can say about a GPU's rows of networks: equal values, honest tables.

Tiny networks are built by the contenders' own modules, on the CPU; figures are made up.
"""

from __future__ import annotations

import fnmatch
import io
import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import gpu, gpu_contender, gpu_peers, gpu_report, report
from benchmarks.__main__ import main
from benchmarks.gpu_peers import Manner
from benchmarks.gpu_rows import GROUPS, ROWS, STEP_ROWS, SUITES, TRAINING, rows_of
from benchmarks.peers import NotOffered
from benchmarks.race import ContenderFailed
from benchmarks.targets import GPU_ROWS, GPU_SUITES, gpu_shortfalls, suite_means
from benchmarks.workload import Training
from benchmarks.workloads import language, resnet50_training
from graphc.runtime import devices
from tests.gpu import has_gpu
from tests.runtime.triton_stand_in import stand_in

no_gpu = pytest.mark.skipif(has_gpu(), reason="there is a GPU")

# -- networks


def _figures(row: str, name: str) -> dict[str, Any]:
    return gpu_contender.step_figures(STEP_ROWS[row], name, tiny=True, on_gpu=False)


@pytest.mark.parametrize("row", STEP_ROWS)
@pytest.mark.parametrize("peer", ["torch", "jax"])
def test_contenders_compute_the_same(row: str, peer: str) -> None:
    pytest.importorskip(peer)
    figures = {n: _figures(row, n) for n in ("graphc", peer)}
    values = figures["graphc"]["values"]
    assert len(values) == gpu_contender.COMPARED_STEPS
    assert (values[0] != values[1]) == (row in TRAINING)  # it learns
    gpu.compare(figures, STEP_ROWS[row].tolerance)
    for f in figures.values():
        assert "error" not in f and f["step_s"] > 0 and f["first_s"] > 0
        assert ("host_s" in f) == STEP_ROWS[row].manner.fed


@pytest.mark.parametrize("network", ["bert", "gpt2"])
def test_language_models_learn_alike_in_float32(network: str) -> None:
    work = language.workload(network, tiny=True, dtype="float32")
    steps = [gpu_peers.build(n, work, Manner(on_gpu=False)) for n in ("graphc", "torch")]
    ours, theirs = ([float(s.value()[0]) for _ in range(4)] for s in steps)
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert ours[0] - ours[3] > 1e-4


def test_language_models_have_the_sizes_of_their_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "normal", lambda _, shape, __: np.empty(shape, np.float32))
    counts = {}
    for network, sizes in (("bert", language.BERT), ("gpt2", language.GPT2)):
        made = language.parameters(sizes, transforms=network == "bert")
        counts[network] = sum(a.size for a in made.values())
    assert counts["bert"] == pytest.approx(110e6, rel=0.01)
    assert counts["gpt2"] == pytest.approx(124e6, rel=0.01)
    # six operations per parameter and token, and the scores of attention
    products = language.multiply_adds(language.GPT2, causal=True, transforms=False)
    assert 2 * 3 * products == pytest.approx(6 * 124e6 * 8 * 1024, rel=0.1)


def test_a_network_has_the_batch_that_is_asked_for() -> None:
    assert language.workload("gpt2", tiny=True, batch=3).batch["ids"].shape == (3, 6)
    work = resnet50_training.workload(tiny=True)
    assert not any("mean" in n or "variance" in n for n in work.parameters)
    assert STEP_ROWS["step_resnet50"].arguments == {"batch": 128}


def test_words_must_be_there() -> None:
    work = language.workload("gpt2", tiny=True)
    with pytest.raises(NotOffered, match="GPT-2"):
        gpu_peers.build("tf1", work, Manner(on_gpu=False))


@pytest.mark.parametrize("row", ["step_softmax_regression", "infer_perceptron"])
@pytest.mark.parametrize("fed", [True, False])
def test_graphc_on_a_stand_in_for_a_gpu(
    row: str, fed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton")
    device, stand = stand_in(monkeypatch)
    monkeypatch.setitem(devices.DEVICES, "triton", lambda: device)
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 17)
    work = STEP_ROWS[row].load(tiny=True)
    steps = gpu_peers.build("graphc", work, Manner(fed=fed))
    first, peak = steps.value(), steps.peak_bytes()
    steps.queue()  # compiles, or feeds
    stand.log.clear()
    steps.queue()
    assert not any(entry == "wait for main" for entry in stand.log), "nothing is waited for"
    assert any(entry.endswith("on main") for entry in stand.log), "something is computed"
    assert peak == 17
    reference = gpu_peers.build("torch", work, Manner(on_gpu=False))
    assert first[0] == pytest.approx(reference.value()[0], rel=1e-5)
    if isinstance(work, Training):  # the steps that were queued count
        for _ in range(2 if fed else 3):
            reference.value()
        assert steps.value()[0] == pytest.approx(reference.value()[0], rel=1e-4)


# -- comparing


def _ran(*values: Any, step_s: float = 1.0) -> dict[str, Any]:
    return {"step_s": step_s, "values": [[float(v)] for v in values]}


def test_who_differs_has_an_error_and_no_time() -> None:
    contenders = {
        "graphc": _ran(2.0, 1.0), "torch": _ran(2.001, 1.3), "torch.compile": _ran(2.1, 1.0),
        "jax": _ran(2.0, 1.6),
    }  # fmt: skip
    gpu.compare(contenders, 1e-2)
    assert {n for n, f in contenders.items() if "step_s" in f} == {"graphc", "torch"}
    assert "0.05, more than 0.01" in contenders["torch.compile"]["error"]
    assert "[[2.0], [1.6]], graphc's [[2.0], [1.0]]" in contenders["jax"]["error"]
    assert not any("values" in f for f in contenders.values())


def test_losses_move_alike() -> None:
    ours = [[2.0], [1.9]]
    assert gpu.moved_alike(ours, [[2.001], [1.93]], 1e-3)
    assert not gpu.moved_alike(ours, [[2.0], [2.1]], 1e-3)
    assert not gpu.moved_alike(ours, [[2.0], [float("nan")]], 1e-3)
    assert gpu.moved_alike([[2.0], [2.0]], [[2.0], [2.00001]], 1e-3)  # inference, or roundings


def test_what_cannot_be_compared_differs() -> None:
    assert gpu.difference([1.0], [1.0, 2.0]) == float("inf")
    assert gpu.difference([1.0], [float("nan")]) == float("inf")
    assert gpu.difference([0.0, 2.0], [0.0, 1.0]) == 0.5


# -- processes


def test_each_contender_has_its_turn() -> None:
    asked: list[tuple[str, str, bool]] = []

    def figures(row: str, name: str, limit_s: float) -> dict[str, Any]:
        asked.append((row, name, 0 < limit_s <= gpu.ROW_LIMIT_S))
        if name == "jax":
            return {"absent": "not installed: jax"}
        return {
            **_ran(1.0, 0.5, step_s={"graphc": 1.0}.get(name, 3.0)),
            "first_s": 2.0,
            "peak_bytes": 5,
        }

    row = gpu.steps_row("step_perceptron", STEP_ROWS["step_perceptron"], figures)
    assert asked == [("step_perceptron", n, True) for n in gpu_peers.NAMES]
    assert row["best_peer"] == "torch" and row["speedup"] == 3.0
    assert row["title"] == "perceptron 64-128-128-10, batch 32, Adam step"
    assert report.failures(row) == []


@no_gpu
def test_a_contender_without_a_device_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    figures = gpu.contender_figures("infer_perceptron", "graphc", 120.0)
    assert "step_s" not in figures and "error" in figures
    assert "Traceback" in capsys.readouterr().err


class FakeProcess:
    """Answers what it was given; an error is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.closed = list(answers), False

    def ask(self, request: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {**answer, "row": request["row"]}

    def printed(self) -> str:
        return "what it printed"

    def close(self) -> None:
        self.closed = True


def test_kernels_get_a_new_process_after_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = {"contenders": {"graphc": {"step_s": 1.0}, "torch": {"step_s": 2.0}}}
    begun = [
        FakeProcess(good, {"failure": "illegal address"}), FakeProcess(ContenderFailed("ended")),
        FakeProcess(good),
    ]  # fmt: skip
    left = list(begun)
    monkeypatch.setattr(gpu, "Process", lambda *_: left.pop(0))
    kernels = gpu.Kernels()
    assert kernels.row("softmax")["speedup"] == 2.0
    for reason in ("illegal address", "ended"):
        with pytest.raises(gpu.RowFailed, match=reason):
            kernels.row("sum_all")
        assert "what it printed" in capsys.readouterr().err
    assert kernels.row("sum_all")["row"] == "sum_all"
    assert [p.closed for p in begun] == [True, True, False]
    kernels.close()
    assert begun[2].closed


# -- choosing and saving

LIMITS = {"bytes_per_s": 4e12, "flops_per_s": {"bfloat16": 8e14, "tf32": 4e14, "float32": 5e13}}
FACTS = {"gpu": "NVIDIA H200", "versions": {"torch": "2", "triton": "3"}, "limits": LIMITS}


def _row(ours: float = 1e-4, **more: Any) -> dict[str, Any]:
    given = {"title": "a row", "precision": "float32", "traffic": 2e8, "flops": 0.0}
    steps = {"graphc": ours, "torch": 3e-4, "torch.compile": 2e-4, "jax": 1.5e-4}
    contenders = {n: {"step_s": s, **more.get(n.replace(".", "_"), {})} for n, s in steps.items()}
    return report.with_contenders(given, contenders)


def test_groups_are_rows() -> None:
    assert {n for names in GROUPS.values() for n in names} == set(ROWS)
    assert rows_of([]) == list(ROWS)
    assert rows_of(["small", "infer_lenet", "adam"]) == [*GROUPS["small"], "adam"]
    assert GPU_ROWS.keys() <= set(ROWS)
    assert {n for parts in SUITES.values() for p in parts.values() for n in p} == set(STEP_ROWS)
    trained = {n for n, row in STEP_ROWS.items() if isinstance(row.load(tiny=True), Training)}
    assert trained == set(TRAINING)


def test_rows_are_added_to_those_measured_before(tmp_path: Path) -> None:
    path = gpu.result_path("NVIDIA H200 (80GB)", tmp_path)
    assert path.name == "nvidia-h200-80gb.json"
    gpu.measure(["softmax", "adam"], path, FACTS, lambda _: _row())
    better = {**LIMITS, "bytes_per_s": 5e12}
    gpu.measure(["gelu_chain", "adam"], path, {**FACTS, "limits": better}, lambda _: _row(1.0))
    saved = json.loads(path.read_text())
    assert list(saved["rows"]) == ["gelu_chain", "softmax", "adam"]  # in the order of ROWS
    assert saved["rows"]["softmax"]["of_limit"] == pytest.approx(2e8 / 5e12 / 1e-4)
    assert saved["rows"]["adam"]["contenders"]["graphc"]["step_s"] == 1.0
    assert path.with_suffix(".md").read_text() == gpu_report.markdown(saved)


def test_a_row_that_fails_leaves_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def one(name: str) -> dict[str, Any]:
        if name == "softmax":
            raise gpu.RowFailed("0.5 away from torch\nmore")
        row = _row()
        row["contenders"]["jax"] = {"error": "no memory"}
        return row

    path = tmp_path / "x.json"
    failed = gpu.measure(["softmax", "adam"], path, FACTS, one)
    assert failed == {"softmax": "0.5 away from torch", "adam": "jax: no memory"}
    assert list(json.loads(path.read_text())["rows"]) == ["adam"]
    assert "0.5 away" in capsys.readouterr().err


# -- the page


def _contents(tmp_path: Path, **rows: dict[str, Any]) -> dict[str, Any]:
    contents: dict[str, Any] = {}
    for name, row in rows.items():
        contents = gpu_report.add_row(tmp_path / "x.json", FACTS, name, row)
    return contents


def _lines_of(page: str, start: str) -> list[str]:
    return [line for line in page.splitlines() if line.startswith(start)]


def test_the_page_has_all_rows_and_targets(tmp_path: Path) -> None:
    page = gpu_report.markdown(_contents(tmp_path, softmax=_row(), pointwise_chain=_row(2.5e-4)))
    (softmax,) = _lines_of(page, "| softmax |")
    times, ratios = "0.100 | 0.300 | 0.200 | 0.150 | 0.0500", "3.00 | 2.00 | 1.50"
    assert softmax == f"| softmax | {times} | {ratios} | 50% |  |"
    (chain,) = _lines_of(page, "| pointwise_chain |")
    assert chain.endswith("| 1.20 | 0.80 | 0.60 | 20% | 2.5 / 1 / 1.05; 93% |")
    (bert,) = _lines_of(page, "| step_bert |")
    assert "not measured" in bert and bert.endswith("| 1.8 / 1.1 / 1.1; 45% |")
    table = page.split("## Suites")[0].splitlines()
    assert len({line.count("|") for line in table if line.startswith("|")}) == 1
    assert "Not measured: gelu_chain, layer_norm," in page
    assert "- pointwise_chain: 1.20 of 2.5 times as fast as torch" in page
    assert "- pointwise_chain: 20% of the limit, 93% wanted" in page
    (suite,) = _lines_of(page, "| training, all |")
    assert suite.count("not measured") == 3 and suite.endswith("| 1.9 / 1.15 / 1.15 |")


def test_the_page_has_memory_compilation_and_the_host(tmp_path: Path) -> None:
    big = {"first_s": 12.0, "peak_bytes": 9e9}
    other = {"first_s": 20.0, "peak_bytes": 10e9}
    step = _row(graphc=big, torch=other, torch_compile=other, jax=other)
    small = _row(graphc={"host_s": 11e-6}, torch={"host_s": 5e-5})
    contents = _contents(tmp_path, infer_lenet=small, step_bert=step)
    page = gpu_report.markdown(contents)
    assert "| step_bert | 9,000 | 10,000 | 10,000 | 10,000 |" in page
    assert "| step_bert | 12.0 | 20.0 | 20.0 | 20.0 |" in page
    assert "| infer_lenet | 11.0 | 50.0 |  |  | 12 |" in page
    short = gpu_shortfalls(contents["rows"])
    assert "step_bert: 0.90 of torch's peak memory, 0.8 wanted" in short
    assert "step_bert: 0.60 of torch.compile's first call, 0.2 wanted" in short
    assert "step_bert: 12.0 s, 10 s wanted" in [s.replace("first call ", "") for s in short]
    assert not any("torch.compile's peak" in s or "of the host" in s for s in short)


def test_suites_are_geometric_means() -> None:
    parts = SUITES["training"]
    rows = {n: _row() for n in parts["small batches"]} | {"softmax": _row(1.0)}
    means = suite_means(rows)
    assert means["training", "small batches"]["torch"] == pytest.approx(3.0)
    assert means["training", "all"] == {} == means["inference", "all"]  # not all are measured
    rows |= {n: _row(0.75e-4) for n in parts["large batches"]}
    assert suite_means(rows)["training", "all"]["torch"] == pytest.approx((3.0 * 4.0) ** 0.5)
    short = gpu_shortfalls({n: _row(2e-4) for n in TRAINING})
    assert f"training: 1.50 of {GPU_SUITES['training']['torch']} times torch" in short
    assert "step_lenet: 0.75 of its best peer, jax" in short


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    contents = _contents(tmp_path, softmax=_row(), step_bert=_row())
    assert [p.suffix for p in gpu_report.write(contents, tmp_path / "x.json")] == [
        ".json", ".md", ".png"
    ]  # fmt: skip


def test_a_contenders_figures_in_words() -> None:
    assert gpu_report.line({"absent": "no GPU"}) == "no GPU"
    said = gpu_report.line({"step_s": 1e-3, "first_s": 2.0, "peak_bytes": 3e6, "host_s": 4e-6})
    assert "1.0000 ms" in said and "2.00 s" in said and "3 MB" in said and "4.0 us" in said


# -- the command


def test_a_whole_run_in_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def figures(row: str, name: str, limit_s: float) -> dict[str, Any]:
        return {"absent": "too slow"} if name in ("torch.compile", "jax") else _figures(row, name)

    monkeypatch.setattr(gpu, "has_gpu", lambda: True)
    monkeypatch.setattr(gpu, "_facts", lambda: FACTS)
    monkeypatch.setattr(gpu, "result_path", lambda _: tmp_path / "h200.json")
    monkeypatch.setattr(gpu, "steps_row", partial(gpu.steps_row, figures=figures))
    assert gpu.main(["infer_perceptron", "step_softmax_regression"]) == 0
    said = capsys.readouterr().out
    assert "jax            too slow" in said and "# NVIDIA H200" in said
    saved = json.loads((tmp_path / "h200.json").read_text())
    assert list(saved["rows"]) == ["step_softmax_regression", "infer_perceptron"]
    assert saved["rows"]["infer_perceptron"]["best_peer"] == "torch"
    assert "- jax: too slow" in (tmp_path / "h200.md").read_text()


@no_gpu
def test_questions_are_answered_line_by_line() -> None:
    questions = [{"row": "matmul_float32"}, {"row": "infer_lenet", "contender": "graphc"}]
    answers = io.StringIO()
    gpu_contender.serve(io.StringIO("".join(json.dumps(q) + "\n" for q in questions)), answers)
    kernel, step = map(json.loads, answers.getvalue().splitlines())
    for said in (kernel["failure"], step["error"]):
        assert re.search("CUDA|NVIDIA", said)


def test_docs_name_the_rows_that_there_are() -> None:
    text = (Path(__file__).parents[2] / "docs" / "gpu.md").read_text()
    lines = [line.split("|")[2] for line in text.splitlines() if line.startswith("| ")][1:]
    patterns = [p for cell in lines for p in re.findall(r"`(.*?)`", cell)]
    found = {p: set(fnmatch.filter(ROWS, p)) for p in patterns}
    assert all(found.values()) and set().union(*found.values()) >= GPU_ROWS.keys()
    for group in GROUPS:
        assert f"`{group}`" in text


@no_gpu
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", "gpu", "softmax"]) == 2
    assert "no NVIDIA GPU" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--device", "gpu", "kernel"], ["softmax"]], ids=str)
def test_unknown_rows_are_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    said = capsys.readouterr().err
    assert f"no benchmark {arguments[-1]!r}" in said
    assert ("softmax," in said) == ("gpu" in arguments)


def test_values_are_the_first_elements() -> None:
    arrays = [np.zeros((2, 2), np.float32), np.ones(gpu_contender.MOST_VALUES, np.float32)]
    flat = gpu_contender.flat(arrays)
    assert flat.shape == (gpu_contender.MOST_VALUES,) and flat[:5].tolist() == [0, 0, 0, 0, 1]

"""The rows on a CPU: limits, races, and what is written about them."""

from __future__ import annotations

import importlib.metadata
import os
import traceback
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import fairness, limits, report
from benchmarks.measure import RESULTS, machine, processor
from benchmarks.peers import CONTENDERS
from benchmarks.race import QUICK, ROOT, Pace, race
from benchmarks.workloads import ROWS, load

# Names that rows had before they were rows.
GROUPS = {"softmax_regression": ("W1",), "kernels": ("W7", "W8s", "W8l", "W9")}
PACKAGES = ("numpy", "torch", "triton", "jax", "tensorflow", "tensorflow-cpu", "onnxruntime")


def versions() -> dict[str, str]:
    """Of the packages that are there."""
    found = {}
    for name in PACKAGES:
        try:
            found[name.removesuffix("-cpu")] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _facts(measured: limits.Limits) -> dict[str, Any]:
    return {
        "machine": machine(), "processor": f"{processor()} x{os.cpu_count()}",
        "threads": fairness.THREADS, "versions": versions(),
        "limits": asdict(measured),
    }  # fmt: skip


def measure_row(name: str, names: Sequence[str], pace: Pace) -> dict[str, Any]:
    """One row's figures."""
    workload = load(name, pace.tiny)
    field = race(name, workload, names, pace)
    return {**report.row_figures(workload, field.figures), "others": round(field.others, 3)}


def _say(row: dict[str, Any]) -> None:
    for name, figures in row["contenders"].items():
        if "step_s" in figures:
            text = f"{figures['step_s'] * 1e3:10.3f} ms   first {figures['first_s']:6.2f} s"
            text += f"   peak {figures['peak_bytes'] / 1e6:6.0f} MB"
        else:
            text = figures.get("error") or figures.get("absent") or "no figures"
        print(f"   {name:14} {text}", flush=True)
    if "speedup" in row:
        print(f"   {row['best_peer']} / graphc: {row['speedup']:.2f}", flush=True)


def rows_of(names: Sequence[str]) -> list[str]:
    """The rows that these names mean, each once; all for none."""
    wanted = [row for name in names for row in GROUPS.get(name, (name,))]
    return list(dict.fromkeys(wanted)) or list(ROWS)


def main(
    names: Sequence[str], contenders: Sequence[str] = (), quick: bool = False,
    tiny: bool = False, folder: Path = RESULTS,
) -> int:  # fmt: skip
    """Measure the rows, print, and write the results; 1 when a row failed."""
    fairness.pin()
    if not tiny:
        fairness.compile_bytecode(ROOT)
    measured = limits.measured()
    print(
        f"{processor()}: {measured.bytes_per_s / 1e9:.1f} GB/s, "
        f"{measured.flops_per_s / 1e9:.0f} GFLOP/s, {fairness.THREADS} threads"
    )
    pace = replace(QUICK if quick else Pace(), tiny=tiny)
    path, failed = folder / f"{machine()}.json", False
    contents: dict[str, Any] = {}
    for name in rows_of(names):
        print(f"-- {name} {load(name, True).title if tiny else ''}", flush=True)
        try:
            row = measure_row(name, contenders or tuple(CONTENDERS), pace)
        except Exception as error:  # the other rows go on
            traceback.print_exc()
            print(f"{name} failed: {error}")
            failed = True
            continue
        _say(row)
        failed |= bool(report.failures(row))
        measured = measured.or_better(limits.measured())
        row |= {"quick": True} if quick else {}
        contents = report.add_row(path, _facts(measured), name, row)
    if contents:
        print(report.markdown(contents))
        print("saved", *report.write(contents, path))
    return int(failed)

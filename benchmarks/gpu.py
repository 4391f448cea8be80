"""The benchmarks of a GPU: `python -m benchmarks --device gpu [row or group ...]`.

Rows of kernels are measured in one process, the contenders in turns; of networks' rows each
contender has a process of its own, one after the other, with empty caches of compiled code. The
figures are added to benchmarks/results/<gpu>.json row by row, so that rows may be measured in
several runs; a page and a plot are written beside it.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import fairness, gpu_report, report
from benchmarks.cpu import versions
from benchmarks.gpu_contender import ENVIRONMENT
from benchmarks.gpu_peers import NAMES
from benchmarks.gpu_rows import KERNEL_ROWS, STEP_ROWS, StepRow, rows_of
from benchmarks.limits import least_traffic
from benchmarks.measure import RESULTS
from benchmarks.race import ContenderFailed, Figures, Process

ROW_LIMIT_S: Final = 540.0  # of all contenders of a row together
PROCESS: Final = ("benchmarks.gpu_contender",)
Row = dict[str, Any]
Values = list[list[float]]  # per step


class RowFailed(Exception):
    """A row without figures."""


# -- rows of networks


def difference(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The largest difference, over the largest number; inf where there is no comparing them."""
    a, b = np.asarray(ours), np.asarray(theirs)
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.inf
    return float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30))


def moved_alike(ours: Values, theirs: Values, tolerance: float) -> bool:
    """Whether the first step has changed the loss by as much, to half of it: the gradients are the
    same, and the optimizer, whatever roundings have grown to. Changes that roundings may be, a
    hundredth of the tolerance, count for nothing; outputs of inference do not change."""
    a, b = (np.asarray(v[1]) - np.asarray(v[0]) for v in (ours, theirs))
    scale = np.maximum(np.abs(a), np.abs(b))
    least = 0.01 * tolerance * np.abs(ours[0]).max()
    return bool((np.abs(a - b) <= 0.5 * scale + least).all())


def compare(contenders: Mapping[str, Figures], tolerance: float) -> None:
    """Compare with graphc's values, or with the first one's; who differs has an error and no time.

    The first values are outputs, or the loss of equal weights.
    """
    values = {n: f.pop("values") for n, f in contenders.items() if "values" in f}
    reference: Values = next(iter(values.values()), [])
    for name, given in values.items():
        error = difference(reference[0], given[0])
        contenders[name]["difference"] = error
        if not error <= tolerance:
            said = f"results differ by {error:.2g}, more than {tolerance:g}"
        elif not moved_alike(reference, given, tolerance):
            said = f"losses of the first steps: {given}, graphc's {reference}"
        else:
            continue
        contenders[name]["error"] = said
        del contenders[name]["step_s"]


def contender_figures(row: str, name: str, limit_s: float) -> Figures:
    """One contender's, from a process of its own with caches of its own."""
    with tempfile.TemporaryDirectory(prefix="graphc-bench-") as folder:
        places = fairness.cache_places(Path(folder))
        process = Process(PROCESS, {**os.environ, **ENVIRONMENT, **places})
        try:
            figures = process.ask({"row": row, "contender": name}, limit_s)
            if "error" in figures:
                print(process.printed(), file=sys.stderr)
        except (ContenderFailed, BrokenPipeError) as error:
            print(process.printed(), file=sys.stderr)
            figures = {"error": str(error)}
        finally:
            process.close()
    return figures


def steps_row(
    name: str, row: StepRow, figures: Callable[[str, str, float], Figures] = contender_figures
) -> Row:
    """A network's row; `figures` measures one contender in so many seconds at most."""
    work, end = row.load(), time.monotonic() + ROW_LIMIT_S
    described = {
        "title": work.title, "precision": row.manner.precision, "tolerance": row.tolerance,
        "traffic": least_traffic(work), "flops": work.flops,
    }  # fmt: skip
    del work  # memory that the contenders need
    contenders: dict[str, Figures] = {}
    for contender in NAMES:
        contenders[contender] = figures(name, contender, max(end - time.monotonic(), 1.0))
        print(f"   {contender:14} {gpu_report.line(contenders[contender])}", flush=True)
    compare(contenders, row.tolerance)
    return report.with_contenders(described, contenders)


# -- rows of kernels


class Kernels:
    """The process of kernels' rows: begun when it is wanted, and anew after a failure, which may
    have left the device in any state."""

    def __init__(self) -> None:
        self.process: Process | None = None

    def row(self, name: str) -> Row:
        """A row. RowFailed with the reason."""
        self.process = self.process or Process(PROCESS, {**os.environ, **ENVIRONMENT})
        try:
            answer = self.process.ask({"row": name}, ROW_LIMIT_S)
        except (ContenderFailed, BrokenPipeError) as error:
            answer = {"failure": str(error)}
        if "failure" in answer:
            print(self.process.printed(), file=sys.stderr)
            self.close()
            raise RowFailed(answer["failure"])
        for contender, figures in answer["contenders"].items():
            print(f"   {contender:14} {gpu_report.line(figures)}", flush=True)
        return report.with_contenders(answer, answer.pop("contenders"))

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.close()
        self.process = None


@contextmanager
def _measuring() -> Iterator[Callable[[str], Row]]:
    """What measures a row by its name."""
    kernels = Kernels()

    def row(name: str) -> Row:
        if name not in STEP_ROWS:
            return kernels.row(name)
        kernels.close()  # its memory is the device's
        return steps_row(name, STEP_ROWS[name])

    try:
        yield row
    finally:
        kernels.close()


# -- all rows


def result_path(gpu: str, folder: Path = RESULTS) -> Path:
    """Where the figures of a GPU of that name are kept."""
    return folder / f"{re.sub(r'[^a-z0-9]+', '-', gpu.lower()).strip('-')}.json"


def measure(
    names: Sequence[str],
    path: Path,
    facts: Mapping[str, Any],
    one: Callable[[str], Row],
) -> dict[str, str]:
    """Measure the rows one after the other and write each; gives what failed, by row."""
    failed: dict[str, str] = {}
    for name in names:
        print(f"-- {name}", flush=True)
        try:
            row = one(name)
        except Exception as error:  # the other rows go on
            traceback.print_exc()
            failed[name] = (str(error).strip() or type(error).__name__).splitlines()[0]
            continue
        gpu_report.add_row(path, facts, name, row)
        if said := report.failures(row):
            failed[name] = "; ".join(said)
    return failed


def has_gpu() -> bool:
    """True where torch finds one."""
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def _facts() -> dict[str, Any]:
    """The GPU, what it can do, and the versions of all that is compared."""
    import torch

    from benchmarks.gpu_timing import EventTimer, measured_limits

    limits = measured_limits(EventTimer())
    torch.cuda.empty_cache()
    return {
        "gpu": torch.cuda.get_device_name(0), "versions": versions(), "limits": asdict(limits)
    }  # fmt: skip


def main(names: Sequence[str] = ()) -> int:
    """Measure the rows, print and write the page; 2 where there is no GPU, 1 when a row failed."""
    if not has_gpu():
        print("benchmarks: no NVIDIA GPU here, or no torch that finds it", file=sys.stderr)
        return 2
    facts = _facts()
    path = result_path(facts["gpu"])
    with _measuring() as one:
        failed = measure(rows_of(names), path, facts, one)
    if path.exists():
        contents = json.loads(path.read_text())
        print(gpu_report.markdown(contents))
        print("saved", *gpu_report.write(contents, path))
    for name, reason in failed.items():
        print(f"failed: {name}: {reason}", file=sys.stderr)
    return int(bool(failed))


__all__ = ["KERNEL_ROWS", "compare", "main", "measure", "result_path", "steps_row"]

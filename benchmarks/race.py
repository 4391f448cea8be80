"""The race of one row: starts the contenders, hands out turns, compares, and gives the figures."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import fairness
from benchmarks.peers import CONTENDERS, takes_part
from benchmarks.workload import Function, Workload

ROOT = Path(__file__).resolve().parents[1]
OURS = "graphc"
FIRST_LIMIT_S, STEP_LIMIT_S = 420.0, 120.0
Figures = dict[str, Any]


@dataclass(frozen=True)
class Pace:
    """How long a row is measured: seconds of a turn, of all turns, and bounds of their number."""

    turn_s: float = 0.2
    row_s: float = 60.0
    least_rounds: int = 5
    most_rounds: int = 21
    tiny: bool = False

    def steps(self, step_s: float) -> int:
        """How many steps a turn has."""
        return max(1, min(2000, int(self.turn_s / max(step_s, 1e-9))))

    def rounds(self, turns_s: float) -> int:
        """How many rounds, when one of them takes so long."""
        fitting = int(self.row_s / max(turns_s, 1e-9))
        return max(self.least_rounds, min(self.most_rounds, fitting))


QUICK = Pace(turn_s=0.1, row_s=8.0, least_rounds=3, most_rounds=7)


class ContenderFailed(Exception):
    """A contender's process has ended, or does not answer in time."""


class Process:
    """A child that answers with lines of JSON; what else it prints is kept."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the process)
        self._process = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=ROOT, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=environment,
        )  # fmt: skip

    def answer(self, limit_s: float) -> Figures:
        """Its next line. ContenderFailed where there is none in time."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], limit_s)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            why = "ended" if ready else f"gave no answer in {limit_s:.0f} s"
            raise ContenderFailed(f"{why}: {self._last_words()}")
        answer: Figures = json.loads(line)
        return answer

    def ask(self, request: Mapping[str, Any], limit_s: float) -> Figures:
        """Its answer to a line of JSON."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        return self.answer(limit_s)

    def printed(self) -> str:
        """All that it has printed."""
        self._log.seek(0)
        return self._log.read()

    def _last_words(self) -> str:
        lines = [line.strip() for line in self.printed().splitlines() if line.strip()]
        return lines[-1][:300] if lines else "without a word"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._log.close()


class Entrant(Process):
    """A contender's process; stopped except while it is asked."""

    def __init__(self, row: str, name: str, caches: Path, model: Path, tiny: bool) -> None:
        self.name = name
        arguments = ["benchmarks.contender", row, name, *(["--tiny"] if tiny else [])]
        super().__init__(arguments, fairness.environment(caches, model))

    def answer(self, limit_s: float) -> Figures:
        """Its next line; then it is stopped."""
        answer = super().answer(limit_s)
        self._stop()
        return answer

    def _stop(self) -> None:
        """Stop all its threads; returns when they stand still."""
        if self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGSTOP)
            how = os.WSTOPPED | os.WEXITED | os.WNOWAIT
            os.waitid(os.P_PID, self._process.pid, how)

    def step_s(self, steps: int, warm: int, limit_s: float = STEP_LIMIT_S) -> float:
        """Let it run: seconds per step."""
        os.kill(self._process.pid, signal.SIGCONT)
        return float(self.ask({"steps": steps, "warm": warm}, limit_s)["step_s"])

    def used_s(self) -> float:
        """Processors' time so far."""
        return fairness.used_s(self._process.pid)


@dataclass
class Field:
    """Who runs, and what is known of each contender so far."""

    running: dict[str, Entrant]
    figures: dict[str, Figures]
    others: float = 0.0  # the processors' time that other programs took during the turns

    def used_s(self) -> float:
        """Processors' time of this process and of all that run."""
        return time.process_time() + sum(x.used_s() for x in self.running.values())

    def drop(self, name: str, reason: str) -> None:
        """Out of the race, with a reason that the tables show."""
        self.figures[name]["error"] = reason
        self.running.pop(name).close()


@contextmanager
def _entered(
    row: str, names: Sequence[str], places: Mapping[str, Path], model: Path, tiny: bool
) -> Iterator[Field]:
    """Start the contenders one after the other; each builds while the others stand still."""
    field = Field({}, {})
    try:
        for name in names:
            field.running[name] = Entrant(row, name, places[name], model, tiny)
            try:
                answer = field.running[name].answer(FIRST_LIMIT_S)
            except ContenderFailed as error:
                answer = {"error": str(error)}
            field.figures[name] = answer
            if "first_s" not in answer:
                field.running.pop(name).close()
        yield field
    finally:
        for entrant in field.running.values():
            entrant.close()


def _compare(field: Field, tolerance: float) -> None:
    """Compare all digests with ours, or with the first one's; who differs is an error."""
    digests = {n: f.pop("digest") for n, f in field.figures.items() if "digest" in f}
    reference = digests.get(OURS) or next(iter(digests.values()), None)
    for name, given in digests.items():
        assert reference is not None
        error = fairness.difference(reference, given)
        field.figures[name]["difference"] = error
        if not error <= tolerance:
            field.drop(name, f"results differ by {error:.2g}, more than {tolerance:g}")


def _turns(field: Field, pace: Pace) -> None:
    """Rounds in which each contender has a turn, in an order that changes."""
    seconds: dict[str, list[float]] = {}
    counts: dict[str, tuple[int, int]] = {}
    for name in list(field.running):
        step_s = _ask(field, name, 1, 1)
        if step_s is not None:
            counts[name] = pace.steps(step_s), 0 if step_s > 1.0 else 1
            seconds[name] = []
    watch, start = fairness.Watch.begin(field.used_s()), time.perf_counter()
    _round(field, counts, seconds, 0)
    for number in range(1, pace.rounds(time.perf_counter() - start)):
        _round(field, counts, seconds, number)
    field.others = watch.others(field.used_s())
    for name in field.running:
        field.figures[name] |= summary(seconds[name])


def _round(
    field: Field, counts: Mapping[str, tuple[int, int]], seconds: dict[str, list[float]],
    number: int,
) -> None:  # fmt: skip
    for name in random.Random(number).sample(sorted(field.running), len(field.running)):
        step_s = _ask(field, name, *counts[name])
        if step_s is not None:
            seconds[name].append(step_s)


def _ask(field: Field, name: str, steps: int, warm: int) -> float | None:
    try:
        return field.running[name].step_s(steps, warm)
    except (ContenderFailed, BrokenPipeError) as error:
        field.drop(name, str(error))
        return None


def summary(seconds: Sequence[float]) -> Figures:
    """The median of rounds, and their spread."""
    low, middle, high = np.quantile(seconds, (0.25, 0.5, 0.75))
    return {
        "step_s": float(middle), "quartiles_s": [float(low), float(high)],
        "best_s": float(min(seconds)), "rounds": len(seconds),
    }  # fmt: skip


def _warm_figures(row: str, field: Field, places: Mapping[str, Path], model: Path) -> None:
    """The first call in a second process, which finds what the first one compiled."""
    for name, figures in field.figures.items():
        if "step_s" in figures and CONTENDERS[name].keeps_compiled:
            entrant = Entrant(row, name, places[name], model, False)
            try:
                figures["warm_first_s"] = entrant.answer(FIRST_LIMIT_S)["first_s"]
            except ContenderFailed as error:
                figures["warm_error"] = str(error)
            finally:
                entrant.close()


def _save_model(row: str, path: Path, tiny: bool) -> str | None:
    """Write the ONNX model; gives the reason where that fails."""
    command = [sys.executable, "-m", "benchmarks.contender", row, "--save-onnx", str(path)]
    done = subprocess.run(
        [*command, *(["--tiny"] if tiny else [])],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = done.stderr.strip().splitlines()
    return f"no model: {lines[-1][:300] if lines else done.returncode}" if done.returncode else None


def race(row: str, workload: Workload, names: Sequence[str], pace: Pace) -> Field:
    """Per contender its figures, or `error`, or `absent` with the reason."""
    names = [n for n in names if takes_part(n, workload)]
    with tempfile.TemporaryDirectory(prefix="graphc-bench-") as folder:
        places = {name: Path(folder) / name for name in names}
        model, unsaved = Path(folder) / "model.onnx", None
        if isinstance(workload, Function) and "onnxruntime" in names:
            unsaved = _save_model(row, model, pace.tiny)
        entering = [n for n in names if not (unsaved and n == "onnxruntime")]
        with _entered(row, entering, places, model, pace.tiny) as field:
            _compare(field, workload.tolerance)
            _turns(field, pace)
        if unsaved:
            field.figures["onnxruntime"] = {"absent": unsaved}
        if not pace.tiny:
            _warm_figures(row, field, places, model)
    return field


__all__ = ["QUICK", "ContenderFailed", "Entrant", "Field", "Pace", "Process", "race", "summary"]

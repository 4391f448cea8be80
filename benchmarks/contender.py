"""A contender's process: builds one row, then does what the parent asks, line by line.

    python -m benchmarks.contender ROW NAME [--tiny]
    python -m benchmarks.contender ROW --save-onnx PATH

Answers are lines of JSON on stdout: first about the building and the first steps, then per
line {"steps": n, "warm": m} the seconds of n steps after m that do not count.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from benchmarks import fairness, peers
from benchmarks.workload import Runner, Training
from benchmarks.workloads import load

Answer = dict[str, Any]


def _imported(name: str) -> float:
    """Seconds that importing the contender's package takes."""
    start = time.perf_counter()
    importlib.import_module(peers.CONTENDERS[name].package)
    return time.perf_counter() - start


def prepare(row: str, name: str, tiny: bool) -> tuple[Runner, Answer]:
    """The runner after its first steps, and what they took and gave.

    `first_s` is from an imported framework and data in memory to the end of the first step: what
    building the graph, tracing and compiling take. The peak is that of building and first steps.
    """
    workload = load(row, tiny)
    answer: Answer = {"import_s": _imported(name)}
    start = time.perf_counter()
    runner = peers.build(name, workload)
    runner.step()
    answer["first_s"] = time.perf_counter() - start
    is_training = isinstance(workload, Training)
    del workload  # memory that the contender does not need
    for _ in range(fairness.STEPS - 1):
        runner.step()
    answer["peak_bytes"] = fairness.peak_bytes()
    again = load(row, tiny) if is_training else None
    begun = again.parameters if isinstance(again, Training) else {}
    answer["digest"] = fairness.digest(runner.read(), begun)
    return runner, answer


def first_answer(row: str, name: str, tiny: bool) -> tuple[Runner | None, Answer]:
    """The runner, or why there is none: `absent` where it need not be, else `error`."""
    try:
        return prepare(row, name, tiny)
    except ImportError as error:
        return None, {"absent": f"not installed: {error.name or error}"}
    except peers.NotOffered as error:
        return None, {"absent": str(error)}
    except Exception as error:  # whatever a peer may raise, the parent reports
        traceback.print_exc()
        lines = str(error).strip().splitlines() or [""]
        return None, {"error": f"{type(error).__name__}: {lines[0][:300]}"}


def timed(step: Callable[[], Any], steps: int, warm: int) -> float:
    """Seconds per step."""
    for _ in range(warm):
        step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - start) / steps


def serve(row: str, name: str, tiny: bool, answers: TextIO) -> None:
    """Answer until the parent closes the pipe."""

    def say(answer: Answer) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    runner, answer = first_answer(row, name, tiny)
    say(answer)
    for line in sys.stdin if runner else ():
        asked = json.loads(line)
        assert runner is not None
        say({"step_s": timed(runner.step, asked["steps"], asked["warm"])})


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve, or save a model."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contender")
    parser.add_argument("row")
    parser.add_argument("name", nargs="?", choices=peers.CONTENDERS)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--save-onnx", metavar="PATH")
    options = parser.parse_args(arguments)
    if options.save_onnx:
        from benchmarks.peers.graphc_peer import save_onnx

        workload = load(options.row, options.tiny)
        assert not isinstance(workload, Training), "training has no ONNX model"
        save_onnx(workload, options.save_onnx)
        return
    fairness.die_with_parent()
    fairness.pin()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not come between the answers
    serve(options.row, options.name, options.tiny, answers)


if __name__ == "__main__":
    main()

"""A process that measures rows of a GPU, as the parent asks, line by line.

    python -m benchmarks.gpu_contender

Questions and answers are lines of JSON. {"row": r} measures a row of kernels, with all contenders
in turns; {"row": r, "contender": c} one contender's steps of a network, in a process of its own, so
that its memory and its first call are its own. The answers are a row's figures, or {"failure":
why}; a contender's are `step_s`, `first_s`, `host_s`, `peak_bytes` and `values`, or `absent` or
`error` with the reason.
"""

from __future__ import annotations

import gc as collector
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TextIO

import numpy as np

from benchmarks import fairness, gpu_peers
from benchmarks.gpu_peers import Steps
from benchmarks.gpu_rows import ADAM, STEP_ROWS, StepRow
from benchmarks.gpu_timing import ClockTimer, host_seconds, medians
from benchmarks.peers import CONTENDERS, NotOffered

Answer = dict[str, Any]
COMPARED_STEPS = 3
MOST_VALUES = 1000
# What contenders import when they first compile.
PACKAGES = {"graphc": ("triton",), "torch.compile": ("torch._dynamo", "torch._inductor.compile_fx")}
# JAX would take most of the GPU's memory when it is imported.
ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


# -- kernels


def kernels_answer(row: str) -> Answer:
    """A row of kernels."""
    import torch

    from benchmarks import gpu_adam, gpu_kernels

    try:
        return gpu_adam.adam_row() if row == ADAM else gpu_kernels.kernel_row(row)
    except Exception as error:  # the parent goes on with other rows, in another process
        traceback.print_exc()
        return {"failure": said(error)}
    finally:
        collector.collect()
        torch.cuda.empty_cache()


def said(error: Exception) -> str:
    """The first line of an error, with its type unless it is a failed comparison."""
    line = (str(error).strip().splitlines() or [""])[0][:300]
    return line if isinstance(error, AssertionError) and line else f"{type(error).__name__}: {line}"


# -- steps


def started(name: str, on_gpu: bool) -> None:
    """Import the contender's packages and let them find the device, which is no first call's."""
    importlib.import_module(f"benchmarks.gpu_peers.{CONTENDERS[name].module}_peer")
    for package in PACKAGES.get(name, ()):
        importlib.import_module(package)
    if name == "jax":
        import jax

        jax.block_until_ready(jax.numpy.zeros(8))
        return
    import torch

    torch.zeros(8, device="cuda" if on_gpu else "cpu")


def step_figures(row: StepRow, name: str, tiny: bool = False, on_gpu: bool = True) -> Answer:
    """One contender's figures of a row.

    `first_s` is from an imported framework, a device that is found and data in the host's memory
    to the end of the first step, nothing being kept from earlier runs: building the graph,
    tracing, compiling, loading. `step_s`: a row that is fed is timed from the host's arrays to
    the host's loss or outputs, others without feeds and fetches, many steps one after the other.
    `host_s`, of fed rows: see `gpu_timing.host_seconds`; nothing is fetched.
    """
    started(name, on_gpu)
    work, manner = row.load(tiny), replace(row.manner, on_gpu=on_gpu)
    start = time.perf_counter()
    steps = gpu_peers.build(name, work, manner)
    values = [steps.value()]
    answer: Answer = {"first_s": time.perf_counter() - start}
    values += [steps.value() for _ in range(COMPARED_STEPS - 1)]
    answer |= {
        "peak_bytes": steps.peak_bytes(),
        "values": [[float(x) for x in flat(v)] for v in values],
        "step_s": _step_seconds(steps, manner.fed, tiny),
    }
    if manner.fed:
        answer["host_s"] = host_seconds(steps.queue, steps.wait, 5 if tiny else 200)
    return answer


def flat(arrays: list[np.ndarray]) -> np.ndarray:
    """Their first elements, in a row."""
    return np.concatenate([np.asarray(a, np.float64).reshape(-1) for a in arrays])[:MOST_VALUES]


def _step_seconds(steps: Steps, fed: bool, tiny: bool) -> float:
    step: Callable[[], object] = steps.value if fed else steps.queue
    rounds, round_s = (1, 0.0) if tiny else (15, 0.1) if fed else (11, 0.5)
    timed = medians({"it": lambda _: step()}, ClockTimer(steps.wait), rounds, round_s)
    return timed["it"]


def steps_answer(row: str, name: str) -> Answer:
    """One contender's figures, or why there are none."""
    try:
        return step_figures(STEP_ROWS[row], name)
    except ImportError as error:
        return {"absent": f"not installed: {error.name or error}"}
    except NotOffered as error:
        return {"absent": str(error)}
    except Exception as error:  # whatever a peer may raise, the parent reports
        traceback.print_exc()
        return {"error": said(error)}


# -- the process


def serve(questions: TextIO, answers: TextIO) -> None:
    """Answer until the parent closes the pipe."""
    for line in questions:
        asked = json.loads(line)
        if "contender" in asked:
            answer = steps_answer(asked["row"], asked["contender"])
        else:
            answer = kernels_answer(asked["row"])
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main() -> None:
    """Serve on the standard streams."""
    fairness.die_with_parent()
    os.environ.update(ENVIRONMENT)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not come between the answers
    serve(sys.stdin, answers)


if __name__ == "__main__":
    main()

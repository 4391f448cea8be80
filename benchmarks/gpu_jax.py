"""JAX beside torch and graphc in one process, for rows of kernels.

CUDA events on torch's stream do not see JAX's work: it is timed by the clock, over many calls one
after the other, from an idle device until the last result is there (`block_until_ready`).
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.gpu_peers import Manner
from benchmarks.gpu_timing import Call, ClockTimer
from benchmarks.gpu_workload import Workload
from benchmarks.peers import NotOffered


@dataclass(frozen=True)
class Timed:
    """JAX's calls of a row, and how they are timed."""

    call: Call
    timer: ClockTimer


def offered(make: Callable[[], Timed]) -> Timed | dict[str, str]:
    """What `make` gives, or why there is nothing: `absent` where that may be, else `error`."""
    try:
        return make()
    except (ImportError, NotOffered) as error:
        return {"absent": str(error)}
    except Exception as error:  # whatever a peer may raise, the tables say
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}


def jax_for(kind: str, on_gpu: bool = True) -> Any:
    """The module, its products of that kind. ImportError without JAX, NotOffered without a GPU."""
    import jax

    from benchmarks.gpu_peers.jax_peer import PRECISIONS, check_device

    check_device(Manner(on_gpu=on_gpu))
    jax.config.update("jax_default_matmul_precision", PRECISIONS[kind])
    return jax


def timed(jax: Any, run: Callable[[int], Any]) -> Timed:
    """`run` of a call's number gives JAX's arrays; the last ones are what is waited for."""
    last: Any = None

    def call(number: int) -> Any:
        nonlocal last
        last = run(number)
        return last

    return Timed(call, ClockTimer(lambda: jax.block_until_ready(last)))


def workload_calls(jax: Any, workload: Workload, arrays: Sequence[np.ndarray], sets: int) -> Timed:
    """The workload on as many copies of its inputs, one after the other."""
    inputs = [workload.jax_arrays(jax, arrays) for _ in range(sets)]
    function = workload.jax_call(jax)
    return timed(jax, lambda number: function(*inputs[number % sets]))


def results(jax: Any, workload: Workload, calls: Timed) -> list[Any]:
    """The outputs of a call, in the order of axes of the other frameworks, as float32 arrays."""
    outputs: Any = calls.call(0)
    found = [y.astype("float32") for y in outputs]
    return [np.asarray(workload.jax_order(y)) for y in jax.block_until_ready(found)]


__all__ = ["Timed", "jax_for", "offered", "results", "timed", "workload_calls"]

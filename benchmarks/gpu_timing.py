"""Timing on a GPU: events, the clock, contenders in turns, medians; and the hardware's limits.

Nothing here knows what is timed. A timer gives the seconds of one call; tests bring their own.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from graphc.runtime.devices.triton_library import float32_precision

Call = Callable[[int], object]  # of the number of the call: it picks the buffers

COPY_BYTES = 1 << 30
MATMUL_SIZE = 8192
WARM_UP = 3  # calls: compilation, autotuning, first touches


class Timer(Protocol):
    """Seconds per call, of `repeats` calls one after the other."""

    def __call__(self, call: Call, repeats: int) -> float: ...


class EventTimer:
    """By CUDA events around the calls: what the GPU needs, launches included."""

    def __call__(self, call: Call, repeats: int) -> float:
        import torch

        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for number in range(repeats):
            call(number)
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e-3 / repeats


@dataclass(frozen=True)
class ClockTimer:
    """By the clock around the calls, before and after which `wait` returns when all is done.

    For what CUDA events do not see: JAX's streams are its own, and a call whose result the host
    has is more than the device's work.
    """

    wait: Callable[[], object]

    def __call__(self, call: Call, repeats: int) -> float:
        self.wait()
        start = time.perf_counter()
        for number in range(repeats):
            call(number)
        self.wait()
        return (time.perf_counter() - start) / repeats


def medians(
    contenders: Mapping[str, Call],
    timer: Timer,
    rounds: int = 15,
    round_s: float = 0.02,
    timers: Mapping[str, Timer] | None = None,
) -> dict[str, float]:
    """Median seconds per call; in each round every contender has its turn of about `round_s`.

    `timers` has those of contenders that `timer` is not for.
    """
    repeats, of = {}, {name: (timers or {}).get(name, timer) for name in contenders}
    for name, call in contenders.items():
        for number in range(WARM_UP):
            call(number)
        repeats[name] = int(np.clip(round_s / max(of[name](call, 2), 1e-7), 1, 2000))
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            seconds[name].append(of[name](call, repeats[name]))
    return {name: float(np.median(times)) for name, times in seconds.items()}


def host_seconds(
    queue: Callable[[], object], wait: Callable[[], object], calls: int = 200
) -> float:
    """The median seconds until `queue` returns: the host's own time of a step.

    `queue` hands work to the device and waits for none of it; the device has nothing left to do
    when it is called.
    """
    seconds = []
    for _ in range(WARM_UP + calls):
        wait()
        start = time.perf_counter()
        queue()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[WARM_UP:]))


@dataclass(frozen=True)
class Limits:
    """What the GPU can do, measured: bytes per second of a large copy (read and written both
    counted), and operations per second of cuBLAS per kind of product."""

    bytes_per_s: float
    flops_per_s: Mapping[str, float]

    def seconds(self, traffic: float, flops: float = 0.0, kind: str = "float32") -> float:
        """The least time for so many bytes and operations."""
        least = traffic / self.bytes_per_s
        return max(least, flops / self.flops_per_s[kind]) if flops else least

    def or_better(self, other: Limits) -> Limits:
        """The best that either has seen."""
        kinds = {**other.flops_per_s, **self.flops_per_s}
        flops = {k: max(f, other.flops_per_s.get(k, 0.0)) for k, f in kinds.items()}
        return Limits(max(self.bytes_per_s, other.bytes_per_s), flops)


def working(
    calls: Mapping[str, Call], needed: str = "graphc"
) -> tuple[dict[str, Call], dict[str, str]]:
    """The contenders whose first call works, and what the others fail with."""
    result, failures = {}, {}
    for name, call in calls.items():
        try:
            call(0)
        except Exception as error:  # whatever a peer may raise, the tables say
            if name == needed:
                raise
            traceback.print_exc()
            failures[name] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        else:
            result[name] = call
    return result, failures


def measured_limits(timer: Timer) -> Limits:
    """By one large copy, and one large product of each kind."""
    flops = {kind: _matmul_flops(kind, timer) for kind in ("bfloat16", "tf32", "float32")}
    return Limits(_copy_bytes(timer), flops)


def _copy_bytes(timer: Timer) -> float:
    import torch

    source = torch.ones(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    seconds = medians({"copy": lambda _: target.copy_(source)}, timer)
    return 2 * COPY_BYTES / seconds["copy"]


def _matmul_flops(kind: str, timer: Timer) -> float:
    import torch

    n = MATMUL_SIZE
    dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32
    a, b = (torch.randn(n, n, device="cuda", dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)

    def call(_: int) -> Any:
        with float32_precision(kind == "tf32"):
            torch.matmul(a, b, out=out)

    return 2.0 * n**3 / medians({kind: call}, timer, rounds=5, round_s=0.1)[kind]

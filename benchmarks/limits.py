"""What the machine can do at best: bytes per second by a triad, products by multiply-adds.

Both are small C functions, run by as many threads as contenders have. A row's limit is the
larger of its least traffic over the one and its products over the other.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from benchmarks.fairness import THREADS
from benchmarks.workload import Function, Workload

# A triad writes a[i] = b[i] + s * c[i] (McCalpin's STREAM). The multiply-adds are independent
# chains, enough to hide the latency of two units.
SOURCE = r"""
#if defined(__AVX512F__)
#define WIDTH 16
#elif defined(__AVX__)
#define WIDTH 8
#else
#define WIDTH 4
#endif
typedef float vector __attribute__((vector_size(4 * WIDTH)));
#define CHAINS 12

long width(void) { return WIDTH * CHAINS; }

void triad(float *restrict a, const float *restrict b, const float *restrict c, long count) {
    for (long i = 0; i < count; i++) a[i] = b[i] + 1.5f * c[i];
}

float multiply_add(long times) {
    vector sums[CHAINS], factor, more;
    for (int j = 0; j < WIDTH; j++) { factor[j] = 0.999f; more[j] = 0.001f * j; }
    for (int i = 0; i < CHAINS; i++) sums[i] = more;
    for (long t = 0; t < times; t++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) sums[i] = sums[i] * factor + more;
    }
    float total = 0;
    for (int i = 0; i < CHAINS; i++) total += sums[i][0];
    return total;
}
"""
COUNT = 1 << 23  # floats per array and thread: beyond every cache
TIMES = 2_000_000
ROUNDS = 25


@dataclass(frozen=True)
class Limits:
    """Of this machine, with all threads."""

    bytes_per_s: float
    flops_per_s: float

    def seconds(self, traffic: float, flops: float) -> float:
        """The least time of work that moves so many bytes and computes so much."""
        return max(traffic / self.bytes_per_s, flops / self.flops_per_s)

    def or_better(self, other: Limits) -> Limits:
        """The best that either has seen: another program may have run beside a measurement."""
        return Limits(
            max(self.bytes_per_s, other.bytes_per_s), max(self.flops_per_s, other.flops_per_s)
        )


def least_traffic(workload: Workload) -> float:
    """The bytes that a step has to move; a training step's arrays may stay in caches."""
    return workload.traffic if isinstance(workload, Function) else 0.0


def _best(run: Callable[[int], object]) -> float:
    """The least seconds in which all threads run."""
    seconds = []
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in range(ROUNDS + 1):  # the first one touches memory
            start = time.perf_counter()
            list(threads.map(run, range(THREADS)))
            seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def measured() -> Limits:
    """Measure both. DeviceError where there is no C compiler."""
    from graphc.runtime.devices.native_build import build

    library = build(SOURCE)
    library.multiply_add.restype = ctypes.c_float
    library.multiply_add.argtypes = (ctypes.c_long,)
    library.triad.argtypes = (ctypes.c_void_p,) * 3 + (ctypes.c_long,)
    arrays = [[np.zeros(COUNT, np.float32) for _ in range(3)] for _ in range(THREADS)]
    for a, b, c in arrays:
        b.fill(1.0), c.fill(2.0), a.fill(0.0)
    copy = _best(lambda i: library.triad(*(x.ctypes.data for x in arrays[i]), COUNT))
    product = _best(lambda _: library.multiply_add(TIMES))
    flops = 2.0 * library.width() * TIMES * THREADS
    return Limits(3 * 4 * COUNT * THREADS / copy, flops / product)

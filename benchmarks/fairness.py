"""What makes contenders comparable: the same processors, threads, empty caches; equal results.

Modules are found compiled, whether a package was installed or, as graphc, lies in a checkout.

Each contender is a process of its own, on the same two processors and with two threads. Only one
runs at a time: the parent stops (SIGSTOP) the others, so that no waiting pool of threads spins.
"""

from __future__ import annotations

import compileall
import ctypes
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

THREADS = 2
STEPS = 3  # after as many, results are compared
SAMPLES = 4096
MODEL = "BENCH_MODEL"

_THREAD_SETTINGS = ("GRAPHC_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_CACHES = (
    "GRAPHC_CACHE", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH",
    "XDG_CACHE_HOME",
)  # fmt: skip


def environment(caches: Path, model: Path) -> dict[str, str]:
    """Of a contender's process: threads, and where compiled code is kept."""
    settings = {name: str(THREADS) for name in _THREAD_SETTINGS}
    more = {MODEL: str(model), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return {**os.environ, **settings, **cache_places(caches), **more}


def cache_places(caches: Path) -> dict[str, str]:
    """The settings by which all compiled code is kept in that folder."""
    return {name: str(caches / name.lower()) for name in _CACHES}


def compile_bytecode(root: Path) -> None:
    """As an installer has done for the peers: what graphc imports is found compiled."""
    package = root / "graphc"
    for folder in (root / "benchmarks", package, *filter(Path.is_symlink, package.iterdir())):
        compileall.compile_dir(folder, quiet=1)


def pin() -> None:
    """Keep this process to the first processors, of which there are as many as threads."""
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, allowed[:THREADS])


def die_with_parent() -> None:
    """A stopped contender does not survive a parent that was killed."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


@dataclass(frozen=True)
class Watch:
    """Tells how much of the processors' time other programs take from now on.

    `own_s` is what the processes that are not others have used so far.
    """

    own_s: float
    busy_s: float
    start: float

    @classmethod
    def begin(cls, own_s: float) -> Watch:
        """From now on."""
        return cls(own_s, _busy_s(), time.perf_counter())

    def others(self, own_s: float) -> float:
        """Seconds of others, or stolen by the host, per second and processor, so far."""
        theirs = (_busy_s() - self.busy_s) - (own_s - self.own_s)
        wall = max(time.perf_counter() - self.start, 1e-9)
        return max(0.0, theirs / wall / (os.cpu_count() or 1))


def _busy_s() -> float:
    """Of all processors since the machine started: user, nice, system, interrupts, stolen."""
    ticks = [int(x) for x in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return float(sum(ticks[:3]) + sum(ticks[5:8])) / os.sysconf("SC_CLK_TCK")


def used_s(process: int) -> float:
    """Processors' time of a process with all its threads; 0.0 when it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_bytes() -> int:
    """The most memory that this process has had (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM")


Digest = dict[str, dict[str, Any]]


def digest(arrays: Mapping[str, np.ndarray], start: Mapping[str, np.ndarray]) -> Digest:
    """Per array its shape, norm and some elements; of parameters, of what the steps added."""
    return {name: _digest(np.asarray(a), start.get(name)) for name, a in arrays.items()}


def _digest(array: np.ndarray, start: np.ndarray | None) -> dict[str, Any]:
    moved = np.asarray(array if start is None else array - start, np.float64)
    count = min(moved.size, SAMPLES)
    chosen = np.random.default_rng(0).choice(moved.size, count, replace=False)
    sample = moved.reshape(-1)[chosen]
    return {
        "shape": list(moved.shape),
        "norm": float(np.linalg.norm(moved)),
        "sample": sample.tolist(),
    }


def difference(ours: Digest, theirs: Digest) -> float:
    """The largest relative difference of an array's norm or sample; inf where shapes differ."""
    if set(ours) != set(theirs):
        return float("inf")
    return max(_difference(ours[name], theirs[name]) for name in ours)


def _difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    if ours["shape"] != theirs["shape"]:
        return float("inf")
    a, b = (np.array([*x["sample"], x["norm"] * len(x["sample"]) ** -0.5]) for x in (ours, theirs))
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    scale = max(np.linalg.norm(a), np.linalg.norm(b))
    return float(np.linalg.norm(a - b) / scale) if scale else 0.0

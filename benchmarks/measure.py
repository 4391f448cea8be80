"""Measuring fairly: contenders take turns, medians of many rounds, ratios within one run."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"


def interleaved(
    contenders: Mapping[str, Callable[[], Any]], rounds: int = 15, repeats: int = 1
) -> dict[str, float]:
    """Median seconds per call of each contender; within a round they run one after another."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        call()  # compilation and first touches are not what is measured
    for _ in range(rounds):
        for name, call in contenders.items():
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            seconds[name].append((time.perf_counter() - start) / repeats)
    return {name: float(np.median(times)) for name, times in seconds.items()}


def machine() -> str:
    """A short name of the processor, for file names."""
    text = platform.processor() or platform.machine()
    for line in _cpu_lines():
        if line.startswith("model name"):
            text = line.partition(":")[2]
            break
    return "".join(c if c.isalnum() else "-" for c in text.lower()).strip("-").replace("--", "-")


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def save(name: str, figures: Mapping[str, Any]) -> Path:
    """Write the figures to benchmarks/results/<name>.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **figures}, indent=2) + "\n")
    return path

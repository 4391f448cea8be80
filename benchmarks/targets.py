"""What graphc aims at on a CPU, and where the figures fall short of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from benchmarks.peers import CONTENDERS

Row = Mapping[str, Any]
NATIVE: Final = "graphc"
NUMPY: Final = "graphc-numpy"
# The best peer's time over that of the C back end; no row below LEAST, the geometric mean MEAN.
SPEEDUPS: Final[Mapping[str, float]] = {
    "W1": 2.5, "W2": 1.2, "W3": 1.1, "W4": 1.05, "W4b8": 1.05, "W5": 1.15, "W6": 1.15, "W7": 1.3,
    "W8s": 1.1, "W8l": 1.7, "W9": 1.6, "W10": 1.0,
}  # fmt: skip
MEAN: Final = 1.3
# Time of a peer over that of the NumPy back end, without a compiler.
NUMPY_SPEEDUPS: Final[Mapping[str, Mapping[str, float]]] = {
    "W1": {"jax": 2.0}, "W2": {"jax": 0.85},
    **{row: {"torch": 1.0, "jax": 1.0} for row in ("W7", "W8s", "W8l", "W9")},
}  # fmt: skip
# Seconds of a first call, with an empty cache and from the cache.
FIRST_S: Final[Mapping[str, Mapping[str, float]]] = {
    "W2": {"warm_first_s": 0.1}, "W4": {"first_s": 3.0, "warm_first_s": 0.3},
}  # fmt: skip
_WORDS: Final = {"first_s": "first call", "warm_first_s": "first call from the cache"}


def shortfalls(rows: Mapping[str, Row], mean: float | None) -> list[str]:
    """A line for each target that the figures do not reach; rows without figures have none."""
    found = [line for name, row in rows.items() for line in _of_row(name, row)]
    return [*found, *([f"geometric mean: {mean:.2f} of {MEAN}"] if mean and mean < MEAN else [])]


def _of_row(name: str, row: Row) -> Iterator[str]:
    aim, contenders = SPEEDUPS.get(name), row["contenders"]
    if aim and "speedup" in row and round(row["speedup"], 2) < aim:
        yield f"{name}: {row['speedup']:.2f} of {aim} times as fast as {row['best_peer']}"
    for peer, wanted in NUMPY_SPEEDUPS.get(name, {}).items():
        ratio = _ratio(contenders, peer, NUMPY, "step_s")
        if ratio is not None and round(ratio, 2) < wanted:
            yield f"{name}: the NumPy back end {ratio:.2f} of {wanted} times as fast as {peer}"
    for key, most in FIRST_S.get(name, {}).items():
        seconds = contenders.get(NATIVE, {}).get(key)
        if seconds is not None and seconds > most:
            yield f"{name}: {_WORDS[key]} {seconds:.3f} s, {most} s wanted"
    for peer in (n for n in contenders if CONTENDERS[n].is_peer):
        memory = _ratio(contenders, peer, NATIVE, "peak_bytes")
        if memory is not None and memory < 1:
            yield f"{name}: {1 / memory:.2f} of {peer}'s memory, less wanted"


def _ratio(contenders: Mapping[str, Any], peer: str, own: str, key: str) -> float | None:
    """The peer's figure over ours."""
    theirs, ours = (contenders.get(n, {}).get(key) for n in (peer, own))
    return theirs / ours if theirs and ours else None


__all__ = ["MEAN", "SPEEDUPS", "shortfalls"]

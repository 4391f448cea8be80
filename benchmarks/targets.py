"""What graphc aims at on a CPU and on a GPU, and where the figures fall short of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import geometric_mean
from typing import Any, Final

from benchmarks.gpu_rows import NETWORKS, STEP_ROWS, SUITES, TRAINING
from benchmarks.peers import CONTENDERS

Row = Mapping[str, Any]

# -- a CPU

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
_WORDS: Final = {
    "first_s": "first call", "warm_first_s": "first call from the cache",
    "peak_bytes": "peak memory",
}  # fmt: skip


def shortfalls(rows: Mapping[str, Row], mean: float | None) -> list[str]:
    """A line for each target that the figures do not reach; rows without figures have none."""
    found = [line for name, row in rows.items() for line in _of_row(name, row)]
    return [*found, *([f"geometric mean: {mean:.2f} of {MEAN}"] if mean and mean < MEAN else [])]


def _of_row(name: str, row: Row) -> Iterator[str]:
    aim, contenders = SPEEDUPS.get(name), row["contenders"]
    if aim and "speedup" in row and round(row["speedup"], 2) < aim:
        yield f"{name}: {row['speedup']:.2f} of {aim} times as fast as {row['best_peer']}"
    for peer, wanted in NUMPY_SPEEDUPS.get(name, {}).items():
        times = ratio(contenders, peer, NUMPY, "step_s")
        if times is not None and round(times, 2) < wanted:
            yield f"{name}: the NumPy back end {times:.2f} of {wanted} times as fast as {peer}"
    for key, most in FIRST_S.get(name, {}).items():
        seconds = contenders.get(NATIVE, {}).get(key)
        if seconds is not None and seconds > most:
            yield f"{name}: {_WORDS[key]} {seconds:.3f} s, {most} s wanted"
    for peer in (n for n in contenders if CONTENDERS[n].is_peer):
        memory = ratio(contenders, peer, NATIVE, "peak_bytes")
        if memory is not None and memory < 1:
            yield f"{name}: {1 / memory:.2f} of {peer}'s memory, less wanted"


def ratio(
    contenders: Mapping[str, Any], peer: str, own: str = NATIVE, key: str = "step_s"
) -> float | None:
    """The peer's figure over ours; None where one of them is missing."""
    theirs, ours = (contenders.get(n, {}).get(key) for n in (peer, own))
    return theirs / ours if theirs and ours else None


# -- a GPU


@dataclass(frozen=True)
class GpuTarget:
    """Of a row: the times of torch, torch.compile and JAX over ours; the share of the limit (the
    speed of a copy, or of cuBLAS's products); the host's seconds per step at most."""

    ratios: tuple[float, float, float]
    of_limit: float | None = None
    host_s: float | None = None


GPU_PEERS: Final = ("torch", "torch.compile", "jax")
_CHAIN: Final = GpuTarget((2.5, 1.0, 1.05), 0.93)
_NORM: Final = GpuTarget((1.6, 1.05, 1.1), 0.90)
_NORM_GRADIENT: Final = GpuTarget((2.2, 1.15, 1.3), 0.75)
_LIBRARY: Final = GpuTarget((1.0, 1.0, 1.0))
_EPILOGUE: Final = GpuTarget((1.15, 1.05, 1.05))
_INFERENCE: Final = GpuTarget((5.0, 2.0, 1.5), host_s=12e-6)
_STEP: Final = GpuTarget((8.0, 2.5, 2.0), host_s=15e-6)
GPU_ROWS: Final[Mapping[str, GpuTarget]] = {
    "pointwise_chain": _CHAIN, "gelu_chain": _CHAIN,
    "layer_norm": _NORM, "rms_norm": _NORM,
    "layer_norm_with_gradient": _NORM_GRADIENT, "rms_norm_with_gradient": _NORM_GRADIENT,
    "cross_entropy_with_gradient": GpuTarget((3.0, 1.3, 1.5), 0.75),
    "adam": GpuTarget((1.0, 1.0, 1.05), 0.92),
    "matmul_bfloat16": _LIBRARY, "matmul_tf32": _LIBRARY, "matmul_float32": _LIBRARY,
    "matmul_bias_gelu_k1024": _EPILOGUE, "matmul_bias_gelu_k256": _EPILOGUE,
    "attention_64": _LIBRARY, "attention_64_causal": _LIBRARY,
    "attention_128": _LIBRARY, "attention_128_causal": _LIBRARY,
    "attention_masked": _LIBRARY, "attention_with_gradient": _LIBRARY,
    "infer_perceptron": _INFERENCE, "infer_lenet": _INFERENCE, "infer_deep_perceptron": _INFERENCE,
    "step_softmax_regression": _STEP, "step_perceptron": _STEP, "step_lenet": _STEP,
    "step_resnet50": GpuTarget((1.25, 1.05, 1.1)),
    "step_bert": GpuTarget((1.8, 1.1, 1.1), 0.45),
    "step_gpt2": GpuTarget((1.6, 1.08, 1.1), 0.45),
}  # fmt: skip
# Geometric means of the peers' times over ours; and no network below GPU_LEAST of its best peer.
GPU_SUITES: Final[Mapping[str, Mapping[str, float]]] = {
    "training": {"torch": 1.9, "torch.compile": 1.15, "jax": 1.15},
    "inference": {"torch": 3.0, "torch.compile": 1.15, "jax": 1.2},
}
GPU_LEAST: Final = 0.97
# Our peak memory of a large network's training step over theirs, at most.
GPU_MEMORY: Final[Mapping[str, float]] = {"torch": 0.80, "torch.compile": 0.95, "jax": 1.0}
# Our first call of a training step or a large network, with empty caches: over theirs, and seconds.
GPU_FIRST: Final[Mapping[str, float]] = {"torch.compile": 0.2, "jax": 0.5}
GPU_FIRST_S: Final = 10.0


def suite_means(rows: Mapping[str, Row]) -> dict[tuple[str, str], dict[str, float]]:
    """Per suite and part of it ("all" is one) the geometric means against each peer.

    A part has means when all of its rows are measured; they are of the rows that the peer can run.
    """
    found = {}
    for suite, parts in SUITES.items():
        whole = tuple(name for names in parts.values() for name in names)
        for part, names in {**parts, "all": whole}.items():
            measured = [rows[n]["contenders"] for n in names if n in rows]
            found[suite, part] = _means(measured) if len(measured) == len(names) else {}
    return found


def _means(rows: list[Mapping[str, Any]]) -> dict[str, float]:
    times = {peer: [ratio(contenders, peer) for contenders in rows] for peer in GPU_PEERS}
    return {p: geometric_mean(t) for p, of in times.items() if (t := [x for x in of if x])}


def gpu_shortfalls(rows: Mapping[str, Row]) -> list[str]:
    """A line for each target that the figures do not reach; what was not measured has none."""
    found = [text for name, row in rows.items() for text in _of_gpu_row(name, row)]
    for (suite, part), means in suite_means(rows).items():
        for peer, mean in means.items() if part == "all" else ():
            if round(mean, 2) < GPU_SUITES[suite][peer]:
                found.append(f"{suite}: {mean:.2f} of {GPU_SUITES[suite][peer]:g} times {peer}")
    return found


def _of_gpu_row(name: str, row: Row) -> Iterator[str]:
    contenders, target = row["contenders"], GPU_ROWS.get(name)
    if target is not None:
        yield from _below_target(name, row, target)
    if name in STEP_ROWS and "speedup" in row and round(row["speedup"], 2) < GPU_LEAST:
        yield f"{name}: {row['speedup']:.2f} of its best peer, {row['best_peer']}"
    if name in SUITES["training"]["large batches"]:
        yield from _beyond(name, contenders, "peak_bytes", GPU_MEMORY)
    if name in TRAINING or name in NETWORKS:
        yield from _beyond(name, contenders, "first_s", GPU_FIRST)
        seconds = contenders.get(NATIVE, {}).get("first_s", 0.0)
        if seconds > GPU_FIRST_S:
            yield f"{name}: first call {seconds:.1f} s, {GPU_FIRST_S:g} s wanted"


def _below_target(name: str, row: Row, target: GpuTarget) -> Iterator[str]:
    contenders = row["contenders"]
    for peer, wanted in zip(GPU_PEERS, target.ratios, strict=True):
        times = ratio(contenders, peer)
        if times is not None and round(times, 2) < wanted:
            yield f"{name}: {times:.2f} of {wanted:g} times as fast as {peer}"
    reached = row.get("of_limit")
    if target.of_limit and reached is not None and round(reached, 2) < target.of_limit:
        yield f"{name}: {reached:.0%} of the limit, {target.of_limit:.0%} wanted"
    host_s = contenders.get(NATIVE, {}).get("host_s")
    if target.host_s and host_s is not None and host_s > target.host_s:
        yield f"{name}: {host_s * 1e6:.1f} us of the host, {target.host_s * 1e6:g} us wanted"


def _beyond(
    name: str, contenders: Mapping[str, Any], key: str, most: Mapping[str, float]
) -> Iterator[str]:
    """Where ours is more than that share of a peer's."""
    for peer, share in most.items():
        times = ratio(contenders, peer, key=key)
        if times is not None and round(1 / times, 2) > share:
            yield f"{name}: {1 / times:.2f} of {peer}'s {_WORDS[key]}, {share:g} wanted"


__all__ = ["GPU_ROWS", "GPU_SUITES", "MEAN", "SPEEDUPS", "gpu_shortfalls", "shortfalls"]

"""What passes know of where a program will run: facts, not names.

A pass asks for a fact and never for which target it is. The three that there are stand at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from graphc.ir.dtypes import DType, bfloat16, float16, float32, float64

_HALVES: Final = frozenset({float16, bfloat16})
_SHORT: Final = _HALVES | {float32}


@dataclass(frozen=True, slots=True)
class Folding:
    """When sums down columns are taken by the kernel that walks the rows (the pass `sweep`).

    Results depend on how many parts there are: none of this may follow from the machine's load or
    number of threads.
    """

    parts: int = 512  # wanted, to run side by side
    rows: int = 8  # of a part, at least: its totals are little against what it walks
    columns: int = 1 << 14  # of a row, at most: totals stay in registers or the first cache
    least_bytes: int = 1 << 16  # saved: of less no more can be measured


@dataclass(frozen=True, slots=True)
class AttentionRoutine:
    """What the target's routine for attention is good for (the pass `recognize_attention`).

    `replaces`, `keeps` and `trains` are numbers of scores of a head: from the first on, products
    of `dtypes` become the op; below the second (with a gradient the third, since the routine
    computes the scores again), the op becomes products, as it does for dtypes not `taken` and
    for more features.
    """

    replaces: int
    keeps: int
    trains: int
    dtypes: frozenset[DType]
    taken: frozenset[DType] = _SHORT | {float64}
    most_features: int = 1 << 62


@dataclass(frozen=True, slots=True)
class Rates:
    """Of an ordinary machine of the target's kind, to compare kernels with one another."""

    flops_per_s: float
    bytes_per_s: float
    launch_s: float


@dataclass(frozen=True, slots=True)
class Target:
    """Facts about where the program will run, as far as passes may know them.

    `recomputed_flops` are the operations per element that may be done again to keep nothing, and
    `recomputed_cost` what such an operation counts where it is weighed against bytes. Without
    `attention`, attention stays what it is written as.
    """

    name: str
    rates: Rates
    attention: AttentionRoutine | None = None
    recomputed_flops: float = 160.0  # Philox is about 80
    recomputed_cost: float = 1.0
    fast_bytes: int = 1 << 20  # what intermediates should fit into: cache or shared memory
    max_kernel_buffers: int = 24
    max_kernel_statements: int = 96
    folding: Folding = Folding()


# Attention: measured on the CPU; where the scores of a head are more than some MB, memory counts
# more than time. On a GPU products of float32 are as good, and a block's features lie in registers.
NUMPY: Final = Target(
    "numpy",
    Rates(5e10, 1e10, 5e-6),
    AttentionRoutine(1 << 16, 1 << 16, 1 << 20, _SHORT | {float64}),
    recomputed_flops=8.0,
    recomputed_cost=4.0,
)
CPU: Final = Target(
    "native",
    Rates(1e11, 2e10, 2e-7),
    AttentionRoutine(1 << 14, 1 << 14, 1 << 16, _SHORT),
    recomputed_cost=4.0,  # a cache that keeps what is read soon is as quick as erf and exp
    folding=Folding(parts=64),
)
# Folding: parts make some blocks per processor, registers hold the totals.
GPU: Final = Target(
    "triton",
    Rates(3e13, 3e12, 3e-6),
    AttentionRoutine(1 << 14, 0, 0, _HALVES, _SHORT, 256),
    fast_bytes=64 << 10,
    folding=Folding(parts=256, columns=1 << 13),
)

__all__ = ["CPU", "GPU", "NUMPY", "AttentionRoutine", "Folding", "Rates", "Target"]

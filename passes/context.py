"""What the passes of one compilation share: the feeds' shapes, the target's facts, the record.

The record (decisions, statistics) is only appended to; no pass decides by what it holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.ir.graph import Node
from graphc.ir.settings import Settings


@dataclass(frozen=True, slots=True)
class Target:
    """Facts about where the program will run, as far as passes may know them."""

    name: str = "numpy"
    fast_bytes: int = 1 << 20  # what intermediates should fit into: cache or shared memory
    max_kernel_buffers: int = 24
    max_kernel_statements: int = 96


@dataclass(frozen=True, slots=True)
class Decision:
    """Why an edge was not fused, or a value materialized: a reason code and its numbers."""

    producer: str
    consumer: str
    buffer: str
    reason: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Context:
    """One compilation's surroundings; passed to every pass."""

    settings: Settings = field(default_factory=Settings)
    target: Target = field(default_factory=Target)
    feed_shapes: dict[Node, tuple[int, ...]] = field(default_factory=dict)
    feed_values: dict[Node, np.ndarray] = field(default_factory=dict)
    value_inputs: set[Node] = field(default_factory=set)  # feeds on whose values code depends
    decisions: list[Decision] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)  # per pass: counts for the report

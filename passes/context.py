"""What the passes of one compilation share: the feeds' shapes, the target's facts, the record.

The record (decisions, statistics) is only appended to; no pass decides by what it holds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from graphc.ir.computation import Computation
from graphc.ir.graph import Node, Value
from graphc.ir.loop import Program
from graphc.ir.settings import Settings
from graphc.passes.target import NUMPY, Target


@dataclass(frozen=True, slots=True)
class Decision:
    """Why an edge was not fused, or a value materialized: a reason code and its numbers."""

    producer: str
    consumer: str
    buffer: str
    reason: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


class Pipeline(Protocol):
    """The passes, as far as the bodies of loops and branches go through them by themselves."""

    def graph(self, computation: Computation, ctx: Context) -> Computation:
        """The computation after the graph passes."""

    def program(self, computation: Computation, ctx: Context) -> Program:
        """The program of a computation that the graph passes have done with."""


@dataclass
class Context:
    """One compilation's surroundings; passed to every pass."""

    settings: Settings = field(default_factory=Settings)
    target: Target = NUMPY
    feed_shapes: dict[Node, tuple[int, ...]] = field(default_factory=dict)
    feed_values: dict[Node, np.ndarray] = field(default_factory=dict)
    value_inputs: set[Node] = field(default_factory=set)  # feeds on whose values code depends
    decisions: list[Decision] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)  # per pass: counts for the report
    pipeline: Pipeline | None = None
    outer_values: dict[Node, Callable[[], np.ndarray]] = field(default_factory=dict)
    settled: set[Node] = field(default_factory=set)  # nodes that no rule of canonicalize changes
    own_outputs: bool = False  # each output in a buffer of its own: the program is a body

    def inside(
        self,
        shapes: dict[Node, tuple[int, ...]],
        outer: Mapping[Node, Value] | None = None,
        host: Callable[[Value], np.ndarray] | None = None,
    ) -> Context:
        """The context of a loop's or branch's body.

        `outer` are the values that its parameters are given, which `host` can compute.
        """
        known: dict[Node, Callable[[], np.ndarray]] = {}
        if outer is not None and host is not None:
            known = {p: functools.partial(host, v) for p, v in outer.items()}
        return Context(
            # what bodies need lies in the arena of the program around them
            replace(self.settings, dump=None, memory_budget=None), self.target, shapes,
            pipeline=self.pipeline, outer_values=known, own_outputs=True,
        )  # fmt: skip

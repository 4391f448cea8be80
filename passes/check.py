"""The debug mode of the pass manager: run the unit before and after a pass, and compare.

Feeds and variables are random, from a fixed seed. Floats may differ by rounding, within a
tolerance that follows from dtype and reduction length; everything else must be equal.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from graphc.ir.computation import Computation
from graphc.ir.dtypes import as_dtype
from graphc.ir.errors import VerificationError
from graphc.ir.graph import Node, Value
from graphc.ir.interpret import evaluate, run_kernel, run_program
from graphc.ir.loop import Program
from graphc.ir.table import Kind
from graphc.passes.context import Context

Unit: TypeAlias = "Computation | Program"
Pass: TypeAlias = Callable[[Any, Context], Any]
_SLACK = 64.0  # roundings, in units of the dtype's epsilon, that a rewrite may add per element


class PassCheck:
    """Holds the random values of one compilation, by position of inputs and name of variables."""

    def __init__(self, computation: Computation, ctx: Context) -> None:
        rng = np.random.default_rng(0)
        self.ctx = ctx
        self.feeds = [self._feed(n, rng) for n in computation.inputs]
        self.variables = {n.name: _random(n, None, rng) for n in computation.variables}
        self.tolerance = _SLACK * _longest_sum(computation, self.feeds) ** 0.5
        self.expected = self.results(computation)

    def _feed(self, node: Node, rng: np.random.Generator) -> np.ndarray:
        if node in self.ctx.feed_values:
            return np.asarray(self.ctx.feed_values[node])
        return _random(node, self.ctx.feed_shapes.get(node), rng)

    def check(self, pass_: Pass, before: Unit, after: Unit) -> None:
        """VerificationError with pass, rule and first differing node when results differ."""
        if self.agrees(after):
            return
        name = getattr(pass_, "__name__", repr(pass_))
        text = f"pass {name} changes what is computed"
        if isinstance(before, Computation):
            rule = self.blame_rule(pass_, before)
            text += f", by rule {rule}" if rule else ""
            if isinstance(after, Computation):
                text += f"; the first value that differs: {self.first_difference(before, after)}"
        raise VerificationError(text)

    def agrees(self, unit: Unit) -> bool:
        """True when the unit's results are those of the graph before any pass."""
        got = self.results(unit)
        pairs = zip(got, self.expected, strict=True)
        return all(same_values(a, b, self.tolerance) for a, b in pairs)

    def results(self, unit: Unit) -> list[np.ndarray]:
        """Outputs, then new values of variables."""
        if isinstance(unit, Program):
            return self._run(unit)
        return evaluate(unit.roots, self.given(unit))

    def given(self, computation: Computation) -> dict[Node, np.ndarray]:
        """The arrays of the computation's inputs and variables."""
        given = dict(zip(computation.inputs, self.feeds, strict=True))
        return given | {n: self.variables[n.name] for n in computation.variables}

    def _run(self, program: Program) -> list[np.ndarray]:
        buffers = {n: a.ravel().copy() for n, a in zip(program.inputs, self.feeds, strict=True)}
        for name in program.variables:
            buffers[name] = self.variables[program.buffers[name].source].ravel().copy()
        run_program(program.replace(kernels=program.kernels[: program.commit]), buffers)
        outputs = [buffers[n].copy() for n in program.outputs]
        with np.errstate(all="ignore"):
            for kernel in program.kernels[program.commit :]:
                run_kernel(kernel, buffers)
        return [*outputs, *(buffers[n] for n in program.updates)]

    def blame_rule(self, pass_: Pass, before: Computation) -> str | None:
        """The rule whose firing makes the difference, by bisection over how many may fire."""
        if "limit" not in inspect.signature(pass_).parameters:
            return None
        limited: Any = pass_

        def firings(limit: int | None) -> tuple[bool, list[str]]:
            trial = Context(self.ctx.settings, self.ctx.target)
            after = limited(before, trial, limit=limit)
            return self.agrees(after), trial.notes["fired"]

        good, bad = 0, len(firings(None)[1])
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if firings(middle)[0] else (good, middle)
        return firings(bad)[1][-1] if bad else None

    def first_difference(self, before: Computation, after: Computation) -> str:
        """The first node of `after` whose value is not that of its namesake in `before`."""
        old = _named_values(before, self.given(before))
        for (name, index), array in _named_values(after, self.given(after)).items():
            known = old.get((name, index))
            if known is not None and not same_values(array, known, self.tolerance):
                return f"{name}:{index}"
        return "one without a name of before"


def _named_values(
    computation: Computation, given: Mapping[Node, np.ndarray]
) -> dict[tuple[str, int], np.ndarray]:
    """The value of each node's name; of nodes that share one, the last: it is the user's op."""
    values: list[Value] = [v for n in computation.nodes for v in n.outputs]
    arrays = evaluate(values, given)
    return {(v.node.name, v.index): a for v, a in zip(values, arrays, strict=True)}


def same_values(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    """Equal; or, for floats, within tolerance * epsilon of the largest finite magnitude."""
    dtype = as_dtype(a.dtype)
    a, b = a.ravel(), b.ravel()
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not dtype.is_floating:
        return bool(np.array_equal(a, b))
    x, y = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(x) & np.isfinite(y)
    if not np.array_equal(x[~finite], y[~finite], equal_nan=True):
        return False
    scale = max(float(np.abs(y[finite]).max(initial=0.0)), 1.0)
    epsilon = 2.0 ** -{16: 10, 32: 23, 64: 52}[dtype.bits] * (8 if dtype.name == "bfloat16" else 1)
    return bool((np.abs(x[finite] - y[finite]) <= tolerance * epsilon * scale).all())


def _random(node: Node, shape: tuple[int, ...] | None, rng: np.random.Generator) -> np.ndarray:
    dtype = node.types[0].dtype
    dims = node.types[0].static_shape if shape is None else shape
    if dtype.is_floating:
        return np.asarray(rng.uniform(0.25, 1.75, dims)).astype(dtype.numpy)
    return np.asarray(rng.integers(0, 2, dims)).astype(dtype.numpy)


def _longest_sum(computation: Computation, feeds: list[np.ndarray]) -> int:
    """An upper guess of how many terms one sum has: the largest tensor that is known."""
    sums = (Kind.REDUCE, Kind.CONTRACT, Kind.COMPOSITE)
    sizes = [f.size for f in feeds]
    for node in computation.nodes:
        if node.kind in sums:
            sizes += [v.type.size for v in node.inputs if v.type.is_static]
    return max(sizes, default=1)

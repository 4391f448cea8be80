"""Gradients of tensors and variables of a user's graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from graphc.frontend.arguments import as_sequence
from graphc.frontend.variables import Variable
from graphc.ir import backward
from graphc.ir.backward import Walk
from graphc.ir.errors import AttributeValueError, GradientError
from graphc.ir.graph import Value, convert
from graphc.ir.ops.movement import ones_like, zeros_like
from graphc.ir.types import merge_shapes


def gradients(
    ys: Any,
    xs: Any,
    grad_ys: Any = None,
    name: str = "gradients",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: Any = None,
    stop_gradients: Any = None,
    unconnected_gradients: str = "none",
) -> list[Value | None]:
    """d sum(ys) / dx for each x in `xs`, as tensors of the xs' shapes.

    `grad_ys` weighs the ys (default: ones). `stop_gradients` are tensors taken as constants. An
    x on which no y depends has None, or zeros with `unconnected_gradients="zero"`. For a
    variable, every reading counts. GradientError when a path from an x to a y goes through an op
    that has no gradient; it names the op, the reason and its line.
    """
    del colocate_gradients_with_ops, gate_gradients, aggregation_method
    if unconnected_gradients not in ("none", "zero"):
        raise AttributeValueError(
            f'unconnected_gradients is "none" or "zero", got {unconnected_gradients!r}'
        )
    targets = [convert(y) for y in as_sequence(ys)]
    if not targets:
        raise GradientError("gradients() needs at least one y")
    sources = [_readings(x) for x in as_sequence(xs)]
    stops = {v for x in as_sequence(stop_gradients or []) for v in _readings(x)}
    graph = targets[0].graph
    with graph.as_default(), graph.name_scope(name):
        walk = Walk(graph, targets, [v for x in sources for v in x], stops)
        for y, start in _starts(targets, grad_ys):
            walk.seed(y, start)
        walk.run()
        results = [walk.total([g for v in x for g in walk.pending.get(v, ())]) for x in sources]
        if unconnected_gradients == "zero":
            pairs = zip(results, sources, strict=True)
            return [zeros_like(x[0]) if g is None else g for g, x in pairs]
    return results


def _readings(x: Any) -> tuple[Value, ...]:
    """The values that are x: of a variable, all its readings."""
    return x.aliases if isinstance(x, Variable) else (convert(x),)


def _starts(targets: Sequence[Value], grad_ys: Any) -> Iterator[tuple[Value, Value]]:
    """The ys' own gradients: `grad_ys`, or ones."""
    given = [None] * len(targets) if grad_ys is None else as_sequence(grad_ys)
    if len(given) != len(targets):
        raise GradientError(f"{len(targets)} ys need as many grad_ys, got {len(given)}")
    for y, g in zip(targets, given, strict=True):
        if not y.dtype.is_floating:
            raise GradientError(
                f"{y!r} has no gradient: its dtype is {y.dtype}; cast it to a float"
            )
        start = ones_like(y) if g is None else convert(g, dtype=y.dtype)
        merge_shapes(start.type.shape, y.type.shape, f"grad_ys of {y.name!r}")
        yield y, start


def why_no_gradient(y: Value, xs: Iterable[Any]) -> str:
    """Why no gradient flows from y to any of the xs: the ops that let none through, or no path."""
    return backward.why_no_gradient(y, [v for x in xs for v in _readings(x)])

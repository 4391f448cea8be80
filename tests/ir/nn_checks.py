"""Hold an op against PyTorch, finite differences, the program evaluator and a session.

`build` takes tensors and gives one tensor; `reference` does the same with torch tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

import graphc as gc
from graphc.ir.computation import cut
from graphc.ir.dtypes import as_dtype
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.interpret import evaluate
from graphc.ir.table import OPS
from tests.passes.program_checks import check as check_program

Build = Callable[..., Value]
Reference = Callable[..., torch.Tensor]
Arrays = Sequence[np.ndarray]


def gradients(y: Value, xs: Sequence[Value], weight: Value | None = None) -> list[Value]:
    """d sum(weight * y) / dx, zeros where y does not depend on x."""
    grads = gc.gradients(
        y, list(xs), None if weight is None else [weight], unconnected_gradients="zero"
    )
    return [g for g in grads if g is not None]


class Case:
    """An op's output and its gradients, for arrays whose first dim the graph does not know."""

    def __init__(
        self, build: Build, arrays: Arrays, wrt: Sequence[int] | None, unknown: bool, seed: int = 5
    ) -> None:
        self.arrays = [np.asarray(a) for a in arrays]
        floats = [i for i, a in enumerate(self.arrays) if a.dtype.kind == "f"]
        self.wrt = floats if wrt is None else list(wrt)
        self.inputs = [_placeholder(a, f"x{i}", unknown) for i, a in enumerate(self.arrays)]
        self.output = build(*self.inputs)
        given = {v.node: a for v, a in zip(self.inputs, self.arrays, strict=True)}
        value = evaluate([self.output], given)[0]
        rng = np.random.default_rng(seed)
        self.upstream = np.asarray(rng.standard_normal(value.shape)).astype(value.dtype)
        self.weight = _placeholder(self.upstream, "g", unknown)
        self.given: dict[Node, np.ndarray] = {**given, self.weight.node: self.upstream}
        self.grads: list[Value] = []
        if self.wrt:
            sources = [self.inputs[i] for i in self.wrt]
            self.grads = gradients(self.output, sources, self.weight)

    @property
    def fetches(self) -> list[Value]:
        """The output, then the gradients."""
        return [self.output, *self.grads]


def _placeholder(array: np.ndarray, name: str, unknown: bool) -> Value:
    shape: Any = array.shape
    if unknown and shape:
        shape = (f"{name}.0", *shape[1:])
    return OPS["placeholder"](dtype=as_dtype(array.dtype), shape=shape, name=name)


def close(got: Arrays, want: Arrays, rtol: float, atol: float, what: str) -> None:
    """Equal shapes, dtypes and values, NaN where NaN is wanted."""
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        assert g.shape == w.shape, f"{what}, value {i}: {g.shape} is not {w.shape}"
        assert g.dtype == w.dtype, f"{what}, value {i}: {g.dtype} is not {w.dtype}"
        np.testing.assert_allclose(g, w, rtol, atol, err_msg=f"{what}, value {i}")


def torch_values(reference: Reference, case: Case) -> list[np.ndarray]:
    """The reference's output and gradients."""
    tensors = [torch.tensor(a) for a in case.arrays]
    for i in case.wrt:
        tensors[i].requires_grad_()
    y = reference(*tensors)
    results = [y]
    if case.wrt:
        sources = [tensors[i] for i in case.wrt]
        grads = torch.autograd.grad(
            y, sources, torch.tensor(case.upstream), allow_unused=True, materialize_grads=True
        )
        results += list(grads)
    return [r.detach().numpy() for r in results]


def check(
    build: Build,
    reference: Reference | None,
    arrays: Arrays,
    wrt: Sequence[int] | None = None,
    rtol: float = 2e-5,
    atol: float = 2e-5,
) -> None:
    """Values and gradients: torch, the graph, both programs and a session agree.

    `wrt`: the inputs whose gradients count (default: all floats).
    """
    with Graph().as_default(), np.errstate(all="ignore"):
        case = Case(build, arrays, wrt, unknown=True)
        got = evaluate(case.fetches, case.given)
        if reference is not None:
            close(got, torch_values(reference, case), rtol, atol, "against torch")
        with gc.Session(device="numpy") as session:
            feeds = {n.outputs[0]: a for n, a in case.given.items()}
            ran = session.run(case.fetches, feeds)
        close([np.asarray(r) for r in ran], got, rtol, atol, "session")
    with Graph().as_default(), np.errstate(all="ignore"):
        case = Case(build, arrays, wrt, unknown=False)
        feed_values = [n.outputs[0] for n in case.given]
        check_program(cut(case.fetches, (), feed_values), case.given, rtol, atol)


def check_differences(
    build: Build, arrays: Arrays, wrt: Sequence[int] | None = None, order: int = 2
) -> None:
    """Gradients up to the order against central differences in float64, along a direction."""
    wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in map(np.asarray, arrays)]
    with Graph().as_default():
        case = Case(build, wide, wrt, unknown=True)
        rng = np.random.default_rng(11)
        total = gc.reduce_sum(case.output * case.weight)
        for level in range(1, order + 1):
            sources = [case.inputs[i] for i in case.wrt]
            grads = gradients(total, sources)
            _check_direction(total, grads, case, rng, f"order {level}")
            mixed = [
                gc.reduce_sum(g * rng.standard_normal(case.arrays[i].shape))
                for i, g in zip(case.wrt, grads, strict=True)
            ]
            total = mixed[0]
            for part in mixed[1:]:
                total = total + part


def _check_direction(
    total: Value, grads: Sequence[Value], case: Case, rng: np.random.Generator, what: str
) -> None:
    step = 1e-5
    for _ in range(2):
        way = [np.asarray(rng.standard_normal(case.arrays[i].shape)) for i in case.wrt]
        values = evaluate(grads, case.given)
        slope = sum(float((g * d).sum()) for g, d in zip(values, way, strict=True))
        ends = []
        for sign in (1, -1):
            moved = dict(case.given)
            for i, d in zip(case.wrt, way, strict=True):
                moved[case.inputs[i].node] = case.arrays[i] + sign * step * d
            ends.append(float(evaluate([total], moved)[0]))
        numeric = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(slope, numeric, rtol=2e-5, atol=2e-6, err_msg=what)

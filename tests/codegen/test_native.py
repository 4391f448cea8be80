"""The C back end against the evaluator: every op, random graphs, loops, threads, odd feeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.ir.computation import cut
from graphc.ir.dtypes import as_dtype
from graphc.ir.graph import Graph, Value
from graphc.ir.interpret import evaluate
from graphc.ir.settings import Settings
from graphc.ir.table import OPS
from graphc.passes.context import Context
from graphc.passes.pipeline import compile_program
from graphc.runtime.devices.native import NativeDevice
from tests import control_programs
from tests.ir.test_op_table import NAMES
from tests.random_graphs import chooser, random_graph, random_program

DEVICE = NativeDevice()


def _run(computation: Any, given: dict[Any, np.ndarray], threads: int = 2) -> list[np.ndarray]:
    shapes = {n: np.shape(a) for n, a in given.items()}
    settings = Settings(threads=threads)
    context = Context(settings, DEVICE.target, shapes, dict(given))
    program = compile_program(computation, context)
    executable = DEVICE.load(program, {}, settings)
    return executable.run([np.asarray(given[n]) for n in computation.inputs], 0)


def _agree(got: np.ndarray, want: Any, tolerance: float) -> None:
    want = np.asarray(want)
    assert got.dtype == want.dtype and got.shape == want.shape
    if want.dtype.kind in "iub":
        np.testing.assert_array_equal(got, want)
    else:
        limit = 1e-2 if want.dtype.itemsize < 4 else tolerance
        np.testing.assert_allclose(
            got.astype(np.float64), want.astype(np.float64), rtol=limit, atol=limit
        )


@pytest.mark.parametrize("name", NAMES)
def test_every_op(name: str) -> None:
    with Graph().as_default():
        outputs: list[Value] = []
        given: dict[Any, np.ndarray] = {}
        for sample in OPS[name].samples():
            arrays = [np.asarray(a) for a in sample.inputs]
            inputs = [gc.placeholder(as_dtype(a.dtype), a.shape) for a in arrays]
            given |= {v.node: a for v, a in zip(inputs, arrays, strict=True)}
            outputs += OPS[name].outputs(*inputs, **sample.attrs)
        want = evaluate(outputs, given)
        got = _run(cut(outputs, [], [n.outputs[0] for n in given]), given)
    for a, b in zip(got, want, strict=True):
        if a.dtype == object:
            assert a.tolist() == np.asarray(b).tolist()
        else:
            _agree(a, b, 2e-5)


@pytest.mark.parametrize("seed", range(30))
def test_random_graphs(seed: int) -> None:
    options = {"steps": 24, "backward": seed % 2 == 1, "exact": seed % 3 == 0}
    outputs, given = random_graph(chooser(seed), **options)
    computation = cut(outputs, (), [n.outputs[0] for n in given])
    want = evaluate(computation.outputs, given)
    for a, b in zip(_run(computation, given), want, strict=True):
        _agree(a, b, 1e-6)


@pytest.mark.parametrize("name", sorted(control_programs.PROGRAMS))
def test_loops_and_branches(name: str) -> None:
    program = control_programs.PROGRAMS[name]
    with gc.Graph().as_default(), gc.Session(device="native") as session:
        fetches, feeds = control_programs.fetches_and_feeds(program)
        control_programs.check(program, session.run(fetches, feeds))

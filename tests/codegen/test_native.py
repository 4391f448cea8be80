"""The C back end against the evaluator: every op, random graphs, loops, threads, odd feeds."""

from __future__ import annotations

import re
from collections.abc import Callable
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


def _run(computation: Any, given: dict[Any, np.ndarray], threads: int = 2) -> list[np.ndarray]:
    shapes = {n: np.shape(a) for n, a in given.items()}
    settings, device = Settings(threads=threads), NativeDevice()
    context = Context(settings, device.target, shapes, dict(given))
    program = compile_program(computation, context)
    executable = device.load(program, {}, settings)
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


@pytest.mark.parametrize("seed", range(12))
def test_random_updates(seed: int) -> None:
    """Outputs have the values of before, variables those of after."""
    computation, given = random_program(chooser(seed))
    device, settings = NativeDevice(), Settings(threads=2)
    program = compile_program(computation, Context(settings, device.target))
    by_name = {n.name: n for n in given}
    storage = {}
    for name in program.variables:
        array = given[by_name[program.buffers[name].source]]
        storage[name] = device.allocate(as_dtype(array.dtype), array.shape)
        device.write(storage[name], array)
    executable = device.load(program, storage, settings)
    got = executable.run([given[n] for n in computation.inputs], 0)
    held = {program.buffers[n].source: device.read(x) for n, x in storage.items()}
    got += [held.get(v.name, given[v]) for v, _ in computation.updates]
    for a, b in zip(got, evaluate(computation.roots, given), strict=True):
        _agree(a, b, 1e-9)


def test_a_routine_that_fails_leaves_variables_and_says_why() -> None:
    with gc.Graph().as_default(), gc.Session(device="native") as session:
        x = gc.placeholder(gc.float32, [3])
        v = gc.Variable([1.0, 2.0, 3.0])
        session.run(gc.global_variables_initializer())
        step = gc.assign(v, gc.check_numerics(x * 2.0, "of x"))
        with pytest.raises(Exception, match="of x"):
            session.run(step, {x: np.array([1, np.nan, 2], np.float32)})
        np.testing.assert_array_equal(session.run(v), [1, 2, 3])
        np.testing.assert_array_equal(session.run(step, {x: np.ones(3, np.float32)}), [2, 2, 2])


def test_kernels_that_do_the_same_share_their_functions() -> None:
    with gc.Graph().as_default():
        x = gc.placeholder(gc.float32, [64, 40])
        ws = [gc.Variable(gc.random_normal([40, 40])) for _ in range(3)]
        y = x
        for w in ws:
            y = gc.nn.relu(gc.matmul(y, w))
        report = gc.explain(y, device="native")
        assert sum("the functions of" in k.source for k in report.kernels) == 2
        with gc.Session(device="native") as session:
            session.run(gc.global_variables_initializer())
            feed = np.random.default_rng(0).standard_normal((64, 40)).astype(np.float32)
            got, *arrays = session.run([y, *ws], {x: feed})
    want = feed.astype(np.float64)
    for w in arrays:
        want = np.maximum(want @ w, 0)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)


def test_packed_factors_follow_their_variables() -> None:
    """A product keeps its packed second factor until the variable changes, however it does."""
    with gc.Graph().as_default(), gc.Session(device="native") as session:
        x, w = gc.placeholder(gc.float32, [70, 40]), gc.Variable(gc.random_normal([40, 50]))
        y, double = gc.matmul(x, w), gc.assign(w, w * 2.0)
        session.run(gc.global_variables_initializer())
        feed = np.random.default_rng(0).standard_normal((70, 40)).astype(np.float32)

        def check() -> None:
            want = feed.astype(np.float64) @ session.run(w)
            np.testing.assert_allclose(session.run(y, {x: feed}), want, rtol=1e-4, atol=1e-4)

        check()
        check()
        session.run(double)
        check()
        session.write_variables({w: np.ones((40, 50), np.float32)})
        check()


def test_initializers_are_not_compiled(caplog: pytest.LogCaptureFixture) -> None:
    with gc.Graph().as_default(), gc.Session(device="native") as session:
        v = gc.Variable(gc.random_normal([5], seed=3))
        w = gc.Variable(v.initialized_value() * 2.0)
        caplog.set_level("INFO", "graphc")
        session.run(gc.global_variables_initializer())
        assert "initializer runs on NumPy" in caplog.text
        caplog.clear()
        got = session.run([v, gc.assign_add(w, v)])  # reads, and gives: a program of its own
        assert "NumPy" not in caplog.text
        np.testing.assert_allclose(got[1], got[0] * 3, rtol=1e-6)


_PADDED: dict[str, Callable[[Any], Any]] = {
    "depthwise": lambda x: gc.nn.depthwise_conv2d(
        x, gc.cast(gc.reshape(gc.range(9 * 13), [3, 3, 13, 1]), x.dtype), [1, 1, 1, 1], "SAME"
    ),
    "max_pool": lambda x: gc.nn.max_pool(x, [1, 3, 3, 1], [1, 2, 2, 1], "SAME"),
    "avg_pool": lambda x: gc.nn.avg_pool(x, [1, 3, 2, 1], [1, 1, 2, 1], "SAME"),
    "pad": lambda x: gc.abs(gc.pad(x, [[0, 0], [1, 2], [0, 3], [0, 0]], constant_values=7)),
    "concat": lambda x: gc.abs(gc.concat([x, x[:, 1:], x[:, :2]], 1)),
    "channels": lambda x: gc.abs(gc.pad(x, [[0, 0], [0, 0], [0, 0], [2, 1]])),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int32", "int8"])
@pytest.mark.parametrize("what", sorted(_PADDED))
def test_padding_around_what_is_vectorized(what: str, dtype: str) -> None:
    """A run of what is not there is an array of the fill, chosen outside of the loop; where each
    element has conditions of its own (the channels are padded) nothing is chosen."""
    kind = as_dtype(dtype)
    if not kind.is_floating and what in ("avg_pool", "depthwise", "max_pool"):
        return
    values = np.random.default_rng(8).integers(-9, 9, (2, 5, 6, 13)).astype(kind.numpy)
    if kind.is_floating:
        values[0, 0, 0, 0], values[1, 4, 5, 12] = np.inf, np.nan
    with Graph().as_default():
        x = gc.placeholder(kind, values.shape)
        y = _PADDED[what](x)
        source = "".join(k.source for k in gc.explain(y, device="native").kernels)
        got, want = (
            gc.Session(device=device).run(y, {x: values}) for device in ("native", "numpy")
        )
    half = what in ("pad", "max_pool", "depthwise") and kind in (gc.float16, gc.bfloat16)
    chosen = re.search(r"\*run_\d+ = .*\?", source)
    assert bool(chosen) == (what != "channels" and not half), source
    _agree(got, want, 1e-6 if kind.itemsize > 2 else 1e-2)

"""Attention written as products: what is recognized, what must be left alone, and the results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.ir.computation import Computation, cut
from graphc.ir.graph import Graph, Value
from graphc.ir.interpret import evaluate
from graphc.ir.settings import Settings
from graphc.ir.table import OPS
from graphc.ir.verify import verify_computation
from graphc.passes.canonicalize import canonicalize
from graphc.passes.context import Context
from graphc.passes.pipeline import compile_program
from graphc.passes.recognize_attention import RULE, recognize_attention
from graphc.passes.specialize import specialize
from graphc.passes.target import CPU, GPU, NUMPY, Target

N, M, D, E = 160, 144, 6, 5
TRIANGLE = np.tri(N, M, dtype=np.bool_)
Build = Callable[..., Any]


def _inputs(dtype: Any = gc.float32, n: int = N, m: int = M) -> list[Value]:
    shapes = ((2, 3, n, D), (2, 3, m, D), (2, 3, m, E))
    return [gc.placeholder(dtype, s) for s in shapes]


def _recognized(
    build: Build, target: Target = CPU, **sizes: Any
) -> tuple[Computation, Computation, Context]:
    """The computation before and after the pass, of build(q, k, v)."""
    with Graph().as_default():
        q, k, v = inputs = _inputs(**sizes)
        outputs = build(q, k, v)
        outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        computation = cut(outputs, [], inputs)
    ctx = Context(target=target)
    before = canonicalize(specialize(computation, ctx), ctx)
    after = recognize_attention(before, ctx)
    verify_computation(after)
    return before, after, ctx


def _ops(computation: Computation) -> list[str]:
    return [n.op.name for n in computation.nodes]


def _softmax(scores: Value) -> Value:
    return gc.nn.softmax(scores)


def _scores(q: Value, k: Value) -> Value:
    return gc.matmul(q, k, transpose_b=True)


def _bias(*shape: int) -> np.ndarray:
    return np.random.default_rng(4).standard_normal(shape).astype(np.float32)


def _shared(*shape: int) -> Value:
    return gc.constant(_bias(*shape))


def _einsum(q: Value, k: Value, v: Value) -> Value:
    q, k, v = (gc.transpose(x, [0, 2, 1, 3]) for x in (q, k, v))  # time before heads
    p = _softmax(gc.einsum("bqhd,bkhd->bhqk", q, k) * 0.3)
    return gc.einsum("bhqk,bkhd->bqhd", p, v)


KEEP = np.random.default_rng(9).random((1, 1, N, M)) < 0.7
RECOGNIZED: dict[str, tuple[Build, dict[str, Any]]] = {
    "plain": (lambda q, k, v: _softmax(_scores(q, k)) @ v, {"scale": 1.0, "causal": False}),
    "scaled": (lambda q, k, v: _softmax(_scores(q, k) * 0.25) @ v, {"scale": 0.25}),
    "scaled first": (lambda q, k, v: _softmax(0.25 * _scores(q, k)) @ v, {"scale": 0.25}),
    "divided": (lambda q, k, v: _softmax(_scores(q, k) / 8.0) @ v, {"scale": 0.125}),
    "turned": (
        lambda q, k, v: _softmax(gc.matmul(q, gc.transpose(k, [0, 1, 3, 2])) / 8.0) @ v,
        {"scale": 0.125},
    ),
    "bias": (
        lambda q, k, v: _softmax(_scores(q, k) * 0.5 + _bias(1, 3, N, M)) @ v, {"scale": 0.5},
    ),
    "bias first": (
        lambda q, k, v: _softmax(gc.add(_bias(N, M), _scores(q, k))) @ v, {"scale": 1.0},
    ),
    "keys": (lambda q, k, v: _softmax(_scores(q, k) + _bias(2, 1, 1, M)) @ v, {}),
    "where": (
        lambda q, k, v: _softmax(gc.where(KEEP, _scores(q, k), -np.inf)) @ v, {"causal": False},
    ),
    "where not": (
        lambda q, k, v: _softmax(gc.where(~KEEP, -np.inf, _scores(q, k)) * 2.0) @ v,
        {"scale": 2.0},
    ),
    "causal": (
        lambda q, k, v: _softmax(gc.where(TRIANGLE, _scores(q, k), -np.inf)) @ v, {"causal": True},
    ),
    "not causal": (
        lambda q, k, v: _softmax(gc.where(~TRIANGLE, -np.inf, _scores(q, k))) @ v,
        {"causal": True},
    ),
    "causal by numbers": (
        lambda q, k, v: _softmax(
            _scores(q, k) + np.where(TRIANGLE, 0, -np.inf).astype(np.float32)) @ v,
        {"causal": True},
    ),
    "einsum": (_einsum, {"scale": 0.3}),
    "values first": (
        lambda q, k, v: gc.einsum("bhke,bhqk->bheq", v, _softmax(_scores(q, k))), {},
    ),
    "keys first": (
        lambda q, k, v: _softmax(gc.einsum("bhkd,bhqd->bhqk", k, q)) @ v, {},
    ),
    "two layers": (
        lambda q, k, v: _softmax(_scores(q, k)) @ (
            gc.nn.relu(_softmax(_scores(k, k) + _bias(M, M)) @ v)),
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RECOGNIZED)
def test_recognized(name: str) -> None:
    build, attrs = RECOGNIZED[name]
    before, after, _ = _recognized(build)
    found = [n for n in after.nodes if n.op.name == "scaled_dot_product_attention"]
    assert len(found) == (2 if name == "two layers" else 1) and "softmax" not in _ops(after)
    for key, value in attrs.items():
        assert found[0].attrs[key] == pytest.approx(value)
    assert len(found[0].inputs) == (4 if "bias" in name or name in ("keys", "where", "where not")
                                    or name == "two layers" else 3)  # fmt: skip
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(n.types[0].static_shape).astype(np.float32)
              for n in before.inputs]  # fmt: skip
    given = [dict(zip(c.inputs, arrays, strict=True)) for c in (before, after)]
    want, got = (evaluate(c.outputs, g)[0] for c, g in zip((before, after), given, strict=True))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def _with_gradient(q: Value, k: Value, v: Value) -> list[Value]:
    out = _softmax(_scores(q, k)) @ v
    return [out, *gc.gradients(out, [q])]  # type: ignore[list-item]


def _fetched(q: Value, k: Value, v: Value) -> list[Value]:
    p = _softmax(_scores(q, k))
    return [p @ v, p]


def _scores_fetched(q: Value, k: Value, v: Value) -> list[Value]:
    s = _scores(q, k)
    return [_softmax(s * 0.5) @ v, gc.reduce_sum(s)]


def _computed_bias(q: Value, k: Value, v: Value) -> Value:
    bias = gc.tanh(gc.reduce_sum(q, -1, keepdims=True) * gc.reduce_sum(k, -1)[:, :, None])
    return _softmax(_scores(q, k) + bias) @ v


REFUSED: dict[str, tuple[Build, str, dict[str, Any]]] = {
    "gradient": (_with_gradient, "the probabilities are read elsewhere", {}),
    "fetched": (_fetched, "the probabilities are read elsewhere", {}),
    "scores fetched": (_scores_fetched, "the scores are read elsewhere", {}),
    "other axis": (
        lambda q, k, v: gc.nn.softmax(_scores(q, k), axis=2) @ v,
        "softmax along another axis than the last", {},
    ),
    "finite": (
        lambda q, k, v: _softmax(gc.where(KEEP, _scores(q, k), -1e9)) @ v,
        "what is excluded has a finite score", {},
    ),
    "two masks": (
        lambda q, k, v: _softmax(_scores(q, k) + _shared(N, M) + _shared(M)) @ v,
        "more masks than one", {},
    ),
    "scaled mask": (
        lambda q, k, v: _softmax((_scores(q, k) + _bias(N, M)) * 0.5) @ v,
        "a mask is scaled, or the scale is not positive", {},
    ),
    "negative": (
        lambda q, k, v: _softmax(_scores(q, k) * -0.5) @ v,
        "a mask is scaled, or the scale is not positive", {},
    ),
    "large mask": (
        _computed_bias, "the mask would be kept in memory instead of the scores", {},
    ),
    "small": (
        lambda q, k, v: _softmax(_scores(q, k)) @ v, "products are as quick at this size",
        {"n": 100, "m": 100},
    ),
    "few rows": (
        lambda q, k, v: _softmax(_scores(q, k)) @ v, "products are as quick at this size",
        {"n": 1, "m": 1 << 20},
    ),
    "small for NumPy": (
        lambda q, k, v: _softmax(_scores(q, k)) @ v, "products are as quick at this size",
        {"target": NUMPY},
    ),
    "double": (
        lambda q, k, v: _softmax(_scores(q, k)) @ v, "no routine for float64",
        {"dtype": gc.float64},
    ),
    "other dims": (
        lambda q, k, v: OPS["contract"](_softmax(_scores(q, k)), v, spec="bhqk,bhke->be"),
        "other dims than those of attention", {},
    ),
    "other scores": (
        lambda q, k, v: _softmax(OPS["contract"](q, v, spec="bhqd,bhkc->bhqk")) @ v,
        "other dims than those of attention", {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    build, reason, options = REFUSED[name]
    before, after, ctx = _recognized(build, **options)
    assert after is before
    record = ctx.notes["rules"][RULE]
    assert record.fired == 0 and reason in record.declined


@pytest.mark.parametrize(
    "build",
    [
        lambda q, k, v: _softmax(q) @ gc.transpose(q, [0, 1, 3, 2]),
        lambda q, k, v: _softmax(gc.tanh(_scores(q, k))) @ v,
        lambda q, k, v: _softmax(_scores(q[:1], k)) @ v,
        lambda q, k, v: gc.matmul(v, _softmax(gc.matmul(v, v, transpose_b=True)), transpose_a=True),
    ],
)
def test_what_is_no_attention(build: Build) -> None:
    before, after, ctx = _recognized(build)
    assert after is before and not ctx.notes["rules"][RULE].fired


def test_on_a_gpu() -> None:
    """16-bit products are recognized; what no kernel takes is its products again."""
    plain = RECOGNIZED["plain"][0]
    before, after, ctx = _recognized(plain, target=GPU, dtype=gc.float16)
    assert "scaled_dot_product_attention" in _ops(after)
    before, after, ctx = _recognized(plain, target=GPU)
    assert after is before
    assert ctx.notes["rules"][RULE].declined["no routine for float32"] == 1
    for dtype, width in ((gc.float64, 8), (gc.float16, 300), (gc.float16, 8)):
        with Graph().as_default():
            x = gc.placeholder(dtype, (2, 7, width))
            out = gc.nn.scaled_dot_product_attention(x, x, x)
            grad = gc.gradients(out, [x])
            computation = cut([out, *grad], [], [x])  # type: ignore[list-item]
        names = _ops(recognize_attention(computation, Context(target=GPU)))
        calls = [n for n in names if n.startswith("scaled_dot_product_attention")]
        assert len(calls) == (2 if (dtype, width) == (gc.float16, 8) else 0)


@pytest.mark.parametrize(
    ("target", "n", "dtype", "forward", "trained"),
    [
        (CPU, 100, gc.float32, 0, 0), (CPU, 130, gc.float32, 1, 0),
        (CPU, 260, gc.float32, 1, 2), (CPU, 260, gc.float64, 1, 2),
        (NUMPY, 130, gc.float32, 0, 0), (NUMPY, 260, gc.float32, 1, 0),
        (NUMPY, 1030, gc.float64, 1, 2), (GPU, 5, gc.float32, 1, 2),
    ],
)  # fmt: skip
def test_small_attention_is_products(
    target: Target, n: int, dtype: Any, forward: int, trained: int
) -> None:
    with Graph().as_default():
        x = gc.placeholder(dtype, (2, n, 8))
        out = gc.nn.scaled_dot_product_attention(x, x, x, causal=True)
        grad = gc.gradients(out, [x])
        for outputs, count in (([out], forward), ([out, *grad], trained)):
            computation = cut(outputs, [], [x])  # type: ignore[arg-type]
            after = recognize_attention(computation, Context(target=target))
            calls = [n for n in _ops(after) if n.startswith("scaled_dot_product_attention")]
            assert len(calls) == count


def test_products_of_small_attention_are_right() -> None:
    rng = np.random.default_rng(6)
    arrays = [rng.standard_normal((2, 9, 8)).astype(np.float32) for _ in range(4)]
    keep = rng.random((9, 9)) < 0.6
    keep[3] = False
    with Graph().as_default() as graph:
        q, k, v, g = given = [gc.placeholder(gc.float32, a.shape) for a in arrays]
        out = gc.nn.scaled_dot_product_attention(q, k, v, keep)
        fetches = [out, *gc.gradients(out, [q, k, v], [g])]
        feeds = dict(zip(given, arrays, strict=True))
        want = evaluate(fetches, {v.node: a for v, a in feeds.items()})  # type: ignore[arg-type]
        for device in ("numpy", "native"):
            assert all(k.form != "call" for k in gc.explain(fetches, device=device).kernels)
            with gc.Session(graph=graph, device=device) as session:
                for a, b in zip(session.run(fetches, feeds), want, strict=True):
                    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_target_without_the_routine() -> None:
    before, after, _ = _recognized(RECOGNIZED["plain"][0], target=replace(CPU, attention=None))
    assert after is before


def test_the_pipeline_checks_it() -> None:
    with Graph().as_default():
        inputs = _inputs()
        q, k, v = inputs
        computation = cut([_softmax(_scores(q, k) * 0.1 + _bias(N, M)) @ v], [], inputs)
    program = compile_program(computation, Context(Settings(check_passes=True), CPU))
    assert [k.form for k in program.kernels] == ["call"]
    largest = max(b.nbytes for b in program.buffers.values())
    assert largest < 6 * N * M * 4


def test_inside_a_loop() -> None:
    rng = np.random.default_rng(2)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in ((3, N, D), (M, D), (M, E))]
    results = []
    with Graph().as_default() as graph:
        q, k, v = (gc.placeholder(gc.float32, a.shape) for a in arrays)
        out = gc.map_fn(lambda x: _softmax(_scores(x, k)) @ v, q)
        for device in ("numpy", "native"):
            with gc.Session(graph=graph, device=device) as session:
                results.append(session.run(out, dict(zip((q, k, v), arrays, strict=True))))
        (kernel,) = gc.explain(out, device="native", graph=graph).program.kernels
        (inner,) = kernel.programs
        assert [k.form for k in inner.kernels] == ["call"]
    np.testing.assert_allclose(results[0], results[1], rtol=1e-4, atol=1e-5)

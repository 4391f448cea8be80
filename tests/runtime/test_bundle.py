"""Bundles: what is written runs elsewhere with the same results, and what is wrong is said."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import graphc as gc
from graphc import errors
from graphc.ir.loop import format_program
from graphc.runtime import bundle_native
from graphc.runtime.bundle_files import pack_arrays, unpack_arrays, write_files
from graphc.runtime.devices import native_build
from graphc.runtime.explain import compile_fetches
from graphc.runtime.targets import GPU, find_target
from tests.control_programs import CONTROL
from tests.random_graphs import random_graph

HAS_COMPILER = any(map(shutil.which, ("cc", "gcc", "clang")))
TARGETS = ["numpy", *["native"] * HAS_COMPILER]
needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason="no C compiler")


@pytest.fixture(autouse=True)
def fresh_graph() -> Iterator[None]:
    with gc.Graph().as_default():
        yield


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


FEEDS = {"x": normal(7, 5), "labels": np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2, 2]]}
SHAPES = {n: a.shape for n, a in FEEDS.items()}


def training() -> tuple[dict[str, Any], gc.Session]:
    """A small network in training, with dropout, so that the run's number matters."""
    x = gc.placeholder(gc.float32, [None, 5], name="x")
    labels = gc.placeholder(gc.float32, [None, 3], name="labels")
    weights = gc.Variable(normal(5, 3, seed=2), name="weights")
    hidden = gc.nn.dropout(gc.tanh(gc.matmul(x, weights) + gc.Variable(gc.ones([3]))), 0.5)
    losses = gc.nn.softmax_cross_entropy_with_logits(labels=labels, logits=hidden)
    step = gc.train.AdamOptimizer(0.1).minimize(gc.reduce_mean(losses))
    session = gc.Session(device="numpy", graph=gc.get_default_graph())
    session.run(gc.global_variables_initializer())
    return {"loss": gc.reduce_mean(losses), "hidden": hidden, "step": step}, session


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["bundle", "bundle.zip"])
def test_a_training_step_goes_on_as_in_the_session(target: str, name: str, tmp_path: Path) -> None:
    fetches, session = training()
    gc.write_bundle(tmp_path / name, fetches, target=target, shapes=SHAPES, session=session)
    model = gc.load_bundle(tmp_path / name)
    assert list(model.outputs) == ["loss", "hidden"]
    assert model.inputs["x"].shape == (7, 5) and model.target == target
    fresh = gc.Session(device="numpy", graph=session.graph)  # whose runs are numbered from 0
    fresh.write_variables({v: session.read_variable(v) for v in gc.global_variables()})
    for _ in range(3):
        expected = fresh.run([fetches["loss"], fetches["hidden"], fetches["step"]],
                             {f"{n}:0": a for n, a in FEEDS.items()})  # fmt: skip
        result = model(FEEDS)
        np.testing.assert_allclose(result["loss"], expected[0], rtol=1e-5)
        np.testing.assert_allclose(result["hidden"], expected[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        model.variables["weights"], fresh.read_variable("weights"), rtol=1e-4
    )


@needs_compiler
def test_it_runs_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetches, session = training()
    gc.write_bundle(tmp_path / "b", fetches, target="native", shapes=SHAPES, session=session)
    expected = gc.load_bundle(tmp_path / "b")(FEEDS)
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setattr(native_build.subprocess, "run", forbidden)
    result = gc.load_bundle(tmp_path / "b")(FEEDS)
    assert all(np.array_equal(result[n], expected[n]) for n in expected)


def forbidden(*_: Any, **__: Any) -> Any:
    raise AssertionError("nothing may be compiled")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", sorted(CONTROL)[:6])
def test_loops_and_branches(name: str, target: str, tmp_path: Path) -> None:
    check_same(CONTROL[name](), target, tmp_path)


@pytest.mark.parametrize("seed", range(8))
def test_random_graphs(seed: int, tmp_path: Path) -> None:
    check_same(random_graph(seed), "numpy", tmp_path)


def check_same(made: Any, target: str, path: Path) -> None:
    raise NotImplementedError

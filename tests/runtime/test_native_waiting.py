"""NumPy runs a program until its C is compiled."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc import demo
from graphc.ir.errors import DeviceError
from graphc.runtime.devices import native
from graphc.runtime.devices.native_waiting import WaitingExecutable


def _executables(session: gc.Session) -> list[Any]:
    stages = [p.main for p in session._prepared.values()]
    return [c.executable for s in stages for c in s.by_shape.values()]


def _losses(steps: int, take_over_at: int, **settings: Any) -> list[float]:
    """Of the perceptron, which packs its weights; C takes over before a certain step."""
    rng = np.random.default_rng(0)
    images, labels = rng.random((32, 8, 8), np.float32), rng.integers(0, 10, 32)
    with gc.Graph().as_default(), gc.Session(device="native", **settings) as session:
        gc.set_random_seed(0)
        built = demo.build(demo.NETWORKS[1])
        session.run(gc.global_variables_initializer())
        step = session.make_callable([built.loss, built.step], [built.images, built.labels])
        losses = []
        for i in range(steps):
            if i == take_over_at:
                for e in _executables(session):
                    if isinstance(e, WaitingExecutable):
                        e.thread.join(100)
            losses.append(float(step(images, labels)[0]))
        return losses


def test_c_takes_over_between_steps(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    alone = _losses(8, -1, native_cache=str(tmp_path / "a"))
    assert alone[-1] < 0.9 * alone[0]
    with caplog.at_level(logging.INFO, logger="graphc"):
        both = _losses(8, 4, native_cache=str(tmp_path / "b"), native_async=True)
    np.testing.assert_allclose(both, alone, rtol=1e-4)
    assert "compiled C takes over" in caplog.text and "runs on NumPy" in caplog.text


def test_what_is_in_the_cache_runs_at_once(tmp_path: Path) -> None:
    for number in range(2):
        with gc.Graph().as_default():
            session = gc.Session(device="native", native_cache=str(tmp_path), native_async=True)
            assert session.run(gc.constant(np.ones(3, np.float32)) * 2.0).tolist() == [2, 2, 2]
            (executable,) = _executables(session)
            assert isinstance(executable, WaitingExecutable) == (number == 0)
            if number == 0:
                executable.thread.join(100)


def test_a_failing_compiler_leaves_numpy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise DeviceError("the compiler has failed")

    monkeypatch.setattr(native, "build", fail)
    with gc.Graph().as_default(), caplog.at_level(logging.WARNING, logger="graphc"):
        session = gc.Session(device="native", native_cache=str(tmp_path), native_async=True)
        call = session.make_callable(gc.constant(np.ones(3, np.float32)) * 2.0)
        for _ in range(3):
            assert call().tolist() == [2, 2, 2]
            (executable,) = _executables(session)
            executable.thread.join(100)
    assert caplog.text.count("the compiler has failed") == 1


def test_variables_packed_by_other_programs_are_packed_again(tmp_path: Path) -> None:
    """A product that keeps its packed weights sees what NumPy's run of another program assigns."""
    weights = np.random.default_rng(0).random((64, 64), np.float32)
    x = np.random.default_rng(1).random((64, 64), np.float32)
    with gc.Graph().as_default():
        session = gc.Session(device="native", native_cache=str(tmp_path), native_async=True)
        w, p = gc.Variable(weights), gc.placeholder(gc.float32, [64, 64])
        session.run(gc.global_variables_initializer())
        product = session.make_callable(gc.matmul(p, w), [p])
        product(x)
        for e in _executables(session):
            if isinstance(e, WaitingExecutable):
                e.thread.join(100)
        np.testing.assert_allclose(product(x), x @ weights, rtol=1e-5)
        session.run(gc.assign(w, w * 2.0))  # on NumPy
        np.testing.assert_allclose(product(x), x @ weights * 2, rtol=1e-5)

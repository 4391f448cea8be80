"""Ctrl-C during a step: all of its updates are made, or none."""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import pytest

import graphc as gc
from graphc.runtime.interrupts import uninterrupted


def test_the_signal_waits_for_the_end() -> None:
    made: list[str] = []

    def run(name: str) -> None:
        signal.raise_signal(signal.SIGINT)
        made.append(name)

    with pytest.raises(KeyboardInterrupt):
        uninterrupted(run, ("first",))
    assert made == ["first"]
    uninterrupted(made.append, ("second",))  # nothing is left over
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)  # outside it comes at once


def test_an_error_inside_passes_on() -> None:
    with pytest.raises(ZeroDivisionError):
        uninterrupted(lambda x: 1 // x, (0,))
    uninterrupted(lambda: None, ())


def test_a_handler_that_someone_sets_is_called() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        time.sleep(0.06)  # it is looked for now and then
        uninterrupted(signal.raise_signal, (signal.SIGINT,))
        assert came == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)
        time.sleep(0.06)


def test_two_variables_stay_together() -> None:
    """Interrupted at any moment of training, both variables have made the same steps."""
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        a, b = (gc.Variable(gc.zeros([20_000])) for _ in range(2))
        step = gc.group(*(v.assign_add(gc.ones([20_000])) for v in (a, b)))
        session.run(gc.global_variables_initializer())
        train = session.make_callable(step)
        train()
        rng, caught = random.Random(0), 0
        for _ in range(25):
            delay = rng.uniform(0.001, 0.01)
            timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
            try:
                timer.start()
                while True:
                    train()
            except KeyboardInterrupt:
                caught += 1
            timer.join()
            first, second = session.run([a, b])
            assert (first == first[0]).all() and (second == first[0]).all()
        assert caught == 25

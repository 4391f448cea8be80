"""The team of threads: forks, Python threads, one thread, the end of the process, Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gc

SIZE = 1 << 20


def _call(threads: int = 2) -> Callable[..., Any]:
    """exp(x) * y + sum(x) of large vectors: kernels that the team shares."""
    with gc.Graph().as_default():
        session = gc.Session(device="native", threads=threads)
        x, y = gc.placeholder(gc.float32, [SIZE]), gc.placeholder(gc.float32, [SIZE])
        return session.make_callable(gc.exp(x) * y + gc.reduce_sum(x), [x, y])


def _arrays(seed: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.random.default_rng(seed).random((2, SIZE), np.float32)
    return x, y


def _check(call: Callable[..., Any], seed: int) -> None:
    x, y = _arrays(seed)
    np.testing.assert_allclose(call(x, y), np.exp(x) * y + x.sum(dtype=np.float64), rtol=1e-5)


def _in_the_child(call: Callable[..., Any], results: Any) -> None:
    _check(call, 1)
    _check(_call(), 2)
    results.put(os.getpid())


def test_a_forked_process_has_a_team_of_its_own() -> None:
    call = _call()
    _check(call, 0)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    children = [context.Process(target=_in_the_child, args=(call, results)) for _ in range(2)]
    for child in children:
        child.start()
    _check(call, 3)
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert len({results.get(timeout=10) for _ in children} - {os.getpid()}) == 2
    _check(call, 4)


def test_two_threads_run_two_sessions() -> None:
    calls, errors = [_call(), _call()], []

    def work(number: int) -> None:
        try:
            for seed in range(10):
                _check(calls[number], 10 * number + seed)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors and not any(t.is_alive() for t in threads)


def test_two_threads_share_a_session() -> None:
    call, errors = _call(), []

    def work(number: int) -> None:
        try:
            for seed in range(6):
                _check(call, 10 * number + seed)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors


def _process(code: str) -> subprocess.CompletedProcess[str]:
    start = "from tests.runtime.test_native_threads import _arrays, _call, _check\n"
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-c", start + code], cwd=root,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs Linux's /proc")
@pytest.mark.parametrize("threads", [1, 3])
def test_as_many_threads_as_the_setting_says(threads: int) -> None:
    code = f"""
import os
call = _call({threads})
before = len(os.listdir("/proc/self/task"))
_check(call, 0)
print(len(os.listdir("/proc/self/task")) - before)
"""
    done = _process(code)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == threads - 1


@pytest.mark.parametrize("way", ["pass", "raise SystemExit(0)", "import os; os._exit(0)"])
def test_the_process_ends(way: str) -> None:
    assert _process(f"_check(_call(2), 0)\n{way}\n").returncode == 0


def test_the_process_ends_while_a_thread_runs() -> None:
    code = """
import threading
call = _call(2)
x, y = _arrays(0)
def work():
    while True:
        call(x, y)
threading.Thread(target=work, daemon=True).start()
_check(call, 0)
"""
    assert _process(code).returncode in (0, -signal.SIGABRT)  # Python may abort daemon threads


def test_ctrl_c_comes_between_steps() -> None:
    with gc.Graph().as_default(), gc.Session(device="native", threads=2) as session:
        a = gc.Variable(np.zeros(SIZE, np.float32))
        b = gc.Variable(np.zeros(SIZE, np.float32))
        step = gc.group(gc.assign_add(a, gc.ones([SIZE])), gc.assign_add(b, gc.ones([SIZE])))
        session.run(gc.global_variables_initializer())
        call = session.make_callable(step)
        call()
        for _ in range(5):
            timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                end = time.monotonic() + 20
                while time.monotonic() < end:
                    call()
            timer.join()
            first, second = session.run([a, b])
            np.testing.assert_array_equal(first, second)
            np.testing.assert_array_equal(first, first[0])

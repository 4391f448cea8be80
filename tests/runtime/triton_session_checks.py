"""Checks of the Triton device in use: the demo's networks learn, threads do not mix, what is
benchmarked is right."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

import graphc as gc
from benchmarks.gpu_kernels import difference, loaded, results
from benchmarks.gpu_workloads import WORKLOADS
from graphc.demo import NETWORKS, Network, build
from graphc.runtime.devices.base import Device
from graphc.runtime.devices.numpy import NumPyDevice
from graphc.runtime.devices.triton import TritonDevice, TritonExecutable
from tests.control_programs import PROGRAMS, fetches_and_feeds
from tests.control_programs import check as check_control
from tests.runtime.triton_device_checks import Check

CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    """Enter a check under its name."""
    CHECKS[function.__name__] = function
    return function


@contextmanager
def session_on(device: Device, **settings: Any) -> Iterator[gc.Session]:
    """A session with a graph of its own, on a device that `device=` cannot name."""
    with gc.Graph().as_default(), gc.Session(device="numpy", **settings) as session:
        session.device = device
        yield session


def executables(session: gc.Session) -> list[TritonExecutable]:
    """What the session has compiled so far."""
    prepared = session._prepared.values()
    stages = [stage for p in prepared for stage in (*p.before, p.main)]
    return [c.executable for s in stages for c in s.by_shape.values()]  # type: ignore[misc]


def is_captured(executable: TritonExecutable) -> bool:
    """True where the whole run is one CUDA graph, as it must be on a GPU."""
    return executable.turns[0].graph is not None


def batches(count: int, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images that show their label, with noise."""
    rng = np.random.default_rng(3)
    patterns = rng.random((10, 8, 8), np.float32)
    made = []
    for _ in range(count):
        labels = rng.integers(0, 10, size)
        noise = rng.random((size, 8, 8), np.float32)
        made.append((patterns[labels] + noise * 0.2, labels.astype(np.int64)))
    return made


def losses(device: Device, network: Network, data: Sequence[Any]) -> list[float]:
    """The losses of a training run from seeded initial values."""
    with session_on(device) as session:
        gc.set_random_seed(5)
        built = build(network)
        session.run(gc.global_variables_initializer())
        step = session.make_callable([built.loss, built.step], [built.images, built.labels])
        result = [float(step(images, labels)[0]) for images, labels in data]
        if isinstance(device, TritonDevice) and not device.interpret:
            assert all(is_captured(e) for e in executables(session))
    return result


def check_learning(device: TritonDevice, network: Network, steps: int, size: int) -> None:
    """A network's losses agree with those of the NumPy device; on a GPU, for a hundred steps.

    `steps` and `size` (of a batch) are for the interpreter.
    """
    data = batches(steps, size) if device.interpret else batches(100, 32)
    got, want = losses(device, network, data), losses(NumPyDevice(), network, data)
    # rounding errors grow from step to step, a little differently on each device
    np.testing.assert_allclose(got[:10], want[:10], rtol=1e-4)
    np.testing.assert_allclose(got, want, rtol=2e-2, atol=1e-3)
    if len(got) > 3:
        assert got[-1] < got[0]


@check
def softmax_regression_learns(device: TritonDevice) -> None:
    check_learning(device, NETWORKS[0], 6, 32)


@check
def the_perceptron_learns(device: TritonDevice) -> None:
    check_learning(device, NETWORKS[1], 4, 32)


@check
def the_convolutional_network_learns(device: TritonDevice) -> None:
    check_learning(device, NETWORKS[2], 2, 2)


def train_one(device: TritonDevice, number: int, steps: int, done: dict[int, np.ndarray]) -> None:
    """In a session of its own: w approaches the number."""
    with session_on(device) as session:
        w = gc.Variable(gc.zeros([65]))
        x = gc.placeholder(gc.float32, [65])
        loss = gc.reduce_sum(gc.square(w - x))
        step = gc.train.GradientDescentOptimizer(0.25).minimize(loss)
        session.run(gc.global_variables_initializer())
        for _ in range(steps):
            session.run([loss, step], {x: np.full(65, number, np.float32)})
        done[number] = session.run(w)


def in_threads(work: Any, numbers: Sequence[int]) -> None:
    """work(number) at once in one thread each; failures are raised here."""
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(n,)) for n in numbers]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failures:
        raise failures[0]


@check
def sessions_run_in_several_threads(device: TritonDevice) -> None:
    done: dict[int, np.ndarray] = {}
    # each session has a device of its own, as `device="triton"` gives it, and captures graphs
    in_threads(
        lambda n: train_one(TritonDevice(interpret=device.interpret), n, 6, done), range(1, 5)
    )
    for number, w in done.items():
        np.testing.assert_allclose(w, number * (1 - 0.5**6), rtol=1e-6)
    assert sorted(done) == [1, 2, 3, 4]


@check
def threads_share_a_session(device: TritonDevice) -> None:
    with session_on(device) as session:
        total = gc.Variable(gc.zeros([17]))
        x = gc.placeholder(gc.float32, [17])
        add = gc.assign_add(total, x)
        session.run(gc.global_variables_initializer())

        def work(number: int) -> None:
            for _ in range(5):
                session.run(add.op, {x: np.full(17, number, np.float32)})

        in_threads(work, range(1, 5))
        assert (session.run(total) == 5 * (1 + 2 + 3 + 4)).all()


@check
def feeds_of_another_size_compile_again(device: TritonDevice) -> None:
    with session_on(device) as session:
        x = gc.placeholder(gc.float32, [None, 3])
        w = gc.Variable(gc.ones([3]))
        y, step = gc.reduce_sum(x * w, 1), gc.assign_add(w, gc.reduce_sum(x, 0))
        session.run(gc.global_variables_initializer())
        want = np.ones(3, np.float32)
        for rows in (4, 7, 4, 1):
            feed = np.full((rows, 3), 0.5, np.float32)
            (got, _) = session.run([y, step.op], {x: feed})
            np.testing.assert_allclose(got, feed @ want, rtol=1e-6)
            want = want + feed.sum(0)
        np.testing.assert_allclose(session.run(w), want, rtol=1e-6)


@check
def benchmarked_workloads_are_right(device: TritonDevice) -> None:
    for name, workload in WORKLOADS.items():
        arrays = workload.arrays(tiny=True)
        want = workload.torch_call(workload.torch, workload.tensors(arrays, device.place))
        for executable in loaded(device, workload, arrays, 2):
            error = difference(results(executable), want)
            assert error <= workload.tolerance, (name, error)


@check
def loops_and_branches(device: Device) -> None:
    """Programs with control flow give on the device what they mean."""
    for program in PROGRAMS.values():
        with session_on(device) as session:
            fetches, feeds = fetches_and_feeds(program)
            check_control(program, session.run(fetches, feeds))


@check
def random_numbers_in_loops(device: Device) -> None:
    """Each step draws its own, the same as on NumPy."""
    drawn = []
    for place in (device, NumPyDevice()):
        with session_on(place) as session:
            x = gc.map_fn(lambda r: r + gc.random_uniform([5], seed=3), gc.zeros([3, 5]))
            session.run(x)
            drawn.append(session.run(x))
    np.testing.assert_array_equal(*drawn)
    assert len(np.unique(drawn[0])) == 15


@check
def strings_stay_on_the_host(device: Device) -> None:
    """A run with strings is divided: the host's parts are evaluated, the others compiled."""
    with session_on(device) as session:
        words, v = gc.placeholder(gc.string, [None]), gc.Variable([1.0, 2.0])
        session.run(v.initializer)
        numbers = gc.string_to_number(words) * v
        update = v.assign(numbers + gc.py_func(lambda x: x * 10, [numbers], gc.float32))
        said = gc.as_string(numbers, precision=1)
        got = session.run([said, numbers, update], {words: ["3", "4"]})
        assert got[0].tolist() == [b"3.0", b"8.0"]
        np.testing.assert_allclose(got[1], [3, 8], rtol=1e-6)
        np.testing.assert_allclose(session.run(v), [33, 88], rtol=1e-6)

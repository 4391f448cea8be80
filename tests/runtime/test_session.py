"""Sessions: fetches, feeds, variables, errors, threads, random numbers."""

from __future__ import annotations

import collections
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gc


@pytest.fixture(autouse=True)
def graph() -> Iterator[gc.Graph]:
    with gc.Graph().as_default() as fresh:
        yield fresh


@pytest.fixture
def session(graph: gc.Graph) -> Iterator[gc.Session]:
    with gc.Session(graph=graph, device="numpy") as opened:
        yield opened


def test_nested_fetches(session: gc.Session) -> None:
    pair = collections.namedtuple("pair", "a b")
    x = gc.constant([1.0, 2.0])
    y = x * 2.0
    got = session.run({"list": [x, y], "pair": pair(x, (y,)), "op": y.op, "name": y.name})
    np.testing.assert_array_equal(got["list"][1], [2, 4])
    assert isinstance(got["pair"], pair) and isinstance(got["pair"].b, tuple)
    assert got["op"] is None
    np.testing.assert_array_equal(got["name"], [2, 4])


def test_scalar_results_are_scalars(session: gc.Session) -> None:
    value = session.run(gc.reduce_sum(gc.constant([1.0, 2.0])))
    assert isinstance(value, np.float32) and value == 3


def test_fetch_twice_and_fetched_arrays_stay(session: gc.Session) -> None:
    x = gc.placeholder(gc.float32, [3])
    a, b = session.run([x + 1.0, x + 1.0], {x: [0, 0, 0]})
    first = a.copy()
    a[0] = 99
    np.testing.assert_array_equal(b, first)
    session.run(x + 1.0, {x: [5, 5, 5]})
    np.testing.assert_array_equal(b, first)


def test_large_fetched_arrays_are_not_reused_while_held(session: gc.Session) -> None:
    x = gc.placeholder(gc.float32, [])
    y = gc.zeros([600, 600]) + x
    kept = [session.run(y, {x: float(i)})[3:5] for i in range(4)]  # views keep their array
    assert [float(k[0, 0]) for k in kept] == [0, 1, 2, 3]


def test_fetching_a_fed_tensor_and_feeding_an_intermediate(session: gc.Session) -> None:
    x = gc.constant(2.0)
    middle = x * 3.0
    result = session.run([middle, middle + 1.0], {middle: 10.0})
    assert result == [10.0, 11.0]


@pytest.mark.parametrize(
    "data",
    [
        [[1, 2, 3], [4, 5, 6]],
        np.array([[1, 2, 3], [4, 5, 6]], ">f4"),
        np.array([[1, 2, 3], [4, 5, 6]], np.float64),
        np.array([[1, 4], [2, 5], [3, 6]], np.float32).T,
        np.array([[1, 0, 2, 0, 3, 0], [4, 0, 5, 0, 6, 0]], np.float32)[:, ::2],
        np.array([[1, 2, 3], [4, 5, 6]], np.int16),
    ],
    ids=["list", "big-endian", "float64", "transposed", "strided", "int16"],
)
def test_feeds_of_every_kind(session: gc.Session, data: Any) -> None:
    x = gc.placeholder(gc.float32, [None, 3])
    if isinstance(data, np.ndarray):
        data.flags.writeable = False
    np.testing.assert_array_equal(session.run(x * 2.0, {x: data}), [[2, 4, 6], [8, 10, 12]])


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_empty_and_single_rows(session: gc.Session, rows: int) -> None:
    x = gc.placeholder(gc.float32, [None, 3])
    data = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    fetches = [gc.exp(x), gc.reduce_sum(x), gc.matmul(x, gc.ones([3, 2]))]
    got = session.run(fetches, {x: data})
    np.testing.assert_allclose(got[0], np.exp(data), rtol=1e-6)
    assert got[1] == data.sum() and got[2].shape == (rows, 2)


def test_feed_errors_name_everything(session: gc.Session) -> None:
    x = gc.placeholder(gc.float32, [None, 3], name="batch")
    with pytest.raises(gc.errors.FeedError, match=r"batch.*\[\?|batch") as caught:
        session.run(x + 1.0, {x: np.zeros((2, 4))})
    assert "[2, 4]" in str(caught.value) and "test_session.py" in str(caught.value)
    with pytest.raises(gc.errors.FeedError, match="must be fed"):
        session.run(x + 1.0)
    with pytest.raises(gc.errors.FeedError, match="batch"):
        session.run(x + 1.0, {x: [["a", "b", "c"]]})
    with pytest.raises(gc.errors.FeedError, match="keys of feed_dict"):
        session.run(x + 1.0, {3: 1.0})
    with pytest.raises(gc.errors.FeedError, match="feed its value"):
        session.run(x + 1.0, {x: gc.zeros([1, 3])})
    n = gc.placeholder(gc.int32, [])
    with pytest.raises(gc.errors.FeedError, match="int32"):
        session.run(n + 1, {n: 1.5})


def test_fetch_errors(session: gc.Session) -> None:
    with pytest.raises(gc.errors.FetchError, match="no_such"):
        session.run("no_such:0")
    with pytest.raises(gc.errors.FetchError, match="float"):
        session.run(3.0)
    with gc.Graph().as_default():
        other = gc.constant(1.0)
    with pytest.raises(gc.errors.FetchError, match="another graph"):
        session.run(other)


def test_uninitialized_variable_is_named(session: gc.Session) -> None:
    v = gc.Variable([1.0], name="weight")
    with pytest.raises(gc.errors.UninitializedError, match="weight"):
        session.run(v + 1.0)
    session.run(v.initializer)
    np.testing.assert_array_equal(session.run(v + 1.0), [2.0])


def test_reads_see_the_start_of_the_run(session: gc.Session) -> None:
    v = gc.Variable(5.0)
    session.run(v.initializer)
    old, new = session.run([v.value(), v.assign_add(1.0)])
    assert (old, new) == (5.0, 6.0) and session.run(v) == 6.0


def test_control_dependencies_read_what_was_assigned(session: gc.Session) -> None:
    v = gc.Variable(5.0)
    session.run(v.initializer)
    with gc.control_dependencies([v.assign(7.0)]):
        after = gc.identity(v)
    assert session.run(after) == 7.0 and session.run(v) == 7.0


def test_updates_apply_in_the_order_of_their_making(session: gc.Session) -> None:
    v = gc.Variable(1.0)
    session.run(v.initializer)
    first, second = v.assign_add(1.0), v.assign_add(10.0)
    session.run([second, first])
    assert session.run(v) == 12.0


def test_two_variables_swap(session: gc.Session) -> None:
    a, b = gc.Variable([1.0, 2.0]), gc.Variable([3.0, 4.0])
    session.run(gc.global_variables_initializer())
    session.run([a.assign(b), b.assign(a)])
    np.testing.assert_array_equal(session.run(a), [3, 4])
    np.testing.assert_array_equal(session.run(b), [1, 2])


def test_variable_becomes_its_transpose(session: gc.Session) -> None:
    v = gc.Variable([[1.0, 2.0], [3.0, 4.0]])
    session.run(v.initializer)
    session.run(v.assign(gc.transpose(v)))
    np.testing.assert_array_equal(session.run(v), [[1, 3], [2, 4]])


def test_failed_run_leaves_variables(session: gc.Session, monkeypatch: Any) -> None:
    v = gc.Variable(gc.ones([4]))
    x = gc.placeholder(gc.float32, [4])
    step = v.assign_add(gc.exp(gc.reduce_sum(x)) * x)
    session.run(v.initializer)
    session.run(step, {x: np.zeros(4)})
    from graphc.runtime.devices.numpy import NumPyExecutable

    def broken(self: Any, feeds: Any, run: int) -> Any:
        raise MemoryError("injected")

    monkeypatch.setattr(NumPyExecutable, "run", broken)
    with pytest.raises(MemoryError):
        session.run(step, {x: np.ones(4)})
    monkeypatch.undo()
    np.testing.assert_array_equal(session.run(v), np.ones(4))


def test_sessions_and_graphs_are_apart(graph: gc.Graph) -> None:
    v = gc.Variable(1.0)
    add = v.assign_add(1.0)
    with (
        gc.Session(graph=graph, device="numpy") as one,
        gc.Session(graph=graph, device="numpy") as two,
    ):
        one.run(v.initializer)
        two.run(v.initializer)
        one.run(add)
        assert (one.run(v), two.run(v)) == (2.0, 1.0)


def test_closed_session() -> None:
    session = gc.Session(device="numpy")
    x = gc.constant(1.0)
    session.run(x)
    session.close()
    with pytest.raises(gc.errors.SessionError, match="closed"):
        session.run(x)
    with pytest.raises(gc.errors.SessionError, match="no default session"):
        x.eval()


def test_interactive_session() -> None:
    session = gc.InteractiveSession(device="numpy")
    try:
        assert gc.constant(2.0).eval() == 2.0
        gc.no_op().run()
    finally:
        session.close()


def test_make_callable(session: gc.Session) -> None:
    x, y = gc.placeholder(gc.float32, []), gc.placeholder(gc.float32, [])
    call = session.make_callable(x - y, [y, x])
    assert call(1.0, 5.0) == 4.0
    with pytest.raises(gc.errors.FeedError, match="2 values"):
        call(1.0)


def test_new_shapes_compile_again_and_say_so(session: gc.Session, caplog: Any) -> None:
    x = gc.placeholder(gc.float32, [None])
    y = gc.exp(x)
    with caplog.at_level(logging.INFO, logger="graphc"):
        for n in (3, 3, 4):
            session.run(y, {x: np.zeros(n)})
    messages = [r.message for r in caplog.records]
    assert sum("compiled" in m for m in messages) == 2
    assert sum("again" in m for m in messages) == 1


def test_shape_from_a_fed_value(session: gc.Session) -> None:
    n = gc.placeholder(gc.int32, [2])
    y = gc.reshape(gc.range(12), n)
    assert session.run(y, {n: [3, 4]}).shape == (3, 4)
    assert session.run(y, {n: [6, 2]}).shape == (6, 2)
    assert session.run(y, {n: [3, 4]}).shape == (3, 4)


def test_threads_share_a_session(session: gc.Session) -> None:
    v = gc.Variable(0.0)
    x = gc.placeholder(gc.float32, [])
    add, twice = v.assign_add(1.0), x * 2.0
    session.run(v.initializer)
    wrong: list[Any] = []

    def work(base: int) -> None:
        for i in range(25):
            session.run(add)
            if session.run(twice, {x: base + i}) != 2 * (base + i):
                wrong.append((base, i))

    threads = [threading.Thread(target=work, args=(100 * t,)) for t in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong and session.run(v) == 100.0


_RANDOM = """
import numpy as np, graphc as gc
gc.set_random_seed(4)
x = gc.random_normal([5]); y = gc.random_uniform([5], seed=3)
with gc.Session(device="numpy") as s:
    print([s.run([x, y]) for _ in range(2)])
"""


def test_same_numbers_in_every_process() -> None:
    run = [sys.executable, "-c", _RANDOM]
    one, two = (
        subprocess.run(run, capture_output=True, text=True, check=True).stdout for _ in "ab"
    )
    assert one == two and "array" in one


def test_random_numbers_differ_by_run_and_op(session: gc.Session) -> None:
    x, y = gc.random_normal([1000]), gc.random_normal([1000])
    a, b = session.run([x, y])
    c = session.run(x)
    assert not np.array_equal(a, b) and not np.array_equal(a, c)
    assert abs(a.mean()) < 0.15 and abs(a.std() - 1) < 0.1
    u = session.run(gc.truncated_normal([5000]))
    assert np.abs(u).max() <= 2.0


def test_devices(caplog: Any) -> None:
    with pytest.raises(gc.errors.DeviceError, match="no device 'tpu'"):
        gc.Session(device="tpu")
    with caplog.at_level(logging.INFO, logger="graphc"):
        gc.Session(device="auto").close()
    assert any("auto takes" in r.message for r in caplog.records)


def test_settings(monkeypatch: Any) -> None:
    monkeypatch.setenv("GRAPHC_THREADS", "none")
    with pytest.raises(gc.errors.SettingError, match="GRAPHC_THREADS"):
        gc.Session(device="numpy")
    monkeypatch.undo()
    with pytest.raises(gc.errors.SettingError, match="colour"):
        gc.Session(device="numpy", colour=3)
    with pytest.raises(gc.errors.SettingError, match="winograd='fast': must be one of off, inf"):
        gc.Session(device="numpy", winograd="fast")


def test_finalized_graph(graph: gc.Graph) -> None:
    graph.finalize()
    with pytest.raises(gc.errors.GraphError, match="finalized"):
        gc.constant(1.0)


TAKEN = [
    "s", "k", "np", "tl", "in", "lambda", "None", "range", "print", "mem", "launch", "walk",
    "share", "first", "last", "lo", "hi", "r0", "p0", "i0", "v1", "a1_", "9x", "OPS", "results",
    "s_", "pid",
]  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("rows", [3, 70_000])
def test_ops_may_have_the_names_that_sources_use(name: str, rows: int) -> None:
    with gc.Graph().as_default():
        x = gc.placeholder(gc.float32, [None, 5], name=name)
        total = gc.Variable(gc.ones([5]), name=f"{name}_")
        y, z = gc.nn.softmax(x * 2.0) + total, gc.reduce_sum(gc.exp(x), 0)
        update = total.assign_add(z)
        with gc.Session(device="numpy") as session:
            session.run(gc.global_variables_initializer())
            got = session.run(
                [y, update, gc.matmul(x, x, transpose_a=True)], {x: np.ones((rows, 5))}
            )
        np.testing.assert_allclose(got[0], np.full((rows, 5), 1.2), rtol=1e-6)
        np.testing.assert_allclose(got[1], np.full(5, 1 + rows * np.e), rtol=1e-4)
        np.testing.assert_allclose(got[2], np.full((5, 5), rows), rtol=1e-6)


def test_dtypes_by_the_words_of_tensorflow() -> None:
    with gc.Graph().as_default():
        for word, dtype in (
            ("float", gc.float32), (float, gc.float32), ("double", gc.float64),
            ("half", gc.float16), (bool, gc.bool), (np.float64, gc.float64),
        ):  # fmt: skip
            assert gc.placeholder(word, []).dtype is dtype

"""Input pipelines: what datasets give, and how sessions step through them."""

from __future__ import annotations

import gc as garbage
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.data import Dataset
from graphc.datasets import records
from graphc.datasets.errors import DatasetFormatError
from graphc.ir.graph import Graph


@pytest.fixture(autouse=True)
def session() -> Iterator[gc.Session]:
    with Graph().as_default(), gc.Session(device="numpy") as session:
        yield session


def listed(dataset: Dataset) -> list[Any]:
    """The elements; arrays as lists."""
    return [plain(x) for x in dataset]


def plain(x: Any) -> Any:
    if x is None:
        return None
    if isinstance(x, tuple):
        return tuple(plain(i) for i in x)
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    return np.asarray(x).tolist()


def rest(session: gc.Session, fetches: Any) -> list[Any]:
    """All values until the end of the sequence."""
    values = []
    while True:
        try:
            values.append(plain(session.run(fetches)))
        except gc.errors.OutOfRangeError:
            return values


# -- what datasets give (by tf.data's documentation)

RANGE = Dataset.range
CASES: dict[str, tuple[Any, list[Any]]] = {
    "range": (lambda: RANGE(2, 8, 3), [2, 5]),
    "tensors": (lambda: Dataset.from_tensors(([1, 2], 3)), [([1, 2], 3)]),
    "slices": (lambda: Dataset.from_tensor_slices([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    "slices_dict": (
        lambda: Dataset.from_tensor_slices({"a": [1, 2], "b": ([3, 4], [5, 6])}["b"]),
        [(3, 5), (4, 6)],
    ),
    "zip": (lambda: Dataset.zip((RANGE(2), {"x": RANGE(5, 9)})), [(0, {"x": 5}), (1, {"x": 6})]),
    "map": (lambda: RANGE(3).map(lambda x: x * x + 1), [1, 2, 5]),
    "map_many": (
        lambda: Dataset.zip((RANGE(3), RANGE(5, 8))).map(lambda a, b: {"s": a + b, "one": 1}),
        [{"s": 5, "one": 1}, {"s": 7, "one": 1}, {"s": 9, "one": 1}],
    ),
    "map_list": (lambda: RANGE(2).map(lambda x: [x, x + 1]), [(0, 1), (1, 2)]),
    "filter": (lambda: RANGE(6).filter(lambda x: gc.equal(x % 2, 0)), [0, 2, 4]),
    "batch": (lambda: RANGE(5).batch(2), [[0, 1], [2, 3], [4]]),
    "batch_drop": (lambda: RANGE(5).batch(2, drop_remainder=True), [[0, 1], [2, 3]]),
    "unbatch": (lambda: RANGE(5).batch(3).unbatch(), [0, 1, 2, 3, 4]),
    "repeat": (lambda: RANGE(2).repeat(2), [0, 1, 0, 1]),
    "repeat_forever": (lambda: RANGE(2).repeat().take(5), [0, 1, 0, 1, 0]),
    "repeat_none": (lambda: RANGE(2).repeat(0), []),
    "repeat_nothing": (lambda: RANGE(0).repeat(), []),
    "take": (lambda: RANGE(9).take(2), [0, 1]),
    "take_all": (lambda: RANGE(3).take(-1), [0, 1, 2]),
    "skip": (lambda: RANGE(4).skip(3), [3]),
    "skip_all": (lambda: RANGE(4).skip(-1), []),
    "shard": (lambda: RANGE(7).shard(3, 1), [1, 4]),
    "concatenate": (lambda: RANGE(2).concatenate(RANGE(7, 9)), [0, 1, 7, 8]),
    "enumerate": (lambda: RANGE(5, 7).enumerate(3), [(3, 5), (4, 6)]),
    "flat_map": (
        lambda: RANGE(1, 4).flat_map(lambda x: Dataset.from_tensors(x).repeat(x)),
        [1, 2, 2, 3, 3, 3],
    ),
    "interleave": (  # the example of tf.data.Dataset.interleave
        lambda: RANGE(1, 6).interleave(
            lambda x: Dataset.from_tensors(x).repeat(6), cycle_length=2, block_length=4
        ),
        [*[1] * 4, *[2] * 4, *[1] * 2, *[2] * 2, *[3] * 4, *[4] * 4, *[3] * 2, *[4] * 2,
         *[5] * 4, *[5] * 2],
    ),
    "padded_batch": (
        lambda: RANGE(1, 4)
        .map(lambda x: gc.fill([gc.cast(x, gc.int32)], x))
        .padded_batch(2, [None]),
        [[[1, 0], [2, 2]], [[3, 3, 3]]],
    ),
    "padded_batch_to": (
        lambda: Dataset.from_generator(lambda: ([1], [2, 3]), gc.int32, [None]).padded_batch(
            2, padded_shapes=[4], padding_values=-1
        ),
        [[[1, -1, -1, -1], [2, 3, -1, -1]]],
    ),
    "generator": (
        lambda: Dataset.from_generator(lambda n: ((i, [i] * i) for i in range(n)),
                                       (gc.int64, gc.float32), ([], [None]), args=(3,)),
        [(0, []), (1, [1.0]), (2, [2.0, 2.0])],
    ),
    "apply": (lambda: RANGE(4).apply(gc.data.experimental.map_and_batch(lambda x: -x, 3)),
              [[0, -1, -2], [-3]]),
    "prefetch": (lambda: RANGE(2).prefetch(1).with_options(None), [0, 1]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_elements(session: gc.Session, name: str) -> None:
    make, want = CASES[name]
    dataset = make()
    assert listed(dataset) == want == listed(dataset)
    tensors = dataset.make_one_shot_iterator().get_next()
    assert rest(session, tensors) == want


def test_specifications() -> None:
    x = np.zeros((7, 3), np.float32)
    dataset = Dataset.from_tensor_slices({"x": x, "y": np.arange(7)}).batch(2)
    assert dataset.output_types == {"x": gc.float32, "y": gc.int64}
    assert dataset.output_shapes == {"x": (None, 3), "y": (None,)}
    assert dataset.batch(4, drop_remainder=True).output_shapes["y"] == (4, None)
    mapped = dataset.map(lambda d: (gc.reduce_sum(d["x"], 1), d["y"]))
    assert mapped.output_shapes == ((None,), (None,))
    tensors = mapped.make_one_shot_iterator().get_next("next")
    assert tensors[0].dtype is gc.float32 and tensors[0].shape == (None,)
    padded = dataset.padded_batch(2, {"x": [4, 3], "y": [None]})
    assert padded.output_shapes == {"x": (None, 4, 3), "y": (None, None)}


# -- shuffling


def test_shuffle_gives_all_in_another_order_each_time() -> None:
    dataset = RANGE(20).shuffle(20).repeat(2)
    values = listed(dataset)
    assert sorted(values[:20]) == sorted(values[20:]) == list(range(20))
    assert values[:20] != values[20:] and values[:20] != list(range(20))
    same = listed(RANGE(20).shuffle(20, reshuffle_each_iteration=False).repeat(2))
    assert same[:20] == same[20:]


def test_shuffle_reaches_no_further_than_its_buffer() -> None:
    values = listed(RANGE(50).shuffle(5, seed=1))
    assert sorted(values) == list(range(50)) and values != list(range(50))
    assert all(x < i + 5 for i, x in enumerate(values))


def test_shuffles_are_reproducible() -> None:
    def orders(graph_seed: int, seed: int | None) -> list[list[int]]:
        with Graph().as_default(), gc.Session(device="numpy") as session:
            gc.set_random_seed(graph_seed)
            iterator = RANGE(30).shuffle(30, seed).make_initializable_iterator()
            tensor = iterator.get_next()
            found = []
            for _ in range(2):
                session.run(iterator.initializer)
                found.append(rest(session, tensor))
            return found

    first = orders(1, None)
    assert first == orders(1, None) and first != orders(2, None) and first[0] != first[1]
    seeded = orders(1, 7)
    assert seeded[0] == seeded[1] and seeded != orders(1, 8)


def test_cache_computes_once(session: gc.Session) -> None:
    calls = []

    def generate() -> Iterator[int]:
        calls.append(1)
        yield from (1, 2)

    dataset = Dataset.from_generator(generate, gc.int32, []).cache().repeat(3)
    assert listed(dataset) == [1, 2] * 3 and len(calls) == 1


def test_random_ops_in_map_draw_anew_for_each_element() -> None:
    values = listed(RANGE(4).map(lambda x: gc.random_uniform([], seed=1)))
    assert len(set(values)) == 4


# -- sessions


def test_a_run_takes_one_element(session: gc.Session) -> None:
    x, y = Dataset.zip((RANGE(9), RANGE(9).map(lambda v: -v))).make_one_shot_iterator().get_next()
    assert session.run([x, y, x + y]) == [0, 0, 0]
    assert session.run([x]) == [1]
    assert session.run(y) == -2
    constant = gc.constant(5)
    assert session.run(constant) == 5  # needs none, takes none
    call = session.make_callable(x + y)
    assert call() == 0 and session.run(x) == 4
    assert session.run(x, {x: 100}) == 100 and session.run(x) == 5  # fed, it takes none
    assert session.run([x, y], {x: 100}) == [100, -6]


def test_each_get_next_takes_its_own(session: gc.Session) -> None:
    iterator = RANGE(5).make_one_shot_iterator()
    a, b = iterator.get_next(), iterator.get_next()
    assert sorted(session.run([a, b])) == [0, 1] and session.run(b) == 2


def test_sessions_have_their_own_places(session: gc.Session) -> None:
    x = RANGE(5).make_one_shot_iterator().get_next()
    assert session.run([x]) == [0]
    with gc.Session(device="numpy") as other:
        assert [other.run(x), other.run(x)] == [0, 1]
    del other
    garbage.collect()
    assert session.run(x) == 1


def test_initializer_with_fed_tensors(session: gc.Session) -> None:
    data, size = gc.placeholder(gc.float32, [None, 2]), gc.placeholder(gc.int64, [])
    dataset = Dataset.from_tensor_slices(data * 2.0).map(gc.reduce_sum).batch(size)
    iterator = dataset.make_initializable_iterator()
    x = iterator.get_next()
    with pytest.raises(gc.errors.UninitializedError, match="initializer"):
        session.run(x)
    session.run(iterator.initializer, {data: np.ones((3, 2)), size: 2})
    assert rest(session, x) == [[4.0, 4.0], [4.0]]
    with pytest.raises(gc.errors.OutOfRangeError, match="end of sequence"):
        session.run(x)
    session.run(gc.group(iterator.initializer), {data: np.ones((1, 2)), size: 2})
    assert rest(session, x) == [[4.0]]
    with pytest.raises(gc.errors.AttributeValueError, match="make_initializable_iterator"):
        iter(dataset)


def test_reinitializable_iterator(session: gc.Session) -> None:
    train, test = RANGE(3).batch(2), RANGE(7, 9).batch(1)
    iterator = gc.data.Iterator.from_structure(train.output_types, train.output_shapes)
    x = iterator.get_next()
    begin_train, begin_test = map(iterator.make_initializer, (train, test))
    for _ in range(2):
        session.run(begin_train)
        assert rest(session, x) == [[0, 1], [2]]
        session.run(begin_test)
        assert rest(session, x) == [[7], [8]]
    with pytest.raises(gc.errors.DTypeError, match="int64"):
        iterator.make_initializer(Dataset.from_tensors([1.0]))
    with pytest.raises(gc.errors.AttributeValueError, match="make_initializer"):
        iterator.initializer  # noqa: B018


def test_training_on_a_pipeline(session: gc.Session) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 3)).astype(np.float32)
    y = x @ np.array([[1.0], [-2.0], [0.5]], np.float32)
    dataset = Dataset.from_tensor_slices((x, y)).shuffle(64).batch(16).repeat(30)
    features, labels = dataset.make_one_shot_iterator().get_next()
    w = gc.get_variable("w", [3, 1])
    loss = gc.reduce_mean(gc.square(gc.matmul(features, w) - labels))
    step = gc.train.GradientDescentOptimizer(0.1).minimize(loss)
    session.run(gc.global_variables_initializer())
    losses = [value for value, _ in rest(session, (loss, step))]
    assert len(losses) == 4 * 30 and losses[-1] < 1e-3 * losses[0]


def test_variables_are_updated_from_a_pipeline(session: gc.Session) -> None:
    x = RANGE(2).make_one_shot_iterator().get_next()
    v = gc.Variable(np.int64(0))
    add = v.assign_add(x + 5)
    session.run(gc.global_variables_initializer())
    assert rest(session, add) == [5, 11]
    assert session.run(v) == 11


# -- files


def test_text_lines(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one\r\ntwo\n\nlast")
    lines = Dataset.concatenate(
        gc.data.TextLineDataset(str(tmp_path / "a")), gc.data.TextLineDataset([tmp_path / "a"])
    )
    assert [bytes(x) for x in lines] == [b"one", b"two", b"", b"last"] * 2


def test_tf_records(tmp_path: Path) -> None:
    path = tmp_path / "r"
    with records.RecordWriter(str(path)) as writer:
        for record in (b"abc", b"", b"0123456789"):
            writer.write(record)
    dataset = gc.data.TFRecordDataset(str(path))
    assert [bytes(x) for x in dataset] == [b"abc", b"", b"0123456789"]
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(DatasetFormatError, match="ends inside"):
        list(dataset)


def test_fixed_length_records(tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(b"H" + bytes(range(6)) + b"FF")
    dataset = gc.data.FixedLengthRecordDataset([tmp_path / "r"], 3, 1, 2)
    assert list(dataset) == [bytes([0, 1, 2]), bytes([3, 4, 5])]
    numbers = dataset.map(lambda x: gc.cast(gc.decode_raw(x, gc.uint8), gc.int32) + 1)
    assert listed(numbers) == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(gc.errors.ShapeError, match="8 bytes of records of 3"):
        list(gc.data.FixedLengthRecordDataset([tmp_path / "r"], 3, 1))


# -- refusals

OUTER: dict[str, tuple[Any, type[Exception], str]] = {
    "scalar_slices": (lambda: Dataset.from_tensor_slices(3), gc.errors.ShapeError, "from_tensors"),
    "lengths": (
        lambda: Dataset.from_tensor_slices(([1, 2], [1, 2, 3])), gc.errors.ShapeError, r"\[2, 3\]",
    ),
    "zip": (lambda: Dataset.zip((RANGE(2), 3)), gc.errors.AttributeValueError, "datasets"),
    "map": (lambda: RANGE(2).map(3), gc.errors.AttributeValueError, "function"),
    "predicate": (lambda: RANGE(2).filter(lambda x: x), gc.errors.DTypeError, "bool"),
    "flat_map": (lambda: RANGE(2).flat_map(lambda x: x), gc.errors.AttributeValueError, "Dataset"),
    "batch": (lambda: RANGE(2).batch(0), gc.errors.AttributeValueError, "batch_size=0"),
    "different_shapes": (
        lambda: list(
            Dataset.from_generator(lambda: ([1], [1, 2]), gc.int32, [None]).batch(2)
        ),
        gc.errors.ShapeError, "padded_batch",
    ),
    "padded_rank": (
        lambda: RANGE(2).padded_batch(2, [None]), gc.errors.ShapeError, "ranks",
    ),
    "padded_size": (
        lambda: list(Dataset.from_tensors([1, 2, 3]).padded_batch(1, [2])),
        gc.errors.ShapeError, "2, but an element has 3",
    ),
    "generator_shape": (
        lambda: list(Dataset.from_generator(lambda: ([1, 2],), gc.int32, [3])),
        gc.errors.ShapeError, r"int32\[3\].*int32\[2\]",
    ),
    "generator_items": (
        lambda: list(Dataset.from_generator(lambda: [(1, 2)], gc.int32)),
        gc.errors.ShapeError, "2 items where 1",
    ),
    "shuffle": (lambda: list(RANGE(2).shuffle(0)), gc.errors.AttributeValueError, "got 0"),
    "shard": (lambda: list(RANGE(2).shard(2, 2)), gc.errors.AttributeValueError, "2 of 2"),
    "concatenate": (
        lambda: RANGE(2).concatenate(Dataset.from_tensors(1.0)), gc.errors.ShapeError, "dtypes",
    ),
    "outer_tensor": (
        lambda: (lambda v: RANGE(2).map(lambda x: x + v))(gc.constant(np.int64(1))),
        gc.errors.GraphError, "mixes graphs",
    ),
    "one_shot": (
        lambda: gc.get_default_session().run(
            Dataset.from_tensors(gc.placeholder(gc.float32, []))
            .make_one_shot_iterator().get_next()
        ),
        gc.errors.FeedError, "make_initializable_iterator",
    ),
    "compression": (
        lambda: gc.data.TextLineDataset("x", "LZ4"), gc.errors.AttributeValueError, "LZ4",
    ),
    "structure": (
        lambda: gc.data.Iterator.from_structure((gc.int64, gc.int64)).make_initializer(RANGE(2)),
        gc.errors.AttributeValueError, "dataset gives",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OUTER)
def test_errors(session: gc.Session, name: str) -> None:
    make, error, text = OUTER[name]
    with pytest.raises(error, match=text):
        make()

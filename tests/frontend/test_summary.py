"""Summaries, read back by tensorboard's protos and reader; printing and checking of values."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.summary_pb2 import Summary

import graphc as gc
from graphc import summary
from graphc.errors import (
    DTypeError,
    FetchError,
    NumericsError,
    SessionError,
    ShapeError,
)
from graphc.frontend.summary import png


@pytest.fixture(autouse=True)
def session() -> Iterator[gc.Session]:
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        yield session


def values(x: summary.Summary, feeds: Any = None) -> Any:
    return list(Summary.FromString(x.eval(feeds)).value)


def test_a_scalar() -> None:
    with gc.name_scope("train"):
        one = summary.scalar("loss", gc.constant(1.5))
        two = summary.scalar("the loss", gc.constant(2, gc.int32))
    three = summary.scalar("x", 1.0, family="f")
    (got,) = values(one)
    assert (got.tag, got.simple_value) == ("train/loss", 1.5)
    assert values(two)[0].tag == "train/the_loss" and values(two)[0].simple_value == 2
    assert values(three)[0].tag == "f/f/x"
    assert one.name == "train/loss:0"
    with pytest.raises(ShapeError, match="scalar"):
        summary.scalar("loss", gc.ones([2]))


def test_a_histogram_holds_all_elements() -> None:
    data = np.concatenate([np.random.default_rng(0).standard_normal(500), [0, 0, 1e-20, 1e25]])
    histogram = values(summary.histogram("h", data.astype(np.float32)))[0].histo
    assert histogram.num == sum(histogram.bucket) == 504
    assert histogram.min == data.astype(np.float32).min()
    assert histogram.sum == pytest.approx(float(data.sum()), rel=1e-6)
    limits = np.array(histogram.bucket_limit)
    assert (np.diff(limits) > 0).all()
    edges = np.concatenate([[-np.inf], limits])
    inside = [((data >= a) & (data < b)).sum() for a, b in zip(edges, limits, strict=False)]
    np.testing.assert_array_equal(inside, histogram.bucket)
    empty = values(summary.histogram("e", np.zeros((0, 3), np.float32)))[0].histo
    assert empty.num == 0 and list(empty.bucket) == [0]
    with pytest.raises(DTypeError, match="NaN or infinity"):
        values(summary.histogram("n", gc.log(gc.constant(-1.0))))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_are_pngs(channels: int) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels)).astype(np.uint8)
    read = np.asarray(image.open(io.BytesIO(png(pixels))))
    np.testing.assert_array_equal(read.reshape(pixels.shape), pixels)


def test_images_are_scaled_and_counted() -> None:
    image = pytest.importorskip("PIL.Image")
    batch = np.array([0.0, 0.5, 1.0, 2.0], np.float32).reshape(1, 2, 2, 1)
    tags = [v.tag for v in values(summary.image("i", np.repeat(batch, 5, 0), max_outputs=2))]
    assert tags == ["i/image/0", "i/image/1"]

    def shown(x: np.ndarray) -> list[int]:
        (got,) = values(summary.image("i", x, max_outputs=1))
        data = got.image.encoded_image_string
        return np.asarray(image.open(io.BytesIO(data))).ravel().tolist()

    assert shown(batch) == [0, 63, 127, 255]  # TensorFlow: the largest is 255
    assert shown(batch - 1) == [1, 64, 128, 255]  # TensorFlow: 0 is 128, the largest size 127
    assert shown(batch * np.nan) == [255] * 4
    for wrong in (
        np.zeros((2, 2, 1), "f"),
        np.zeros((1, 2, 2, 2), "f"),
        np.zeros((1, 2, 2, 5), "f"),
    ):
        with pytest.raises(ShapeError, match=r"summary\.image"):
            summary.image("i", wrong)
    with pytest.raises(DTypeError, match="floats or uint8"):
        summary.image("i", np.zeros((1, 2, 2, 1), np.int32))


def test_sound_and_text() -> None:
    clip = np.sin(np.arange(100) / 5).astype(np.float32)
    (got,) = values(summary.audio("a", clip[None], 8000, max_outputs=1))
    with wave.open(io.BytesIO(got.audio.encoded_audio_string)) as file:
        read = np.frombuffer(file.readframes(100), "<i2") / 32767
    assert got.audio.sample_rate == 8000 and got.audio.length_frames == 100
    np.testing.assert_allclose(read, clip, atol=1e-4)
    (words,) = values(summary.text("t", ["one", "two"]))
    assert list(words.tensor.string_val) == [b"one", b"two"]
    assert words.metadata.plugin_data.plugin_name == "text"
    (found,) = values(summary.text("t", gc.as_string(gc.constant(3))))
    assert list(found.tensor.string_val) == [b"3"]
    with pytest.raises(DTypeError, match="takes strings"):
        summary.text("t", 1.0)


def test_merging(session: gc.Session) -> None:
    x = gc.placeholder(gc.float32, [None])
    assert summary.merge_all() is None
    a, b = summary.scalar("a", gc.reduce_sum(x)), summary.histogram("b", x, collections=["own"])
    both = summary.merge([a, b])
    assert [v.tag for v in values(both, {x: [1.0, 2.0]})] == ["a", "b"]
    merged = summary.merge_all()
    assert merged is not None and [v.tag for v in values(merged, {x: [1.0]})] == ["a"]
    text, total, nested = session.run([merged, gc.reduce_sum(x), {"b": b}], {x: [3.0]})
    assert total == 3 and Summary.FromString(text).value[0].simple_value == 3
    assert Summary.FromString(nested["b"]).value[0].tag == "b"
    with pytest.raises(DTypeError, match="takes summaries"):
        summary.merge([x])


def test_a_summary_of_another_graph_is_refused() -> None:
    other = summary.scalar("x", 1.0)
    with (
        gc.Graph().as_default(),
        gc.Session(device="numpy") as session,
        pytest.raises(FetchError, match="another graph"),
    ):
        session.run(other)


def test_the_writer(tmp_path: Path, session: gc.Session) -> None:
    step = gc.Variable(7, trainable=False)
    session.run(gc.global_variables_initializer())
    x = summary.scalar("x", 2.5)
    with summary.FileWriter(tmp_path / "logs", session.graph) as writer:
        assert writer.get_logdir() == str(tmp_path / "logs")
        writer.add_summary(session.run(x), session.run(step))
        metadata = gc.RunMetadata()
        session.run(step + 1, run_metadata=metadata)
        writer.add_run_metadata(metadata, "run", 7)
    with pytest.raises(SessionError, match="is closed; reopen"):
        writer.add_summary(session.run(x), 8)
    writer.reopen()
    writer.add_summary(session.run(x))
    writer.close()
    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("x")] == [(7, 2.5), (0, 2.5)]
    assert events.Tags()["run_metadata"] == ["run"]
    nodes = {n.name: n for n in events.Graph().node}
    assert nodes["Variable"].op == "VariableV2" and "Variable" in nodes["Variable/Assign"].input
    dims = nodes["Variable"].attr["_output_shapes"].list.shape[0].dim
    assert list(dims) == [] and nodes["Variable"].attr["dtype"].type == 3


def test_printing(session: gc.Session, capsys: pytest.CaptureFixture[str]) -> None:
    x = gc.placeholder(gc.float32, [None])
    y = gc.Print(x * 2.0, [x, gc.shape(x)], "x is ", summarize=2)
    (slope,) = gc.gradients(gc.reduce_sum(y), [x])
    np.testing.assert_array_equal(session.run(y, {x: [1, 2, 3]}), [2, 4, 6])
    assert capsys.readouterr().err == "x is [1.0 2.0...][3]\n"
    np.testing.assert_array_equal(session.run(slope, {x: [1, 2, 3]}), [2, 2, 2])
    twice = gc.Print(x, ["x:", x, gc.constant("b")], first_n=2)
    for _ in range(3):
        session.run(twice, {x: [1]})
    assert capsys.readouterr().err == "[x:][1.0][b]\n" * 2


def test_a_check_fails_the_run_before_variables_change(session: gc.Session) -> None:
    x, v = gc.placeholder(gc.float32, [None]), gc.Variable(1.0)
    update = v.assign(gc.reduce_sum(gc.check_numerics(gc.log(x), "the log")))
    session.run(v.initializer)
    session.run(update, {x: [1.0, 1.0]})
    assert session.run(v) == 0
    with pytest.raises(NumericsError, match=r"the log: tensor 'log:0' .*1 NaN and 2 infinities"):
        session.run(update, {x: [0.0, -1.0, 2.0, np.inf]})
    assert session.run(v) == 0
    with pytest.raises(DTypeError, match="needs float"):
        gc.check_numerics(gc.constant(1), "x")


def test_bytes_become_numbers(session: gc.Session) -> None:
    numbers = np.array([1, -2, 300], "<i2")
    assert session.run(gc.decode_raw(numbers.tobytes(), gc.int16)).tolist() == [1, -2, 300]
    big = gc.decode_raw(numbers.astype(">i2").tobytes(), gc.int16, little_endian=False)
    assert session.run(big).tolist() == [1, -2, 300]
    x = gc.placeholder(gc.uint8, [None])
    assert session.run(gc.decode_raw(x, gc.float32), {x: [0, 0, 128, 63]}).tolist() == [1.0]
    with pytest.raises(ShapeError, match="3 bytes are no whole number of int16"):
        gc.decode_raw(b"abc", gc.int16)
    with pytest.raises(DTypeError, match="uint8"):
        gc.decode_raw(gc.ones([4]), gc.int16)

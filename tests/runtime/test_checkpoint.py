"""Checkpoints restore exactly, or change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import graphc as gc


@pytest.fixture
def session() -> Iterator[gc.Session]:
    with gc.Graph().as_default() as graph, gc.Session(graph=graph, device="numpy") as opened:
        yield opened


@pytest.mark.parametrize(
    "dtype",
    ["float16", "bfloat16", "float32", "float64", "int8", "int32", "int64", "uint8", "bool"],
)
def test_every_dtype_exactly(session: gc.Session, tmp_path: Path, dtype: str) -> None:
    raw = np.array([[0, 1, -3], [7, 2, 5]])
    data = raw.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    v = gc.Variable(gc.constant(data), trainable=False, name="v")
    session.run(v.initializer)
    path = gc.train.Saver().save(session, tmp_path / "model")
    v.load(np.zeros_like(data), session)
    gc.train.Saver().restore(session, path)
    assert session.run(v).tobytes() == data.tobytes()


def test_special_floats_and_scalars(session: gc.Session, tmp_path: Path) -> None:
    data = np.array([np.nan, np.inf, -0.0, 1e-45], np.float32)
    v, s = gc.Variable(data), gc.Variable(3.0)
    session.run(gc.global_variables_initializer())
    path = gc.train.Saver().save(session, tmp_path / "m", global_step=7)
    assert path.endswith("m-7")
    with gc.Session(graph=session.graph, device="numpy") as other:
        gc.train.Saver([v, s]).restore(other, path)
        assert other.run(v).tobytes() == data.tobytes() and other.run(s) == 3.0


def test_keeps_the_newest(session: gc.Session, tmp_path: Path) -> None:
    v = gc.Variable(1.0)
    session.run(v.initializer)
    saver = gc.train.Saver(max_to_keep=2)
    for step in range(4):
        saver.save(session, tmp_path / "m", global_step=step)
    assert sorted(p.name for p in tmp_path.glob("*.safetensors")) == [
        "m-2.safetensors", "m-3.safetensors",
    ]  # fmt: skip
    assert gc.train.latest_checkpoint(tmp_path) == str(tmp_path / "m-3")
    state = gc.train.get_checkpoint_state(tmp_path)
    assert state is not None and len(state.all_model_checkpoint_paths) == 2
    assert gc.train.get_checkpoint_state(tmp_path / "nowhere") is None


def _saved(session: gc.Session, tmp_path: Path) -> tuple[Any, str]:
    v = gc.Variable([1.0, 2.0], name="v")
    session.run(v.initializer)
    return v, gc.train.Saver([v]).save(session, tmp_path / "m")


def test_missing_and_damaged_files(session: gc.Session, tmp_path: Path) -> None:
    v, path = _saved(session, tmp_path)
    with pytest.raises(gc.errors.CheckpointError, match="no checkpoint"):
        gc.train.Saver([v]).restore(session, tmp_path / "other")
    file = Path(path + ".safetensors")
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(gc.errors.CheckpointError, match="damaged"):
        gc.train.Saver([v]).restore(session, path)
    np.testing.assert_array_equal(session.run(v), [1, 2])


def test_wrong_names_and_shapes_change_nothing(session: gc.Session, tmp_path: Path) -> None:
    v, path = _saved(session, tmp_path)
    w = gc.Variable([5.0, 6.0, 7.0], name="w")
    session.run(w.initializer)
    with pytest.raises(gc.errors.CheckpointError, match="no variable w"):
        gc.train.Saver([v, w]).restore(session, path)
    with pytest.raises(gc.errors.CheckpointError, match=r"float32\[2\].*float32\[3\]"):
        gc.train.Saver({"v": w}).restore(session, path)
    np.testing.assert_array_equal(session.run(w), [5, 6, 7])


def test_nothing_to_save_and_no_folder(session: gc.Session, tmp_path: Path) -> None:
    with pytest.raises(gc.errors.CheckpointError, match="no variables"):
        gc.train.Saver()
    v, _ = _saved(session, tmp_path)
    with pytest.raises(gc.errors.CheckpointError, match="no folder"):
        gc.train.Saver([v]).save(session, tmp_path / "missing" / "m")
    u = gc.Variable(1.0)
    with pytest.raises(gc.errors.UninitializedError):
        gc.train.Saver([u]).save(session, tmp_path / "u")

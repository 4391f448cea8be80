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


def test_names_of_steps_and_lists(session: gc.Session, tmp_path: Path) -> None:
    v = gc.Variable(1.0)
    session.run(v.initializer)
    saver = gc.train.Saver(pad_step_number=True)
    path = saver.save(session, tmp_path / "m", np.int64(7), latest_filename="mine")
    assert path.endswith("m-00000007") and gc.train.latest_checkpoint(tmp_path) is None
    assert gc.train.latest_checkpoint(tmp_path, "mine") == path
    saver.save(session, tmp_path / "n", write_state=False)
    assert gc.train.latest_checkpoint(tmp_path, "mine") == path
    assert saver.last_checkpoints == [path] and gc.train.checkpoint_exists(tmp_path / "n")
    gc.train.remove_checkpoint(path)
    saver.recover_last_checkpoints([path, str(tmp_path / "n")])
    assert saver.last_checkpoints == [str(tmp_path / "n")]


def test_some_checkpoints_are_kept_for_good(session: gc.Session, tmp_path: Path) -> None:
    v = gc.Variable(1.0)
    session.run(v.initializer)
    for hours, left in ((-1.0, ["m-0", "m-1", "m-2"]), (1.0, ["m-2"])):
        folder = tmp_path / str(hours)
        folder.mkdir()
        saver = gc.train.Saver(max_to_keep=1, keep_checkpoint_every_n_hours=hours)
        for step in range(3):
            saver.save(session, folder / "m", global_step=step)
        assert sorted(p.stem for p in folder.glob("*.safetensors")) == left


def test_a_checkpoint_is_read_without_a_graph(session: gc.Session, tmp_path: Path) -> None:
    _, path = _saved(session, tmp_path)
    for given in (path, tmp_path):
        reader = gc.train.load_checkpoint(given)
        assert reader.get_variable_to_shape_map() == {"v": [2]}
        assert reader.get_variable_to_dtype_map() == {"v": gc.float32}
        assert reader.has_tensor("v") and not reader.has_tensor("w")
    np.testing.assert_array_equal(gc.train.load_variable(path, "v"), [1, 2])
    assert gc.train.list_variables(path) == [("v", [2])]
    with pytest.raises(gc.errors.CheckpointError, match="has no variable 'w'; it has v"):
        reader.get_tensor("w")
    with pytest.raises(gc.errors.CheckpointError, match="lists no checkpoint"):
        gc.train.load_checkpoint(tmp_path.parent)


def test_a_saver_is_built_late_and_reshapes(session: gc.Session, tmp_path: Path) -> None:
    saver = gc.train.Saver(defer_build=True)
    v, path = _saved(session, tmp_path)
    saver.build()
    saver.restore(session, path)
    w = gc.Variable([[0.0], [0.0]])
    gc.train.Saver({"v": w}, reshape=True).restore(session, path)
    np.testing.assert_array_equal(session.run(w), [[1], [2]])
    with pytest.raises(gc.errors.CheckpointError, match="but the variable is"):
        gc.train.Saver({"v": w}).restore(session, path)
    with pytest.raises(gc.errors.CheckpointError, match="path given is None"):
        saver.restore(session, None)  # type: ignore[arg-type]
    with gc.Graph().as_default():
        with pytest.raises(gc.errors.CheckpointError, match="no variables"):
            gc.train.Saver()
        gc.train.Saver(allow_empty=True)
    assert v.op.name == "v"

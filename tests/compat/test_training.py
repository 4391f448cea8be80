"""Hooks around training, TensorFlow's inner modules, and the table of symbols."""

from __future__ import annotations

import logging
import unittest
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc.compat.tf1 as tf
from graphc.compat.coverage import is_offered, main, resolve
from graphc.errors import SessionError

train = tf.train


def _model() -> tuple[Any, Any, Any]:
    """A weight of 1 that halves at each step: its loss, the step of training, the count."""
    w = tf.Variable(1.0, name="w")
    step = train.get_or_create_global_step()
    with tf.control_dependencies([w.assign(w.value() * 0.5)]):
        update = step.assign_add(1)
    return w, update, step


def _count_steps(hooks: list[Any], update: Any, most: int = 50) -> int:
    count = 0
    with train.MonitoredSession(hooks) as session:
        while not session.should_stop() and count < most:
            session.run(update)
            count += 1
    return count


def test_stopping_after_so_many_steps_or_at_one() -> None:
    _, update, _ = _model()
    assert _count_steps([train.StopAtStepHook(num_steps=3)], update) == 3
    assert _count_steps([train.StopAtStepHook(last_step=4)], update) == 4
    with pytest.raises(SessionError, match="either"):
        train.StopAtStepHook()


def test_stopping_without_a_global_step_says_so() -> None:
    w = tf.Variable(1.0)
    with pytest.raises(SessionError, match="get_or_create_global_step"):
        _count_steps([train.StopAtStepHook(num_steps=1)], w.assign_add(1.0))


def test_a_loss_that_is_nan_ends_or_fails() -> None:
    w, update, _ = _model()
    nan = tf.where(tf.less(w, 0.2), tf.constant(np.nan), w)
    assert _count_steps([train.NanTensorHook(nan, fail_on_nan_loss=False)], update) == 4
    with pytest.raises(SessionError, match="is NaN"):
        _count_steps([train.NanTensorHook(nan)], update)


def test_tensors_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    w, update, _ = _model()
    hook = train.LoggingTensorHook({"w": w}, every_n_iter=2)
    with caplog.at_level(logging.INFO, "graphc"):
        _count_steps([hook, train.StopAtStepHook(num_steps=4)], update)
    said = [r.getMessage() for r in caplog.records if r.getMessage().startswith("w =")]
    assert said == ["w = 1.0", "w = 0.25"]


def test_checkpoints_by_steps(tmp_path: Path) -> None:
    _, update, _ = _model()
    hook = train.CheckpointSaverHook(str(tmp_path), save_steps=2)
    _count_steps([hook, train.StopAtStepHook(num_steps=5)], update)
    found = sorted(p.stem for p in tmp_path.glob("*.safetensors"))
    assert found == ["model.ckpt-0", "model.ckpt-2", "model.ckpt-4", "model.ckpt-5"]
    assert train.load_variable(str(tmp_path), "w") == 0.5**5


def test_summaries_by_steps(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    w, update, _ = _model()
    tf.summary.scalar("weight", w)
    hook = train.SummarySaverHook(save_steps=2, output_dir=str(tmp_path))
    _count_steps([hook, train.StopAtStepHook(num_steps=4)], update)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [e.value for e in events.Scalars("weight")] == [1.0, 0.25]


class _Recorder(train.SessionRunHook):  # type: ignore[misc]
    def __init__(self, fetch: Any, feed: Any) -> None:
        self.fetch, self.feed, self.calls = fetch, feed, list[Any]()

    def begin(self) -> None:
        self.calls.append("begin")

    def before_run(self, run_context: Any) -> Any:
        self.calls.append(run_context.original_args.fetches)
        return train.SessionRunArgs(self.fetch, self.feed)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self.calls.append(run_values.results)

    def end(self, session: Any) -> None:
        self.calls.append("end")


def test_a_hook_runs_fetches_of_its_own() -> None:
    x = tf.placeholder(tf.float32, [])
    doubled, square = x * 2.0, x * x
    hook = _Recorder([doubled], {x: 3.0})
    with train.MonitoredSession([hook]) as session:
        assert session.run(square) == 9
    assert hook.calls == ["begin", square, [6.0], "end"]


def test_hooks_do_not_end_after_an_error() -> None:
    hook = _Recorder(None, None)
    with pytest.raises(ZeroDivisionError), train.MonitoredSession([hook]):
        raise ZeroDivisionError
    assert hook.calls == ["begin"]


def test_a_scaffold_begins_the_session() -> None:
    w = tf.Variable(1.0)
    scaffold = train.Scaffold(
        init_op=w.initializer, init_fn=lambda scaffold, session: w.load(7.0, session)
    )
    with train.MonitoredSession(scaffold=scaffold) as session:
        assert session.run(w) == 7


def test_coordinator_ends() -> None:
    coord = train.Coordinator(clean_stop_exception_types=(StopIteration,))
    coord.request_stop(StopIteration())
    assert coord.should_stop() and coord.wait_for_stop(0) and coord.joined
    coord.join()
    coord.clear_stop()
    assert not coord.should_stop()


def test_graphs_are_written(tmp_path: Path) -> None:
    tf.constant(1.0, name="one")
    text = Path(train.write_graph(tf.get_default_graph(), str(tmp_path / "a"), "g.pbtxt"))
    assert 'name: "one"' in text.read_text()
    graph_def = tf.get_default_graph().as_graph_def()
    binary = Path(train.write_graph(graph_def, str(tmp_path), "g.pb", as_text=False))
    read = tf.GraphDef()
    read.ParseFromString(binary.read_bytes())
    assert [n.name for n in read.node] == ["one"]


# -- inner modules


def test_inner_modules() -> None:
    python = tf.python
    assert python.ops.math_ops.reduce_sum is tf.reduce_sum
    assert python.ops.nn.relu is tf.nn.relu
    assert python.platform.gfile.Exists is tf.gfile.Exists
    assert python.platform.tf_logging.INFO == tf.logging.INFO
    assert python.framework.tensor_shape.scalar() == ()
    assert python.framework.tensor_shape.matrix(2, None).as_list() == [2, None]
    names = [d.name for d in python.client.device_lib.list_local_devices()]
    assert names[0] == "/device:CPU:0"
    nest = python.util.nest
    assert nest.map_structure(lambda x: x + 1, [1, (2, 3)]) == [2, (3, 4)]
    assert nest.pack_sequence_as([0, [0]], [1, 2]) == [1, [2]]


def test_files_by_inner_names(tmp_path: Path) -> None:
    file_io = tf.python.lib.io.file_io
    path = str(tmp_path / "x")
    file_io.write_string_to_file(path, "text")
    assert file_io.read_file_to_string(path) == "text" and file_io.file_exists(path)
    assert file_io.read_file_to_string(path, binary_mode=True) == b"text"
    assert file_io.get_matching_files(str(tmp_path / "*")) == [path]


def test_moving_average() -> None:
    v = tf.Variable(1.0)
    update = tf.python.training.moving_averages.assign_moving_average(v, 3.0, 0.5)
    with tf.Session() as session:
        session.run(v.initializer)
        assert session.run(update) == 2


def test_the_test_case_of_tensorflow() -> None:
    class Case(tf.test.TestCase):  # type: ignore[misc, name-defined]
        def test_sum(self) -> None:
            with self.test_session() as session:
                total = session.run(tf.reduce_sum(tf.constant([1.0, 2.0])))
            self.assertAllClose(total, 3.0)
            self.assertAllEqual([1, 2], [1, 2])

        def test_wrong(self) -> None:
            self.assertAllClose([1.0], [1.1])

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(result)
    failed, skipped = (
        [test.id().rpartition(".")[2] for test, _ in found]
        for found in (result.failures, result.skipped)
    )
    assert (failed, skipped, result.errors) == (["test_wrong"], ["test_session"], [])
    assert result.testsRun == 3


# -- the table


def test_members_of_results_are_found() -> None:
    assert resolve("tf.Session().run") is tf.Session.run
    assert is_offered("tf.train.get_checkpoint_state().model_checkpoint_path")
    assert is_offered("tf.variable_scope().reuse_variables")
    assert is_offered("tf.examples.tutorials.mnist.input_data.read_data_sets().train")
    for wrong in ("tf.Session().walk", "tf.matmul().append", "tf.no_such().x", "tf.float32().x"):
        assert not is_offered(wrong)


def test_the_table_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tf1.md"
    main([str(path)])
    assert capsys.readouterr().out.strip().endswith(f"of 897 symbols are offered: {path}")
    committed = (Path(__file__).parents[2] / "docs" / "tf1.md").read_text()
    # the table in docs may lag behind, but claims nothing that is not there
    claimed, there = (
        int(t.split("| all | 897 | ")[1].split()[0]) for t in (committed, path.read_text())
    )
    assert claimed <= there

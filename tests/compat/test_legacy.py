"""Old spellings, and what stands around the graph: flags, files, logging, records, scopes."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gc
import graphc.compat.tf1 as tf
from graphc.compat.tf1.__main__ import run_program
from graphc.compat.tf1.flags import _FlagValues
from graphc.datasets import DatasetFormatError
from graphc.errors import AttributeValueError, SessionError, ShapeError, UnsupportedOp


def run(x: Any, feeds: Any = None) -> Any:
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        return session.run(x, feeds)


# -- spellings


def test_both_orders_of_concat_and_split() -> None:
    a, b = np.arange(6.0).reshape(2, 3), np.ones((2, 1))
    wanted = np.concatenate([a, b], 1)
    for joined in (
        tf.concat([a, b], 1), tf.concat(1, [a, b]), tf.concat(axis=1, values=[a, b]),
        tf.concat(concat_dim=1, values=[a, b]), tf.concat_v2([a, b], axis=1),
    ):  # fmt: skip
        np.testing.assert_array_equal(run(joined), wanted)
    x = tf.constant(np.arange(8.0).reshape(2, 4))
    for parts in (
        tf.split(x, 2, 1), tf.split(1, 2, x), tf.split(value=x, num_or_size_splits=[2, 2], axis=1),
        tf.split(split_dim=1, num_split=2, value=x),
    ):  # fmt: skip
        np.testing.assert_array_equal(run(parts), np.split(np.arange(8.0).reshape(2, 4), 2, 1))
    np.testing.assert_array_equal(run(tf.split(tf.constant([1, 2, 3, 4]), 2)), [[1, 2], [3, 4]])


def test_positions_of_cross_entropies_are_those_of_before_1_0() -> None:
    logits = np.array([[1.0, 2.0, -1.0]], np.float32)
    labels = np.array([[0.0, 0.0, 1.0]], np.float32)
    wanted = np.log(np.exp(logits).sum()) - logits[0, 2]
    nn = tf.nn
    for loss in (
        nn.softmax_cross_entropy_with_logits(logits, labels),
        nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits),
        nn.sparse_softmax_cross_entropy_with_logits(logits, np.array([2])),
    ):
        np.testing.assert_allclose(run(loss), [wanted], rtol=1e-5)
    sigmoid = nn.sigmoid_cross_entropy_with_logits
    np.testing.assert_array_equal(
        run(sigmoid(logits, labels)), run(sigmoid(targets=labels, logits=logits))
    )
    assert run(tf.reduce_max(sigmoid(logits, labels))) == pytest.approx(np.log1p(np.exp(2.0)))


def test_other_old_names() -> None:
    x = np.array([[1.0, 4.0], [3.0, 2.0]], np.float32)
    np.testing.assert_array_equal(run(tf.reverse(x, [False, True])), x[:, ::-1])
    np.testing.assert_array_equal(run(tf.reverse(x, dims=[True, False])), x[::-1])
    np.testing.assert_array_equal(run(tf.reverse(x, [0])), x[::-1])
    np.testing.assert_array_equal(run(tf.select(x > 2, x, -x)), np.where(x > 2, x, -x))
    np.testing.assert_array_equal(run(tf.arg_max(x, 1)), [1, 0])
    np.testing.assert_array_equal(run(tf.inv(x)), 1 / x)
    dense = tf.sparse_to_dense([[0, 1], [2, 0]], [3, 2], [5.0, 7.0], -1.0)
    np.testing.assert_array_equal(run(dense), [[-1, 5], [-1, -1], [7, -1]])
    np.testing.assert_array_equal(run(tf.sparse_to_dense([1, 3], [4], 1.0)), [0, 1, 0, 1])
    with tf.op_scope([x], None, "scope"):
        assert tf.constant(1.0).op.name == "scope/Const"
    with pytest.raises(ShapeError, match="rank 1 was asserted"):
        tf.assert_rank(x, 1)
    assert tf.assert_rank(x, 2).name == "NoOp" and not tf.executing_eagerly()


def test_texts_are_fetched_as_bytes() -> None:
    hello = tf.constant("Hello, TensorFlow!")
    assert run(hello) == b"Hello, TensorFlow!" and hello.name == "Const:0"
    assert run(hello + " Bye.") == b"Hello, TensorFlow! Bye."
    both = run(tf.constant(["a", "b"]))
    assert both.tolist() == [b"a", b"b"] and both.dtype == object
    with pytest.raises(gc.errors.DTypeError):
        tf.add(hello, 1.0)


def test_shapes_have_dimensions_with_values() -> None:
    shape = tf.placeholder(tf.float32, [None, 4, 5]).get_shape()
    assert shape[1].value == 4 and shape[1] + 1 == 5 and shape[0] is None
    assert shape[1:3].num_elements() == 20 and shape[1:].as_list() == [4, 5]
    assert tf.TensorShape([None, 3]).as_list() == [None, 3]
    assert tf.zeros([shape[1], shape[2].value]).shape == (4, 5)


def test_v1_is_the_api_itself() -> None:
    assert tf.compat.v1.placeholder is tf.placeholder
    assert tf.compat.as_str(b"a") == "a" and tf.compat.as_bytes("a") == b"a"
    assert tf.__version__.startswith("1.") and tf.version.VERSION == tf.VERSION


def test_an_error_is_caught_by_tensorflows_name() -> None:
    v = tf.Variable(1.0)
    with tf.Session() as session, pytest.raises(tf.errors.FailedPreconditionError):
        session.run(v)
    with tf.Session() as session, pytest.raises(tf.errors.NotFoundError):
        tf.train.Saver().restore(session, "/nowhere/model")


# -- programs from outside

PROGRAM = """
import tensorflow as tf
from tensorflow.contrib import slim
from tensorflow.python.framework import ops
import tensorflow.contrib.layers as layers
flags = tf.app.flags
flags.DEFINE_integer("count", 3, "how many")
flags.DEFINE_boolean("loud", False, "how")
def main(argv):
    with tf.Session() as sess:
        total = sess.run(tf.reduce_sum(tf.range(flags.FLAGS.count)))
    assert layers.conv2d is slim.conv2d and ops.convert_to_tensor is tf.convert_to_tensor
    print("total", total, flags.FLAGS.loud, argv[1:])
if __name__ == "__main__":
    tf.app.run()
"""


def test_a_program_that_imports_tensorflow_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    monkeypatch.setattr(sys, "argv", [])
    with pytest.raises(SystemExit) as end:
        run_program(str(path), ["--count=5", "--loud", "rest"])
    assert end.value.code is None
    assert capsys.readouterr().out == "total 10 True ['rest']\n"
    assert "tensorflow" not in sys.modules


def test_an_import_that_is_not_offered_says_so(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text("import tensorflow.contrib.tensor_forest")
    with pytest.raises(ModuleNotFoundError, match=r"known but not offered.*scikit-learn"):
        run_program(str(path))


# -- flags, files, logging


def test_flags() -> None:
    values = _FlagValues()
    values._define("rate", 0.5, "", float)
    values._define("name", None, "", str)
    assert values(["program", "--rate", "2", "-name=x", "other"]) == ["program", "other"]
    assert (values.rate, values.name) == (2.0, "x") and "rate" in values
    values.rate = 3.0
    assert values.flag_values_dict() == {"rate": 3.0, "name": "x"}
    with pytest.raises(AttributeError, match="no flag 'size'; there are: name, rate"):
        _ = values.size
    with pytest.raises(SystemExit):
        values(["program", "--rate=fast"])


def test_bool_flags() -> None:
    from graphc.compat.tf1.flags import _parse_bool

    for argument, wanted in (
        ("--on", True), ("--noon", False), ("--on=false", False), ("--on=1", True), ("x", True),
    ):  # fmt: skip
        values = _FlagValues()
        values._define("on", True, "", _parse_bool)
        values(["program", argument])
        assert values.on is wanted


def test_files(tmp_path: Path) -> None:
    gfile = tf.gfile
    folder = str(tmp_path / "a" / "b")
    gfile.MakeDirs(folder)
    gfile.MakeDirs(folder)
    assert gfile.IsDirectory(folder) and not gfile.Exists(folder + "/x")
    with gfile.GFile(folder + "/x", "w") as file:
        file.write("one\ntwo\n")
    with gfile.FastGFile(folder + "/x", "rb") as file:
        assert file.read() == b"one\ntwo\n" and file.size() == 8
    assert [line.strip() for line in gfile.GFile(folder + "/x")] == ["one", "two"]
    gfile.Copy(folder + "/x", folder + "/y")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        gfile.Rename(folder + "/x", folder + "/y")
    gfile.Rename(folder + "/x", folder + "/y", overwrite=True)
    assert gfile.ListDirectory(folder) == ["y"] == [Path(p).name for p in gfile.Glob(folder + "/*")]
    assert gfile.Stat(folder + "/y").length == 8
    gfile.DeleteRecursively(str(tmp_path / "a"))
    assert not gfile.Exists(folder)
    assert tf.io.gfile.exists is gfile.Exists


def test_logging(caplog: pytest.LogCaptureFixture) -> None:
    level = tf.logging.get_verbosity()
    try:
        tf.logging.set_verbosity(tf.logging.INFO)
        with caplog.at_level(logging.INFO, "tensorflow"):
            tf.logging.info("step %d", 3)
            tf.logging.debug("hidden")
        assert [r.getMessage() for r in caplog.records] == ["step 3"]
    finally:
        tf.logging.set_verbosity(level)


# -- records and protos


@pytest.mark.parametrize("compression", ["NONE", "GZIP", "ZLIB"])
def test_records_of_examples(tmp_path: Path, compression: str) -> None:
    train, path = tf.train, str(tmp_path / "records")
    options = tf.python_io.TFRecordOptions(
        getattr(tf.python_io.TFRecordCompressionType, compression)
    )
    with tf.python_io.TFRecordWriter(path, options) as writer:
        for i in range(3):
            feature = {
                "label": train.Feature(int64_list=train.Int64List(value=[i, -i])),
                "text": train.Feature(bytes_list=train.BytesList(value=[b"abc" * i])),
                "x": train.Feature(float_list=train.FloatList(value=[0.5, i])),
            }
            example = train.Example(features=train.Features(feature=feature))
            writer.write(example.SerializeToString())
    read = [train.Example.FromString(r) for r in tf.python_io.tf_record_iterator(path, options)]
    assert [list(e.features.feature["label"].int64_list.value) for e in read] == [
        [0, 0], [1, -1], [2, -2]
    ]  # fmt: skip
    assert read[2].features.feature["text"].bytes_list.value[0] == b"abcabc"
    assert list(read[1].features.feature["x"].float_list.value) == [0.5, 1.0]


def test_records_agree_with_tensorboards_reader(tmp_path: Path) -> None:
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New

    path = str(tmp_path / "records")
    records = [b"", b"x" * 100, bytes(range(256))]
    with tf.python_io.TFRecordWriter(path) as writer:
        for record in records:
            writer.write(record)
    reader = PyRecordReader_New(path)
    for record in records:
        reader.GetNext()
        assert reader.record() == record


def test_damaged_records_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "records"
    with tf.python_io.TFRecordWriter(str(path)) as writer:
        writer.write(b"abcdef")
    data = path.read_bytes()
    path.write_bytes(data[:-3])
    with pytest.raises(DatasetFormatError, match="ends inside"):
        list(tf.python_io.tf_record_iterator(str(path)))
    path.write_bytes(data[:13] + b"X" + data[14:])
    with pytest.raises(DatasetFormatError, match="checksum"):
        list(tf.python_io.tf_record_iterator(str(path)))
    with pytest.raises(ValueError, match="GZIP"):
        tf.python_io.TFRecordWriter(str(path), tf.python_io.TFRecordOptions("LZ4"))


def test_mnist_reader(mnist_folder: Path) -> None:
    reader = tf.examples.tutorials.mnist.input_data
    data = reader.read_data_sets(mnist_folder, one_hot=True, validation_size=37, seed=1)
    train = data.train
    assert train.images.shape == (train.num_examples, 784) and train.images.dtype == np.float32
    assert data.validation.num_examples == 37 and data.test.labels.shape[1] == 10
    total = train.images.sum()
    seen = [train.next_batch(100) for _ in range(train.num_examples // 100 + 1)]
    assert train.epochs_completed == 1 and {len(x) for x, _ in seen} == {100}
    assert train.images.sum() == pytest.approx(total, rel=1e-5)  # a permutation
    np.testing.assert_array_equal(seen[0][1].sum(1), 1)
    raw = reader.read_data_sets(mnist_folder, dtype=tf.uint8, reshape=False, validation_size=0)
    assert raw.train.images.shape[1:] == (28, 28, 1) and raw.train.images.max() == 255
    assert raw.train.labels.ndim == 1
    first = raw.test.next_batch(5, shuffle=False)[1]
    np.testing.assert_array_equal(first, raw.test.labels[:5])
    fake = reader.read_data_sets(None, fake_data=True, one_hot=True)
    assert fake.train.next_batch(3)[0].shape == (3, 784)
    with pytest.raises(ValueError, match="validation_size"):
        reader.read_data_sets(mnist_folder, validation_size=10**6)


def test_the_tutorials_mnist_model(mnist_folder: Path) -> None:
    mnist = tf.examples.tutorials.mnist.mnist
    data = tf.examples.tutorials.mnist.input_data.read_data_sets(mnist_folder, validation_size=0)
    x, y = tf.placeholder(tf.float32, [50, 784]), tf.placeholder(tf.int32, [50])
    logits = mnist.inference(x, 32, 16)
    loss = mnist.loss(logits, y)
    step, hits = mnist.training(loss, 0.1), mnist.evaluation(logits, y)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        losses = []
        for _ in range(150):
            xs, ys = data.train.next_batch(50)
            losses.append(sess.run([loss, step], {x: xs, y: ys})[0])
        assert np.mean(losses[-5:]) < losses[0] / 2
        assert 0 <= sess.run(hits, {x: xs, y: ys}) <= 50


# -- contrib


def test_hyperparameters() -> None:
    h = tf.contrib.training.HParams(rate=0.1, layers=[1, 2], name="a", on=False)
    h.parse("rate=1,layers=[3,4],on=true,name=b")
    assert h.values() == {"rate": 1.0, "layers": [3, 4], "name": "b", "on": True}
    assert isinstance(h.rate, float) and "rate" in h and h.get("none", 5) == 5
    h.parse_json(h.to_json())
    h.add_hparam("more", 1)
    assert h.more == 1
    for wrong in ("speed=1", "rate", "more=x"):
        with pytest.raises(AttributeValueError):
            h.parse(wrong)
    with pytest.raises(AttributeValueError, match="there already"):
        h.add_hparam("rate", 1)


def test_arg_scope() -> None:
    framework = tf.contrib.framework

    @framework.add_arg_scope
    def f(x: int, a: int = 0, b: int = 0) -> tuple[int, int, int]:
        return x, a, b

    with framework.arg_scope([f], a=1) as outer:
        with framework.arg_scope([f], b=2):
            assert f(0) == (0, 1, 2) and f(0, a=5) == (0, 5, 2)
        assert f(0) == (0, 1, 0)
    assert f(0) == (0, 0, 0)
    with framework.arg_scope(outer):
        assert f(0) == (0, 1, 0)
    with pytest.raises(AttributeValueError, match="add_arg_scope"), framework.arg_scope([len], a=1):
        pass


def test_contrib_layers_names_and_values() -> None:
    layers = tf.contrib.layers
    x = tf.constant(np.random.default_rng(0).standard_normal((2, 6, 6, 3)), tf.float32)
    y = layers.conv2d(x, 4, 3, stride=2)
    y = layers.max_pool2d(y, 2, stride=1)
    y = layers.batch_norm(y, is_training=False, scale=True, updates_collections=None)
    y = layers.flatten(y)
    y = layers.fully_connected(y, 5)
    y = layers.layer_norm(y)
    y = layers.dropout(y, 0.5, is_training=False)
    names = [v.op.name for v in tf.global_variables()]
    assert set(names) == {
        "Conv/weights", "Conv/biases", "BatchNorm/gamma", "BatchNorm/beta",
        "BatchNorm/moving_mean", "BatchNorm/moving_variance", "fully_connected/weights",
        "fully_connected/biases", "LayerNorm/beta", "LayerNorm/gamma",
    }  # fmt: skip
    result = run(y)
    assert result.shape == (2, 5)
    np.testing.assert_allclose(result.mean(1), 0, atol=1e-5)
    tf.contrib.layers.fully_connected(y, 5)
    assert tf.global_variables()[-1].op.name == "fully_connected_1/biases"


def test_conv_transpose_and_repeat() -> None:
    layers = tf.contrib.layers
    x = tf.ones([1, 4, 4, 2])
    assert layers.conv2d_transpose(x, 3, 3, stride=2).shape == (1, 8, 8, 3)
    y = layers.repeat(x, 2, layers.conv2d, 4, [3, 3], scope="conv")
    assert y.shape == (1, 4, 4, 4)
    names = {v.op.name for v in tf.trainable_variables()}
    assert {"conv/conv_1/weights", "conv/conv_2/weights"} <= names


def test_batch_norm_updates_at_once_or_by_collection() -> None:
    layers = tf.contrib.layers
    x = tf.constant([[1.0], [3.0]])
    at_once = layers.batch_norm(x, decay=0.5, updates_collections=None, scope="now")
    later = layers.batch_norm(x, decay=0.5, updates_collections="mine", scope="later")
    assert tf.get_collection(tf.GraphKeys.UPDATE_OPS) == []
    assert len(tf.get_collection("mine")) == 2
    now, then = (tf.contrib.framework.get_variables(s, "moving_mean")[0] for s in ("now", "later"))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run([at_once, later])
        assert sess.run([now, then]) == [[1.0], [0.0]]


def test_regularizers() -> None:
    layers = tf.contrib.layers
    w = tf.Variable([1.0, -2.0])
    assert run(layers.l2_regularizer(0.1)(w)) == pytest.approx(0.25)
    assert run(layers.l1_regularizer(0.5)(w)) == pytest.approx(1.5)
    assert run(layers.l1_l2_regularizer(0.5, 0.1)(w)) == pytest.approx(1.75)
    assert layers.l2_regularizer(0.0)(w) is None
    assert run(layers.apply_regularization(layers.l2_regularizer(0.1), [w])) == pytest.approx(0.25)
    for scale in (-0.1, 1):
        with pytest.raises(AttributeValueError, match="float that is not negative"):
            layers.l2_regularizer(scale)


def test_optimize_loss() -> None:
    step = tf.train.get_or_create_global_step()
    w = tf.Variable(4.0)
    train = tf.contrib.layers.optimize_loss(
        tf.square(w), step, 0.1, "SGD", clip_gradients=1.0,
        learning_rate_decay_fn=lambda rate, _: rate * 2.0,
    )  # fmt: skip
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(train)
        assert sess.run([w, step]) == [pytest.approx(3.8), 1]


def test_sequence_losses() -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((2, 3, 4)).astype("f")
    targets = rng.integers(0, 4, (2, 3)).astype("i")
    weights = np.array([[1, 1, 0], [1, 1, 1]], np.float32)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    each = -np.log(np.take_along_axis(p, targets[..., None], -1)[..., 0]) * weights
    loss = tf.contrib.seq2seq.sequence_loss
    assert run(loss(logits, targets, weights)) == pytest.approx(each.sum() / 5, rel=1e-5)
    np.testing.assert_allclose(
        run(loss(logits, targets, weights, average_across_batch=False)),
        each.sum(1) / weights.sum(1), rtol=1e-5,
    )  # fmt: skip
    by_step = [list(a) for a in (logits.swapaxes(0, 1), targets.T, weights.T)]
    np.testing.assert_allclose(
        run(tf.nn.seq2seq.sequence_loss_by_example(*by_step)),
        each.sum(1) / weights.sum(1), rtol=1e-5,
    )  # fmt: skip
    np.testing.assert_array_equal(
        run(tf.contrib.seq2seq.tile_batch(tf.constant([[1], [2]]), 2)), [[1], [1], [2], [2]]
    )
    with pytest.raises(ShapeError, match="rank 3"):
        loss(targets, targets, weights)


def test_a_distributed_master_is_refused() -> None:
    with pytest.raises(SessionError, match="no distributed master"):
        tf.train.MonitoredTrainingSession("grpc://host:1")


def test_a_missing_tensorboard_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    summary = tf.summary.scalar("x", 1.0)
    for name in [n for n in sys.modules if n.startswith("tensorboard")] + ["tensorboard"]:
        monkeypatch.setitem(sys.modules, name, None)
    for ask in (
        lambda: run(summary), lambda: tf.summary.FileWriter("x"), lambda: tf.GraphDef(),
        lambda: tf.get_default_graph().as_graph_def(),
    ):  # fmt: skip
        with pytest.raises(UnsupportedOp, match=r"pip install graphc\[tensorboard\]"):
            ask()

"""`tf.import_graph_def`, `tf.graph_util`, meta graphs and saved models, as programs use them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc.compat.tf1 as tf
from graphc.ir.errors import ModelError, ShapeError, UnsupportedOp

pytest.importorskip("tensorboard")


@pytest.fixture(autouse=True)
def fresh_graph() -> Iterator[None]:
    """Every test its own graph."""
    with tf.Graph().as_default():
        yield


def trained(folder: Path) -> tuple[str, np.ndarray, np.ndarray]:
    """A small net whose graph and checkpoint are saved: (path, data, prediction)."""
    x = tf.placeholder(tf.float32, [None, 3], name="input")
    w = tf.get_variable("w", [3, 2])
    y = tf.nn.softmax(tf.matmul(x, w), name="output")
    tf.add_to_collection("predictions", y)
    data = np.random.default_rng(3).standard_normal((4, 3)).astype(np.float32)
    with tf.Session(device="numpy") as session:
        session.run(tf.global_variables_initializer())
        path = tf.train.Saver().save(session, str(folder / "model.ckpt"))
        return path, data, session.run(y, {x: data})


def test_a_frozen_graph_goes_through_a_file(tmp_path: Path) -> None:
    path, data, expected = trained(tmp_path)
    with tf.Session(device="numpy") as session:
        tf.train.Saver().restore(session, path)
        frozen = tf.graph_util.convert_variables_to_constants(
            session, session.graph.as_graph_def(), ["output"]
        )
        with tf.gfile.GFile(str(tmp_path / "frozen.pb"), "wb") as file:
            file.write(frozen.SerializeToString())
    with tf.gfile.GFile(str(tmp_path / "frozen.pb"), "rb") as file:
        graph_def = tf.GraphDef()
        graph_def.ParseFromString(file.read())
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        with tf.Session(graph=graph, device="numpy") as session:
            output = session.graph.get_tensor_by_name("output:0")
            np.testing.assert_array_equal(session.run(output, {"input:0": data}), expected)


def test_import_meta_graph_restores(tmp_path: Path) -> None:
    path, data, expected = trained(tmp_path)
    with tf.Graph().as_default(), tf.Session(device="numpy") as session:
        saver = tf.train.import_meta_graph(path + ".meta")
        saver.restore(session, tf.train.latest_checkpoint(str(tmp_path)))
        (y,) = tf.get_collection("predictions")
        np.testing.assert_array_equal(session.run(y, {"input:0": data}), expected)
        assert [v.name for v in tf.trainable_variables()] == ["w:0"]


def test_write_graph_as_text_is_read_again(tmp_path: Path) -> None:
    from google.protobuf import text_format

    tf.add(tf.placeholder(tf.float32, [2], name="a"), 1.0, name="b")
    file = tf.train.write_graph(tf.get_default_graph(), str(tmp_path), "graph.pbtxt")
    made = text_format.Parse(Path(file).read_text(), tf.GraphDef())
    (b,) = tf.import_graph_def(made, return_elements=["b:0"], name="again")
    with tf.Session(device="numpy") as session:
        assert session.run(b, {"again/a:0": [1.0, 2.0]}).tolist() == [2.0, 3.0]


def test_saved_models(tmp_path: Path) -> None:
    path, data, expected = trained(tmp_path)
    graph = tf.get_default_graph()
    x, y = (graph.get_tensor_by_name(n) for n in ("input:0", "output:0"))
    with tf.Session(device="numpy") as session:
        tf.train.Saver().restore(session, path)
        tf.saved_model.simple_save(session, str(tmp_path / "simple"), {"x": x}, {"y": y})
        builder = tf.saved_model.builder.SavedModelBuilder(str(tmp_path / "built"))
        with pytest.raises(ModelError, match="add_meta_graph"):
            builder.save()
        signature = tf.saved_model.signature_def_utils.predict_signature_def({"x": x}, {"y": y})
        key = tf.saved_model.signature_constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY
        builder.add_meta_graph_and_variables(
            session, [tf.saved_model.tag_constants.SERVING], {key: signature}
        )
        builder.save()
        with pytest.raises(ModelError, match="not empty"):
            tf.saved_model.simple_save(session, str(tmp_path / "simple"), {"x": x}, {"y": y})
    for name in ("simple", "built"):
        folder = str(tmp_path / name)
        assert tf.saved_model.loader.maybe_saved_model_directory(folder)
        with tf.Graph().as_default(), tf.Session(device="numpy") as session:
            meta = tf.saved_model.loader.load(session, ["serve"], folder)
            signature = meta.signature_def["serving_default"]
            feed = {signature.inputs["x"].name: data}
            got = session.run(signature.outputs["y"].name, feed)
        np.testing.assert_array_equal(got, expected)


def test_broken_saved_models_are_refused(tmp_path: Path) -> None:
    path, _, _ = trained(tmp_path)
    y = tf.get_default_graph().get_tensor_by_name("output:0")
    with tf.Session(device="numpy") as session:
        tf.train.Saver().restore(session, path)
        tf.saved_model.simple_save(session, str(tmp_path / "m"), {}, {"y": y})
    file = tmp_path / "m" / "saved_model.pb"
    whole = file.read_bytes()

    def load(tags: list[str]) -> None:
        with tf.Graph().as_default(), tf.Session(device="numpy") as session:
            tf.saved_model.loader.load(session, tags, str(tmp_path / "m"))

    with pytest.raises(ModelError, match="no graph with the tags"):
        load(["train"])
    for broken in (whole[:-5], whole[:3], whole + b"\x12\xff\xff\xff", b"\x99" + whole):
        file.write_bytes(broken)
        with pytest.raises(ModelError):
            load(["serve"])
    file.unlink()
    with pytest.raises(ModelError, match="no saved model"):
        load(["serve"])


def test_tensor_protos() -> None:
    made = tf.make_tensor_proto([1.5, 2.0], shape=[2, 1])
    assert tf.make_ndarray(made).tolist() == [[1.5], [2.0]]
    assert tf.make_ndarray(tf.make_tensor_proto(3, tf.int64, [2])).tolist() == [3, 3]


def test_the_projector_is_configured(tmp_path: Path) -> None:
    projector: Any = tf.contrib.tensorboard.plugins.projector
    config = projector.ProjectorConfig()
    config.embeddings.add(tensor_name="words", metadata_path="words.tsv")
    with tf.summary.FileWriter(str(tmp_path)) as writer:
        projector.visualize_embeddings(writer, config)
    written = (tmp_path / "projector_config.pbtxt").read_text()
    assert 'tensor_name: "words"' in written


def test_diagonals_of_tensors() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    full = tf.diag(tf.constant(x))
    with tf.Session(device="numpy") as session:
        made, back = session.run([full, tf.diag_part(full)])
    assert made.shape == (2, 3, 2, 3)
    assert made[1, 2, 1, 2] == 5
    assert made.sum() == x.sum()
    np.testing.assert_array_equal(back, x)
    with pytest.raises(ShapeError, match="known shape"):
        tf.diag(tf.placeholder(tf.float32, [None]))
    with pytest.raises(ShapeError, match="diag_part"):
        tf.diag_part(tf.zeros([2, 3]))


def test_smart_cond_takes_what_is_known() -> None:
    from graphc.compat.tf1.python.layers import utils

    count = len(tf.get_default_graph().nodes)
    assert utils.smart_cond(True, lambda: 1, lambda: 2) == 1
    assert len(tf.get_default_graph().nodes) == count
    assert utils.smart_cond(tf.constant(False), lambda: 1, lambda: 2) == 2
    chosen = utils.smart_cond(tf.placeholder(tf.bool, [], name="p"), lambda: 1.0, lambda: 2.0)
    with tf.Session(device="numpy") as session:
        assert session.run(chosen, {"p:0": False}) == 2.0


def test_what_an_import_cannot_read_is_named() -> None:
    made = tf.GraphDef()
    made.node.add(name="reader", op="TFRecordReaderV2")
    with pytest.raises(UnsupportedOp, match="op TFRecordReaderV2, node 'reader'"):
        tf.import_graph_def(made)

"""Programs of TensorFlow 1 with strings, files and Python functions, run as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphc.compat.tf1 as tf

pytest.importorskip("PIL", reason="Pillow decodes the images")
from PIL import Image

PROGRAM = """
import tensorflow as tf
hello = tf.constant("Hello, TensorFlow!")
names = tf.constant(["a.txt", "b.txt"])
name = tf.placeholder(tf.string, shape=[])
with tf.Session() as sess:
    print(sess.run(hello))
    print(sess.run(names))
    print(sess.run(tf.string_join(["Hello, ", name]), feed_dict={name: "you"}))
"""


def test_the_first_program(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "graphc.compat.tf1", "hello.py"], cwd=tmp_path,
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "b'Hello, TensorFlow!'", "[b'a.txt' b'b.txt']", "b'Hello, you'",
    ]  # fmt: skip


def test_the_names_are_there() -> None:
    for symbol in (
        "string", "strings.length", "strings.split", "io.read_file", "io.decode_csv",
        "io.parse_single_example", "io.FixedLenFeature", "image.decode_jpeg", "io.decode_png",
        "VarLenFeature", "py_func", "numpy_function", "Assert", "as_string", "io.matching_files",
        "data.Dataset.list_files", "data.experimental.CsvDataset", "contrib.lookup.HashTable",
        "data.Iterator.from_string_handle", "assert_equal", "debugging.assert_positive",
        "string_to_number", "io.write_file", "encode_base64", "tables_initializer",
    ):  # fmt: skip
        found = tf
        for part in symbol.split("."):
            found = getattr(found, part)


def test_what_is_not_offered_says_what_to_use() -> None:
    for symbol, advice in (
        ("py_function", "numpy_function"), ("string_to_hash_bucket_fast", "numpy_function"),
        ("parse_tensor", "feeding"), ("TextLineReader", "Dataset"),
    ):  # fmt: skip
        with pytest.raises(AttributeError, match=advice):
            getattr(tf, symbol)
    with pytest.raises(AttributeError, match="ragged"):
        tf.strings.unicode_decode  # noqa: B018


def test_a_classifier_of_files(tmp_path: Path) -> None:
    """File names -> decoded, resized, batched images -> a network that learns them."""
    files, labels = [], []
    for i in range(8):
        shade = np.full((10 + i, 12, 3), 240 if i % 2 else 15, np.uint8)
        files.append(str(tmp_path / f"{i}.jpg"))
        labels.append(i % 2)
        Image.fromarray(shade).save(files[-1])

    def _parse(filename: tf.Tensor, label: tf.Tensor) -> object:
        image = tf.image.decode_jpeg(tf.read_file(filename), channels=3)
        image = tf.image.resize_images(tf.image.convert_image_dtype(image, tf.float32), [4, 4])
        return tf.reshape(image, [48]), tf.one_hot(label, 2)

    with tf.Graph().as_default(), tf.Session() as sess:
        dataset = tf.data.Dataset.from_tensor_slices((tf.constant(files), tf.constant(labels)))
        dataset = dataset.map(_parse).shuffle(8, seed=1).repeat().batch(4)
        x, y = dataset.make_one_shot_iterator().get_next()
        loss = tf.losses.softmax_cross_entropy(y, tf.layers.dense(x, 2))
        step = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
        sess.run(tf.global_variables_initializer())
        curve = [sess.run([loss, step])[0] for _ in range(60)]
    assert np.mean(curve[-5:]) < 0.3 < curve[0]

"""Files, images, CSV and Examples: in graphs, and where programs use them, in Dataset.map."""

from __future__ import annotations

import builtins
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc import data
from graphc.datasets.records import example_protos

pytest.importorskip("PIL", reason="Pillow decodes the images")
pytest.importorskip("tensorboard", reason="its protos make the Examples")
from PIL import Image


@pytest.fixture
def session() -> Any:
    with gc.Graph().as_default(), gc.Session(device="numpy") as s:
        yield s


def listed(x: Any) -> Any:
    return np.asarray(x).tolist()


def encoded(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def pixels_of(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


# -- files


def test_files(session: gc.Session, tmp_path: Path) -> None:
    name = gc.placeholder(gc.string, [])
    session.run(gc.write_file(name, "a\0b"), {name: str(tmp_path / "new" / "x.bin")})
    assert session.run(gc.read_file(name), {name: str(tmp_path / "new" / "x.bin")}) == b"a\0b"
    (tmp_path / "y.txt").write_text("y")
    found = session.run(gc.matching_files([str(tmp_path / "*.txt"), str(tmp_path / "*/*.bin")]))
    assert [Path(f.decode()).name for f in found] == ["x.bin", "y.txt"]
    for bad in (str(tmp_path / "none"), str(tmp_path), "a\0b"):
        with pytest.raises(gc.errors.InputError, match="cannot read"):
            session.run(gc.read_file(bad))
    with pytest.raises(gc.errors.InputError, match="cannot write"):
        session.run(gc.write_file(str(tmp_path), "x"))
    with pytest.raises(gc.errors.ShapeError, match="one file at a time"):
        gc.read_file(["a", "b"])
    with pytest.raises(gc.errors.DTypeError):
        gc.read_file(1.0)


# -- images


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png(session: gc.Session, channels: int) -> None:
    x = pixels_of(5, 7, channels)
    file = encoded(x[..., 0] if channels == 1 else x, "PNG")
    np.testing.assert_array_equal(session.run(gc.image.decode_png(file)), x)
    made = session.run(gc.image.encode_png(x))
    np.testing.assert_array_equal(session.run(gc.image.decode_png(made, channels=channels)), x)
    rgb = gc.image.decode_png(file, channels=3)
    assert rgb.shape.as_list() == [None, None, 3] and session.run(rgb).shape == (5, 7, 3)


def test_deep_png(session: gc.Session) -> None:
    x = np.random.default_rng(1).integers(0, 1 << 16, (4, 3)).astype(np.uint16)
    file = session.run(gc.image.encode_png(x[..., None]))
    deep = session.run(gc.image.decode_png(file, dtype=gc.uint16))
    assert deep.dtype == np.uint16 and (deep[..., 0] == x).all()
    wide = session.run(gc.image.decode_png(encoded(pixels_of(2, 2, 3), "PNG"), dtype=gc.uint16))
    assert wide.dtype == np.uint16 and (wide % 257 == 0).all()


def test_jpeg(session: gc.Session) -> None:
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    x = np.stack([np.tile(ramp, (24, 1))] * 3, -1)
    file = session.run(gc.image.encode_jpeg(x, quality=100, chroma_downsampling=False))
    assert file.startswith(b"\xff\xd8\xff")
    got = session.run(gc.image.decode_jpeg(file))
    assert got.shape == x.shape and np.abs(got.astype(int) - x).max() <= 3
    assert session.run(gc.image.decode_jpeg(file, channels=1)).shape == (24, 32, 1)
    assert session.run(gc.image.decode_jpeg(file, ratio=2)).shape == (12, 16, 3)


def test_bmp_and_animations(session: gc.Session) -> None:
    x = pixels_of(4, 6, 3)
    np.testing.assert_array_equal(session.run(gc.image.decode_bmp(encoded(x, "BMP"))), x)
    frames = [Image.new("RGB", (5, 3), (40 * i, 0, 0)) for i in range(3)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    got = session.run(gc.image.decode_gif(file.getvalue()))
    assert got.shape == (3, 3, 5, 3) and got[2, 0, 0, 0] == 80
    assert session.run(gc.image.decode_image(file.getvalue())).shape == (3, 3, 5, 3)
    one = gc.image.decode_image(file.getvalue(), expand_animations=False)
    assert session.run(one).shape == (3, 5, 3)


def test_decode_image_as_floats(session: gc.Session) -> None:
    x = pixels_of(3, 4, 3)
    y = gc.image.decode_image(encoded(x, "PNG"), dtype=gc.float32)
    assert y.shape is None
    np.testing.assert_allclose(session.run(y), x / 255, atol=1e-6)


def test_images_that_are_none(session: gc.Session) -> None:
    whole = encoded(pixels_of(16, 16, 3), "PNG")
    for bad in (b"", b"no image", whole[:20], whole[: len(whole) // 2], whole[:100] + b"\0" * 50):
        with pytest.raises(gc.errors.InputError, match=f"{len(bad)} bytes are no image"):
            session.run(gc.image.decode_image(bad))
    for build, kind in (
        (lambda: gc.image.decode_png("x", channels=5), gc.errors.AttributeValueError),
        (lambda: gc.image.decode_png("x", dtype=gc.int32), gc.errors.DTypeError),
        (lambda: gc.image.decode_jpeg("x", ratio=3), gc.errors.AttributeValueError),
        (lambda: gc.image.decode_jpeg(["x"]), gc.errors.ShapeError),
        (lambda: gc.image.encode_jpeg(np.zeros((2, 2, 4), np.uint8)), gc.errors.ShapeError),
        (lambda: gc.image.encode_jpeg(np.zeros((2, 2, 3), np.float32)), gc.errors.DTypeError),
        (lambda: gc.image.encode_png(np.zeros((2, 2), np.uint8)), gc.errors.ShapeError),
    ):
        with pytest.raises(kind):
            build()


def test_pillow_is_named_where_it_is_missing(
    session: gc.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == "PIL":
            raise ImportError(name)
        return whole(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(gc.errors.UnsupportedOp, match=r"pip install graphc\[images\]"):
        session.run(gc.image.decode_png("x"))


# -- comma-separated values


def test_csv(session: gc.Session) -> None:
    lines = gc.placeholder(gc.string, [None])
    a, b, c = gc.decode_csv(lines, [[0], [9.5], gc.constant([], gc.string)])
    got = session.run([a, b, c], {lines: ["1,2.5,x", '3,,"a,""b"']})
    assert listed(got[0]) == [1, 3] and got[0].dtype == np.int32
    assert listed(got[1]) == [2.5, 9.5] and listed(got[2]) == [b"x", b'a,"b']
    only = gc.decode_csv("1;NA;3", [[0.0], [7.0]], field_delim=";", na_value="NA",
                         select_cols=[0, 1])  # fmt: skip
    assert session.run(only) == [1, 7]
    plain = gc.decode_csv('"a,b', [[""], [""]], use_quote_delim=False)
    assert session.run(plain) == [b'"a', b"b"]
    assert session.run(gc.decode_csv("5", [gc.int64])) == [5]


@pytest.mark.parametrize("line", ["1", "1,2,3", "x,2", ",2", '1,"a', '"a"b,2'])
def test_lines_that_do_not_fit(session: gc.Session, line: str) -> None:
    with pytest.raises(gc.errors.InputError):
        session.run(gc.decode_csv(line, [gc.int32, gc.string]))


def test_columns_that_cannot_be(session: gc.Session) -> None:
    for build in (
        lambda: gc.decode_csv("a", [[1, 2]]), lambda: gc.decode_csv("a", [[True]]),
        lambda: gc.decode_csv("a", [[1]], select_cols=[0, 1]),
        lambda: gc.decode_csv("a", [[1]], field_delim=", "),
        lambda: gc.decode_csv("a", [gc.placeholder(gc.int32, [1])]),
        lambda: gc.decode_csv(1, [[1]]),
    ):  # fmt: skip
        with pytest.raises((gc.errors.AttributeValueError, gc.errors.DTypeError)):
            build()


# -- examples


def example(**features: Any) -> bytes:
    protos = example_protos()

    def feature(values: Any) -> Any:
        kind = {bytes: "BytesList", float: "FloatList", int: "Int64List"}[type(values[0])]
        field = {"BytesList": "bytes_list", "FloatList": "float_list", "Int64List": "int64_list"}
        return protos["Feature"](**{field[kind]: protos[kind](value=values)})

    made = {k: feature(v) for k, v in features.items()}
    result: bytes = protos["Example"](features=protos["Features"](feature=made)).SerializeToString()
    return result


WHOLE = {"x": [1.5, -2.0], "n": [-(1 << 62), 5], "s": [b"a\0", b""], "one": [7]}


def test_examples_one_by_one(session: gc.Session) -> None:
    wanted = {
        "x": gc.FixedLenFeature([2], gc.float32), "n": gc.FixedLenFeature([2, 1], gc.int64),
        "s": gc.VarLenFeature(gc.string), "one": gc.FixedLenFeature([], gc.int64),
        "lost": gc.FixedLenFeature([2], gc.string, "d"), "none": gc.VarLenFeature(gc.float32),
        "n2": gc.FixedLenSequenceFeature([2], gc.int64, allow_missing=True),
    }  # fmt: skip
    parsed = gc.parse_single_example(example(**WHOLE, n2=[1, 2, 3, 4]), wanted)
    assert parsed["n"].shape.as_list() == [2, 1]
    got = session.run(parsed)
    assert listed(got["x"]) == [1.5, -2] and listed(got["n"]) == [[-(1 << 62)], [5]]
    assert listed(got["s"].values) == [b"a\0", b""] and listed(got["s"].dense_shape) == [2]
    assert got["one"] == 7 and listed(got["lost"]) == [b"d", b"d"]
    assert listed(got["none"].dense_shape) == [0] and listed(got["n2"]) == [[1, 2], [3, 4]]


def test_examples_of_a_batch(session: gc.Session) -> None:
    both = [example(v=[1, 2], x=[1.0]), example(v=[3], x=[2.0])]
    got = session.run(gc.parse_example(both, {
        "v": gc.VarLenFeature(gc.int64), "x": gc.FixedLenFeature([], gc.float32),
    }))  # fmt: skip
    assert listed(got["x"]) == [1, 2] and listed(got["v"].indices) == [[0, 0], [0, 1], [1, 0]]
    padded = gc.parse_example(both, {"v": gc.FixedLenSequenceFeature([], gc.int64, True)})
    assert listed(session.run(padded["v"])) == [[1, 2], [3, 0]]


def test_examples_that_do_not_fit(session: gc.Session) -> None:
    for name, feature in (
        ("x", gc.FixedLenFeature([3], gc.float32)), ("x", gc.FixedLenFeature([2], gc.int64)),
        ("no", gc.FixedLenFeature([1], gc.int64)),
        ("n", gc.FixedLenSequenceFeature([3], gc.int64, True)),
    ):  # fmt: skip
        with pytest.raises(gc.errors.InputError, match=f"'{name}'"):
            session.run(gc.parse_single_example(example(**WHOLE), {name: feature}))
    for wanted in ({}, {"x": 3}, {"x": gc.FixedLenFeature([2], gc.int32)},
                   {"x": gc.FixedLenFeature([2], gc.float32, [1.0, 2.0, 3.0])}):  # fmt: skip
        with pytest.raises(gc.errors.GraphcError):
            gc.parse_single_example("x", wanted)


def test_damaged_examples(session: gc.Session) -> None:
    whole, x = example(**WHOLE), gc.placeholder(gc.string, [])
    parsed = gc.parse_single_example(x, {"one": gc.FixedLenFeature([], gc.int64, 0)})
    assert session.run(parsed["one"], {x: whole}) == 7
    for count in range(1, len(whole)):
        with pytest.raises(gc.errors.InputError):
            session.run(parsed["one"], {x: whole[:count]})
    for bad in (b"\x0b", b"\xff" * 12, b"\x0a\x7f", b"\x0a"):
        with pytest.raises(gc.errors.InputError):
            session.run(parsed["one"], {x: bad})
    rng = np.random.default_rng(0)
    for _ in range(300):  # whatever is read, there is a number or an InputError
        broken = bytearray(whole)
        broken[rng.integers(len(broken))] = rng.integers(256)
        try:
            session.run(parsed["one"], {x: bytes(broken)})
        except gc.errors.InputError:
            continue


# -- in pipelines


def test_images_in_a_pipeline(session: gc.Session, tmp_path: Path) -> None:
    names, means = [], []
    for i in range(4):
        x = np.full((8 + i, 9, 3), 20 * i, np.uint8)
        names.append(str(tmp_path / f"{i}.png"))
        means.append(20 * i / 255)
        Image.fromarray(x).save(names[-1])

    def load(name: gc.Tensor, label: gc.Tensor) -> Any:
        image = gc.image.decode_jpeg(gc.read_file(name), channels=3)
        image = gc.image.resize_images(image, [4, 4])
        image.set_shape([4, 4, 3])
        return image / 255.0, label

    dataset = data.Dataset.from_tensor_slices((names, list(range(4)))).map(load).batch(2)
    images, labels = dataset.make_one_shot_iterator().get_next()
    assert images.shape.as_list() == [None, 4, 4, 3]
    seen = [session.run([gc.reduce_mean(images, [1, 2, 3]), labels]) for _ in range(2)]
    np.testing.assert_allclose(np.concatenate([s[0] for s in seen]), means, rtol=1e-5)
    assert [listed(s[1]) for s in seen] == [[0, 1], [2, 3]]
    with pytest.raises(gc.errors.OutOfRangeError):
        session.run(labels)


def test_records_in_a_pipeline(session: gc.Session, tmp_path: Path) -> None:
    from graphc.compat.tf1.python_io import TFRecordWriter

    with TFRecordWriter(str(tmp_path / "r")) as writer:
        for i in range(5):
            image = np.full((2, 3), i, np.uint8).tobytes()
            writer.write(example(image=[image], label=[i]))

    def parse(record: gc.Tensor) -> Any:
        parsed = gc.parse_single_example(record, {
            "image": gc.FixedLenFeature([], gc.string), "label": gc.FixedLenFeature([], gc.int64),
        })  # fmt: skip
        image = gc.reshape(gc.decode_raw(parsed["image"], gc.uint8), [2, 3])
        return gc.cast(image, gc.float32), parsed["label"]

    files = gc.placeholder(gc.string, [None])
    iterator = data.TFRecordDataset(files).map(parse).batch(5).make_initializable_iterator()
    images, labels = iterator.get_next()
    session.run(iterator.initializer, {files: [str(tmp_path / "r")]})
    got = session.run([images, labels])
    assert got[0].shape == (5, 2, 3) and listed(got[0][:, 0, 0]) == listed(got[1]) == [
        0,
        1,
        2,
        3,
        4,
    ]


def test_lines_in_a_pipeline(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(f"x,y\n1,{name}\n2,\n")
    names = [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    with gc.Graph().as_default():
        rows = data.Dataset.from_tensor_slices(names).flat_map(
            lambda n: data.TextLineDataset(n).skip(1)
        )
        parsed = rows.map(lambda line: gc.decode_csv(line, [[0], ["-"]]))
        want = [(1, b"a"), (2, b"-"), (1, b"b"), (2, b"-")]
        assert [(int(n), t) for n, t in parsed] == want
        direct = data.experimental.CsvDataset(names, [gc.int32, [""]], header=True)
        assert [int(n) for n, _ in direct] == [1, 2, 1, 2]
        with gc.Session(device="numpy") as session:
            (found,) = session.run([data.Dataset.list_files(str(tmp_path / "*.csv"), shuffle=False)
                                    .batch(9).make_one_shot_iterator().get_next()])  # fmt: skip
        assert listed(found) == [n.encode() for n in names]


def test_strings_in_elements() -> None:
    with gc.Graph().as_default():
        words = data.Dataset.from_tensor_slices(["a", "bb", "ccc"])
        assert list(words) == [b"a", b"bb", b"ccc"]
        assert [listed(b) for b in words.batch(2)] == [[b"a", b"bb"], [b"ccc"]]
        pairs = words.map(lambda w: gc.string_split([w], "").values).padded_batch(3, [None], "-")
        (rows,) = [listed(r) for r in pairs]
        assert rows == [[b"a", b"-", b"-"], [b"b", b"b", b"-"], [b"c", b"c", b"c"]]
        given = data.Dataset.from_generator(lambda: iter(["x", "y"]), gc.string, [])
        assert list(given) == [b"x", b"y"]
        assert list(words.filter(lambda w: gc.equal(w, "bb"))) == [b"bb"]
        python = words.map(lambda w: gc.py_func(lambda b: b[::-1], [w], gc.string))
        assert list(python) == [b"a", b"bb", b"ccc"]


def test_handles(session: gc.Session) -> None:
    handle = gc.placeholder(gc.string, [])
    train = data.Dataset.range(3).make_one_shot_iterator()
    test = data.Dataset.range(10, 12).make_initializable_iterator()
    both = data.Iterator.from_string_handle(handle, train.output_types, train.output_shapes)
    x = both.get_next() + 0
    first, second = session.run([train.string_handle(), test.string_handle()])
    session.run(test.initializer)
    assert [session.run(x, {handle: h}) for h in (first, second, first)] == [0, 10, 1]
    with pytest.raises(gc.errors.FeedError, match="no iterator"):
        session.run(x, {handle: "other"})
    with pytest.raises(gc.errors.FeedError, match="must be fed"):
        session.run(x)
    floats = data.Dataset.from_tensors(1.0).make_one_shot_iterator().string_handle()
    with pytest.raises(gc.errors.DTypeError):
        session.run(x, {handle: session.run(floats)})

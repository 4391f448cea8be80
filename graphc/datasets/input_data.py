"""MNIST in the form of TensorFlow's tutorials: `read_data_sets(...).train.next_batch(100)`."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np

from graphc.datasets.dataset import one_hot as to_one_hot
from graphc.datasets.mnist import load_mnist

CLASS_COUNT = 10


class DataSet:
    """Images, flat or [n, 28, 28, 1], and their labels; `next_batch` goes through them in order.

    The order is a new one each epoch, drawn from `seed`.
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, seed: int | None = None, fake: bool = False
    ) -> None:
        self._images, self._labels = images, labels
        self._fake = fake
        self._epochs, self._position = 0, 0
        self._rng = np.random.default_rng(seed)

    @property
    def images(self) -> np.ndarray:
        """All images."""
        return self._images

    @property
    def labels(self) -> np.ndarray:
        """All labels."""
        return self._labels

    @property
    def num_examples(self) -> int:
        """How many images there are."""
        return len(self._images)

    @property
    def epochs_completed(self) -> int:
        """How often `next_batch` went through all images."""
        return self._epochs

    def next_batch(
        self, batch_size: int, fake_data: bool = False, shuffle: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """The next `batch_size` images and labels; over the end of an epoch into the next one."""
        if fake_data or self._fake:
            return self._images[[0] * batch_size], self._labels[[0] * batch_size]
        if not 0 <= batch_size <= self.num_examples:
            raise ValueError(f"a batch of {batch_size} of {self.num_examples} images")
        if self._position == 0 and self._epochs == 0 and shuffle:
            self._shuffle()
        start, end = self._position, self._position + batch_size
        images, labels = self._images[start:end], self._labels[start:end]
        self._position = end
        if len(images) < batch_size:
            self._epochs += 1
            if shuffle:
                self._shuffle()
            self._position = batch_size - len(images)
            images = np.concatenate([images, self._images[: self._position]])
            labels = np.concatenate([labels, self._labels[: self._position]])
        return images, labels

    def _shuffle(self) -> None:
        order = self._rng.permutation(self.num_examples)
        self._images, self._labels = self._images[order], self._labels[order]


class Datasets(NamedTuple):
    """The three parts."""

    train: DataSet
    validation: DataSet
    test: DataSet


def read_data_sets(
    train_dir: str | os.PathLike[str] | None,
    fake_data: bool = False,
    one_hot: bool = False,
    dtype: Any = np.float32,
    reshape: bool = True,
    validation_size: int = 5000,
    seed: int | None = None,
    source_url: str | None = None,
) -> Datasets:
    """MNIST from the folder, from where `load_mnist` finds it, or fetched.

    Images are float32 in [0, 1] (uint8 0 to 255 where `dtype` says so), [n, 784] unless
    `reshape=False`; labels integers or, with `one_hot`, rows. The first `validation_size` training
    images are the validation part. `fake_data`: images of ones, without reading anything.
    """
    del source_url  # see load_mnist for where it looks and from where it fetches
    whole = getattr(dtype, "name", None) == "uint8" or dtype is np.uint8
    if fake_data:
        return Datasets(
            *(_part(_ones(), _zeros(), one_hot, reshape, whole, seed, True) for _ in "abc")
        )
    data = load_mnist(train_dir)
    if not 0 <= validation_size <= len(data.train):
        raise ValueError(f"validation_size is 0 to {len(data.train)}, got {validation_size}")
    cut = validation_size
    parts = (
        (data.train_images[cut:], data.train_labels[cut:]),
        (data.train_images[:cut], data.train_labels[:cut]),
        (data.test_images, data.test_labels),
    )
    return Datasets(*(_part(x, y, one_hot, reshape, whole, seed, False) for x, y in parts))


def _ones() -> np.ndarray:
    return np.ones((1, 28, 28), np.float32)


def _zeros() -> np.ndarray:
    return np.zeros(1, np.int64)


def _part(
    images: np.ndarray,
    labels: np.ndarray,
    one_hot: bool,
    reshape: bool,
    whole: bool,
    seed: int | None,
    fake: bool,
) -> DataSet:
    count, height, width = images.shape
    shaped = images.reshape((count, height * width) if reshape else (count, height, width, 1))
    if whole:
        shaped = np.rint(shaped * 255).astype(np.uint8)
    rows = to_one_hot(labels, CLASS_COUNT).astype(np.float64) if one_hot else labels
    return DataSet(shaped, rows if one_hot else labels.astype(np.uint8), seed, fake)

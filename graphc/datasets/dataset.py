"""Labelled images in memory: a training and a test split, and batches drawn from them.

Owns the form in which every loader of this package hands out data. Knows neither files nor graphs:
batches are NumPy arrays, ready for a feed dict.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
Labels = NDArray[np.int64]
Batch = tuple[Images, Labels]


@dataclass(eq=False)
class Split:
    """Images float32 [n, h, w] in [0, 1] and their labels int64 [n], below `class_count`.

    `next_batch` keeps a position in the split, so give each thread a split of its own.
    """

    images: Images = field(repr=False)
    labels: Labels = field(repr=False)
    class_count: int
    seed: int = 0
    _order: NDArray[np.int64] = field(init=False, repr=False)
    _position: int = field(init=False, repr=False, default=0)
    _epoch: int = field(init=False, repr=False, default=0)

    def __post_init__(self) -> None:
        _check_images(self.images)
        _check_labels(self.labels, len(self.images), self.class_count)
        self._order = self._shuffled(self.seed, epoch=0)

    def __len__(self) -> int:
        return len(self.images)

    def one_hot(self) -> NDArray[np.float32]:
        """Return the labels as float32 [n, class_count], 1 at the label and 0 elsewhere."""
        return one_hot(self.labels, self.class_count)

    def batches(
        self,
        batch_size: int,
        seed: int = 0,
        epochs: int | None = 1,
        drop_remainder: bool = False,
    ) -> Iterator[Batch]:
        """Yield (images, labels), in a new order each epoch; `epochs=None` never ends.

        The order depends on `seed` and the epoch's number alone. The last batch of an epoch is
        shorter when the size does not divide the split, or left out with `drop_remainder`.
        """
        self._check_batch_size(batch_size)
        for epoch in count() if epochs is None else range(epochs):
            yield from self._epoch_batches(self._shuffled(seed, epoch), batch_size, drop_remainder)

    def next_batch(self, size: int) -> Batch:
        """Return the next (images, labels), exactly `size` of them.

        Goes on where the call before stopped; at the end of an epoch the batch is filled up from
        the next one, in that one's order.
        """
        self._check_batch_size(size)
        chosen = self._order[self._position : self._position + size]
        self._position += size
        if len(chosen) < size:
            self._epoch += 1
            self._order = self._shuffled(self.seed, self._epoch)
            self._position = size - len(chosen)
            chosen = np.concatenate([chosen, self._order[: self._position]])
        return self.images[chosen], self.labels[chosen]

    def _epoch_batches(
        self, order: NDArray[np.int64], batch_size: int, drop_remainder: bool
    ) -> Iterator[Batch]:
        end = len(order) - len(order) % batch_size if drop_remainder else len(order)
        for start in range(0, end, batch_size):
            chosen = order[start : start + batch_size]
            yield self.images[chosen], self.labels[chosen]

    def _shuffled(self, seed: int, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng((seed, epoch)).permutation(len(self))

    def _check_batch_size(self, batch_size: int) -> None:
        if not 1 <= batch_size <= len(self):
            raise ValueError(f"batch size must be 1 to {len(self)} (the split), got {batch_size}")


@dataclass(eq=False)
class Dataset:
    """A named training and test split over the same classes."""

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]

    @property
    def class_count(self) -> int:
        """How many classes the labels tell apart."""
        return len(self.class_names)

    @property
    def train_images(self) -> Images:
        """float32 [n, h, w] in [0, 1]."""
        return self.train.images

    @property
    def train_labels(self) -> Labels:
        """int64 [n]."""
        return self.train.labels

    @property
    def test_images(self) -> Images:
        """float32 [n, h, w] in [0, 1]."""
        return self.test.images

    @property
    def test_labels(self) -> Labels:
        """int64 [n]."""
        return self.test.labels

    def one_hot(self, labels: Labels) -> NDArray[np.float32]:
        """Return `labels` [n] as float32 [n, class_count]."""
        return one_hot(labels, self.class_count)

    def batches(
        self,
        batch_size: int,
        seed: int = 0,
        epochs: int | None = 1,
        drop_remainder: bool = False,
    ) -> Iterator[Batch]:
        """Yield shuffled batches of the training split; see `Split.batches`."""
        return self.train.batches(batch_size, seed, epochs, drop_remainder)

    def next_batch(self, size: int) -> Batch:
        """Return the next batch of the training split; see `Split.next_batch`."""
        return self.train.next_batch(size)


def make_dataset(
    name: str, train: tuple[Images, Labels], test: tuple[Images, Labels], names: tuple[str, ...]
) -> Dataset:
    """Check both splits against the class names and return them as one data set."""
    return Dataset(name, Split(*train, len(names)), Split(*test, len(names)), names)


def one_hot(labels: Labels, class_count: int) -> NDArray[np.float32]:
    """Return `labels` [n] as float32 [n, class_count], 1 at the label and 0 elsewhere."""
    _check_labels(labels, len(labels), class_count)
    encoded = np.zeros((len(labels), class_count), np.float32)
    encoded[np.arange(len(labels)), labels] = 1
    return encoded


def split_stratified(
    images: Images, labels: Labels, test_fraction: float, seed: int = 0
) -> tuple[Batch, Batch]:
    """Return (train, test) with `test_fraction` of every class in the test part.

    The same arguments always give the same split; within each part the given order stays.
    """
    generator = np.random.default_rng(seed)
    in_test = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        in_test[members[: round(len(members) * test_fraction)]] = True
    return (images[~in_test], labels[~in_test]), (images[in_test], labels[in_test])


def _check_images(images: Images) -> None:
    if images.dtype != np.float32 or images.ndim != 3:
        raise ValueError(f"images must be float32 [n, h, w], got {images.dtype} {images.shape}")
    if images.size == 0:
        raise ValueError(f"a split needs at least one image with pixels, got {images.shape}")
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):  # written so that NaN fails too
        raise ValueError(f"images must lie in [0, 1], got {low} to {high}; divide by the white")


def _check_labels(labels: Labels, image_count: int, class_count: int) -> None:
    if labels.dtype != np.int64 or labels.shape != (image_count,):
        expected = f"int64 [{image_count}], one per image"
        raise ValueError(f"labels must be {expected}, got {labels.dtype} {labels.shape}")
    if image_count and not 0 <= labels.min() <= labels.max() < class_count:
        got = f"{labels.min()} to {labels.max()}"
        raise ValueError(f"labels must be 0 to {class_count - 1}, got {got}")

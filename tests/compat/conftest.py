"""What programs in TensorFlow 1's style need: a fresh graph, and MNIST files in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import graphc as gc
from graphc.datasets import load_digits, write_idx
from graphc.datasets.mnist import FILE_NAMES


@pytest.fixture(autouse=True)
def fresh_graph(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A program's own default graph."""
    with gc.Graph().as_default():
        yield


@pytest.fixture(scope="session")
def mnist_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scikit-learn digits, enlarged to 28 x 28, as MNIST's four files."""
    folder = tmp_path_factory.mktemp("MNIST_data")
    data = load_digits()
    parts = (data.train_images, data.train_labels, data.test_images, data.test_labels)
    for name, part in zip(FILE_NAMES, parts, strict=True):
        write_idx(folder / name, _as_mnist(part) if part.ndim == 3 else part.astype(np.uint8))
    return folder


def _as_mnist(images: np.ndarray) -> np.ndarray:
    large = np.kron(images, np.ones((1, 3, 3)))
    return np.rint(np.pad(large, ((0, 0), (2, 2), (2, 2))) * 255).astype(np.uint8)

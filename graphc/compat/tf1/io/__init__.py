"""`tf.io`: files."""

from graphc.compat.symbols import delegate
from graphc.compat.tf1.python_io import TFRecordOptions, TFRecordWriter, tf_record_iterator
from graphc.compat.tf1.train import write_graph

__all__ = ["TFRecordOptions", "TFRecordWriter", "tf_record_iterator", "write_graph"]
__getattr__ = delegate(
    __name__,
    "graphc.frontend.decoding",
    "graphc.frontend.files",
    "graphc.frontend.image_files",
    "graphc.frontend.records",
    "graphc.frontend.strings",
    submodules=("gfile",),
)

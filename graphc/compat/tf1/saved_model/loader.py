"""`tf.saved_model.loader`."""

from graphc.compat.symbols import delegate
from graphc.compat.tf1.saved_model import load, maybe_saved_model_directory

__all__ = ["load", "maybe_saved_model_directory"]
__getattr__ = delegate(__name__)

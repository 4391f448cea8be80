"""`tf.saved_model.builder`."""

from graphc.compat.symbols import delegate
from graphc.compat.tf1.saved_model import Builder as SavedModelBuilder

__all__ = ["SavedModelBuilder"]
__getattr__ = delegate(__name__)

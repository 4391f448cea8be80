"""`tf.saved_model.utils`."""

from graphc.compat.symbols import delegate
from graphc.compat.tf1.saved_model import build_tensor_info

__all__ = ["build_tensor_info"]
__getattr__ = delegate(__name__)

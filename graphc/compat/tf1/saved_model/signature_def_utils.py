"""`tf.saved_model.signature_def_utils`."""

from graphc.compat.symbols import delegate
from graphc.compat.tf1.saved_model import build_signature_def, predict_signature_def

__all__ = ["build_signature_def", "predict_signature_def"]
__getattr__ = delegate(__name__)

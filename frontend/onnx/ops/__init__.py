"""The converters by family; importing this package fills their table."""

from graphc.frontend.onnx.ops import (
    control,
    elementwise,
    indexing,
    learning,
    neural,
    quantize,
    recurrent,
    reduce,
    shape,
    signal,
    texts,
    training,
    windows,
)

__all__ = [
    "control", "elementwise", "indexing", "learning", "neural", "quantize", "recurrent",
    "reduce", "shape", "signal", "texts", "training", "windows",
]  # fmt: skip

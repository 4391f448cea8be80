"""The converters by family; importing this package fills their table."""

from graphc.frontend.onnx.ops import (
    control,
    elementwise,
    indexing,
    neural,
    quantize,
    recurrent,
    reduce,
    shape,
    signal,
    windows,
)

__all__ = [
    "control", "elementwise", "indexing", "neural", "quantize", "recurrent", "reduce", "shape",
    "signal", "windows",
]  # fmt: skip

"""How ops are spelled in ONNX, by family; importing this package fills the table of exporters."""

from graphc.frontend.onnx.spelling import (
    arrays,
    batches,
    control,
    deferred,
    pointwise,
    reductions,
    routines,
    scatter,
    windows,
)

__all__ = [
    "arrays", "batches", "control", "deferred", "pointwise", "reductions", "routines", "scatter",
    "windows",
]  # fmt: skip

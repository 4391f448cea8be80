"""The ops themselves, by family; importing this package fills the op table."""

from graphc.ir.ops import (
    bits,
    contract,
    control,
    conv,
    index,
    losses,
    movement,
    nn,
    norm,
    observe,
    passing,
    patches,
    pointwise,
    pool,
    random,
    reduce,
    resample,
    sampling,
    segments,
    slicing,
    sorting,
    source,
    state,
    trigonometry,
    windows,
)

__all__ = [
    "bits", "contract", "control", "conv", "index", "losses", "movement", "nn", "norm", "observe",
    "passing", "patches", "pointwise", "pool", "random", "reduce", "resample", "sampling",
    "segments", "slicing", "sorting", "source", "state", "trigonometry", "windows",
]  # fmt: skip

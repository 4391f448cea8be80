"""The ops themselves, by family; importing this package fills the op table."""

from graphc.ir.ops import (
    bits,
    contract,
    conv,
    index,
    losses,
    movement,
    nn,
    norm,
    passing,
    pointwise,
    pool,
    random,
    reduce,
    segments,
    slicing,
    sorting,
    source,
    state,
    trigonometry,
    windows,
)

__all__ = [
    "bits", "contract", "conv", "index", "losses", "movement", "nn", "norm", "passing",
    "pointwise", "pool", "random", "reduce", "segments", "slicing", "sorting", "source", "state",
    "trigonometry", "windows",
]  # fmt: skip

"""The ops themselves, by family; importing this package fills the op table."""

from graphc.ir.ops import (
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
    slicing,
    source,
    state,
    windows,
)

__all__ = [
    "contract", "conv", "index", "losses", "movement", "nn", "norm", "passing", "pointwise", "pool",
    "random", "reduce", "slicing", "source", "state", "windows",
]  # fmt: skip

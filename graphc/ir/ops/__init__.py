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
    source,
    state,
)

__all__ = [
    "contract", "conv", "index", "losses", "movement", "nn", "norm", "passing", "pointwise", "pool",
    "random", "reduce", "source", "state",
]  # fmt: skip

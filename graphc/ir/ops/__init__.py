"""The ops themselves, by family; importing this package fills the op table."""

from graphc.ir.ops import contract, conv, movement, passing, pointwise, pool, random, reduce, source, state
from graphc.ir.ops import losses as losses
from graphc.ir.ops import nn as nn
from graphc.ir.ops import norm as norm

__all__ = [
    "contract", "conv", "losses", "movement", "nn", "norm", "passing", "pointwise", "pool", "random",
    "reduce", "source", "state",
]  # fmt: skip

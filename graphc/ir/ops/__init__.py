"""The ops themselves, by family; importing this package fills the op table."""

from graphc.ir.ops import contract, conv, movement, passing, pointwise, pool, random, reduce, source, state
from graphc.ir.ops import nn as nn

__all__ = ["contract", "conv", "pool", "movement", "passing", "nn", "pointwise", "random", "reduce", "source", "state"]

"""The ops themselves, by family; importing this package fills the op table."""

from graphc.ir.ops import contract, movement, passing, pointwise, random, reduce, source, state
from graphc.ir.ops import nn as nn

__all__ = ["contract", "movement", "passing", "nn", "pointwise", "random", "reduce", "source", "state"]

"""dce: what nothing needs goes.

    W <- W   ->   (no update)

A computation is held by its roots, so nodes that nothing reads are gone as soon as a rewrite
drops their last reader; inputs stay, for they are the executable's signature. What is left
for this pass are updates that change nothing. Cost: one look at each update.
"""

from __future__ import annotations

from graphc.ir.computation import Computation
from graphc.passes.context import Context


def dce(computation: Computation, ctx: Context) -> Computation:
    """Drop updates that store a variable's own value."""
    kept = [(n, v) for n, v in computation.updates if v is not n.outputs[0]]
    if len(kept) == len(computation.updates):
        return computation
    return computation.replace(updates=kept)

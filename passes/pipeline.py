"""The pipeline: one literal list of passes, and nothing else decides their order."""

from __future__ import annotations

from graphc.ir.computation import Computation
from graphc.ir.loop import Program
from graphc.passes.canonicalize import canonicalize
from graphc.passes.context import Context
from graphc.passes.cse import cse
from graphc.passes.dce import dce
from graphc.passes.decompose import decompose
from graphc.passes.fold_constants import fold_constants
from graphc.passes.fuse import fuse
from graphc.passes.group_updates import group_updates
from graphc.passes.layout import layout
from graphc.passes.lower import lower
from graphc.passes.manager import run_passes
from graphc.passes.order import order
from graphc.passes.plan_memory import plan_memory
from graphc.passes.recompute import recompute
from graphc.passes.specialize import specialize

PIPELINE = (
    # graph -> graph
    specialize,
    canonicalize,  # while composites can still be recognized
    layout,
    decompose,
    canonicalize,
    fold_constants,
    cse,
    canonicalize,  # what folding and merging have laid bare
    dce,
    recompute,  # last: nothing may merge its copies again
    # graph -> program
    lower,
    # program -> program
    fuse,
    group_updates,
    order,
    plan_memory,
)


def compile_program(computation: Computation, ctx: Context) -> Program:
    """The program of a computation, through the whole pipeline."""
    result = run_passes(PIPELINE, computation, ctx)
    assert isinstance(result, Program)
    return result

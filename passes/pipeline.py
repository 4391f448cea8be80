"""The pipeline: one literal list of passes, and nothing else decides their order."""

from __future__ import annotations

from graphc.ir.computation import Computation
from graphc.ir.loop import Program
from graphc.passes.canonicalize import canonicalize
from graphc.passes.condense import condense
from graphc.passes.context import Context
from graphc.passes.cse import cse
from graphc.passes.dce import dce
from graphc.passes.decompose import decompose
from graphc.passes.fold_constants import fold_constants
from graphc.passes.fuse import fuse
from graphc.passes.group_updates import group_updates
from graphc.passes.layout import layout
from graphc.passes.lower import lower
from graphc.passes.manager import run_passes, uncollected
from graphc.passes.order import order
from graphc.passes.plan_memory import plan_memory
from graphc.passes.recognize_attention import recognize_attention
from graphc.passes.recompute import recompute
from graphc.passes.regions import regions
from graphc.passes.rematerialize import rematerialize
from graphc.passes.sink import sink
from graphc.passes.specialize import specialize
from graphc.passes.sweep import sweep

GRAPH_PASSES = (
    # graph -> graph
    specialize,
    regions,  # first: what is not read of a loop must hold nothing else
    canonicalize,  # while composites can still be recognized
    recognize_attention,
    layout,
    decompose,
    canonicalize,
    fold_constants,
    cse,
    canonicalize,  # what folding and merging have laid bare
    dce,
    recompute,  # last: nothing may merge its copies again
)
PROGRAM_PASSES = (
    # graph -> program
    lower,
    # program -> program
    fuse,
    sink,
    condense,
    sweep,
    group_updates,
    order,
    rematerialize,  # on the final order, where bytes are exact
    plan_memory,
)
PIPELINE = (*GRAPH_PASSES, *PROGRAM_PASSES)


class Bodies:
    """How the bodies of loops and branches go through the same passes: `Context.pipeline`."""

    def graph(self, computation: Computation, ctx: Context) -> Computation:
        result = run_passes(GRAPH_PASSES, computation, ctx)
        assert isinstance(result, Computation)
        return result

    def program(self, computation: Computation, ctx: Context) -> Program:
        result = run_passes(PROGRAM_PASSES, computation, ctx)
        assert isinstance(result, Program)
        return result


def compile_program(computation: Computation, ctx: Context) -> Program:
    """The program of a computation, through the whole pipeline."""
    ctx.pipeline = Bodies()
    with uncollected():
        result = run_passes(PIPELINE, computation, ctx)
    assert isinstance(result, Program)
    return result

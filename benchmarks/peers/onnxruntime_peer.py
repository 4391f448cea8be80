"""onnxruntime on a model that graphc has saved, or that a workload has by hand.

The model is written by another process, so that onnxruntime's memory is its own; $BENCH_MODEL
names it.
"""

from __future__ import annotations

import os
from functools import partial

import onnxruntime

from benchmarks import fairness
from benchmarks.workload import Function, Runner


def function(work: Function, variant: str) -> Runner:
    """Calls of an inference session."""
    del variant
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = fairness.THREADS, 1
    path = os.environ[fairness.MODEL]
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names, inputs = list(work.names), work.inputs
    step = partial(session.run, names, inputs)
    return Runner(step, lambda: dict(zip(names, step(), strict=True)))

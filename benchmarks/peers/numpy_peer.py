"""NumPy by hand: calls with `out=` on arrays made beforehand."""

from __future__ import annotations

import numpy as np

from benchmarks.workload import Function, Runner, Training


def training(work: Training, variant: str) -> Runner:
    """Steps that change the parameters in place."""
    del variant
    assert work.by_hand is not None, "only where it is written"
    parameters = {n: a.copy() for n, a in work.parameters.items()}
    return Runner(work.by_hand(parameters, work.batch), lambda: parameters)


def function(work: Function, variant: str) -> Runner:
    """Calls that fill the same arrays again."""
    del variant
    assert work.by_hand is not None, "only where it is written"
    step = work.by_hand(work.inputs)
    return Runner(step, lambda: {n: np.asarray(a) for n, a in zip(work.names, step(), strict=True)})

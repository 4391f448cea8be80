"""graphc on a GPU as a user runs it: a graph, a session, callables.

torch allocates the memory of its buffers, and so counts it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import graphc as gc
from benchmarks.gpu_peers import Manner, Steps
from benchmarks.gpu_peers.torch_peer import memory_peak, waiting
from benchmarks.peers.graphc_peer import function_graph, optimizer_of, placeholders_of
from benchmarks.workload import Function, Training


def session_of(manner: Manner) -> gc.Session:
    """On the Triton device, or off the GPU on the NumPy one."""
    device = "triton" if manner.on_gpu else "numpy"
    return gc.Session(device=device, tf32=manner.precision == "tf32")


def executable_of(session: gc.Session, fetches: Any, feeds: Sequence[Any] = ()) -> Any:
    """What the session ran last for these fetches and feeds."""
    prepared = session._prepare(fetches, tuple(feeds))
    *_, compiled = prepared.main.by_shape.values()
    return compiled.executable


def launcher(
    session: gc.Session, fetches: Any, inputs: Sequence[Any], arrays: Sequence[np.ndarray]
) -> Callable[[], Any]:
    """Runs on what is fed once, here: on a GPU nothing is copied to it or from it any more."""
    call = session.make_callable(fetches, inputs)
    call(*arrays)
    executable = executable_of(session, fetches, inputs)
    return executable.launch if hasattr(executable, "launch") else partial(call, *arrays)


def _steps(
    session: gc.Session, fetches: list[Any], update: Any, shown: int,
    inputs: Sequence[Any], arrays: Sequence[np.ndarray], manner: Manner,
) -> Steps:  # fmt: skip
    """Of a row that fetches `fetches`, of which the first `shown` are values, or `update` alone."""
    call = session.make_callable(fetches, inputs)
    made: list[Callable[[], Any]] = []

    def queue() -> Any:
        if not made:  # compiled when it is wanted: the first value is timed without it
            fed = partial(session.make_callable(update, inputs), *arrays)
            made.append(fed if manner.fed else launcher(session, fetches, inputs, arrays))
        return made[0]()

    def value() -> list[np.ndarray]:
        return [np.asarray(x) for x in call(*arrays)[:shown]]

    return Steps(queue, value, waiting(manner), memory_peak(manner))


def training(work: Training, manner: Manner, variant: str = "") -> Steps:
    """Steps of variables that begin as the workload's parameters."""
    del variant
    with gc.Graph().as_default():
        session = session_of(manner)
        variables = {n: gc.Variable(gc.zeros(a.shape), name=n) for n, a in work.parameters.items()}
        inputs = placeholders_of(work.batch)
        loss = work.losses["graphc"](gc, variables, inputs)
        step = optimizer_of(work.optimizer).minimize(loss)
        session.run(gc.global_variables_initializer())
        # written, and not initial values: those would lie on the device as constants, too
        session.write_variables({v: work.parameters[n] for n, v in variables.items()})
        given = list(inputs.values()), list(work.batch.values()), manner
        return _steps(session, [loss, step], step, 1, *given)


def function(work: Function, manner: Manner, variant: str = "") -> Steps:
    """Calls; what is only queued leaves its outputs in variables, on the device."""
    del variant
    with gc.Graph().as_default():
        session = session_of(manner)
        outputs, inputs = function_graph(work)
        kept = [gc.Variable(gc.zeros(y.shape, y.dtype), trainable=False) for y in outputs]
        update = gc.group(*(gc.assign(v, y) for v, y in zip(kept, outputs, strict=True)))
        session.run(gc.global_variables_initializer())
        given = list(inputs.values()), list(work.inputs.values()), manner
        return _steps(session, outputs, update, len(outputs), *given)


__all__ = ["executable_of", "function", "session_of", "training"]

"""graphc as a user runs it: a graph, a session on one of the CPU's back ends, a callable."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import graphc as gc
from benchmarks.workload import Arrays, Function, Optimizer, Runner, Training


def optimizer_of(optimizer: Optimizer) -> Any:
    """graphc's own."""
    train = gc.train
    if optimizer.name == "sgd":
        return train.GradientDescentOptimizer(optimizer.rate)
    if optimizer.name == "momentum":
        return train.MomentumOptimizer(optimizer.rate, 0.9)
    return train.AdamOptimizer(optimizer.rate, epsilon=optimizer.epsilon)


def placeholders_of(arrays: Arrays) -> dict[str, Any]:
    """Per array a placeholder of its shape."""
    return {n: gc.placeholder(a.dtype, a.shape, name=n) for n, a in arrays.items()}


def training_graph(work: Training) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """(step, variables, placeholders) in the current graph."""
    variables = {n: gc.Variable(a, name=n) for n, a in work.parameters.items()}
    inputs = placeholders_of(work.batch)
    loss = work.losses["graphc"](gc, variables, inputs)
    return optimizer_of(work.optimizer).minimize(loss), variables, inputs


def function_graph(work: Function, words: str = "graphc") -> tuple[list[Any], dict[str, Any]]:
    """(outputs, placeholders) in the current graph; weights are constants."""
    weights = {n: gc.constant(a, name=n) for n, a in work.weights.items()}
    inputs = placeholders_of(work.inputs)
    return work.outputs[words](gc, weights, inputs), inputs


def training(work: Training, variant: str) -> Runner:
    """Steps in a session."""
    with gc.Graph().as_default():
        session = gc.Session(device=variant)
        step, variables, inputs = training_graph(work)
        session.run(gc.global_variables_initializer())
        call = session.make_callable(step, list(inputs.values()))
    arrays = list(work.batch.values())

    def read() -> Arrays:
        return {n: np.asarray(session.read_variable(v)) for n, v in variables.items()}

    return Runner(partial(call, *arrays), read)


def function(work: Function, variant: str) -> Runner:
    """Calls in a session."""
    with gc.Graph().as_default():
        session = gc.Session(device=variant)
        outputs, inputs = function_graph(work)
        call = session.make_callable(outputs, list(inputs.values()))
    arrays, names = list(work.inputs.values()), work.names
    step = partial(call, *arrays)
    return Runner(step, lambda: dict(zip(names, step(), strict=True)))


def save_onnx(work: Function, path: str) -> None:
    """Write the function as an ONNX model: graphc's, or the one that is written by hand."""
    import onnx

    import graphc.onnx

    if work.onnx_model is not None:
        onnx.save(work.onnx_model(onnx, work.inputs), path)
        return
    with gc.Graph().as_default():
        outputs, inputs = function_graph(work, "onnx" if "onnx" in work.outputs else "graphc")
        named = dict(zip(work.names, outputs, strict=True))
        graphc.onnx.save(named, path, inputs=inputs)

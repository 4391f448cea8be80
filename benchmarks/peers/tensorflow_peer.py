"""TensorFlow: a graph in a Session as in version 1, and tf.function compiled by XLA."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorflow as tf

from benchmarks import fairness
from benchmarks.workload import Arrays, Function, Optimizer, Runner, Training

tf1 = tf.compat.v1
tf.config.threading.set_intra_op_parallelism_threads(fairness.THREADS)
tf.config.threading.set_inter_op_parallelism_threads(1)


def training(work: Training, variant: str) -> Runner:
    """Steps of TensorFlow."""
    return _session_training(work) if variant == "session" else _function_training(work)


def function(work: Function, variant: str) -> Runner:
    """Calls of TensorFlow."""
    return _session_function(work) if variant == "session" else _function_function(work)


# -- version 1


def _session() -> Any:
    config = tf1.ConfigProto(
        intra_op_parallelism_threads=fairness.THREADS, inter_op_parallelism_threads=1
    )
    return tf1.Session(config=config)


def _placeholders(arrays: Arrays) -> dict[str, Any]:
    return {n: tf1.placeholder(a.dtype, a.shape) for n, a in arrays.items()}


def _optimizer_1(optimizer: Optimizer) -> Any:
    if optimizer.name == "sgd":
        return tf1.train.GradientDescentOptimizer(optimizer.rate)
    if optimizer.name == "momentum":
        return tf1.train.MomentumOptimizer(optimizer.rate, 0.9)
    return tf1.train.AdamOptimizer(optimizer.rate, epsilon=optimizer.epsilon)


def _session_training(work: Training) -> Runner:
    with tf.Graph().as_default():
        variables = {n: tf1.Variable(a, use_resource=True) for n, a in work.parameters.items()}
        inputs = _placeholders(work.batch)
        loss = work.losses["tensorflow"](tf1, variables, inputs)
        train = _optimizer_1(work.optimizer).minimize(loss)
        session = _session()
        session.run(tf1.global_variables_initializer())
    call = session.make_callable(train, list(inputs.values()))
    arrays = list(work.batch.values())
    return Runner(partial(call, *arrays), lambda: session.run(variables))


def _session_function(work: Function) -> Runner:
    with tf.Graph().as_default():
        weights = {n: tf.constant(a) for n, a in work.weights.items()}
        inputs = _placeholders(work.inputs)
        outputs = work.outputs["tensorflow"](tf1, weights, inputs)
        session = _session()
    call = session.make_callable(outputs, list(inputs.values()))
    arrays, names = list(work.inputs.values()), work.names
    step = partial(call, *arrays)
    return Runner(step, lambda: dict(zip(names, step(), strict=True)))


# -- tf.function


class _Adam:
    """The optimizer that JAX's adapter spells out too; slots are variables."""

    def __init__(self, optimizer: Optimizer, parameters: list[Any]) -> None:
        self.rate, self.epsilon = optimizer.rate, optimizer.epsilon
        self.t = tf.Variable(0.0)
        self.m, self.v = ([tf.Variable(tf.zeros_like(p)) for p in parameters] for _ in "mv")

    def apply(self, parameters: list[Any], gradients: list[Any]) -> None:
        """Update the parameters."""
        t = self.t.assign_add(1.0)
        scale = self.rate * tf.sqrt(1.0 - 0.999**t) / (1.0 - 0.9**t)
        for p, g, m, v in zip(parameters, gradients, self.m, self.v, strict=True):
            m.assign(0.9 * m + 0.1 * g)
            v.assign(0.999 * v + 0.001 * g * g)
            p.assign_sub(scale * m / (tf.sqrt(v) + self.epsilon))


class _Momentum:
    """Gradient descent, with or without memory."""

    def __init__(self, rate: float, momentum: float, parameters: list[Any]) -> None:
        self.rate, self.momentum = rate, momentum
        self.slots = [tf.Variable(tf.zeros_like(p)) for p in parameters] if momentum else []

    def apply(self, parameters: list[Any], gradients: list[Any]) -> None:
        """Update the parameters."""
        for slot, g in zip(self.slots, gradients, strict=False):
            slot.assign(self.momentum * slot + g)
        for p, g in zip(parameters, self.slots or gradients, strict=True):
            p.assign_sub(self.rate * g)


def _optimizer_2(optimizer: Optimizer, parameters: list[Any]) -> Any:
    if optimizer.name == "adam":
        return _Adam(optimizer, parameters)
    return _Momentum(optimizer.rate, 0.9 if optimizer.name == "momentum" else 0.0, parameters)


def _function_training(work: Training) -> Runner:
    variables = {n: tf.Variable(a) for n, a in work.parameters.items()}
    parameters = list(variables.values())
    batch = {n: tf.constant(a) for n, a in work.batch.items()}
    optimizer, loss_of = _optimizer_2(work.optimizer, parameters), work.losses["tensorflow"]

    @tf.function(jit_compile=True)
    def train(batch: Any) -> None:
        with tf.GradientTape() as tape:
            loss = loss_of(tf1, variables, batch)
        optimizer.apply(parameters, tape.gradient(loss, parameters))

    return Runner(partial(train, batch), lambda: {n: v.numpy() for n, v in variables.items()})


def _function_function(work: Function) -> Runner:
    weights = {n: tf.constant(a) for n, a in work.weights.items()}
    inputs = {n: tf.constant(a) for n, a in work.inputs.items()}
    outputs, names = work.outputs["tensorflow"], work.names
    call = tf.function(lambda inputs: outputs(tf1, weights, inputs), jit_compile=True)

    def read() -> Arrays:
        return {n: x.numpy() for n, x in zip(names, call(inputs), strict=True)}

    return Runner(partial(call, inputs), read)

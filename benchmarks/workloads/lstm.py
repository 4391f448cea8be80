"""W5: an LSTM (32 steps of 64 inputs, 256 units), a step of Adam on 32 sequences.

The gates lie in the order input, forget, new, output. A linear layer on the last state classifies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.workload import Optimizer, Training, generator, normal, one_hot

CLASSES = 10


def _cell(tf: Any, gates: Any, c: Any) -> tuple[Any, Any]:
    """(c, h) from the sums of the four gates."""
    i, f, g, o = tf.split(gates, 4, 1)
    c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
    return c, tf.sigmoid(o) * tf.tanh(c)


def _graph_loss(tf: Any, p: Mapping[str, Any], labels: Any, h: Any) -> Any:
    logits = tf.matmul(h, p["output"]) + p["output_bias"]
    losses = tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_mean(losses)


def graphc_loss(gc: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> Any:
    """graphc's: a cell in a loop of the compiler's."""

    class Cell(gc.nn.rnn_cell.RNNCell):  # type: ignore[misc]
        """The cell over the given weights."""

        state_size = (p["recurrent"].shape.as_list()[0],) * 2
        output_size = state_size[0]

        def call(self, inputs: Any, state: Any) -> tuple[Any, Any]:
            """(h, (c, h))."""
            c, h = state
            gates = gc.matmul(inputs, p["inputs"]) + gc.matmul(h, p["recurrent"]) + p["bias"]
            c, h = _cell(gc, gates, c)
            return h, (c, h)

    _, (_, h) = gc.nn.dynamic_rnn(Cell(), x["sequence"], dtype=gc.float32, time_major=True)
    return _graph_loss(gc, p, x["labels"], h)


def tensorflow_loss(tf: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> Any:
    """TensorFlow's: laid out step by step, which it runs faster than its loops."""
    steps, batch, width = x["sequence"].shape.as_list()
    flat = tf.reshape(x["sequence"], [steps * batch, width])
    projected = tf.reshape(tf.matmul(flat, p["inputs"]) + p["bias"], [steps, batch, -1])
    c = h = tf.zeros([batch, p["recurrent"].shape.as_list()[0]])
    for gates in tf.unstack(projected):
        c, h = _cell(tf, gates + tf.matmul(h, p["recurrent"]), c)
    return _graph_loss(tf, p, x["labels"], h)


def torch_loss(torch: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> Any:
    """torch's own LSTM; its second bias stays zero. torch.compile leaves it as it is."""
    batch, units = x["sequence"].shape[1], p["recurrent"].shape[1]
    state = (torch.zeros(1, batch, units), torch.zeros(1, batch, units))
    weights = [p["inputs"], p["recurrent"], p["bias"], torch.zeros_like(p["bias"])]
    lstm = torch.compiler.disable(torch.lstm)
    _, h, _ = lstm(x["sequence"], state, weights, True, 1, 0.0, True, False, False)
    logits = torch.addmm(p["output_bias"], h[0], p["output"])
    return torch.nn.functional.cross_entropy(logits, x["labels"])


def jax_loss(jax: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> Any:
    """JAX's: a scan, the inputs projected before it."""
    numpy = jax.numpy

    def step(state: Any, projected: Any) -> tuple[Any, None]:
        c, h = state
        i, f, g, o = numpy.split(projected + h @ p["recurrent"], 4, 1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * numpy.tanh(g)
        return (c, jax.nn.sigmoid(o) * numpy.tanh(c)), None

    zeros = numpy.zeros((x["sequence"].shape[1], p["recurrent"].shape[0]), numpy.float32)
    (_, h), _ = jax.lax.scan(step, (zeros, zeros), x["sequence"] @ p["inputs"] + p["bias"])
    logits = h @ p["output"] + p["output_bias"]
    return -(x["labels"] * jax.nn.log_softmax(logits)).sum(1).mean()


def workload(tiny: bool = False) -> Training:
    """The row."""
    steps, batch, width, units = (4, 3, 5, 6) if tiny else (32, 32, 64, 256)
    rng = generator()
    deviation = units**-0.5
    return Training(
        title=f"LSTM, {steps} steps of {width}, {units} units, batch {batch}, Adam step",
        parameters={
            "inputs": normal(rng, (width, 4 * units), deviation),
            "recurrent": normal(rng, (units, 4 * units), deviation),
            "bias": np.zeros(4 * units, np.float32),
            "output": normal(rng, (units, CLASSES), deviation),
            "output_bias": np.zeros(CLASSES, np.float32),
        },
        batch={
            "sequence": normal(rng, (steps, batch, width)),
            "labels": one_hot(rng, batch, CLASSES),
        },
        optimizer=Optimizer("adam", 1e-5),
        losses={
            "graphc": graphc_loss, "tensorflow": tensorflow_loss, "torch": torch_loss,
            "jax": jax_loss,
        },
        flops=2 * steps * batch * 4 * units * (2 * width + 3 * units),
        tolerance=1e-2,
        torch_layout={"inputs": (1, 0), "recurrent": (1, 0)},
    )  # fmt: skip

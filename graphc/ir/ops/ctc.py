"""Connectionist temporal classification: the loss of sequences without alignment.

Graves, Fernandez, Gomez and Schmidhuber, "Connectionist Temporal Classification", 2006, sections 3
and 4. A routine on the host, for the states that it sums over depend on the labels; in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from graphc.ir.dtypes import int64
from graphc.ir.errors import ShapeError
from graphc.ir.graph import Node, Value
from graphc.ir.ops import pointwise as pw
from graphc.ir.table import OPS, Attrs, Kind, NoGradient, Op, Sample, Types, register
from graphc.ir.types import UNKNOWN, TensorType, merge_dims


def _type(types: Types, _: Attrs) -> Types:
    logits, indices, values, lengths = types
    pw.check_category((logits,), "float")
    pw.check_category((indices, values, lengths), "int uint")
    ranks = {"logits": (logits, 3), "label indices": (indices, 2), "labels": (values, 1),
             "lengths": (lengths, 1)}  # fmt: skip
    for name, (t, rank) in ranks.items():
        if t.rank is not None and t.rank != rank:
            raise ShapeError(f"ctc_loss needs {name} of rank {rank}, got {t}")
    batch = logits.shape[1] if logits.shape else UNKNOWN
    if lengths.shape:
        batch = merge_dims(batch, lengths.shape[0], "ctc_loss: one length per sequence")
    return logits.with_shape((batch,)), logits


def _ctc(
    attrs: Attrs, logits: np.ndarray, indices: np.ndarray, values: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    loss = np.zeros(logits.shape[1], logits.dtype)
    gradient = np.zeros_like(logits)
    for b, length in enumerate(lengths.tolist()):
        rows = indices[:, 0] == b
        labels = values[rows][np.argsort(indices[rows, 1], kind="stable")]
        x = logits[:length, b].astype(np.float64)
        if labels.size and not 0 <= labels.min() <= labels.max() < logits.shape[2] - 1:
            raise ShapeError(
                f"ctc_loss: labels are 0 to {logits.shape[2] - 2} (the last class is the blank), "
                f"sequence {b} has {labels.tolist()}"
            )
        loss[b], gradient[:length, b] = _one(x, labels, b)
    return loss, gradient


def _one(x: np.ndarray, labels: np.ndarray, b: int) -> tuple[float, np.ndarray]:
    """The loss of one sequence [time, classes], and its gradient for the logits."""
    if not len(x):
        if labels.size:
            raise ShapeError(f"ctc_loss: sequence {b} has no steps for {labels.size} labels")
        return 0.0, x
    top = x.max(1, keepdims=True)
    log_p = x - top - np.log(np.exp(x - top).sum(1, keepdims=True))
    states = np.full(2 * labels.size + 1, x.shape[1] - 1)
    states[1::2] = labels
    # a label may be reached from the label before it, without a blank between, if they differ
    skips = np.zeros(states.size, bool)
    skips[3::2] = labels[1:] != labels[:-1]
    emit = log_p[:, states]
    alpha, beta = _forward(emit, skips), _backward(emit, skips)
    total = np.logaddexp.reduce(alpha[-1, -2:])
    if not np.isfinite(total) and np.isfinite(x).all():
        raise ShapeError(
            f"ctc_loss: {len(x)} steps are too few for the {labels.size} labels of sequence {b}"
        )
    posterior = np.zeros_like(x)
    np.add.at(posterior.T, states, np.exp(alpha + beta - emit - total).T)
    return -total, np.exp(log_p) - posterior


def _forward(emit: np.ndarray, skips: np.ndarray) -> np.ndarray:
    """The log-probability of each prefix that ends in each state, at each step."""
    alpha = np.full(emit.shape, -np.inf)
    alpha[0, :2] = emit[0, :2]
    for t in range(1, len(emit)):
        before = alpha[t - 1]
        reached = before.copy()
        reached[1:] = np.logaddexp(reached[1:], before[:-1])
        reached[2:] = np.where(skips[2:], np.logaddexp(reached[2:], before[:-2]), reached[2:])
        alpha[t] = reached + emit[t]
    return alpha


def _backward(emit: np.ndarray, skips: np.ndarray) -> np.ndarray:
    """The same of each suffix that begins in each state: the prefixes of what is mirrored."""
    mirrored = np.zeros_like(skips)
    mirrored[2:] = skips[::-1][: skips.size - 2] if skips.size > 2 else mirrored[2:]
    return _forward(emit[::-1, ::-1], mirrored)[::-1, ::-1]


def _grad(node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    if grads[0] is None:
        return [None] * 4
    # the gradient for the logits came with the loss; a gradient of it is not defined
    weight = OPS["expand_dims"](grads[0], axis=(0, 2))
    return [OPS["stop_gradient"](node.outputs[1]) * weight, None, None, None]


def _samples() -> Iterable[Sample]:
    rng = np.random.default_rng(59)
    logits = rng.standard_normal((6, 3, 5)).astype(np.float32)
    indices = np.array([[0, 0], [0, 1], [2, 0], [2, 1], [2, 2]], np.int64)
    values = np.array([1, 3, 2, 2, 0], np.int32)
    yield Sample((logits, indices, values, np.array([6, 4, 5], np.int32)))


def _dense_type(types: Types, _: Attrs) -> Types:
    logits, lengths = types
    pw.check_category((logits,), "float")
    pw.check_category((lengths,), "int uint")
    time, batch = (UNKNOWN, UNKNOWN) if logits.shape is None else logits.shape[:2]
    return (
        TensorType(int64, (batch, time)), TensorType(int64, (batch,)),
        logits.with_shape((batch, 1)),
    )  # fmt: skip


def _greedy(
    attrs: Attrs, logits: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    steps, batch, classes = logits.shape
    decoded = np.full((batch, steps), -1, np.int64)
    counts = np.zeros(batch, np.int64)
    score = np.zeros((batch, 1), logits.dtype)
    for b, length in enumerate(lengths.tolist()):
        best = logits[:length, b].argmax(1)
        score[b] = -logits[np.arange(length), b, best].sum()
        kept = best != classes - 1
        if attrs["merge_repeated"] and length:
            kept[1:] &= best[1:] != best[:-1]
        counts[b] = kept.sum()
        decoded[b, : counts[b]] = best[kept]
    return decoded, counts, score


def _greedy_samples() -> Iterable[Sample]:
    rng = np.random.default_rng(61)
    logits = rng.standard_normal((9, 3, 3)).astype(np.float32)
    for merge in (True, False):
        yield Sample((logits, np.array([9, 0, 5], np.int32)), {"merge_repeated": merge}, ())


ctc_loss: Op = register(
    Op(
        "ctc_loss", Kind.OPAQUE, _type, numpy=_ctc, grad=_grad, samples=_samples,
        doc="""-log p(labels) of each sequence, and its gradient for the logits.

        (logits [time, batch, classes], label indices [labels, (sequence, position)], labels,
        lengths [batch]). The last class is the blank.""",
    )
)  # fmt: skip
ctc_greedy: Op = register(
    Op(
        "ctc_greedy", Kind.OPAQUE, _dense_type, numpy=_greedy, samples=_greedy_samples,
        attrs={"merge_repeated": True}, grad=NoGradient("labels are integers", zero=True),
        doc="""The best class of every step without blanks, and without repetitions if merged.

        (logits [time, batch, classes], lengths [batch]) -> labels [batch, time], -1 behind the
        last, their counts, and minus the sum of the best logits [batch, 1].""",
    )
)  # fmt: skip

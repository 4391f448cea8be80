"""`tf.examples.tutorials.mnist.mnist`: the perceptron of the tutorial "mechanics 101"."""

from __future__ import annotations

import itertools
import math
from typing import Any, Final

from graphc import (
    Variable,
    cast,
    int32,
    int64,
    losses,
    matmul,
    name_scope,
    nn,
    reduce_sum,
    summary,
    train,
    truncated_normal,
    zeros,
)
from graphc.ir.graph import Node, Value

NUM_CLASSES: Final = 10
IMAGE_SIZE: Final = 28
IMAGE_PIXELS: Final = IMAGE_SIZE * IMAGE_SIZE


def inference(images: Any, hidden1_units: int, hidden2_units: int) -> Value:
    """Logits [batch, 10] of images [batch, 784], through two hidden layers."""
    x, sizes = images, (IMAGE_PIXELS, hidden1_units, hidden2_units, NUM_CLASSES)
    scopes = ("hidden1", "hidden2", "softmax_linear")
    for scope, (rows, columns) in zip(scopes, itertools.pairwise(sizes), strict=True):
        with name_scope(scope):
            start = truncated_normal([rows, columns], stddev=1.0 / math.sqrt(rows))
            weights, biases = (
                Variable(start, name="weights"),
                Variable(zeros([columns]), name="biases"),
            )
            x = matmul(x, weights) + biases
            x = x if scope == "softmax_linear" else nn.relu(x)
    result: Value = x
    return result


def loss(logits: Any, labels: Any) -> Value:
    """The mean cross entropy; labels are integers [batch]."""
    return losses.sparse_softmax_cross_entropy(labels=cast(labels, int64), logits=logits)


def training(loss: Any, learning_rate: Any) -> Node:
    """A step of gradient descent, with a summary of the loss."""
    summary.scalar("loss", loss)
    step = Variable(0, name="global_step", trainable=False)
    return train.GradientDescentOptimizer(learning_rate).minimize(loss, global_step=step)


def evaluation(logits: Any, labels: Any) -> Value:
    """How many of the batch are recognized."""
    hits: Value = reduce_sum(cast(nn.in_top_k(logits, labels, 1), int32))
    return hits

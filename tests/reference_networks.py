"""Six networks by which the compiler is held to account: each a step of training.

`NETWORKS` has functions that build the step in the default graph and give its fetches. `HALF` has
functions in bfloat16, whose products are for tensor cores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import graphc as gc

Fetches = list[Any]


def weight(name: str, *shape: int, dtype: Any = gc.float32) -> Any:
    """A variable; its value plays no part."""
    return gc.get_variable(name, list(shape), dtype, initializer=gc.zeros_initializer())


def dense(x: Any, units: int, name: str) -> Any:
    """x @ kernel + bias."""
    with gc.variable_scope(name):
        kernel = weight("kernel", x.shape.as_list()[-1], units, dtype=x.dtype)
        return gc.matmul(x, kernel) + weight("bias", units, dtype=x.dtype)


def cross_entropy(logits: Any) -> Any:
    """The mean loss, by labels as numbers."""
    labels = gc.placeholder(gc.int64, logits.shape.as_list()[:1], name="labels")
    losses = gc.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return gc.reduce_mean(losses)


def softmax_regression() -> Fetches:
    """784 pixels to 10 classes, batch 100, gradient descent."""
    x = gc.placeholder(gc.float32, [100, 784], name="x")
    return [gc.train.GradientDescentOptimizer(0.5).minimize(cross_entropy(dense(x, 10, "linear")))]


def perceptron() -> Fetches:
    """784-512-256-10, batch 128, Adam."""
    x = gc.placeholder(gc.float32, [128, 784], name="x")
    h = gc.nn.relu(dense(x, 512, "hidden1"))
    h = gc.nn.relu(dense(h, 256, "hidden2"))
    return [gc.train.AdamOptimizer(1e-3).minimize(cross_entropy(dense(h, 10, "output")))]


def convolution(x: Any, filters: int, size: int, stride: int, name: str) -> Any:
    """A convolution without bias."""
    kernel = weight(f"{name}/kernel", size, size, x.shape.as_list()[-1], filters)
    return gc.nn.conv2d(x, kernel, [1, stride, stride, 1], "SAME")


def lenet() -> Fetches:
    """Two convolutions with pooling, two dense layers, batch 32, momentum."""
    x = gc.placeholder(gc.float32, [32, 28, 28, 1], name="x")
    for i, filters in enumerate((32, 64)):
        x = gc.nn.relu(convolution(x, filters, 5, 1, f"conv{i}") + weight(f"bias{i}", filters))
        x = gc.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    h = gc.nn.relu(dense(gc.reshape(x, [32, 7 * 7 * 64]), 256, "hidden"))
    loss = cross_entropy(dense(h, 10, "output"))
    return [gc.train.MomentumOptimizer(0.05, 0.9).minimize(loss)]


def norm(x: Any, name: str) -> Any:
    """Batch norm by the batch's own statistics."""
    width = x.shape.as_list()[-1]
    mean, variance = gc.nn.moments(x, [0, 1, 2])
    scale, offset = weight(f"{name}/scale", width), weight(f"{name}/offset", width)
    return gc.nn.batch_normalization(x, mean, variance, offset, scale, 1e-5)


def residual(x: Any, filters: int, stride: int, name: str) -> Any:
    """A basic block of ResNet (He et al., 2015)."""
    y = gc.nn.relu(norm(convolution(x, filters, 3, stride, f"{name}/a"), f"{name}/a"))
    y = norm(convolution(y, filters, 3, 1, f"{name}/b"), f"{name}/b")
    if stride != 1:
        x = norm(convolution(x, filters, 1, stride, f"{name}/s"), f"{name}/s")
    return gc.nn.relu(x + y)


def resnet() -> Fetches:
    """Two residual blocks, one of them with a stride, batch 8, momentum."""
    x = gc.placeholder(gc.float32, [8, 16, 16, 32], name="x")
    x = residual(residual(x, 32, 1, "block1"), 64, 2, "block2")
    loss = cross_entropy(dense(gc.reduce_mean(x, [1, 2]), 10, "output"))
    return [gc.train.MomentumOptimizer(0.05, 0.9).minimize(loss)]


def lstm() -> Fetches:
    """Eight steps of an LSTM of 128 units on 32 sequences, Adam."""
    x = gc.placeholder(gc.float32, [8, 32, 64], name="x")
    cell = gc.nn.rnn_cell.BasicLSTMCell(128)
    _, state = gc.nn.dynamic_rnn(cell, x, dtype=gc.float32, time_major=True)
    return [gc.train.AdamOptimizer(1e-3).minimize(cross_entropy(dense(state.h, 10, "output")))]


def block(x: Any, heads: int) -> Any:
    """A transformer block, norms first. x: [batch, length, width]."""
    batch, length, width = x.shape.as_list()
    size = width // heads

    def normed(h: Any, name: str) -> Any:
        scale, offset = (weight(f"{name}/{n}", width, dtype=x.dtype) for n in ("scale", "offset"))
        return gc.nn.layer_norm(h, scale, offset)

    def split(y: Any) -> Any:
        return gc.transpose(gc.reshape(y, [batch, length, heads, size]), [0, 2, 1, 3])

    h = gc.reshape(x, [batch * length, width])
    q, k, v = map(split, gc.split(dense(normed(h, "norm1"), 3 * width, "qkv"), 3, 1))
    weights = gc.nn.softmax(gc.matmul(q, k, transpose_b=True) * size**-0.5)
    mixed = gc.transpose(gc.matmul(weights, v), [0, 2, 1, 3])
    h = h + dense(gc.reshape(mixed, [batch * length, width]), width, "out")
    inner = gc.nn.gelu(dense(normed(h, "norm2"), 4 * width, "up"))
    return h + dense(inner, width, "down")


def transformer() -> Fetches:
    """A transformer block on 4 sequences of 64, width 128, 4 heads, Adam."""
    x = gc.placeholder(gc.float32, [4, 64, 128], name="x")
    return [gc.train.AdamOptimizer(1e-3).minimize(gc.reduce_mean(gc.square(block(x, 4))))]


def half_perceptron() -> Fetches:
    """Two layers and their gradients, batch 256."""
    x = gc.placeholder(gc.bfloat16, [256, 512], name="x")
    h = dense(gc.nn.relu(dense(x, 512, "hidden")), 256, "output")
    return gc.gradients(gc.reduce_sum(gc.square(h)), gc.trainable_variables())


def half_transformer() -> Fetches:
    """A transformer block on 8 sequences of 128, width 256, 4 heads, forwards."""
    x = gc.placeholder(gc.bfloat16, [8, 128, 256], name="x")
    return [block(x, 4)]


NETWORKS: Final[dict[str, Callable[[], Fetches]]] = {
    f.__name__: f for f in (softmax_regression, perceptron, lenet, resnet, lstm, transformer)
}
HALF: Final[dict[str, Callable[[], Fetches]]] = {
    f.__name__: f for f in (half_perceptron, half_transformer)
}


def program_of(build: Callable[[], Fetches], device: str = "sm_90") -> Any:
    """The network's program."""
    with gc.Graph().as_default():
        return gc.explain(build(), device=device).program

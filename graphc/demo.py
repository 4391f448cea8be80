"""`make demo`: three networks learn real handwritten digits, and the compiler shows its work.

    python -m graphc.demo [--device auto|numpy|triton] [--report FOLDER] [--network NAME ...]

Softmax regression, a perceptron with two hidden layers and a small convolutional network after
LeNet-5, on scikit-learn's 1,797 digits of 8 x 8 pixels. For each: ops before and after the
passes, kernels, arena against its lower bound, compile seconds, microseconds per step.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import graphc as gc
from graphc.datasets import Dataset, DatasetUnavailable, load_digits

BATCH = 32


@dataclass(frozen=True)
class Network:
    """One network to train: how it is built, for how long, and what it must reach."""

    name: str
    logits: Callable[[Any, Any], Any]  # of images and the share that dropout keeps
    optimizer: Callable[[Any], Any]  # of the global step
    epochs: int
    accuracy: float


@dataclass(frozen=True)
class Built:
    """The tensors and ops of a network in its graph."""

    images: Any
    labels: Any
    keep: Any
    loss: Any
    step: Any
    accuracy: Any


def dense(x: Any, units: int, name: str) -> Any:
    """x @ kernel + bias with Glorot's initial values. x: [n, k] -> [n, units]."""
    with gc.variable_scope(name):
        inputs = x.shape[1]
        kernel = gc.get_variable("kernel", [inputs, units])
        bias = gc.get_variable("bias", [units], initializer=gc.zeros_initializer())
        return gc.matmul(x, kernel) + bias


def convolution(x: Any, filters: int, size: int, name: str) -> Any:
    """Convolution, bias, relu and a 2 x 2 max pool. x: [n, h, w, c] -> [n, h/2, w/2, filters]."""
    with gc.variable_scope(name):
        kernel = gc.get_variable("kernel", [size, size, x.shape[3], filters])
        bias = gc.get_variable("bias", [filters], initializer=gc.zeros_initializer())
        y = gc.nn.conv2d(x, kernel, strides=[1, 1, 1, 1], padding="SAME")
        y = gc.nn.relu(gc.nn.bias_add(y, bias))
        return gc.nn.max_pool(y, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME")


def softmax_regression(images: Any, keep: Any) -> Any:
    """One affine map from 64 pixels to 10 classes."""
    del keep
    return dense(gc.reshape(images, [-1, 64]), 10, "softmax")


def perceptron(images: Any, keep: Any) -> Any:
    """Two hidden layers of 128 rectified units."""
    del keep
    x = gc.reshape(images, [-1, 64])
    x = gc.nn.relu(dense(x, 128, "hidden1"))
    x = gc.nn.relu(dense(x, 128, "hidden2"))
    return dense(x, 10, "output")


def lenet(images: Any, keep: Any) -> Any:
    """Two convolutions with pooling and one hidden layer, after LeNet-5 (LeCun et al., 1998).

    Before both dense layers dropout keeps each element with the probability `keep`.
    """
    x = gc.reshape(images, [-1, 8, 8, 1])
    x = convolution(x, 32, 3, "conv1")
    x = convolution(x, 64, 3, "conv2")
    x = gc.nn.dropout(gc.reshape(x, [-1, 2 * 2 * 64]), keep)
    x = gc.nn.dropout(gc.nn.relu(dense(x, 256, "hidden")), keep)
    return dense(x, 10, "output")


def decaying_momentum(step: Any) -> Any:
    """Momentum 0.9 with a learning rate of 0.05 that falls by 7 % in 44 steps: an epoch."""
    rate = gc.train.exponential_decay(0.05, step, 44, 0.93)
    return gc.train.MomentumOptimizer(rate, 0.9)


NETWORKS = (
    Network(
        "softmax regression", softmax_regression,
        lambda step: gc.train.GradientDescentOptimizer(0.5), 20, 0.93,
    ),
    Network("perceptron", perceptron, lambda step: gc.train.AdamOptimizer(1e-3), 20, 0.96),
    Network("lenet", lenet, decaying_momentum, 30, 0.98),
)  # fmt: skip


def build(network: Network) -> Built:
    """The network with its loss, training step and accuracy, in the default graph."""
    images = gc.placeholder(gc.float32, [None, 8, 8], name="images")
    labels = gc.placeholder(gc.int64, [None], name="labels")
    keep = gc.placeholder_with_default(0.5, [], name="keep")
    logits = network.logits(images, keep)
    losses = gc.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    loss = gc.reduce_mean(losses, name="loss")
    count = gc.train.get_or_create_global_step()
    step = network.optimizer(count).minimize(loss, global_step=count)
    correct = gc.equal(gc.argmax(logits, 1), labels)
    accuracy = gc.reduce_mean(gc.cast(correct, gc.float32), name="accuracy")
    return Built(images, labels, keep, loss, step, accuracy)


def train(network: Network, data: Dataset, device: str, report: Path) -> float:
    """Train and evaluate; prints the row of figures and writes the report. Gives the accuracy."""
    from tqdm import tqdm

    with gc.Graph().as_default(), gc.Session(device=device) as session:
        gc.set_random_seed(0)
        built = build(network)
        session.run(gc.global_variables_initializer())
        count = network.epochs * (len(data.train_labels) // BATCH)
        batches = data.batches(BATCH, seed=0, epochs=network.epochs, drop_remainder=True)
        step = session.make_callable([built.loss, built.step], [built.images, built.labels])
        seconds: list[float] = []
        progress = tqdm(batches, total=count, desc=f"{network.name:>18}", unit="step", ncols=88)
        for number, (images, labels) in enumerate(progress):
            start = time.perf_counter()
            loss, _ = step(images, labels)
            seconds.append(time.perf_counter() - start)
            if number % 20 == 0:
                progress.set_postfix_str(f"loss {loss:.4f}", refresh=False)
        test = {built.images: data.test_images, built.labels: data.test_labels, built.keep: 1.0}
        accuracy = float(session.run(built.accuracy, test))
        feeds = {built.images: (BATCH, 8, 8), built.labels: (BATCH,)}
        explained = gc.explain([built.loss, built.step], feeds=feeds, device=session.device.name)
    _print_row(network, accuracy, explained, seconds)
    _write_report(report, network, explained)
    return accuracy


def _print_row(network: Network, accuracy: float, report: Any, seconds: Sequence[float]) -> None:
    median = float(np.median(seconds))
    share = report.arena_bytes / report.arena_lower_bound if report.arena_lower_bound else 1.0
    print(
        f"{network.name}: test accuracy {accuracy:.4f} (at least {network.accuracy})\n"
        f"  {report.nodes_before} ops -> {report.nodes_after} after the passes -> "
        f"{len(report.kernels)} kernels on {report.device}\n"
        f"  arena {report.arena_bytes:,} bytes, {share:.2f} of the lower bound; "
        f"{report.naive_bytes:,} without sharing\n"
        f"  compiled in {seconds[0] - median:.2f} s, {median * 1e6:.0f} us per step of {BATCH}",
        flush=True,
    )


def _write_report(folder: Path, network: Network, report: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = network.name.replace(" ", "_")
    text = [str(report), ""]
    for kernel in report.kernels:
        text += ["", kernel.loops, "", kernel.source]
    (folder / f"{name}.txt").write_text("\n".join(text) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the networks; exit status 1 when one misses its accuracy."""
    parser = argparse.ArgumentParser(prog="python -m graphc.demo", description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, numpy or triton")
    parser.add_argument("--report", type=Path, default=Path("demo_report"), help="folder")
    names = [n.name for n in NETWORKS]
    parser.add_argument("--network", action="append", choices=names, help="only this one")
    options = parser.parse_args(arguments)
    try:
        data = load_digits()
    except DatasetUnavailable as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    print(f"digits: {len(data.train_labels)} to train, {len(data.test_labels)} to test")
    failed = []
    for network in NETWORKS:
        if options.network and network.name not in options.network:
            continue
        if train(network, data, options.device, options.report) < network.accuracy:
            failed.append(network.name)
    print(f"the compiler's reports are in {options.report}/")
    if failed:
        print(f"below the accuracy aimed at: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

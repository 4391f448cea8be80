"""Arenas against their lower bounds: how much memory the temporaries of known networks take.

    python -m benchmarks.memory_planning [network ...]

Prints a table: per network the sum of all temporaries, the lower bound (the most that is alive
at one kernel), the arena, and arena / bound. Inference of one float32 image of 224 x 224 (299 x
299 for Inception v3), and training steps of 8. Shapes alone count: weights are random, nothing
is run. A second table has what halving the arena of the training steps costs (`memory_budget`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import graphc as gc
from benchmarks.measure import save
from graphc.errors import MemoryBudgetError

MIB = 1 << 20
# (expansion, channels, blocks, first stride): Sandler et al., "MobileNetV2" (2018), table 2.
_V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
       (6, 160, 3, 2), (6, 320, 1, 1))  # fmt: skip
# (channels, stride): Howard et al., "MobileNets" (2017), table 1.
_V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5,
       (1024, 2), (1024, 1))  # fmt: skip


class Net:
    """Layers as the papers write them: convolution, batch norm, activation."""

    def __init__(self, training: bool) -> None:
        self.training = training

    def conv(
        self, x: Any, channels: int, size: Any = 1, stride: int = 1, padding: str = "same",
        activation: Callable[[Any], Any] | None = gc.nn.relu,
    ) -> Any:  # fmt: skip
        x = gc.layers.conv2d(x, channels, size, stride, padding, use_bias=False)
        return self.normalized(x, activation)

    def depthwise(self, x: Any, stride: int, activation: Callable[[Any], Any]) -> Any:
        weights = gc.Variable(gc.zeros([3, 3, x.shape.as_list()[-1], 1]))
        x = gc.nn.depthwise_conv2d(x, weights, [1, stride, stride, 1], "SAME")
        return self.normalized(x, activation)

    def normalized(self, x: Any, activation: Callable[[Any], Any] | None) -> Any:
        x = gc.layers.batch_normalization(x, training=self.training)
        return activation(x) if activation else x


def mobilenet_v1(net: Net, x: Any) -> Any:
    """Howard et al., "MobileNets" (2017)."""
    x = net.conv(x, 32, 3, 2)
    for channels, stride in _V1:
        x = net.conv(net.depthwise(x, stride, gc.nn.relu), channels)
    return _classified(x)


def mobilenet_v2(net: Net, x: Any) -> Any:
    """Sandler et al., "MobileNetV2: Inverted residuals and linear bottlenecks" (2018)."""
    x = net.conv(x, 32, 3, 2, activation=gc.nn.relu6)
    for expansion, channels, count, first in _V2:
        for i in range(count):
            x = _inverted_residual(net, x, expansion, channels, first if i == 0 else 1)
    return _classified(net.conv(x, 1280, activation=gc.nn.relu6))


def _inverted_residual(net: Net, x: Any, expansion: int, channels: int, stride: int) -> Any:
    before = x.shape.as_list()[-1]
    y = x if expansion == 1 else net.conv(x, before * expansion, activation=gc.nn.relu6)
    y = net.conv(net.depthwise(y, stride, gc.nn.relu6), channels, activation=None)
    return x + y if stride == 1 and before == channels else y


def _classified(x: Any, classes: int = 1001) -> Any:
    return gc.layers.dense(gc.reduce_mean(x, axis=[1, 2]), classes)


def inception_v3(net: Net, x: Any) -> Any:
    """Szegedy et al., "Rethinking the Inception architecture" (2016), without the side head."""
    x = net.conv(x, 32, 3, 2, "valid")
    x = net.conv(net.conv(x, 32, 3, 1, "valid"), 64, 3)
    x = net.conv(gc.layers.max_pooling2d(x, 3, 2), 80, 1)
    x = gc.layers.max_pooling2d(net.conv(x, 192, 3, 1, "valid"), 3, 2)
    for pooled in (32, 64, 64):
        x = _mixed_35(net, x, pooled)
    x = _reduced_17(net, x)
    for inner in (128, 160, 160, 192):
        x = _mixed_17(net, x, inner)
    x = _reduced_8(net, x)
    for _ in range(2):
        x = _mixed_8(net, x)
    return _classified(x)


def _pooled(net: Net, x: Any, channels: int) -> Any:
    return net.conv(gc.layers.average_pooling2d(x, 3, 1, "same"), channels)


def _chain(net: Net, x: Any, *layers: tuple[int, Any]) -> Any:
    for channels, size in layers:
        x = net.conv(x, channels, size)
    return x


def _mixed_35(net: Net, x: Any, pooled: int) -> Any:
    return gc.concat(
        [
            net.conv(x, 64), _chain(net, x, (48, 1), (64, 5)),
            _chain(net, x, (64, 1), (96, 3), (96, 3)), _pooled(net, x, pooled),
        ], 3,
    )  # fmt: skip


def _reduced_17(net: Net, x: Any) -> Any:
    last = net.conv(_chain(net, x, (64, 1), (96, 3)), 96, 3, 2, "valid")
    return gc.concat([net.conv(x, 384, 3, 2, "valid"), last, gc.layers.max_pooling2d(x, 3, 2)], 3)


def _mixed_17(net: Net, x: Any, n: int) -> Any:
    row, column = (1, 7), (7, 1)
    return gc.concat(
        [
            net.conv(x, 192), _chain(net, x, (n, 1), (n, row), (192, column)),
            _chain(net, x, (n, 1), (n, column), (n, row), (n, column), (192, row)),
            _pooled(net, x, 192),
        ], 3,
    )  # fmt: skip


def _reduced_8(net: Net, x: Any) -> Any:
    first = net.conv(net.conv(x, 192), 320, 3, 2, "valid")
    second = net.conv(_chain(net, x, (192, 1), (192, (1, 7)), (192, (7, 1))), 192, 3, 2, "valid")
    return gc.concat([first, second, gc.layers.max_pooling2d(x, 3, 2)], 3)


def _mixed_8(net: Net, x: Any) -> Any:
    first, second = net.conv(x, 384), _chain(net, x, (448, 1), (384, 3))
    return gc.concat(
        [
            net.conv(x, 320), net.conv(first, 384, (1, 3)), net.conv(first, 384, (3, 1)),
            net.conv(second, 384, (1, 3)), net.conv(second, 384, (3, 1)), _pooled(net, x, 192),
        ], 3,
    )  # fmt: skip


NETWORKS: dict[str, tuple[Callable[[Net, Any], Any], int]] = {
    "mobilenet_v1": (mobilenet_v1, 224),
    "mobilenet_v2": (mobilenet_v2, 224),
    "inception_v3": (inception_v3, 299),
}


@dataclass(frozen=True)
class Row:
    """One line of the table, in bytes."""

    network: str
    naive: int
    bound: int
    arena: int
    halved: str = ""  # what half the arena costs, in the planner's words

    @property
    def ratio(self) -> float:
        """The arena against its lower bound."""
        return self.arena / self.bound

    def __str__(self) -> str:
        sizes = (self.naive, self.bound, self.arena)
        return "| ".join([f"| {self.network:22} ", *(f"{n / MIB:9.3f} " for n in sizes),
                          f"{self.ratio:.3f} |"])  # fmt: skip


def measure(name: str, training: bool = False, batch: int = 1, halve: bool = False) -> Row:
    """The plan of one network's inference, or of a step of momentum."""
    build, size = NETWORKS[name]
    with gc.Graph().as_default():
        x = gc.placeholder(gc.float32, [batch, size, size, 3], name="image")
        fetches = logits = build(Net(training), x)
        if training:
            labels = gc.placeholder(gc.int32, [batch], name="labels")
            losses = gc.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            loss = gc.reduce_mean(losses)
            fetches = [loss, gc.train.MomentumOptimizer(0.1, 0.9).minimize(loss)]
        report = gc.explain(fetches, device="numpy")
        halved = ""
        if halve:
            halved = _halved(fetches, report.arena_bytes // 2)
    label = f"{name}, {'training' if training else 'inference'}"
    return Row(label, report.naive_bytes, report.arena_lower_bound, report.arena_bytes, halved)


def _halved(fetches: Any, budget: int) -> str:
    try:
        cost = gc.explain(fetches, device="numpy", memory_budget=budget).rematerialized
    except MemoryBudgetError as refusal:
        return refusal.message.split(". The peak")[0]
    assert cost is not None
    share = cost.extra_flops / cost.total_flops
    return (
        f"{cost.before_bytes / MIB:.1f} -> {cost.after_bytes / MIB:.1f} MiB for "
        f"{share:.1%} more operations"
    )


def main(arguments: Sequence[str]) -> None:
    """Print and save the tables."""
    names = arguments or tuple(NETWORKS)
    print("| network                | naive MiB| bound    | arena    | ratio |")
    print("|---|---|---|---|---|")
    rows = [measure(n, training, 8 if training else 1, training)
            for training in (False, True) for n in names]  # fmt: skip
    for row in rows:
        print(row)
    for row in rows:
        if row.halved:
            print(f"half of {row.network}: {row.halved}")
    save("memory_planning", {"rows": [{**vars(row), "ratio": row.ratio} for row in rows]})


if __name__ == "__main__":
    main(sys.argv[1:])

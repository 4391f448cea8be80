"""ResNet-50 (He et al., 2015) in training: a step of momentum.

Batch norm is by the batch's own mean and variance; no contender keeps moving averages. The
network is that of `resnet50`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.workload import Optimizer, Training, generator, normal
from benchmarks.workloads import resnet50
from benchmarks.workloads.resnet50 import CLASSES, EPSILON, WIDTHS, Layer, network


def _norm(p: Mapping[str, Any], layer: Layer) -> tuple[Any, Any]:
    return p[f"{layer.name}_scale"], p[f"{layer.name}_offset"]


def graph_loss(gc: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> Any:
    """graphc's."""

    def conv(y: Any, layer: Layer) -> Any:
        around, strides = [layer.kernel // 2] * 2, [1, layer.stride, layer.stride, 1]
        padding = [[0, 0], around, around, [0, 0]]
        y = gc.nn.conv2d(y, p[layer.name], strides=strides, padding=padding)
        return gc.nn.fused_batch_norm(y, *_norm(p, layer), epsilon=EPSILON)[0]

    def pool(y: Any) -> Any:
        padded = gc.pad(y, [[0, 0], [1, 1], [1, 1], [0, 0]])  # zeros never win: y was rectified
        return gc.nn.max_pool(padded, [1, 3, 3, 1], [1, 2, 2, 1], "VALID")

    def head(y: Any) -> Any:
        return gc.matmul(gc.reduce_mean(y, axis=[1, 2]), p["head"]) + p["head_bias"]

    (logits,) = network(x["images"], resnet50.widths_of(p), conv, pool, gc.nn.relu, head)
    losses = gc.nn.sparse_softmax_cross_entropy_with_logits(labels=x["labels"], logits=logits)
    return gc.reduce_mean(losses)


def torch_loss(torch: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> Any:
    """torch's."""
    functional = torch.nn.functional

    def conv(y: Any, layer: Layer) -> Any:
        given = {"stride": layer.stride, "padding": layer.kernel // 2}
        y = functional.conv2d(y, p[layer.name], **given)
        return functional.batch_norm(y, None, None, *_norm(p, layer), training=True, eps=EPSILON)

    (logits,) = resnet50.torch_network(torch, p, x["images"], conv)
    return functional.cross_entropy(logits, x["labels"])


def jax_loss(jax: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> Any:
    """JAX's."""

    def conv(y: Any, layer: Layer) -> Any:
        y = resnet50.jax_convolution(jax, y, p[layer.name], layer)
        mean, variance = y.mean((0, 1, 2)), y.var((0, 1, 2))
        scale, offset = _norm(p, layer)
        return (y - mean) * (jax.lax.rsqrt(variance + EPSILON) * scale) + offset

    (logits,) = resnet50.jax_network(jax, p, x["images"], conv)
    logs = jax.nn.log_softmax(logits)
    return -jax.numpy.take_along_axis(logs, x["labels"][:, None], axis=1).mean()


def workload(batch: int = 128, tiny: bool = False) -> Training:
    """The row."""
    if tiny:
        batch = 4
    side, widths = (32, (2, 3, 4, 5)) if tiny else (224, WIDTHS)
    rng = generator()
    weights, layers = resnet50.drawn(rng, widths)
    statistics = ("_mean", "_variance")
    stem = layers[0].kernel ** 2 * 3 * widths[0] * (side // 2) ** 2
    return Training(
        title=f"ResNet-50, batch {batch}, momentum step",
        parameters={n: a for n, a in weights.items() if not n.endswith(statistics)},
        batch={
            "images": normal(rng, (batch, side, side, 3)), "labels": rng.integers(0, CLASSES, batch)
        },
        optimizer=Optimizer("momentum", 1e-3),
        losses={"graphc": graph_loss, "torch": torch_loss, "jax": jax_loss},
        # no gradient of the images
        flops=2.0 * batch * (3 * resnet50.multiply_adds(side, widths) - stem),
        tolerance=1e-2,
        torch_layout={layer.name: (3, 2, 0, 1) for layer in layers},
    )  # fmt: skip


__all__ = ["workload"]

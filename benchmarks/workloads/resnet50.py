"""W4: ResNet-50 (He et al., 2015; the strides in the 3x3 layers) with random weights, inference.

The network is written once, over the four layers that each framework spells in its own words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.workload import Arrays, Function, generator, normal, scaled

CLASSES, EPSILON = 1000, 1e-5
BLOCKS, WIDTHS = (3, 4, 6, 3), (64, 128, 256, 512)


@dataclass(frozen=True)
class Layer:
    """A convolution and its batch norm."""

    name: str
    kernel: int
    inputs: int
    outputs: int
    stride: int


@dataclass(frozen=True)
class Block:
    """Three convolutions, and the one of the shortcut where sizes change."""

    layers: tuple[Layer, Layer, Layer]
    shortcut: Layer | None


def blocks(widths: tuple[int, ...]) -> Iterator[Block]:
    """All blocks in order."""
    inputs = widths[0]
    for stage, (count, width) in enumerate(zip(BLOCKS, widths, strict=True)):
        for i in range(count):
            name, stride = f"s{stage}b{i}", 2 if stage and not i else 1
            yield Block(
                (
                    Layer(f"{name}c0", 1, inputs, width, 1),
                    Layer(f"{name}c1", 3, width, width, stride),
                    Layer(f"{name}c2", 1, width, 4 * width, 1),
                ),
                Layer(f"{name}s", 1, inputs, 4 * width, stride) if not i else None,
            )
            inputs = 4 * width


def stem(widths: tuple[int, ...]) -> Layer:
    """The first convolution."""
    return Layer("stem", 7, 3, widths[0], 2)


Convolution = Callable[[Any, Layer], Any]


def network(
    x: Any, widths: tuple[int, ...], conv: Convolution, pool: Callable[[Any], Any],
    relu: Callable[[Any], Any], head: Callable[[Any], Any],
) -> list[Any]:  # fmt: skip
    """Logits; `conv` includes the batch norm, `pool` is 3x3 of stride 2 with one pixel around."""
    x = pool(relu(conv(x, stem(widths))))
    for block in blocks(widths):
        shortcut = x if block.shortcut is None else conv(x, block.shortcut)
        first, second, third = block.layers
        x = relu(conv(relu(conv(relu(conv(x, first)), second)), third) + shortcut)
    return [head(x)]


def widths_of(w: Mapping[str, Any]) -> tuple[int, ...]:
    """Of the four stages, read off the weights."""
    return tuple(int(w[f"s{i}b0c0_scale"].shape[0]) for i in range(len(BLOCKS)))


def _norm(w: Mapping[str, Any], layer: Layer) -> list[Any]:
    return [w[f"{layer.name}_{n}"] for n in ("scale", "offset", "mean", "variance")]


def _graph(tf: Any, w: Mapping[str, Any], images: Any, channels_last: bool) -> list[Any]:
    layout, axes = ("NHWC", [1, 2]) if channels_last else ("NCHW", [2, 3])

    def spatial(n: Any) -> list[Any]:
        one: Any = 1 if not isinstance(n, list) else [0, 0]
        return [one, n, n, one] if channels_last else [one, one, n, n]

    def conv(x: Any, layer: Layer) -> Any:
        around = spatial([layer.kernel // 2] * 2)
        strides = spatial(layer.stride)
        y = tf.nn.conv2d(x, w[layer.name], strides=strides, padding=around, data_format=layout)
        norm = _norm(w, layer)
        given = dict(epsilon=EPSILON, data_format=layout, is_training=False)
        return tf.nn.fused_batch_norm(y, *norm, **given)[0]

    def pool(x: Any) -> Any:
        padded = tf.pad(x, spatial([1, 1]))  # zeros never win: what is pooled was rectified
        return tf.nn.max_pool(padded, spatial(3), spatial(2), "VALID", data_format=layout)

    def head(x: Any) -> Any:
        return tf.matmul(tf.reduce_mean(x, axis=axes), w["head"]) + w["head_bias"]

    return network(images, widths_of(w), conv, pool, tf.nn.relu, head)


def graph_outputs(tf: Any, w: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """graphc's and TensorFlow's."""
    return _graph(tf, w, x["images"], channels_last=True)


def onnx_outputs(gc: Any, w: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """graphc's, channels first, as ONNX has them."""
    return _graph(gc, w, gc.transpose(x["images"], [0, 3, 1, 2]), channels_last=False)


def jax_convolution(jax: Any, y: Any, filters: Any, layer: Layer) -> Any:
    """JAX's, without what follows it."""
    strides, around = (layer.stride,) * 2, [(layer.kernel // 2,) * 2] * 2
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(y, filters, strides, around, dimension_numbers=layout)


def jax_network(jax: Any, w: Mapping[str, Any], images: Any, conv: Convolution) -> list[Any]:
    """JAX's, by its convolution with what follows it."""

    def pool(y: Any) -> Any:
        around = [(0, 0), (1, 1), (1, 1), (0, 0)]
        sizes = (1, 3, 3, 1), (1, 2, 2, 1)
        return jax.lax.reduce_window(y, -np.inf, jax.lax.max, *sizes, around)

    def head(y: Any) -> Any:
        return y.mean((1, 2)) @ w["head"] + w["head_bias"]

    return network(images, widths_of(w), conv, pool, jax.nn.relu, head)


def torch_network(torch: Any, w: Mapping[str, Any], images: Any, conv: Convolution) -> list[Any]:
    """torch's, likewise; permuted images are channels-last, and so is what follows."""

    def head(y: Any) -> Any:
        return torch.addmm(w["head_bias"], y.mean((2, 3)), w["head"])

    pool = partial(torch.nn.functional.max_pool2d, kernel_size=3, stride=2, padding=1)
    images = images.permute(0, 3, 1, 2)
    return network(images, widths_of(w), conv, pool, torch.relu, head)


def torch_outputs(torch: Any, w: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """torch's."""
    functional = torch.nn.functional

    def conv(y: Any, layer: Layer) -> Any:
        scale, offset, mean, variance = _norm(w, layer)
        weights, around = w[layer.name], layer.kernel // 2
        y = functional.conv2d(y, weights, stride=layer.stride, padding=around)
        return functional.batch_norm(y, mean, variance, scale, offset, eps=EPSILON)

    return torch_network(torch, w, x["images"], conv)


def jax_outputs(jax: Any, w: Mapping[str, Any], x: Mapping[str, Any]) -> list[Any]:
    """JAX's."""

    def conv(y: Any, layer: Layer) -> Any:
        scale, offset, mean, variance = _norm(w, layer)
        y = jax_convolution(jax, y, w[layer.name], layer)
        return (y - mean) * (jax.lax.rsqrt(variance + EPSILON) * scale) + offset

    return jax_network(jax, w, x["images"], conv)


def drawn(rng: np.random.Generator, widths: tuple[int, ...]) -> tuple[Arrays, list[Layer]]:
    """Random weights by name, and the layers that have them."""
    layers = [stem(widths)]
    for block in blocks(widths):
        layers += [*block.layers, *([block.shortcut] if block.shortcut else [])]
    weights: Arrays = {}
    for layer in layers:
        n, kernel = layer.outputs, layer.kernel
        weights[layer.name] = scaled(rng, kernel, kernel, layer.inputs, n)
        weights[f"{layer.name}_scale"] = rng.uniform(0.3, 0.7, n).astype(np.float32)
        weights[f"{layer.name}_offset"] = normal(rng, (n,), 0.1)
        weights[f"{layer.name}_mean"] = normal(rng, (n,), 0.1)
        weights[f"{layer.name}_variance"] = rng.uniform(0.5, 1.5, n).astype(np.float32)
    weights["head"] = scaled(rng, 4 * widths[-1], CLASSES)
    weights["head_bias"] = normal(rng, (CLASSES,), 0.1)
    return weights, layers


def multiply_adds(side: int, widths: tuple[int, ...]) -> int:
    """Of one image."""

    def cost(layer: Layer, side: int) -> int:
        return layer.kernel**2 * layer.inputs * layer.outputs * side**2

    side //= 2
    total, side = cost(stem(widths), side), side // 2
    for block in blocks(widths):
        total += cost(block.layers[0], side)
        side //= block.layers[1].stride
        rest = [*block.layers[1:], *([block.shortcut] if block.shortcut else [])]
        total += sum(cost(layer, side) for layer in rest)
    return total + 4 * widths[-1] * CLASSES


def workload(batch: int = 1, tiny: bool = False) -> Function:
    """The row."""
    side, widths = (32, (2, 3, 4, 5)) if tiny else (224, WIDTHS)
    rng = generator()
    images = normal(rng, (batch, side, side, 3))
    weights, layers = drawn(rng, widths)
    traffic = sum(x.nbytes for x in weights.values()) + images.nbytes
    return Function(
        title=f"ResNet-50 inference, batch {batch}",
        inputs={"images": images},
        weights=weights,
        names=("logits",),
        outputs={
            "graphc": graph_outputs, "tensorflow": graph_outputs, "torch": torch_outputs,
            "jax": jax_outputs, "onnx": onnx_outputs,
        },
        tolerance=1e-3,
        traffic=traffic,
        flops=2.0 * batch * multiply_adds(side, widths),
        torch_layout={layer.name: (3, 2, 0, 1) for layer in layers},
    )  # fmt: skip

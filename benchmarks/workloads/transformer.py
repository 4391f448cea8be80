"""W6: a transformer block (8 sequences of 128, width 256, 4 heads, 1024 inside), step of Adam.

Norms come first in each half, as in GPT-2; the loss is the mean square to a target.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.workload import Optimizer, Training, generator, normal

HEADS, EPSILON = 4, 1e-5


def _tf_norm(tf: Any, x: Any, scale: Any, offset: Any) -> Any:
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, offset, scale, EPSILON)


def _graph(tf: Any, p: Mapping[str, Any], x: Mapping[str, Any], norm: Any) -> Any:
    batch, length, width = x["tokens"].shape.as_list()
    flat, size = [batch * length, width], width // HEADS

    def heads(y: Any) -> Any:
        return tf.transpose(tf.reshape(y, [batch, length, HEADS, size]), [0, 2, 1, 3])

    h = tf.reshape(x["tokens"], flat)
    n = norm(tf, h, p["scale1"], p["offset1"])
    q, k, v = (heads(y) for y in tf.split(tf.matmul(n, p["qkv"]), 3, 1))
    weights = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * size**-0.5)
    mixed = tf.reshape(tf.transpose(tf.matmul(weights, v), [0, 2, 1, 3]), flat)
    h = h + tf.matmul(mixed, p["out"]) + p["out_bias"]
    n = tf.matmul(norm(tf, h, p["scale2"], p["offset2"]), p["up"]) + p["up_bias"]
    n = 0.5 * n * (1.0 + tf.math.erf(n * 0.5**0.5))
    h = h + tf.matmul(n, p["down"]) + p["down_bias"]
    return tf.reduce_mean(tf.square(h - tf.reshape(x["target"], flat)))


def graphc_loss(gc: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> Any:
    """graphc's."""
    return _graph(gc, p, x, lambda tf, *a: tf.nn.layer_norm(*a, epsilon=EPSILON))


def tensorflow_loss(tf: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> Any:
    """TensorFlow's, whose raw ops have no layer norm."""
    return _graph(tf, p, x, _tf_norm)


def torch_loss(torch: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> Any:
    """torch's, with its fused attention."""
    functional = torch.nn.functional
    batch, length, width = x["tokens"].shape

    def heads(y: Any) -> Any:
        return y.view(batch, length, HEADS, width // HEADS).transpose(1, 2)

    h = x["tokens"].view(batch * length, width)
    n = functional.layer_norm(h, (width,), p["scale1"], p["offset1"], EPSILON)
    q, k, v = (heads(y) for y in (n @ p["qkv"]).split(width, 1))
    mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    h = h + torch.addmm(p["out_bias"], mixed.reshape(batch * length, width), p["out"])
    n = functional.layer_norm(h, (width,), p["scale2"], p["offset2"], EPSILON)
    n = functional.gelu(torch.addmm(p["up_bias"], n, p["up"]))
    h = h + torch.addmm(p["down_bias"], n, p["down"])
    return (h - x["target"].view(batch * length, width)).square().mean()


def jax_loss(jax: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> Any:
    """JAX's."""
    batch, length, width = x["tokens"].shape

    def norm(y: Any, scale: Any, offset: Any) -> Any:
        mean, variance = y.mean(-1, keepdims=True), y.var(-1, keepdims=True)
        return (y - mean) * jax.lax.rsqrt(variance + EPSILON) * scale + offset

    h = x["tokens"]
    n = norm(h, p["scale1"], p["offset1"]) @ p["qkv"]
    parts = n.reshape(batch, length, 3, HEADS, width // HEADS)
    mixed = jax.nn.dot_product_attention(parts[:, :, 0], parts[:, :, 1], parts[:, :, 2])
    h = h + mixed.reshape(h.shape) @ p["out"] + p["out_bias"]
    n = norm(h, p["scale2"], p["offset2"]) @ p["up"] + p["up_bias"]
    h = h + jax.nn.gelu(n, approximate=False) @ p["down"] + p["down_bias"]
    return ((h - x["target"]) ** 2).mean()


def workload(tiny: bool = False) -> Training:
    """The row."""
    batch, length, width, inner = (2, 5, 8, 12) if tiny else (8, 128, 256, 1024)
    rng = generator()
    sizes = {"qkv": 3 * width, "out": width, "up": inner, "down": width}
    parameters = {}
    for name, outputs in sizes.items():
        inputs = inner if name == "down" else width
        parameters[name] = normal(rng, (inputs, outputs), inputs**-0.5)
        if name != "qkv":  # the gradient of a bias of keys is zero, of which Adam makes full steps
            parameters[f"{name}_bias"] = np.zeros(outputs, np.float32)
    for i in (1, 2):
        parameters[f"scale{i}"] = np.ones(width, np.float32)
        parameters[f"offset{i}"] = np.zeros(width, np.float32)
    shape = (batch, length, width)
    linear = batch * length * width * (4 * width + 2 * inner)
    attention = 2 * batch * length * length * width
    return Training(
        title=f"transformer block, batch {batch}, {length} x {width}, {inner} inside, Adam step",
        parameters=parameters,
        batch={"tokens": normal(rng, shape), "target": normal(rng, shape)},
        optimizer=Optimizer("adam", 1e-5),
        losses={
            "graphc": graphc_loss, "tensorflow": tensorflow_loss, "torch": torch_loss,
            "jax": jax_loss,
        },
        flops=2 * 3 * (linear + attention),
        tolerance=1e-2,
    )  # fmt: skip

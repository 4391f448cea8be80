"""What is timed of a GPU's kernels, each once per framework: chains, rows, sums, products,
attention."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn import functional

import graphc as gc
from benchmarks.gpu_workload import Input, Shape, Workload

EPSILON = 1e-5
_SQUARE = Input((4096, 8192), (7, 9))
_ROWS = Input((8192, 8192), (5, 33))
_SOME = Input((8192, 4096), (6, 24))
_PER_COLUMN = Input((4096,), (24,))
_BRAIN = Input((8192, 8192), (6, 24), "bfloat16")

# -- chains


def _chain(m: Any, x: Any, a: Any, b: Any, r: Any) -> Any:
    z = x * a + b
    return 0.5 * z * (1.0 + m.erf(z * (1 / math.sqrt(2)))) + r * m.tanh(x)


def _jax_chain(jax: Any, *x: Any) -> Any:
    return _chain(SimpleNamespace(erf=jax.lax.erf, tanh=jax.lax.tanh), *x)


def _jax_gelu(jax: Any, x: Any) -> Any:
    return jax.nn.gelu(x, approximate=False)


CHAINS = {
    "pointwise_chain": Workload(
        (_SQUARE,) * 4, lambda *x: _chain(gc, *x), lambda *x: _chain(torch, *x), _jax_chain
    ),
    "gelu_chain": Workload(
        (_BRAIN, Input((8192,), (24,), "bfloat16"), _BRAIN),
        lambda x, b, y: gc.nn.gelu(x + b) * y,
        lambda x, b, y: functional.gelu(x + b) * y,
        lambda jax, x, b, y: _jax_gelu(jax, x + b) * y,
        tolerance=3e-2,
    ),
}

# -- rows


def _cross_entropy(logits: Any, labels: Any) -> list[Any]:
    losses = gc.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    loss = gc.reduce_mean(losses)
    return [loss, *gc.gradients(loss, [logits])]


def _jax_cross_entropy(jax: Any, logits: Any, labels: Any) -> Any:
    logs = jax.nn.log_softmax(logits)
    return -jax.numpy.take_along_axis(logs, labels[:, None], axis=1).mean()


def _layer_norm(x: Any, scale: Any, offset: Any) -> Any:
    return gc.nn.layer_norm(x, scale, offset, epsilon=EPSILON)


def _layer_norm_gradient(x: Any, scale: Any, offset: Any, dy: Any) -> list[Any]:
    y = _layer_norm(x, scale, offset)
    return [y, *gc.gradients(y, [x, scale, offset], dy)]


def _torch_layer_norm(x: Any, scale: Any, offset: Any) -> Any:
    return functional.layer_norm(x, x.shape[-1:], scale, offset, EPSILON)


def _jax_layer_norm(jax: Any, x: Any, scale: Any, offset: Any) -> Any:
    mean, variance = x.mean(1, keepdims=True), x.var(1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + EPSILON) * scale + offset


def _rms_norm(x: Any, scale: Any) -> Any:
    square = gc.reduce_mean(gc.square(x), 1, keepdims=True)
    return x * gc.rsqrt(square + EPSILON) * scale


def _rms_norm_gradient(x: Any, scale: Any, dy: Any) -> list[Any]:
    y = _rms_norm(x, scale)
    return [y, *gc.gradients(y, [x, scale], dy)]


def _torch_rms_norm(x: Any, scale: Any) -> Any:
    return functional.rms_norm(x, x.shape[-1:], scale, EPSILON)


def _jax_rms_norm(jax: Any, x: Any, scale: Any) -> Any:
    return x * jax.lax.rsqrt((x * x).mean(1, keepdims=True) + EPSILON) * scale


ROWS = {
    "softmax": Workload(
        (_ROWS,), gc.nn.softmax, lambda x: torch.softmax(x, 1),
        lambda jax, x: jax.nn.softmax(x, 1),
    ),
    "layer_norm": Workload(
        (_SOME, _PER_COLUMN, _PER_COLUMN), _layer_norm, _torch_layer_norm, _jax_layer_norm
    ),
    "layer_norm_with_gradient": Workload(
        (_SOME, _PER_COLUMN, _PER_COLUMN, _SOME), _layer_norm_gradient, _torch_layer_norm,
        _jax_layer_norm, wanted=(0, 1, 2), seeded=True, tolerance=1e-3,
    ),
    "rms_norm": Workload((_SOME, _PER_COLUMN), _rms_norm, _torch_rms_norm, _jax_rms_norm),
    "rms_norm_with_gradient": Workload(
        (_SOME, _PER_COLUMN, _SOME), _rms_norm_gradient, _torch_rms_norm, _jax_rms_norm,
        wanted=(0, 1), seeded=True, tolerance=1e-3,
    ),
    "cross_entropy_with_gradient": Workload(
        (_ROWS, Input((8192,), (5,), "int64", (8192, 33))), _cross_entropy,
        functional.cross_entropy, _jax_cross_entropy, wanted=(0,),
    ),
}  # fmt: skip

# -- sums and movements

SUMS = {
    "sum_all": Workload(
        (_ROWS,), gc.reduce_sum, torch.sum, lambda jax, x: x.sum(), tolerance=1e-3
    ),
    "sum_rows": Workload(
        (_ROWS,), lambda x: gc.reduce_sum(x, 1), lambda x: x.sum(1), lambda jax, x: x.sum(1),
        tolerance=1e-3,
    ),
    "sum_columns": Workload(
        (_ROWS,), lambda x: gc.reduce_sum(x, 0), lambda x: x.sum(0), lambda jax, x: x.sum(0),
        tolerance=1e-3,
    ),
    "transposed_add": Workload(
        (Input((8192, 8192), (9, 9)),) * 2, lambda x, y: x + gc.transpose(y),
        lambda x, y: x + y.T, lambda jax, x, y: x + y.T,
    ),
}  # fmt: skip

# -- products

_TOLERANCES = {"bfloat16": 3e-2, "tf32": 1e-2, "float32": 1e-3}


def _factors(shape: tuple[int, int, int], kind: str) -> tuple[Input, Input, Input]:
    """x: [m, k], w: [k, n], b: [n]"""
    m, k, n = shape
    dtype = "bfloat16" if kind == "bfloat16" else "float32"
    tiny = ((9, 20), (20, 12), (12,))
    x, w, b = (Input(*s, dtype) for s in zip(((m, k), (k, n), (n,)), tiny, strict=True))
    return x, w, b


def _large(kind: str) -> tuple[int, int, int]:
    return (8192, 4096, 4096) if kind == "bfloat16" else (4096, 4096, 4096)


def _plain_product(kind: str) -> Workload:
    """x @ w."""
    x, w, _ = _factors(_large(kind), kind)
    return Workload(
        (x, w), gc.matmul, torch.matmul, lambda jax, x, w: x @ w,
        flops=2.0 * math.prod(_large(kind)), kind=kind, tolerance=_TOLERANCES[kind],
    )  # fmt: skip


def _product(kind: str, shape: tuple[int, int, int]) -> Workload:
    """gelu(x @ w / 8 + b)."""
    return Workload(
        _factors(shape, kind),
        lambda x, w, b: gc.nn.gelu(gc.matmul(x, w) / 8.0 + b),
        lambda x, w, b: functional.gelu(torch.matmul(x, w) / 8.0 + b),
        lambda jax, x, w, b: _jax_gelu(jax, x @ w / 8.0 + b),
        flops=2.0 * math.prod(shape), kind=kind, tolerance=_TOLERANCES[kind],
    )  # fmt: skip


PRODUCTS = {
    **{f"matmul_{kind}": _plain_product(kind) for kind in _TOLERANCES},
    **{f"matmul_bias_gelu_{kind}": _product(kind, _large(kind)) for kind in _TOLERANCES},
    "matmul_bias_gelu_k1024": _product("bfloat16", (16384, 1024, 4096)),
    "matmul_bias_gelu_k256": _product("bfloat16", (65536, 256, 1024)),
}

# -- attention


def _attention(q: Any, k: Any, v: Any, mask: Any = None, *, causal: bool) -> Any:
    return gc.nn.scaled_dot_product_attention(q, k, v, mask, causal=causal)


def _attention_gradient(q: Any, k: Any, v: Any, dy: Any) -> list[Any]:
    y = _attention(q, k, v, causal=True)
    return [y, *gc.gradients(y, [q, k, v], dy)]


def _jax_attention(jax: Any, q: Any, k: Any, v: Any, mask: Any = None, *, causal: bool) -> Any:
    """[batch, time, heads, size]; on a GPU cuDNN's."""
    backend = "cudnn" if jax.default_backend() == "gpu" else None
    given = {"mask": mask, "is_causal": causal, "implementation": backend}
    return jax.nn.dot_product_attention(q, k, v, **given)


def _attentive(
    shape: Shape, causal: bool, masked: bool = False, gradient: bool = False
) -> Workload:
    """Of [batch, heads, time, size], with its gradient, or with a mask of [batch, 1, time, time].

    With the gradient, five products are needed besides the two of the result.
    """
    batch, heads, time, size = shape
    of_heads = Input(shape, (2, 3, 10, 8), "bfloat16")
    masks = [Input((batch, 1, time, time), (2, 1, 10, 10), "bool")] if masked else []
    more = [of_heads] if gradient else masks
    flops = 4.0 * batch * heads * time * time * size * (0.5 if causal else 1.0)
    torch_attention: Any = functional.scaled_dot_product_attention
    return Workload(
        (of_heads,) * 3 + tuple(more),
        _attention_gradient if gradient else partial(_attention, causal=causal),
        lambda *x: torch_attention(*x, is_causal=causal),
        partial(_jax_attention, causal=causal),
        wanted=(0, 1, 2) if gradient else (), seeded=gradient,
        flops=flops * (3.5 if gradient else 1.0), kind="bfloat16", tolerance=3e-2,
        jax_axes=(0, 2, 1, 3),
    )  # fmt: skip


_BY_64, _BY_128 = (8, 16, 4096, 64), (4, 16, 4096, 128)

ATTENTION = {
    "attention_64": _attentive(_BY_64, causal=False),
    "attention_64_causal": _attentive(_BY_64, causal=True),
    "attention_128": _attentive(_BY_128, causal=False),
    "attention_128_causal": _attentive(_BY_128, causal=True),
    "attention_masked": _attentive(_BY_64, causal=False, masked=True),
    "attention_with_gradient": _attentive(_BY_128, causal=True, gradient=True),
}

WORKLOADS: dict[str, Workload] = {**CHAINS, **ROWS, **SUMS, **PRODUCTS, **ATTENTION}

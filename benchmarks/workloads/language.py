"""BERT-base (Devlin et al., 2018) and GPT-2 (Radford et al., 2019; 124M), steps of Adam.

Each network is written once, over the few layers that graphc, torch and JAX spell in their own
words. Parameters and what runs from block to block are float32; products and attention have
operands of `dtype`, as under torch's autocast. Dropout is left out, since its numbers differ from
framework to framework; every position of BERT's input has a label. Vocabularies are padded to a
multiple of 32, as is usual, for the tensor cores.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.workload import Arrays, Optimizer, Training, generator, normal

EPSILON = 1e-5


@dataclass(frozen=True)
class Sizes:
    """Of a network and its batch; `width` is a multiple of `heads`."""

    batch: int
    length: int
    vocabulary: int
    width: int = 768
    heads: int = 12
    layers: int = 12

    @property
    def rows(self) -> int:
        """Tokens of a batch."""
        return self.batch * self.length


BERT = Sizes(16, 512, 30_528)
GPT2 = Sizes(8, 1024, 50_304)
Weights = Mapping[str, Any]


class Words(ABC):
    """The layers; rows are [batch * length, width]. Subclasses spell them in a framework.

    `framework` is its module, `sizes` and `dtype` ("bfloat16", "float32") are the network's.
    """

    def __init__(self, framework: Any, sizes: Sizes, dtype: str) -> None:
        self.framework, self.sizes = framework, sizes
        self.dtype = getattr(framework.numpy if framework.__name__ == "jax" else framework, dtype)

    @property
    def parts(self) -> tuple[int, int, int, int]:
        """[batch, length, heads, size of a head]"""
        s = self.sizes
        return s.batch, s.length, s.heads, s.width // s.heads

    @abstractmethod
    def embedded(self, p: Weights, ids: Any) -> Any:
        """Tokens' rows plus those of their positions. ids: [batch, length] -> float32 rows."""

    @abstractmethod
    def norm(self, x: Any, scale: Any, offset: Any) -> Any:
        """Layer norm of float32 rows."""

    @abstractmethod
    def product(self, x: Any, kernel: Any, bias: Any) -> Any:
        """x @ kernel + bias in `dtype`."""

    @abstractmethod
    def attention(self, qkv: Any, causal: bool) -> Any:
        """Of rows of 3 * width, in `dtype` -> rows."""

    @abstractmethod
    def gelu(self, x: Any, by_tanh: bool) -> Any:
        """Gelu, perhaps by its approximation."""

    def added(self, x: Any, y: Any) -> Any:
        """float32 rows and those of `dtype` -> float32 rows."""
        return x + y

    @abstractmethod
    def scores(self, x: Any, table: Any) -> Any:
        """x @ table^T in `dtype`: [rows, vocabulary]."""

    @abstractmethod
    def loss(self, scores: Any, labels: Any) -> Any:
        """The mean cross entropy in float32. labels: [batch, length]."""


class GraphWords(Words):
    """graphc's."""

    def embedded(self, p: Weights, ids: Any) -> Any:
        s, gc = self.sizes, self.framework
        rows = gc.nn.embedding_lookup(p["tokens"], ids) + p["positions"]
        return gc.reshape(rows, [s.rows, s.width])

    def norm(self, x: Any, scale: Any, offset: Any) -> Any:
        return self.framework.nn.layer_norm(x, scale, offset, epsilon=EPSILON)

    def _cast(self, *values: Any) -> list[Any]:
        return [self.framework.cast(v, self.dtype) for v in values]

    def product(self, x: Any, kernel: Any, bias: Any) -> Any:
        x, kernel, bias = self._cast(x, kernel, bias)
        return self.framework.matmul(x, kernel) + bias

    def attention(self, qkv: Any, causal: bool) -> Any:
        gc, s = self.framework, self.sizes
        heads = [gc.transpose(gc.reshape(y, self.parts), [0, 2, 1, 3]) for y in gc.split(qkv, 3, 1)]
        mixed = gc.nn.scaled_dot_product_attention(*heads, causal=causal)
        return gc.reshape(gc.transpose(mixed, [0, 2, 1, 3]), [s.rows, s.width])

    def gelu(self, x: Any, by_tanh: bool) -> Any:
        return self.framework.nn.gelu(x, approximate=by_tanh)

    def added(self, x: Any, y: Any) -> Any:
        return x + self.framework.cast(y, x.dtype)

    def scores(self, x: Any, table: Any) -> Any:
        return self.framework.matmul(*self._cast(x, table), transpose_b=True)

    def loss(self, scores: Any, labels: Any) -> Any:
        gc, flat = self.framework, self.framework.reshape(labels, [self.sizes.rows])
        of_each = gc.nn.sparse_softmax_cross_entropy_with_logits
        return gc.reduce_mean(of_each(labels=flat, logits=gc.cast(scores, gc.float32)))


class TorchWords(Words):
    """torch's."""

    def embedded(self, p: Weights, ids: Any) -> Any:
        rows = self.framework.nn.functional.embedding(ids, p["tokens"]) + p["positions"]
        return rows.view(self.sizes.rows, self.sizes.width)

    def norm(self, x: Any, scale: Any, offset: Any) -> Any:
        given = (x, (self.sizes.width,), scale, offset, EPSILON)
        return self.framework.nn.functional.layer_norm(*given)

    def product(self, x: Any, kernel: Any, bias: Any) -> Any:
        x, kernel, bias = (t.to(self.dtype) for t in (x, kernel, bias))
        return self.framework.addmm(bias, x, kernel)

    def attention(self, qkv: Any, causal: bool) -> Any:
        batch, length, heads, size = self.parts
        q, k, v = qkv.view(batch, length, 3, heads, size).permute(2, 0, 3, 1, 4).unbind(0)
        mix = self.framework.nn.functional.scaled_dot_product_attention
        return mix(q, k, v, is_causal=causal).transpose(1, 2).reshape(self.sizes.rows, -1)

    def gelu(self, x: Any, by_tanh: bool) -> Any:
        how = "tanh" if by_tanh else "none"
        return self.framework.nn.functional.gelu(x, approximate=how)

    def scores(self, x: Any, table: Any) -> Any:
        return x.to(self.dtype) @ table.to(self.dtype).t()

    def loss(self, scores: Any, labels: Any) -> Any:
        return self.framework.nn.functional.cross_entropy(scores.float(), labels.view(-1))


class JaxWords(Words):
    """JAX's; on a GPU 16-bit attention is cuDNN's."""

    def embedded(self, p: Weights, ids: Any) -> Any:
        return (p["tokens"][ids] + p["positions"]).reshape(self.sizes.rows, self.sizes.width)

    def norm(self, x: Any, scale: Any, offset: Any) -> Any:
        mean, variance = x.mean(1, keepdims=True), x.var(1, keepdims=True)
        return (x - mean) * self.framework.lax.rsqrt(variance + EPSILON) * scale + offset

    def product(self, x: Any, kernel: Any, bias: Any) -> Any:
        x, kernel, bias = (a.astype(self.dtype) for a in (x, kernel, bias))
        return x @ kernel + bias

    def attention(self, qkv: Any, causal: bool) -> Any:
        batch, length, heads, size = self.parts
        q, k, v = (qkv.reshape(batch, length, 3, heads, size)[:, :, i] for i in range(3))
        on_gpu = self.framework.default_backend() == "gpu" and qkv.dtype.itemsize == 2
        mixed = self.framework.nn.dot_product_attention(
            q, k, v, is_causal=causal, implementation="cudnn" if on_gpu else None
        )
        return mixed.reshape(self.sizes.rows, self.sizes.width)

    def gelu(self, x: Any, by_tanh: bool) -> Any:
        return self.framework.nn.gelu(x, approximate=by_tanh)

    def scores(self, x: Any, table: Any) -> Any:
        return x.astype(self.dtype) @ table.astype(self.dtype).T

    def loss(self, scores: Any, labels: Any) -> Any:
        logs = self.framework.nn.log_softmax(scores.astype("float32"))
        flat = labels.reshape(-1, 1)
        return -self.framework.numpy.take_along_axis(logs, flat, axis=1).mean()


# -- the networks


def _mixed(words: Words, p: Weights, i: int, x: Any, causal: bool) -> Any:
    """The first half of block i, without norm and sum."""
    qkv = words.product(x, p[f"qkv{i}"], p[f"qkv_bias{i}"])
    return words.product(words.attention(qkv, causal), p[f"out{i}"], p[f"out_bias{i}"])


def _inner(words: Words, p: Weights, i: int, x: Any, by_tanh: bool) -> Any:
    """The second half."""
    y = words.gelu(words.product(x, p[f"up{i}"], p[f"up_bias{i}"]), by_tanh)
    return words.product(y, p[f"down{i}"], p[f"down_bias{i}"])


def gpt2(words: Words, p: Weights, x: Weights) -> Any:
    """The loss; norms come first, and after the last block."""

    def norm(h: Any, name: str) -> Any:
        return words.norm(h, p[f"scale{name}"], p[f"offset{name}"])

    h = words.embedded(p, x["ids"])
    for i in range(words.sizes.layers):
        h = words.added(h, _mixed(words, p, i, norm(h, f"1_{i}"), causal=True))
        h = words.added(h, _inner(words, p, i, norm(h, f"2_{i}"), by_tanh=True))
    return words.loss(words.scores(norm(h, ""), p["tokens"]), x["labels"])


def bert(words: Words, p: Weights, x: Weights) -> Any:
    """The loss of the hidden tokens; norms come after each sum. Scores have no bias."""

    def norm(h: Any, name: str) -> Any:
        return words.norm(h, p[f"scale{name}"], p[f"offset{name}"])

    h = norm(words.embedded(p, x["ids"]), "")
    for i in range(words.sizes.layers):
        h = norm(words.added(h, _mixed(words, p, i, h, causal=False)), f"1_{i}")
        h = norm(words.added(h, _inner(words, p, i, h, by_tanh=False)), f"2_{i}")
    h = words.gelu(words.product(h, p["transform"], p["transform_bias"]), by_tanh=False)
    return words.loss(words.scores(h, p["tokens"]), x["labels"])


# -- the rows


def parameters(sizes: Sizes, transforms: bool) -> Arrays:
    """Of either network; `transforms`: with the dense layer before BERT's scores."""
    rng, width = generator(), sizes.width
    made: Arrays = {
        "tokens": normal(rng, (sizes.vocabulary, width), 0.02),
        "positions": normal(rng, (sizes.length, width), 0.02),
    }
    norms = ["", *(f"{half}_{i}" for i in range(sizes.layers) for half in (1, 2))]
    for name in norms:
        made[f"scale{name}"] = np.ones(width, np.float32)
        made[f"offset{name}"] = np.zeros(width, np.float32)
    kernels = {"qkv": (1, 3), "out": (1, 1), "up": (1, 4), "down": (4, 1)}
    products = [(f"{n}%s{i}", s) for i in range(sizes.layers) for n, s in kernels.items()]
    for name, (inputs, outputs) in [*products, *([("transform%s", (1, 1))] if transforms else [])]:
        made[name % ""] = normal(rng, (inputs * width, outputs * width), 0.02)
        made[name % "_bias"] = np.zeros(outputs * width, np.float32)
    return made


def multiply_adds(sizes: Sizes, causal: bool, transforms: bool) -> int:
    """Of a forward pass; causal attention needs half of the scores."""
    per_row = 12 * sizes.layers * sizes.width**2 + sizes.vocabulary * sizes.width
    per_row += sizes.width**2 if transforms else 0
    scores = 2 * sizes.layers * sizes.rows * sizes.length * sizes.width
    return sizes.rows * per_row + (scores // 2 if causal else scores)


def _losses(network: Callable[..., Any], sizes: Sizes, dtype: str) -> dict[str, Any]:
    def spelled(words: type[Words]) -> Callable[..., Any]:
        return lambda framework, p, x: network(words(framework, sizes, dtype), p, x)

    return {name: spelled(words) for name, words in _WORDS.items()}


_WORDS: Mapping[str, type[Words]] = {"graphc": GraphWords, "torch": TorchWords, "jax": JaxWords}


def workload(
    network: str, tiny: bool = False, batch: int | None = None, dtype: str = "bfloat16"
) -> Training:
    """A step of "bert" or "gpt2"; with `batch`, of as many sequences."""
    is_bert = network == "bert"
    sizes = BERT if is_bert else GPT2
    if tiny:
        sizes = Sizes(2, 6, 32, width=16, heads=2, layers=2)
    sizes = replace(sizes, batch=batch or sizes.batch)
    rng, shape = np.random.default_rng(1), (sizes.batch, sizes.length)
    ids, labels = (rng.integers(0, sizes.vocabulary, shape) for _ in range(2))
    return Training(
        title=f"{'BERT-base' if is_bert else 'GPT-2 124M'}, {sizes.batch} x {sizes.length}, "
        f"{dtype} products, Adam step",
        parameters=parameters(sizes, transforms=is_bert),
        batch={"ids": ids, "labels": labels},
        optimizer=Optimizer("adam", 1e-4),
        losses=_losses(bert if is_bert else gpt2, sizes, dtype),
        flops=2.0 * 3 * multiply_adds(sizes, causal=not is_bert, transforms=is_bert),
        tolerance=1e-2,
    )


__all__ = ["BERT", "GPT2", "Sizes", "workload"]

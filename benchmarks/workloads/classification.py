"""The loss of W1 to W3: mean cross entropy of logits and one-hot labels, per framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Words = Callable[[Any, Mapping[str, Any], Mapping[str, Any]], Any]  # framework, parameters, batch


def spelled(graphc: Words, torch: Words, jax: Words) -> dict[str, Words]:
    """By framework; TensorFlow's words are graphc's."""
    return {"graphc": graphc, "tensorflow": graphc, "torch": torch, "jax": jax}


def losses(logits: Mapping[str, Words]) -> dict[str, Words]:
    """By framework, the loss of what its function of that name gives: [logits]."""
    means = spelled(_graph_mean, _torch_mean, _jax_mean)
    return {name: _loss(means[name], words) for name, words in logits.items()}


def _loss(mean: Callable[[Any, Any, Any], Any], logits: Words) -> Words:
    def loss(framework: Any, p: Mapping[str, Any], x: Mapping[str, Any]) -> Any:
        (found,) = logits(framework, p, x)
        return mean(framework, found, x["labels"])

    return loss


def _graph_mean(tf: Any, logits: Any, labels: Any) -> Any:
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits))


def _torch_mean(torch: Any, logits: Any, labels: Any) -> Any:
    return torch.nn.functional.cross_entropy(logits, labels)


def _jax_mean(jax: Any, logits: Any, labels: Any) -> Any:
    return -(labels * jax.nn.log_softmax(logits)).sum(1).mean()


__all__ = ["Words", "losses", "spelled"]

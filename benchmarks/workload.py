"""What a workload is: its arrays, and its mathematics in the words of each framework.

A training step changes its parameters and fetches nothing; its read-out is the parameters. A
function computes arrays from arrays; its read-out is the outputs. Adapters in `benchmarks.peers`
turn either into a `Runner` of one framework.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray
Arrays = dict[str, Array]
SEED = 20_17


@dataclass(frozen=True)
class Runner:
    """One contender's workload: `step` returns when the work is done, `read` gives its results."""

    step: Callable[[], Any]
    read: Callable[[], Mapping[str, Array]]


@dataclass(frozen=True)
class Optimizer:
    """The update of TensorFlow 1's optimizer of that name: "sgd", "momentum" (0.9) or "adam".

    Adam's epsilon is so small that it is all the same that torch adds it at another place.
    """

    name: str
    rate: float
    epsilon: float = 1e-10


@dataclass(frozen=True)
class Training:
    """Steps of an optimizer on one batch.

    `losses` has, per framework ("graphc", "tensorflow", "torch", "jax"), loss(framework's module,
    parameters, batch), both of them mappings by name. `by_hand(parameters, batch)` is a step in
    NumPy that changes the parameters in place. `torch_layout` permutes the dims of the parameters
    that torch wants otherwise. `flops`: the products of a step, two per multiply-add.
    """

    title: str
    parameters: Arrays
    batch: Arrays
    optimizer: Optimizer
    losses: Mapping[str, Callable[..., Any]]
    flops: float
    tolerance: float
    by_hand: Callable[[Arrays, Arrays], Callable[[], None]] | None = None
    torch_layout: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Function:
    """Outputs from inputs and from weights that never change.

    `outputs` has, per framework ("graphc", "tensorflow", "torch", "jax", and "onnx": graphc in the
    words that suit an ONNX model), function(framework's module, weights, inputs), which gives a
    list; its names are `names`. `by_hand(inputs)` gives a NumPy call that fills arrays made
    beforehand. `onnx_model(onnx, inputs)` is a model by hand, where graphc's is not the best one.
    `traffic`: the least bytes to move, `flops`: of products.
    """

    title: str
    inputs: Arrays
    names: Sequence[str]
    outputs: Mapping[str, Callable[..., list[Any]]]
    tolerance: float
    traffic: float
    flops: float = 0.0
    weights: Arrays = field(default_factory=dict)
    by_hand: Callable[[Arrays], Callable[[], list[Array]]] | None = None
    onnx_model: Callable[[Any, Arrays], Any] | None = None
    torch_layout: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


Workload = Training | Function


def generator() -> np.random.Generator:
    """The source of every array of a workload."""
    return np.random.default_rng(SEED)


def normal(rng: np.random.Generator, shape: Sequence[int], deviation: float = 1.0) -> Array:
    """Gaussian float32 of that standard deviation."""
    return rng.standard_normal(shape, np.float32) * np.float32(deviation)


def scaled(rng: np.random.Generator, *shape: int) -> Array:
    """Weights of deviation sqrt(2 / fan-in); the last dim is the outputs. (He et al., 2015.)"""
    return normal(rng, shape, float(np.sqrt(2 / np.prod(shape[:-1]))))


def one_hot(rng: np.random.Generator, count: int, classes: int) -> Array:
    """Random labels."""
    return np.eye(classes, dtype=np.float32)[rng.integers(0, classes, count)]

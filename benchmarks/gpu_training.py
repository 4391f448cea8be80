"""Training on a GPU: Adam's update of 102 million parameters, and whole steps of the demo.

A step of the demo is what a user calls: feeds from the host, forward, backward, update, and the
loss back on the host. torch does the same, eagerly and with torch.compile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import graphc as gc
from benchmarks.gpu_timing import Call, EventTimer, Limits, medians, working
from graphc.demo import BATCH, NETWORKS, Built, Network, build

ADAM_SHAPE, ADAM_COUNT = (3200, 4000), 8
ADAM_TRAFFIC = 28  # bytes per parameter: four arrays read, three written
CHECKED_STEPS = 3


# -- Adam


def adam_graph(shape: tuple[int, ...], count: int) -> tuple[Any, list[Any], list[Any]]:
    """The step, the parameters (zeros) and their gradients, all of them variables."""
    parameters = [gc.Variable(gc.zeros(shape)) for _ in range(count)]
    # not near zero, where it matters that torch adds epsilon at another place
    drawn = [gc.random_uniform(shape, 0.5, 1.5, seed=i) for i in range(count)]
    gradients = [gc.Variable(g, trainable=False) for g in drawn]
    pairs = [(g.read_value(), p) for g, p in zip(gradients, parameters, strict=True)]
    return gc.train.AdamOptimizer(1e-3).apply_gradients(pairs), parameters, gradients


def torch_adam(gradients: list[np.ndarray], device: str, **options: Any) -> torch.optim.Adam:
    """torch's optimizer of parameters of zeros with these gradients."""
    parameters = []
    for gradient in gradients:
        tensor = torch.from_numpy(gradient).to(device)
        parameter = nn.Parameter(torch.zeros_like(tensor))
        parameter.grad = tensor
        parameters.append(parameter)
    return torch.optim.Adam(parameters, 1e-3, **options)


def adam_error(session: gc.Session, step: Any, parameters: list[Any], reference: Any) -> float:
    """The largest difference after some steps of both, over the learning rate."""
    for _ in range(CHECKED_STEPS):
        session.run(step)
        reference.step()
    (group,) = reference.param_groups
    errors = [
        np.abs(session.run(p) - q.detach().cpu().numpy()).max()
        for p, q in zip(parameters, group["params"], strict=True)
    ]
    return float(max(errors)) / 1e-3


def adam(limits: Limits) -> dict[str, Any]:
    """The row of Adam's update."""
    with gc.Graph().as_default(), gc.Session(device="triton") as session:
        step, parameters, gradients = adam_graph(ADAM_SHAPE, ADAM_COUNT)
        session.run(gc.global_variables_initializer())
        arrays = [session.run(g) for g in gradients]
        fused = torch_adam(arrays, "cuda", fused=True)
        error = adam_error(session, step, parameters, fused)
        assert error < 1e-2, f"Adam: {error} of the learning rate away from torch"
        executable = executable_of(session, step)
        plain = torch_adam(arrays, "cuda", foreach=True, capturable=True)
        compiled = torch.compile(lambda: plain.step())
        calls: dict[str, Call] = {
            "graphc": lambda _: executable.launch(),
            "torch": lambda _: fused.step(),
            "compile": lambda _: compiled(),
        }
        seconds = medians(working(calls), EventTimer())
        traffic = ADAM_TRAFFIC * ADAM_COUNT * int(np.prod(ADAM_SHAPE))
        kernels = len(executable.program.kernels)
    return {
        **seconds, "limit": limits.seconds(traffic), "bytes": traffic, "error": error,
        "kernels": kernels,
    }  # fmt: skip


def executable_of(session: gc.Session, fetches: Any) -> Any:
    """What the session runs for these fetches without feeds, compiled."""
    prepared = session._prepare(fetches, ())
    session._execute(prepared, [])
    return prepared.main.by_shape[prepared.main.key([])].executable


# -- the demo's networks


class Lenet(nn.Module):
    """The demo's convolutional network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(*n, 3, padding=1) for n in ((1, 32), (32, 64)))
        self.hidden, self.output = nn.Linear(256, 256), nn.Linear(256, 10)
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: Any) -> Any:
        """Logits."""
        x = images.reshape(-1, 1, 8, 8)
        for layer in (self.conv1, self.conv2):
            x = functional.max_pool2d(torch.relu(layer(x)), 2)
        x = self.dropout(x.permute(0, 2, 3, 1).reshape(len(x), -1))  # channels last, as the demo
        return self.output(self.dropout(torch.relu(self.hidden(x))))


class Dense(nn.Module):
    """Layers with relu between them."""

    def __init__(self, **sizes: tuple[int, int]) -> None:
        super().__init__()
        for name, (inputs, outputs) in sizes.items():
            self.add_module(name, nn.Linear(inputs, outputs))

    def forward(self, images: Any) -> Any:
        """Logits."""
        x = images.reshape(-1, 64)
        *inner, last = self.children()
        for layer in inner:
            x = torch.relu(layer(x))
        return last(x)


@dataclass(frozen=True)
class Twin:
    """torch's spelling of a network of the demo."""

    network: Network
    module: Callable[[], nn.Module]
    optimizer: Callable[[Any], Any]


TWINS: Mapping[str, Twin] = {
    "step_softmax_regression": Twin(
        NETWORKS[0], lambda: Dense(softmax=(64, 10)),
        lambda p: torch.optim.SGD(p, 0.5),
    ),
    "step_perceptron": Twin(
        NETWORKS[1], lambda: Dense(hidden1=(64, 128), hidden2=(128, 128), output=(128, 10)),
        lambda p: torch.optim.Adam(p, 1e-3, fused=torch.cuda.is_available()),
    ),
    "step_lenet": Twin(NETWORKS[2], Lenet, lambda p: torch.optim.SGD(p, 0.05, momentum=0.9)),
}  # fmt: skip


def copy_weights(session: gc.Session, module: nn.Module) -> None:
    """Give the module the graph's values: torch keeps matrices and filters transposed."""
    named = {v.name.split(":")[0]: v for v in gc.trainable_variables()}
    with torch.no_grad():
        for name, layer in module.named_children():
            if f"{name}/kernel" not in named:
                continue
            kernel = torch.from_numpy(np.array(session.run(named[f"{name}/kernel"])))
            order = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
            layer.weight.copy_(kernel.permute(order))
            layer.bias.copy_(torch.from_numpy(np.array(session.run(named[f"{name}/bias"]))))


def torch_step(
    module: nn.Module, optimizer: Any, device: str, mode: str | None
) -> Callable[[np.ndarray, np.ndarray], float]:
    """A training step from arrays to the loss; `mode` is torch.compile's, None is eager."""

    def loss_of(images: Any, labels: Any) -> Any:
        return functional.cross_entropy(module(images), labels)

    forward = torch.compile(loss_of, mode=mode) if mode else loss_of

    def step(images: np.ndarray, labels: np.ndarray) -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = forward(torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device))
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def first_losses(
    session: gc.Session, built: Built, module: nn.Module, data: tuple[Any, Any], device: str
) -> tuple[float, float]:
    """The graph's loss and torch's, at equal weights, without dropout."""
    copy_weights(session, module)
    images, labels = data
    ours = session.run(built.loss, {built.images: images, built.labels: labels, built.keep: 1.0})
    module.eval()
    logits = module(torch.from_numpy(images).to(device))
    theirs = functional.cross_entropy(logits, torch.from_numpy(labels).to(device)).item()
    module.train()
    return float(ours), float(theirs)


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Random images and labels."""
    rng = np.random.default_rng(0)
    return rng.random((BATCH, 8, 8), np.float32), rng.integers(0, 10, BATCH)


def wall_timer(call: Call, repeats: int) -> float:
    """Seconds per call by the clock: each call waits for its loss."""
    start = time.perf_counter()
    for number in range(repeats):
        call(number)
    return (time.perf_counter() - start) / repeats


def training_step(twin: Twin, device: str = "triton", rounds: int = 15) -> dict[str, Any]:
    """The row of a network: seconds per step, from arrays to the loss."""
    place = "cuda" if device == "triton" else "cpu"
    data = batch()
    with gc.Graph().as_default(), gc.Session(device=device) as session:
        built = build(twin.network)
        session.run(gc.global_variables_initializer())
        call = session.make_callable([built.loss, built.step], [built.images, built.labels])
        contenders: dict[str, Any] = {"graphc": call}
        modes = (
            {"torch": None, "compile": "reduce-overhead"} if place == "cuda" else {"torch": None}
        )
        for name, mode in modes.items():
            module = twin.module().to(place)
            ours, theirs = first_losses(session, built, module, data, place)
            assert abs(ours - theirs) < 1e-3 * theirs, f"losses differ: {ours} and {theirs}"
            optimizer = twin.optimizer(module.parameters())
            contenders[name] = torch_step(module, optimizer, place, mode)
        calls: dict[str, Call] = {n: lambda _, c=c: c(*data) for n, c in contenders.items()}
        seconds = medians(working(calls), wall_timer, rounds, 0.1)
    return {**seconds, "error": abs(ours - theirs) / theirs}

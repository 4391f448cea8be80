"""The demo's three networks learn as PyTorch's do, from equal initial values and batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import graphc as gc
from graphc.datasets import Dataset, load_digits
from graphc.demo import NETWORKS, Network, build

STEPS = 100
BATCH = 32
TOLERANCE = 1e-4  # relative, on the loss of every step


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_digits()


def _torch_softmax(p: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    return x.reshape(-1, 64) @ p["softmax/kernel"] + p["softmax/bias"]


def _torch_perceptron(p: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    x = x.reshape(-1, 64)
    for name in ("hidden1", "hidden2"):
        x = torch.relu(x @ p[f"{name}/kernel"] + p[f"{name}/bias"])
    return x @ p["output/kernel"] + p["output/bias"]


def _torch_lenet(p: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    x = x.reshape(-1, 1, 8, 8)
    for name in ("conv1", "conv2"):
        kernel = p[f"{name}/kernel"].permute(3, 2, 0, 1)
        x = torch.relu(functional.conv2d(x, kernel, p[f"{name}/bias"], padding=1))
        x = functional.max_pool2d(x, 2)
    x = x.permute(0, 2, 3, 1).reshape(len(x), -1)  # channels last, as in the graph
    x = torch.relu(x @ p["hidden/kernel"] + p["hidden/bias"])
    return x @ p["output/kernel"] + p["output/bias"]


class PaperAdam(torch.optim.Optimizer):
    """Adam in the form before section 2.1 of Kingma and Ba, which TensorFlow has.

    torch.optim.Adam adds epsilon after the correction of the second moment, which makes its
    curve leave this one by 2e-4 within 40 steps.
    """

    def __init__(self, parameters: list[torch.Tensor], rate: float) -> None:
        super().__init__(parameters, {"lr": rate})
        self.count = 0
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        self.count += 1
        (group,) = self.param_groups
        scale = (1 - 0.999**self.count) ** 0.5 / (1 - 0.9**self.count)
        for p, (m, v) in zip(group["params"], self.moments, strict=True):
            m.mul_(0.9).add_(p.grad, alpha=0.1)
            v.mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
            p.sub_(group["lr"] * scale * m / (v.sqrt() + 1e-8))


TORCH: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "softmax regression": (_torch_softmax, lambda p: torch.optim.SGD(p, 0.5)),
    "perceptron": (_torch_perceptron, lambda p: PaperAdam(p, 1e-3)),
    "lenet": (_torch_lenet, lambda p: torch.optim.SGD(p, 0.05, momentum=0.9)),
}


def _torch_losses(name: str, values: dict[str, np.ndarray], batches: list[Any]) -> list[float]:
    forward, make_optimizer = TORCH[name]
    parameters = {k: torch.tensor(v, requires_grad=True) for k, v in values.items()}
    optimizer = make_optimizer(list(parameters.values()))
    losses = []
    for number, (images, labels) in enumerate(batches):
        if name == "lenet":
            optimizer.param_groups[0]["lr"] = 0.05 * 0.93 ** (number / 44)
        optimizer.zero_grad()
        logits = forward(parameters, torch.tensor(images))
        loss = functional.cross_entropy(logits, torch.tensor(labels))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("device", ["numpy", "native"])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name.replace(" ", "_"))
def test_loss_curve(network: Network, device: str, digits: Dataset) -> None:
    epochs = -(-STEPS * BATCH // len(digits.train_labels)) + 1
    batches = list(digits.batches(BATCH, seed=3, epochs=epochs, drop_remainder=True))[:STEPS]
    assert len(batches) == STEPS
    with gc.Graph().as_default(), gc.Session(device=device) as session:
        built = build(network)
        session.run(gc.global_variables_initializer())
        rng = np.random.default_rng(0)
        values = {}
        for variable in gc.trainable_variables():
            shape = tuple(variable.shape)
            scale = 1.0 / np.sqrt(np.prod(shape[:-1])) if len(shape) > 1 else 0.0
            name = variable.name.split(":")[0]
            values[name] = (rng.standard_normal(shape) * scale).astype(np.float32)
            variable.load(values[name], session)
        losses = [
            float(session.run([built.loss, built.step], feeds)[0])
            for x, y in batches
            for feeds in [{built.images: x, built.labels: y, built.keep: 1.0}]
        ]
    expected = _torch_losses(network.name, values, batches)
    assert expected[-1] < 0.7 * expected[0], "the curve must fall, or the test shows nothing"
    np.testing.assert_allclose(losses, expected, rtol=TOLERANCE)

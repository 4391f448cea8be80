"""What must become one kernel, and what must be refused with which reason, as `explain` reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gc


@pytest.fixture(autouse=True)
def fresh_graph() -> Iterator[None]:
    with gc.Graph().as_default():
        yield


def placeholder(*shape: int) -> Any:
    return gc.placeholder(gc.float32, list(shape))


def report(fetches: Any) -> Any:
    return gc.explain(fetches, device="numpy")


def reasons(result: Any) -> set[str]:
    return {u.reason for u in result.unfused}


def layer_norm(x: Any, scale: Any, shift: Any) -> Any:
    mean = gc.reduce_mean(x, axis=1, keepdims=True)
    centred = x - mean
    variance = gc.reduce_mean(gc.square(centred), axis=1, keepdims=True)
    return centred * gc.rsqrt(variance + 1e-5) * scale + shift


def cross_entropy_with_gradient() -> list[Any]:
    logits, labels = placeholder(17, 10), placeholder(17, 10)
    loss = gc.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return [loss, gc.gradients(loss, logits)[0]]


def chain() -> Any:
    x, a, b = placeholder(6, 4), placeholder(4), placeholder(4, 6)
    return gc.transpose(gc.tanh(gc.exp(x * a) + gc.transpose(b)))


def batch_statistics() -> Any:
    x = placeholder(8, 5, 5, 3)
    mean = gc.reduce_mean(x, axis=[0, 1, 2], keepdims=True)
    variance = gc.reduce_mean(gc.square(x - mean), axis=[0, 1, 2], keepdims=True)
    return (x - mean) * gc.rsqrt(variance + 1e-3)


ONE_KERNEL: dict[str, Callable[[], Any]] = {
    "softmax": lambda: gc.nn.softmax(placeholder(13, 7)),
    "log_softmax": lambda: gc.nn.log_softmax(placeholder(13, 7)),
    "layer_norm": lambda: layer_norm(placeholder(9, 12), placeholder(12), placeholder(12)),
    "cross_entropy_and_gradient": cross_entropy_with_gradient,
    "chain_with_broadcast_and_transpose": chain,
    "batch_statistics_and_normalization": batch_statistics,
    "bias_and_activation_in_the_dot": lambda: gc.nn.relu(
        gc.matmul(placeholder(8, 6), placeholder(6, 5)) + placeholder(5)
    ),
    "convolution_bias_activation": lambda: gc.nn.relu(
        gc.nn.bias_add(
            gc.nn.conv2d(placeholder(2, 6, 6, 3), placeholder(3, 3, 3, 4), 1, "SAME"),
            placeholder(4),
        )
    ),
    "reshape_between": lambda: gc.exp(gc.reshape(gc.tanh(placeholder(6, 4, 5)), [6, 20])) + 1.0,
    "sum_of_producer": lambda: gc.reduce_sum(gc.square(placeholder(33, 5) - 1.0)),
    "two_outputs_of_one_input": lambda: (lambda x: [gc.exp(x), gc.tanh(x) * 2.0])(
        placeholder(7, 3)
    ),
    "concatenation_read_in_place": lambda: gc.exp(
        gc.concat([placeholder(3, 4), placeholder(3, 2)], axis=1)
    ),
}


@pytest.mark.parametrize("name", ONE_KERNEL)
def test_one_kernel(name: str) -> None:
    result = report(ONE_KERNEL[name]())
    assert len(result.kernels) == 1, str(result)
    assert result.unfused == ()
    assert result.arena_bytes == 0


def test_backward_of_layer_norm_is_one_kernel_and_the_sums_over_rows() -> None:
    x = gc.placeholder(gc.float32, [32, 12], name="x")
    target, scale, shift = placeholder(32, 12), placeholder(12), placeholder(12)
    error = gc.nn.layer_norm(x, scale, shift) - target
    result = report(gc.gradients(gc.reduce_mean(gc.square(error)), [x, scale, shift]))
    assert [k.form for k in result.kernels] == ["row"] * 2
    # the statistics, the output and dx in one: of x nothing is read twice
    assert sum("x[" in k.loops for k in result.kernels) == 1
    assert {u.reason for u in result.unfused} == {"SPACE"}


def two_dots() -> Any:
    x = gc.matmul(placeholder(8, 6), placeholder(6, 5))
    return gc.matmul(x, placeholder(5, 4))


def other_axes() -> Any:
    x = gc.exp(placeholder(8, 6))
    rows = gc.reduce_sum(x, axis=1, keepdims=True)
    return gc.reduce_sum(x / rows, axis=0)


def costly_prologue() -> Any:
    x = placeholder(8, 6)
    return gc.matmul(gc.tanh(gc.exp(x) * gc.sin(x) + gc.cos(x) * 3.0), placeholder(6, 5))


REFUSED: dict[str, Callable[[], Any]] = {
    "TWO_DOTS": two_dots,
    "REDUCE_AFTER_DOT": lambda: gc.nn.softmax(gc.matmul(placeholder(8, 6), placeholder(6, 5))),
    "SPACE": other_axes,
    "PROLOGUE": costly_prologue,
    "RECOMPUTE": lambda: gc.tanh(
        gc.reduce_sum(placeholder(8, 6), axis=1, keepdims=True)
    ) * gc.reshape(placeholder(9), [1, 9]),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_refused_with_reason(reason: str) -> None:
    result = report(REFUSED[reason]())
    assert len(result.kernels) > 1, str(result)
    assert reason in reasons(result), str(result)
    assert all(u.numbers["bytes"] > 0 for u in result.unfused if u.buffer)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: gc.train.GradientDescentOptimizer(0.1),
        lambda: gc.train.MomentumOptimizer(0.1, 0.9, use_nesterov=True),
        lambda: gc.train.AdamOptimizer(1e-3),
        lambda: gc.train.RMSPropOptimizer(1e-3),
    ],
    ids=["sgd", "nesterov", "adam", "rmsprop"],
)
def test_all_updates_are_one_kernel(optimizer: Callable[[], Any]) -> None:
    x = placeholder(16, 12)
    for units in (9, 7, 3):
        kernel = gc.Variable(gc.random_normal([int(x.shape[1]), units], seed=1))
        x = gc.tanh(gc.matmul(x, kernel) + gc.Variable(gc.zeros([units])))
    result = report(optimizer().minimize(gc.reduce_mean(gc.square(x))))
    updates = [
        k for k in result.kernels
        if any(result.program.buffers[n].role == "variable" for n in _outputs(result, k.name))
    ]  # fmt: skip
    assert len(updates) == 1, str(result)
    assert updates[0].form == "group"
    assert len(result.program.updates) == sum(
        len(p.outputs) for k in result.program.kernels for p in k.parts
    )


def _outputs(result: Any, name: str) -> tuple[str, ...]:
    kernel = next(k for k in result.program.kernels if k.name == name)
    outputs: tuple[str, ...] = kernel.outputs
    return outputs


def test_arena_is_near_its_lower_bound() -> None:
    x = placeholder(32, 64)
    for units in (128, 256, 64, 10):
        kernel = gc.Variable(gc.random_normal([int(x.shape[1]), units], seed=1))
        x = gc.nn.relu(gc.matmul(x, kernel))
    result = report(gc.train.AdamOptimizer().minimize(gc.reduce_mean(gc.square(x))))
    assert 0 < result.arena_lower_bound <= result.arena_bytes <= 1.1 * result.arena_lower_bound
    assert result.arena_bytes < result.naive_bytes


def test_report_prints_and_counts_bytes() -> None:
    x = placeholder(100, 10)
    result = report(gc.nn.softmax(x, name="answer"))
    (kernel,) = result.kernels
    assert kernel.reads_bytes == kernel.writes_bytes == 4000
    assert "answer" in kernel.covers and "exp" in kernel.source
    assert kernel.name in str(result) and "arena" in str(result)


def test_explain_needs_shapes() -> None:
    x = gc.placeholder(gc.float32, [None, 3], name="batch")
    with pytest.raises(gc.errors.FeedError, match="batch"):
        gc.explain(gc.exp(x), device="numpy")
    by_shape = gc.explain(gc.exp(x), feeds={x: (5, 3)}, device="numpy")
    by_array = gc.explain(gc.exp(x), feeds={x: np.zeros((5, 3))}, device="numpy")
    assert by_shape.kernels[0].reads_bytes == by_array.kernels[0].reads_bytes == 60

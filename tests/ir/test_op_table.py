"""One walk over the op table: every op on its own samples.

Shape and dtype rule, meaning against torch, gradient by finite differences in float64, and the
whole pipeline on the NumPy back end against the evaluator. (Triton: tests/codegen.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import graphc.ir.ops
from graphc.ir.computation import cut
from graphc.ir.dtypes import as_dtype
from graphc.ir.graph import Graph, Value, constant
from graphc.ir.interpret import evaluate
from graphc.ir.settings import Settings
from graphc.ir.table import OPS, Kind, NoGradient, Sample
from graphc.passes.context import Context
from graphc.passes.pipeline import compile_program
from graphc.runtime.devices.numpy import NumPyDevice

assert graphc.ir.ops

# what has no samples, and why
WITHOUT_SAMPLES = {
    "constant": "its value is an attribute: tests/ir/test_text.py",
    "placeholder": "a source of the user's: tests/runtime",
    "variable": "a source of the session's: tests/runtime",
    "run_counter": "a source of the session's: tests/runtime",
    "assign": "tests/runtime/test_session.py", "assign_add": "tests/runtime/test_session.py",
    "assign_sub": "tests/runtime/test_session.py", "no_op": "it has no output",
    "loop": "tests/control_programs.py", "branch": "tests/control_programs.py",
    "trip_count": "tests/control_programs.py",
    "deferred": "tests/onnx", "deferred_grad": "tests/onnx",
    "random_unit": "random: tests/runtime and tests/codegen",
    "random_gauss": "random: tests/runtime and tests/codegen",
    "mean_spread": "through the gradient of reduce_mean",
    "gather_grad": "through the gradient of gather",
    "gather_nd_grad": "through the gradient of gather_nd",
}  # fmt: skip


def _has_samples(name: str) -> bool:
    # <movement>_grad ops are tried through the gradient of their movement
    base = name.removesuffix("_grad")
    if OPS[name].kind is Kind.HOST:  # nothing is compiled: tests/ir/test_strings.py
        return False
    return name not in WITHOUT_SAMPLES and not (
        base != name and base in OPS and not list(OPS[name].samples())
    )


NAMES = sorted(n for n in OPS if _has_samples(n))
CASES = [
    pytest.param(name, sample, id=f"{name}-{i}")
    for name in NAMES
    for i, sample in enumerate(OPS[name].samples())
]


def test_every_op_has_samples() -> None:
    empty = [n for n in NAMES if not list(OPS[n].samples())]
    assert not empty
    assert set(WITHOUT_SAMPLES) <= set(OPS)


def _placeholders(arrays: tuple[np.ndarray, ...]) -> list[Value]:
    return [
        OPS["placeholder"](dtype=as_dtype(np.asarray(a).dtype), shape=np.shape(a)) for a in arrays
    ]


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_types_and_numpy_back_end(name: str, sample: Sample) -> None:
    with Graph().as_default():
        inputs = _placeholders(sample.inputs)
        outputs = OPS[name].outputs(*inputs, **sample.attrs)
        given = {v.node: np.asarray(a) for v, a in zip(inputs, sample.inputs, strict=True)}
        expected = evaluate(outputs, given)
        for value, array in zip(outputs, expected, strict=True):
            assert array.shape == value.type.shape, name
            assert as_dtype(array.dtype) is value.dtype, name
        computation = cut(outputs, [], inputs)
        program = compile_program(computation, Context())
    feeds = [np.asarray(a) for a in sample.inputs]
    results = NumPyDevice().load(program, {}, Settings()).run(feeds, 0)
    for got, want in zip(results, expected, strict=True):
        assert got.dtype == want.dtype and got.shape == want.shape
        tolerance = (
            {"rtol": 2e-5, "atol": 2e-5} if want.dtype.kind == "f" else {"rtol": 0, "atol": 0}
        )
        np.testing.assert_allclose(got, want, **tolerance)


def _reduced(f: Callable[..., Any]) -> Callable[..., Any]:
    def call(x: torch.Tensor, axis: Any = None, keepdims: bool = False) -> Any:
        axes = tuple(range(x.ndim)) if axis is None else axis
        return f(x, axes, keepdims) if axes else x.clone()

    return call


def _each_axis(f: Callable[..., Any]) -> Callable[..., Any]:
    def call(x: torch.Tensor, axis: Any = None, keepdims: bool = False) -> Any:
        axes = tuple(range(x.ndim)) if axis is None else axis
        for a in sorted(axes, reverse=True):
            x = f(x, a, keepdims)
        return x

    return call


def _as_signed(f: Callable[..., Any]) -> Callable[..., Any]:
    """Torch has few functions of uint32: by way of int64, of which 32 bits are kept."""

    def call(*xs: torch.Tensor) -> torch.Tensor:
        if xs[0].dtype is not torch.uint32:
            return f(*xs)
        return (f(*(x.to(torch.int64) for x in xs)) & 0xFFFFFFFF).to(torch.uint32)

    return call


def _running(f: Callable[..., Any], start: int) -> Callable[..., Any]:
    def call(
        x: torch.Tensor, axis: int = 0, exclusive: bool = False, reverse: bool = False
    ) -> torch.Tensor:
        x = x.flip(axis) if reverse else x
        if exclusive and x.shape[axis]:
            x = torch.cat([torch.full_like(x.narrow(axis, 0, 1), start),
                           x.narrow(axis, 0, x.shape[axis] - 1)], axis)  # fmt: skip
        y = f(x, axis).to(x.dtype)
        return y.flip(axis) if reverse else y

    return call


def _sorted(x: torch.Tensor, axis: int = -1, descending: bool = False, k: Any = None) -> Any:
    values, at = torch.sort(x, dim=axis, descending=descending, stable=True)
    count = x.shape[axis] if k is None else k
    return values.narrow(axis, 0, count), at.narrow(axis, 0, count)


def _put(g: torch.Tensor, at: torch.Tensor, x: torch.Tensor, axis: int) -> torch.Tensor:
    return torch.zeros_like(x).scatter_add(axis, at.long(), g)


def _inside(indices: torch.Tensor, sizes: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """Which rows of indices name an element, and those as a key."""
    rows = indices.reshape(math.prod(indices.shape[:-1]), indices.shape[-1]).long()
    inside = ((rows >= 0) & (rows < sizes)).all(-1)
    return inside, tuple(rows[inside].T) or (torch.zeros(int(inside.sum()), dtype=torch.long),)


def _gather_nd(x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    depth = indices.shape[-1]
    inside, key = _inside(indices, torch.tensor(x.shape[:depth]))
    out = torch.zeros((len(inside), *x.shape[depth:]), dtype=x.dtype)
    out[inside] = (x if depth else x[None])[key]
    return out.reshape(*indices.shape[:-1], *x.shape[depth:])


def _scatter_nd(indices: torch.Tensor, updates: torch.Tensor, shape: Any) -> torch.Tensor:
    depth = indices.shape[-1]
    inside, key = _inside(indices, torch.tensor(shape[:depth]))
    rows = updates.reshape(len(inside), *shape[depth:])[inside]
    out = torch.zeros(tuple(shape) if depth else (1, *shape), dtype=updates.dtype)
    return out.index_put(key, rows, accumulate=True).reshape(tuple(shape))


def _by_segment(kind: str, start: Any) -> Callable[..., Any]:
    def call(x: torch.Tensor, ids: torch.Tensor, count: int) -> torch.Tensor:
        rows, numbers = x.reshape(ids.numel(), *x.shape[ids.ndim :]), ids.long().reshape(-1)
        inside = (numbers >= 0) & (numbers < count)
        first = torch.full((count, *rows.shape[1:]), start(x.dtype), dtype=x.dtype)
        at = numbers[inside].reshape(-1, *(1,) * (rows.ndim - 1)).expand_as(rows[inside])
        return first.scatter_reduce(0, at, rows[inside], kind)

    return call


def _limits(dtype: torch.dtype) -> Any:
    return torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)


TORCH: dict[str, Callable[..., Any]] = {
    "add": torch.add, "subtract": torch.subtract, "multiply": torch.multiply,
    "truediv": torch.true_divide, "maximum": torch.maximum, "minimum": torch.minimum,
    "pow": torch.pow, "negative": torch.neg, "abs": torch.abs, "square": torch.square,
    "reciprocal": torch.reciprocal, "sqrt": torch.sqrt, "rsqrt": torch.rsqrt, "exp": torch.exp,
    "expm1": torch.expm1, "log": torch.log, "log1p": torch.log1p, "sigmoid": torch.sigmoid,
    "tanh": torch.tanh, "erf": torch.erf, "sin": torch.sin, "cos": torch.cos,
    "floor": torch.floor, "ceil": torch.ceil, "round": torch.round, "equal": torch.eq,
    "not_equal": torch.ne, "less": torch.lt, "less_equal": torch.le, "greater": torch.gt,
    "greater_equal": torch.ge, "logical_and": torch.logical_and, "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor, "logical_not": torch.logical_not, "is_nan": torch.isnan,
    "is_inf": torch.isinf, "is_finite": torch.isfinite, "where": torch.where, "relu": torch.relu,
    "matmul": lambda a, b, transpose_a=False, transpose_b=False: torch.matmul(
        a.mT if transpose_a else a, b.mT if transpose_b else b
    ),
    "contract": lambda a, b, spec: torch.einsum(spec, a, b),
    "reduce_sum": _reduced(lambda x, a, k: torch.sum(x, a, keepdim=k)),
    "reduce_mean": _reduced(lambda x, a, k: torch.mean(x, a, keepdim=k)),
    "reduce_prod": _each_axis(lambda x, a, k: torch.prod(x, a, keepdim=k)),
    "reduce_any": _each_axis(lambda x, a, k: torch.any(x, a, keepdim=k)),
    "reduce_all": _each_axis(lambda x, a, k: torch.all(x, a, keepdim=k)),
    "argmax": lambda x, axis, keepdims=False: torch.argmax(x, axis, keepdim=keepdims),
    "argmin": lambda x, axis, keepdims=False: torch.argmin(x, axis, keepdim=keepdims),
    "softmax": lambda x, axis=-1: torch.softmax(x, axis),
    "log_softmax": lambda x, axis=-1: torch.log_softmax(x, axis),
    "reshape": lambda x, shape: torch.reshape(x, shape),
    "transpose": lambda x, perm=None: x.permute(
        perm if perm is not None else tuple(reversed(range(x.ndim)))
    ),
    "broadcast_to": lambda x, shape: torch.broadcast_to(x, shape),
    "concat": lambda *xs, axis: torch.cat(xs, axis),
    "stack": lambda *xs, axis=0: torch.stack(xs, axis),
    "tan": torch.tan, "asin": torch.asin, "acos": torch.acos, "atan": torch.atan,
    "atan2": torch.atan2, "sinh": torch.sinh, "cosh": torch.cosh, "asinh": torch.asinh,
    "acosh": torch.acosh, "atanh": torch.atanh, "erfc": torch.erfc,
    "bitwise_and": _as_signed(torch.bitwise_and), "bitwise_or": _as_signed(torch.bitwise_or),
    "bitwise_xor": _as_signed(torch.bitwise_xor), "invert": _as_signed(torch.bitwise_not),
    "left_shift": _as_signed(torch.bitwise_left_shift),
    "right_shift": _as_signed(torch.bitwise_right_shift),
    "cumsum": _running(torch.cumsum, 0), "cumprod": _running(torch.cumprod, 1),
    "sort_pairs": _sorted, "put_pairs": _put,
    "take_pairs": lambda x, at, axis: torch.take_along_dim(x, at.long(), axis),
    "gather_nd": _gather_nd, "scatter_nd": _scatter_nd,
    "unsorted_segment_sum": _by_segment("sum", lambda _: 0),
    "unsorted_segment_prod": _by_segment("prod", lambda _: 1),
    "unsorted_segment_max": _by_segment("amax", lambda dtype: _limits(dtype).min),
    "unsorted_segment_min": _by_segment("amin", lambda dtype: _limits(dtype).max),
}  # fmt: skip


@pytest.mark.parametrize(("name", "sample"), [c for c in CASES if c.values[0] in TORCH])
def test_meaning_against_torch(name: str, sample: Sample) -> None:
    with Graph().as_default():
        values = [constant(a) for a in sample.inputs]
        got = evaluate(OPS[name].outputs(*values, **sample.attrs))
    tensors = [torch.from_numpy(np.array(a)) for a in sample.inputs]
    want = TORCH[name](*tensors, **sample.attrs)
    for ours, theirs in zip(got, want if isinstance(want, tuple) else (want,), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=2e-5, atol=2e-6)


def _differentiable(name: str, sample: Sample) -> tuple[int, ...]:
    if isinstance(OPS[name].grad, NoGradient) or OPS[name].kind is Kind.STATE:
        return ()
    if name == "cast":  # its dtype is its own, not float64: tests/frontend
        return ()
    floats = tuple(i for i, a in enumerate(sample.inputs) if np.asarray(a).dtype.kind == "f")
    return floats if sample.differentiable is None else sample.differentiable


GRADIENTS = [
    c for c in CASES
    if _differentiable(*c.values) and all(np.size(a) for a in c.values[1].inputs)
    and not any(np.asarray(a).dtype.kind == "f" and not np.isfinite(a).all()
                for a in c.values[1].inputs)
]  # fmt: skip


@pytest.mark.parametrize(("name", "sample"), GRADIENTS)
def test_gradient_by_finite_differences(name: str, sample: Sample) -> None:
    op, chosen = OPS[name], _differentiable(name, sample)
    arrays = [
        np.asarray(a, np.float64) if np.asarray(a).dtype.kind == "f" else np.asarray(a)
        for a in sample.inputs
    ]
    attrs = dict(sample.attrs)
    rng = np.random.default_rng(1)
    with Graph().as_default():
        inputs = _placeholders(tuple(arrays))
        node = op.node(*inputs, **attrs)
        weights = rng.standard_normal(node.outputs[0].type.static_shape)
        assert not isinstance(op.grad, NoGradient)
        grads = list(op.grad(node, [constant(weights, dtype=node.outputs[0].dtype)]
                             + [None] * (len(node.outputs) - 1)))  # fmt: skip
        for i in chosen:
            value = grads[i]
            assert value is not None, f"{name} gives no gradient for input {i}"
            given = {v.node: a for v, a in zip(inputs, arrays, strict=True)}
            (analytic,) = evaluate([value], given)
            assert analytic.shape == arrays[i].shape
            direction = rng.standard_normal(arrays[i].shape)
            step = 1e-6
            ends = []
            for sign in (1, -1):
                moved = [a + sign * step * direction if j == i else a for j, a in enumerate(arrays)]
                at = {v.node: a for v, a in zip(inputs, moved, strict=True)}
                ends.append(float((evaluate([node.outputs[0]], at)[0] * weights).sum()))
            numeric = (ends[0] - ends[1]) / (2 * step)
            # elements that nearly tie, or lie near a step, are rare in the samples: one retry's
            # worth of slack is not given
            assert np.isclose((analytic * direction).sum(), numeric, rtol=1e-4, atol=1e-5), (
                f"{name}: input {i}: {(analytic * direction).sum()} against {numeric}"
            )

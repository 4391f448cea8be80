"""Attention against its definition and torch's: results, gradients, masks, sizes, dtypes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import graphc as gc
from graphc.ir.errors import AttributeValueError, DTypeError, GraphcError, ShapeError
from graphc.ir.graph import Graph
from graphc.ir.ops.attention import scaled_dot_product_attention as attention_op
from graphc.passes.target import CPU, NUMPY, Target

DEVICES = ("numpy", "native")
# leading dims, n, m, d, e: odd ones, one element, one row, blocks and more than one
SIZES = (
    ((2, 3), 5, 7, 4, 3), ((), 1, 1, 1, 1), ((1,), 1, 300, 16, 9), ((2,), 67, 1, 33, 1),
    ((1, 2), 130, 130, 64, 64), ((1,), 75, 700, 20, 40), ((3,), 301, 290, 8, 17),
)  # fmt: skip


@pytest.fixture(autouse=True)
def routines_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is small is computed by the routines, too."""
    monkeypatch.setattr("graphc.runtime.devices.native.CPU", eager(CPU))
    monkeypatch.setattr("graphc.runtime.devices.numpy.NUMPY", eager(NUMPY))


def eager(target: Target) -> Target:
    assert target.attention is not None
    return replace(target, attention=replace(target.attention, keeps=0, trains=0))


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def _arrays(sizes: Any, seed: int = 0) -> list[np.ndarray]:
    """q, k, v, and what the result's gradient is."""
    lead, n, m, d, e = sizes
    rng = np.random.default_rng(seed)
    return [_normal(rng, *lead, *s) for s in ((n, d), (m, d), (m, e), (n, e))]


def _masks(sizes: Any) -> dict[str, np.ndarray | None]:
    lead, n, m, _, _ = sizes
    rng = np.random.default_rng(7)
    keep = rng.random((n, m)) < 0.6
    keep[n // 2] = False  # nothing is left of a row
    ones = (1,) * len(lead)
    return {
        "none": None, "bool": keep, "by head": rng.random((*lead, n, m)) < 0.8,
        "keys": rng.random((*ones, 1, m)) < 0.7, "bias": _normal(rng, *ones, n, m),
        "excluding": np.where(keep, _normal(rng, n, m), -np.inf).astype(np.float32),
    }  # fmt: skip


def _run(device: str, arrays: Sequence[np.ndarray], mask: Any = None, **attrs: Any) -> list[Any]:
    """The result, and the gradients of q, k and v."""
    with Graph().as_default() as graph:
        q, k, v, g = (gc.placeholder(a.dtype, a.shape) for a in arrays)
        out = gc.nn.scaled_dot_product_attention(q, k, v, mask, **attrs)
        grads = gc.gradients(out, [q, k, v], [g])
        with gc.Session(graph=graph, device=device) as session:
            return session.run([out, *grads], dict(zip((q, k, v, g), arrays, strict=True)))


def _torch(arrays: Sequence[np.ndarray], mask: Any, causal: bool) -> list[np.ndarray]:
    """torch's own, in float64."""
    q, k, v, g = (torch.tensor(a.astype(np.float64), requires_grad=True) for a in arrays)
    given = None if mask is None else torch.tensor(mask)
    if given is not None and given.is_floating_point():
        given = given.double()
    if causal and given is not None:
        inside = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
        given = given & inside if given.dtype == torch.bool else given.masked_fill(~inside, -np.inf)
    out = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, given, is_causal=causal and given is None
    )
    out.backward(g.detach())
    grads = (x.grad for x in (q, k, v))
    return [x.numpy() for x in (out.detach(), *grads) if x is not None]


def _near(got: Sequence[Any], want: Sequence[Any], tolerance: float) -> None:
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        wide = np.asarray(a, np.float64)
        scale = max(1.0, float(np.abs(b).max(initial=0)))
        np.testing.assert_allclose(wide, b, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_against_torch(device: str, sizes: Any) -> None:
    arrays = _arrays(sizes)
    for name, mask in _masks(sizes).items():
        for causal in (False, True):
            if mask is None or name in ("bool", "bias"):
                want = _torch(arrays, mask, causal)
                _near(_run(device, arrays, mask, causal=causal), want, 3e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_masks_of_all_shapes(device: str) -> None:
    sizes = ((2, 2), 19, 40, 8, 8)
    arrays = _arrays(sizes)
    for mask in _masks(sizes).values():
        _near(_run(device, arrays, mask), _torch(arrays, mask, False), 3e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float64, 1e-13), (np.float16, 4e-3), (ml_dtypes.bfloat16, 3e-2)]
)
def test_dtypes(device: str, dtype: Any, tolerance: float) -> None:
    sizes = ((2,), 37, 290, 24, 10)
    arrays = [a.astype(dtype) for a in _arrays(sizes)]
    for name in ("none", "bias", "bool"):
        mask = _masks(sizes)[name]
        given = mask.astype(dtype) if name == "bias" and mask is not None else mask
        got = _run(device, arrays, given, causal=True)
        assert all(a.dtype == np.dtype(dtype) for a in got)
        wide = given if name != "bias" or given is None else given.astype(np.float64)
        _near(got, _torch(arrays, wide, True), tolerance)


@pytest.mark.parametrize("device", DEVICES)
def test_nothing_is_left_of_a_row(device: str) -> None:
    arrays = _arrays(((2,), 9, 6, 4, 5))
    for mask in (np.zeros((9, 6), bool), np.full((9, 6), -np.inf, np.float32)):
        assert all((x == 0).all() for x in _run(device, arrays, mask))
    no_keys = _arrays(((2,), 9, 0, 4, 5))
    out, dq, dk, dv = _run(device, no_keys)
    assert (out == 0).all() and (dq == 0).all() and dk.shape == (2, 0, 4) and dv.size == 0
    no_rows = _run(device, _arrays(((2,), 0, 6, 4, 5)))
    assert no_rows[0].shape == (2, 0, 5) and all((x == 0).all() for x in no_rows)
    assert _run(device, _arrays(((0,), 3, 6, 4, 5)))[0].shape == (0, 3, 5)


@pytest.mark.parametrize("device", DEVICES)
def test_no_depth_weighs_all_keys_alike(device: str) -> None:
    q, k, v, g = _arrays(((2,), 9, 6, 0, 5))
    out = _run(device, (q, k, v, g))[0]
    np.testing.assert_allclose(out, np.broadcast_to(v.mean(1, keepdims=True), out.shape), atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_not_finite_stays_in_its_row(device: str) -> None:
    q, k, v, g = _arrays(((1,), 70, 280, 16, 8))
    q[0, 3, 2] = np.nan
    q[0, 20] = np.inf
    k[0, 5] = 1e20  # scores up to about 1e21: one key has all the weight, or none
    out, dq, *_ = _run(device, (q, k, v, g))
    bad = np.isnan(out).any(-1)[0]
    assert bad[[3, 20]].all() and bad.sum() == 2
    assert np.isnan(dq[0, 3]).all() and np.isfinite(np.delete(dq[0], (3, 20), 0)).all()
    takes = q[0] @ k[0, 5] > 0
    for row in set(range(70)) - {3, 20}:
        near = np.allclose(out[0, row], v[0, 5])
        assert near == takes[row]


@pytest.mark.parametrize("device", DEVICES)
def test_large_scores_do_not_overflow(device: str) -> None:
    arrays = _arrays(((1,), 40, 300, 16, 8))
    arrays[0] *= 100
    _near(_run(device, arrays), _torch(arrays, None, False), 2e-4)
    arrays[0] *= 1e9  # scores are rounded before they are compared: none is above its maximum
    assert all(np.isfinite(x).all() for x in _run(device, arrays))


@pytest.mark.parametrize("device", DEVICES)
def test_scale_and_broadcast(device: str) -> None:
    q, k, v, g = _arrays(((2, 3), 5, 7, 4, 4))
    one_k, one_v = k[0, 0], v[:1, :1]
    got = _run(device, (q, one_k, one_v, g), scale=0.3)
    spread = [np.broadcast_to(x, (2, 3, *x.shape[-2:])) for x in (one_k, one_v)]
    out, dq, dk, dv = _torch([q * np.float32(0.3 * 2), *spread, g], None, False)
    want = [out, dq * 0.6, dk.sum((0, 1)), dv.sum((0, 1), keepdims=True)]
    _near(got, want, 5e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_a_learned_mask_and_the_sums(device: str) -> None:
    """Gradients of the mask and through `lse`, against torch's of the plain definition."""
    arrays = _arrays(((2, 2), 9, 11, 4, 3))
    rng = np.random.default_rng(3)
    bias, h = _normal(rng, 2, 1, 9, 11), _normal(rng, 2, 2, 9)
    with Graph().as_default() as graph:
        q, k, v, g, b, gl = given = [gc.placeholder(gc.float32, a.shape) for a in
                                     (*arrays, bias, h)]  # fmt: skip
        out, lse = attention_op.outputs(q, k, v, b, causal=True)
        loss = gc.reduce_sum(out * g) + gc.reduce_sum(lse * gl)
        grads = gc.gradients(loss, [q, k, v, b])
        with gc.Session(graph=graph, device=device) as session:
            got = session.run([lse, *grads], dict(zip(given, (*arrays, bias, h), strict=True)))
    tq, tk, tv, tg, tb, th = (
        torch.tensor(a.astype(np.float64), requires_grad=True) for a in (*arrays, bias, h)
    )
    scores = tq @ tk.mT / 2 + tb
    scores = scores.masked_fill(~torch.ones(9, 11, dtype=torch.bool).tril(), -np.inf)
    sums = scores.logsumexp(-1)
    ((scores.softmax(-1) @ tv * tg).sum() + (sums * th).sum()).backward()
    want = [sums.detach().numpy(), *(x.grad.numpy() for x in (tq, tk, tv, tb))]
    _near(got, want, 5e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_the_same_numbers_with_any_number_of_threads(device: str) -> None:
    for sizes in (((1,), 600, 530, 16, 24), ((5,), 97, 300, 16, 16)):
        arrays = _arrays(sizes)
        runs = []
        for threads in (1, 2, 3):
            with Graph().as_default() as graph:
                q, k, v, g = (gc.placeholder(gc.float32, a.shape) for a in arrays)
                out = gc.nn.scaled_dot_product_attention(q, k, v)
                grads = gc.gradients(out, [q, k, v], [g])
                with gc.Session(graph=graph, device=device, threads=threads) as session:
                    feeds = dict(zip((q, k, v, g), arrays, strict=True))
                    runs += [session.run([out, *grads], feeds) for _ in range(2)]
        for other in runs[1:]:
            assert all(np.array_equal(a, b) for a, b in zip(other, runs[0], strict=True))


@pytest.mark.parametrize("device", DEVICES)
def test_inside_a_loop(device: str) -> None:
    q, k, v, g = arrays = _arrays(((3,), 20, 24, 8, 6))
    with Graph().as_default() as graph:
        given = [gc.placeholder(gc.float32, a.shape) for a in arrays]
        out = gc.map_fn(
            lambda x: gc.nn.scaled_dot_product_attention(*x, causal=True), tuple(given[:3]),
            dtype=gc.float32,
        )  # fmt: skip
        grads = gc.gradients(out, given[:3], [given[3]])
        with gc.Session(graph=graph, device=device) as session:
            got = session.run([out, *grads], dict(zip(given, (q, k, v, g), strict=True)))
    _near(got, _torch(arrays, None, True), 3e-6)


def test_unknown_sizes() -> None:
    arrays = _arrays(((2, 3), 5, 7, 4, 3))
    with Graph().as_default() as graph:
        q, k, v, g = (gc.placeholder(gc.float32, [None, None, None, a.shape[-1]]) for a in arrays)
        out = gc.nn.scaled_dot_product_attention(q, k, v, causal=True)
        grads = gc.gradients(out, [q, k, v], [g])
        with gc.Session(graph=graph, device="numpy") as session:
            got = session.run([out, *grads], dict(zip((q, k, v, g), arrays, strict=True)))
    _near(got, _torch(arrays, None, True), 3e-6)


@pytest.mark.parametrize(
    ("error", "shapes", "mask", "attrs"),
    [
        (ShapeError, ((2, 5, 4), (2, 7, 3), (2, 7, 4)), None, {}),
        (ShapeError, ((2, 5, 4), (2, 7, 4), (2, 6, 4)), None, {}),
        (ShapeError, ((2, 5, 4), (3, 7, 4), (3, 7, 4)), None, {}),
        (ShapeError, ((4,), (7, 4), (7, 4)), None, {}),
        (ShapeError, ((2, 5, 4), (2, 7, 4), (2, 7, 4)), np.ones((5, 6), bool), {}),
        (ShapeError, ((2, 5, 4), (2, 7, 4), (2, 7, 4)), np.ones((3, 2, 5, 7), bool), {}),
        (DTypeError, ((2, 5, 4), (2, 7, 4), (2, 7, 4)), gc.int32, {}),
    ],
)
def test_what_is_refused(error: type[GraphcError], shapes: Any, mask: Any, attrs: Any) -> None:
    with Graph().as_default(), pytest.raises(error):
        q, k, v = (gc.placeholder(gc.float32, s) for s in shapes)
        given = gc.placeholder(mask, (5, 7)) if mask is gc.int32 else mask
        gc.nn.scaled_dot_product_attention(q, k, v, given, **attrs)


def test_the_op_refuses_other_attributes() -> None:
    with Graph().as_default():
        x = gc.placeholder(gc.float32, (3, 4))
        for attrs in ({"scale": "big"}, {"scale": np.inf}, {"causal": 1}):
            with pytest.raises(AttributeValueError):
                attention_op(x, x, x, **attrs)


def test_multi_head_attention_against_torch() -> None:
    rng = np.random.default_rng(5)
    x, memory = _normal(rng, 2, 5, 12), _normal(rng, 2, 7, 6)
    with Graph().as_default() as graph:
        layer = gc.layers.MultiHeadAttention(3)
        query, value = (gc.placeholder(gc.float32, [None, None, a.shape[-1]]) for a in (x, memory))
        out = layer(query, value)
        again = layer(query, value)
        with gc.Session(graph=graph, device="numpy") as session:
            session.run(gc.global_variables_initializer())
            for variable in layer.weights:
                start = _normal(rng, *variable.shape.as_list())
                session.run(variable.assign(start))
            names = [v.name for v in layer.weights]
            weights = dict(zip(names, session.run(layer.weights), strict=True))
            got, same = session.run([out, again], {query: x, value: memory})
    w = {n.rpartition("/")[2].partition(":")[0]: torch.tensor(a) for n, a in weights.items()}
    assert len(w) == 8
    assert np.array_equal(got, same)

    def heads(y: torch.Tensor, name: str) -> torch.Tensor:
        y = y @ w[f"{name}_kernel"] + w[f"{name}_bias"]
        return y.reshape(2, -1, 3, 4).transpose(1, 2)

    tx, tm = torch.tensor(x), torch.tensor(memory)
    mixed = torch.nn.functional.scaled_dot_product_attention(
        heads(tx, "query"), heads(tm, "key"), heads(tm, "value")
    )
    want = mixed.transpose(1, 2).reshape(2, 5, 12) @ w["output_kernel"] + w["output_bias"]
    np.testing.assert_allclose(got, want.numpy(), atol=2e-5)
    assert got.shape == (2, 5, 12)

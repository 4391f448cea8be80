"""Attention in bundles, in reports, and in predictions of times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.ir.graph import Graph
from graphc.runtime.roofline import H200, roofline


def _fetches(dtype: Any, n: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attention of a masked sequence, and its gradients."""
    q, k, v = (gc.placeholder(dtype, (2, n, 16), name=name) for name in "qkv")
    keep = np.random.default_rng(0).random((n, n)) < 0.7
    out = gc.nn.scaled_dot_product_attention(q, k, v, mask=keep)
    grads = gc.gradients(gc.reduce_sum(gc.cast(out, gc.float32)), [q, k, v])
    return {"out": out, **{f"d{n}": g for n, g in zip("qkv", grads, strict=True)}}, {
        "q": q, "k": k, "v": v,
    }  # fmt: skip


@pytest.mark.parametrize("target", ["numpy", "native"])
def test_a_bundle(target: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    feeds = {n: rng.standard_normal((2, 260, 16)).astype(np.float32) for n in "qkv"}
    with Graph().as_default() as graph:
        fetches, inputs = _fetches(gc.float32, 260)
        with gc.Session(graph=graph, device=target) as session:
            given = {inputs[n]: a for n, a in feeds.items()}
            want = session.run(list(fetches.values()), given)
        gc.write_bundle(tmp_path / "b.zip", fetches, target=target, inputs=inputs)
    got = gc.load_bundle(tmp_path / "b.zip")(feeds)
    for a, b in zip(got.values(), want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_bundle_of_cubins(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    with Graph().as_default():
        fetches, inputs = _fetches(gc.float16, 50)
        gc.write_bundle(tmp_path / "b", fetches, target="sm_90", inputs=inputs)
    assert len(list((tmp_path / "b").rglob("*.cubin"))) >= 3


def test_reports() -> None:
    pytest.importorskip("triton")
    n = 1024
    with Graph().as_default() as graph:
        fetches, _ = _fetches(gc.float16, n)
        report = gc.explain(list(fetches.values()), device="sm_90", graph=graph)
    forward, backward = (k for k in report.kernels if k.form == "call")
    half = 2 * n * 16 * 2
    assert forward.reads_bytes == 3 * half + n * n and forward.writes_bytes == half + 2 * n * 4
    times = {k.name: k for k in roofline(report.program).kernels}
    assert times[forward.name].flops == 2.0 * 2 * n * n * 32
    assert times[backward.name].flops == 2.0 * 2 * n * n * 80
    assert times[forward.name].launches == 1 and times[backward.name].launches == 2
    least = times[backward.name].flops / H200.tensor_flops_per_s
    assert times[backward.name].seconds >= least
    assert "tl.dot" in forward.source

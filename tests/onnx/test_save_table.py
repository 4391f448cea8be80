"""One walk over the op table: every op is written to ONNX, or is in the list of those that are not.

What is written is checked, run by onnxruntime, and loaded back, on the op's own samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import graphc as gc
import graphc.ir.ops
from graphc.ir.dtypes import as_dtype
from graphc.ir.errors import UnsupportedOp
from graphc.ir.graph import Graph
from graphc.ir.interpret import evaluate
from graphc.ir.table import OPS, Sample
from graphc.onnx import load, save

assert graphc.ir.ops

REFUSED = {
    "cholesky": "ONNX has no factorizations", "eigen": "as cholesky", "qr": "as cholesky",
    "svd": "as cholesky", "matrix_inverse": "as cholesky", "matrix_solve": "as cholesky",
    "triangular_solve": "as cholesky",
    "ctc_loss": "ONNX has no CTC", "ctc_greedy": "as ctc_loss",
    "decode_raw": "ONNX casts bits of equal width only",
    "philox": "ONNX has generators, but not this one", "dropout": "it draws numbers",
    "sample_classes": "it draws numbers",
}  # fmt: skip
# Ops that other tests cover, or that have no samples.
ELSEWHERE = {"loop", "branch", "trip_count"}  # test_save_control.py

# Where onnxruntime differs from what ONNX says, or ONNX does not say what happens.
NOT_BY_ONNXRUNTIME = {
    ("cumprod", 8): "a Scan over nothing", ("cumprod", 9): "a Scan over nothing",
    ("gather", 4): "an index out of range", ("gather_nd", 4): "a reduction of nothing",
    ("gather_nd", 5): "a reduction of nothing", ("in_top_k", 4): "a reduction of nothing",
    ("scatter_nd", 4): "a reduction of nothing", ("scatter_nd", 5): "a reduction of nothing",
    ("softmax_cross_entropy", 3): "a reduction of nothing",
    ("sparse_softmax_cross_entropy", 3): "a reduction of nothing",
    ("reduce_max", 8): "NaN", ("reduce_min", 8): "NaN", ("reduce_mean", 6): "the mean of nothing",
    ("sort_pairs", 11): "NaN", ("sort_pairs", 13): "NaN",
}  # fmt: skip
NOT_BACK = {("gather", 4): "an index out of range"}

CASES = [
    pytest.param(name, i, sample, id=f"{name}-{i}")
    for name, op in OPS.items()
    for i, sample in enumerate(op.samples())
    if all(np.asarray(a).dtype.kind in "biufV" for a in sample.inputs)  # numbers alone
]


def _tolerance(*arrays: Any) -> float:
    small = any(a.dtype.name in ("float16", "bfloat16") for a in map(np.asarray, arrays))
    return 2e-2 if small else 1e-5


def _compare(got: Any, want: Any, tolerance: float) -> None:
    for a, b in zip(map(np.asarray, got), map(np.asarray, want), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        wide = (a, b) if b.dtype.kind in "biu" else (a.astype("d"), b.astype("d"))
        np.testing.assert_allclose(*wide, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "number", "sample"), CASES)
def test_op(name: str, number: int, sample: Sample) -> None:
    arrays = [np.asarray(a) for a in sample.inputs]
    with Graph().as_default():
        inputs = [
            OPS["placeholder"](dtype=as_dtype(a.dtype), shape=a.shape, name=f"x{i}")
            for i, a in enumerate(arrays)
        ]
        node = OPS[name].node(*inputs, **sample.attrs)
        outputs = {f"y{i}": v for i, v in enumerate(node.outputs)}
        named = {f"x{i}": v for i, v in enumerate(inputs)}
        if name in REFUSED:
            with pytest.raises(UnsupportedOp, match="has no spelling in ONNX"):
                save(outputs, inputs=named)
            return
        want = evaluate(
            list(node.outputs), {v.node: a for v, a in zip(inputs, arrays, strict=True)}
        )
        proto = save(outputs, inputs=named)
    onnx.checker.check_model(proto, full_check=True)
    feeds = {f"x{i}": a for i, a in enumerate(arrays)}
    tolerance = _tolerance(*arrays, *want)
    if (name, number) not in NOT_BY_ONNXRUNTIME:
        _compare(_by_onnxruntime(proto, feeds), want, tolerance)
    if (name, number) not in NOT_BACK:
        _compare(_by_graphc(proto, feeds), want, tolerance)


def _by_onnxruntime(proto: Any, feeds: dict[str, Any]) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})


def _by_graphc(proto: Any, feeds: dict[str, Any]) -> Any:
    model = load(proto)
    with gc.Session(graph=model.graph, device="numpy") as session:
        given = {v: feeds[n] for n, v in model.inputs.items()}
        return session.run(list(model.outputs.values()), given)


# What is written, too, where the first sizes are not known.
OPEN = {
    "batch_normalization", "elu", "gather_nd", "gelu", "huber", "l2_loss", "l2_normalize",
    "layer_norm", "leaky_relu", "local_response_normalization", "log_sigmoid", "moments", "relu6",
    "resize", "selu", "sigmoid_cross_entropy", "silu", "softmax_cross_entropy",
    "sparse_softmax_cross_entropy", "tile", "unsorted_segment_sum", "weighted_cross_entropy",
}  # fmt: skip
OUT_OF_RANGE = {("gather_nd", 3), ("sparse_softmax_cross_entropy", 4)}
OPEN_CASES = [
    p for p in CASES
    if p.values[0] in OPEN and (p.values[0], p.values[1]) not in OUT_OF_RANGE
    and all(np.asarray(a).size for a in p.values[2].inputs)  # onnxruntime differs on nothing
]  # fmt: skip


@pytest.mark.parametrize(("name", "number", "sample"), OPEN_CASES)
def test_op_of_an_unknown_batch(name: str, number: int, sample: Sample) -> None:
    arrays = [np.asarray(a) for a in sample.inputs]
    sizes = sorted({a.shape[0] for a in arrays if a.ndim})
    with Graph().as_default():
        inputs, exact = (
            [
                OPS["placeholder"](dtype=as_dtype(a.dtype), shape=shape, name=f"x{i}")
                for i, (a, shape) in enumerate(zip(arrays, shapes, strict=True))
            ]
            for shapes in (
                [(f"n{sizes.index(a.shape[0])}", *a.shape[1:]) if a.ndim else () for a in arrays],
                [a.shape for a in arrays],
            )
        )
        outputs = OPS[name].outputs(*inputs, **sample.attrs)
        values = {v.node: a for v, a in zip(exact, arrays, strict=True)}
        want = evaluate(list(OPS[name].outputs(*exact, **sample.attrs)), values)
        proto = save(
            {f"y{i}": v for i, v in enumerate(outputs)},
            inputs={f"x{i}": v for i, v in enumerate(inputs)},
        )
    onnx.checker.check_model(proto, full_check=True)
    feeds = {f"x{i}": a for i, a in enumerate(arrays)}
    tolerance = _tolerance(*arrays, *want)
    _compare(_by_onnxruntime(proto, feeds), want, tolerance)
    _compare(_by_graphc(proto, feeds), want, tolerance)


def test_the_lists_name_what_is_there() -> None:
    assert {*REFUSED, *ELSEWHERE} <= set(OPS)
    known = {(p.values[0], p.values[1]) for p in CASES}
    assert {*NOT_BY_ONNXRUNTIME, *NOT_BACK} <= known

"""ONNX's Attention is read as the op where it applies, else as its function."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import graphc as gc
from graphc.ir.computation import topological_order
from graphc.onnx import load

TYPES = {"f": TensorProto.FLOAT, "b": TensorProto.BOOL}


def _model(arrays: dict[str, np.ndarray], shape: Any, **attrs: Any) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info(n, TYPES[a.dtype.kind], a.shape)
              for n, a in arrays.items()]  # fmt: skip
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    node = helper.make_node("Attention", list(arrays), ["y"], **attrs)
    graph = helper.make_graph([node], "g", inputs, [output])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


@pytest.mark.parametrize(
    ("q", "k", "mask", "attrs", "whole"),
    [
        ((2, 4, 5, 8), (2, 4, 7, 8), "", {}, True),
        ((2, 4, 5, 8), (2, 2, 7, 8), "bool", {"scale": 0.2}, True),
        ((2, 5, 32), (2, 7, 16), "bias", {"q_num_heads": 4, "kv_num_heads": 2, "is_causal": 1},
         True),
        ((2, 4, 5, 8), (2, 4, 7, 8), "", {"softcap": 2.0}, False),
    ],
)  # fmt: skip
def test_attention(q: Any, k: Any, mask: str, attrs: dict[str, Any], whole: bool) -> None:
    rng = np.random.default_rng(0)
    arrays = {n: rng.standard_normal(s).astype(np.float32) for n, s in zip("qkv", (q, k, k),
                                                                         strict=True)}  # fmt: skip
    masks = {"bool": rng.random((5, 7)) < 0.6, "bias": rng.random((2, 1, 5, 7), np.float32)}
    if mask:
        arrays["mask"] = masks[mask]
    proto = _model(arrays, q, **attrs)
    model = load(proto)
    nodes = topological_order([v.node for v in model.outputs.values()])
    assert ("scaled_dot_product_attention" in {n.op.name for n in nodes}) == whole
    with gc.Session(graph=model.graph, device="numpy") as session:
        feeds = {model.inputs[n]: a for n, a in arrays.items()}
        (got,) = session.run(list(model.outputs.values()), feeds)
    (want,) = ReferenceEvaluator(proto).run(None, arrays)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)

"""The standard interface of the onnx package to what runs models.

onnx.backend.test.BackendTest(graphc.onnx.backend, __name__)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from onnx.backend.base import Backend, BackendRep, namedtupledict

from graphc.frontend.onnx.load import load, onnx_package
from graphc.frontend.variables import global_variables_initializer
from graphc.ir.errors import FeedError
from graphc.runtime.session import Session

_DEVICES = {"CPU": "numpy", "CUDA": "triton"}


class Prepared(BackendRep):
    """A model in a session of its own."""

    def __init__(
        self, model: Any, device: str = "CPU", absent: Collection[str] = (), **settings: Any
    ) -> None:
        self.source = model, device, settings
        self.model = load(model, absent=absent)
        name = _DEVICES[device.partition(":")[0]]
        self.session = Session(graph=self.model.graph, device=name, **settings)
        if self.model.variables:
            with self.model.graph.as_default():
                self.session.run(global_variables_initializer())

    def run(self, inputs: Any, **_: Any) -> Any:
        """The outputs for inputs in the model's order, or by name."""
        values = self.model.inputs
        if isinstance(inputs, Mapping):
            given: Mapping[str, Any] = inputs
        elif len(_listed(inputs)) == len(values):
            given = dict(zip(values, _listed(inputs), strict=True))
        else:
            given = {}
        if set(given) != set(values):
            raise FeedError(
                f"the model takes {', '.join(values)}; got {', '.join(given) or 'none'}"
            )
        absent = {name for name, x in given.items() if x is None}
        if absent:  # a model of its own
            model, device, settings = self.source
            rest = {name: x for name, x in given.items() if name not in absent}
            return Prepared(model, device, absent, **settings).run(rest)
        feeds = {v: _array(given[name]) for name, v in values.items()}
        results = self.session.run(list(self.model.outputs.values()), feeds)
        names = list(self.model.outputs)
        return namedtupledict("Outputs", names)(*map(_result, results))


def _array(x: Any) -> np.ndarray:
    """An input as an array: the suite gives some as TensorProto."""
    onnx = onnx_package()
    if isinstance(x, onnx.TensorProto):
        return np.asarray(onnx.numpy_helper.to_array(x))
    return np.asarray(x)


def _result(x: Any) -> np.ndarray:
    """An output as ONNX has it: strings as str."""
    if isinstance(x, bytes) or (isinstance(x, np.ndarray) and x.dtype.kind == "O"):
        texts = np.asarray(x, dtype=object)
        flat = [text.decode("utf-8", "replace") for text in texts.ravel().tolist()]
        return np.array(flat, dtype=object).reshape(texts.shape)
    return np.asarray(x)


def _listed(inputs: Any) -> Sequence[Any]:
    return inputs if isinstance(inputs, (list, tuple)) else [inputs]


class GraphcBackend(Backend):
    """graphc as an ONNX backend."""

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> Prepared:
        """The model, ready to run."""
        return Prepared(model, device, **kwargs)

    @classmethod
    def run_model(cls, model: Any, inputs: Any, device: str = "CPU", **kwargs: Any) -> Any:
        """The outputs of a model."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls, node: Any, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> Any:
        """The outputs of one node, as a model of its own."""
        onnx = onnx_package()
        helper = onnx.helper
        arrays = [np.asarray(x) for x in _listed(inputs)]
        names = [n for n in node.input if n]
        ins = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in zip(names, arrays, strict=True)
        ]
        outs = [helper.make_empty_tensor_value_info(n) for n in node.output if n]
        graph = helper.make_graph([node], "node", ins, outs)
        options = {}
        if "opset_version" in kwargs:
            options["opset_imports"] = [
                helper.make_operatorsetid(node.domain, kwargs.pop("opset_version"))
            ]
        model = onnx.shape_inference.infer_shapes(helper.make_model(graph, **options))
        return cls.run_model(model, arrays, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """True for CPU, and for CUDA where the Triton device works."""
        kind = device.partition(":")[0]
        if kind == "CUDA":
            from graphc.ir.errors import DeviceError
            from graphc.runtime.devices import open_device

            try:
                open_device("triton")
            except DeviceError:
                return False
            return True
        return kind == "CPU"


prepare = GraphcBackend.prepare
run_model = GraphcBackend.run_model
run_node = GraphcBackend.run_node
supports_device = GraphcBackend.supports_device

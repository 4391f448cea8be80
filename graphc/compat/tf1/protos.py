"""TensorFlow's protos, of which the package tensorboard has copies; imported when first asked."""

from __future__ import annotations

import importlib
from typing import Any, Final

from graphc.ir.errors import UnsupportedOp

_HOMES: Final = {
    "AttrValue": "attr_value_pb2",
    "Event": "event_pb2",
    "GraphDef": "graph_pb2",
    "HistogramProto": "summary_pb2",
    "MetaGraphDef": "meta_graph_pb2",
    "NodeDef": "node_def_pb2",
    "SessionLog": "event_pb2",
    "Summary": "summary_pb2",
}


def proto(name: str) -> Any:
    """The proto's class; UnsupportedOp when tensorboard is not installed."""
    try:
        module = importlib.import_module(f"tensorboard.compat.proto.{_HOMES[name]}")
    except ImportError as error:
        raise UnsupportedOp(
            f"tf.{name} needs the package tensorboard: pip install graphc[tensorboard]"
        ) from error
    return getattr(module, name)


class LazyProto:
    """A proto's class that is imported when it is first used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def resolve(self) -> Any:
        """The class."""
        return proto(self._name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """A message."""
        return proto(self._name)(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(proto(self._name), name)

    def __repr__(self) -> str:
        return f"<proto {self._name}>"


AttrValue = LazyProto("AttrValue")
Event = LazyProto("Event")
GraphDef = LazyProto("GraphDef")
HistogramProto = LazyProto("HistogramProto")
MetaGraphDef = LazyProto("MetaGraphDef")
NodeDef = LazyProto("NodeDef")
SessionLog = LazyProto("SessionLog")
Summary = LazyProto("Summary")


def make_tensor_proto(values: Any, dtype: Any = None, shape: Any = None) -> Any:
    """A TensorProto of an array, in the shape where one is given."""
    from graphc.compat.tf1.python.framework import tensor_util

    return tensor_util.make_tensor_proto(values, dtype, shape)


def make_ndarray(tensor: Any) -> Any:
    """The array of a TensorProto."""
    from graphc.ir import graphdef

    return graphdef.make_ndarray(tensor)


__all__ = [
    "AttrValue", "Event", "GraphDef", "HistogramProto", "MetaGraphDef", "NodeDef", "SessionLog",
    "Summary", "make_ndarray", "make_tensor_proto",
]  # fmt: skip

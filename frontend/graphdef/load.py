"""GraphDef protos as ops of the current graph.

A node is read by its converter (see `graphc.frontend.graphdef.ops`), or, where graphc wrote it,
by the attributes that it carries as text. Every tensor keeps its name behind the scope, so that
`import/dense/BiasAdd:0` is found in the graph.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from graphc.frontend.graphdef.ops import CONVERTERS
from graphc.frontend.graphdef.registry import Call
from graphc.ir.errors import GraphcError, GraphError, ModelError, UnsupportedOp
from graphc.ir.graph import Graph, Node, Value, convert, get_default_graph
from graphc.ir.graphdef import ATTRIBUTES, attributes_of
from graphc.ir.table import OPS
from graphc.ir.types import UNKNOWN

_STUMBLES = (ValueError, TypeError, LookupError, ArithmeticError, MemoryError)
_LOOPS = ("Enter", "Exit", "Merge", "NextIteration", "Switch", "LoopCond")


def import_graph_def(
    graph_def: Any,
    input_map: Mapping[str, Any] | None = None,
    return_elements: Sequence[str] | None = None,
    name: str | None = None,
    op_dict: Any = None,
    producer_op_list: Any = None,
) -> list[Any] | None:
    """The nodes of a GraphDef in the current graph, under the scope `name` ("import"; "": none).

    `input_map` gives tensors of this graph for those that the file names so; `return_elements`
    names ops ("y") and tensors ("y:0") to give back. UnsupportedOp names what graphc has not,
    ModelError what is not sound.
    """
    del op_dict, producer_op_list
    if not hasattr(graph_def, "node") or not hasattr(graph_def, "library"):
        raise ModelError(f"import_graph_def needs a GraphDef, got {type(graph_def).__name__}")
    graph = get_default_graph()
    with graph.name_scope("import" if name is None else name or None):
        loader = _Loader(graph, graph_def, input_map or {})
        loader.run()
    if return_elements is None:
        return None
    return [loader.element(e) for e in return_elements]


class _Loader:
    """The nodes of one file on their way into a graph."""

    def __init__(self, graph: Graph, graph_def: Any, given: Mapping[str, Any]) -> None:
        self.graph = graph
        self.protos: dict[str, Any] = {}
        for proto in graph_def.node:
            if proto.name in self.protos:
                raise ModelError(f"two nodes of the GraphDef are called {proto.name!r}")
            self.protos[proto.name] = proto
        self.given = {_tensor_name(k): convert(v) for k, v in given.items()}
        self.used: set[str] = set()
        self.outputs: dict[str, Sequence[Value]] = {}
        self.nodes: dict[str, Node] = {}

    def run(self) -> None:
        """All nodes, each after its inputs."""
        for name in _ordered(self.protos):
            self.node(self.protos[name])
        unused = sorted(set(self.given) - self.used)
        if unused:
            raise GraphError(f"input_map names {', '.join(unused)}, which no node reads")

    def node(self, proto: Any) -> None:
        """One node: its outputs, and the op that control inputs mean."""
        inputs = [self.value(n, proto) for n in proto.input if not n.startswith("^")]
        control = [self.nodes[n[1:]] for n in proto.input if n.startswith("^")]
        with _named(proto), self.graph.control_dependencies(control):
            if proto.name[:1] in ("_", "/"):
                raise ModelError("names do not begin so")
            with self.graph.name_scope(proto.name) as scope:
                made = self.made(proto, scope, inputs)
            outputs = [made] if isinstance(made, Value) else list(made or ())
            if outputs and outputs[0].node.name != scope[:-1]:
                outputs[0] = OPS["identity"](outputs[0], name=scope)
        self.outputs[proto.name] = outputs
        self.nodes[proto.name] = self.graph.get_operation_by_name(scope[:-1])

    def made(self, proto: Any, scope: str, inputs: Sequence[Value]) -> Any:
        """What the node becomes, named by the scope."""
        if ATTRIBUTES in proto.attr:
            return _rebuilt(proto, scope, inputs)
        function = CONVERTERS.get(proto.op)
        if function is None:
            raise UnsupportedOp(
                f"TensorFlow op {proto.op}, node {proto.name!r}: "
                + (
                    "loops of frames are not read; export the model without them"
                    if proto.op in _LOOPS
                    else "graphc has no such op"
                )
            )
        return function(Call(proto.op, scope, inputs, proto.attr, proto.name))

    def value(self, name: str, reader: Any) -> Value:
        """The tensor that an input names."""
        full = _tensor_name(name)
        if full in self.given:
            self.used.add(full)
            return self.given[full]
        node, _, index = full.rpartition(":")
        outputs = self.outputs.get(node, ())
        if int(index) >= len(outputs):
            raise ModelError(
                f"node {reader.name!r} ({reader.op}) reads {name!r}, but "
                + (f"that has {len(outputs)} outputs" if node in self.protos else "there is none")
            )
        return outputs[int(index)]

    def element(self, name: str) -> Value | Node:
        """The tensor or op of that name in the file."""
        node, colon, index = name.partition(":")
        if node not in self.protos:
            near = ", ".join(list(self.protos)[-5:])
            raise GraphError(f"the GraphDef has no node {node!r}; it ends with {near}")
        if not colon:
            return self.nodes[node]
        if not index.isdigit() or int(index) >= len(self.outputs[node]):
            raise GraphError(f"{name!r}: node {node!r} has {len(self.outputs[node])} outputs")
        return self.outputs[node][int(index)]


def _tensor_name(name: str) -> str:
    return name if ":" in name else f"{name}:0"


@contextlib.contextmanager
def _named(proto: Any) -> Iterator[None]:
    """Errors inside name op and node, whatever a broken node made of them."""
    text = f"TensorFlow op {proto.op}, node {proto.name!r}"
    try:
        yield
    except GraphcError as error:
        if error.message.startswith("TensorFlow op "):
            raise
        raise type(error)(f"{text}: {error.message}") from None
    except _STUMBLES as error:
        raise ModelError(f"{text}: its inputs or attributes do not fit: {error}") from error


def _rebuilt(proto: Any, scope: str, inputs: Sequence[Value]) -> Sequence[Value]:
    """An op that graphc wrote."""
    name, attrs, count = attributes_of(proto.attr[ATTRIBUTES].s.decode())
    if name != proto.op or count != len(inputs):
        raise ModelError(
            f"it is {proto.op} of {len(inputs)} inputs, but its attributes are of {name} of {count}"
        )
    shape = attrs.get("shape")
    if isinstance(shape, tuple):  # names of sizes are those of another graph
        attrs["shape"] = tuple(UNKNOWN if isinstance(d, str) else d for d in shape)
    return OPS[name].outputs(*inputs, name=scope, **attrs)


def _ordered(protos: Mapping[str, Any]) -> Iterable[str]:
    """The names, each after those that it reads; ModelError for a circle or what is missing."""
    done: dict[str, bool] = {}  # False while what it reads is being visited
    for root in protos:
        stack = [] if root in done else [(root, _reads(protos, root))]
        done.setdefault(root, False)
        while stack:
            name, rest = stack[-1]
            for before in rest:
                if done.get(before) is False:
                    raise _circle(protos, before)
                if before not in done:
                    done[before] = False
                    stack.append((before, _reads(protos, before)))
                    break
            else:
                done[name] = True
                stack.pop()
                yield name


def _reads(protos: Mapping[str, Any], name: str) -> Iterator[str]:
    for text in protos[name].input:
        before = text.lstrip("^").partition(":")[0]
        if before in protos:
            yield before
        elif text.startswith("^"):
            raise ModelError(f"node {name!r} waits for {before!r}, which is not there")


def _circle(protos: Mapping[str, Any], name: str) -> GraphcError:
    loops = [p for p in protos.values() if p.op in _LOOPS]
    if loops:
        return UnsupportedOp(
            f"TensorFlow op {loops[0].op}, node {loops[0].name!r}: loops of frames are not read"
        )
    return ModelError(f"node {name!r} reads what depends on itself")


__all__ = ["import_graph_def"]

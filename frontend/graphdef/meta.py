"""The collections of a MetaGraphDef, put back into a graph whose nodes have been imported."""

from __future__ import annotations

from typing import Any

from graphc.frontend.variables import Variable
from graphc.ir.errors import GraphcError, ModelError
from graphc.ir.graph import Graph
from graphc.ir.graphdef import VARIABLES, proto


def adopt_collections(graph: Graph, meta: Any, scope: str = "") -> list[Variable]:
    """Fill the graph's collections from the file's; gives the variables.

    `scope`, without a slash, is where the nodes were imported. ModelError where a collection names
    what is not there.
    """
    made: dict[str, Variable] = {}
    prefix = f"{scope}/" if scope else ""
    for key, held in meta.collection_def.items():
        try:
            items = _items(graph, key, held, prefix, made)
        except GraphcError as error:
            raise ModelError(f"the collection {key!r} does not fit: {error.message}") from None
        for item in items:
            graph.add_to_collection(key, item)
    return list(made.values())


def _items(graph: Graph, key: str, held: Any, prefix: str, made: dict[str, Variable]) -> list[Any]:
    kind = held.WhichOneof("kind")
    if kind == "bytes_list" and key in VARIABLES:
        return [_variable(graph, data, prefix, made) for data in held.bytes_list.value]
    if kind == "bytes_list":
        return [data.decode(errors="replace") for data in held.bytes_list.value]
    if kind == "node_list":
        return [graph.as_graph_element(prefix + name) for name in held.node_list.value]
    return [] if kind in (None, "any_list") else list(getattr(held, kind).value)


def _variable(graph: Graph, data: bytes, prefix: str, made: dict[str, Variable]) -> Variable:
    """The variable of a VariableDef; one object for all collections that hold it."""
    try:
        said = proto("variable_pb2", "VariableDef").FromString(data)
    except Exception as error:  # protobuf's own class differs from release to release
        raise ModelError(f"a variable's description cannot be read: {error}") from None
    name = prefix + said.variable_name
    if name not in made:
        node = graph.get_operation_by_name(name.removesuffix(":0"))
        initializer = graph.get_operation_by_name(prefix + said.initializer_name)
        made[name] = Variable.adopt(node, initializer, said.trainable)
    return made[name]


__all__ = ["adopt_collections"]

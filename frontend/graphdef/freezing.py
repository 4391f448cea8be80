"""GraphDefs cut down: to what some nodes need, and with constants for variables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from graphc.ir.errors import GraphError
from graphc.ir.graphdef import make_tensor_proto

_VARIABLES: Final = ("Variable", "VariableV2", "VarHandleOp")


def extract_sub_graph(graph_def: Any, dest_nodes: Sequence[str]) -> Any:
    """The GraphDef of the nodes that the named ones need; GraphError where one is not there."""
    if isinstance(dest_nodes, str):
        raise GraphError("extract_sub_graph needs a list of names")
    protos = {n.name: n for n in graph_def.node}
    needed = _reached(protos, dest_nodes)
    result = type(graph_def)()
    result.versions.CopyFrom(graph_def.versions)
    result.library.CopyFrom(graph_def.library)
    result.node.extend(n for n in graph_def.node if n.name in needed)
    return result


def _reached(protos: dict[str, Any], names: Iterable[str]) -> set[str]:
    stack = [n.partition(":")[0] for n in names]
    seen: set[str] = set()
    while stack:
        name = stack.pop()
        if name not in protos:
            raise GraphError(f"the GraphDef has no node {name!r}")
        if name not in seen:
            seen.add(name)
            stack.extend(i.lstrip("^").partition(":")[0] for i in protos[name].input)
    return seen


def convert_variables_to_constants(
    sess: Any,
    input_graph_def: Any,
    output_node_names: Sequence[str],
    variable_names_whitelist: Iterable[str] | None = None,
    variable_names_blacklist: Iterable[str] | None = None,
) -> Any:
    """What the outputs need, with the session's values of variables as constants.

    With a whitelist only these variables become constants; those of the blacklist stay.
    UninitializedError where one has no value.
    """
    result = extract_sub_graph(input_graph_def, output_node_names)
    wanted = None if variable_names_whitelist is None else set(variable_names_whitelist)
    kept = set(variable_names_blacklist or ())
    for proto in result.node:
        chosen = wanted is None or proto.name in wanted
        if proto.op in _VARIABLES and chosen and proto.name not in kept:
            _freeze(proto, sess.read_variable(f"{proto.name}:0"))
        elif proto.op == "ReadVariableOp":
            proto.op = "Identity"
    return result


def _freeze(proto: Any, array: Any) -> None:
    shapes = proto.attr["_output_shapes"]
    name, keeps = proto.name, "_output_shapes" in proto.attr
    held = type(shapes)()
    held.CopyFrom(shapes)
    proto.Clear()
    proto.name, proto.op = name, "Const"
    tensor = make_tensor_proto(array)
    proto.attr["dtype"].type = tensor.dtype
    proto.attr["value"].tensor.CopyFrom(tensor)
    if keeps:
        proto.attr["_output_shapes"].CopyFrom(held)


def remove_training_nodes(input_graph: Any, protected_nodes: Iterable[str] | None = None) -> Any:
    """The GraphDef without nodes that only hand a value on (Identity, CheckNumerics)."""
    protected = set(protected_nodes or ())
    away = {
        n.name: n.input[0] for n in input_graph.node
        if n.op in ("Identity", "CheckNumerics") and len(n.input) == 1
        and n.name not in protected and not n.input[0].startswith("^")
    }  # fmt: skip
    waited = {i[1:] for n in input_graph.node for i in n.input if i.startswith("^")}
    away = {name: source for name, source in away.items() if name not in waited}
    result = type(input_graph)()
    result.CopyFrom(input_graph)
    del result.node[:]
    for node in input_graph.node:
        if node.name not in away:
            kept = result.node.add()
            kept.CopyFrom(node)
            kept.input[:] = [_followed(i, away) for i in node.input]
    return result


def _followed(name: str, away: dict[str, str]) -> str:
    while name.removesuffix(":0") in away:
        name = away[name.removesuffix(":0")]
    return name


__all__ = ["convert_variables_to_constants", "extract_sub_graph", "remove_training_nodes"]

"""Graph IR: nodes, values, the graph a user builds, and how a node comes to be.

`Node` and `Value` are immutable and compared by identity. `Graph` is what users know as
`tf.Graph`: names, scopes, collections. Compiled is not a Graph but a `Computation` (see
`graphc.ir.computation`), which is cut out of it for the fetches of a run.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from graphc.ir.dtypes import DType, as_dtype, bool_
from graphc.ir.dtypes import string as string_
from graphc.ir.errors import (
    DTypeError,
    GraphcError,
    GraphError,
    NameNotFoundError,
    SessionError,
)
from graphc.ir.literal import Literal, as_array
from graphc.ir.location import Location, user_location
from graphc.ir.table import OPS, REQUIRED, Attrs, Op, Types, register
from graphc.ir.table import Kind as Kind
from graphc.ir.types import TensorShape, TensorType, as_shape, merge_shapes

if TYPE_CHECKING:
    from graphc.ir.host import HostAction, HostSource


class Value:
    """One output of a node: a tensor that a run computes.

    Arithmetic operators, comparisons and indexing build ops. `==` compares identity, as in
    TensorFlow 1; the elementwise comparison is `equal`.
    """

    __slots__ = ("index", "node", "type")
    __array_priority__ = 100  # NumPy arrays leave `array + value` to us

    def __init__(self, node: Node, index: int, type_: TensorType) -> None:
        self.node = node
        self.index = index
        self.type = type_

    @property
    def name(self) -> str:
        """`<op name>:<output index>`."""
        return f"{self.node.name}:{self.index}"

    @property
    def op(self) -> Node:
        """The node that makes it."""
        return self.node

    @property
    def graph(self) -> Graph:
        """The graph in which it was built."""
        assert self.node.graph is not None, "a compiler's value belongs to no user graph"
        return self.node.graph

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self.type.dtype

    @property
    def shape(self) -> TensorShape | None:
        """The shape with None for unknown dims; None when even the rank is unknown."""
        dims = self.type.shape
        return None if dims is None else TensorShape(d if type(d) is int else None for d in dims)

    def get_shape(self) -> TensorShape | None:
        """The shape, as TensorFlow 1 spells it."""
        return self.shape

    def set_shape(self, shape: Any) -> None:
        """Say what is known of the shape besides; ShapeError where it cannot be.

        What the host computes is held to it in every run.
        """
        given = as_shape(shape, self.node.name)
        merged = merge_shapes(self.type.shape, given, f"set_shape of tensor {self.name!r}")
        self.type = self.type.with_shape(merged)
        if self.node.op.name == "placeholder":
            self.node.attrs = {**self.node.attrs, "shape": merged}

    def eval(self, feed_dict: Any = None, session: Any = None) -> Any:
        """The value in the given or the default session."""
        return (session or default_session()).run(self, feed_dict)

    def __repr__(self) -> str:
        return f"<tensor {self.name!r} {self.type}>"

    def __bool__(self) -> bool:
        raise DTypeError(
            f"tensor {self.name!r} has no truth value while the graph is built; "
            "use where() or cond(), or run it in a session first"
        )

    def __iter__(self) -> Iterator[Value]:
        dims = self.type.shape
        if not dims or not isinstance(dims[0], int):
            raise DTypeError(f"tensor {self.name!r} of type {self.type} cannot be iterated over")
        return (self[i] for i in range(dims[0]))

    def __len__(self) -> int:
        dims = self.type.shape
        if not dims or not isinstance(dims[0], int):
            raise DTypeError(f"tensor {self.name!r} of type {self.type} has no length")
        return dims[0]

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise DTypeError(f"tensor {self.name!r} has no value yet: run it in a session")

    def __add__(self, other: Any) -> Value:
        return OPS["string_join" if self.type.dtype is string_ else "add"](self, other)

    def __radd__(self, other: Any) -> Value:
        return OPS["string_join" if self.type.dtype is string_ else "add"](other, self)

    def __sub__(self, other: Any) -> Value:
        return OPS["subtract"](self, other)

    def __rsub__(self, other: Any) -> Value:
        return OPS["subtract"](other, self)

    def __mul__(self, other: Any) -> Value:
        return OPS["multiply"](self, other)

    def __rmul__(self, other: Any) -> Value:
        return OPS["multiply"](other, self)

    def __truediv__(self, other: Any) -> Value:
        return _by_dtype("truediv", self, other)

    def __rtruediv__(self, other: Any) -> Value:
        return _by_dtype("truediv", other, self)

    def __floordiv__(self, other: Any) -> Value:
        return OPS["floordiv"](self, other)

    def __rfloordiv__(self, other: Any) -> Value:
        return OPS["floordiv"](other, self)

    def __mod__(self, other: Any) -> Value:
        return OPS["floormod"](self, other)

    def __rmod__(self, other: Any) -> Value:
        return OPS["floormod"](other, self)

    def __pow__(self, other: Any) -> Value:
        return _by_dtype("pow", self, other)

    def __rpow__(self, other: Any) -> Value:
        return _by_dtype("pow", other, self)

    def __matmul__(self, other: Any) -> Value:
        return OPS["matmul"](self, other)

    def __rmatmul__(self, other: Any) -> Value:
        return OPS["matmul"](other, self)

    def __neg__(self) -> Value:
        return OPS["negative"](self)

    def __abs__(self) -> Value:
        return OPS["abs"](self)

    def __lt__(self, other: Any) -> Value:
        return OPS["less"](self, other)

    def __le__(self, other: Any) -> Value:
        return OPS["less_equal"](self, other)

    def __gt__(self, other: Any) -> Value:
        return OPS["greater"](self, other)

    def __ge__(self, other: Any) -> Value:
        return OPS["greater_equal"](self, other)

    def __invert__(self) -> Value:
        return _by_dtype("not", self)

    def __and__(self, other: Any) -> Value:
        return _by_dtype("and", self, other)

    def __rand__(self, other: Any) -> Value:
        return _by_dtype("and", other, self)

    def __or__(self, other: Any) -> Value:
        return _by_dtype("or", self, other)

    def __ror__(self, other: Any) -> Value:
        return _by_dtype("or", other, self)

    def __xor__(self, other: Any) -> Value:
        return _by_dtype("xor", self, other)

    def __rxor__(self, other: Any) -> Value:
        return _by_dtype("xor", other, self)

    def __lshift__(self, other: Any) -> Value:
        return OPS["left_shift"](self, other)

    def __rlshift__(self, other: Any) -> Value:
        return OPS["left_shift"](other, self)

    def __rshift__(self, other: Any) -> Value:
        return OPS["right_shift"](self, other)

    def __rrshift__(self, other: Any) -> Value:
        return OPS["right_shift"](other, self)

    def __getitem__(self, key: Any) -> Value:
        from graphc.ir.ops.slicing import getitem

        return getitem(self, key)


def _by_dtype(which: str, *inputs: Any) -> Value:
    """An operator whose op depends on the dtype."""
    from graphc.ir.ops.operators import by_dtype  # built on this module

    return by_dtype(which, *inputs)


_serials = itertools.count()


def next_serial() -> int:
    """A number above those of all nodes made so far, and below those made from now on."""
    return next(_serials)


class Node:
    """One op applied to values. Immutable; equal only to itself.

    `where` is the user's line, `origin` the names of the user's ops from which a pass made this
    node, `control` the nodes that must run before it (user graphs only).
    """

    __slots__ = (
        "attrs", "control", "graph", "inputs", "name", "op", "origin", "outputs", "serial", "where",
    )  # fmt: skip

    def __init__(
        self,
        op: Op,
        inputs: tuple[Value, ...],
        attrs: Attrs,
        types: Types,
        name: str,
        where: Location | None = None,
        origin: tuple[str, ...] = (),
        control: tuple[Node, ...] = (),
        graph: Graph | None = None,
    ) -> None:
        self.op = op
        self.inputs = inputs
        self.attrs = attrs
        self.name = name
        self.where = where
        self.origin = origin or (name,)
        self.control = control
        self.graph = graph
        self.serial = next(_serials)  # inputs are older than their readers
        self.outputs = tuple([Value(self, i, t) for i, t in enumerate(types)])

    @property
    def kind(self) -> Kind:
        """The op's kind."""
        return self.op.kind

    @property
    def type(self) -> str:
        """The op's name, as TensorFlow spells it on operations."""
        return self.op.name

    @property
    def types(self) -> Types:
        """The outputs' types."""
        return tuple([v.type for v in self.outputs])

    @property
    def control_inputs(self) -> tuple[Node, ...]:
        """The nodes that must run before this one."""
        return self.control

    def run(self, feed_dict: Any = None, session: Any = None) -> None:
        """Run the node in the given or the default session."""
        (session or default_session()).run(self, feed_dict)

    def __repr__(self) -> str:
        return f"<op {self.name!r} {self.op.name}>"


class Runner(Protocol):
    """What a default session is to the graph: something that runs fetches."""

    def run(self, fetches: Any, feed_dict: Any = None) -> Any:
        """The fetches' values."""


class _Context(threading.local):
    """Per thread: the graphs and sessions entered with `with`, and the pass at work."""

    def __init__(self) -> None:
        self.graphs: list[Graph] = []
        self.sessions: list[Runner] = []
        self.detached: list[Node | None] = []


_context = _Context()


def default_session() -> Runner:
    """The session entered last in this thread; SessionError when there is none."""
    if not _context.sessions:
        raise SessionError(
            "there is no default session: use `with Session():`, an InteractiveSession, "
            "or pass session="
        )
    return _context.sessions[-1]


def session_stack() -> list[Runner]:
    """The sessions entered in this thread, innermost last; sessions push and pop themselves."""
    return _context.sessions


@dataclass(frozen=True)
class Trial:
    """Nodes that may yet be taken back; see Graph.trial."""

    graph: Graph
    first: int

    def undo(self) -> None:
        """Take back what was made."""
        self.graph.forget_since(self.first)


class Graph:
    """What a user builds: an append-only list of named nodes with scopes and collections."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._name_counts: dict[str, int] = {}
        self._scope = threading.local()
        self._lock = threading.RLock()
        self._finalized = False
        self.collections: dict[str, list[Any]] = {}
        self.seed = 0
        # nodes that the host supplies or acts for, around a run: see graphc.ir.host
        self.host_sources: dict[Node, HostSource] = {}
        self.host_actions: dict[Node, HostAction] = {}
        self.iterators: dict[bytes, Any] = {}  # by the string that a run feeds to name one

    # -- names and scopes

    @property
    def scope(self) -> str:
        """The current name scope, without a slash at its end."""
        return getattr(self._scope, "name", "")

    def unique_name(self, name: str, mark: bool = True) -> str:
        """`name` inside the scope, with `_1`, `_2`, ... when it is taken."""
        full = f"{self.scope}/{name}" if self.scope else name
        with self._lock:
            return self._unique(full, mark)

    def _unique(self, full: str, mark: bool) -> str:
        key = full.lower()  # names that differ only in case share a count, as in TensorFlow
        count = self._name_counts.get(key, 0)
        unique = full
        while unique.lower() in self._name_counts:
            unique, count = (f"{full}_{count}" if count else full), count + 1
        if mark:
            self._name_counts[key] = max(count, 1)
            self._name_counts.setdefault(unique.lower(), 1)
        return unique

    @contextlib.contextmanager
    def name_scope(self, name: str | None) -> Iterator[str]:
        """Names made inside begin with `name/`; a name ending in "/" is taken as it is."""
        if name and not re.fullmatch(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*", name):
            raise GraphError(f"{name!r} is not a valid scope name")
        old = self.scope
        new = "" if not name else name[:-1] if name.endswith("/") else self.unique_name(name)
        self._scope.name = new
        try:
            yield new + "/" if new else ""
        finally:
            self._scope.name = old

    @contextlib.contextmanager
    def absolute_scope(self) -> Iterator[None]:
        """Names made inside are taken as they are, outside every scope."""
        old = self.scope
        self._scope.name = ""
        try:
            yield
        finally:
            self._scope.name = old

    @contextlib.contextmanager
    def control_dependencies(self, inputs: Iterable[Any] | None) -> Iterator[None]:
        """Nodes made inside run after the given ones; None clears the outer dependencies.

        A variable that one of them assigns is read with its assigned value inside.
        """
        old = self.control
        nodes = tuple(as_node(x) for x in inputs or ())
        self._scope.control = () if inputs is None else old + nodes
        try:
            yield
        finally:
            self._scope.control = old

    @property
    def control(self) -> tuple[Node, ...]:
        """The control inputs that a node made now gets."""
        return getattr(self._scope, "control", ())

    # -- nodes

    def create(
        self, op: Op, inputs: tuple[Value, ...], attrs: Attrs, types: Types, name: str | None
    ) -> Node:
        """Append a node; its name is made unique."""
        if self._finalized:
            raise GraphError(f"the graph is finalized; no op {name or op.name!r} can be added")
        if name is not None and not re.fullmatch(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*", name):
            raise GraphError(f"{name!r} is not a valid op name (letters, digits and ._/>-)")
        for value in inputs:
            if value.node.graph is not self:
                raise GraphError(
                    f"op {name or op.name!r} mixes graphs: {value!r} belongs to another graph; "
                    "build it inside that graph's as_default()"
                )
        with self._lock:
            full = name[:-1] if name and name.endswith("/") else self.unique_name(name or op.name)
            node = Node(op, inputs, attrs, types, full, user_location(), (), self.control, self)
            self._nodes[full] = node
        return node

    @contextlib.contextmanager
    def trial(self) -> Iterator[Trial]:
        """Nodes made inside can be taken back, as long as nothing else reads them."""
        yield Trial(self, next_serial())

    def forget_since(self, serial: int) -> None:
        """Take back the nodes made since."""
        with self._lock:
            self._nodes = {k: n for k, n in self._nodes.items() if n.serial < serial}

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, in the order in which they were built."""
        return tuple(self._nodes.values())

    def get_operations(self) -> list[Node]:
        """All nodes, as TensorFlow spells it."""
        return list(self._nodes.values())

    def has_node(self, name: str) -> bool:
        """True when a node has the name."""
        return name in self._nodes

    def get_operation_by_name(self, name: str) -> Node:
        """The node of that name; NameNotFoundError with near names when there is none."""
        node = self._nodes.get(name)
        if node is None:
            raise NameNotFoundError(f"the graph has no op {name!r}{_did_you_mean(name, self)}")
        return node

    def get_tensor_by_name(self, name: str) -> Value:
        """The value called `<op>:<index>`."""
        op_name, colon, index = name.partition(":")
        if not colon or not index.isdigit():
            raise NameNotFoundError(f"{name!r} is no tensor name; tensor names are like 'op:0'")
        node = self.get_operation_by_name(op_name)
        if int(index) >= len(node.outputs):
            raise NameNotFoundError(f"op {op_name!r} has {len(node.outputs)} outputs, not {name!r}")
        return node.outputs[int(index)]

    def as_graph_element(self, name: str) -> Node | Value:
        """The node or value of that name."""
        return self.get_tensor_by_name(name) if ":" in name else self.get_operation_by_name(name)

    # -- collections, default graph, state

    def add_to_collection(self, name: str, value: Any) -> None:
        """Append to the collection of that name."""
        self.collections.setdefault(name, []).append(value)

    def get_collection(self, name: str, scope: str | None = None) -> list[Any]:
        """A copy of the collection, only of items whose name begins with `scope` if given."""
        items = list(self.collections.get(name, ()))
        return [i for i in items if i.name.startswith(scope)] if scope else items

    def get_collection_ref(self, name: str) -> list[Any]:
        """The collection itself."""
        return self.collections.setdefault(name, [])

    def finalize(self) -> None:
        """Allow no more nodes."""
        self._finalized = True

    @property
    def finalized(self) -> bool:
        """True when no more nodes are allowed."""
        return self._finalized

    @contextlib.contextmanager
    def as_default(self) -> Iterator[Graph]:
        """Build into this graph inside the block, in this thread."""
        _context.graphs.append(self)
        try:
            yield self
        finally:
            _context.graphs.remove(self)

    def as_graph_def(self, from_version: Any = None, add_shapes: bool = False) -> Any:
        """The graph as TensorFlow's GraphDef proto, which import_graph_def reads."""
        from graphc.ir.graphdef import as_graph_def  # built on this module

        return as_graph_def(self)

    def to_networkx(self) -> Any:
        """A networkx MultiDiGraph of the node names, for analysis and drawing."""
        import networkx as nx

        result = nx.MultiDiGraph()
        for node in self._nodes.values():
            result.add_node(node.name, op=node.op.name, kind=node.kind.value)
        for node in self._nodes.values():
            for position, value in enumerate(node.inputs):
                result.add_edge(
                    value.node.name, node.name, output=value.index, input=position,
                    type=str(value.type),
                )  # fmt: skip
            for before in node.control:
                result.add_edge(before.name, node.name, control=True)
        return result


def _did_you_mean(name: str, graph: Graph) -> str:
    import difflib

    near = difflib.get_close_matches(name, [n.name for n in graph.nodes], 3)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


_global_graph = [Graph()]  # the default graph of all threads: the one mutable global besides OPS


def get_default_graph() -> Graph:
    """The graph entered last in this thread, else the global one."""
    return _context.graphs[-1] if _context.graphs else _global_graph[0]


def reset_default_graph() -> None:
    """Put an empty graph in the place of the global one."""
    if _context.graphs:
        raise GraphError("reset_default_graph() inside a graph's as_default() block")
    _global_graph[0] = Graph()


class detached:
    """Inside `with detached(origin)`, nodes belong to no graph; they take name, line and origin
    from `origin`, or from the one that `turn` names later."""

    __slots__ = ("_origin", "_stack")

    def __init__(self, origin: Node | None = None) -> None:
        self._origin = origin

    def __enter__(self) -> detached:
        self._stack = _context.detached
        self._stack.append(self._origin)
        return self

    def turn(self, origin: Node) -> None:
        """From now on nodes take theirs from this one."""
        self._stack[-1] = origin

    def __exit__(self, *_: object) -> None:
        self._stack.pop()


def apply(op: Op, inputs: Sequence[Any], attrs: Attrs, name: str | None = None) -> Node:
    """A node of `op`, in the current graph or, inside a pass, detached.

    Inputs that are no values are converted, with the dtype of those that are (a condition's
    only where there is no other). Errors of the type rule gain the op's name and the user's line.
    """
    values = tuple(inputs) if all([type(x) is Value for x in inputs]) else _converted(inputs)
    try:
        if any([v.type.dtype is string_ for v in values]) and not op.takes_strings:
            raise DTypeError(
                f"{op.name} computes with numbers and takes no strings; ops on strings are those "
                "of graphc.strings, movements, where, equal and not_equal"
            )
        complete = op.complete_attrs(attrs)
        types = op.type_rule(tuple([v.type for v in values]), complete)
    except GraphcError as error:
        raise type(error)(_explain(error, op, values, name)) from None
    types = (types,) if isinstance(types, TensorType) else types
    origin = _context.detached[-1] if _context.detached else None
    if origin is not None:
        # the last op of a decomposition keeps the name: its reader knows it from the program
        return Node(op, values, complete, types, name or origin.name, origin.where, origin.origin)
    return get_default_graph().create(op, values, complete, types, name)


def _converted(inputs: Sequence[Any]) -> tuple[Value, ...]:
    """Values; what is none takes the dtype of those that are."""
    known = [x.type.dtype for x in map(_as_known, inputs) if x is not None]
    like = next((d for d in known if d is not bool_), known[0] if known else None)
    return tuple(convert(x, like=like) for x in inputs)


def _explain(error: GraphcError, op: Op, values: Sequence[Value], name: str | None) -> str:
    inputs = ", ".join(f"{v.node.name}: {v.type}" for v in values)
    origin = _context.detached[-1] if _context.detached else None
    where = user_location() if origin is None else origin.where
    at = f", {where}" if where else ""
    return f"{error.message} (op {name or op.name!r} on {inputs or 'no inputs'}{at})"


def _as_known(x: Any) -> Value | None:
    if isinstance(x, Value):
        return x
    to_value = getattr(x, "__graphc_value__", None)
    return to_value() if to_value is not None else None


def convert(x: Any, dtype: Any = None, like: DType | None = None, name: str | None = None) -> Value:
    """`x` as a value: itself, a variable's reading, or a constant.

    A Python number or an array takes `dtype`, else the dtype `like` where it can be held
    without changing its category (3 becomes 3.0, but 3.5 never 3), else TensorFlow's default:
    float32 for Python floats, int32 for Python ints, an array's own dtype.
    """
    known = _as_known(x)
    if known is not None:
        if dtype is not None and known.dtype is not as_dtype(dtype):
            raise DTypeError(f"{known!r} was given where {as_dtype(dtype)} is needed; use cast()")
        return known
    if isinstance(x, (list, tuple)) and _contains_value(x):
        return OPS["stack"](*(convert(item, dtype, like) for item in x), name=name)
    array = as_array(x, dtype, like)
    node = apply(CONSTANT, (), {"value": Literal(array)}, name)
    return node.outputs[0]


def _contains_value(x: Any) -> bool:
    if isinstance(x, (list, tuple)):
        return any(_contains_value(item) for item in x)
    return _as_known(x) is not None


def as_node(x: Any) -> Node:
    """The node behind a value, a variable, or a node itself."""
    if isinstance(x, Node):
        return x
    known = _as_known(x)
    if known is None:
        operation = getattr(x, "op", None)
        if isinstance(operation, Node):
            return operation
        raise DTypeError(f"{x!r} is no op, tensor or variable")
    return known.node


def _constant_type(_: Types, attrs: Attrs) -> TensorType:
    array = attrs["value"].array
    return TensorType(as_dtype(array.dtype), array.shape)


CONSTANT: Final = register(
    Op(
        "constant",
        Kind.SOURCE,
        _constant_type,
        numpy=lambda attrs: attrs["value"].array,
        attrs={"value": REQUIRED},
        doc="An array known while the graph is built.",
    )
)


def constant(value: Any, dtype: Any = None, name: str | None = None) -> Value:
    """A constant of the array; Python floats are float32 and ints int32 unless dtype says."""
    return convert(value, dtype=dtype, name=name)


__all__ = [
    "CONSTANT", "Graph", "Node", "Runner", "Value", "apply", "as_node", "constant", "convert",
    "default_session", "detached", "get_default_graph", "next_serial", "reset_default_graph",
    "session_stack",
]  # fmt: skip

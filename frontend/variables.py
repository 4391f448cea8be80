"""Variables: values that a session keeps between runs, and the ops that change them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from graphc.frontend.arguments import as_value
from graphc.frontend.framework import GraphKeys, add_to_collections, group, name_scope
from graphc.frontend.state import state_of
from graphc.ir.dtypes import DType
from graphc.ir.errors import GraphError, ShapeError
from graphc.ir.graph import Graph, Node, Value, convert, default_session, get_default_graph
from graphc.ir.table import OPS
from graphc.ir.types import Shape, TensorShape, as_shape, merge_shapes

# To a type checker a variable is a tensor: it goes wherever one goes, with all operators.
if TYPE_CHECKING:
    _Readable = Value
else:
    _Readable = object


class Variable(_Readable):
    """A value that a session keeps between runs.

    `initial_value` is a tensor, anything convertible to one, or a function that gives it; its
    shape must be known. `name` is made unique. Used as a tensor, a variable is read: as it was
    when the run began, or, inside `control_dependencies([v.assign(...)])`, as assigned there.
    """

    __array_priority__ = 100

    def __init__(
        self,
        initial_value: Any = None,
        trainable: bool | None = True,
        collections: Iterable[str] | None = None,
        validate_shape: bool = True,
        caching_device: Any = None,
        name: str | None = None,
        variable_def: Any = None,
        dtype: Any = None,
        expected_shape: Any = None,
        import_scope: Any = None,
        constraint: Callable[[Value], Value] | None = None,
    ) -> None:
        del caching_device, import_scope
        if variable_def is not None:
            raise GraphError("variables are not made from a variable_def; give an initial_value")
        if initial_value is None:
            raise GraphError("a variable needs an initial_value")
        graph = get_default_graph()
        self.trainable: Final = trainable is None or trainable
        self.constraint: Final = constraint
        with graph.control_dependencies(None), name_scope(name, "Variable") as scope:
            self.initial_value: Final = _initial(initial_value, dtype)
            type_ = self.initial_value.type
            shape = _checked_shape(type_.shape, expected_shape, validate_shape, scope[:-1])
            self.node = OPS["variable"].node(dtype=type_.dtype, shape=shape, name=scope)
            self.initializer: Final = OPS["assign"].node(
                self.node.outputs[0], self.initial_value, name="Assign"
            )
        self._aliases: list[Value] = [self.node.outputs[0], self.initializer.outputs[0]]
        keys = [GraphKeys.GLOBAL_VARIABLES] if collections is None else list(collections)
        if self.trainable and GraphKeys.TRAINABLE_VARIABLES not in keys:
            keys.append(GraphKeys.TRAINABLE_VARIABLES)
        add_to_collections(keys, self)

    @classmethod
    def adopt(cls, node: Node, initializer: Node, trainable: bool) -> Variable:
        """The object of a variable whose nodes are in a graph already; in no collection yet."""
        if node.op.name != "variable" or initializer.op.name != "assign":
            raise GraphError(f"{node!r} and {initializer!r} are no variable and its initializer")
        made = object.__new__(cls)
        given = {
            "trainable": trainable, "constraint": None, "initializer": initializer,
            "initial_value": initializer.inputs[1],
        }  # fmt: skip
        made.__dict__.update(given)
        made.node = node
        made._aliases = [node.outputs[0], initializer.outputs[0]]
        return made

    # -- what it is

    @property
    def name(self) -> str:
        """`<op name>:0`."""
        return f"{self.node.name}:0"

    @property
    def op(self) -> Node:
        """The node of op `variable`."""
        return self.node

    @property
    def graph(self) -> Graph:
        """The graph in which it was made."""
        assert self.node.graph is not None, "variables are made in a user's graph"
        return self.node.graph

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self.node.types[0].dtype

    @property
    def shape(self) -> TensorShape:
        """The shape: always known."""
        return TensorShape(self.node.types[0].static_shape)

    def get_shape(self) -> TensorShape:
        """The shape, as TensorFlow 1 spells it."""
        return self.shape

    @property
    def device(self) -> str:
        """Empty: a session has one device."""
        return ""

    @property
    def aliases(self) -> tuple[Value, ...]:
        """All values that are readings of it: the one at a run's start, and those assigned."""
        return tuple(self._aliases)

    def __repr__(self) -> str:
        return f"<variable {self.name!r} {self.node.types[0]}>"

    # -- reading

    def __graphc_value__(self) -> Value:
        graph = self.graph
        control = graph.control
        start = self.node.outputs[0]
        return state_of(graph).assigned(control).get(self.node, start) if control else start

    def value(self) -> Value:
        """The reading that an op made here gets."""
        return self.__graphc_value__()

    def read_value(self) -> Value:
        """The same reading as an op of its own, which waits for the control inputs."""
        return OPS["identity"](self.value(), name=f"{self.node.name.rpartition('/')[2]}_read")

    def initialized_value(self) -> Value:
        """The initial value, for variables that begin as this one does."""
        return self.initial_value

    def eval(self, session: Any = None, feed_dict: Any = None) -> Any:  # type: ignore[override]
        """The present value in the given or the default session."""
        return (session or default_session()).run(self.node.outputs[0], feed_dict)

    def load(self, value: Any, session: Any = None) -> None:
        """Set the value in the given or the default session, without an op."""
        runner: Any = session or default_session()
        runner.write_variables({self.node.outputs[0]: value})

    # -- changing

    def assign(
        self,
        value: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Value:
        """An op that sets the variable; its output is the new value."""
        del use_locking, read_value
        return self._update("assign", value, name)

    def assign_add(
        self,
        delta: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Value:
        """An op that adds to the variable; its output is the new value."""
        del use_locking, read_value
        return self._update("assign_add", delta, name)

    def assign_sub(
        self,
        delta: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> Value:
        """An op that subtracts from the variable; its output is the new value."""
        del use_locking, read_value
        return self._update("assign_sub", delta, name)

    def _update(self, op: str, value: Any, name: str | None) -> Value:
        result = OPS[op](self.node.outputs[0], as_value(value, self.dtype), name=name)
        self._aliases.append(result)
        return result


# Operators, indexing and iteration of a tensor, on the variable's reading.
_OPERATORS: Final = (
    *(f"__{side}{name}__" for side in ("", "r") for name in (
        "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor",
        "lshift", "rshift",
    )),
    "__neg__", "__abs__", "__invert__", "__lt__", "__le__", "__gt__", "__ge__",
    "__getitem__", "__iter__", "__len__", "__bool__", "__array__",
)  # fmt: skip


def _on_reading(operator: str) -> Callable[..., Any]:
    def method(self: Variable, *args: Any) -> Any:
        return getattr(self.__graphc_value__(), operator)(*args)

    method.__name__ = operator
    return method


for _operator in _OPERATORS:
    setattr(Variable, _operator, _on_reading(_operator))


def _initial(initial_value: Any, dtype: Any) -> Value:
    given = initial_value() if callable(initial_value) else initial_value
    return convert(given, dtype=dtype, name=None if _known(given) else "initial_value")


def _known(x: Any) -> bool:
    return isinstance(x, (Value, Variable))


def _checked_shape(shape: Shape | None, expected: Any, validate: bool, name: str) -> Shape:
    wanted = as_shape(expected)
    if validate or wanted is None:
        merged = merge_shapes(shape, wanted, f"initial value of variable {name!r}")
    else:
        merged = wanted
    if merged is None or any(isinstance(d, str) for d in merged):
        raise ShapeError(
            f"the initial value of variable {name!r} has the unknown shape {merged or '[*]'}; "
            "a variable keeps one shape, so it must be known"
        )
    return merged


def assign(
    ref: Any,
    value: Any,
    validate_shape: bool = True,
    use_locking: bool = True,
    name: str | None = None,
) -> Value:
    """An op that sets the variable `ref`."""
    del validate_shape, use_locking
    return _variable(ref).assign(value, name=name)


def assign_add(ref: Any, value: Any, use_locking: bool = False, name: str | None = None) -> Value:
    """An op that adds to the variable `ref`."""
    del use_locking
    return _variable(ref).assign_add(value, name=name)


def assign_sub(ref: Any, value: Any, use_locking: bool = False, name: str | None = None) -> Value:
    """An op that subtracts from the variable `ref`."""
    del use_locking
    return _variable(ref).assign_sub(value, name=name)


def _variable(ref: Any) -> Variable:
    if not isinstance(ref, Variable):
        raise GraphError(f"only a Variable can be assigned, got {ref!r}")
    return ref


# -- the variables of a graph


def global_variables(scope: str | None = None) -> list[Variable]:
    """The variables of the default graph, in the order of their making."""
    return get_default_graph().get_collection(GraphKeys.GLOBAL_VARIABLES, scope)


def local_variables(scope: str | None = None) -> list[Variable]:
    """Variables that are no part of the model, such as counters of metrics."""
    return get_default_graph().get_collection(GraphKeys.LOCAL_VARIABLES, scope)


def model_variables(scope: str | None = None) -> list[Variable]:
    """Variables that somebody put into the collection of model variables."""
    return get_default_graph().get_collection(GraphKeys.MODEL_VARIABLES, scope)


def trainable_variables(scope: str | None = None) -> list[Variable]:
    """The variables that optimizers change unless told otherwise."""
    return get_default_graph().get_collection(GraphKeys.TRAINABLE_VARIABLES, scope)


def moving_average_variables(scope: str | None = None) -> list[Variable]:
    """The variables of which an ExponentialMovingAverage keeps an average."""
    return get_default_graph().get_collection(GraphKeys.MOVING_AVERAGE_VARIABLES, scope)


def variables_initializer(var_list: Iterable[Variable], name: str = "init") -> Node:
    """An op that gives each variable its initial value."""
    return group([v.initializer for v in var_list], name=name)


def global_variables_initializer() -> Node:
    """An op that gives every global variable its initial value."""
    return variables_initializer(global_variables())


def local_variables_initializer() -> Node:
    """An op that gives every local variable its initial value."""
    return variables_initializer(local_variables(), name="init_local")

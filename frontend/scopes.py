"""Variable scopes: get_variable makes a variable once and finds it again by its name."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from graphc.frontend.arguments import is_tensor
from graphc.frontend.framework import GraphKeys, add_to_collection
from graphc.frontend.initializers import default_initializer
from graphc.frontend.state import FrontendState, state_of
from graphc.frontend.variables import Variable
from graphc.ir.dtypes import DType, as_dtype, float32
from graphc.ir.errors import DTypeError, GraphError, ShapeError
from graphc.ir.graph import Value, convert, get_default_graph
from graphc.ir.types import as_shape, format_shape, may_equal


class _AutoReuse:
    def __repr__(self) -> str:
        return "AUTO_REUSE"


AUTO_REUSE: Final = _AutoReuse()


class VariableScope:
    """The prefix, the rule of reuse and the defaults that get_variable finds around it."""

    def __init__(
        self,
        reuse: Any = False,
        name: str = "",
        initializer: Any = None,
        regularizer: Any = None,
        dtype: Any = float32,
        original_name_scope: str = "",
        custom_getter: Any = None,
    ) -> None:
        self.name = name
        self.reuse = reuse
        self.initializer = initializer
        self.regularizer = regularizer
        self.dtype: DType = as_dtype(dtype)
        self.original_name_scope = original_name_scope
        self.custom_getter = custom_getter

    def reuse_variables(self) -> None:
        """From here on, get_variable finds variables and makes none."""
        self.reuse = True

    def set_initializer(self, initializer: Any) -> None:
        """The initializer of variables that name none."""
        self.initializer = initializer

    def set_regularizer(self, regularizer: Any) -> None:
        """The regularizer of variables that name none."""
        self.regularizer = regularizer

    def get_variable(self, name: str, *args: Any, **kwargs: Any) -> Variable:
        """get_variable as it works inside this scope."""
        with _entered(self):
            return get_variable(name, *args, **kwargs)

    def get_collection(self, name: str) -> list[Any]:
        """What a collection holds of this scope."""
        return get_default_graph().get_collection(name, self.name + "/" if self.name else None)

    def trainable_variables(self) -> list[Variable]:
        """The trainable variables of this scope."""
        return self.get_collection(GraphKeys.TRAINABLE_VARIABLES)

    def global_variables(self) -> list[Variable]:
        """The global variables of this scope."""
        return self.get_collection(GraphKeys.GLOBAL_VARIABLES)

    def __repr__(self) -> str:
        return f"<variable scope {self.name!r} reuse={self.reuse}>"


def _state() -> FrontendState:
    return state_of(get_default_graph())


def get_variable_scope() -> VariableScope:
    """The scope around; the root scope of the graph outside any."""
    thread = _state().thread
    if not hasattr(thread, "scope"):
        thread.scope = VariableScope()
    scope: VariableScope = thread.scope
    return scope


@contextlib.contextmanager
def _entered(scope: VariableScope) -> Iterator[VariableScope]:
    thread, old = _state().thread, get_variable_scope()
    thread.scope = scope
    try:
        yield scope
    finally:
        thread.scope = old


def _unique_scope_name(default_name: str, outer: str) -> str:
    """`default_name`, with _1, _2, ... where the outer scope was given it before."""
    counts = _state().scope_counts
    full = f"{outer}/{default_name}" if outer else default_name
    if counts.get(full, 0) == 0:
        return default_name
    number = 1
    while counts.get(f"{full}_{number}", 0) > 0:
        number += 1
    return f"{default_name}_{number}"


@contextlib.contextmanager
def variable_scope(
    name_or_scope: str | VariableScope | None,
    default_name: str | None = None,
    values: Any = None,
    initializer: Any = None,
    regularizer: Any = None,
    caching_device: Any = None,
    partitioner: Any = None,
    custom_getter: Any = None,
    reuse: Any = None,
    dtype: Any = None,
    use_resource: Any = None,
    constraint: Any = None,
    auxiliary_name_scope: bool = True,
) -> Iterator[VariableScope]:
    """Variables that get_variable makes inside are called `name/...`, ops as well.

    `default_name` is made unique and used when the name is None. `reuse`: True finds variables
    only, AUTO_REUSE makes what is missing, None or False inherits. A scope object given instead of
    a name is entered again, wherever it is. What is not given is inherited.
    """
    del values, caching_device, partitioner, use_resource, constraint
    outer = get_variable_scope()
    base = name_or_scope if isinstance(name_or_scope, VariableScope) else outer
    own = _scope_name(name_or_scope, default_name, outer)
    full = own if base is not outer else f"{outer.name}/{own}" if outer.name else own
    if reuse not in (None, False, True) and reuse is not AUTO_REUSE:
        raise GraphError(f"reuse is True, False, None or AUTO_REUSE, got {reuse!r}")
    label = own.rpartition("/")[2] if base is not outer else own
    with contextlib.ExitStack() as stack:
        prefix = full + "/"
        if auxiliary_name_scope and label:
            prefix = stack.enter_context(get_default_graph().name_scope(label))
        scope = VariableScope(
            reuse=reuse or base.reuse or outer.reuse,
            name=full,
            initializer=base.initializer if initializer is None else initializer,
            regularizer=base.regularizer if regularizer is None else regularizer,
            dtype=base.dtype if dtype is None else dtype,
            original_name_scope=base.original_name_scope if base is not outer else prefix,
            custom_getter=base.custom_getter if custom_getter is None else custom_getter,
        )
        counts = _state().scope_counts
        counts[full] = counts.get(full, 0) + 1
        stack.enter_context(_entered(scope))
        yield scope
    for inner in [k for k in counts if k.startswith(full + "/")]:
        counts[inner] = 0  # entered again, the scope gives the same default names again


def _scope_name(given: Any, default_name: str | None, outer: VariableScope) -> str:
    if isinstance(given, VariableScope):
        return given.name
    if given is None:
        if default_name is None:
            raise GraphError("variable_scope needs a name, or a default_name")
        return _unique_scope_name(default_name, outer.name)
    if not isinstance(given, str):
        raise GraphError(f"a variable scope is a name or a VariableScope, got {given!r}")
    return given


def get_variable(
    name: str,
    shape: Any = None,
    dtype: Any = None,
    initializer: Any = None,
    regularizer: Callable[[Value], Value | None] | None = None,
    trainable: bool | None = None,
    collections: Iterable[str] | None = None,
    caching_device: Any = None,
    partitioner: Any = None,
    validate_shape: bool = True,
    use_resource: Any = None,
    custom_getter: Any = None,
    constraint: Any = None,
    synchronization: Any = None,
    aggregation: Any = None,
) -> Variable:
    """The variable of that name in the scope around: made the first time, found when reused.

    `initializer` is an initializer (object or class), or a tensor or array, which gives the
    shape as well; without one it is the scope's, else Glorot's uniform (zeros for integers).
    """
    del caching_device, partitioner, use_resource, synchronization, aggregation
    scope = get_variable_scope()
    getter = custom_getter or scope.custom_getter
    arguments = {
        "shape": shape, "dtype": dtype, "initializer": initializer, "regularizer": regularizer,
        "trainable": trainable, "collections": collections, "validate_shape": validate_shape,
        "constraint": constraint,
    }  # fmt: skip
    if getter is None:
        return _get(name, **arguments)
    result: Variable = getter(_get, name, **arguments)
    return result


def _get(name: str, **arguments: Any) -> Variable:
    scope = get_variable_scope()
    full = f"{scope.name}/{name}" if scope.name else name
    known = _state().variables.get(full)
    if known is not None:
        if not scope.reuse:
            where = f" ({known.node.where})" if known.node.where else ""
            raise GraphError(
                f"variable {full!r} already exists{where}; set reuse=True or reuse=AUTO_REUSE in "
                "variable_scope to use it again"
            )
        return _checked(known, full, arguments["shape"], arguments["dtype"])
    if scope.reuse is True:
        raise GraphError(
            f"variable {full!r} does not exist, or was not made by get_variable; set "
            "reuse=AUTO_REUSE in variable_scope to make what is missing"
        )
    variable = _make(full, scope, **arguments)
    _state().variables[full] = variable
    return variable


def _checked(variable: Variable, full: str, shape: Any, dtype: Any) -> Variable:
    wanted = as_shape(shape)
    own = variable.node.types[0].shape or ()
    if wanted is not None and not (len(wanted) == len(own) and all(map(may_equal, wanted, own))):
        raise ShapeError(f"variable {full!r} is {format_shape(own)}, not {format_shape(wanted)}")
    if dtype is not None and as_dtype(dtype) is not variable.dtype:
        raise DTypeError(f"variable {full!r} is {variable.dtype}, not {as_dtype(dtype)}")
    return variable


def _make(
    full: str,
    scope: VariableScope,
    shape: Any,
    dtype: Any,
    initializer: Any,
    regularizer: Any,
    trainable: bool | None,
    collections: Iterable[str] | None,
    validate_shape: bool,
    constraint: Any,
) -> Variable:
    initial = _initial_value(full, scope, shape, dtype, initializer)
    graph = get_default_graph()
    with graph.name_scope(None):  # a variable's name follows variable scopes alone
        variable = Variable(
            initial, trainable, collections, validate_shape, name=full, constraint=constraint
        )
    penalty = regularizer or scope.regularizer
    if penalty is not None:
        with graph.name_scope(None), graph.name_scope(f"{full}/Regularizer/"):
            loss = penalty(variable)
        if loss is not None:
            add_to_collection(GraphKeys.REGULARIZATION_LOSSES, loss)
    return variable


def _initial_value(
    full: str, scope: VariableScope, shape: Any, dtype: Any, initializer: Any
) -> Callable[[], Value]:
    chosen = scope.initializer if initializer is None else initializer
    own = scope.dtype if dtype is None else as_dtype(dtype)
    if chosen is None:
        chosen = default_initializer(own)
    if inspect.isclass(chosen):
        chosen = chosen()
    if is_tensor(chosen) or not callable(chosen):
        if shape is not None:
            raise ShapeError(
                f"variable {full!r}: the initial value given has a shape; give no other"
            )
        return lambda: convert(chosen, dtype=None if dtype is None and is_tensor(chosen) else dtype)
    dims = as_shape(shape)
    if dims is None or any(isinstance(d, str) for d in dims):
        raise ShapeError(
            f"variable {full!r} needs a known shape, got {shape!r}; or a tensor as initializer"
        )
    return lambda: convert(chosen(dims, own), dtype=own)


def get_local_variable(name: str, *args: Any, **kwargs: Any) -> Variable:
    """get_variable of a variable that is no part of the model, and not trained."""
    kwargs.update(collections=[GraphKeys.LOCAL_VARIABLES], trainable=False)
    return get_variable(name, *args, **kwargs)

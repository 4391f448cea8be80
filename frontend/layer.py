"""What a layer is: an object that makes its variables on its first call and uses them later on.

The functions of `layers` are such layers, made and called at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from graphc.frontend.arguments import as_value
from graphc.frontend.framework import GraphKeys, add_to_collection
from graphc.frontend.scopes import VariableScope, get_variable, variable_scope
from graphc.frontend.variables import Variable
from graphc.ir.errors import AttributeValueError, GraphError, ShapeError
from graphc.ir.graph import Value, get_default_graph

Activation = Callable[[Any], Value]


class Layer:
    """Variables and what is computed of them. Subclasses say `build(x)` and `call(x)`.

    An unnamed layer is called after its class: dense, dense_1, ...
    """

    base_name: ClassVar[str] = "layer"

    def __init__(
        self,
        trainable: bool = True,
        name: str | None = None,
        activity_regularizer: Any = None,
        reuse: Any = None,
    ) -> None:
        self.trainable = trainable
        self.activity_regularizer = activity_regularizer
        self.built = False
        self.weights: list[Variable] = []
        self.losses: list[Value] = []
        self.updates: list[Any] = []
        self._given_name = name
        self._reuse = reuse
        self._scope: VariableScope | None = None

    def build(self, x: Value) -> None:
        """Make the variables, of sizes that follow from the input's type."""

    def call(self, x: Value) -> Value:
        """The layer's output."""
        raise NotImplementedError(f"{type(self).__name__} has no call()")

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Value:
        """The layer's output; the first call makes the variables."""
        x = as_value(inputs)
        with self._entered(x):
            if not self.built:
                with _collected(GraphKeys.REGULARIZATION_LOSSES, self.losses):
                    self.build(x)
                self.built = True
            with _collected(GraphKeys.UPDATE_OPS, self.updates):
                y = self.call(x, *args, **kwargs)
            if self.activity_regularizer is not None:
                loss = self.activity_regularizer(y)
                add_to_collection(GraphKeys.REGULARIZATION_LOSSES, loss)
                self.losses.append(loss)
        return y

    apply = __call__

    @contextmanager
    def _entered(self, x: Value) -> Iterator[None]:
        if self._scope is None:
            opened = variable_scope(
                self._given_name, default_name=self.base_name, reuse=self._reuse, dtype=x.dtype
            )
        else:
            opened = variable_scope(self._scope, reuse=True)
        with opened as scope:
            self._scope = self._scope or scope
            yield

    def add_weight(self, name: str, shape: Any, **options: Any) -> Variable:
        """A variable of the layer, by get_variable in its scope."""
        options.setdefault("trainable", self.trainable)
        variable = get_variable(name, shape, **options)
        self.weights.append(variable)
        return variable

    @property
    def scope_name(self) -> str:
        """The name of the layer's variable scope; known after the first call."""
        if self._scope is None:
            raise GraphError(f"{type(self).__name__} has no scope before its first call")
        return self._scope.name

    @property
    def name(self) -> str:
        """The layer's name."""
        if self._scope is None:
            return self._given_name or self.base_name
        return self._scope.name.rpartition("/")[2]

    @property
    def variables(self) -> list[Variable]:
        """All variables of the layer."""
        return list(self.weights)

    @property
    def trainable_variables(self) -> list[Variable]:
        """The variables that optimizers change."""
        known = set(get_default_graph().get_collection(GraphKeys.TRAINABLE_VARIABLES))
        return [v for v in self.weights if v in known]

    trainable_weights = trainable_variables

    @property
    def non_trainable_variables(self) -> list[Variable]:
        """The variables that optimizers leave alone."""
        trained = set(self.trainable_variables)
        return [v for v in self.weights if v not in trained]

    non_trainable_weights = non_trainable_variables

    def count_params(self) -> int:
        """The number of elements of all variables."""
        return sum(v.node.types[0].size for v in self.weights)


@contextmanager
def _collected(key: str, target: list[Any]) -> Iterator[None]:
    """Also put into `target` what the collection gets inside."""
    graph = get_default_graph()
    before = len(graph.get_collection(key))
    yield
    target.extend(graph.get_collection(key)[before:])


def as_function(layer: type[Layer], doc: str) -> Callable[..., Value]:
    """`f(inputs, <the layer's arguments>, reuse=None)`: the layer made and called at once."""

    def function(inputs: Any, *args: Any, **kwargs: Any) -> Value:
        return layer(*args, **kwargs)(inputs)

    own = list(inspect.signature(layer).parameters.values())
    first = inspect.Parameter("inputs", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Any)
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [first, *own], return_annotation=Value
    )
    function.__name__ = function.__qualname__ = layer.base_name
    function.__doc__ = doc
    return function


def known_dim(x: Value, axis: int, what: str) -> int:
    """The size along an axis; ShapeError where it is unknown."""
    dims = x.type.shape
    if dims is None or not -len(dims) <= axis < len(dims) or not isinstance(dims[axis], int):
        raise ShapeError(f"{what} needs to know dim {axis} of its input, got {x!r}")
    return int(dims[axis])


def channels_first(data_format: str) -> bool:
    """Whether "channels_first" is asked for, and not "channels_last"."""
    if data_format not in ("channels_last", "channels_first"):
        raise AttributeValueError(
            f"data_format is 'channels_last' or 'channels_first', got {data_format!r}"
        )
    return data_format == "channels_first"

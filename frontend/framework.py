"""Scopes, control dependencies, grouping, devices, collections, seeds: what has no numbers."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from graphc.frontend.arguments import as_value
from graphc.ir.errors import DeviceError, GraphError
from graphc.ir.graph import Node, Runner, Value, as_node, get_default_graph, session_stack
from graphc.ir.table import OPS


class GraphKeys:
    """The standard names of a graph's collections."""

    GLOBAL_VARIABLES: Final = "variables"
    VARIABLES: Final = "variables"
    LOCAL_VARIABLES: Final = "local_variables"
    MODEL_VARIABLES: Final = "model_variables"
    TRAINABLE_VARIABLES: Final = "trainable_variables"
    MOVING_AVERAGE_VARIABLES: Final = "moving_average_variables"
    METRIC_VARIABLES: Final = "metric_variables"
    GLOBAL_STEP: Final = "global_step"
    LOSSES: Final = "losses"
    REGULARIZATION_LOSSES: Final = "regularization_losses"
    UPDATE_OPS: Final = "update_ops"
    TRAIN_OP: Final = "train_op"
    SUMMARIES: Final = "summaries"
    SUMMARY_OP: Final = "summary_op"
    SAVERS: Final = "savers"
    INIT_OP: Final = "init_op"
    LOCAL_INIT_OP: Final = "local_init_op"
    READY_OP: Final = "ready_op"
    QUEUE_RUNNERS: Final = "queue_runners"
    TABLE_INITIALIZERS: Final = "table_initializer"
    ACTIVATIONS: Final = "activations"
    WEIGHTS: Final = "weights"
    BIASES: Final = "biases"


@contextlib.contextmanager
def name_scope(
    name: str | None, default_name: str | None = None, values: Any = None
) -> Iterator[str]:
    """Names of ops made inside begin with `name/` (or `default_name/`); gives that prefix.

    A prefix given back as `name` is entered again. `values` is TensorFlow's and not needed.
    """
    del values
    chosen = default_name if name is None else name
    with get_default_graph().name_scope(chosen) as scope:
        yield scope


def control_dependencies(
    control_inputs: Iterable[Any] | None,
) -> contextlib.AbstractContextManager[None]:
    """Ops made inside run after the given ones, and read the variables that those assign.

    None clears the dependencies of the blocks around it.
    """
    return get_default_graph().control_dependencies(control_inputs)


def _flat_nodes(inputs: Iterable[Any]) -> Iterator[Node]:
    for item in inputs:
        if isinstance(item, (list, tuple)):
            yield from _flat_nodes(item)
        elif item is not None:
            yield as_node(item)


def group(*inputs: Any, name: str | None = None) -> Node:
    """An op that runs all of `inputs` (ops, tensors, variables, lists of them)."""
    nodes = tuple(dict.fromkeys(_flat_nodes(inputs)))
    with get_default_graph().control_dependencies(nodes):
        return OPS["no_op"].node(name=name or "group_deps")


def no_op(name: str | None = None) -> Node:
    """An op that does nothing but wait for its control inputs."""
    return OPS["no_op"].node(name=name or "NoOp")


def tuple_(
    tensors: Iterable[Any], name: str | None = None, control_inputs: Iterable[Any] | None = None
) -> list[Value | None]:
    """The tensors, each computed only when all of them (and the control inputs) are."""
    given = [None if t is None else as_value(t) for t in tensors]
    with name_scope(name, "tuple"):
        gate = group([v for v in given if v is not None], list(control_inputs or ()))
        with get_default_graph().control_dependencies([gate]):
            return [None if v is None else OPS["identity"](v) for v in given]


_DEVICE: Final = re.compile(
    r"(/job:\w+)?(/replica:\d+)?(/task:\d+)?(/?(device:)?(cpu|gpu|tpu|xla_cpu|xla_gpu)(:(\d+|\*))?)?",
    re.IGNORECASE,
)


@contextlib.contextmanager
def device(device_name_or_function: str | Callable[..., Any] | None) -> Iterator[None]:
    """TensorFlow's placement of ops. A session has one device here: the name is only checked."""
    name = device_name_or_function
    if isinstance(name, str) and not _DEVICE.fullmatch(name):
        raise DeviceError(f"{name!r} is no device name; they look like '/cpu:0' or '/device:GPU:0'")
    yield


def with_dependencies(dependencies: Iterable[Any], output: Any, name: str | None = None) -> Value:
    """`output`, available when the dependencies have run."""
    with get_default_graph().control_dependencies(dependencies):
        return OPS["identity"](output, name=name)


def identity(input: Any, name: str | None = None) -> Value:
    """The same value under a name of its own."""
    return OPS["identity"](input, name=name)


def stop_gradient(input: Any, name: str | None = None) -> Value:
    """The same value, which counts as a constant in gradients."""
    return OPS["stop_gradient"](input, name=name)


def add_to_collection(name: str, value: Any) -> None:
    """Append to a collection of the default graph."""
    get_default_graph().add_to_collection(name, value)


def add_to_collections(names: str | Iterable[str] | None, value: Any) -> None:
    """Append to several collections of the default graph."""
    for name in [names] if isinstance(names, str) else names or ():
        add_to_collection(name, value)


def get_collection(key: str, scope: str | None = None) -> list[Any]:
    """What the collection of the default graph holds; with `scope`, by the start of the name."""
    return get_default_graph().get_collection(key, scope)


def get_collection_ref(key: str) -> list[Any]:
    """The collection of the default graph itself."""
    return get_default_graph().get_collection_ref(key)


def get_default_session() -> Runner | None:
    """The session entered last in this thread, None when there is none."""
    stack = session_stack()
    return stack[-1] if stack else None


def set_random_seed(seed: int) -> None:
    """The default graph's seed, from which every random op without a seed of its own derives."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise GraphError(f"a seed is an integer, got {seed!r}")
    get_default_graph().seed = seed

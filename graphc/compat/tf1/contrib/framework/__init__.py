"""`tf.contrib.framework`: default arguments by scope, and variables by their kind."""

from __future__ import annotations

from typing import Any

from graphc.compat.symbols import delegate
from graphc.compat.tf1.contrib.framework.scopes import add_arg_scope, arg_scope, has_arg_scope
from graphc.frontend.framework import GraphKeys
from graphc.frontend.schedules import create_global_step, get_global_step, get_or_create_global_step
from graphc.frontend.scopes import get_variable
from graphc.frontend.variables import Variable, global_variables, model_variables
from graphc.ir.graph import get_default_graph
from graphc.runtime.checkpoint import (
    CheckpointReader,
    list_variables,
    load_checkpoint,
    load_variable,
)


def get_variables(
    scope: Any = None, suffix: str | None = None, collection: str = GraphKeys.GLOBAL_VARIABLES
) -> list[Variable]:
    """The variables of a scope (a name or a scope), whose names end in `suffix`."""
    prefix = getattr(scope, "name", scope)
    found = get_default_graph().get_collection(collection, prefix)
    return [v for v in found if suffix is None or v.op.name.endswith(suffix)]


def get_variables_to_restore(
    include: list[str] | None = None, exclude: list[str] | None = None
) -> list[Variable]:
    """The global variables of the scopes `include` (default: all) but not of `exclude`."""
    taken = (
        global_variables() if include is None else [v for s in include for v in get_variables(s)]
    )
    left_out = {v for s in exclude or () for v in get_variables(s)}
    return [v for v in taken if v not in left_out]


def get_variables_by_name(given_name: str, scope: Any = None) -> list[Variable]:
    """The variables of a scope whose name without its scopes is this."""
    return [v for v in get_variables(scope) if v.op.name.rpartition("/")[2] == given_name]


get_model_variables = model_variables


def model_variable(name: str, shape: Any = None, dtype: Any = None, **kwargs: Any) -> Variable:
    """get_variable, also put into the collection of model variables."""
    extra = list(kwargs.pop("collections", None) or [GraphKeys.GLOBAL_VARIABLES])
    kwargs["collections"] = [*extra, GraphKeys.MODEL_VARIABLES]
    return get_variable(name, shape, dtype, **kwargs)


variable = get_variable

__all__ = [
    "CheckpointReader", "add_arg_scope", "arg_scope", "create_global_step", "get_global_step",
    "get_model_variables", "get_or_create_global_step", "get_variables", "get_variables_by_name",
    "get_variables_to_restore", "has_arg_scope", "list_variables", "load_checkpoint",
    "load_variable", "model_variable", "variable",
]  # fmt: skip
__getattr__ = delegate(__name__, submodules=("nest",))

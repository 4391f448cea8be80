"""`tf.contrib.training`: hyperparameters, and a training step in one op."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from graphc.compat.symbols import delegate
from graphc.frontend import linalg
from graphc.frontend.arguments import as_value
from graphc.frontend.framework import (
    GraphKeys,
    add_to_collection,
    get_collection,
    with_dependencies,
)
from graphc.frontend.schedules import get_or_create_global_step
from graphc.ir.errors import AttributeValueError
from graphc.ir.graph import Value


class HParams:
    """Hyperparameters by name, as attributes. A value keeps its type."""

    def __init__(self, hparam_def: Any = None, model_structure: Any = None, **kwargs: Any) -> None:
        del hparam_def, model_structure
        self._names: list[str] = []
        for name, value in kwargs.items():
            self.add_hparam(name, value)

    def add_hparam(self, name: str, value: Any) -> None:
        """Add one; AttributeValueError when the name is taken."""
        if hasattr(self, name):
            raise AttributeValueError(f"the hyperparameter {name!r} is there already")
        self._names.append(name)
        setattr(self, name, value)

    def set_hparam(self, name: str, value: Any) -> None:
        """Change one, to a value of its type."""
        if name not in self._names:
            known = ", ".join(self._names)
            raise AttributeValueError(f"there is no hyperparameter {name!r}; there are: {known}")
        setattr(self, name, _as_type(name, value, getattr(self, name)))

    def del_hparam(self, name: str) -> None:
        """Remove one."""
        if name in self._names:
            self._names.remove(name)
            delattr(self, name)

    def override_from_dict(self, values_dict: Mapping[str, Any]) -> HParams:
        """Change several."""
        for name, value in values_dict.items():
            self.set_hparam(name, value)
        return self

    def parse(self, values: str) -> HParams:
        """Change several: "name=value,other=[1,2,3]"."""
        depth, start = 0, 0
        parts = []
        for i, c in enumerate(values + ","):
            depth += (c == "[") - (c == "]")
            if c == "," and depth == 0:
                parts.append(values[start:i])
                start = i + 1
        for part in filter(None, parts):
            name, equals, text = part.partition("=")
            if not equals:
                raise AttributeValueError(
                    f"hyperparameters are parsed from name=value, got {part!r}"
                )
            self.set_hparam(name.strip(), _parsed(text.strip()))
        return self

    def parse_json(self, values_json: str) -> HParams:
        """Change several, from a JSON object."""
        return self.override_from_dict(json.loads(values_json))

    def values(self) -> dict[str, Any]:
        """Names and values."""
        return {name: getattr(self, name) for name in self._names}

    def to_json(self, indent: Any = None, separators: Any = None, sort_keys: bool = False) -> str:
        """As a JSON object."""
        return json.dumps(self.values(), indent=indent, separators=separators, sort_keys=sort_keys)

    def get(self, key: str, default: Any = None) -> Any:
        """One value, or the default."""
        return getattr(self, key) if key in self._names else default

    def __contains__(self, key: str) -> bool:
        return key in self._names

    def __repr__(self) -> str:
        return f"HParams({', '.join(f'{k}={v!r}' for k, v in self.values().items())})"


def _parsed(text: str) -> Any:
    if text.startswith("["):
        return [_parsed(t.strip()) for t in text[1:-1].split(",") if t.strip()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def _as_type(name: str, value: Any, old: Any) -> Any:
    if old is None or isinstance(value, type(old)) or isinstance(old, list):
        return value
    if isinstance(old, bool) and value in (0, 1):
        return bool(value)
    if isinstance(old, float) and isinstance(value, int):
        return float(value)
    if isinstance(old, str):
        return str(value)
    raise AttributeValueError(
        f"the hyperparameter {name!r} is a {type(old).__name__}, {value!r} is not"
    )


def create_train_op(
    total_loss: Any,
    optimizer: Any,
    global_step: Any = None,
    update_ops: Any = None,
    variables_to_train: Any = None,
    transform_grads_fn: Any = None,
    summarize_gradients: bool = False,
    gate_gradients: int = 1,
    aggregation_method: Any = None,
    colocate_gradients_with_ops: bool = False,
    check_numerics: bool = True,
    clip_gradient_norm: float = 0.0,
) -> Value:
    """The loss, which trains when it is run; updates of averages (UPDATE_OPS) run before it."""
    del summarize_gradients, gate_gradients, aggregation_method, colocate_gradients_with_ops
    del check_numerics
    step = get_or_create_global_step() if global_step is None else global_step
    others = get_collection(GraphKeys.UPDATE_OPS) if update_ops is None else list(update_ops)
    loss = with_dependencies(others, as_value(total_loss)) if others else as_value(total_loss)
    pairs = optimizer.compute_gradients(loss, variables_to_train)
    if clip_gradient_norm > 0:
        pairs = [
            (None if g is None else linalg.clip_by_norm(g, clip_gradient_norm), v) for g, v in pairs
        ]
    pairs = pairs if transform_grads_fn is None else transform_grads_fn(pairs)
    update = optimizer.apply_gradients(pairs, global_step=step)
    result = with_dependencies([update], loss, name="train_op")
    add_to_collection(GraphKeys.TRAIN_OP, result)
    return result


__getattr__ = delegate(__name__)

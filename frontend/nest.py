"""Nested structures (tuples, lists, named tuples, dicts) of tensors, as flat lists and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from graphc.ir.errors import AttributeValueError


def is_nested(x: Any) -> bool:
    """True for what holds further items."""
    return isinstance(x, (list, tuple, Mapping))


def flatten(structure: Any) -> list[Any]:
    """The leaves from left to right; of dicts by their sorted keys, as in TensorFlow."""
    if isinstance(structure, Mapping):
        return [leaf for key in sorted(structure) for leaf in flatten(structure[key])]
    if isinstance(structure, (list, tuple)):
        return [leaf for item in structure for leaf in flatten(item)]
    return [structure]


def pack_as(structure: Any, leaves: Sequence[Any]) -> Any:
    """The leaves in the structure's form."""
    rest = iter(leaves)
    result = _pack(structure, rest)
    assert next(rest, None) is None, "more leaves than the structure has"
    return result


def _pack(structure: Any, rest: Iterator[Any]) -> Any:
    if isinstance(structure, Mapping):
        made = {key: _pack(structure[key], rest) for key in sorted(structure)}
        return type(structure)((key, made[key]) for key in structure)  # type: ignore[call-arg]
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(_pack(item, rest) for item in structure))
    if isinstance(structure, (list, tuple)):
        return type(structure)(_pack(item, rest) for item in structure)
    return next(rest)


def map_leaves(function: Callable[..., Any], *structures: Any) -> Any:
    """The function of the structures' leaves, in the form of the first."""
    flat = [flatten(s) for s in structures]
    if len({len(f) for f in flat}) != 1:
        raise AttributeValueError(f"these have different structures: {structures!r}")
    return pack_as(structures[0], [function(*items) for items in zip(*flat, strict=True)])


def flatten_like(structure: Any, given: Any, what: str) -> list[Any]:
    """The leaves of `given`, which must have the structure's form (lists and tuples are one)."""
    same = _same_form(structure, given)
    if not same:
        raise AttributeValueError(f"{what}: expected the form of {structure!r}, got {given!r}")
    return flatten(given)


def _same_form(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping):
        return (
            isinstance(b, Mapping)
            and sorted(a) == sorted(b)
            and all(_same_form(a[k], b[k]) for k in a)
        )
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(map(_same_form, a, b))
    return not is_nested(b)

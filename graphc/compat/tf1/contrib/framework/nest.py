"""`tf.contrib.framework.nest`: nested structures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc.compat.symbols import delegate
from graphc.frontend.nest import flatten, flatten_like, map_leaves, pack_as
from graphc.frontend.nest import is_nested as is_sequence

is_nested = is_sequence


def map_structure(func: Callable[..., Any], *structure: Any) -> Any:
    """The function of the leaves, in the form of the first structure."""
    return map_leaves(func, *structure)


def pack_sequence_as(structure: Any, flat_sequence: Any) -> Any:
    """The leaves in the form of the structure."""
    return pack_as(structure, flat_sequence)


def assert_same_structure(nest1: Any, nest2: Any, check_types: bool = True) -> None:
    """AttributeValueError where the structures differ."""
    del check_types
    flatten_like(nest1, nest2, "assert_same_structure")


__all__ = [
    "assert_same_structure", "flatten", "is_nested", "is_sequence", "map_structure",
    "pack_sequence_as",
]  # fmt: skip
__getattr__ = delegate(__name__)

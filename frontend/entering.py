"""Tables of functions that say what a foreign format's ops mean, entered by decorators."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F")


def entering(table: dict[str, F]) -> Callable[..., Callable[[F], F]]:
    """A decorator maker: `@converter("Add", "AddV2")` enters a function under these names."""

    def names_of(*names: str) -> Callable[[F], F]:
        def enter(function: F) -> F:
            for name in names:
                assert name not in table, f"two converters of {name}"
                table[name] = function
            return function

        return enter

    return names_of

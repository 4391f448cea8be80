"""What a back end gives: source text, by kernel and as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


class Module(NamedTuple):
    """The text that runs a program: a whole module, and the part of it that each kernel is.

    `launches` says, per kernel, what the loader must know (its form is the back end's own).
    """

    text: str
    kernels: Mapping[str, str]
    launches: Mapping[str, Any] = _NONE
    scratch_bytes: int = 0

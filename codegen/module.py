"""What a back end gives: source text, by kernel and as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Module:
    """The text that runs a program: a whole module, and the part of it that each kernel is.

    `launches` says, per kernel, what the loader must know (its form is the back end's own).
    """

    text: str
    kernels: Mapping[str, str]
    launches: Mapping[str, Any] = field(default_factory=dict)
    scratch_bytes: int = 0

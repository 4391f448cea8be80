"""`tf.compat`: texts and bytes, and `v1`, which is this very API."""

from __future__ import annotations

from typing import Any

from graphc.compat.symbols import delegate


def as_bytes(bytes_or_text: Any, encoding: str = "utf-8") -> bytes:
    """As bytes."""
    return bytes_or_text if isinstance(bytes_or_text, bytes) else bytes_or_text.encode(encoding)


def as_text(bytes_or_text: Any, encoding: str = "utf-8") -> str:
    """As a text."""
    return bytes_or_text if isinstance(bytes_or_text, str) else bytes_or_text.decode(encoding)


as_str = as_text


def as_str_any(value: Any) -> str:
    """As a text, whatever it is."""
    return as_text(value) if isinstance(value, (str, bytes)) else str(value)


__getattr__ = delegate(__name__, submodules=("v1",))

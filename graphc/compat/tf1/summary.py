"""`tf.summary`: what TensorBoard shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from graphc import summary as _summary
from graphc.compat.symbols import delegate
from graphc.compat.tf1.protos import Event, SessionLog, Summary


def image(
    name: str,
    tensor: Any,
    max_outputs: int = 3,
    collections: Iterable[str] | None = None,
    family: str | None = None,
    max_images: int | None = None,
) -> _summary.Summary:
    """`graphc.summary.image`; `max_outputs` was once called `max_images`."""
    count = max_outputs if max_images is None else max_images
    return _summary.image(name, tensor, count, collections, family)


__all__ = ["Event", "SessionLog", "Summary", "image"]
__getattr__ = delegate(__name__, "graphc.summary")

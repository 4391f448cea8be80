"""`tf.python.layers.utils`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc.compat.symbols import delegate
from graphc.frontend.arguments import constant_value, is_tensor
from graphc.frontend.control_flow import cond


def smart_cond(
    pred: Any,
    fn1: Callable[[], Any] | None = None,
    fn2: Callable[[], Any] | None = None,
    name: str | None = None,
) -> Any:
    """`cond`, or at once one of the functions where the predicate is known."""
    known = constant_value(pred) if is_tensor(pred) else pred
    if known is not None and fn1 is not None and fn2 is not None:
        return fn1() if bool(known) else fn2()
    return cond(pred, fn1, fn2, name=name)


__all__ = ["smart_cond"]
__getattr__ = delegate(__name__)

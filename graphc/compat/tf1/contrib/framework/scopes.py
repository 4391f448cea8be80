"""arg_scope: arguments that functions get inside a block unless a call gives others."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from graphc.ir.errors import AttributeValueError

Function = TypeVar("Function", bound=Callable[..., Any])
Defaults = Mapping[str, Mapping[str, Any]]


class _Scopes(threading.local):
    """Per thread, the arguments by function, of the innermost block last."""

    def __init__(self) -> None:
        self.stack: list[Defaults] = [{}]


_scopes = _Scopes()


def _key(function: Any) -> str:
    key: str = getattr(function, "_arg_scope_key", "")
    if not key:
        raise AttributeValueError(f"{function!r} takes no arg_scope; decorate it by add_arg_scope")
    return key


def add_arg_scope(func: Function) -> Function:
    """Let a function take its arguments from `arg_scope`, where a call does not give them."""

    @functools.wraps(func)
    def called(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **{**_scopes.stack[-1].get(key, {}), **kwargs})

    key = f"{func.__module__}.{func.__qualname__}"
    called._arg_scope_key = key  # type: ignore[attr-defined]
    return called  # type: ignore[return-value]


def has_arg_scope(func: Any) -> bool:
    """True when the function takes an arg_scope."""
    return bool(getattr(func, "_arg_scope_key", ""))


@contextlib.contextmanager
def arg_scope(list_ops_or_scope: Any, **kwargs: Any) -> Iterator[Defaults]:
    """Inside, the functions get these arguments; or enter a scope given by an earlier block."""
    if isinstance(list_ops_or_scope, Mapping):
        if kwargs:
            raise AttributeValueError("a scope that is entered again takes no further arguments")
        new: Defaults = list_ops_or_scope
    else:
        new = _extended(_scopes.stack[-1], list_ops_or_scope, kwargs)
    _scopes.stack.append(new)
    try:
        yield new
    finally:
        _scopes.stack.pop()


def _extended(outer: Defaults, functions: Sequence[Any], more: Mapping[str, Any]) -> Defaults:
    keys = [_key(f) for f in functions]
    return {**outer, **{k: {**outer.get(k, {}), **more} for k in keys}}

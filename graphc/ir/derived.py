"""What follows from an immutable object, worked out when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

_T = TypeVar("_T")


class derived(Generic[_T]):
    """A property that is worked out once and then lies in the object's `__dict__`.

    As functools.cached_property, but without its lock, which costs more than most of what kernels
    know of themselves: two threads that ask at once work out the same.
    """

    def __init__(self, work_out: Callable[[Any], _T]) -> None:
        self.work_out = work_out
        self.name = work_out.__name__
        self.__doc__ = work_out.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> derived[_T]: ...

    @overload
    def __get__(self, owner: object, kind: type) -> _T: ...

    def __get__(self, owner: object | None, kind: type) -> derived[_T] | _T:
        if owner is None:
            return self
        result = owner.__dict__[self.name] = self.work_out(owner)
        return result


class Deriving:
    """Has room for what is derived of an object with slots."""


__all__ = ["Deriving", "derived"]

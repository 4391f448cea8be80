"""Ctrl-C must not come between two updates of one step: it waits until all are made.

Python raises KeyboardInterrupt wherever the main thread stands. So the handler of SIGINT is
wrapped, once: while updates are being made it only takes note of the signal. To set and reset
the handler around each run instead would cost system calls in every step.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

_MAIN: Final = threading.main_thread()
_LOOK_S: Final = 0.05  # how often it is looked whether someone has set another handler


class _Deferral:
    """A handler that calls the one before it, or, while `busy`, later."""

    def __init__(self, before: Callable[[int, FrameType | None], Any]) -> None:
        self.before = before
        self.busy = False
        self.came: tuple[int, FrameType | None] | None = None
        self.seen_s = 0.0  # when it was last seen in place

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.busy:
            self.came = number, frame
        else:
            self.before(number, frame)


def uninterrupted(run: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """run(*arguments), and only then what SIGINT calls for, if it came meanwhile."""
    handler = _installed() if threading.current_thread() is _MAIN else None
    if handler is None or handler.busy:  # no other thread is interrupted
        run(*arguments)
        return
    handler.busy = True
    try:
        run(*arguments)
    finally:
        handler.busy = False
        came, handler.came = handler.came, None
    if came is not None:
        handler.before(*came)


class _Installed:
    """The handler in place; notebooks set their own for every cell, so it is looked up again."""

    last: _Deferral | None = None


def _installed() -> _Deferral | None:
    """The handler, wrapped around whatever was there; None where SIGINT calls nothing."""
    now, last = time.perf_counter(), _Installed.last
    if last is not None and now - last.seen_s < _LOOK_S:
        return last
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler) and not isinstance(handler, _Deferral):
        handler = _Deferral(handler)
        signal.signal(signal.SIGINT, handler)
    if not isinstance(handler, _Deferral):
        return None
    handler.seen_s, _Installed.last = now, handler
    return handler

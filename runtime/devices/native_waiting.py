"""NumPy serves the first runs while the C compiler works (setting `native_async`).

Both executables are bound to the same storage of variables, so nothing is copied when C takes
over, between two runs. Their results agree within rounding, but not in every bit, and when C takes
over depends on the machine's load: that is why it is done on request only.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from graphc.ir.errors import DeviceError
from graphc.runtime.devices.base import Executable

_log = logging.getLogger("graphc")


class WaitingExecutable:
    """Runs `first`, until what `make` makes in a thread of its own is ready."""

    def __init__(
        self, first: Executable, make: Callable[[], Executable], changed: Callable[[], None]
    ) -> None:
        self._now = first
        self._make = make
        self._changed = changed  # to be called when `first` has updated variables
        self._made: Executable | BaseException | None = None
        self._runs = 0
        self._start = time.perf_counter()
        self._waiting = True
        # a daemon: a process that ends does not wait for its compiler
        self.thread = threading.Thread(target=self._work, name="graphc compiles", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        try:
            self._made = self._make()
        except BaseException as error:  # told, or raised, at the next run
            self._made = error

    def run(self, feeds: Sequence[np.ndarray], run: int) -> list[np.ndarray]:
        """Run once; see graphc.runtime.devices.base.Executable."""
        if self._waiting and self._made is not None:
            self._take_over(self._made)
        results = self._now.run(feeds, run)
        if self._waiting:
            self._runs += 1
            self._changed()
        return results

    def _take_over(self, made: Executable | BaseException) -> None:
        seconds = time.perf_counter() - self._start
        if isinstance(made, DeviceError):
            _log.warning("a program stays on NumPy: %s", made.message)
            self._made = None
            return
        if isinstance(made, BaseException):
            raise made
        self._now, self._waiting = made, False
        _log.info("compiled C takes over after %.2f s and %d runs on NumPy", seconds, self._runs)


__all__ = ["WaitingExecutable"]

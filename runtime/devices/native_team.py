"""The libraries that all native programs share: the team of threads, and products of matrices.

Both begin to be compiled, where the cache has them not, when a process asks for the device; so the
compiler works while Python imports what the device needs, and while a graph goes through the
passes. The products take it longer than many a program does: one without products does not wait
for them.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from graphc.runtime.devices.native_build import SOURCES, Building


class Team:
    """Both libraries, and the teams by (process, threads)."""

    def __init__(self) -> None:
        self._products = Building(_source("matmul.c", "winograd.c"))
        self._threads = Building(_source("team.c"), ("-pthread",))

    def wait(self) -> None:
        """Until there are threads. DeviceError where the compiler does not work."""
        assert self._library is not None

    @functools.cached_property
    def _library(self) -> ctypes.CDLL:
        library = self._threads.library()
        library.gc_team_new.restype = ctypes.c_void_p
        library.gc_team_new.argtypes = (ctypes.c_long,)
        library.gc_run.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
        return library

    @functools.cached_property
    def run(self) -> Any:
        """The function that runs a program."""
        return self._library.gc_run

    @functools.cached_property
    def parallel(self) -> ctypes.c_void_p:
        """The function that shares a kernel out."""
        return ctypes.cast(self._library.gc_parallel, ctypes.c_void_p)

    @functools.cached_property
    def matmul(self) -> ctypes.c_void_p:
        """The function that multiplies matrices."""
        return ctypes.cast(self._products.library().gc_multiply, ctypes.c_void_p)

    @functools.cache  # noqa: B019  (one object for the life of the process)
    def of(self, process: int, threads: int) -> int | None:
        """The team; a forked process makes its own, as threads do not survive the fork."""
        del process
        return int(self._library.gc_team_new(threads)) if threads > 1 else None


def _source(*names: str) -> str:
    return "\n".join((SOURCES / name).read_text(encoding="utf-8") for name in names)


@functools.cache
def team() -> Team:
    """The one of this process."""
    return Team()


__all__ = ["Team", "team"]

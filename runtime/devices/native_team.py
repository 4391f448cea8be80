"""The libraries that all native programs share: the team of threads, and products of matrices.

Both begin to be compiled, where the cache has them not, when a process asks for the device; so the
compiler works while Python imports what the device needs, and while a graph goes through the
passes. What few programs need, convolutions and attention, is compiled when one does, beside its
own text.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from graphc.ir.settings import Settings
from graphc.runtime.devices.native_build import SOURCES, Building

# per routine of gc_host, its function, its source and the flags for that
ROUTINES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "matmul": ("gc_multiply", ("matmul.c",)),
    "matmul_f64": ("gc_multiply", ("matmul.c", "-DGC_FLOAT64")),
    "convolve": ("gc_convolve", ("winograd.c",)),
    "convolve_kept": ("gc_convolve", ("winograd.c",)),
    "attend": ("gc_attend", ("attention.c",)),
    "attend_backward": ("gc_attend_backward", ("attention.c",)),
}
# by the setting `winograd`, which convolutions are computed as the products that they are
_AS_PRODUCTS: Final[Mapping[str, Sequence[str]]] = {
    "off": ("convolve", "convolve_kept"), "inference": ("convolve",), "always": (),
}  # fmt: skip


def routines_of(text: str, settings: Settings) -> dict[str, str]:
    """By the name under which a program calls it, each routine that it needs."""
    called = [name for name in ROUTINES if f"GC_{name.upper()}(" in text]
    return {n: "matmul" if n in _AS_PRODUCTS[settings.winograd] else n for n in called}


class Team:
    """The libraries, and the teams by (process, threads)."""

    def __init__(self) -> None:
        self._building: dict[tuple[str, ...], Building] = {}
        self.want(["matmul"])
        self._threads = Building(_source("team.c"), ("-pthread",))

    def want(self, routines: Iterable[str]) -> None:
        """Have the compiler begin with what is not there yet."""
        for _, made_of in map(ROUTINES.__getitem__, routines):
            if made_of not in self._building:
                source, *flags = made_of
                self._building[made_of] = Building(_source(source), flags)

    @functools.cache  # noqa: B019  (one object for the life of the process, here and below)
    def routine(self, name: str) -> int:
        """The address of a routine that was wanted."""
        function, made_of = ROUTINES[name]
        return address_of(self._building[made_of].library()[function])

    @functools.cache  # noqa: B019
    def library(self) -> ctypes.CDLL:
        """The threads. DeviceError where the compiler does not work."""
        library = self._threads.library()
        library.gc_team_new.restype = ctypes.c_void_p
        library.gc_team_new.argtypes = (ctypes.c_long,)
        library.gc_run.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
        return library

    @functools.cache  # noqa: B019
    def of(self, process: int, threads: int) -> int | None:
        """The team; a forked process makes its own, as threads do not survive the fork."""
        del process
        return int(self.library().gc_team_new(threads)) if threads > 1 else None


def address_of(function: Any) -> int:
    """Of a library's function."""
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return address


def _source(name: str) -> str:
    return (SOURCES / name).read_text(encoding="utf-8")


@functools.cache
def team() -> Team:
    """The one of this process."""
    return Team()


__all__ = ["ROUTINES", "Team", "address_of", "routines_of", "team"]

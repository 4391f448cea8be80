"""Memory of large arrays: on cache lines, and on huge pages where the system has them."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import threading
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

_ALIGN: Final = 64
_HUGE_PAGE: Final = 2 << 20  # bytes, on x86-64 and most of aarch64
_HUGE_FROM: Final = 2 * _HUGE_PAGE  # a block of this size has at least one huge page in it
_HAS_HUGE: Final = hasattr(mmap, "MADV_HUGEPAGE")
_POPULATE_WRITE: Final = 23  # MADV_POPULATE_WRITE, of Linux 5.14


def aligned_bytes(count: int) -> np.ndarray:
    """Zeroed bytes whose address is a multiple of the cache line's length.

    Large ones begin at a huge page, and the system is asked for such pages: the first touch of
    64 MiB then takes 32 faults instead of 16,384, and one entry of the translation buffer serves
    2 MiB. Where it has none, they are ordinary pages.
    """
    if count >= _HUGE_FROM and _HAS_HUGE:
        return _huge_bytes(count)
    raw = np.zeros(count + _ALIGN, np.uint8)
    start = -raw.ctypes.data % _ALIGN
    return raw[start : start + count]


def _huge_bytes(count: int) -> np.ndarray:
    whole = -(-count // _HUGE_PAGE) * _HUGE_PAGE
    mapped = mmap.mmap(-1, whole + _HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    raw = np.frombuffer(mapped, np.uint8)  # which keeps the mapping alive
    start = -raw.ctypes.data % _HUGE_PAGE
    with contextlib.suppress(OSError):  # a kernel without huge pages
        # the rest of the last one would be memory that nobody uses
        mapped.madvise(mmap.MADV_HUGEPAGE, start, count // _HUGE_PAGE * _HUGE_PAGE)
    return raw[start : start + count]


def touch_beside(blocks: Iterable[np.ndarray]) -> None:
    """Have the system give large blocks of `aligned_bytes` their pages now, which takes it longer
    than to fill them; the caller goes on. What they hold stays as it is."""
    large = [b for b in blocks if b.nbytes >= _HUGE_FROM]
    if large and _HAS_HUGE:
        threading.Thread(target=_touch, args=(large,), daemon=True, name="graphc pages").start()


def _touch(blocks: Iterable[np.ndarray]) -> None:
    # NumPy and the mmap module would hold the interpreter's lock meanwhile
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for block in blocks:  # a system that does not know this advice does nothing
        advise(block.ctypes.data, block.nbytes, _POPULATE_WRITE)


class _Copies:
    """Copies of arrays that stay as they are: the weights of a network, one after the other on
    huge pages. A block goes when the last array in it has gone."""

    _BLOCK = 4 * _HUGE_PAGE
    _LEAST = 1 << 16  # bytes; smaller arrays are no matter
    _MOST = _HUGE_PAGE  # larger ones have pages of their own

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free = np.empty(0, np.uint8)

    def copy(self, array: np.ndarray) -> np.ndarray:
        if array.nbytes < self._LEAST or array.dtype.kind == "O" or not _HAS_HUGE:
            return np.array(array, order="C")
        raw = self._part(array.nbytes) if array.nbytes <= self._MOST else _huge_bytes(array.nbytes)
        result: np.ndarray[Any, Any] = raw.view(array.dtype).reshape(array.shape)
        result[...] = array
        return result

    def _part(self, nbytes: int) -> np.ndarray:
        with self._lock:
            if self._free.size < nbytes:
                self._free = _huge_bytes(self._BLOCK)
            raw = self._free[:nbytes]
            self._free = self._free[-(-nbytes // _ALIGN) * _ALIGN :]
        return raw


_copies = _Copies()


def lasting_copy(array: np.ndarray) -> np.ndarray:
    """A dense copy in row-major order, of an array of any kind, for as long as it is held."""
    return _copies.copy(array)


__all__ = ["aligned_bytes", "lasting_copy", "touch_beside"]

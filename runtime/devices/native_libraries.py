"""Libraries of native programs that come from elsewhere than the compiler, or go there: bundles.

`native_build.build` asks here first. Inside `libraries_from(source)` each library that a program
wants is the one that `source` gives for its C text and flags.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final

Source = Callable[[tuple[str, ...], tuple[str, ...], int], Path]
_source: Final[ContextVar[Source | None]] = ContextVar("graphc_native_libraries", default=None)
# Of /proc/cpuinfo's flags those that add instructions which a compiler may use.
_INSTRUCTIONS: Final = (
    "sse", "pni", "ssse3", "avx", "fma", "f16c", "bmi", "abm", "lzcnt", "popcnt", "adx", "aes",
    "vaes", "pclmul", "vpclmul", "gfni", "sha", "movbe", "amx", "rdrand", "rdseed", "fsgsbase",
    "asimd", "sve", "fp", "crc32", "atomics", "bf16", "i8mm",
)  # fmt: skip


@contextmanager
def libraries_from(source: Source | None) -> Iterator[None]:
    """Inside, libraries are those that `source` gives; None: those that the compiler makes."""
    token = _source.set(source)
    try:
        yield
    finally:
        _source.reset(token)


def given_library(texts: Sequence[str], more: Sequence[str], parts: int) -> Path | None:
    """The library for these texts and further flags; None: the compiler is to make it, of each
    text in so many parts."""
    source = _source.get()
    return None if source is None else source(tuple(texts), tuple(more), parts)


def library_key(texts: Sequence[str], more: Sequence[str], headers: str) -> str:
    """What a library is known by in a bundle: a hash of all that a program says of it."""
    parts = (*texts, "\0", *more, "\0", headers)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def processor() -> tuple[str, list[str]]:
    """The machine's kind, and the extensions of its processor that compiled code may use."""
    flags: set[str] = set()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith(("flags", "Features")):
            flags |= set(line.partition(":")[2].split())
    return platform.machine(), sorted(f for f in flags if f.startswith(_INSTRUCTIONS))


__all__ = ["Source", "given_library", "libraries_from", "library_key", "processor"]

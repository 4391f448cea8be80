"""C text to a loaded library: the compiler, its flags, and the cache on disk.

A library is stored under the hash of all that it follows from: the text (without its comments,
which name lines of the user's file), the headers, the compiler, its flags and the processor. It
is written beside its place and moved there in one step, so that many processes may build at once;
its own hash stands at its end, and one that does not fit is built anew. The libraries used least
recently go when all are larger than the setting allows. Where the folder cannot be written to, a
temporary one takes its place.

What only compiling needs is imported then: most processes find their libraries in the cache.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from graphc.ir.errors import DeviceError
from graphc.ir.settings import Settings
from graphc.runtime.devices.native_libraries import given_library

if TYPE_CHECKING:
    from concurrent.futures import Future

_log = logging.getLogger("graphc")
SOURCES: Final = Path(__file__).resolve().parents[2] / "codegen" / "native" / "c"
_DIGEST = hashlib.sha256
# -O3 takes a fifth longer, for kernels that run no faster: of what it adds, only the way in which
# loops are vectorized counts. -fno-trapping-math lets conditions become selections, without which
# no loop with one vectorizes.
FLAGS: Final = (
    "-std=gnu11", "-O2", "-ftree-vectorize", "-fvect-cost-model=dynamic", "-march=native",
    "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd", "-fwrapv", "-fno-strict-aliasing",
    "-fPIC",
)  # fmt: skip
# Of programs: a product and a sum are rounded one after the other, as they are written; what gains
# by rounding once says so. Rounded at once, x * c - max(x * c) would be above 0.
EXACT: Final = ("-ffp-contract=off",)
_STALE_S: Final = 3600.0  # after which a folder of a build is what a killed process has left


def find_compiler() -> tuple[str, ...]:
    """The command of a C compiler: $CC, which may have arguments, else cc, gcc or clang.

    DeviceError when there is none.
    """
    named = _words(os.environ.get("CC", ""))
    names = [named[0]] if named else ["cc", "gcc", "clang"]
    for name in names:
        path = shutil.which(name)
        if path:
            return (path, *named[1:])
    raise DeviceError(f"no C compiler found (looked for {', '.join(names)})")


def cache_folder(settings: Settings | None = None) -> Path:
    """Where libraries are kept: as the setting says, else the user's folder of caches."""
    named = (settings or Settings.from_environment()).native_cache
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(named) if named else Path(base) / "graphc" / "native"
    return folder if _is_writable(folder) else _temporary_folder(folder)


def build(
    texts: str | Sequence[str],
    more: Sequence[str] = (),
    settings: Settings | None = None,
    parts: int = 1,
) -> ctypes.CDLL:
    """The library of one translation unit, or of several, compiled side by side.

    `more` are further flags; each unit may be cut into so many `parts`, if it is one of those that
    graphc writes. DeviceError with the compiler's message when it fails.
    """
    given = given_library(_units(texts), more, parts)  # of a bundle: it runs without a compiler
    return ctypes.CDLL(str(given)) if given else _Order.of(texts, more, settings, parts).library()


class Building:
    """A library that a thread of its own compiles, where the cache has none, until it is wanted.

    A process that ends waits for the thread: what it makes is for the next process, too.
    """

    def __init__(self, texts: str | Sequence[str], more: Sequence[str] = ()) -> None:
        self._process = os.getpid()
        self._work: Future[None] | None = None
        given = given_library(_units(texts), more, 1)  # whose file may be gone later
        self._given = ctypes.CDLL(str(given)) if given else None
        if self._given is None:
            self._order = _Order.of(texts, more, None)
            if not _is_whole(self._order.path):
                from concurrent.futures import ThreadPoolExecutor

                pool = ThreadPoolExecutor(1, "graphc compiles")
                self._work = pool.submit(self._order.make)
                pool.shutdown(wait=False)

    def library(self) -> ctypes.CDLL:
        """The library, as soon as it is there. DeviceError as for `build`."""
        if self._given is not None:
            return self._given
        if self._work is not None and self._process == os.getpid():  # else the thread is not here
            self._work.result()
        return self._order.library()


class _Order(NamedTuple):
    """What is to be compiled, how, and where the library goes."""

    texts: tuple[str, ...]
    parts: int
    compiler: tuple[str, ...]
    flags: tuple[str, ...]
    path: Path
    limit: int  # bytes of the cache

    @classmethod
    def of(
        cls,
        texts: str | Sequence[str],
        more: Sequence[str],
        settings: Settings | None,
        parts: int = 1,
    ) -> _Order:
        settings = settings or Settings.from_environment()
        units, compiler, flags = _units(texts), find_compiler(), _flags(more, settings)
        key = _key((*units, f"in {parts} parts"), compiler, flags)
        path = cache_folder(settings) / f"{key}.so"
        return cls(units, parts, compiler, flags, path, settings.native_cache_bytes)

    def make(self) -> None:
        from graphc.runtime.devices.native_parts import split

        texts = [part for text in self.texts for part in split(text, self.parts)]
        _compile(texts, self.compiler, self.flags, self.path)
        _trim(self.path.parent, self.limit, self.path)

    def library(self) -> ctypes.CDLL:
        if _is_whole(self.path):
            _touch(self.path)
        else:
            self.make()
        try:
            return ctypes.CDLL(str(self.path))
        except OSError as error:
            raise DeviceError(f"the library {self.path} cannot be loaded: {error}") from error


def _units(texts: str | Sequence[str]) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts)


def is_built(text: str, more: Sequence[str], settings: Settings, parts: int) -> bool:
    """Whether `build` would find the library of this unit in the cache."""
    if given_library((text,), more, parts) is not None:
        return True
    return _is_whole(_Order.of(text, more, settings, parts).path)


# -- the key


def _flags(more: Sequence[str], settings: Settings) -> tuple[str, ...]:
    return (*FLAGS, *_widest(), *more, *_words(settings.native_flags or ""))


def _words(line: str) -> list[str]:
    """As a shell would read them."""
    if not line:
        return []
    import shlex

    return shlex.split(line)


def _widest() -> tuple[str, ...]:
    """Vectors of 512 bits where the processor has them: compilers prefer 256 by themselves."""
    return ("-mprefer-vector-width=512",) if " avx512f " in _processor() else ()


def _key(texts: Sequence[str], compiler: Sequence[str], flags: Sequence[str]) -> str:
    digest = _DIGEST()
    parts = (header_text(), _identity(tuple(compiler)), " ".join([*compiler, *flags]), _processor())
    for part in (*map(_without_comments, texts), *parts):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:32]


def _without_comments(text: str) -> str:
    """What the compiler sees: a user's line may move in its file, and the library is the same."""
    return re.sub(r"^/\*.*\*/$", "", text, flags=re.MULTILINE)


@functools.cache
def header_text() -> str:
    """The headers that generated C includes."""
    return "".join(p.read_text(encoding="utf-8") for p in sorted(SOURCES.glob("*.h")))


@functools.cache
def _identity(compiler: tuple[str, ...]) -> str:
    """The programs of the command as the system knows them, as ccache does: to ask a compiler for
    its version would start it in every process, whose libraries are all there as a rule."""
    found = [shutil.which(word) for word in compiler if not word.startswith("-")]
    files = [os.path.realpath(path) for path in found if path]
    status = [os.stat(file) for file in files]
    return " ".join(
        f"{file} {s.st_size} {s.st_mtime_ns}" for file, s in zip(files, status, strict=True)
    )


@functools.cache
def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))


# -- the compiler


def _output(command: Sequence[str]) -> str:
    """What the compiler prints; DeviceError when it fails or cannot be run."""
    import subprocess

    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise DeviceError(f"the C compiler {command[0]} cannot be run: {error}") from error
    if done.returncode:
        told = (done.stderr or done.stdout).strip()[:4000]
        raise DeviceError(f"the C compiler {command[0]} failed ({done.returncode}):\n{told}")
    return done.stdout


def _compile(
    texts: Sequence[str], compiler: Sequence[str], flags: Sequence[str], path: Path
) -> None:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="build-") as folder:
        target = Path(folder) / "program.so"
        sources = [Path(folder) / f"part{i}.c" for i in range(len(texts))]
        for source, text in zip(sources, texts, strict=True):
            source.write_text(text, encoding="utf-8")
        common = [*compiler, *flags, f"-I{SOURCES}"]
        if len(sources) == 1:
            _output([*common, "-shared", str(sources[0]), "-o", str(target), "-lm"])
        else:
            objects = [str(s.with_suffix(".o")) for s in sources]
            commands = [
                [*common, "-c", str(s), "-o", o] for s, o in zip(sources, objects, strict=True)
            ]
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(min(len(commands), os.cpu_count() or 1)) as pool:
                list(pool.map(_output, commands))
            _output([*common, "-shared", *objects, "-o", str(target), "-lm"])
        data = target.read_bytes()
        target.write_bytes(data + _DIGEST(data).digest())
        os.replace(target, path)
    _log.debug("%s: compiled %d parts in %.3f s", path, len(texts), time.perf_counter() - start)


# -- the folder


def _is_whole(path: Path) -> bool:
    """Whether the library is there and as it was written."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    size = _DIGEST().digest_size
    return len(data) > size and _DIGEST(data[:-size]).digest() == data[-size:]


def _touch(path: Path) -> None:
    """Note that the library is used; another user's folder may refuse it."""
    with contextlib.suppress(OSError):
        os.utime(path)


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


@functools.cache
def _temporary_folder(instead: Path) -> Path:
    """A folder for the life of this process."""
    folder = Path(tempfile.mkdtemp(prefix="graphc-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _log.warning("%s cannot be written to; compiled programs go to %s", instead, folder)
    return folder


def _trim(folder: Path, limit: int, keep: Path) -> None:
    """Delete what was used least recently until the rest fits, and what killed builds left."""
    entries = []
    for entry in os.scandir(folder):
        try:
            status = entry.stat()
        except FileNotFoundError:  # another process was quicker
            continue
        if entry.name.startswith("build-") and time.time() - status.st_mtime > _STALE_S:
            shutil.rmtree(entry.path, ignore_errors=True)
        elif entry.name.endswith(".so") and entry.path != str(keep):
            entries.append((status.st_mtime, status.st_size, entry.path))
    total = keep.stat().st_size + sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= limit:
            break
        Path(path).unlink(missing_ok=True)
        total -= size


__all__ = ["FLAGS", "SOURCES", "Building", "build", "cache_folder", "find_compiler", "is_built"]

"""`tf.gfile`: files and folders, by TensorFlow's names. Errors are Python's own OSErrors."""

from __future__ import annotations

import glob
import io
import os
import shutil
from collections.abc import Iterator
from types import TracebackType
from typing import Any


def Exists(filename: str) -> bool:
    """True when there is such a file or folder."""
    return os.path.exists(filename)


def IsDirectory(dirname: str) -> bool:
    """True when it is a folder."""
    return os.path.isdir(dirname)


def MakeDirs(dirname: str) -> None:
    """Make a folder and those above it; one that exists is left as it is."""
    os.makedirs(dirname, exist_ok=True)


def MkDir(dirname: str) -> None:
    """Make a folder inside one that exists."""
    os.mkdir(dirname)


def ListDirectory(dirname: str) -> list[str]:
    """The names in a folder."""
    return sorted(os.listdir(dirname))


def Glob(filename: str | list[str]) -> list[str]:
    """The files that fit a pattern, or several."""
    patterns = [filename] if isinstance(filename, str) else filename
    return sorted(f for p in patterns for f in glob.glob(p))


def Remove(filename: str) -> None:
    """Delete a file."""
    os.remove(filename)


def DeleteRecursively(dirname: str) -> None:
    """Delete a folder and all in it."""
    shutil.rmtree(dirname)


def Copy(oldpath: str, newpath: str, overwrite: bool = False) -> None:
    """Copy a file; FileExistsError unless it may be overwritten."""
    _refuse_existing(newpath, overwrite)
    shutil.copyfile(oldpath, newpath)


def Rename(oldname: str, newname: str, overwrite: bool = False) -> None:
    """Rename a file; FileExistsError unless it may be overwritten."""
    _refuse_existing(newname, overwrite)
    os.replace(oldname, newname)


def _refuse_existing(path: str, overwrite: bool) -> None:
    if not overwrite and os.path.exists(path):
        raise FileExistsError(f"{path} exists; give overwrite=True to replace it")


class _Stat:
    """What is known of a file: `length` in bytes, `mtime_nsec`, `is_directory`."""

    def __init__(self, filename: str) -> None:
        found = os.stat(filename)
        self.length, self.mtime_nsec = found.st_size, found.st_mtime_ns
        self.is_directory = os.path.isdir(filename)


def Stat(filename: str) -> Any:
    """Length, time of change, and whether it is a folder."""
    return _Stat(filename)


def Walk(top: str, in_order: bool = True) -> Iterator[tuple[str, list[str], list[str]]]:
    """(folder, folders in it, files in it), from the top or from below."""
    return os.walk(top, topdown=in_order)


class GFile:
    """A file. As in TensorFlow it is opened when first used; "r" gives text, "rb" bytes."""

    def __init__(self, name: str, mode: str = "r") -> None:
        self.name = os.fspath(name)
        self.mode = mode
        self._file: Any = None

    def _opened(self) -> Any:
        if self._file is None:
            self._file = open(self.name, self.mode)  # noqa: SIM115  closed by close()
        return self._file

    def read(self, n: int = -1) -> Any:
        """All that is left, or n characters or bytes."""
        return self._opened().read(n)

    def readline(self) -> Any:
        """The next line."""
        return self._opened().readline()

    def readlines(self) -> list[Any]:
        """All lines that are left."""
        lines: list[Any] = self._opened().readlines()
        return lines

    def write(self, file_content: Any) -> None:
        """Append to what was written."""
        self._opened().write(file_content)

    def size(self) -> int:
        """The file's length in bytes."""
        return os.stat(self.name).st_size

    def seek(self, offset: int | None = None, whence: int = io.SEEK_SET) -> None:
        """Go to a position."""
        self._opened().seek(offset or 0, whence)

    def tell(self) -> int:
        """The position."""
        position: int = self._opened().tell()
        return position

    def flush(self) -> None:
        """Write what is waiting."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __iter__(self) -> Iterator[Any]:
        return iter(self._opened())

    def __enter__(self) -> GFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


FastGFile = Open = GFile

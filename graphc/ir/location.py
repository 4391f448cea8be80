"""Where in the user's program something was written."""

from __future__ import annotations

import os
import sys
from types import FrameType
from typing import Final, NamedTuple

_PACKAGE: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class Location(NamedTuple):
    """A line of the user's program."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def _is_generated(frame: FrameType) -> bool:
    """True for methods that dataclasses wrote for graphc's own classes."""
    name: str = frame.f_globals.get("__name__", "")
    return frame.f_code.co_filename == "<string>" and name.startswith("graphc.")


def user_location() -> Location | None:
    """The innermost line outside graphc, or None when there is none.

    Who calls a command of graphc's (a module with `__graphc_command__`) is no user's program.
    """
    frame = sys._getframe(1)
    while frame is not None and "__graphc_command__" not in frame.f_globals:
        code = frame.f_code
        own = (_PACKAGE, "<frozen", "<graphc ")  # the last: generated kernels
        if not code.co_filename.startswith(own) and not _is_generated(frame):
            return Location(code.co_filename, frame.f_lineno, code.co_name)
        frame = frame.f_back  # type: ignore[assignment]
    return None

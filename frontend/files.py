"""Files in a graph: read, written and listed by the host while a run goes on."""

from __future__ import annotations

from typing import Any

from graphc.frontend.arguments import as_value
from graphc.ir.graph import Node, Value
from graphc.ir.table import OPS


def read_file(filename: Any, name: str | None = None) -> Value:
    """A file's bytes, a scalar string; InputError in a run where it cannot be read."""
    return OPS["read_file"](as_value(filename), name=name or "ReadFile")


def write_file(filename: Any, contents: Any, name: str | None = None) -> Node:
    """An op that writes the string to the file, whose folders it makes."""
    return OPS["write_file"](as_value(filename), as_value(contents), name=name or "WriteFile").node


def matching_files(pattern: Any, name: str | None = None) -> Value:
    """The names of the files that fit one of the glob patterns, sorted."""
    return OPS["matching_files"](as_value(pattern), name=name or "MatchingFiles")


__all__ = ["matching_files", "read_file", "write_file"]

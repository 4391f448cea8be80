"""`tf.python.lib.io.file_io`: files and folders, by inner names."""

from __future__ import annotations

from typing import Any

from graphc.compat.symbols import delegate
from graphc.compat.tf1.gfile import (
    DeleteRecursively as delete_recursively,
)
from graphc.compat.tf1.gfile import (
    Exists as file_exists,
)
from graphc.compat.tf1.gfile import (
    GFile as FileIO,
)
from graphc.compat.tf1.gfile import (
    Glob as get_matching_files,
)
from graphc.compat.tf1.gfile import (
    IsDirectory as is_directory,
)
from graphc.compat.tf1.gfile import (
    ListDirectory as list_directory,
)
from graphc.compat.tf1.gfile import (
    MakeDirs as recursive_create_dir,
)


def read_file_to_string(filename: str, binary_mode: bool = False) -> Any:
    """A file's content: a text, or bytes."""
    with FileIO(filename, "rb" if binary_mode else "r") as file:
        return file.read()


def write_string_to_file(filename: str, file_content: Any) -> None:
    """Make a file of a text or of bytes."""
    with FileIO(filename, "wb" if isinstance(file_content, bytes) else "w") as file:
        file.write(file_content)


__all__ = [
    "FileIO", "delete_recursively", "file_exists", "get_matching_files", "is_directory",
    "list_directory", "read_file_to_string", "recursive_create_dir", "write_string_to_file",
]  # fmt: skip
__getattr__ = delegate(__name__)

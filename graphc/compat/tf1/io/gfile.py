"""`tf.io.gfile`: files and folders, by the later names."""

from graphc.compat.symbols import delegate
from graphc.compat.tf1.gfile import (
    Copy as copy,
)
from graphc.compat.tf1.gfile import (
    DeleteRecursively as rmtree,
)
from graphc.compat.tf1.gfile import (
    Exists as exists,
)
from graphc.compat.tf1.gfile import (
    GFile,
)
from graphc.compat.tf1.gfile import (
    Glob as glob,
)
from graphc.compat.tf1.gfile import (
    IsDirectory as isdir,
)
from graphc.compat.tf1.gfile import (
    ListDirectory as listdir,
)
from graphc.compat.tf1.gfile import (
    MakeDirs as makedirs,
)
from graphc.compat.tf1.gfile import (
    MkDir as mkdir,
)
from graphc.compat.tf1.gfile import (
    Remove as remove,
)
from graphc.compat.tf1.gfile import (
    Rename as rename,
)
from graphc.compat.tf1.gfile import (
    Stat as stat,
)
from graphc.compat.tf1.gfile import (
    Walk as walk,
)

__all__ = [
    "GFile", "copy", "exists", "glob", "isdir", "listdir", "makedirs", "mkdir", "remove",
    "rename", "rmtree", "stat", "walk",
]  # fmt: skip
__getattr__ = delegate(__name__)

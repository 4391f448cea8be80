"""TensorFlow 1's API: `import graphc.compat.tf1 as tf` runs programs written for it.

What is not mere legacy stands in `graphc` and its rooms and is handed on from there; this package
holds spellings that only old programs use. A name that is known but not offered raises
`UnsupportedSymbol`, which says what to use; docs/tf1.md lists them.
"""

from __future__ import annotations

import pkgutil

from graphc.compat.symbols import delegate
from graphc.compat.tf1.version import VERSION

__version__ = VERSION
SUBMODULES = tuple(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
__getattr__ = delegate(
    __name__,
    f"{__name__}.legacy",
    f"{__name__}.protos",
    f"{__name__}.version",
    f"{__name__}.python.framework.importer",
    "graphc",
    submodules=SUBMODULES,
)


def __dir__() -> list[str]:
    import graphc

    return sorted({*globals(), *SUBMODULES, *graphc.__all__})

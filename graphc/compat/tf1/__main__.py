"""`python -m graphc.compat.tf1 program.py [arguments]`: run a program that imports tensorflow.

Inside, `tensorflow` and its submodules are graphc.compat.tf1; a TensorFlow that is installed is not
seen.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import runpy
import sys
from collections.abc import Sequence
from types import ModuleType

from graphc.compat.symbols import missing

ROOT = "graphc.compat.tf1"


class _Alias(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports `tensorflow.a.b` as graphc.compat.tf1.a.b."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A spec for tensorflow and what is below it; None for all else."""
        if fullname != "tensorflow" and not fullname.startswith("tensorflow."):
            return None
        if importlib.util.find_spec(_own_name(fullname)) is None:
            why = missing(fullname.replace("tensorflow", "tf", 1))
            raise ModuleNotFoundError(str(why), name=fullname)
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Our module itself, so that there are not two of it."""
        own = importlib.import_module(_own_name(spec.name))
        self._real = own.__spec__
        return own

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: it is imported already; only its own spec is put back."""
        module.__spec__ = self._real


def _own_name(fullname: str) -> str:
    return ROOT + fullname.removeprefix("tensorflow")


def run_program(path: str, arguments: Sequence[str] = ()) -> None:
    """Run a program as `python path arguments` would, with tensorflow meaning graphc."""
    finder = _Alias()
    sys.meta_path.insert(0, finder)
    sys.argv = [path, *arguments]
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    try:
        runpy.run_path(path, run_name="__main__")
    finally:
        sys.meta_path.remove(finder)
        for name in [n for n in sys.modules if n == "tensorflow" or n.startswith("tensorflow.")]:
            del sys.modules[name]


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m graphc.compat.tf1 program.py [arguments]")
    run_program(sys.argv[1], sys.argv[2:])

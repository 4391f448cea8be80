"""Who may import whom: the rooms of the repository, held to by reading every import.

Read this before docs/architecture.md: the table ALLOWED is the architecture in ten lines.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# What a room may import of graphc besides itself. The rest of graphc is the face: it may see all.
ALLOWED: dict[str, tuple[str, ...]] = {
    "graphc.ir": (),
    "graphc.datasets": (),
    "graphc.frontend": ("graphc.ir",),
    "graphc.passes": ("graphc.ir",),
    "graphc.codegen": ("graphc.ir",),
    "graphc.runtime": ("graphc.ir", "graphc.passes", "graphc.codegen"),
}
FACE = "graphc"
ROOMS_AT_ROOT = ("frontend", "passes", "codegen", "runtime")
# The heavy packages that only one room may know.
ONLY_IN: dict[str, str] = {"torch": "graphc.runtime", "triton": "graphc.runtime"}
NEVER_EAGER = ("torch", "triton", "sklearn", "networkx")

Import = tuple[int, str]  # line, dotted name


def violations(module: str, source: str, is_package: bool = False) -> list[str]:
    """Return what the imports of `source`, the text of `module`, do wrong, one sentence each."""
    package = module if is_package else module.rpartition(".")[0]
    tree = ast.parse(source)
    found = [
        f"{module}:{line}: {wrong}"
        for line, target in _imports(tree, package)
        if (wrong := _wrong(_room(module), target))
    ]
    return found + [
        f"{module}:{node.lineno}: a relative import reaches above its package"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level > 1
    ]


def _wrong(room: str, target: str) -> str | None:
    top = target.partition(".")[0]
    if top in ROOMS_AT_ROOT:
        return f"imports {target}; its name is graphc.{target}"
    if ONLY_IN.get(top, room) != room:
        return f"imports {target}, which only {ONLY_IN[top]} may"
    if top != "graphc" or room == FACE or _room(target) in (room, *ALLOWED[room]):
        return None
    return f"{room} imports {target}, but may import only {', '.join((room, *ALLOWED[room]))}"


def _room(name: str) -> str:
    return next((room for room in ALLOWED if f"{name}.".startswith(f"{room}.")), FACE)


def _imports(tree: ast.Module, package: str) -> Iterator[Import]:
    """Yield every import, also those inside functions and those that name a module in a string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level <= 1:
            base = ".".join(filter(None, [package if node.level else "", node.module]))
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and (name := _imported_by_call(node)):
            yield node.lineno, name


def _imported_by_call(node: ast.Call) -> str | None:
    """Return NAME for [importlib.]import_module("NAME") and __import__("NAME")."""
    match node:
        case ast.Call(
            func=ast.Name(id=called) | ast.Attribute(attr=called),
            args=[ast.Constant(value=str(name)), *_],
        ) if called in ("import_module", "__import__"):
            return name
    return None


def _modules() -> Iterator[tuple[str, Path]]:
    """Yield the dotted name and the file of every module; the links in graphc/ are not followed."""
    for top in (*ROOMS_AT_ROOT, "graphc"):
        prefix = ("graphc",) if top in ROOMS_AT_ROOT else ()
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if top == "graphc" and len(parts) > 1 and parts[1] in ROOMS_AT_ROOT:
                continue  # reached through a link: newer Pythons follow them
            yield ".".join(prefix + parts).removesuffix(".__init__"), path


def test_rooms_import_only_what_they_may() -> None:
    found = [
        violation
        for module, path in _modules()
        for violation in violations(module, path.read_text(), path.name == "__init__.py")
    ]
    assert not found, "\n".join(found)


def test_every_room_is_read() -> None:
    assert {_room(module) for module, _ in _modules()} >= set(ALLOWED)


@pytest.mark.parametrize("room", ROOMS_AT_ROOT)
def test_rooms_are_links_inside_the_package(room: str) -> None:
    link = ROOT / "graphc" / room
    assert link.is_symlink() and link.readlink() == Path("..") / room


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("graphc.passes.fuse", "from graphc.codegen import triton", "graphc.codegen.triton, but"),
        ("graphc.passes.fuse", "import graphc.runtime.session", "graphc.runtime.session, but"),
        ("graphc.passes.fuse", "from graphc import codegen", "graphc.codegen, but"),
        ("graphc.passes.fuse", "import graphc", "imports graphc, but"),
        ("graphc.codegen.c", "from graphc.passes.fuse import fuse", "graphc.passes.fuse.fuse, but"),
        ("graphc.frontend.nn", "from graphc import Session", "graphc.Session, but"),
        ("graphc.frontend.nn", "def f():\n    import graphc.passes", "nn:2: graphc.frontend"),
        ("graphc.ir.graph", "from graphc.frontend import nn", "may import only graphc.ir"),
        ("graphc.ir", "from graphc import passes", "may import only graphc.ir"),
        ("graphc.datasets.idx", "from graphc.ir import errors", "only graphc.datasets"),
        ("graphc.runtime.session", "import graphc.frontend", "graphc.frontend, but"),
        ("graphc.iron", "import torch", "torch, which only graphc.runtime may"),
        ("graphc.codegen.triton", "import triton.language as tl", "triton.language, which only"),
        ("graphc.demo", "from torch import nn", "torch.nn, which only"),
        ("graphc.demo", "import importlib\nimportlib.import_module('torch')", "demo:2: imports"),
        ("graphc.demo", "__import__('triton')", "triton, which only"),
        ("graphc.demo", "import passes.fuse", "its name is graphc.passes.fuse"),
        ("graphc.runtime.session", "from codegen import c", "its name is graphc.codegen.c"),
        ("graphc.passes.fuse", "from ..ir import graph", "reaches above"),
        ("graphc.passes.rules.algebra", "from .. import fuse", "reaches above"),
    ],
)
def test_forbidden_imports_are_found(module: str, source: str, expected: str) -> None:
    found = violations(module, source)
    assert len(found) == 1 and expected in found[0], found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("graphc.passes.fuse", "import numpy\nfrom graphc.ir import graph\nfrom graphc import ir"),
        ("graphc.passes.fuse", "from . import lower\nfrom .rules import algebra"),
        ("graphc.runtime.gpu", "import torch, triton\nfrom graphc.codegen import triton as emit"),
        ("graphc.runtime.gpu", "from graphc.passes import pipeline"),
        ("graphc.demo", "import graphc\nfrom graphc.runtime import session"),
        ("graphc.codegen.triton", "HEADER = 'import triton'  # text of a kernel, not an import"),
    ],
)
def test_allowed_imports_pass(module: str, source: str) -> None:
    assert violations(module, source) == []


def test_a_package_is_its_own_base_for_relative_imports() -> None:
    assert violations("graphc", "from . import codegen", is_package=True) == []
    assert violations("graphc.passes", "from . import fuse", is_package=True) == []


@pytest.mark.skipif(not (ROOT / "graphc/__init__.py").exists(), reason="no graphc/__init__.py yet")
def test_import_graphc_is_light_and_silent() -> None:
    code = f"import sys, graphc; print([m for m in {NEVER_EAGER} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")

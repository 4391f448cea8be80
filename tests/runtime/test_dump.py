"""What GRAPHC_DUMP leaves behind, and that executables do not pile up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.ir.text import parse, print_computation


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: Any) -> Path:
    monkeypatch.setenv("GRAPHC_DUMP", str(tmp_path / "dump"))
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        x = gc.placeholder(gc.float32, [None, 5], name="x")
        hidden = gc.matmul(x, gc.ones([5, 4]))
        session.run(gc.nn.softmax(hidden, name="answer"), {x: np.ones((3, 5))})
    (only,) = (tmp_path / "dump").iterdir()
    return only


def test_every_stage_is_there(folder: Path) -> None:
    names = {p.name for p in folder.iterdir()}
    assert {"00_input.txt", "decisions.txt", "memory.txt", "kernels"} <= names
    for stage in ("specialize", "decompose", "lower", "fuse", "plan_memory"):
        assert any(n.endswith(f"_{stage}.txt") for n in names), stage
    diff = next(folder.glob("*_decompose.diff")).read_text()
    assert "+" in diff and "softmax" in diff


def test_graph_text_parses_back(folder: Path) -> None:
    text = next(folder.glob("*_decompose.txt")).read_text()
    assert print_computation(parse(text)).strip() == text.strip()


def test_kernels_decisions_memory(folder: Path) -> None:
    sources = sorted((folder / "kernels").iterdir())
    assert len(sources) == 2 and any("answer" in p.name for p in sources)
    text = sources[1].read_text()
    assert "reduce max" in text and "np.exp(" in text
    compile(text, str(sources[1]), "exec")
    assert "REDUCE_AFTER_DOT" in (folder / "decisions.txt").read_text()
    assert "arena" in (folder / "memory.txt").read_text()


def test_executables_do_not_pile_up() -> None:
    with gc.Graph().as_default(), gc.Session(device="numpy") as session:
        x = gc.placeholder(gc.float32, [None])
        y = x + 1.0
        for n in range(70):
            assert session.run(y, {x: np.zeros(n)}).shape == (n,)
        (prepared,) = session._prepared.values()
        assert len(prepared.main.by_shape) == 64

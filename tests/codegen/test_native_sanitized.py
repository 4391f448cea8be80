"""The C of every op and of random graphs under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from graphc.runtime.devices.native_build import find_compiler
from tests.ir.test_op_table import NAMES

FLAGS = "-O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
HALF = len(NAMES) // 2


def _library() -> str:
    """The sanitizer's own library, which must come first."""
    command = [*find_compiler(), "-print-file-name=libasan.so"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


needs_sanitizers = pytest.mark.skipif(
    not os.path.isabs(_library()), reason="the compiler has no sanitizers"
)


def _run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "LD_PRELOAD": _library(), "ASAN_OPTIONS": "detect_leaks=0", "GRAPHC_CFLAGS": FLAGS,
        "GRAPHC_CACHE": str(folder), "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.codegen.native_sanitizer_runner"]
    return subprocess.run(
        [*command, *map(str, arguments)],
        env=environment, capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip


@needs_sanitizers
@pytest.mark.parametrize(
    ("what", "first", "last"),
    [
        ("ops", 0, HALF),
        ("ops", HALF, len(NAMES)),
        ("graphs", 100, 106),
        ("folds", 0, 8),
        ("windows", 0, 0),
    ],
)
def test_nothing_is_found(what: str, first: int, last: int, tmp_path: Path) -> None:
    done = _run(tmp_path, what, first, last)
    assert done.returncode == 0 and done.stdout.strip() == "clean", done.stderr[-6000:]


@needs_sanitizers
def test_an_overrun_is_found(tmp_path: Path) -> None:
    done = _run(tmp_path, "overrun", 0, 1000)
    assert done.returncode and "heap-buffer-overflow" in done.stderr

"""Compiling C: the cache on disk, and machines on which something is amiss."""

from __future__ import annotations

import logging
import os
import runpy
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.ir.errors import DeviceError
from graphc.ir.settings import Settings
from graphc.runtime.devices import native_build
from graphc.runtime.devices.native_build import Building, build, cache_folder, find_compiler

ANSWER = "int answer(void) {{ return {}; }}\n"


def _settings(folder: Path, **more: object) -> Settings:
    return Settings(native_cache=str(folder), **more)  # type: ignore[arg-type]


def _answer(folder: Path, number: int = 42, **more: object) -> int:
    return int(build(ANSWER.format(number), settings=_settings(folder, **more)).answer())


def _libraries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.so"))


def _no_compiling(*_: object) -> None:
    raise AssertionError("compiled again")


def test_the_second_build_takes_the_first_ones_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _answer(tmp_path) == 42
    monkeypatch.setattr(native_build, "_compile", _no_compiling)
    assert _answer(tmp_path) == 42
    with pytest.raises(AssertionError, match="compiled again"):
        _answer(tmp_path, 43)
    with pytest.raises(AssertionError, match="compiled again"):
        _answer(tmp_path, 42, native_flags="-O1")


MODEL = """
import numpy as np
import graphc as gc

with gc.Graph().as_default(), gc.Session(device="native") as session:
    x = gc.placeholder(gc.float32, [5])
    y = gc.exp(x * 3.0)
    result = session.run(y, {x: np.arange(5)})
"""


def test_a_graph_that_moved_in_its_file_is_not_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHC_CACHE", str(tmp_path))
    for name, text in (("model", MODEL), ("moved", f"# a line more\n\n{MODEL}")):
        script = tmp_path / f"{name}.py"
        script.write_text(text)
        result = runpy.run_path(str(script))["result"]
        np.testing.assert_allclose(result, np.exp(3.0 * np.arange(5)), rtol=1e-6)
        monkeypatch.setattr(native_build, "_compile", _no_compiling)
    script.write_text(MODEL.replace("3.0", "2.0"))
    with pytest.raises(AssertionError, match="compiled again"):
        runpy.run_path(str(script))


def test_another_compiler_builds_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "compiler"

    def install(version: int) -> None:
        real = " ".join(real_compiler)
        script.write_text(f'#!/bin/sh\n# {"new " * version}\nexec {real} "$@"\n')
        script.chmod(0o755)
        native_build._identity.cache_clear()

    real_compiler = find_compiler()
    monkeypatch.setenv("CC", f"env {script}")  # as ccache stands before a compiler
    install(1)
    assert _answer(tmp_path) == 42
    monkeypatch.setattr(native_build, "_compile", _no_compiling)
    assert _answer(tmp_path) == 42
    install(2)
    with pytest.raises(AssertionError, match="compiled again"):
        _answer(tmp_path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    ],
    ids=["half", "empty", "bit", "hash"],
)
def test_a_spoiled_library_is_built_anew(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    run = f"""
import sys
from pathlib import Path
from tests.runtime.test_native_build import _answer
assert _answer(Path({str(tmp_path)!r})) == 42
"""
    subprocess.run([sys.executable, "-c", run], check=True)  # not loaded in this process
    (path,) = _libraries(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(spoil(whole))
    assert _answer(tmp_path) == 42
    assert native_build._is_whole(path)


def _answers(folder: str, numbers: list[int]) -> list[int]:
    return [_answer(Path(folder), n) for n in numbers]


def test_many_processes_build_at_once(tmp_path: Path) -> None:
    numbers = [1, 2, 3]
    with ProcessPoolExecutor(4) as pool:
        results = [pool.submit(_answers, str(tmp_path), numbers) for _ in range(4)]
        assert [r.result() for r in results] == [numbers] * 4
    assert len(_libraries(tmp_path)) == 3
    assert not list(tmp_path.glob("build-*"))


def test_parts_are_compiled_side_by_side(tmp_path: Path) -> None:
    parts = [
        "int two(void);\nint answer(void) { return 40 + two(); }\n",
        "int two(void) { return 2; }\n",
    ]
    assert build(parts, settings=_settings(tmp_path)).answer() == 42
    with pytest.raises(DeviceError, match="unknown_name"):
        build([*parts, "int three = unknown_name;"], settings=_settings(tmp_path))


def test_the_compilers_message_is_told(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="unknown_name"):
        build("int answer(void) { return unknown_name; }", settings=_settings(tmp_path))
    assert not list(tmp_path.iterdir())


def test_the_oldest_libraries_go(tmp_path: Path) -> None:
    seen: set[Path] = set()
    for number, age_s in ((1, 3000), (2, 9000), (3, 6000)):
        _answer(tmp_path, number)
        (new,) = {*_libraries(tmp_path)} - seen
        os.utime(new, (time.time() - age_s,) * 2)
        seen.add(new)
    sizes = {p: p.stat().st_size for p in _libraries(tmp_path)}
    oldest = min(_libraries(tmp_path), key=lambda p: p.stat().st_mtime)
    stale = tmp_path / "build-left"
    stale.mkdir()
    os.utime(stale, (time.time() - 9000,) * 2)
    _answer(tmp_path, 4, native_cache_bytes=sum(sizes.values()) + 100)
    assert len(_libraries(tmp_path)) == 3 and not oldest.exists() and not stale.exists()
    _answer(tmp_path, 5, native_cache_bytes=1)  # what was just built stays
    assert len(_libraries(tmp_path)) == 1


def test_use_keeps_a_library_young(tmp_path: Path) -> None:
    _answer(tmp_path)
    (path,) = _libraries(tmp_path)
    os.utime(path, (1000, 1000))
    _answer(tmp_path)
    assert path.stat().st_mtime > time.time() - 1000


def test_a_folder_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    inside = tmp_path / "file" / "cache"  # root may write anywhere, but not below a file
    with caplog.at_level(logging.WARNING, logger="graphc"):
        for _ in range(2):
            assert _answer(inside) == 42
    told = [r.getMessage() for r in caplog.records if "cannot be written" in r.message]
    assert len(told) == 1 and str(inside) in told[0]
    folder = cache_folder(_settings(inside))
    assert folder != inside and _libraries(folder)


def test_the_compiler_may_have_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (path, *_) = find_compiler()
    monkeypatch.setenv("CC", f"{path} -DFOUND=42 '-DWITH_SPACE=(1 + 1)'")
    assert find_compiler()[1:] == ("-DFOUND=42", "-DWITH_SPACE=(1 + 1)")
    library = build("int answer(void) { return FOUND * WITH_SPACE; }", settings=_settings(tmp_path))
    assert library.answer() == 84


def _session_in_a_process(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    start = "import logging; logging.basicConfig(level=logging.INFO)\nimport graphc as gc\n"
    return subprocess.run(
        [sys.executable, "-c", start + code],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


OPEN_TWICE = """
for _ in range(2):
    with gc.Graph().as_default(), gc.Session() as session:
        assert session.device.name == "numpy"
        assert session.run(gc.constant(1.0) + 1.0) == 2.0
"""


@pytest.mark.parametrize("broken", ["missing", "failing", "not executable"])
def test_without_a_compiler_numpy_takes_over(tmp_path: Path, broken: str) -> None:
    compiler = tmp_path / "broken-cc"
    if broken != "missing":
        compiler.write_text("#!/bin/sh\necho 'this compiler is broken' >&2\nexit 3\n")
        compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    if broken == "not executable":
        compiler.write_text("no program")
    reason = {
        "missing": "no C compiler found (looked for",
        "failing": "this compiler is broken",
        "not executable": "cannot be run",
    }[broken]
    environment = {"CC": str(compiler), "GRAPHC_CACHE": str(tmp_path / "cache")}
    done = _session_in_a_process(OPEN_TWICE, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("slower than compiled C") == 1, done.stderr
    assert reason in done.stderr
    done = _session_in_a_process("gc.Session(device='native')", **environment)
    assert done.returncode and "DeviceError" in done.stderr and reason in done.stderr


def test_feeds_that_do_not_fit_never_reach_c() -> None:
    with gc.Graph().as_default() as graph, gc.Session(device="native") as session:
        x = gc.placeholder(gc.float32, [3])
        call = session.make_callable(x * 2.0, [x])
        np.testing.assert_array_equal(call(np.ones(3, np.float32)), 2.0)
        (prepared,) = session._prepared.values()
        (compiled,) = prepared.main.by_shape.values()
        for wrong in (np.ones(4, np.float32), np.ones(3, np.float64), np.ones((1, 3), np.float32)):
            with pytest.raises(DeviceError, match=r"must be float32\[3\], got"):
                compiled.executable.run([wrong], 0)
    del graph


def _waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """From now on the compiler waits for the event."""
    may_go, compile_ = threading.Event(), native_build._compile

    def late(*arguments: Any) -> None:
        assert may_go.wait(30)
        compile_(*arguments)

    monkeypatch.setattr(native_build, "_compile", late)
    return may_go


def test_a_library_is_built_while_others_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHC_CACHE", str(tmp_path))
    may_go = _waiting(monkeypatch)
    building = Building(ANSWER.format(42))
    may_go.set()
    assert building.library().answer() == 42
    monkeypatch.setattr(native_build, "_compile", _no_compiling)
    assert Building(ANSWER.format(42)).library().answer() == 42


def test_what_is_built_beside_tells_its_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHC_CACHE", str(tmp_path))
    building = Building("int answer(void) { return unknown_name; }")
    for _ in range(2):
        with pytest.raises(DeviceError, match="unknown_name"):
            building.library()


def test_a_forked_process_waits_for_no_thread_of_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHC_CACHE", str(tmp_path))
    may_go = _waiting(monkeypatch)
    building = Building(ANSWER.format(42))
    process = os.fork()
    if not process:  # where the thread is not
        try:
            may_go.set()
            os._exit(building.library().answer())
        finally:
            os._exit(1)
    _, status = os.waitpid(process, 0)
    may_go.set()
    assert os.waitstatus_to_exitcode(status) == 42 == building.library().answer()
